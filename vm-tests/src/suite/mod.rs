//! What is tested in every guest.

mod adopt;
mod adoption;
mod approval;
pub(crate) mod attach;
mod boot;
pub(crate) mod cases;
mod contents;
mod control;
mod cost;
mod coverage;
mod daemon;
pub(crate) mod distribution;
mod guard;
mod hook_cost;
mod lineage;
mod matrix;
mod parity;
mod pins;
mod replaced;
mod room;
mod selfguard;
pub(crate) mod session;
mod sessions;
mod soak;
pub(crate) mod stage;
mod subject;

use anyhow::Result;

use self::attach::Attach;

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

/// Groups that run in the other attach modes, too. The rest takes minutes under emulation and runs where LSM programs are
/// attached, or knows no mode at all; whoever asks for it by name has it in any.
const OF_EVERY_MODE: &[&str] = &["enforce", "adopt"];
/// And those that do so in a thorough guest.
const OF_THOROUGH_GUESTS: &[&str] = &["matrix", "monitor", "sessions", "approval"];

impl Group {
    /// Whether it runs in a guest for this attach mode.
    pub(crate) fn is_for(&self, attach: Attach, is_thorough: bool) -> bool {
        attach == Attach::Lsm
            || OF_EVERY_MODE.contains(&self.name)
            || is_thorough && OF_THOROUGH_GUESTS.contains(&self.name)
    }
}

/// In the order in which they run.
pub(crate) const GROUPS: &[Group] = &[
    boot::GROUP,
    control::GROUP,
    guard::ENFORCE,
    guard::MONITOR,
    adopt::GROUP,
    lineage::GROUP,
    sessions::GROUP,
    adoption::GROUP,
    approval::GROUP,
    replaced::GROUP,
    contents::GROUP,
    matrix::GROUP,
    parity::GROUP,
    selfguard::GROUP,
    pins::GROUP,
    room::GROUP,
];

/// Groups that run only when they are asked for by name: they measure.
pub(crate) const BY_REQUEST: &[Group] = &[cost::GROUP, soak::GROUP];

/// Those that run in this guest when none is asked for.
pub(crate) fn usual(attach: Attach, is_thorough: bool) -> Vec<&'static Group> {
    if distribution::is_here() {
        return distribution::GROUPS.iter().collect();
    }
    GROUPS.iter().filter(|group| group.is_for(attach, is_thorough)).collect()
}

/// Every group, for whatever guest.
pub(crate) fn all() -> impl Iterator<Item = &'static Group> {
    GROUPS.iter().chain(BY_REQUEST).chain(distribution::GROUPS)
}

/// The group called `name`.
pub(crate) fn group(name: &str) -> Option<&'static Group> {
    all().find(|group| group.name == name)
}
