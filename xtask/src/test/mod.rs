//! `cargo xtask test`: everything that can be known about a checkout, in one command and one table.

mod plan;
mod suite;
mod tally;

pub(crate) use plan::{Arguments, run};
pub(crate) use suite::Suite;
pub(crate) use tally::Tally;
