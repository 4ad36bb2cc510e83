//! Exception sets: which subjects lift which rules.
//!
//! The kernel knows at most 64 sets. Exceptions that lift exactly the same rules need only one between them, which
//! also lets their patterns merge.

use std::collections::{BTreeMap, BTreeSet};

use crate::{diagnostic::Diagnostics, glob::Glob, policy::Policy};

/// Sets of one policy: the bits of [`treeline_abi::paths::Rule::exceptions`].
pub const EXCEPTION_SETS_MAX: usize = 64;

/// What a subject has to be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Condition {
    pub(super) executable: Option<Glob>,
    pub(super) sha256: Option<[u8; 32]>,
}

/// One set: its number is its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ExceptionSet {
    /// Indices of the rules that it lifts.
    pub(super) rules: BTreeSet<usize>,
    /// The subjects in it.
    pub(super) conditions: Vec<Condition>,
}

/// The sets of a policy; reports when there are too many.
pub(super) fn sets(policy: &Policy, out: &mut Diagnostics) -> Vec<ExceptionSet> {
    let mut lifted: BTreeMap<Condition, BTreeSet<usize>> = BTreeMap::new();
    for (index, rule) in policy.rules.iter().enumerate() {
        for exception in &rule.exceptions {
            let condition = Condition { executable: exception.executable.clone(), sha256: exception.sha256 };
            lifted.entry(condition).or_default().insert(index);
        }
    }
    let mut sets: BTreeMap<BTreeSet<usize>, Vec<Condition>> = BTreeMap::new();
    for (condition, rules) in lifted {
        sets.entry(rules).or_default().push(condition);
    }
    if sets.len() > EXCEPTION_SETS_MAX {
        let last = sets.keys().nth(EXCEPTION_SETS_MAX).and_then(BTreeSet::first);
        let rule = &policy.rules[last.copied().unwrap_or(0)];
        let message = format!(
            "`{}` needs one exception set more than the {EXCEPTION_SETS_MAX} that the kernel knows",
            rule.id
        );
        out.error(rule.span, message, Some("give rules that are alike the same `except` list".into()));
    }
    sets.into_iter()
        .take(EXCEPTION_SETS_MAX)
        .map(|(rules, conditions)| ExceptionSet { rules, conditions })
        .collect()
}
