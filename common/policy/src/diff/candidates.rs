//! The rules of a policy that match an object, found without asking each of thousands of patterns about each of as many paths.

use std::collections::HashMap;

use treeline_event::{Mode, Verdict};

use super::Decided;
use crate::{
    eval::{asked_for, glob_matches, lifted_by, rule_matches},
    glob::{Anchor, Component, Glob, split},
    host::Host,
    policy::{Kind, Policy, Rule},
    request::{Object, Subject},
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
        let matches = |rule: &&'p Rule| rule_matches(rule, host, object);
        let rules = match object {
            Object::File { path, .. } | Object::Exec { path, .. } | Object::ConnectUnix { path } => {
                let of_path = self.of_path(path).iter().map(|place| &policy.rules[*place]);
                let by_content =
                    |rule: &&Rule| matches!(&rule.kind, Kind::Exec { sha256, .. } if !sha256.is_empty());
                let mut rules: Vec<&Rule> = of_path.filter(matches).collect();
                rules.extend(policy.rules.iter().filter(by_content).filter(matches));
                // By id, as everywhere, each once.
                rules.sort_unstable_by_key(|rule| rule.id.as_str());
                rules.dedup_by_key(|rule| rule.id.as_str());
                rules
            }
            Object::Connect { .. }
            | Object::ConnectAbstract { .. }
            | Object::RawSocket
            | Object::Trace
            | Object::Tool(_)
            | Object::Mcp(_)
            | Object::Posture(_) => policy.rules.iter().filter(matches).collect(),
        };
        Matching { rules }
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
struct Ends<'p> {
    first: Option<&'p [u8]>,
    /// The first one below each home that it is in.
    below_homes: Vec<Option<&'p [u8]>>,
    last: Option<&'p [u8]>,
}

impl<'p> Ends<'p> {
    fn of(path: &'p [u8], host: &Host) -> Self {
        let below = |home: &crate::host::Home| path.strip_prefix(home.path.as_slice());
        let below_homes = host.homes.iter().filter_map(below).map(|rest| split(rest).next()).collect();
        Self { first: split(path).next(), below_homes, last: split(path).last() }
    }

    fn may_match(&self, glob: &Glob) -> bool {
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
    pub(super) rules: Vec<&'p Rule>,
}

impl Matching<'_> {
    /// As [`crate::eval()`] decides: a rule in `enforce` before one in `monitor`, and the first by id of either.
    pub(super) fn decide(&self, subject: &Subject, host: &Host) -> Decided {
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
