//! Paths that were used, as few patterns.
//!
//! A tree of names. Names of one run only become patterns as they come in ([`shape`](super::shape)); names that differ in
//! their numbers, and directories with many entries, are generalised when all are there, from the leaves up.
//!
//! Invariant: nothing that the guard protects is matched by what was generalised.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    ends::Ends,
    place::Guard,
    seen::Facts,
    shape::{exact, numbered, of_one_run},
};
use crate::glob::{Anchor, Component, Glob, Wild};

/// Siblings that differ in their numbers from which on a pattern stands for them.
const NUMBERED_MIN: usize = 3;
/// How many times more entries of a directory are executed until it stands for them: each is a program.
const EXECUTED_FACTOR: usize = 8;
/// Directories of the root whose entries have little to do with each other.
const MIXED: [&[u8]; 7] = [b"boot", b"dev", b"etc", b"home", b"proc", b"root", b"sys"];
/// The ones below which everybody makes files of his own.
const SCRATCH: [&[u8]; 1] = [b"tmp"];

/// How far things are generalised.
#[derive(Clone, Debug)]
pub(super) struct Level {
    /// Entries of a directory from which on it stands for them.
    pub(super) siblings: usize,
    /// Names with `*` or `?` that there may be, where not each may: `*` stands for the others.
    pub(super) kept: Option<BTreeSet<Wild>>,
}

/// A pattern with what it was made from.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) glob: Glob,
    pub(super) facts: Facts,
}

/// A path that no pattern can stand for without standing for something protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unnameable;

#[derive(Debug, Default)]
struct Node {
    facts: Option<Facts>,
    children: BTreeMap<Component, Node>,
}

/// The paths of one kind.
#[derive(Debug)]
pub(super) struct Tree<'g> {
    guard: &'g Guard<'g>,
    level: &'g Level,
    /// They are executed.
    is_executed: bool,
    roots: BTreeMap<Anchor, Node>,
}

impl<'g> Tree<'g> {
    pub(super) fn new(guard: &'g Guard<'g>, level: &'g Level, is_executed: bool) -> Self {
        Self { guard, level, is_executed, roots: BTreeMap::new() }
    }

    /// Takes a path by its names.
    ///
    /// # Errors
    /// There is no pattern for it.
    pub(super) fn add(&mut self, anchor: Anchor, names: &[&[u8]], facts: &Facts) -> Result<(), Unnameable> {
        if names.is_empty() && anchor == Anchor::Root {
            return Err(Unnameable);
        }
        let mut path: Vec<Component> = Vec::with_capacity(names.len());
        for (at, name) in names.iter().enumerate() {
            let parent = if at > 0 { names[at - 1] } else { b"" };
            let component = self.component(anchor, &mut path, name, parent)?;
            path.push(component);
        }
        let root = self.roots.entry(anchor).or_default();
        let node = path.into_iter().fold(root, |node, component| node.children.entry(component).or_default());
        merge_facts(&mut node.facts, Some(facts));
        Ok(())
    }

    /// What stands for a name below `path`.
    fn component(
        &self,
        anchor: Anchor,
        path: &mut Vec<Component>,
        name: &[u8],
        parent: &[u8],
    ) -> Result<Component, Unnameable> {
        let exact = exact(name);
        if let Some(general) = of_one_run(name, parent).map(|found| self.bounded(found))
            && self.lets(anchor, path, &general)
        {
            return Ok(general);
        }
        if matches!(exact, Component::Literal(_)) {
            return Ok(exact);
        }
        let exact = self.bounded(exact);
        if self.lets(anchor, path, &exact) { Ok(exact) } else { Err(Unnameable) }
    }

    /// With `*` for what there is no room for.
    fn bounded(&self, component: Component) -> Component {
        match (&component, &self.level.kept) {
            (Component::Wild(wild), Some(kept)) if !kept.contains(wild) => Component::Any,
            _ => component,
        }
    }

    /// Whether a component can stand at the end of `path`, with everything below it.
    fn lets(&self, anchor: Anchor, path: &mut Vec<Component>, component: &Component) -> bool {
        path.extend([component.clone(), Component::Globstar]);
        let lets = self.guard.lets(anchor, path);
        path.truncate(path.len() - 2);
        lets
    }

    /// The patterns, in their order.
    pub(super) fn finish(mut self) -> Vec<Found> {
        let mut found = Vec::new();
        for (anchor, mut root) in std::mem::take(&mut self.roots) {
            let mut path = Vec::new();
            self.settle(anchor, &mut root, &mut path);
            collect(anchor, root, &mut path, &mut found);
        }
        found
    }

    /// Generalises a directory and all below. No deeper than a path that is judged, so recursion is bounded.
    fn settle(&self, anchor: Anchor, node: &mut Node, path: &mut Vec<Component>) {
        self.merge_numbered(anchor, node, path);
        absorb(node);
        for (component, child) in &mut node.children {
            path.push(component.clone());
            self.settle(anchor, child, path);
            path.pop();
        }
        self.collapse(anchor, node, path);
    }

    /// Has a pattern stand for siblings that differ in their numbers.
    fn merge_numbered(&self, anchor: Anchor, node: &mut Node, path: &mut Vec<Component>) {
        let mut groups: BTreeMap<Component, Vec<Component>> = BTreeMap::new();
        for child in node.children.keys() {
            if let Component::Literal(name) = child
                && let Some(pattern) = numbered(name)
            {
                groups.entry(self.bounded(pattern)).or_default().push(child.clone());
            }
        }
        let least = NUMBERED_MIN.max(if self.is_executed { self.level.siblings } else { 0 });
        for (pattern, members) in groups {
            if members.len() >= least && self.lets(anchor, path, &pattern) {
                let merged =
                    members.iter().filter_map(|member| node.children.remove(member)).collect::<Vec<_>>();
                let into = node.children.entry(pattern).or_default();
                merged.into_iter().for_each(|child| merge(into, child));
            }
        }
    }

    /// Has a directory stand for its entries, where they are many.
    fn collapse(&self, anchor: Anchor, node: &mut Node, path: &mut Vec<Component>) {
        let least = self.level.siblings * if self.is_executed { EXECUTED_FACTOR } else { 1 };
        let inner = node.children.values().filter(|child| !child.children.is_empty()).count();
        let leaves = node.children.len() - inner;
        let is_top = |names: &[&[u8]]| match (anchor, path.as_slice()) {
            (Anchor::Root, [Component::Literal(top)]) => names.contains(&top.as_slice()),
            _ => false,
        };
        let is_deep = path.len() >= if anchor == Anchor::Home { 1 } else { 2 } || is_top(&SCRATCH);
        let is_flat = !path.is_empty() && !is_top(&MIXED);
        if inner >= 2 && inner + leaves >= least && is_deep && self.ends(anchor, path, Component::Globstar) {
            let children = std::mem::take(&mut node.children);
            let mut whole = Node { facts: node.facts.take(), children: BTreeMap::new() };
            children.into_values().for_each(|child| flatten(child, &mut whole.facts));
            node.children.insert(Component::Globstar, whole);
        } else if leaves >= least && is_flat && self.ends(anchor, path, Component::Any) {
            let children = std::mem::take(&mut node.children);
            let (many, rest): (Vec<_>, Vec<_>) =
                children.into_iter().partition(|(_, child)| child.children.is_empty());
            node.children = rest.into_iter().collect();
            let into = node.children.entry(Component::Any).or_default();
            many.into_iter().for_each(|(_, child)| merge_facts(&mut into.facts, child.facts.as_ref()));
        }
    }

    fn ends(&self, anchor: Anchor, path: &mut Vec<Component>, last: Component) -> bool {
        path.push(last);
        let lets = self.guard.lets(anchor, path);
        path.pop();
        lets
    }
}

fn merge_facts(into: &mut Option<Facts>, facts: Option<&Facts>) {
    if let Some(facts) = facts {
        into.get_or_insert_default().merge(facts);
    }
}

fn merge(into: &mut Node, node: Node) {
    merge_facts(&mut into.facts, node.facts.as_ref());
    for (component, child) in node.children {
        merge(into.children.entry(component).or_default(), child);
    }
}

fn flatten(node: Node, facts: &mut Option<Facts>) {
    merge_facts(facts, node.facts.as_ref());
    node.children.into_values().for_each(|child| flatten(child, facts));
}

/// Puts names below the patterns beside them that match them.
fn absorb(node: &mut Node) {
    // Not below `*`: that is the numbers in `/proc`, and the other names there are something else.
    let is_wild = |child: &Component| matches!(child, Component::Wild(_));
    if !node.children.keys().any(is_wild) {
        return;
    }
    let names = node.children.keys().filter(|child| is_wild(child) || matches!(child, Component::Literal(_)));
    let names: Vec<Component> = names.cloned().collect();
    let ends = Ends::of(&names);
    for pattern in names.iter().filter(|child| is_wild(child)) {
        // Another one has taken it.
        if !node.children.contains_key(pattern) {
            continue;
        }
        let is_matched = |child: &Component| match child {
            Component::Literal(name) => pattern.matches(name),
            Component::Wild(_) => child != pattern && covers(pattern, child),
            Component::Any | Component::Globstar => false,
        };
        let members = ends.below(pattern).into_iter().map(|at| &names[at]).filter(|child| is_matched(child));
        let merged: Vec<Node> = members.filter_map(|member| node.children.remove(member)).collect();
        if let Some(into) = node.children.get_mut(pattern) {
            merged.into_iter().for_each(|child| merge(into, child));
        }
    }
}

fn covers(wide: &Component, other: &Component) -> bool {
    let glob = |component: &Component| Glob { anchor: Anchor::Root, components: vec![component.clone()] };
    glob(wide).covers(&glob(other))
}

fn collect(anchor: Anchor, node: Node, path: &mut Vec<Component>, found: &mut Vec<Found>) {
    if let Some(facts) = node.facts {
        found.push(Found { glob: Glob { anchor, components: path.clone() }, facts });
    }
    for (component, child) in node.children {
        path.push(component);
        collect(anchor, child, path, found);
        path.pop();
    }
}
