//! What another policy changes: which rules, and which decisions, for whom.
//!
//! The decisions are asked for, by what both policies name: each change that is told is one by [`eval`], with an example.
//! What is not told may still differ, where neither policy names the object or the program: a rule that says something else
//! and to which no decision was found is told as such.
//!
//! [`eval`]: crate::eval()

mod addresses;
mod approvals;
mod askers;
mod candidates;
mod decisions;
mod probe;
mod report;
pub mod rules;

use serde::Serialize;
use treeline_event::Verdict;

pub use self::{
    approvals::ApprovalChange,
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
    /// What the policy says of itself.
    pub about: Vec<KeyChange>,
    /// What can be approved of for another time than before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<ApprovalChange>,
    /// Rules that were added, removed or changed, by id.
    pub rules: Vec<RuleChange>,
    /// Decisions that differ: first what is loosened, then what is tightened, then what another rule decides.
    pub decisions: Vec<Change>,
    /// Ids of rules that were removed, or match something else, and of which no decision was found that differs: they may be
    /// covered by another rule, or differ where neither policy names anything. Calls and machines are not asked about: each rule
    /// about them that decides otherwise, was removed or was added is among these.
    pub unexplained: Vec<String>,
    /// Whether a rule about calls or machines, which are not asked about, is among what may decide otherwise.
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
    /// One such object, in the words of `explain --do`.
    pub example: String,
    /// What the example holds, of a file that is executed and named for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub example_sha256: Option<String>,
    /// It differs only where the home is somebody else's than those that were given, and the example is below that.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub in_other_home: bool,
    /// Of what the object matches, something else is decided otherwise than this, as far as either policy names it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub in_part: bool,
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
    /// How many changes have this effect, of decisions and of what can be approved of.
    #[must_use]
    pub fn count(&self, effect: Effect) -> usize {
        let approvals = self.approvals.iter().filter(|change| change.effect == effect).count();
        self.decisions.iter().filter(|change| change.effect == effect).count() + approvals
    }

    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.about.is_empty()
            && self.approvals.is_empty()
            && self.rules.is_empty()
            && self.decisions.is_empty()
    }
}

/// What `after` changes against `before`, on a machine with these homes and somebody else's.
#[must_use]
pub fn diff(before: &Policy, after: &Policy, host: &Host) -> Diff {
    let rules = rules::changes(before, after);
    let deciding: Vec<&RuleChange> = rules.iter().filter(|change| change.may_decide()).collect();
    let changed: Vec<&str> = deciding.iter().map(|change| change.rule.as_str()).collect();
    let decisions = decisions::changes(before, after, host, &changed);
    let is_told = |id: &str| {
        let mut by = decisions.iter().flat_map(|change| [&change.before.rule, &change.after.rule]);
        by.any(|rule| rule.as_deref() == Some(id))
    };
    // No call was asked about, so what is told of such a rule is not all: one that was added can allow.
    let is_not_asked = |id: &str| {
        let both = [before, after].into_iter().filter_map(|policy| policy.rule(id));
        both.into_iter().any(|rule| rule.kind.is_for_the_sensor())
    };
    // One more rule that refuses loosens nothing.
    let allows = |id: &str| after.rule(id).is_some_and(|rule| rule.allows);
    let may_loosen = |change: &RuleChange| !change.is_added || allows(&change.rule);
    let is_unexplained =
        |change: &&&RuleChange| is_not_asked(&change.rule) || may_loosen(change) && !is_told(&change.rule);
    let is_partial = deciding.iter().any(|change| is_not_asked(&change.rule));
    let unexplained = deciding.iter().filter(is_unexplained);
    let unexplained = unexplained.map(|change| change.rule.clone()).collect();
    let (before_name, after_name) = (before.name.clone(), after.name.clone());
    let (about, approvals) = (rules::about(before, after), approvals::changes(before, after));
    Diff {
        before: before_name,
        after: after_name,
        about,
        approvals,
        rules,
        decisions,
        unexplained,
        is_partial,
    }
}
