//! Recorded sessions as questions to a policy.
//!
//! [`History`] reads entries in their order and makes of each action what the hooks asked when it happened.

mod contents;
mod history;
mod past;
mod processes;

pub use history::{History, Step};
pub use past::{Asked, Doubt, Past, Then, names};
pub use processes::Who;
