//! The command line, one file per verb.

pub mod ancestry;
pub mod events;
pub mod session;
pub mod tree;
