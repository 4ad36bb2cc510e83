//! The tree of patterns that are literal but for `*` components and a final `**`.
//!
//! A state is the set of what is left to match: the subset construction over tails of patterns. Tails that are alike
//! are one, so the homes of all users lead to the same states below them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use treeline_abi::{
    name,
    paths::{ANY_STATE, EDGES_MAX, Edge, EdgeKey},
};

use super::{
    layout::{Full, Owner},
    lists::Lists,
    pattern::{Devices, Pattern, Token},
};

/// What is left of a pattern, in the order of the path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Tail {
    /// Nothing: it matches, and everything below it, too, if it ended with `**`.
    End { below: bool, owner: Owner },
    /// This, and then another tail.
    Then { token: Token, rest: usize },
}

/// A state, by what is left in it.
type Tails = BTreeSet<usize>;

/// The tree.
#[derive(Debug, Default)]
pub(super) struct Tree {
    tails: Vec<Tail>,
    numbers: BTreeMap<Tail, usize>,
    roots: BTreeMap<u32, Tails>,
}

/// The tree as tables.
#[derive(Debug, Default)]
pub(super) struct Edges {
    pub(super) roots: BTreeMap<u32, Edge>,
    pub(super) edges: Vec<(EdgeKey, Edge)>,
}

/// Whether a pattern can be in the tree, and on which filesystems it is.
pub(super) fn devices(pattern: &Pattern) -> Option<&BTreeSet<u32>> {
    let Devices::Some(devices) = &pattern.devices else { return None };
    let fits = |(index, token): (usize, &Token)| match token {
        Token::Globstar => index == 0,
        Token::Any => true,
        Token::Names { wilds, .. } => wilds.is_empty(),
    };
    pattern.tokens.iter().enumerate().all(fits).then_some(devices)
}

impl Tree {
    /// Adds a pattern that [`devices`] has found fit.
    pub(super) fn add(&mut self, owner: Owner, pattern: &Pattern, devices: &BTreeSet<u32>) {
        let below = pattern.tokens.first() == Some(&Token::Globstar);
        let mut tail = self.tail(Tail::End { below, owner });
        // The tokens of a pattern begin with the last name.
        for token in pattern.tokens.iter().skip(usize::from(below)) {
            tail = self.tail(Tail::Then { token: token.clone(), rest: tail });
        }
        for device in devices {
            self.roots.entry(*device).or_default().insert(tail);
        }
    }

    fn tail(&mut self, tail: Tail) -> usize {
        if let Some(number) = self.numbers.get(&tail) {
            return *number;
        }
        self.tails.push(tail.clone());
        self.numbers.insert(tail, self.tails.len() - 1);
        self.tails.len() - 1
    }

    /// The tables.
    pub(super) fn finish(mut self, seed: u64, slot: u32, lists: &mut Lists) -> Result<Edges, Full> {
        let mut states = States::default();
        let mut out = Edges::default();
        for (device, tails) in std::mem::take(&mut self.roots) {
            out.roots.insert(device, self.edge(tails, &mut states, lists));
        }
        while let Some((state, tails)) = states.queue.pop_front() {
            for (hash, next) in self.targets(&tails, seed) {
                let edge = self.edge(next, &mut states, lists);
                let key = match hash {
                    Some(hash) => EdgeKey { slot, state, hash },
                    None => EdgeKey { slot, state: state | ANY_STATE, hash: 0 },
                };
                out.edges.push((key, edge));
            }
            // The number of states can grow faster than that of patterns, so it is looked at on the way.
            if out.edges.len() > EDGES_MAX as usize {
                return Err(Full::Edges);
            }
        }
        Ok(out)
    }

    /// Where each name leads from a state; without a hash, every other name. Names whose hashes collide lead to the
    /// same: that can only match more.
    fn targets(&self, tails: &Tails, seed: u64) -> BTreeMap<Option<u64>, Tails> {
        let mut targets: BTreeMap<Option<u64>, Tails> = BTreeMap::new();
        let mut any = Tails::new();
        for tail in tails {
            match &self.tails[*tail] {
                Tail::Then { token: Token::Names { literals, .. }, rest } => {
                    for literal in literals {
                        targets.entry(Some(name::hash(seed, literal))).or_default().insert(*rest);
                    }
                }
                Tail::Then { rest, .. } => _ = any.insert(*rest),
                Tail::End { .. } => {}
            }
        }
        for target in targets.values_mut() {
            target.extend(&any);
        }
        if !any.is_empty() {
            targets.insert(None, any);
        }
        targets
    }

    /// The edge to a state: what ends there is in its lists, what is left is the state.
    fn edge(&self, tails: Tails, states: &mut States, lists: &mut Lists) -> Edge {
        let (mut here, mut below, mut any) = (BTreeSet::new(), BTreeSet::new(), false);
        let mut rest = Tails::new();
        for tail in tails {
            match &self.tails[tail] {
                Tail::End { below: true, owner } => _ = below.insert(*owner),
                Tail::End { below: false, owner } => _ = here.insert(*owner),
                Tail::Then { token, .. } => {
                    any |= *token == Token::Any;
                    rest.insert(tail);
                }
            }
        }
        Edge {
            here: lists.number(&here),
            below: lists.number(&below),
            any: u32::from(any),
            next: states.number(rest),
        }
    }
}

/// States that were met, and those whose edges are still to be found.
#[derive(Default)]
struct States {
    numbers: BTreeMap<Tails, u32>,
    queue: VecDeque<(u32, Tails)>,
}

impl States {
    fn number(&mut self, tails: Tails) -> u32 {
        if tails.is_empty() {
            return 0;
        }
        if let Some(number) = self.numbers.get(&tails) {
            return *number;
        }
        let number = self.numbers.len() as u32 + 1;
        self.numbers.insert(tails.clone(), number);
        self.queue.push_back((number, tails));
        number
    }
}
