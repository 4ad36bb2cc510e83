//! The tables of one policy generation, as plain data.

use treeline_abi::{
    content::Hold,
    network::{AbstractRule, Prefix4, Prefix6, PrefixRules},
    paths::{self, Accept, AncestorKey, Device, DeviceKey, Edge, EdgeKey, ImageRules, NO_RULE, Name, Wild},
};
use treeline_event::Mode;

use crate::{glob::Glob, host::Host, policy::Severity};

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
    /// The tree.
    pub edges: Vec<(EdgeKey, Edge)>,
    /// What names and the tree lead to: list `n` begins at entry `n - 1`.
    pub lists: Vec<Accept>,
    /// Rules by rule index.
    pub rules: Vec<paths::Rule>,
    /// IPv4 blocks: prefix length (the 32 bits of the slot included), key, value.
    pub prefixes4: Vec<(u32, Prefix4, PrefixRules)>,
    /// IPv6 blocks.
    pub prefixes6: Vec<(u32, Prefix6, PrefixRules)>,
    /// Abstract names of unix sockets.
    pub abstracts: Vec<AbstractRule>,
    /// What rules and exceptions by SHA-256 say. Ask [`Tables::image_rules`] when a file's content becomes known.
    pub hashes: Vec<HashRules>,
    /// What refuses a file whose content is not known.
    pub hold: Hold,
    /// What the agent says about each rule, by rule index.
    pub info: Vec<RuleInfo>,
    /// What `~/` stood for.
    pub host: Host,
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
    /// Address blocks of both families.
    pub prefixes: usize,
    /// Patterns for abstract names, of [`treeline_abi::network::ABSTRACTS_MAX`].
    pub abstracts: usize,
    /// Contents.
    pub hashes: usize,
}

impl Tables {
    /// What a file means whose content is known: the value for its entry in `IMAGES`. Exceptions that name a path
    /// as well count only when `path`, the file's own, is given and matches.
    #[must_use]
    pub fn image_rules(&self, sha256: &[u8; 32], path: Option<&[u8]>) -> ImageRules {
        let mut sum = ImageRules::default();
        let here = |entry: &&HashRules| match (&entry.executable, path) {
            (None, _) => true,
            (Some(glob), Some(path)) => glob.matches(self.host.home_paths(), path),
            (Some(_), None) => false,
        };
        for entry in self.hashes.iter().filter(|entry| entry.sha256 == *sha256).filter(here) {
            sum.exceptions |= entry.rules.exceptions;
            if entry.rules.exec_rule != NO_RULE {
                sum.exec_rule = entry.rules.exec_rule;
            }
        }
        sum
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
            prefixes: self.prefixes4.len() + self.prefixes6.len(),
            abstracts: self.abstracts.len(),
            hashes: self.hashes.len(),
        }
    }
}
