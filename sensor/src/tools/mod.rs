//! Calls of an agent's tools: what their arguments say.

mod confine;
mod reader;
pub mod worker;

pub use self::reader::Reader;

/// Bytes of a call's arguments that are looked at: files are written by them.
pub const INPUT_LEN_MAX: usize = 16 << 20;
