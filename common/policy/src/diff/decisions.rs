//! Decisions of two policies about the same requests.

use std::collections::{BTreeMap, HashMap};

use super::{
    Change, Decided, Effect, Subjects, addresses,
    askers::Askers,
    candidates::{Candidates, Ends, Matching},
    probe::{Filler, Named, Probe, probes},
};
use crate::{
    eval::{glob_matches, rule_matches},
    explain::hex,
    glob::Glob,
    host::Host,
    policy::{FileOperation, Policy, Rule},
    request::Object,
};

/// Rules that are each asked about everything.
const FEW: usize = 64;

/// What was decided before, and what is decided now.
type Pair = [Decided; 2];

/// How it differs, and for whom.
pub(super) type Differing = (Pair, Subjects);

/// Decisions that differ.
pub(super) fn changes(before: &Policy, after: &Policy, host: &Host, changed: &[&str]) -> Vec<Change> {
    let filler = Filler::of([before, after], host);
    let host = filler.host();
    let is_changed = |rule: &Rule| changed.binary_search(&rule.id.as_str()).is_ok();
    let mut asking = Asking {
        askers: Askers::of([before, after], &filler),
        candidates: [before, after].map(|policy| Candidates::of(policy, &host)),
        host: &host,
    };
    // What no rule matches that is other than before is decided as before.
    let others: Vec<&Rule> =
        before.rules.iter().chain(&after.rules).filter(|rule| is_changed(rule)).collect();
    // Few are asked before all are.
    let may_differ = |probe: &Probe<'_>| {
        others.len() > FEW || others.iter().any(|rule| rule_matches(rule, &host, &probe.object))
    };
    let mut outcomes = Vec::new();
    for probe in probes([before, after], &filler) {
        let differing =
            if may_differ(&probe) { asking.differing(&probe.object, is_changed) } else { Vec::new() };
        outcomes.push(Outcome { probe, differing });
    }
    let mut changes = of_names(&outcomes, &filler, &host);
    let differing = |object: &Object| asking.differing(object, is_changed);
    changes.extend(addresses::changes([before, after], is_changed, differing).into_iter().map(of_addresses));
    changes.sort();
    changes
}

/// Two policies, and everybody who asks them.
struct Asking<'p, 'f> {
    askers: Askers<'f>,
    candidates: [Candidates<'p>; 2],
    host: &'p Host,
}

impl Asking<'_, '_> {
    /// How the decisions about an object differ, and for whom; nothing where no rule matches that has changed.
    fn differing(&mut self, object: &Object, is_changed: impl Fn(&Rule) -> bool) -> Vec<Differing> {
        let both = self.candidates.each_mut().map(|candidates| candidates.matching(object));
        if !both.iter().flat_map(Matching::rules).any(is_changed) {
            return Vec::new();
        }
        let asked = self.askers.of_rules(both.iter().flat_map(Matching::rules));
        let decide = |asker: usize| {
            let subject = &self.askers.get(asker).subject;
            (asker, both.each_ref().map(|matching| matching.decide(subject, self.host)))
        };
        let decided: Vec<(usize, Pair)> = asked.into_iter().map(decide).collect();
        differing(&decided, &self.askers)
    }
}

/// What was asked about, and what came of it.
struct Outcome<'p> {
    probe: Probe<'p>,
    differing: Vec<Differing>,
}

/// For whom it differs how: for everybody but those for whom something else holds, and for these.
fn differing(decided: &[(usize, Pair)], askers: &Askers<'_>) -> Vec<Differing> {
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

/// What differs of what policies name, each name once for the same.
fn of_names(outcomes: &[Outcome<'_>], filler: &Filler, host: &Host) -> Vec<Change> {
    let mut found: BTreeMap<(&str, &Differing), Vec<&Probe<'_>>> = BTreeMap::new();
    for Outcome { probe, differing } in outcomes {
        for one in differing {
            found.entry((probe.text.as_str(), one)).or_default().push(probe);
        }
    }
    let matching = Names::of(outcomes, found.values().flatten().map(|probe| probe.named), host);
    let change = |((text, differing), probes): ((&str, &Differing), Vec<&Probe<'_>>)| {
        let is_told =
            |outcome: &&Outcome<'_>| probes.iter().any(|probe| probe.operation == outcome.probe.operation);
        let mut alike = matching.matched_by(text).filter(is_told);
        let in_part = alike.any(|outcome| !outcome.differing.contains(differing));
        Some(Change { in_part, ..change(text, differing, &probes, filler)? })
    };
    found.into_iter().filter_map(change).collect()
}

/// By the text of a pattern, everything that was asked about and that it matches.
struct Names<'o> {
    outcomes: &'o [Outcome<'o>],
    by_text: HashMap<String, Vec<usize>>,
}

impl<'o> Names<'o> {
    fn of<'p>(outcomes: &'o [Outcome<'o>], told: impl Iterator<Item = Named<'p>>, host: &Host) -> Self {
        let mut globs: HashMap<String, &Glob> = HashMap::new();
        let mut by_text: HashMap<String, Vec<usize>> = HashMap::new();
        for named in told {
            match named {
                Named::Path(glob) => drop(globs.insert(glob.to_string(), glob)),
                Named::Abstract(glob) => {
                    let is_of = |outcome: &Outcome<'_>| matches!(&outcome.probe.object, Object::ConnectAbstract { name } if glob.matches(name));
                    let matching = || (0..outcomes.len()).filter(|at| is_of(&outcomes[*at])).collect();
                    by_text.entry(glob.to_string()).or_insert_with(matching);
                }
                Named::Alone => {}
            }
        }
        let mut paths: HashMap<&[u8], Vec<usize>> = HashMap::new();
        for (at, outcome) in outcomes.iter().enumerate() {
            if let Some(path) = path(&outcome.probe.object) {
                paths.entry(path).or_default().push(at);
            }
        }
        for (path, places) in paths {
            let ends = Ends::of(path, host);
            for (text, glob) in &globs {
                if ends.may_match(glob) && glob_matches(glob, host, path) {
                    by_text.entry(text.clone()).or_default().extend(&places);
                }
            }
        }
        Self { outcomes, by_text }
    }

    fn matched_by(&self, text: &str) -> impl Iterator<Item = &'o Outcome<'o>> {
        let places = self.by_text.get(text).into_iter().flatten();
        places.map(|at| &self.outcomes[*at])
    }
}

fn path(object: &Object) -> Option<&[u8]> {
    match object {
        Object::File { path, .. } | Object::Exec { path, .. } | Object::ConnectUnix { path } => Some(path),
        _ => None,
    }
}

fn change(
    text: &str,
    ([before, after], subjects): &Differing,
    probes: &[&Probe<'_>],
    filler: &Filler,
) -> Option<Change> {
    let mut operations: Vec<&'static str> = Vec::new();
    for probe in probes {
        if !operations.contains(&probe.operation) {
            operations.push(probe.operation);
        }
    }
    // As everywhere else.
    operations.sort_by_key(|word| FileOperation::WORDS.iter().position(|(known, _)| known == word));
    let elsewhere = |object: &Object| path(object).and_then(|path| filler.below_other_home(path));
    let firsts = probes.iter().filter(|probe| operations.first() == Some(&probe.operation));
    // One that is decided so also where nobody knows of a home that was made up.
    let example = firsts.min_by_key(|probe| elsewhere(&probe.object).is_some())?;
    let mut object = example.object.clone();
    let other_home = elsewhere(&object);
    let in_other_home = other_home.is_some();
    if let (Some(path), Some(below)) = (object.path_mut(), other_home) {
        *path = below;
    }
    let example_sha256 = match (&object, example.named) {
        (Object::Exec { sha256: Some(digest), .. }, Named::Alone) => Some(hex(digest)),
        _ => None,
    };
    Some(Change {
        effect: Effect::of(before, after),
        operations,
        object: text.to_owned(),
        subjects: subjects.clone(),
        before: before.clone(),
        after: after.clone(),
        example: object.to_string(),
        example_sha256,
        in_other_home,
        in_part: false,
    })
}

fn of_addresses(addresses::Found { text, example, differing }: addresses::Found) -> Change {
    let ([before, after], subjects) = differing;
    Change {
        effect: Effect::of(&before, &after),
        operations: vec!["connect"],
        object: text,
        subjects,
        before,
        after,
        example: example.to_string(),
        example_sha256: None,
        in_other_home: false,
        in_part: false,
    }
}
