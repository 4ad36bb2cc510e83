//! The one stored form of an event: a compact OCSF 1.8 JSON object, the leaf of the log.
//!
//! The OCSF attributes are for whoever reads OCSF. What Treeline itself reads back is `unmapped.treeline` (version
//! [`VERSION`], the model as serde writes it) and of the rest only `time`, `metadata` and `device`. Every byte is
//! a function of the event and its [`Meta`]; an entry has at most [`ENTRY_BYTES_MAX`] bytes. docs/events.md has the
//! fields and the reasons for the classes.

mod class;
mod cursor;
mod cut;
mod decode;
mod decoder;
mod encode;
mod entry;
mod known;
mod object;

pub use cut::Cut;
pub use decode::{DecodeError, decode};
pub use decoder::Decoder;
pub use encode::{ENTRY_BYTES_MAX, encode};
pub use entry::{Ancestry, Entry, EntryBody, Link, Meta, Origin, ScriptDigest};

/// Version of `unmapped.treeline`.
pub const VERSION: u32 = 1;
