//! What another policy changes: which rules, and which decisions, for whom.
//!
//! The decisions are asked for, by what both policies name: each change that is told is one by [`eval`], with an example.
//! What is not told may still differ, where neither policy names the object or the program.
//!
//! [`eval`]: crate::eval()

mod decisions;
mod probe;
mod report;
mod rules;

use serde::Serialize;
use treeline_event::Verdict;

pub use self::{
    probe::path_of,
    rules::{KeyChange, RuleChange},
};
use crate::{host::Host, policy::Policy};

/// What one policy changes against another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// Name of the policy before.
    pub before: String,
    /// Name of the policy after.
    pub after: String,
    /// Rules that were added, removed or changed, by id.
    pub rules: Vec<RuleChange>,
    /// Decisions that differ: first what is loosened, then what is tightened, then what another rule decides.
    pub decisions: Vec<Change>,
    /// Whether programs that are named in other rules than the object were left out, since there are so many of both.
    pub is_partial: bool,
}

/// A decision that differs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Change {
    /// What it is for a subject to whom it happens.
    pub effect: Effect,
    /// What is done, such as `read`.
    pub operations: Vec<&'static str>,
    /// To what, as a policy has it.
    pub object: String,
    /// For whom.
    pub subjects: Subjects,
    /// What was decided.
    pub before: Decided,
    /// What is decided now.
    pub after: Decided,
    /// One such object.
    pub example: String,
}

/// For whom a decision differs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subjects {
    /// For everybody, but those who are named.
    EverybodyBut(Vec<String>),
    /// For those who are named.
    Only(Vec<String>),
}

/// A decision, by the rule that decides.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Decided {
    /// What is decided.
    pub verdict: Verdict,
    /// Id of the rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
}

/// What a change is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Less is refused or recorded.
    Loosens,
    /// More is.
    Tightens,
    /// The same, by another rule.
    OtherRule,
}

impl Effect {
    fn of(before: &Decided, after: &Decided) -> Self {
        match after.verdict.cmp(&before.verdict) {
            std::cmp::Ordering::Less => Self::Loosens,
            std::cmp::Ordering::Greater => Self::Tightens,
            std::cmp::Ordering::Equal => Self::OtherRule,
        }
    }
}

impl Diff {
    /// How many changes have this effect.
    #[must_use]
    pub fn count(&self, effect: Effect) -> usize {
        self.decisions.iter().filter(|change| change.effect == effect).count()
    }

    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.decisions.is_empty()
    }
}

/// What `after` changes against `before`, on a machine with these homes.
#[must_use]
pub fn diff(before: &Policy, after: &Policy, host: &Host) -> Diff {
    let (decisions, is_partial) = decisions::changes(before, after, host);
    Diff {
        before: before.name.clone(),
        after: after.name.clone(),
        rules: rules::changes(before, after),
        decisions,
        is_partial,
    }
}
