//! The kernel's algorithm over [`Tables`], step by step as `treeline_abi::paths` describes it.
//!
//! It exists to be compared with [`crate::eval`], and to decide in user space where there are no kernel programs.

use std::{collections::HashMap, net::IpAddr};

use treeline_abi::{
    name,
    network::{AbstractRule, PrefixRules},
    paths::{
        ANY_BYTE, ANY_STATE, Accept, DEPTH_MAX, Device, DeviceKey, Edge, EdgeKey, NO_LIST, Name, Operation,
        Rule, WORDS, Wild,
    },
};
use treeline_event::Verdict;

use crate::{compile::Tables, eval::destinations, glob::split, host::Located, request::Decision};

/// Tables with the lookups that the kernel's maps have.
#[derive(Debug)]
pub struct Matcher<'t> {
    tables: &'t Tables,
    names: HashMap<u64, Name>,
    devices: HashMap<DeviceKey, Device>,
    accepts: HashMap<u32, Accept>,
    edges: HashMap<EdgeKey, Edge>,
}

/// The path is deeper than the kernel walks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unresolved;

/// Rules that an object falls under, decided one by one.
#[derive(Clone, Copy, Debug, Default)]
struct Hits {
    deny: Option<usize>,
    audit: Option<usize>,
}

impl<'t> Matcher<'t> {
    /// Makes tables searchable.
    #[must_use]
    pub fn new(tables: &'t Tables) -> Self {
        Self {
            tables,
            names: tables.names.iter().copied().collect(),
            devices: tables.devices.iter().copied().collect(),
            accepts: tables.accepts.iter().copied().collect(),
            edges: tables.edges.iter().copied().collect(),
        }
    }

    /// What the accepting positions for this file and [`Operation`] lead to.
    ///
    /// # Errors
    /// A path of [`DEPTH_MAX`] components or more.
    pub fn accepted(&self, file: &Located, operation: u32) -> Result<Vec<u32>, Unresolved> {
        let table = &self.tables.table;
        let mut state = table.start;
        let names: Vec<&[u8]> = split(&file.inner).collect();
        // The root takes the last round of the walk.
        if names.len() >= DEPTH_MAX {
            return Err(Unresolved);
        }
        let mut lists = Vec::new();
        for (depth, name) in names.iter().rev().enumerate() {
            let Name { mask, last, inner } = self.name(name);
            lists.extend([if depth == 0 { last } else { NO_LIST }, inner]);
            for word in 0..table.words as usize {
                let before = state.words[word];
                let star = table.star.words[word];
                let next = ((before << 1) & mask.words[word]) | (before & star);
                state.words[word] = next | ((next << 1) & star);
            }
        }
        let key = DeviceKey { slot: self.tables.slot, device: file.device };
        let none = Device { mask: table.any_device, root: Edge::default() };
        let device = self.devices.get(&key).unwrap_or(&none);
        self.descend(&names, device.root, &mut lists);
        let mut indices = Vec::new();
        for word in 0..WORDS.min(table.words as usize) {
            let mut accepted =
                state.words[word] & device.mask.words[word] & table.operation[operation as usize].words[word];
            while accepted != 0 {
                let position = word as u32 * 64 + accepted.trailing_zeros();
                accepted &= accepted - 1;
                indices.extend(self.accepts.get(&position).map(|accept| accept.index));
            }
        }
        for list in lists.into_iter().filter(|list| *list != NO_LIST) {
            for entry in &self.tables.lists[list as usize - 1..] {
                if entry.operations & 1 << operation != 0 {
                    indices.push(entry.index);
                }
                if entry.operations & Accept::LAST != 0 {
                    break;
                }
            }
        }
        Ok(indices)
    }

    /// From the root down through the tree.
    fn descend(&self, names: &[&[u8]], root: Edge, lists: &mut Vec<u32>) {
        let (slot, seed) = (self.tables.slot, self.tables.table.seed);
        let mut edge = root;
        lists.push(edge.below);
        for name in names {
            let key = EdgeKey { slot, state: edge.next, hash: name::hash(seed, name) };
            let any = EdgeKey { slot, state: edge.next | ANY_STATE, hash: 0 };
            let Some(next) = self.edges.get(&key).or_else(|| self.edges.get(&any).filter(|_| edge.any == 1))
            else {
                return;
            };
            edge = *next;
            lists.push(edge.below);
        }
        lists.push(edge.here);
    }

    fn name(&self, component: &[u8]) -> Name {
        let table = &self.tables.table;
        if let Some(name) = self.names.get(&name::hash(table.seed, component)) {
            return *name;
        }
        let mut mask = table.any;
        let ends = component.first().zip(component.last());
        let candidates = ends.map_or(0, |(first, last)| {
            table.wilds_by_first[usize::from(*first)] & table.wilds_by_last[usize::from(*last)]
        });
        for (_, wild) in self.tables.wilds.iter().enumerate().filter(|(bit, _)| candidates & 1 << bit != 0) {
            if wild_matches(wild, component) {
                for (word, more) in mask.words.iter_mut().zip(wild.mask.words) {
                    *word |= more;
                }
            }
        }
        Name { mask, last: NO_LIST, inner: NO_LIST }
    }

    /// The exception sets of a subject. `path` is the executable's own absolute path, for exceptions that name both.
    /// A subject that cannot be resolved is in no set by path.
    #[must_use]
    pub fn subject_sets(&self, executable: &Located, path: &[u8], sha256: Option<&[u8; 32]>) -> u64 {
        let by_path = self.accepted(executable, Operation::SUBJECT).unwrap_or_default();
        let by_path = by_path.into_iter().fold(0, |sets, number| sets | 1 << number);
        by_path | sha256.map_or(0, |digest| self.tables.image_rules(digest, Some(path)).exceptions)
    }

    /// Decides an operation on a file, execution (with the content, if known) or a connect to a unix socket.
    #[must_use]
    pub fn decide_path(
        &self,
        sets: u64,
        file: &Located,
        operation: u32,
        sha256: Option<&[u8; 32]>,
    ) -> Decision {
        let Ok(mut rules) = self.accepted(file, operation) else {
            return match self.tables.table.unresolved_rule {
                0 => Decision::ALLOW,
                rule => Decision { verdict: Verdict::Deny, rule: Some(rule as usize - 1) },
            };
        };
        if operation == Operation::EXEC
            && let Some(digest) = sha256
        {
            rules.extend(self.tables.image_rules(digest, None).exec_rule.checked_sub(1));
        }
        self.decide(sets, rules)
    }

    /// Decides a connect to an address.
    #[must_use]
    pub fn decide_connect(&self, sets: u64, address: IpAddr, port: u16) -> Decision {
        let rules = destinations(address).filter_map(|address| match address {
            IpAddr::V4(v4) => longest(
                self.tables
                    .prefixes4
                    .iter()
                    .map(|(len, key, value)| (*len - 32, key.address.as_slice(), value)),
                &v4.octets(),
            ),
            IpAddr::V6(v6) => longest(
                self.tables
                    .prefixes6
                    .iter()
                    .map(|(len, key, value)| (*len - 32, key.address.as_slice(), value)),
                &v6.octets(),
            ),
        });
        let hits = rules.flat_map(|rules| rules.rules.iter().take(rules.count as usize));
        let hits =
            hits.filter(|rule| (rule.port_first..=rule.port_last).contains(&port)).map(|rule| rule.rule);
        self.decide(sets, hits)
    }

    /// Decides a connect to a unix socket by abstract name, given without `@`.
    #[must_use]
    pub fn decide_abstract(&self, sets: u64, name: &[u8]) -> Decision {
        let [head, tail] = AbstractRule::words_of(name);
        let differs = |words: &[u64], masks: &[u64], wanted: &[u64]| {
            words.iter().zip(masks).zip(wanted).any(|((word, mask), wanted)| word & mask != *wanted)
        };
        let matches = |entry: &&AbstractRule| {
            (entry.len_min..=entry.len_max).contains(&(name.len() as u32))
                && !differs(&head, &entry.prefix_mask, &entry.prefix)
                && !differs(&tail, &entry.suffix_mask, &entry.suffix)
        };
        self.decide(sets, self.tables.abstracts.iter().filter(matches).map(|entry| entry.rule - 1))
    }

    /// Decides the making of a raw socket.
    #[must_use]
    pub fn decide_raw(&self, sets: u64) -> Decision {
        self.decide_by(sets, Rule::BY_ADDRESS)
    }

    /// Decides access to a process outside of the session.
    #[must_use]
    pub fn decide_trace(&self, sets: u64) -> Decision {
        self.decide_by(sets, Rule::TRACE)
    }

    /// Decides what every rule with this bit matches.
    fn decide_by(&self, sets: u64, bit: u32) -> Decision {
        let rules = self.tables.rules.iter().zip(0u32..);
        self.decide(sets, rules.filter(|(rule, _)| rule.operations & bit != 0).map(|(_, index)| index))
    }

    fn decide(&self, sets: u64, rules: impl IntoIterator<Item = u32>) -> Decision {
        let mut hits = Hits::default();
        for index in rules {
            let Some(rule) = self.tables.rules.get(index as usize) else { continue };
            if rule.exceptions & sets != 0 {
                continue;
            }
            let class = if rule.enforce == 1 { &mut hits.deny } else { &mut hits.audit };
            let index = index as usize;
            *class = Some(class.map_or(index, |first| first.min(index)));
        }
        match hits {
            Hits { deny: Some(rule), .. } => Decision { verdict: Verdict::Deny, rule: Some(rule) },
            Hits { audit: Some(rule), .. } => Decision { verdict: Verdict::Audit, rule: Some(rule) },
            Hits { .. } => Decision::ALLOW,
        }
    }
}

fn wild_matches(wild: &Wild, name: &[u8]) -> bool {
    let prefix = &wild.prefix[..wild.prefix_len as usize];
    let suffix = &wild.suffix[..wild.suffix_len as usize];
    let fits = |part: &[u8], bytes: &[u8]| {
        part.iter().zip(bytes).all(|(want, byte)| *want == ANY_BYTE || want == byte)
    };
    let len = prefix.len() + suffix.len();
    (name.len() == len || (wild.gap == 1 && name.len() > len))
        && fits(prefix, name)
        && fits(suffix, &name[name.len() - suffix.len()..])
}

/// The value of the longest prefix that covers an address, as a trie map finds it.
fn longest<'a>(
    prefixes: impl Iterator<Item = (u32, &'a [u8], &'a PrefixRules)>,
    address: &[u8],
) -> Option<&'a PrefixRules> {
    let covers = |len: u32, prefix: &[u8]| {
        (0..len as usize).all(|bit| (prefix[bit / 8] ^ address[bit / 8]) & (0x80 >> (bit % 8)) == 0)
    };
    prefixes
        .filter(|(len, prefix, _)| covers(*len, prefix))
        .max_by_key(|(len, _, _)| *len)
        .map(|(_, _, value)| value)
}
