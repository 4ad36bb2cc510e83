//! Answers over entries: pure functions, wherever the entries come from.

mod access;
mod ancestry;
mod denials;
#[cfg(test)]
mod docs_tests;
mod filter;
#[cfg(test)]
pub(crate) mod fixture;
mod hashes;
mod line;
mod pick;
mod session;
mod sessions;
mod source;
pub mod text;
pub mod time;
mod tree;

pub use access::Access;
pub use ancestry::{AncestrySearch, AncestryView, Step, Wanted};
pub use denials::{Denial, Denials};
pub use filter::{Filter, PathFilter};
pub use line::{line, verdict_name};
pub use pick::{PickError, SessionPrefix};
pub use session::{PolicyUsed, Refusal, SessionDetail, SessionSearch};
pub use sessions::{SessionState, SessionView, Sessions};
pub use source::{EntrySource, MemorySource, ReadError, read};
pub use tree::{Node, TreeSearch, TreeView};
