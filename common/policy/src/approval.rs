//! What of a policy's refusals somebody may approve of, for a while.
//!
//! An approval in a policy loosens nothing by itself: it says which rules an authorised user can be let approve of, and for
//! how long. It is for rules of the policy that it is in and no others, so that nobody gives away what another level refuses.

use std::sync::Arc;

use treeline_event::{Mode, is_own_rule};

use crate::{
    eval::{holds, rule_matches},
    eval_allow::Allowed,
    host::Host,
    period::Period,
    policy::{DEFAULT_PRIORITY, FileOperation, Kind, Policy, Rule},
    request::Request,
    source::{Span, Spanned},
};

/// One item of `approvals`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// The rules, by the ids that their author wrote; `default/KIND` for a default.
    pub rules: Vec<Spanned<String>>,
    /// Who may: users by name or number.
    pub users: Vec<String>,
    /// Whoever is in one of these groups may, too; by name or number.
    pub groups: Vec<String>,
    /// For how long at the most.
    pub for_at_most: Period,
    /// The name of the policy that it is in.
    pub policy: Arc<str>,
    /// Where it is written.
    pub span: Span,
}

/// Somebody who wants to approve, as the machine knows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approver {
    /// Number and name of the user, if it has one.
    pub user: (u32, Option<String>),
    /// The same of each group.
    pub groups: Vec<(u32, Option<String>)>,
}

impl Approval {
    /// Whether it is for a rule.
    #[must_use]
    pub fn is_for(&self, rule: &Rule) -> bool {
        let written = written_id(rule);
        self.policy == rule.policy && self.rules.iter().any(|named| named.value == written)
    }

    /// Whether it is for somebody.
    #[must_use]
    pub fn admits(&self, who: &Approver) -> bool {
        let is_named = |named: &[String], (number, name): &(u32, Option<String>)| {
            named.iter().any(|one| match one.bytes().all(|byte| byte.is_ascii_digit()) {
                // What is all digits is a number, and no name.
                true => one.parse() == Ok(*number),
                false => name.as_ref() == Some(one),
            })
        };
        is_named(&self.users, &who.user) || who.groups.iter().any(|group| is_named(&self.groups, group))
    }
}

/// The id of a rule as its author would write it: the parts of a rule about brokers have that of the whole, and a default of a
/// lower level has the name of its policy behind it when several hold together.
#[must_use]
pub fn written_id(rule: &Rule) -> &str {
    let parts_max = if rule.priority == DEFAULT_PRIORITY { 2 } else { 1 };
    match rule.id.match_indices('/').nth(parts_max - 1) {
        Some((at, _)) => &rule.id[..at],
        None => &rule.id,
    }
}

/// Whether what a rule refuses can be approved of at all: it refuses, it is none of the sensor's own, and it is about objects
/// that can be told from all others.
#[must_use]
pub fn can_be_approved(rule: &Rule) -> bool {
    rule.mode == Mode::Enforce
        && !rule.allows
        && rule.adopts.is_none()
        && !is_own_rule(&rule.id)
        && match &rule.kind {
            Kind::File { operations, .. } => {
                operations.iter().any(|one| !matches!(one, FileOperation::Rename | FileOperation::Link))
            }
            // What is refused by its content is refused wherever it is.
            Kind::Exec { paths, .. } => !paths.is_empty(),
            Kind::Connect { .. } => true,
            Kind::Trace | Kind::Tool { .. } | Kind::Mcp { .. } | Kind::Posture { .. } => false,
        }
}

impl Policy {
    /// What of its approvals is for a rule.
    pub fn approvals_of(&self, rule: &Rule) -> impl Iterator<Item = &Approval> {
        let can_be = can_be_approved(rule);
        self.approvals.iter().filter(move |approval| can_be && approval.is_for(rule))
    }

    /// For how long somebody may approve of what a rule refuses; none if never.
    #[must_use]
    pub fn approvable_by(&self, rule: &Rule, who: &Approver) -> Option<Period> {
        self.approvals_of(rule)
            .filter(|approval| approval.admits(who))
            .map(|approval| approval.for_at_most)
            .max()
    }

    /// For how long anybody may.
    #[must_use]
    pub fn approvable(&self, rule: &Rule) -> Option<Period> {
        self.approvals_of(rule).map(|approval| approval.for_at_most).max()
    }
}

/// The indices of all rules that refuse a request, and of those that might, if what is unknown of the subject were known. The
/// kernel names one of them.
#[must_use]
pub fn refusing(policy: &Policy, host: &Host, request: &Request) -> Vec<usize> {
    let Request { subject, object } = request;
    let allowed = Allowed::of(&policy.rules, host, subject, object);
    let refuses = |rule: &Rule| {
        rule.mode == Mode::Enforce
            && !rule.allows
            && rule_matches(rule, host, object)
            && holds(rule, host, subject)
            && allowed.against(rule).is_none()
    };
    let indices = policy.rules.iter().enumerate().filter(|(_, rule)| refuses(rule));
    indices.map(|(index, _)| index).collect()
}
