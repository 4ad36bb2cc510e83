//! Patterns onto the tree, onto names, and the rest onto bits.

use std::collections::{BTreeMap, BTreeSet};

use treeline_abi::{
    name,
    paths::{
        ANY_BYTE, Accept, DEVICES_MAX, Device, DeviceKey, EDGES_MAX, Edge, EdgeKey, LISTS_MAX, Mask,
        NAMES_MAX, Name, Operation, Table, WILD_LEN_MAX, WILD_MAX, WORDS, Wild as KernelWild,
    },
    subject::Subjects,
};
use treeline_event::Mode;

use super::{
    lists::Lists,
    pattern::{Devices, Pattern, Token},
    tree::{self, Tree},
    ways::Way,
};
use crate::glob::Wild;

/// Bits of a word, and so the longest pattern with its start bit.
pub(super) const WORD_BITS: usize = 64;

/// What an accepting position leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Owner {
    /// Bits over [`Operation`].
    pub(super) operations: u32,
    /// See [`Accept::index`].
    pub(super) index: u32,
}

/// Which table is too small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Words,
    Edges,
    Lists(usize),
    Names(usize),
    Wilds(usize),
    Devices(usize),
}

impl Full {
    /// What is said of it.
    pub(super) fn describe(self) -> String {
        match self {
            Self::Words => {
                format!("its patterns need more than the {} positions of the matcher", WORDS * WORD_BITS)
            }
            Self::Edges => {
                format!("the tree of its patterns needs more than {EDGES_MAX} entries")
            }
            Self::Lists(count) => {
                format!("what its patterns lead to needs {count} entries; at most {LISTS_MAX} fit")
            }
            Self::Names(count) => {
                format!("it has {count} different names of path components; at most {NAMES_MAX} fit")
            }
            Self::Wilds(count) => {
                format!("it has {count} different names with `*` or `?` in them; at most {WILD_MAX} fit")
            }
            Self::Devices(count) => {
                format!("its paths are on {count} filesystems; at most {DEVICES_MAX} fit")
            }
        }
    }
}

/// The path tables without what does not depend on patterns.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) table: Table,
    pub(super) names: Vec<(u64, Name)>,
    pub(super) wilds: Vec<KernelWild>,
    pub(super) devices: Vec<(DeviceKey, Device)>,
    pub(super) accepts: Vec<(u32, Accept)>,
    pub(super) edges: Vec<(EdgeKey, Edge)>,
    pub(super) lists: Vec<Accept>,
    /// Rules of ways for which there was no room.
    pub(super) left_out: BTreeSet<u32>,
}

/// Lays patterns out: in the tree or with the names where that is possible, else each within one word. `ways` have to be
/// told from one another, so each gets a position, as long as there are some left.
pub(super) fn lay_out(
    mut patterns: Vec<(Owner, Pattern)>,
    ways: &[Way],
    seed: u64,
    slot: u32,
) -> Result<Layout, Full> {
    // Longest first wastes the least; the rest of the order makes the result independent of the text.
    patterns.sort_by(|left, right| right.1.bits().cmp(&left.1.bits()).then_with(|| left.cmp(right)));
    let mut builder = Builder::default();
    for (owner, pattern) in &patterns {
        if let Some(devices) = tree::devices(pattern) {
            builder.tree.add(*owner, pattern, devices);
        } else if let Some((literals, inner)) = everywhere(pattern) {
            for literal in literals {
                let ends = builder.ends.entry(literal.clone()).or_default();
                let owners = if inner { &mut ends.inner } else { &mut ends.last };
                owners.insert(*owner);
            }
        } else {
            let first = builder.room(pattern.bits()).ok_or(Full::Words)?;
            builder.pattern(first, *owner, pattern);
        }
    }
    for way in ways {
        builder.way(way);
    }
    builder.finish(seed, slot)
}

/// Whether a pattern is `**/NAME` or `**/NAME/**`: its names, and whether it is the latter.
fn everywhere(pattern: &Pattern) -> Option<(&BTreeSet<Vec<u8>>, bool)> {
    if pattern.devices != Devices::Everywhere {
        return None;
    }
    let (names, inner) = match pattern.tokens.as_slice() {
        [names, Token::Globstar] => (names, false),
        [Token::Globstar, names, Token::Globstar] => (names, true),
        _ => return None,
    };
    match names {
        Token::Names { literals, wilds } if wilds.is_empty() => Some((literals, inner)),
        _ => None,
    }
}

/// What ends with a name, wherever it is met.
#[derive(Default)]
struct Ends {
    last: BTreeSet<Owner>,
    inner: BTreeSet<Owner>,
}

struct Builder {
    /// Bits taken in each word.
    taken: [usize; WORDS],
    table: Table,
    names: BTreeMap<Vec<u8>, Mask>,
    ends: BTreeMap<Vec<u8>, Ends>,
    wilds: BTreeMap<Wild, Mask>,
    devices: BTreeMap<u32, Mask>,
    accepts: BTreeMap<u32, Accept>,
    tree: Tree,
    left_out: BTreeSet<u32>,
}

impl Default for Builder {
    fn default() -> Self {
        let table = Table {
            generation: 0,
            policy: 0,
            seed: 0,
            words: 0,
            wilds: 0,
            unresolved_files: 0,
            unresolved_exec: 0,
            unresolved_connect: 0,
            foreign_ring: 0,
            enforcing: 0,
            judges_mappings: 0,
            adopts: [0; 3],
            pad: 0,
            start: Mask::EMPTY,
            star: Mask::EMPTY,
            any: Mask::EMPTY,
            any_device: Mask::EMPTY,
            operation: [Mask::EMPTY; Operation::COUNT],
            ways: [Mask::EMPTY; 2],
            wilds_by_first: [0; 256],
            wilds_by_last: [0; 256],
            subjects: Subjects::NONE,
        };
        Self {
            taken: [0; WORDS],
            table,
            names: BTreeMap::new(),
            ends: BTreeMap::new(),
            wilds: BTreeMap::new(),
            devices: BTreeMap::new(),
            accepts: BTreeMap::new(),
            tree: Tree::default(),
            left_out: BTreeSet::new(),
        }
    }
}

impl Builder {
    /// The position of the first of `bits` free bits in one word.
    fn room(&mut self, bits: usize) -> Option<usize> {
        let word = self.taken.iter().position(|taken| taken + bits <= WORD_BITS)?;
        let first = word * WORD_BITS + self.taken[word];
        self.taken[word] += bits;
        Some(first)
    }

    /// Adds the beginning of a pattern, or notes that there is no room for it.
    fn way(&mut self, way: &Way) {
        let literals = way.pattern.tokens.iter().map(|token| match token {
            Token::Names { literals, .. } => literals.len(),
            Token::Any | Token::Globstar => 0,
        });
        // Some of them may be there already.
        let names = self.names.len() + self.ends.len() + literals.sum::<usize>();
        let first = if names > NAMES_MAX as usize { None } else { self.room(way.pattern.bits()) };
        match first {
            Some(first) => {
                let index = way.rules.first().copied().unwrap_or_default();
                let accept = self.pattern(first, Owner { operations: 0, index }, &way.pattern);
                set(&mut self.table.ways[usize::from(way.mode == Mode::Enforce)], accept);
            }
            None => self.left_out.extend(&way.rules),
        }
    }

    /// Puts a pattern where there is room for it; returns the position at which it accepts.
    fn pattern(&mut self, start: usize, owner: Owner, pattern: &Pattern) -> usize {
        set(&mut self.table.start, start);
        for (index, token) in pattern.tokens.iter().enumerate() {
            let position = start + 1 + index;
            match token {
                Token::Any => set(&mut self.table.any, position),
                Token::Globstar => {
                    set(&mut self.table.star, position);
                    if index == 0 {
                        set(&mut self.table.start, position);
                    }
                }
                Token::Names { literals, wilds } => {
                    for literal in literals {
                        set(self.names.entry(literal.clone()).or_default(), position);
                    }
                    for wild in wilds {
                        set(self.wilds.entry(wild.clone()).or_default(), position);
                    }
                }
            }
        }
        // Without tokens the root of the filesystem itself is meant: no component follows the start bit.
        let accept = start + pattern.tokens.len();
        for (operation, mask) in self.table.operation.iter_mut().enumerate() {
            if owner.operations & (1 << operation) != 0 {
                set(mask, accept);
            }
        }
        match &pattern.devices {
            Devices::Everywhere => set(&mut self.table.any_device, accept),
            Devices::Some(devices) => {
                for device in devices {
                    set(self.devices.entry(*device).or_default(), accept);
                }
            }
        }
        self.accepts.insert(accept as u32, Accept { index: owner.index, operations: 0 });
        accept
    }

    fn finish(mut self, seed: u64, slot: u32) -> Result<Layout, Full> {
        if self.wilds.len() > WILD_MAX {
            return Err(Full::Wilds(self.wilds.len()));
        }
        let mut lists = Lists::default();
        let names = self.names(seed, &mut lists)?;
        let tree = std::mem::take(&mut self.tree).finish(seed, slot, &mut lists)?;
        if lists.len() > LISTS_MAX as usize {
            return Err(Full::Lists(lists.len()));
        }
        let mut devices: BTreeMap<u32, Device> = BTreeMap::new();
        for (device, mask) in &self.devices {
            add(&mut devices.entry(*device).or_default().mask, mask);
        }
        for (device, root) in tree.roots {
            devices.entry(device).or_default().root = root;
        }
        if devices.len() > DEVICES_MAX as usize {
            return Err(Full::Devices(devices.len()));
        }
        for device in devices.values_mut() {
            add(&mut device.mask, &self.table.any_device);
        }
        self.table.seed = seed;
        self.table.words = self.taken.iter().filter(|taken| **taken > 0).count() as u32;
        self.table.wilds = self.wilds.len() as u32;
        self.index_wilds();
        Ok(Layout {
            table: self.table,
            names: names.into_iter().collect(),
            wilds: self.wilds.iter().map(|(wild, mask)| kernel_wild(wild, *mask)).collect(),
            devices: devices.into_iter().map(|(device, value)| (DeviceKey { slot, device }, value)).collect(),
            accepts: self.accepts.into_iter().collect(),
            edges: tree.edges,
            lists: lists.into_entries(),
            left_out: self.left_out,
        })
    }

    /// What each name means. The kernel asks either the table of names or the globs, so a name carries what the globs
    /// say of it. Names whose hashes collide share an entry: that can only match more.
    fn names(&self, seed: u64, lists: &mut Lists) -> Result<BTreeMap<u64, Name>, Full> {
        let none = (Mask::EMPTY, Ends::default());
        let mut sums: BTreeMap<u64, (Mask, Ends)> = BTreeMap::new();
        for literal in self.names.keys().chain(self.ends.keys()) {
            let (sum, _) = sums.entry(name::hash(seed, literal)).or_insert_with(|| (none.0, Ends::default()));
            add(sum, &self.table.any);
            add(sum, self.names.get(literal).unwrap_or(&none.0));
            for (_, mask) in self.wilds.iter().filter(|(wild, _)| wild.matches(literal)) {
                add(sum, mask);
            }
        }
        for (literal, ends) in &self.ends {
            if let Some((_, sum)) = sums.get_mut(&name::hash(seed, literal)) {
                sum.last.extend(&ends.last);
                sum.inner.extend(&ends.inner);
            }
        }
        if sums.len() > NAMES_MAX as usize {
            return Err(Full::Names(sums.len()));
        }
        let name = |(mask, ends): (Mask, Ends), lists: &mut Lists| Name {
            mask,
            last: lists.number(&ends.last),
            inner: lists.number(&ends.inner),
        };
        Ok(sums.into_iter().map(|(hash, sum)| (hash, name(sum, lists))).collect())
    }

    /// Which globs a name can match, by its first and last byte.
    fn index_wilds(&mut self) {
        for (number, wild) in self.wilds.keys().enumerate() {
            let first = wild.prefix.first().or_else(|| wild.suffix.first().filter(|_| !wild.gap));
            let last = wild.suffix.last().or_else(|| wild.prefix.last().filter(|_| !wild.gap));
            let tables = [(&mut self.table.wilds_by_first, first), (&mut self.table.wilds_by_last, last)];
            for (table, byte) in tables {
                match byte.filter(|byte| **byte != ANY_BYTE) {
                    Some(byte) => table[usize::from(*byte)] |= 1 << number,
                    None => table.iter_mut().for_each(|globs| *globs |= 1 << number),
                }
            }
        }
    }
}

fn kernel_wild(wild: &Wild, mask: Mask) -> KernelWild {
    // `Glob::parse` refuses longer ones.
    let pad = |text: &[u8]| {
        let mut bytes = [0; WILD_LEN_MAX];
        bytes[..text.len()].copy_from_slice(text);
        bytes
    };
    KernelWild {
        prefix_len: wild.prefix.len() as u32,
        suffix_len: wild.suffix.len() as u32,
        prefix: pad(&wild.prefix),
        suffix: pad(&wild.suffix),
        gap: u32::from(wild.gap),
        pad: 0,
        mask,
    }
}

fn set(mask: &mut Mask, position: usize) {
    mask.words[position / WORD_BITS] |= 1 << (position % WORD_BITS);
}

fn add(mask: &mut Mask, other: &Mask) {
    for (word, more) in mask.words.iter_mut().zip(other.words) {
        *word |= more;
    }
}
