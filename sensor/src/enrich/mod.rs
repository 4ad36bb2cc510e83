//! From what a backend saw to an event: process tree, hashes, user, session, wall time.

pub mod clock;
pub mod config;
mod enricher;
pub mod fold;
pub mod hash;
mod lookup;
pub mod markers;
pub mod names;
pub mod procfs;
pub mod table;

pub use clock::{Clock, SystemClock};
pub use config::Config;
pub use enricher::Enricher;
pub use procfs::ProcFs;
