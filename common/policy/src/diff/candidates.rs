//! The rules of a policy that match an object, found without asking each of thousands of patterns about each of as many paths.

use std::collections::HashMap;

use super::Decided;
use crate::{
    eval::{among, glob_matches, holds, rule_matches},
    eval_allow::Allowed,
    glob::{Anchor, Component, Glob, split},
    host::Host,
    policy::{Kind, Policy, Rule},
    request::{Decision, Object, Subject},
};

/// Rules that may match.
pub(super) struct Candidates<'p> {
    policy: &'p Policy,
    host: &'p Host,
    /// Places of those of which a pattern matches a path, whatever is done: it is asked about for each operation.
    by_path: HashMap<Vec<u8>, Vec<usize>>,
}

impl<'p> Candidates<'p> {
    pub(super) fn of(policy: &'p Policy, host: &'p Host) -> Self {
        Self { policy, host, by_path: HashMap::new() }
    }

    pub(super) fn matching(&mut self, object: &Object) -> Matching<'p> {
        let (policy, host) = (self.policy, self.host);
        let matches = |place: &usize| rule_matches(&policy.rules[*place], host, object);
        let places: Vec<usize> = match object {
            Object::File { path, .. } | Object::Exec { path, .. } | Object::ConnectUnix { path } => {
                let by_content = |place: &usize| matches!(&policy.rules[*place].kind, Kind::Exec { sha256, .. } if !sha256.is_empty());
                let by_content = (0..policy.rules.len()).filter(by_content);
                let mut places: Vec<usize> = self.of_path(path).iter().copied().chain(by_content).collect();
                places.sort_unstable();
                places.dedup();
                places.retain(matches);
                places
            }
            Object::Connect { .. }
            | Object::ConnectAbstract { .. }
            | Object::RawSocket
            | Object::Trace
            | Object::Tool(_)
            | Object::Mcp(_)
            | Object::Posture(_) => (0..policy.rules.len()).filter(matches).collect(),
        };
        Matching { policy, places, object: object.clone() }
    }

    fn of_path(&mut self, path: &[u8]) -> &[usize] {
        let (policy, host) = (self.policy, self.host);
        self.by_path.entry(path.to_vec()).or_insert_with(|| {
            let ends = Ends::of(path, host);
            let matches = |rule: &Rule| {
                let globs = rule.kind.globs().iter();
                let mut likely = globs.filter(|glob| ends.may_match(&glob.value));
                likely.any(|glob| glob_matches(&glob.value, host, path))
            };
            let rules = policy.rules.iter().enumerate();
            rules.filter(|(_, rule)| matches(rule)).map(|(place, _)| place).collect()
        })
    }
}

/// The first and the last names of a path, to be compared with what a pattern spells out.
pub(super) struct Ends<'p> {
    first: Option<&'p [u8]>,
    /// The first one below each home that it is in.
    below_homes: Vec<Option<&'p [u8]>>,
    last: Option<&'p [u8]>,
}

impl<'p> Ends<'p> {
    pub(super) fn of(path: &'p [u8], host: &Host) -> Self {
        let below = |home: &crate::host::Home| path.strip_prefix(home.path.as_slice());
        let below_homes = host.homes.iter().filter_map(below).map(|rest| split(rest).next()).collect();
        Self { first: split(path).next(), below_homes, last: split(path).last() }
    }

    pub(super) fn may_match(&self, glob: &Glob) -> bool {
        let is = |component: Option<&Component>, name: Option<&[u8]>| match component {
            Some(Component::Literal(literal)) => name == Some(literal),
            _ => true,
        };
        let first = glob.components.first();
        let begins = match glob.anchor {
            Anchor::Root => is(first, self.first),
            Anchor::Home => self.below_homes.iter().any(|name| is(first, *name)),
        };
        begins && is(glob.components.last(), self.last)
    }
}

/// The rules of a policy that match an object, whoever acts.
pub(super) struct Matching<'p> {
    policy: &'p Policy,
    object: Object,
    /// In their order.
    places: Vec<usize>,
}

impl<'p> Matching<'p> {
    pub(super) fn rules(&self) -> impl Iterator<Item = &'p Rule> + Clone + use<'_, 'p> {
        self.places.iter().map(|place| &self.policy.rules[*place])
    }

    pub(super) fn decide(&self, subject: &Subject, host: &Host) -> Decided {
        let rules = self.places.iter().copied().zip(self.rules());
        let allowed = Allowed::of(self.rules(), host, subject, &self.object);
        let Decision { verdict, rule } =
            among(rules, |rule| holds(rule, host, subject) && allowed.against(rule).is_none());
        Decided { verdict, rule: rule.map(|place| self.policy.rules[place].id.clone()) }
    }
}
