//! The tables of one policy generation, as plain data.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use treeline_abi::{
    content::Hold,
    lift::Lift,
    network::{AbstractRule, Prefix4, Prefix6, PrefixRules},
    paths::{self, Accept, AncestorKey, Device, DeviceKey, Edge, EdgeKey, ImageRules, NO_RULE, Name, Wild},
    subject::{self as label, Facts, Subjects},
};
use treeline_event::Mode;

use crate::{
    eval::executable_holds,
    glob::Glob,
    host::Host,
    policy::{Executable, Severity},
    request::{Holds, Lineage},
    session::{Session, SessionCondition},
};

/// Everything that the kernel programs need, and what the agent needs to read their answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Tables {
    /// Which of the [`paths::SLOTS`] the keys are for.
    pub slot: u32,
    /// Head of the path tables.
    pub table: paths::Table,
    /// Literal component names by hash, sorted by hash.
    pub names: Vec<(u64, Name)>,
    /// Component globs.
    pub wilds: Vec<Wild>,
    /// Filesystems, sorted by device.
    pub devices: Vec<(DeviceKey, Device)>,
    /// What accepting positions mean, sorted by position (`word * 64 + bit`).
    pub accepts: Vec<(u32, Accept)>,
    /// Directories above protected places with rule index + 1, sorted by key.
    pub ancestors: Vec<(AncestorKey, u32)>,
    /// Rules, by index, for which not every way had room (see [`paths::Table::ways`]): a directory that one of their
    /// patterns names by `*` can be renamed out of their reach.
    pub ways_left_out: BTreeSet<u32>,
    /// What does not count of what rules spare or allow, because it has other names (bind mounts), by rule index, and why.
    pub lifts_left_out: BTreeMap<u32, String>,
    /// The tree.
    pub edges: Vec<(EdgeKey, Edge)>,
    /// What names and the tree lead to: list `n` begins at entry `n - 1`.
    pub lists: Vec<Accept>,
    /// Rules by rule index.
    pub rules: Vec<paths::Rule>,
    /// What takes rules away, by number.
    pub lifts: Vec<Lift>,
    /// IPv4 blocks: prefix length (the 32 bits of the slot included), key, value.
    pub prefixes4: Vec<(u32, Prefix4, PrefixRules)>,
    /// IPv6 blocks.
    pub prefixes6: Vec<(u32, Prefix6, PrefixRules)>,
    /// Abstract names of unix sockets.
    pub abstracts: Vec<AbstractRule>,
    /// What rules and exceptions by SHA-256 say. Ask [`Tables::image_rules`] when a file's content becomes known.
    pub hashes: Vec<HashRules>,
    /// The conditions on lineage with their numbers.
    pub lineage: Vec<(u32, Executable)>,
    /// What subject sets ask of sessions.
    pub sessions: SessionSets,
    /// What refuses a file whose content is not known.
    pub hold: Hold,
    /// What the agent says about each rule, by rule index.
    pub info: Vec<RuleInfo>,
    /// What `~/` stood for.
    pub host: Host,
}

/// What the subject sets of a policy ask of sessions.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionSets {
    pub(super) unknown: Facts,
    pub(super) asked: Vec<(u32, SessionCondition)>,
}

impl SessionSets {
    /// What a session leaves of the subject sets: all that ask nothing of it, and those of which what they ask holds.
    #[must_use]
    pub fn of(&self, session: &Session) -> Facts {
        let mut facts = self.unknown;
        for (number, wanted) in &self.asked {
            let bit = 1 << number;
            match wanted.holds(session) {
                Holds::Yes => facts.sure |= bit,
                Holds::Unknown => {}
                Holds::No => facts.possible &= !bit,
            }
        }
        facts
    }
}

/// Reads what labels say of lineage.
#[derive(Clone, Debug, PartialEq)]
pub struct LineageReader {
    subjects: Subjects,
    conditions: Vec<(u32, Executable)>,
}

impl LineageReader {
    /// What a label says of the conditions on lineage; nothing without one.
    #[must_use]
    pub fn read(&self, label: Option<&label::Lineage>) -> Lineage {
        let facts = label.map_or(Facts::UNKNOWN, |label| self.subjects.of_label(label));
        let holds = |number: u32| match (facts.sure >> number & 1, facts.possible >> number & 1) {
            (1, _) => Holds::Yes,
            (_, 1) => Holds::Unknown,
            _ => Holds::No,
        };
        let found = self.conditions.iter().map(|(number, wanted)| (wanted.clone(), holds(*number)));
        Lineage::Found(Arc::new(found.collect()))
    }
}

/// What a content means to the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashRules {
    /// SHA-256 of the content.
    pub sha256: [u8; 32],
    /// The file has to be here, too.
    pub executable: Option<Glob>,
    /// Then this is what it means.
    pub rules: ImageRules,
}

/// A rule as the agent reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleInfo {
    /// Its id.
    pub id: String,
    /// Its reason.
    pub reason: String,
    /// Its mode.
    pub mode: Mode,
    /// Its severity.
    pub severity: Severity,
    /// `file`, `exec`, `connect` or `trace`.
    pub kind: &'static str,
    /// What it names, see [`crate::policy::Kind::operation_names`].
    pub operations: Vec<&'static str>,
}

/// How much of the kernel's room the tables take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Usage {
    /// Words of each mask, of [`paths::WORDS`].
    pub words: usize,
    /// Patterns that take positions in those words.
    pub patterns: usize,
    /// Entries of the tree, of [`paths::EDGES_MAX`].
    pub edges: usize,
    /// Entries of lists, of [`paths::LISTS_MAX`].
    pub lists: usize,
    /// Literal names of components that are not in the tree, of [`paths::NAMES_MAX`].
    pub names: usize,
    /// Component globs, of [`paths::WILD_MAX`].
    pub wilds: usize,
    /// Filesystems, of [`paths::DEVICES_MAX`].
    pub devices: usize,
    /// Rules, of [`paths::RULES_MAX`].
    pub rules: usize,
    /// Exceptions by path and rules that allow, of [`treeline_abi::lift::LIFTS_MAX`].
    pub lifts: usize,
    /// Address blocks of both families.
    pub prefixes: usize,
    /// Patterns for abstract names, of [`treeline_abi::network::ABSTRACTS_MAX`].
    pub abstracts: usize,
    /// Contents.
    pub hashes: usize,
    /// Conditions on lineage, of [`treeline_abi::subject::LINEAGES_MAX`].
    pub lineages: usize,
}

impl Tables {
    /// What a file means whose content is known: the value for its entry in `IMAGES`. Exceptions that name a path
    /// as well count only when `path`, the file's own, is given and matches.
    #[must_use]
    pub fn image_rules(&self, sha256: &[u8; 32], path: Option<&[u8]>) -> ImageRules {
        let mut sum = ImageRules::default();
        sum.subject.fingerprint = self.table.subjects.fingerprint;
        let here = |entry: &&HashRules| match (&entry.executable, path) {
            (None, _) => true,
            (Some(glob), Some(path)) => glob.matches(self.host.home_paths(), path),
            (Some(_), None) => false,
        };
        for entry in self.hashes.iter().filter(|entry| entry.sha256 == *sha256).filter(here) {
            sum.subject.sets |= entry.rules.subject.sets;
            sum.subject.lineage |= entry.rules.subject.lineage;
            if entry.rules.exec_rule != NO_RULE {
                sum.exec_rule = entry.rules.exec_rule;
            }
        }
        sum
    }

    /// Whether it matters that a file's content is known, whatever it is: something is asked of subjects by content.
    #[must_use]
    pub fn asks_for_content(&self) -> bool {
        self.hashes.iter().any(|entry| entry.rules.subject.sets | entry.rules.subject.lineage != 0)
    }

    /// What an image means to the conditions on lineage. `path` is empty and `sha256` is none where it is not known.
    #[must_use]
    pub fn lineage_of(&self, path: &[u8], sha256: Option<[u8; 32]>) -> Facts {
        let mut facts = Facts::default();
        for (number, wanted) in &self.lineage {
            let holds = executable_holds(wanted, &self.host, path, sha256);
            facts.sure |= u64::from(holds == Holds::Yes) << number;
            facts.possible |= u64::from(holds != Holds::No) << number;
        }
        facts
    }

    /// What is needed to read labels.
    #[must_use]
    pub fn lineage_reader(&self) -> LineageReader {
        LineageReader { subjects: self.table.subjects, conditions: self.lineage.clone() }
    }

    /// How much of the kernel's room is taken.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage {
            words: self.table.words as usize,
            patterns: self.accepts.len(),
            edges: self.edges.len(),
            lists: self.lists.len(),
            names: self.names.len(),
            wilds: self.wilds.len(),
            devices: self.devices.len(),
            rules: self.rules.len(),
            lifts: self.lifts.len(),
            prefixes: self.prefixes4.len() + self.prefixes6.len(),
            abstracts: self.abstracts.len(),
            hashes: self.hashes.len(),
            lineages: self.lineage.len(),
        }
    }
}
