//! What came of a replay.

use std::collections::BTreeMap;

use serde::Serialize;
use treeline_event::{Mode, PathBytes, SessionId, Verdict};

use super::{Doubt, Place};

/// A number of entries, and of the actions that they stand for: an entry of repeated opens stands for all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sum {
    /// Entries.
    pub entries: u64,
    /// Actions.
    pub times: u64,
}

impl Sum {
    pub(super) fn add(&mut self, times: u64) {
        self.entries += 1;
        self.times = self.times.saturating_add(times);
    }

    /// Whether there were none.
    #[must_use]
    pub fn is_none(self) -> bool {
        self.entries == 0
    }
}

/// What had been decided of the actions that a rule decides now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ThenCounts {
    /// No rule matched.
    pub allowed: Sum,
    /// A rule in `monitor` recorded it.
    pub recorded: Sum,
    /// A rule in `enforce` matched, and the machine could not refuse it.
    pub not_refused: Sum,
    /// A rule in `enforce` matched, and somebody had approved of it.
    pub approved: Sum,
    /// It was refused.
    pub denied: Sum,
}

/// How far the counts of a rule can be trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Certainty {
    /// Actions that are counted, by what is not certain about the object.
    pub doubted: BTreeMap<Doubt, u64>,
    /// Actions that are counted because something that the rule asks of the subject could not be told.
    pub by_unknown: u64,
    /// Objects that are not counted, and that the rule may be about all the same, by the reason.
    pub untold: BTreeMap<Doubt, u64>,
    /// The rule is about executable mappings, too, of which only those are in a log that a rule matched then.
    pub mappings_unseen: bool,
    /// The rule is about calls or the machine, of which no log has anything.
    pub calls_unseen: bool,
}

/// What was executed in the lineage of those who acted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ancestry {
    /// Executables, the latest last.
    pub executables: Vec<PathBytes>,
    /// There were others before them, or it is not known whether there were.
    pub begins_before: bool,
    /// How often.
    pub times: u64,
}

/// What one rule would have done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleReport {
    /// Its id.
    pub rule: String,
    /// Its mode: in `enforce` it would have denied, in `monitor` recorded. None for a rule that allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Whether it allows.
    #[serde(rename = "action", serialize_with = "allow", skip_serializing_if = "std::ops::Not::not")]
    pub allows: bool,
    /// The actions that it would have decided; of a rule that allows, those that it would have let through against another one.
    pub sum: Sum,
    /// What had been decided of them.
    pub then: ThenCounts,
    /// Sessions that they were in, by id; at most 16.
    pub sessions: Vec<SessionId>,
    /// Sessions that are not named.
    pub sessions_more: usize,
    /// The objects, the most frequent first; at most 8, directories standing for what is in them.
    pub objects: Vec<Place>,
    /// Whose doing it was, the most frequent first; at most 5.
    pub ancestries: Vec<Ancestry>,
    /// When the first was, milliseconds since the epoch.
    pub first_ms: Option<u64>,
    /// When the last was, milliseconds since the epoch.
    pub last_ms: Option<u64>,
    /// How far this can be trusted.
    pub certainty: Certainty,
}

/// The word for what a rule does that allows.
pub(crate) fn allow<S: serde::Serializer>(_: &bool, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str("allow")
}

/// Sessions that a rule's report names.
pub(super) const SESSIONS_NAMED_MAX: usize = 16;
/// Objects that it names, directories standing for several.
pub(super) const PLACES_NAMED_MAX: usize = 8;
/// Ancestries that it names.
pub(super) const ANCESTRIES_NAMED_MAX: usize = 5;

/// What a rule did then and no rule would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Vanished {
    /// The rule of then.
    pub rule: String,
    /// What it did: `deny` or `audit`.
    pub verdict: Verdict,
    /// Whether the policy has a rule of this id.
    pub is_there: bool,
    /// What would be allowed.
    pub allowed: Sum,
    /// Denials of which a record would be left.
    pub recorded: Sum,
    /// What cannot be told: the rule is there, and may have been asked something that is not in the log.
    pub untold: Sum,
    /// Sessions that they were in, by id; at most 16.
    pub sessions: Vec<SessionId>,
    /// Sessions that are not named.
    pub sessions_more: usize,
    /// The objects, the most frequent first; at most 8, directories standing for what is in them.
    pub objects: Vec<Place>,
    /// When the first was, milliseconds since the epoch.
    pub first_ms: Option<u64>,
    /// When the last was, milliseconds since the epoch.
    pub last_ms: Option<u64>,
}

/// What the sensor lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// Kind of record.
    pub kind: String,
    /// Where.
    pub site: String,
    /// How many.
    pub count: u64,
}

/// What came of a replay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The policy.
    pub policy: String,
    /// Entries of the period and the sessions that were asked for.
    pub entries: u64,
    /// Sessions that acted in it.
    pub sessions: usize,
    /// When its first entry was, milliseconds since the epoch.
    pub first_ms: Option<u64>,
    /// When its last entry was, milliseconds since the epoch.
    pub last_ms: Option<u64>,
    /// Actions that the policy was asked about.
    pub asked: Sum,
    /// Of those, actions in whose lineage something was not seen.
    pub lineage_unseen: Sum,
    /// Actions that failed of themselves: nothing was left to refuse, so the policy was not asked.
    pub failed: Sum,
    /// Entries by which the sensor protected itself, whatever the policy.
    pub own: u64,
    /// What would be denied.
    pub would_deny: Sum,
    /// What would be recorded with a rule.
    pub would_record: Sum,
    /// What would be denied and no rule matched.
    pub new_denials: Sum,
    /// What would be denied and was recorded by a rule in `monitor`.
    pub records_to_denials: Sum,
    /// What was denied and would not be.
    pub vanished_denials: Sum,
    /// What was denied, and whether it would be cannot be told.
    pub untold_denials: Sum,
    /// Objects about which something is not certain, by what.
    pub doubts: BTreeMap<Doubt, u64>,
    /// What the sensor lost in the period, of these sessions or of others.
    pub lost: Vec<Lost>,
    /// Every rule, by id.
    pub rules: Vec<RuleReport>,
    /// What rules did then and none would do, by id.
    pub vanished: Vec<Vanished>,
}
