//! One event.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    action::{Action, Subject},
    process::SessionId,
    sensor::Notice,
};

/// When something happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Timestamp {
    /// The kernel's `CLOCK_BOOTTIME`, nanoseconds: orders events of one boot.
    pub boot_ns: u64,
    /// Wall clock, milliseconds since the epoch, derived from `boot_ns`.
    pub wall_ms: u64,
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// No rule matched, or an exception lifted it.
    Allow,
    /// A rule matched and the action went on.
    Audit,
    /// Refused.
    Deny,
}

/// Whether a rule refuses or only records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Record only.
    Monitor,
    /// Refuse.
    Enforce,
}

/// Whose policy it is, of several that hold together. A higher one is greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Of the machine: it can only tighten.
    Local,
    /// Of a team.
    Team,
    /// Of the organisation.
    #[default]
    Organisation,
}

impl Level {
    /// Each with the word for it, the lowest first.
    pub const WORDS: [(&'static str, Self); 3] =
        [("local", Self::Local), ("team", Self::Team), ("organisation", Self::Organisation)];

    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::WORDS[self as usize].0
    }
}

/// The rule behind a verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleHit {
    /// Its id.
    pub rule: String,
    /// Its reason, for people and agents.
    pub reason: String,
    /// Its mode.
    pub mode: Mode,
    /// The policy's name.
    pub policy: String,
    /// The policy's generation.
    pub generation: u64,
    /// What the rule says to do instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Where the rule says that there is more about it: an https address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// For how many seconds at the most somebody may approve of what it refuses; none where nobody may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approvable_s: Option<u32>,
    /// It refuses this, and somebody has approved of it: the verdict is `audit`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub approved: bool,
}

/// One event: an action of a tracked process, or a statement of the sensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub time: Timestamp,
    /// In which session; none for statements about the sensor as a whole.
    pub session: Option<SessionId>,
    /// What.
    pub body: Body,
}

/// What an event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A process did something.
    Act {
        /// Who.
        subject: Subject,
        /// What.
        action: Action,
        /// What was decided.
        verdict: Verdict,
        /// By which rule, for `audit` and `deny`.
        rule: Option<Arc<RuleHit>>,
    },
    /// The sensor says something.
    Notice(Notice),
}
