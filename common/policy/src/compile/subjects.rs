//! Subject sets: which subjects rules are lifted for, and which they are only for.
//!
//! The kernel knows at most 64 sets. Items that are in exactly the same lists of the same rules and ask for the same
//! lineage and session need only one between them, which also lets their patterns merge. What they ask of lineage are the conditions
//! that labels have the facts of: see `treeline_abi::subject`.

use std::collections::{BTreeMap, BTreeSet};

use treeline_abi::{
    name,
    paths::Operation,
    subject::{AcceptKind, ByContent, LINEAGES_MAX, SETS_MAX, Subjects},
};

use super::layout::Owner;
use crate::{
    code::Code,
    diagnostic::Diagnostics,
    glob::Glob,
    policy::{Executable, Policy, SubjectItem},
    session::SessionCondition,
};

/// Seed of the hashes that tell conditions apart; what is hashed comes from policies alone.
const SEED: u64 = 0x5eed_00f5;

/// One set: its number is its place.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Set {
    /// Indices of the rules that it lifts.
    lifts: BTreeSet<usize>,
    /// Indices of the rules that are for it.
    only: BTreeSet<usize>,
    /// The lineage that it asks for.
    lineage: Option<Executable>,
    /// What it asks of the session.
    session: Option<SessionCondition>,
    /// The executables in it.
    executables: Vec<Executable>,
}

/// A condition on lineage.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Condition {
    number: u32,
    /// Index of the first rule that has it.
    rule: usize,
    wanted: Executable,
}

/// The subjects of a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SubjectSets {
    sets: Vec<Set>,
    conditions: Vec<Condition>,
}

/// Where an item is: indices of the rules that it lifts, and of those that are for it.
type Places = (BTreeSet<usize>, BTreeSet<usize>);

/// What is asked for beside the executable: of lineage, and of the session.
type Beside = (Option<Executable>, Option<SessionCondition>);

impl SubjectSets {
    /// The sets of a policy, with the numbers that `before` has for conditions; reports when there are too many.
    pub(super) fn of(policy: &Policy, before: &Subjects, out: &mut Diagnostics) -> Self {
        let mut items: BTreeMap<(Beside, Executable), Places> = BTreeMap::new();
        let key = |item: &SubjectItem| ((item.descendant_of.clone(), item.session.clone()), item.own.clone());
        // The kernel is not asked about calls, so it need not know who calls.
        let rules = policy.rules.iter().enumerate().filter(|(_, rule)| !rule.kind.is_for_the_sensor());
        for (index, rule) in rules {
            for item in &rule.exceptions {
                items.entry(key(item)).or_default().0.insert(index);
            }
            for item in &rule.only {
                items.entry(key(item)).or_default().1.insert(index);
            }
        }
        let mut sets: BTreeMap<(Places, Beside), Vec<Executable>> = BTreeMap::new();
        for ((beside, own), places) in items {
            sets.entry((places, beside)).or_default().push(own);
        }
        if let Some(((places, _), _)) = sets.iter().nth(SETS_MAX) {
            let rule = &policy.rules[first(places)];
            let message =
                format!("`{}` needs one subject set more than the {SETS_MAX} that the kernel knows", rule.id);
            let help = "give rules that are alike the same `except` and `only` lists".into();
            out.error(Code::NoRoom, rule.span, message, Some(help));
        }
        let sets: Vec<Set> = sets
            .into_iter()
            .take(SETS_MAX)
            .map(|(((lifts, only), (lineage, session)), executables)| Set {
                lifts,
                only,
                lineage,
                session,
                executables,
            })
            .collect();
        let conditions = conditions(&sets, before);
        Self { sets, conditions }
    }

    /// The sets that lift a rule, and those that it is only for, as bits.
    pub(super) fn of_rule(&self, index: usize) -> (u64, u64) {
        let bits = |is_in: &dyn Fn(&Set) -> bool| {
            self.sets.iter().enumerate().filter(|(_, set)| is_in(set)).fold(0, |bits, (n, _)| bits | 1 << n)
        };
        (bits(&|set| set.lifts.contains(&index)), bits(&|set| set.only.contains(&index)))
    }

    /// The patterns of executables: whose they are, the index of a rule that has them, and the patterns.
    pub(super) fn patterns(&self) -> Vec<(Owner, usize, Vec<&Glob>)> {
        let owner = |kind: u32, number: u32| Owner {
            operations: 1 << Operation::SUBJECT,
            index: kind * SETS_MAX as u32 + number,
        };
        let mut patterns = Vec::new();
        for (number, set) in (0u32..).zip(&self.sets) {
            let rule = set.lifts.iter().chain(&set.only).min().copied().unwrap_or(0);
            for (kind, with_content) in [(AcceptKind::SET, false), (AcceptKind::SET_WITH_CONTENT, true)] {
                let globs = paths(&set.executables, with_content);
                patterns.push((owner(kind, number), rule, globs));
            }
        }
        for condition in &self.conditions {
            let kinds = [(AcceptKind::LINEAGE, false), (AcceptKind::LINEAGE_WITH_CONTENT, true)];
            for (kind, with_content) in kinds {
                let globs = paths(std::slice::from_ref(&condition.wanted), with_content);
                patterns.push((owner(kind, condition.number), condition.rule, globs));
            }
        }
        patterns.retain(|(_, _, globs)| !globs.is_empty());
        patterns
    }

    /// What contents mean, each with the path that is asked for beside it.
    pub(super) fn contents(&self) -> Vec<(&Executable, ByContent)> {
        let of_sets = (0u32..).zip(&self.sets).flat_map(|(number, set)| {
            let means = ByContent { sets: 1 << number, ..ByContent::default() };
            set.executables.iter().map(move |executable| (executable, means))
        });
        let of_lineage = self.conditions.iter().map(|condition| {
            (&condition.wanted, ByContent { lineage: 1 << condition.number, ..ByContent::default() })
        });
        of_sets.chain(of_lineage).filter(|(executable, _)| executable.sha256.is_some()).collect()
    }

    /// The conditions on lineage, by number.
    pub(super) fn lineage(&self) -> Vec<(u32, Executable)> {
        self.conditions.iter().map(|condition| (condition.number, condition.wanted.clone())).collect()
    }

    /// What sets ask of the session, by number.
    pub(super) fn sessions(&self) -> Vec<(u32, SessionCondition)> {
        let sets = (0u32..).zip(&self.sets);
        sets.filter_map(|(number, set)| Some((number, set.session.clone()?))).collect()
    }

    /// The part of the table. What is not in `before` has its number since `now`.
    pub(super) fn table(&self, before: &Subjects, now: u64) -> Subjects {
        let mut table = Subjects { since: before.since, ..Subjects::NONE };
        let is_by_content_alone =
            |executable: &Executable| executable.path.is_none() && executable.sha256.is_some();
        for (number, set) in self.sets.iter().enumerate() {
            let bit = 1 << number;
            if set.executables.iter().any(Executable::is_any) {
                table.any |= bit;
            }
            if set.executables.iter().any(is_by_content_alone) {
                table.content_alone |= bit;
            }
            if set.session.is_some() {
                table.with_session |= bit;
            }
            match set.lineage.as_ref().and_then(|wanted| self.condition(wanted)) {
                Some(condition) => table.ask(condition.number as usize, bit),
                None => table.without_lineage |= bit,
            }
        }
        for condition in &self.conditions {
            let number = condition.number as usize;
            let identity = identity(&condition.wanted);
            table.lineages |= 1 << number;
            table.lineage_content_alone |= u64::from(is_by_content_alone(&condition.wanted)) << number;
            table.identity[number] = identity;
            table.born[number] = if before.identity[number] == identity { before.born[number] } else { now };
            table.since = table.since.max(table.born[number]);
        }
        table.arrange();
        table.fingerprint = self.fingerprint();
        table
    }

    fn condition(&self, wanted: &Executable) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.wanted == *wanted)
    }

    /// What numbers stand for: contents that are known are looked up by it.
    fn fingerprint(&self) -> u64 {
        let sets = self.sets.iter().flat_map(|set| &set.executables).map(identity);
        let ends = self.sets.iter().map(|set| set.executables.len() as u64);
        let lineage = self.conditions.iter().flat_map(|one| [u64::from(one.number), identity(&one.wanted)]);
        sets.chain(ends).chain(lineage).fold(SEED, name::mix).max(2)
    }
}

/// The paths of these executables, of those that a content is asked of as well, or of the others.
fn paths(executables: &[Executable], with_content: bool) -> Vec<&Glob> {
    let of_kind = executables.iter().filter(|executable| executable.sha256.is_some() == with_content);
    of_kind.filter_map(|executable| executable.path.as_ref()).collect()
}

fn first((lifts, only): &Places) -> usize {
    lifts.iter().chain(only).min().copied().unwrap_or(0)
}

/// Every condition once, with the number that it had; a new one takes one that no condition has.
fn conditions(sets: &[Set], before: &Subjects) -> Vec<Condition> {
    let mut wanted: BTreeMap<&Executable, usize> = BTreeMap::new();
    for set in sets {
        let rule = set.lifts.iter().chain(&set.only).min().copied().unwrap_or(0);
        if let Some(lineage) = &set.lineage {
            let held = wanted.entry(lineage).or_insert(rule);
            *held = rule.min(*held);
        }
    }
    let number = |executable: &Executable| {
        let identity = identity(executable);
        before.identity.iter().position(|known| *known == identity)
    };
    let kept: BTreeSet<usize> = wanted.keys().filter_map(|executable| number(executable)).collect();
    let mut free = (0..LINEAGES_MAX).filter(|number| !kept.contains(number));
    let numbered = wanted.into_iter().filter_map(|(executable, rule)| {
        // A set asks for one lineage at the most, so there are as many numbers as can be asked for.
        let number = number(executable).or_else(|| free.next())?;
        Some(Condition { number: number as u32, rule, wanted: executable.clone() })
    });
    numbered.collect()
}

const _: () = assert!(SETS_MAX <= LINEAGES_MAX);

/// What a condition says, as a number that is never 0.
fn identity(executable: &Executable) -> u64 {
    let path = executable.path.as_ref().map(Glob::to_string).unwrap_or_default();
    let content = executable.sha256.unwrap_or_default();
    name::mix(name::hash(SEED, path.as_bytes()), name::hash(SEED, &content)).max(1)
}
