//! Answers over entries: pure functions, wherever the entries come from.

mod access;
mod ancestry;
mod filter;
#[cfg(test)]
pub(crate) mod fixture;
mod hashes;
mod line;
mod sessions;
mod source;
pub mod time;
mod tree;

pub use access::Access;
pub use ancestry::{AncestrySearch, AncestryView, Step, Wanted};
pub use filter::Filter;
pub use line::line;
pub use sessions::{SessionView, sessions};
pub use source::{EntrySource, MemorySource, ReadError, read};
pub use tree::{Node, TreeView, tree};
