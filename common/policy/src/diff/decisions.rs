//! Decisions of two policies about the same requests.

use std::collections::BTreeMap;

use treeline_event::{Mode, Verdict};

use super::{
    Change, Decided, Effect, Subjects,
    probe::{Asker, Probe, probes},
};
use crate::{
    eval::{asked_for, lifted_by, rule_matches},
    host::Host,
    policy::{FileOperation, Policy, Rule},
    request::{Object, Subject},
};

/// Requests up to which everybody is asked about everything.
const REQUESTS_MAX: usize = 1_000_000;

/// What was decided before, and what is decided now.
type Pair = [Decided; 2];

/// Decisions that differ, and whether programs were left out.
pub(super) fn changes(before: &Policy, after: &Policy, host: &Host) -> (Vec<Change>, bool) {
    let (probes, askers) = probes([before, after], host);
    let is_partial = probes.len().saturating_mul(askers.len()) > REQUESTS_MAX;
    let mut found: BTreeMap<(String, Pair, Subjects), Vec<&Probe>> = BTreeMap::new();
    for probe in &probes {
        let both = [before, after].map(|policy| Matching::of(policy, host, &probe.object));
        let asked = if is_partial { named(probe) } else { (0..askers.len()).collect() };
        let decide = |asker: usize| {
            let subject = &askers[asker].subject;
            (asker, both.each_ref().map(|matching| matching.decide(subject, host)))
        };
        let decided: Vec<(usize, Pair)> = asked.into_iter().map(decide).collect();
        for (pair, subjects) in differing(&decided, &askers) {
            found.entry((probe.text.clone(), pair, subjects)).or_default().push(probe);
        }
    }
    let mut changes: Vec<Change> =
        found.into_iter().filter_map(|(key, probes)| change(key, &probes)).collect();
    changes.sort();
    (changes, is_partial)
}

/// Whoever is in no exception, and who is named beside the object.
fn named(probe: &Probe) -> Vec<usize> {
    let mut asked = vec![0];
    asked.extend(&probe.subjects);
    asked.sort_unstable();
    asked.dedup();
    asked
}

/// The rules of a policy that match an object, whoever acts.
struct Matching<'p> {
    rules: Vec<&'p Rule>,
}

impl<'p> Matching<'p> {
    fn of(policy: &'p Policy, host: &Host, object: &Object) -> Self {
        Self { rules: policy.rules.iter().filter(|rule| rule_matches(rule, host, object)).collect() }
    }

    /// As [`crate::eval()`] decides: a rule in `enforce` before one in `monitor`, and the first by id of either.
    fn decide(&self, subject: &Subject, host: &Host) -> Decided {
        let holds = |rule: &&&Rule| {
            asked_for(rule, host, subject).is_ok() && lifted_by(rule, host, subject).is_none()
        };
        let first = |mode: Mode| self.rules.iter().filter(|rule| rule.mode == mode).find(holds);
        let decided = |verdict, rule: &Rule| Decided { verdict, rule: Some(rule.id.clone()) };
        let denied = first(Mode::Enforce).map(|rule| decided(Verdict::Deny, rule));
        denied
            .or_else(|| first(Mode::Monitor).map(|rule| decided(Verdict::Audit, rule)))
            .unwrap_or(Decided { verdict: Verdict::Allow, rule: None })
    }
}

/// For whom it differs how: for everybody but those for whom something else holds, and for these.
fn differing(decided: &[(usize, Pair)], askers: &[Asker]) -> Vec<(Pair, Subjects)> {
    let mut by_pair: BTreeMap<&Pair, Vec<usize>> = BTreeMap::new();
    for (asker, pair) in decided {
        by_pair.entry(pair).or_default().push(*asker);
    }
    let texts = |of: &[usize]| {
        let mut texts: Vec<String> = of.iter().map(|asker| askers[*asker].text.clone()).collect();
        texts.sort();
        texts
    };
    let others: Vec<usize> = by_pair.values().filter(|who| !who.contains(&0)).flatten().copied().collect();
    let subjects = |who: &Vec<usize>| match who.contains(&0) {
        true => Subjects::EverybodyBut(texts(&others)),
        false => Subjects::Only(texts(who)),
    };
    by_pair
        .iter()
        .filter(|([before, after], _)| before != after)
        .map(|(pair, who)| ((*pair).clone(), subjects(who)))
        .collect()
}

fn change(
    (object, [before, after], subjects): (String, Pair, Subjects),
    probes: &[&Probe],
) -> Option<Change> {
    let mut operations: Vec<&'static str> = Vec::new();
    for probe in probes {
        if !operations.contains(&probe.operation) {
            operations.push(probe.operation);
        }
    }
    // As everywhere else.
    operations.sort_by_key(|word| FileOperation::WORDS.iter().position(|(known, _)| known == word));
    let effect = Effect::of(&before, &after);
    let example = probes.iter().find(|probe| operations.first() == Some(&probe.operation))?;
    let example = example.object.to_string();
    Some(Change { effect, operations, object, subjects, before, after, example })
}
