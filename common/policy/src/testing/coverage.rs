//! What of a policy no test shows.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Answer, Outcome, TestFile};
use crate::{
    eval::{allowed_by, asked_for, holds, lifts, rule_matches},
    explain::describe,
    policy::{Policy, Rule, SubjectItem},
    request::Request,
    source::Span,
};

/// Rules and exceptions without a test.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Untested {
    /// Ids of rules that decide in no test.
    pub rules: Vec<String>,
    /// Exceptions by which no test is let through.
    pub exceptions: Vec<UntestedException>,
}

/// An exception by which no test is let through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UntestedException {
    /// Id of its rule.
    pub rule: String,
    /// Whom it is for.
    pub exception: String,
}

/// What no test of a file shows, in the order of the rules. The parts of a rule about brokers have their exceptions in
/// common: it is enough that one of them is lifted.
pub(super) fn untested(file: &TestFile, policy: &Policy, outcomes: &[Outcome]) -> Untested {
    let host = &file.machine.host;
    // What allows is shown by a test in which something would hold without it.
    let lifted = |request: &Request| {
        let held = policy.rules.iter().filter(|rule| {
            !rule.allows && rule_matches(rule, host, &request.object) && holds(rule, host, &request.subject)
        });
        held.filter_map(|rule| allowed_by(policy, rule, host, request))
            .map(|rule| rule.id.as_str())
            .collect::<Vec<_>>()
    };
    let allowing: BTreeSet<&str> = file.tests.iter().flat_map(|test| lifted(&test.request)).collect();
    let decides = |rule: &Rule| {
        allowing.contains(rule.id.as_str())
            || outcomes.iter().any(|outcome| outcome.answer.rule() == Some(&rule.id))
    };
    let rules = policy.rules.iter().filter(|rule| !decides(rule)).map(|rule| rule.id.clone()).collect();
    let lets_through = |rule: &Rule, item: &SubjectItem| {
        let host = &file.machine.host;
        file.tests.iter().zip(outcomes).any(|(test, outcome)| {
            !matches!(outcome.answer, Answer::Deny(_))
                && rule_matches(rule, host, &test.request.object)
                && asked_for(rule, host, &test.request.subject).is_ok()
                && lifts(item, host, &test.request.subject)
        })
    };
    let mut exceptions: BTreeMap<Span, (bool, UntestedException)> = BTreeMap::new();
    for (rule, item) in
        policy.rules.iter().flat_map(|rule| rule.exceptions.iter().map(move |item| (rule, item)))
    {
        let found = UntestedException { rule: rule.id.clone(), exception: describe(item) };
        exceptions.entry(item.span).or_insert((false, found)).0 |= lets_through(rule, item);
    }
    let mut exceptions: Vec<UntestedException> =
        exceptions.into_values().filter(|(tested, _)| !tested).map(|(_, found)| found).collect();
    exceptions.sort_by(|left, right| left.rule.cmp(&right.rule));
    Untested { rules, exceptions }
}
