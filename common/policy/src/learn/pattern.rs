//! What is to be allowed: patterns of each kind, for whom, and no more of them than are needed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    Kind, abstracts,
    addresses::{Addresses, Block},
    index::Index,
    place::{Guard, anchored, write},
    seen::{Act, Acts, Facts, Known, Thing},
    shape::exact,
    tree::{Found, Level, Tree},
};
use crate::{
    abstract_name::AbstractGlob,
    glob::{Anchor, Component, Glob, Wild},
    host::Host,
    policy::{self, FileOperation, Policy, PortRange},
};

/// Programs that rules are for. The kernel tells 64 sets of subjects apart.
const PROGRAMS_MAX: usize = 24;
/// Patterns for abstract names; the kernel holds 64.
const ABSTRACTS_MAX: usize = 48;

/// What is matched.
#[derive(Clone, Debug)]
pub(super) enum What {
    Path(Glob),
    Addresses(Block),
    Abstract(AbstractGlob),
}

/// One pattern of a rule that allows.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    pub(super) kind: Kind,
    pub(super) what: What,
    pub(super) facts: Facts,
    /// The one program that it is for; none where it is for all.
    pub(super) only: Option<Arc<[u8]>>,
}

/// Everything that patterns are made from.
pub(super) struct Making<'m> {
    pub(super) acts: &'m Acts,
    pub(super) protected: &'m Policy,
    pub(super) host: &'m Host,
    pub(super) kinds: &'m BTreeSet<Kind>,
    pub(super) is_roots: &'m dyn Fn(&[u8]) -> bool,
}

/// The patterns, and what there is none for.
#[derive(Debug, Default)]
pub(super) struct Made {
    pub(super) patterns: Vec<Pattern>,
    pub(super) unnameable: Vec<Act>,
    /// What others are kept from, by the place of the rule, where no rule can be for him alone who did it.
    pub(super) protected: Vec<(Act, usize)>,
}

impl Making<'_> {
    /// Everything at one level of generality.
    pub(super) fn make(&self, level: &Level) -> Made {
        let mut made = Made::default();
        for kind in self.kinds {
            self.of_paths(*kind, level, &mut made);
        }
        if self.kinds.contains(&Kind::Connect) {
            self.of_addresses(level, &mut made);
        }
        if self.kinds.contains(&Kind::Unix) {
            self.of_abstracts(level, &mut made);
        }
        self.choose_programs(&mut made.patterns);
        self.of_protected(&mut made);
        made.patterns = self.needed(std::mem::take(&mut made.patterns));
        made
    }

    /// What was done of a kind that nobody is kept from.
    fn of_kind(&self, kind: Kind) -> impl Iterator<Item = (&Act, Facts)> {
        let is_free = move |known: &Known| known.kept_from_others.is_none();
        let acts = self.acts.iter().filter(move |(act, known)| act.thing.kind() == kind && is_free(known));
        acts.map(|(act, known)| (act, Facts::of(act, known)))
    }

    /// What others are kept from is allowed as it is, to him alone who did it and has an exception.
    fn of_protected(&self, made: &mut Made) {
        let mut found: BTreeMap<(Kind, &Arc<[u8]>, String), Pattern> = BTreeMap::new();
        for (act, known) in self.acts {
            let Some(rule) = known.kept_from_others else { continue };
            let by = act.by.as_ref().filter(|by| self.can_be_asked_for(by));
            let facts = Facts::of(act, known);
            match by.zip(self.exactly(&act.thing, &facts)) {
                Some((by, what)) => {
                    let pattern = Pattern {
                        kind: act.thing.kind(),
                        what,
                        facts: Facts::default(),
                        only: Some(Arc::clone(by)),
                    };
                    let key = (pattern.kind, by, act.thing.text());
                    found.entry(key).or_insert(pattern).facts.merge(&facts);
                }
                None => made.protected.push((act.clone(), rule)),
            }
        }
        made.patterns.extend(found.into_values());
    }

    /// The pattern that matches a thing and nothing else.
    fn exactly(&self, thing: &Thing, facts: &Facts) -> Option<What> {
        if let Thing::Address(address, port) = thing {
            let ports = vec![PortRange { first: *port, last: *port }];
            return Some(What::Addresses(Block { net: (*address).into(), ports, facts: facts.clone() }));
        }
        if let Thing::Abstract(name) = thing {
            let glob = AbstractGlob { prefix: name.clone(), suffix: None };
            return (AbstractGlob::parse(&abstracts::write(&glob)).as_ref() == Ok(&glob))
                .then_some(What::Abstract(glob));
        }
        let path = thing.path().filter(|path| path.first() == Some(&b'/'))?;
        let (anchor, names) = anchored(self.host, path);
        let components: Vec<Component> = names.into_iter().map(exact).collect();
        let is_exact = components.iter().all(|component| matches!(component, Component::Literal(_)));
        let is_somewhere = anchor == Anchor::Home || !components.is_empty();
        (is_exact && is_somewhere).then_some(What::Path(Glob { anchor, components }))
    }

    fn of_paths(&self, kind: Kind, level: &Level, made: &mut Made) {
        let guard = Guard::of(self.protected, self.host, |of_rule| match (kind, of_rule) {
            (Kind::Read, policy::Kind::File { operations, .. }) => operations.contains(FileOperation::Read),
            (Kind::Write, policy::Kind::File { operations, .. }) => {
                operations.iter().any(|operation| operation != FileOperation::Read)
            }
            (Kind::Exec, policy::Kind::Exec { .. }) | (Kind::Unix, policy::Kind::Connect { .. }) => true,
            _ => false,
        });
        let mut tree = Tree::new(&guard, level, kind == Kind::Exec);
        for (act, facts) in self.of_kind(kind) {
            let Some(path) = act.thing.path() else { continue };
            let (anchor, names) = anchored(self.host, path);
            // What is in memory only has a name and no place.
            if path.first() != Some(&b'/') || tree.add(anchor, &names, &facts).is_err() {
                made.unnameable.push(act.clone());
            }
        }
        let pattern = |Found { glob, facts }| Pattern { kind, what: What::Path(glob), facts, only: None };
        made.patterns.extend(tree.finish().into_iter().map(pattern));
    }

    fn of_addresses(&self, level: &Level, made: &mut Made) {
        let mut addresses = Addresses::default();
        for (act, facts) in self.of_kind(Kind::Connect) {
            match act.thing {
                Thing::Address(address, port) => addresses.add(address, port, &facts),
                _ => made.unnameable.push(act.clone()),
            }
        }
        let blocks = addresses.finish(self.protected, (level.siblings / 2).max(2));
        made.patterns.extend(blocks.into_iter().map(|block| Pattern {
            kind: Kind::Connect,
            facts: block.facts.clone(),
            what: What::Addresses(block),
            only: None,
        }));
    }

    fn of_abstracts(&self, level: &Level, made: &mut Made) {
        let mut found: BTreeMap<AbstractGlob, Facts> = BTreeMap::new();
        for (act, facts) in self.of_kind(Kind::Unix) {
            let Thing::Abstract(name) = &act.thing else { continue };
            match abstracts::pattern(name, self.protected) {
                Some(glob) => found.entry(glob).or_default().merge(&facts),
                None => made.unnameable.push(act.clone()),
            }
        }
        if found.len() > ABSTRACTS_MAX && level.kept.is_some() {
            let mut facts = Facts::default();
            found.values().for_each(|one| facts.merge(one));
            found = BTreeMap::from([(AbstractGlob { prefix: Vec::new(), suffix: Some(Vec::new()) }, facts)]);
        }
        made.patterns.extend(found.into_iter().map(|(glob, facts)| {
            let what = What::Abstract(glob);
            Pattern { kind: Kind::Unix, what, facts, only: None }
        }));
    }

    /// Has patterns be for the one program that did it, where only root can write that: for those with most patterns.
    fn choose_programs(&self, patterns: &mut [Pattern]) {
        let mut counts: BTreeMap<&Arc<[u8]>, usize> = BTreeMap::new();
        for program in patterns.iter().filter_map(|pattern| pattern.facts.sole_program()) {
            *counts.entry(program).or_default() += 1;
        }
        counts.retain(|program, _| self.can_be_asked_for(program));
        let mut chosen: Vec<_> = counts.into_iter().collect();
        chosen.sort_by_key(|(program, count)| (std::cmp::Reverse(*count), Arc::clone(program)));
        let chosen = chosen.into_iter().take(PROGRAMS_MAX);
        let chosen: BTreeSet<Arc<[u8]>> = chosen.map(|(program, _)| Arc::clone(program)).collect();
        for pattern in patterns {
            pattern.only = pattern.facts.sole_program().filter(|program| chosen.contains(*program)).cloned();
        }
    }

    fn can_be_asked_for(&self, program: &[u8]) -> bool {
        let (anchor, names) = anchored(self.host, program);
        let is_literal = |name: &&[u8]| matches!(exact(name), Component::Literal(_));
        anchor == Anchor::Root
            && !names.is_empty()
            && names.iter().all(is_literal)
            && (self.is_roots)(program)
    }

    /// Those without which something that was done would be refused.
    fn needed(&self, patterns: Vec<Pattern>) -> Vec<Pattern> {
        let index = Index::of(&patterns, self.host);
        let matching: Vec<Vec<usize>> =
            self.acts.keys().map(|act| index.matching(act)).filter(|found| !found.is_empty()).collect();
        let mut acts_of: Vec<Vec<usize>> = vec![Vec::new(); patterns.len()];
        let mut left: Vec<usize> = Vec::with_capacity(matching.len());
        for (act, found) in matching.iter().enumerate() {
            left.push(found.len());
            found.iter().for_each(|pattern| acts_of[*pattern].push(act));
        }
        let mut order: Vec<usize> = (0..patterns.len()).collect();
        // What stands for little goes first.
        order.sort_by_key(|at| (patterns[*at].facts.things, *at));
        let mut is_needed = vec![true; patterns.len()];
        for at in order {
            if acts_of[at].iter().all(|act| left[*act] > 1) {
                is_needed[at] = false;
                acts_of[at].iter().for_each(|act| left[*act] -= 1);
            }
        }
        patterns
            .into_iter()
            .zip(is_needed)
            .filter_map(|(pattern, needed)| needed.then_some(pattern))
            .collect()
    }
}

impl Pattern {
    /// As it is written.
    pub(super) fn text(&self) -> String {
        match &self.what {
            What::Path(glob) => write(Some(glob.anchor), &glob.components),
            What::Addresses(block) if block.net.prefix_len() == block.net.max_prefix_len() => {
                block.net.addr().to_string()
            }
            What::Addresses(block) => block.net.to_string(),
            What::Abstract(glob) => abstracts::write(glob),
        }
    }

    /// Names with `*` or `?` in them that the kernel has to hold.
    pub(super) fn wilds(&self) -> impl Iterator<Item = &Wild> {
        let components = match &self.what {
            What::Path(glob) => glob.components.as_slice(),
            _ => &[],
        };
        components.iter().filter_map(|component| match component {
            Component::Wild(wild) => Some(wild),
            _ => None,
        })
    }

    /// Whether it is about the kind of what was done, and for who did it.
    pub(super) fn is_for(&self, act: &Act) -> bool {
        let operations = act.thing.operations();
        self.kind == act.thing.kind()
            && self.facts.operations & operations == operations
            && self.only.as_ref().is_none_or(|only| act.by.as_ref() == Some(only))
    }

    /// Whether it matches what was done, whoever did it.
    pub(super) fn matches(&self, host: &Host, act: &Act) -> bool {
        match (&self.what, &act.thing) {
            (What::Path(glob), thing) => {
                thing.path().is_some_and(|path| glob.matches(host.home_paths(), path))
            }
            (What::Addresses(block), Thing::Address(address, port)) => {
                block.net.contains(address) && block.ports.iter().any(|range| range.contains(*port))
            }
            (What::Abstract(glob), Thing::Abstract(name)) => glob.matches(name),
            _ => false,
        }
    }
}
