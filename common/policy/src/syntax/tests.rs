//! The description, the reader, the schema and `fmt` say the same.

mod agreement;
mod evaluator;
mod formatted;
mod instance;
