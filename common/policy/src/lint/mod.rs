//! What is valid in a policy, and likely not meant.
//!
//! Every finding is certain, so far as it says something of the policy; not everything is found. Rules are compared with each
//! other, so it takes longer than reading and compiling: it is for who writes a policy, and no part of putting one in force.

mod addresses;
mod allow;
mod approval;
mod cover;
mod exception;
mod expiry;
mod reach;
mod shadow;
mod silence;

use std::collections::{BTreeMap, BTreeSet};

use self::cover::Comparer;
pub use self::silence::{Silenced, Silences};
use crate::{
    code::Code,
    diagnostic::{Diagnostic, Diagnostics},
    moment::Moment,
    policy::{Policy, Rule},
    source::Span,
};

/// Finds what is likely not meant in a policy whose expired rules have been taken out. With `now`, rules that will expire soon
/// are among it. What was found when the policy was read is in it.
#[must_use]
pub fn lint(policy: &Policy, now: Option<Moment>) -> Lints<'_> {
    lint_by(policy, now, &Comparer::new())
}

fn lint_by<'p>(policy: &'p Policy, now: Option<Moment>, comparer: &Comparer) -> Lints<'p> {
    let mut lints = Lints::new(policy);
    let wider = shadow::wider(policy, comparer);
    let shadowed = shadow::look(&mut lints, comparer, &wider);
    exception::look(&mut lints, &wider, &shadowed);
    reach::look(&mut lints, comparer);
    allow::look(&mut lints);
    approval::look(&mut lints);
    if let Some(now) = now {
        expiry::look(&mut lints, now);
    }
    if comparer.has_given_up() {
        let message =
            "the rules have too many items for all to be compared: some that are shadowed are not found";
        let all = policy.rules.first().map_or_else(Span::default, |rule| rule.span);
        lints.found.warning(Code::NotCompared, all, message, Some("write fewer items, or wider ones".into()));
    }
    lints
}

/// What was found in a policy.
#[derive(Debug)]
pub struct Lints<'p> {
    policy: &'p Policy,
    found: Diagnostics,
    silenced: BTreeSet<Silenced>,
    /// Where the reasons for silence are written that were needed.
    needed: BTreeSet<Span>,
}

/// What is to be said of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linted {
    /// What was found, with what was found when the policy was read.
    pub found: Diagnostics,
    /// What was found and is not to be reported, sorted.
    pub silenced: Vec<Silenced>,
}

impl<'p> Lints<'p> {
    fn new(policy: &'p Policy) -> Self {
        let mut lints = Self {
            policy,
            found: policy.warnings.clone(),
            silenced: BTreeSet::new(),
            needed: BTreeSet::new(),
        };
        let file_silences = |item: &Diagnostic| {
            let silences = policy.silences.get(&item.span.file)?;
            silences.0.get(&item.code).map(|reason| (item.code, reason.clone()))
        };
        lints.found.retain(|item| {
            let Some((code, reason)) = file_silences(item) else { return true };
            lints.needed.insert(reason.span);
            lints.silenced.insert(Silenced { rule: None, code, reason: reason.value });
            false
        });
        lints
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &'p Policy {
        self.policy
    }

    /// Reports a finding about a rule, unless the rule or its file silences it.
    pub fn report(&mut self, rule: &Rule, finding: Diagnostic) {
        let of_file = self.policy.silences.get(&rule.span.file);
        let reasons = [Some(&rule.silences), of_file];
        match reasons.into_iter().flatten().find_map(|silences| silences.0.get(&finding.code)) {
            None => self.found.push(finding),
            Some(reason) => {
                self.needed.insert(reason.span);
                let (rule, reason) = (Some(rule.written_id().to_owned()), reason.value.clone());
                self.silenced.insert(Silenced { rule, code: finding.code, reason });
            }
        }
    }

    /// What is to be said: a silence that was not needed is a finding, if it does not depend on the time or the machine.
    #[must_use]
    pub fn finish(mut self) -> Linted {
        let of_rules = self.policy.rules.iter().map(|rule| &rule.silences);
        let silences: BTreeMap<Span, Code> = of_rules
            .chain(self.policy.silences.values())
            .flat_map(|silences| silences.0.iter().map(|(code, reason)| (reason.span, *code)))
            .collect();
        // What is said alone need not be said of several together, and it is one file for both.
        let are_several = self.policy.rules.windows(2).any(|pair| pair[0].policy != pair[1].policy);
        for (span, code) in silences.into_iter().filter(|_| !are_several) {
            if self.needed.contains(&span) || !Code::OF_POLICY.contains(&code) {
                continue;
            }
            let message = format!("there is no `{}` here to be silent about", code.name());
            self.found.warning(Code::IdleSilence, span, message, Some("remove it".into()));
        }
        Linted { found: self.found, silenced: self.silenced.into_iter().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    #[test]
    fn a_policy_that_is_too_much_to_compare_says_so() {
        let items: String = (0..100).map(|number| format!("/a/*/{number}, ")).collect();
        let rule = |number: usize| {
            format!(
                "  - {{id: r-{number}, kind: file, operations: [read], paths: [$all, /b/{number}], reason: r}}\n"
            )
        };
        let rules: String = (0..4).map(rule).collect();
        let text = format!("version: 1\nname: t\nlists: {{paths: {{all: [{items}]}}}}\nrules:\n{rules}");
        let policy = parse("t", &text).unwrap_or_else(|found| panic!("{found}"));
        let check = |comparisons: u32, expect: &[Code]| {
            let found = lint_by(&policy, None, &Comparer::with_so_many(comparisons)).finish().found;
            assert_eq!(found.items().iter().map(|item| item.code).collect::<Vec<_>>(), expect, "{found}");
        };
        check(1_000_000, &[Code::RenamedAway; 4]);
        // What was not compared is not said to be loose.
        check(10_000, &[Code::NotCompared]);
    }
}
