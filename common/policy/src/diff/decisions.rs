//! Decisions of two policies about the same requests.

use std::collections::BTreeMap;

use super::{
    Change, Decided, Effect, Subjects,
    askers::Askers,
    candidates::{Candidates, Matching},
    probe::{Filler, Probe, probes},
};
use crate::{
    eval::rule_matches,
    host::Host,
    policy::{FileOperation, Policy, Rule},
};

/// Rules that are each asked about everything.
const FEW: usize = 64;

/// What was decided before, and what is decided now.
type Pair = [Decided; 2];

/// Decisions that differ.
pub(super) fn changes(before: &Policy, after: &Policy, host: &Host, changed: &[&str]) -> Vec<Change> {
    let filler = Filler::of([before, after], host);
    let host = filler.host();
    let mut askers = Askers::of([before, after], &filler);
    let mut candidates = [before, after].map(|policy| Candidates::of(policy, &host));
    // What no rule matches that is other than before is decided as before.
    let is_changed = |rule: &&Rule| changed.binary_search(&rule.id.as_str()).is_ok();
    let others: Vec<&Rule> = before.rules.iter().chain(&after.rules).filter(is_changed).collect();
    let is_of_others = |probe: &Probe| others.iter().any(|rule| rule_matches(rule, &host, &probe.object));
    let mut found: BTreeMap<(String, Pair, Subjects), Vec<Probe>> = BTreeMap::new();
    for probe in probes([before, after], &filler) {
        // Few are asked before all are.
        if others.len() <= FEW && !is_of_others(&probe) {
            continue;
        }
        let both = candidates.each_mut().map(|candidates| candidates.matching(&probe.object));
        if !both.iter().flat_map(Matching::rules).any(|rule| is_changed(&rule)) {
            continue;
        }
        let asked = askers.of_rules(both.iter().flat_map(Matching::rules));
        let decide = |asker: usize| {
            let subject = &askers.get(asker).subject;
            (asker, both.each_ref().map(|matching| matching.decide(subject, &host)))
        };
        let decided: Vec<(usize, Pair)> = asked.into_iter().map(decide).collect();
        for (pair, subjects) in differing(&decided, &askers) {
            found.entry((probe.text.clone(), pair, subjects)).or_default().push(probe.clone());
        }
    }
    let mut changes: Vec<Change> =
        found.into_iter().filter_map(|(key, probes)| change(key, &probes)).collect();
    changes.sort();
    changes
}

/// For whom it differs how: for everybody but those for whom something else holds, and for these.
fn differing(decided: &[(usize, Pair)], askers: &Askers<'_>) -> Vec<(Pair, Subjects)> {
    let mut by_pair: BTreeMap<&Pair, Vec<usize>> = BTreeMap::new();
    for (asker, pair) in decided {
        by_pair.entry(pair).or_default().push(*asker);
    }
    let texts = |of: &[usize]| {
        let mut texts: Vec<String> = of.iter().map(|asker| askers.get(*asker).text.clone()).collect();
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

fn change((object, [before, after], subjects): (String, Pair, Subjects), probes: &[Probe]) -> Option<Change> {
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
