//! Patterns onto bits.

use std::collections::BTreeMap;

use treeline_abi::{
    name,
    paths::{
        Accept, DEVICES_MAX, DeviceKey, Mask, NAMES_MAX, Operation, Table, WILD_LEN_MAX, WILD_MAX, WORDS,
        Wild,
    },
};

use super::pattern::{Devices, Pattern, Token};
use crate::glob::Component;

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
            Self::Names(count) => {
                format!("it has {count} different names of path components; at most {NAMES_MAX} fit")
            }
            Self::Wilds(count) => {
                format!("it has {count} different names with `*` in them; at most {WILD_MAX} fit")
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
    pub(super) names: Vec<(u64, Mask)>,
    pub(super) wilds: Vec<Wild>,
    pub(super) devices: Vec<(DeviceKey, Mask)>,
    pub(super) accepts: Vec<(u32, Accept)>,
}

/// Lays patterns out, each within one word.
pub(super) fn lay_out(mut patterns: Vec<(Owner, Pattern)>, seed: u64, slot: u32) -> Result<Layout, Full> {
    // Longest first wastes the least; the rest of the order makes the result independent of the text.
    patterns.sort_by(|left, right| right.1.bits().cmp(&left.1.bits()).then_with(|| left.cmp(right)));
    let mut builder = Builder::default();
    for (owner, pattern) in &patterns {
        let first = builder.room(pattern.bits()).ok_or(Full::Words)?;
        builder.pattern(first, *owner, pattern);
    }
    builder.finish(seed, slot)
}

struct Builder {
    /// Bits taken in each word.
    taken: [usize; WORDS],
    table: Table,
    names: BTreeMap<Vec<u8>, Mask>,
    wilds: BTreeMap<(Vec<u8>, Vec<u8>), Mask>,
    devices: BTreeMap<u32, Mask>,
    accepts: BTreeMap<u32, Accept>,
}

impl Default for Builder {
    fn default() -> Self {
        let table = Table {
            generation: 0,
            seed: 0,
            words: 0,
            wilds: 0,
            unresolved_rule: 0,
            enforcing: 0,
            start: Mask::EMPTY,
            star: Mask::EMPTY,
            any: Mask::EMPTY,
            any_device: Mask::EMPTY,
            operation: [Mask::EMPTY; Operation::COUNT],
        };
        Self {
            taken: [0; WORDS],
            table,
            names: BTreeMap::new(),
            wilds: BTreeMap::new(),
            devices: BTreeMap::new(),
            accepts: BTreeMap::new(),
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

    fn pattern(&mut self, start: usize, owner: Owner, pattern: &Pattern) {
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
        self.accepts.insert(accept as u32, Accept { index: owner.index, pad: 0 });
    }

    fn finish(mut self, seed: u64, slot: u32) -> Result<Layout, Full> {
        if self.wilds.len() > WILD_MAX {
            return Err(Full::Wilds(self.wilds.len()));
        }
        if self.devices.len() > DEVICES_MAX as usize {
            return Err(Full::Devices(self.devices.len()));
        }
        // The kernel asks either the table of names or the globs, so a name carries what the globs say of it.
        // Names whose hashes collide share an entry: that can only match more.
        let mut names: BTreeMap<u64, Mask> = BTreeMap::new();
        for (literal, mask) in &self.names {
            let entry = names.entry(name::hash(seed, literal)).or_default();
            add(entry, mask);
            add(entry, &self.table.any);
            for ((prefix, suffix), mask) in &self.wilds {
                let wild = Component::Wild { prefix: prefix.clone(), suffix: suffix.clone() };
                if wild.matches(literal) {
                    add(entry, mask);
                }
            }
        }
        if names.len() > NAMES_MAX as usize {
            return Err(Full::Names(names.len()));
        }
        for mask in self.devices.values_mut() {
            add(mask, &self.table.any_device);
        }
        self.table.seed = seed;
        self.table.words = self.taken.iter().filter(|taken| **taken > 0).count() as u32;
        self.table.wilds = self.wilds.len() as u32;
        Ok(Layout {
            table: self.table,
            names: names.into_iter().collect(),
            wilds: self.wilds.iter().map(|((prefix, suffix), mask)| wild(prefix, suffix, *mask)).collect(),
            devices: self
                .devices
                .into_iter()
                .map(|(device, mask)| (DeviceKey { slot, device }, mask))
                .collect(),
            accepts: self.accepts.into_iter().collect(),
        })
    }
}

fn wild(prefix: &[u8], suffix: &[u8], mask: Mask) -> Wild {
    // `Glob::parse` refuses longer ones.
    let pad = |text: &[u8]| {
        let mut bytes = [0; WILD_LEN_MAX];
        bytes[..text.len()].copy_from_slice(text);
        bytes
    };
    Wild {
        prefix_len: prefix.len() as u32,
        suffix_len: suffix.len() as u32,
        prefix: pad(prefix),
        suffix: pad(suffix),
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
