//! What can be approved of that could not be before, and the other way round.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::Effect;
use crate::{
    approval::{can_be_approved, written_id},
    period::Period,
    policy::Policy,
};

/// What somebody can approve of for another time than before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ApprovalChange {
    /// What it is for who is refused something: with more time to be approved, it loosens.
    pub effect: Effect,
    /// Id of the rule.
    pub rule: String,
    /// Who may approve, such as `user ada` or `group leads`.
    pub by: String,
    /// For how long at the most before; none where they could not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// The same now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// By rule and who may.
type Approvable = BTreeMap<(String, String), Period>;

/// What differs, what loosens first.
pub(super) fn changes(before: &Policy, after: &Policy) -> Vec<ApprovalChange> {
    let (before, after) = (approvable(before), approvable(after));
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let change = |(rule, by): &(String, String)| {
        let key = (rule.clone(), by.clone());
        let (old, new) = (before.get(&key), after.get(&key));
        let effect = if new > old { Effect::Loosens } else { Effect::Tightens };
        let text = |period: Option<&Period>| period.map(ToString::to_string);
        (old != new).then(|| ApprovalChange {
            effect,
            rule: rule.clone(),
            by: by.clone(),
            before: text(old),
            after: text(new),
        })
    };
    let mut changes: Vec<_> = keys.into_iter().filter_map(change).collect();
    changes.sort();
    changes
}

fn approvable(policy: &Policy) -> Approvable {
    let mut found = Approvable::new();
    for approval in &policy.approvals {
        let is_meant = |id: &str| {
            let mut rules = policy.rules.iter().filter(|rule| approval.policy == rule.policy);
            rules.any(|rule| written_id(rule) == id && can_be_approved(rule))
        };
        let users = approval.users.iter().map(|user| format!("user {user}"));
        let by: Vec<String> =
            users.chain(approval.groups.iter().map(|group| format!("group {group}"))).collect();
        for named in approval.rules.iter().filter(|named| is_meant(&named.value)) {
            for by in &by {
                let longest = found.entry((named.value.clone(), by.clone())).or_insert(approval.for_at_most);
                *longest = approval.for_at_most.max(*longest);
            }
        }
    }
    found
}
