//! The kernel's algorithm over [`Tables`], step by step as `treeline_abi::paths` describes it.
//!
//! It exists to be compared with [`crate::eval`], and to decide in user space where there are no kernel programs.

use std::{collections::HashMap, net::IpAddr};

use treeline_abi::{
    lift::{LIFT, LIFTS_MAX, Lift},
    name,
    network::{AbstractRule, PrefixRules},
    paths::{
        ANY_BYTE, ANY_STATE, Accept, DEPTH_MAX, Device, DeviceKey, Edge, EdgeKey, Mask, NO_LIST, Name,
        Operation, Rule, WORDS, Wild,
    },
    subject::{self as label, ByContent, ByPath, Facts, SETS_MAX},
};
use treeline_event::{Mode, Verdict};

use crate::{
    compile::Tables,
    eval::destinations,
    glob::split,
    host::Located,
    request::{Decision, Executed, Lineage, Object, Request, Subject},
};

/// Tables with the lookups that the kernel's maps have.
#[derive(Debug)]
pub struct Matcher<'t> {
    tables: &'t Tables,
    names: HashMap<u64, Name>,
    devices: HashMap<DeviceKey, Device>,
    accepts: HashMap<u32, Accept>,
    edges: HashMap<EdgeKey, Edge>,
}

/// An executable that is or was run.
#[derive(Clone, Copy, Debug)]
pub struct Image<'i> {
    /// Where it is.
    pub located: &'i Located,
    /// Its own absolute path, for what asks for path and content.
    pub path: &'i [u8],
    /// SHA-256 of its content, when it is known.
    pub sha256: Option<&'i [u8; 32]>,
    /// It was started with a variable that puts other code into it.
    pub loads_code: bool,
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
        let names: Vec<&[u8]> = split(&file.inner).collect();
        let mut lists = Vec::new();
        let state = self.walk(&names, &mut lists)?;
        let device = self.device(file);
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

    /// Which beginnings of patterns a directory's path matches, of those whose first rule is in this mode: see
    /// [`treeline_abi::paths::Table::ways`].
    ///
    /// # Errors
    /// As [`Matcher::accepted`].
    pub fn ways(&self, directory: &Located, mode: Mode) -> Result<Mask, Unresolved> {
        let names: Vec<&[u8]> = split(&directory.inner).collect();
        let mut state = self.walk(&names, &mut Vec::new())?;
        let (here, ways) =
            (self.device(directory).mask, self.tables.table.ways[usize::from(mode == Mode::Enforce)]);
        for (word, wanted) in state.words.iter_mut().zip(here.words.iter().zip(ways.words)) {
            *word &= wanted.0 & wanted.1;
        }
        Ok(state)
    }

    /// From the last name up: the state of the machine at the root, and the lists of names.
    fn walk(&self, names: &[&[u8]], lists: &mut Vec<u32>) -> Result<Mask, Unresolved> {
        let table = &self.tables.table;
        let mut state = table.start;
        // The root takes the last round of the walk.
        if names.len() >= DEPTH_MAX {
            return Err(Unresolved);
        }
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
        Ok(state)
    }

    fn device(&self, file: &Located) -> Device {
        let key = DeviceKey { slot: self.tables.slot, device: file.device };
        let none = Device { mask: self.tables.table.any_device, root: Edge::default() };
        self.devices.get(&key).copied().unwrap_or(none)
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

    /// The subject sets of a subject with this lineage, of those that its session leaves.
    #[must_use]
    pub fn subject_sets(&self, image: &Image<'_>, lineage: Facts, session: Facts) -> Facts {
        let (path, content) = self.of_executable(image);
        self.tables.table.subjects.sets(path.as_ref(), &content, image.loads_code, lineage, session)
    }

    /// The subject sets of a subject of a request, whose label was there from the session's root on. `locate` says where
    /// executables are.
    #[must_use]
    pub fn sets_of(&self, subject: &Subject, locate: &dyn Fn(&[u8]) -> Located) -> Facts {
        let mut label = label::Lineage { since: self.tables.table.subjects.since, facts: Facts::UNKNOWN };
        if let Lineage::Images { images, complete } = &subject.lineage {
            if *complete {
                label.facts = Facts::default();
            }
            for Executed { path, sha256, loads_code } in images {
                let located = locate(path);
                let facts = self.lineage_of(&Image {
                    located: &located,
                    path,
                    sha256: sha256.as_ref(),
                    loads_code: *loads_code,
                });
                label.facts.sure |= facts.sure;
                label.facts.possible |= facts.possible;
            }
        }
        let Subject { executable: path, sha256, loads_code, .. } = subject;
        let located = locate(path);
        let image = Image { located: &located, path, sha256: sha256.as_ref(), loads_code: *loads_code };
        let session = self.tables.sessions.of(&subject.session);
        self.subject_sets(&image, self.tables.table.subjects.of_label(&label), session)
    }

    /// What an exec of this image adds to what a label says of lineage.
    #[must_use]
    pub fn lineage_of(&self, image: &Image<'_>) -> Facts {
        let (path, content) = self.of_executable(image);
        self.tables.table.subjects.of_image(path.as_ref(), &content, image.loads_code)
    }

    fn of_executable(&self, image: &Image<'_>) -> (Option<ByPath>, ByContent) {
        let indices =
            self.accepted(image.located, Operation::SUBJECT).ok().filter(|_| !image.path.is_empty());
        let path = indices.map(|indices| {
            let mut path = ByPath::default();
            for index in indices {
                path[index as usize / SETS_MAX] |= 1 << (index as usize % SETS_MAX);
            }
            path
        });
        let content = image.sha256.map(|digest| self.tables.image_rules(digest, Some(image.path)).subject);
        (path, content.unwrap_or_default())
    }

    /// Decides a request of a subject whose label was there from the session's root on. `locate` says where files are.
    #[must_use]
    pub fn decide(&self, request: &Request, locate: &dyn Fn(&[u8]) -> Located) -> Decision {
        let sets = self.sets_of(&request.subject, locate);
        match &request.object {
            Object::File { path, operation } => {
                self.decide_path(sets, &locate(path), *operation as u32, None)
            }
            Object::Exec { path, sha256 } => {
                self.decide_path(sets, &locate(path), Operation::EXEC, sha256.as_ref())
            }
            Object::ConnectUnix { path } => self.decide_path(sets, &locate(path), Operation::CONNECT, None),
            Object::ConnectAbstract { name } => self.decide_abstract(sets, name),
            Object::RawSocket => self.decide_raw(sets),
            Object::Trace => self.decide_trace(sets),
            // The kernel sees none of these.
            Object::Tool(_) | Object::Mcp(_) | Object::Posture(_) => Decision::ALLOW,
            Object::Connect { address, port } => self.decide_connect(sets, *address, *port),
        }
    }

    /// Decides an operation on a file, execution (with the content, if known) or a connect to a unix socket.
    #[must_use]
    pub fn decide_path(
        &self,
        sets: Facts,
        file: &Located,
        operation: u32,
        sha256: Option<&[u8; 32]>,
    ) -> Decision {
        let Ok(rules) = self.accepted(file, operation) else {
            return match self.tables.table.unresolved(1 << operation) {
                0 => Decision::ALLOW,
                rule => Decision { verdict: Verdict::Deny, rule: Some(rule as usize - 1) },
            };
        };
        let by_path = self.severest(sets, rules);
        match sha256.filter(|_| operation == Operation::EXEC) {
            // What is said of a path lifts nothing that is said of a content.
            Some(digest) => {
                let rule = self.tables.image_rules(digest, None).exec_rule.checked_sub(1);
                severer(by_path, self.severest(sets, rule))
            }
            None => by_path,
        }
    }

    /// Decides a connect to an address.
    #[must_use]
    pub fn decide_connect(&self, sets: Facts, address: IpAddr, port: u16) -> Decision {
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
        // Each of two addresses is judged by itself.
        let decided = rules.map(|rules| {
            let rules = rules.rules.iter().take(rules.count as usize);
            let hits = rules.filter(|rule| (rule.port_first..=rule.port_last).contains(&port));
            self.severest(sets, hits.map(|rule| rule.rule))
        });
        decided.fold(Decision::ALLOW, severer)
    }

    /// Decides a connect to a unix socket by abstract name, given without `@`.
    #[must_use]
    pub fn decide_abstract(&self, sets: Facts, name: &[u8]) -> Decision {
        let [head, tail] = AbstractRule::words_of(name);
        let differs = |words: &[u64], masks: &[u64], wanted: &[u64]| {
            words.iter().zip(masks).zip(wanted).any(|((word, mask), wanted)| word & mask != *wanted)
        };
        let matches = |entry: &&AbstractRule| {
            (entry.len_min..=entry.len_max).contains(&(name.len() as u32))
                && !differs(&head, &entry.prefix_mask, &entry.prefix)
                && !differs(&tail, &entry.suffix_mask, &entry.suffix)
        };
        self.severest(sets, self.tables.abstracts.iter().filter(matches).map(|entry| entry.rule - 1))
    }

    /// Decides the making of a raw socket.
    #[must_use]
    pub fn decide_raw(&self, sets: Facts) -> Decision {
        self.decide_by(sets, Rule::BY_ADDRESS)
    }

    /// Decides access to a process outside of the session.
    #[must_use]
    pub fn decide_trace(&self, sets: Facts) -> Decision {
        self.decide_by(sets, Rule::TRACE)
    }

    /// Decides what every rule with this bit matches.
    fn decide_by(&self, sets: Facts, bit: u32) -> Decision {
        let rules = self.tables.rules.iter().zip(0u32..);
        self.severest(sets, rules.filter(|(rule, _)| rule.operations & bit != 0).map(|(_, index)| index))
    }

    /// Decides among rules, without those that a lift among them takes away.
    fn severest(&self, sets: Facts, indices: impl IntoIterator<Item = u32>) -> Decision {
        let (lifts, rules): (Vec<u32>, Vec<u32>) = indices.into_iter().partition(|index| index & LIFT != 0);
        let lifts =
            lifts.iter().filter_map(|index| self.tables.lifts.get((index & (LIFTS_MAX - 1)) as usize));
        let lifts: Vec<_> = lifts.filter(|lift| lift.holds_for(&sets)).collect();
        let mut hits = Hits::default();
        for index in rules {
            let Some(rule) = self.tables.rules.get(index as usize) else { continue };
            let takes_away = |lift: &&Lift| lift.rules[index as usize / 64] >> (index % 64) & 1 != 0;
            if !rule.holds_for(&sets) || lifts.iter().any(takes_away) {
                continue;
            }
            let class = if rule.enforce & 1 == 1 { &mut hits.deny } else { &mut hits.audit };
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

/// The severer of two decisions; of two that are equally severe the one of the first rule.
fn severer(one: Decision, other: Decision) -> Decision {
    let is_severer = other.verdict > one.verdict;
    let is_first = other.verdict == one.verdict && other.rule < one.rule;
    if is_severer || is_first { other } else { one }
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
