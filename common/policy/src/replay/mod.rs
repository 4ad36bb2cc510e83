//! A policy over recorded sessions: what it would have decided, and what of that the log cannot tell.
//!
//! [`History`] reads entries in their order and makes of each action what the hooks asked when it happened.
//! [`Replay`] decides that by the definition of the language ([`crate::eval`](mod@crate::eval)) and counts it by rule.
//! What is not in the log is never taken for allowed: it is counted, with the reason, for each rule that it may be about.

mod contents;
mod history;
mod judge;
mod past;
mod places;
mod processes;
mod report;
mod run;
mod sessions;
mod tally;

pub use history::{History, Step};
pub use past::{Asked, Doubt, Past, Then, names};
pub use places::Place;
pub use processes::Who;
pub use report::{Ancestry, Certainty, Lost, Report, RuleReport, Sum, ThenCounts, Vanished};
pub use run::Replay;
