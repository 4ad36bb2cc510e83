//! Patterns by the paths that they name, so that not each is asked about each path.

use std::collections::{BTreeSet, HashMap};

use super::{
    ends::of_components,
    pattern::{Pattern, What},
    seen::Act,
};
use crate::{
    glob::{Anchor, Component, split},
    host::Host,
};

/// Numbers of patterns by what the paths begin with, or end with, that they match.
#[derive(Debug, Default)]
struct Parts {
    by_part: HashMap<Vec<u8>, Vec<usize>>,
    /// Each length that there is.
    lens: BTreeSet<usize>,
}

impl Parts {
    fn add(&mut self, part: Vec<u8>, at: usize) {
        self.lens.insert(part.len());
        self.by_part.entry(part).or_default().push(at);
    }

    /// Those of some parts of a text, which are asked for by their lengths.
    fn of<'p>(&'p self, len: usize, part: impl Fn(usize) -> &'p [u8]) -> impl Iterator<Item = usize> {
        let parts = self.lens.range(..=len).map(move |len| part(*len));
        parts.filter_map(|part| self.by_part.get(part)).flatten().copied()
    }
}

/// The patterns.
pub(super) struct Index<'h> {
    host: &'h Host,
    patterns: &'h [Pattern],
    /// Those without anything but names.
    exact: HashMap<Vec<u8>, Vec<usize>>,
    starts: Parts,
    ends: Parts,
    /// Those for what has no path.
    others: Vec<usize>,
}

impl<'h> Index<'h> {
    pub(super) fn of(patterns: &'h [Pattern], host: &'h Host) -> Self {
        let (starts, ends) = (Parts::default(), Parts::default());
        let mut index = Self { host, patterns, exact: HashMap::new(), starts, ends, others: Vec::new() };
        let mut wild: Vec<(usize, BTreeSet<Vec<u8>>, Vec<u8>)> = Vec::new();
        for (at, pattern) in patterns.iter().enumerate() {
            let What::Path(glob) = &pattern.what else {
                index.others.push(at);
                continue;
            };
            let (start, end) = of_components(&glob.components);
            let starts = index.anchored(glob.anchor, &start);
            if glob.components.iter().all(|component| matches!(component, Component::Literal(_))) {
                starts.into_iter().for_each(|path| index.exact.entry(path).or_default().push(at));
            } else {
                wild.push((at, starts, end));
            }
        }
        index.add(wild);
        index
    }

    /// A path below an anchor, wherever that is.
    fn anchored(&self, anchor: Anchor, below: &[u8]) -> BTreeSet<Vec<u8>> {
        match anchor {
            Anchor::Root => BTreeSet::from([below.to_vec()]),
            Anchor::Home => {
                self.host.home_paths().map(|home| [normal(home).as_slice(), below].concat()).collect()
            }
        }
    }

    /// Takes each by its beginnings or by its end: by what fewer have in common with it.
    fn add(&mut self, wild: Vec<(usize, BTreeSet<Vec<u8>>, Vec<u8>)>) {
        let mut counts: HashMap<(bool, Vec<u8>), usize> = HashMap::new();
        for (_, starts, end) in &wild {
            starts.iter().for_each(|start| *counts.entry((true, start.clone())).or_default() += 1);
            *counts.entry((false, end.clone())).or_default() += 1;
        }
        for (at, starts, end) in wild {
            let by_start = starts.iter().map(|start| counts[&(true, start.clone())]).max();
            if by_start.unwrap_or(0) <= counts[&(false, end.clone())] {
                starts.into_iter().for_each(|start| self.starts.add(start, at));
            } else {
                self.ends.add(end, at);
            }
        }
    }

    /// The patterns that match what was done, each once.
    pub(super) fn matching(&self, act: &Act) -> Vec<usize> {
        let is_for = |at: &usize| self.patterns[*at].is_for(act);
        let matches = |at: &usize| is_for(at) && self.patterns[*at].matches(self.host, act);
        let Some(path) = act.thing.path() else {
            return self.others.iter().copied().filter(matches).collect();
        };
        let path = normal(path);
        let len = path.len();
        let mut found: Vec<usize> =
            self.exact.get(&path).into_iter().flatten().copied().filter(is_for).collect();
        found.extend(self.starts.of(len, |part| &path[..part]).filter(matches));
        found.extend(self.ends.of(len, |part| &path[len - part..]).filter(matches));
        // Of two homes of which one is in the other, both may be found.
        found.sort_unstable();
        found.dedup();
        found
    }
}

fn normal(path: &[u8]) -> Vec<u8> {
    split(path).flat_map(|name| [b"/", name].concat()).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        glob::Glob,
        host::Home,
        learn::{
            Kind,
            ends::tests::component,
            seen::{Facts, READ, Thing},
        },
    };

    fn pattern((anchor, components): (bool, Vec<Component>)) -> Pattern {
        let anchor = if anchor { Anchor::Home } else { Anchor::Root };
        let facts = Facts { operations: READ, ..Facts::default() };
        Pattern { kind: Kind::Read, what: What::Path(Glob { anchor, components }), facts, only: None }
    }

    fn any_component() -> impl Strategy<Value = Component> {
        prop_oneof![4 => component(), 1 => Just(Component::Globstar)]
    }

    proptest! {
        /// As when each pattern is asked.
        #[test]
        fn those_that_match_are_found_once(
            patterns in prop::collection::vec((any::<bool>(), prop::collection::vec(any_component(), 1..5)), 0..16),
            paths in prop::collection::vec("(/[ab]{1,3}){0,5}/?", 1..8),
        ) {
            let home = |path: &str| Home { uid: 1, path: path.into() };
            let host = Host { homes: vec![home("/a"), home("/a/b"), home("/")] };
            let patterns: Vec<Pattern> = patterns.into_iter().map(pattern).collect();
            let index = Index::of(&patterns, &host);
            for path in paths {
                let act = Act { thing: Thing::File(path.into_bytes(), READ), by: Some(Arc::from(&b"/x"[..])) };
                let each = (0..patterns.len()).filter(|at| patterns[*at].matches(&host, &act));
                prop_assert_eq!(index.matching(&act), each.collect::<Vec<_>>(), "{:?}", act);
            }
        }
    }
}
