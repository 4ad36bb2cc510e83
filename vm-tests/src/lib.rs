//! What a guest of `cargo xtask vm` says to the machine that booted it.
//!
//! The guest itself is this package's binary; only the lines that cross the serial port are shared.
#![forbid(unsafe_code)]

pub mod line;

pub use line::{Hook, Line, Outcome, Program, Started};

/// The kernel parameter that names the groups to run, joined by commas; all run without it.
pub const ONLY_PARAMETER: &str = "treeline.only=";

/// The kernel parameter that says how the sensor is to be attached: `lsm` (which is meant without it), `fmod_ret` or
/// `fallback`.
pub const MODE_PARAMETER: &str = "treeline.mode=";

/// The kernel parameter by which a guest of another attach mode than `lsm` runs everything that is about modes, and not
/// only what decides.
pub const THOROUGH_PARAMETER: &str = "treeline.thorough";

/// The kernel parameter that says how long the soak lasts.
pub const MINUTES_PARAMETER: &str = "treeline.minutes=";

/// Why a test failed whose group ended before it, after the first such test, which says why the group ended.
pub const NO_RESULT_EITHER: &str = "no result either";

/// The groups of distribution guests, whose PID 1 is systemd; all others run where PID 1 is ours.
pub const DISTRIBUTION_GROUPS: [&str; 2] = ["units", "brokers"];

/// Where a distribution guest has this package's binary.
pub const DISTRIBUTION_SUITE_PATH: &str = "/usr/lib/treeline-guest/guest";

/// Where the sensor of a distribution guest has its policy.
pub const DISTRIBUTION_POLICY_PATH: &str = "/etc/treeline/policy.yaml";

/// The policy with which such a guest boots: it protects one file, and says nothing about brokers.
pub const DISTRIBUTION_POLICY: &str = include_str!("suite/distribution/policy.yaml");
