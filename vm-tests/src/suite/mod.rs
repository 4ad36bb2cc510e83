//! What is tested in every guest.

mod adopt;
mod boot;
pub(crate) mod cases;
mod control;
mod cost;
mod guard;
mod matrix;
pub(crate) mod session;
pub(crate) mod stage;

use anyhow::Result;

use crate::guest::group::Report;

/// Cases that share a process and their preparation, such as one session of the sensor.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    /// The names of the cases that it will report: what is missing at its end counts as failed.
    pub(crate) cases: fn() -> Vec<String>,
    pub(crate) run: fn(&Report) -> Result<()>,
    /// Whether it is about the sensor: skipped in a guest that was built without.
    pub(crate) needs_sensor: bool,
    /// Emulated guests are 5 to 12 times slower than the machine.
    pub(crate) timeout_s: u64,
}

/// In the order in which they run.
pub(crate) const GROUPS: &[Group] = &[
    boot::GROUP,
    control::GROUP,
    guard::ENFORCE,
    guard::MONITOR,
    adopt::GROUP,
    matrix::LSM,
    matrix::FALLBACK,
];

/// Groups that run only when they are asked for by name: they measure.
pub(crate) const BY_REQUEST: &[Group] = &[cost::GROUP];

/// The group called `name`.
pub(crate) fn group(name: &str) -> Option<&'static Group> {
    GROUPS.iter().chain(BY_REQUEST).find(|group| group.name == name)
}
