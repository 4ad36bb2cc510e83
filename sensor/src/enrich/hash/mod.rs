//! Hashes of executables, interpreters and scripts, never in the path of a launch.

mod build_id;
pub mod cache;
pub mod digest;
mod hasher;
pub mod identity;

pub(crate) use build_id::{build_id, loads_programs};
pub use digest::Places;
pub(crate) use digest::reopen;
pub use hasher::Hasher;
pub use identity::identity;
