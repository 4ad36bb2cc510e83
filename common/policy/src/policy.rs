//! A policy that has been checked.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use ipnet::IpNet;
use serde::Serialize;
use treeline_abi::paths;
use treeline_event::is_own_rule;
pub use treeline_event::{Level, Mode};

use crate::{
    abstract_name::AbstractGlob,
    approval::Approval,
    call::{Names, Requirement, ServerPattern, When},
    diagnostic::Diagnostics,
    glob::Glob,
    lint::Silences,
    moment::Moment,
    session::SessionCondition,
    source::{FileId, Sources, Span, Spanned},
};

/// A checked policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// Who answers for it, such as an address of mail.
    pub owner: Option<String>,
    /// Its number among its revisions, from 1.
    pub revision: Option<u64>,
    /// Mode of the rules that do not say.
    pub mode: Mode,
    /// The rules, those with a higher priority first and else in the order of their ids: a rule's place here is its index
    /// everywhere.
    pub rules: Vec<Rule>,
    /// Which of its refusals somebody may approve of, for a while. Nothing is decided by it.
    pub approvals: Vec<Approval>,
    /// Lints that its files have silenced in all that is in them. Nothing is decided by it.
    pub silences: BTreeMap<FileId, Silences>,
    /// What it was read from.
    pub sources: Sources,
    /// What is allowed but likely not meant.
    pub warnings: Diagnostics,
}

impl Policy {
    /// The rule of this id.
    #[must_use]
    pub fn rule(&self, id: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.id == id)
    }

    /// Whether it is several policies that hold together.
    #[must_use]
    pub fn is_composed(&self) -> bool {
        self.rules.iter().any(|rule| *rule.policy != *self.name)
    }

    /// The rules that allow, each with its index: few, or none.
    pub(crate) fn allowing(&self) -> Vec<(usize, &Rule)> {
        self.rules.iter().enumerate().filter(|(_, rule)| rule.allows).collect()
    }

    /// Puts a rule in its place.
    pub fn add(&mut self, rule: Rule) {
        let at = self.rules.partition_point(|one| one.place() < rule.place());
        self.rules.insert(at, rule);
    }

    /// The index of the rule that denies a [`paths::Operation`] on an object which cannot be resolved: the first one in
    /// `enforce` that could be about it. One about files is about all of them, since a file leads to whatever else it is.
    #[must_use]
    pub fn unresolved_rule(&self, operation: u32) -> Option<usize> {
        self.rules.iter().position(|rule| {
            let is_about_it = match &rule.kind {
                Kind::File { .. } => true,
                kind => !kind.globs().is_empty() && kind.operations() & 1 << operation != 0,
            };
            is_about_it && rule.may_refuse_others()
        })
    }

    /// The index of the rule that denies a process a ring of io_uring which it did not make itself: the first one in
    /// `enforce` about what can be asked for in a ring, which is all but execution.
    pub(crate) fn ring_rule(&self) -> Option<usize> {
        let is_about_it = |rule: &Rule| matches!(rule.kind, Kind::File { .. } | Kind::Connect { .. });
        self.rules.iter().position(|rule| is_about_it(rule) && rule.may_refuse_others())
    }

    /// What is in force at a moment: the rules that have not expired.
    #[must_use]
    pub fn at(mut self, now: Moment) -> Self {
        self.rules.retain(|rule| !rule.has_expired(now));
        self
    }

    /// When the first of its rules expires, or did.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Moment> {
        self.rules.iter().filter_map(|rule| rule.expires.as_ref()).map(|expires| expires.value).min()
    }
}

impl Rule {
    /// The id that its author gave it: the parts of a rule about brokers have that of the whole.
    #[must_use]
    pub fn written_id(&self) -> &str {
        self.id.split('/').next().unwrap_or_default()
    }

    /// Whether it can be what refuses something that is not known to be what it is about. The sensor's own rules are not:
    /// its files are not deep, and a policy that only records must not refuse anything of others.
    fn may_refuse_others(&self) -> bool {
        self.mode == Mode::Enforce && !is_own_rule(&self.id)
    }
}

/// The priority of what holds where no rule does: below that of every rule.
pub const DEFAULT_PRIORITY: i32 = i32::MIN;
/// The priority of the sensor's own rules: no rule allows against them.
pub const OWN_PRIORITY: i32 = i32::MAX;

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name, unique in the policy. With a slash in it, it is a part of what the author wrote as one rule of kind
    /// `broker`, the default of a kind, or the sensor's own.
    pub id: String,
    /// Whether it refuses or only records.
    pub mode: Mode,
    /// By which link whoever takes up what matches is taken into the session. Such a rule refuses nothing that it can
    /// follow, so its mode is [`Mode::Monitor`].
    pub adopts: Option<Adoption>,
    /// Whether it allows what matches, against rules of the same kind with a lower priority. Such a rule refuses nothing, so its
    /// mode is [`Mode::Monitor`].
    pub allows: bool,
    /// Which rules it can allow against, and which can allow against it: from -1000 to 1000, [`DEFAULT_PRIORITY`] or
    /// [`OWN_PRIORITY`].
    pub priority: i32,
    /// How bad a match is.
    pub severity: Severity,
    /// Why, for the agent and the developer.
    pub reason: String,
    /// What else it says of itself.
    pub about: About,
    /// Whose policy it is in.
    pub level: Level,
    /// The name of that policy.
    pub policy: Arc<str>,
    /// Levels below its own whose rules can allow against it. Rules of its own level and of higher ones always can.
    pub loosened_by: Vec<Spanned<Level>>,
    /// What it matches.
    pub kind: Kind,
    /// What of what it matches by a path or a name is not meant.
    pub spares: Spared,
    /// Who it does not hold for.
    pub exceptions: Vec<SubjectItem>,
    /// Who it holds for; everybody if there is none.
    pub only: Vec<SubjectItem>,
    /// From when on it is not in force.
    pub expires: Option<Spanned<Moment>>,
    /// Lints that are silenced in it. Nothing is decided by it.
    pub silences: Silences,
    /// Where its id is written.
    pub span: Span,
}

impl Rule {
    /// Every item of `except` and of `only`.
    pub fn items(&self) -> impl Iterator<Item = &SubjectItem> {
        self.exceptions.iter().chain(&self.only)
    }

    /// By which the rules of a policy are in order.
    pub(crate) fn place(&self) -> (Reverse<i32>, &str) {
        (Reverse(self.priority), &self.id)
    }

    /// Whether a rule that allows takes this one away, where both mean the same object and it surely holds.
    #[must_use]
    pub fn yields_to(&self, allows: &Self) -> bool {
        self.is_outranked_by(allows) && self.may_be_loosened_by(allows.level)
    }

    /// The same but for whose policies they are in.
    pub(crate) fn is_outranked_by(&self, allows: &Self) -> bool {
        allows.allows && !self.allows && self.adopts.is_none() && self.priority < allows.priority
    }

    /// Whether rules in policies of a level can allow against it.
    #[must_use]
    pub fn may_be_loosened_by(&self, level: Level) -> bool {
        level >= self.level || self.loosened_by.iter().any(|named| named.value == level)
    }

    /// Whether it is no longer in force.
    #[must_use]
    pub fn has_expired(&self, now: Moment) -> bool {
        self.expires.as_ref().is_some_and(|expires| expires.value <= now)
    }
}

/// What of its objects a rule does not mean: `except_paths` and `except_unix`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spared {
    /// By path: files, and unix sockets of a connect rule.
    pub paths: Vec<Spanned<Glob>>,
    /// Unix sockets by abstract name.
    pub abstracts: Vec<Spanned<AbstractGlob>>,
}

impl Spared {
    /// Whether it is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty() && self.abstracts.is_empty()
    }
}

/// What a rule says of itself; nothing is decided by it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct About {
    /// What to do instead, for the agent and the developer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// An https address with more about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// Controls that it is evidence for, by the names that an auditor has for them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub controls: Vec<String>,
}

/// How it is known that a process outside does a session's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Adoption {
    /// It was created for a TCP connection that the session made.
    Connection,
    /// It opened a job file that the session wrote.
    Job,
    /// A process of the session was given access to it.
    Trace,
}

/// What a rule matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Operations on files.
    File {
        /// The files.
        paths: Vec<Spanned<Glob>>,
        /// The operations.
        operations: Operations,
    },
    /// Execution. A file matches by its path **or** by its content.
    Exec {
        /// The files.
        paths: Vec<Spanned<Glob>>,
        /// SHA-256 of the content.
        sha256: Vec<Spanned<[u8; 32]>>,
    },
    /// Connects, to an address of `to` on a port of `ports`, or to a unix socket of `unix` or `abstracts`.
    Connect {
        /// The addresses.
        to: Vec<Spanned<IpNet>>,
        /// The ports; sorted, disjoint, never empty.
        ports: Vec<PortRange>,
        /// What of them is not meant.
        except_to: Vec<AddressException>,
        /// The unix sockets by path.
        unix: Vec<Spanned<Glob>>,
        /// The unix sockets by abstract name.
        abstracts: Vec<Spanned<AbstractGlob>>,
    },
    /// Access to processes outside of the session, as `ptrace` and what reads or writes their memory or takes their
    /// descriptors ask for it.
    Trace,
    /// Calls of an agent's tools.
    Tool {
        /// The tools.
        tools: Names,
        /// What their arguments say.
        when: When,
    },
    /// Calls of tools of servers of the Model Context Protocol.
    Mcp {
        /// The servers; all if there is none.
        servers: Vec<ServerPattern>,
        /// Their tools.
        tools: Names,
    },
    /// The state of the machine: it matches one that falls short.
    Posture {
        /// What is required.
        require: Vec<Requirement>,
        /// Whether what is not known falls short.
        unknown_counts: bool,
    },
}

impl Kind {
    /// The word for it in a policy.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::File { .. } => "file",
            Self::Exec { .. } => "exec",
            Self::Connect { .. } => "connect",
            Self::Trace => "trace",
            Self::Tool { .. } => "tool",
            Self::Mcp { .. } => "mcp",
            Self::Posture { .. } => "posture",
        }
    }

    /// Whether it is about calls or the machine, which no kernel program sees.
    #[must_use]
    pub fn is_for_the_sensor(&self) -> bool {
        matches!(self, Self::Tool { .. } | Self::Mcp { .. } | Self::Posture { .. })
    }

    /// Every path glob of an operation that the kernel is asked for.
    #[must_use]
    pub fn globs(&self) -> &[Spanned<Glob>] {
        match self {
            Self::File { paths, .. } | Self::Exec { paths, .. } => paths,
            Self::Connect { unix, .. } => unix,
            Self::Trace | Self::Tool { .. } | Self::Mcp { .. } | Self::Posture { .. } => &[],
        }
    }

    /// Bits over [`paths::Operation`] that its globs are for.
    #[must_use]
    pub fn operations(&self) -> u32 {
        match self {
            Self::File { operations, .. } => operations.0,
            Self::Exec { .. } => 1 << paths::Operation::EXEC,
            Self::Connect { .. } => 1 << paths::Operation::CONNECT,
            Self::Trace | Self::Tool { .. } | Self::Mcp { .. } | Self::Posture { .. } => 0,
        }
    }

    /// What it names, as words for a person: file operations, `exec`, `connect`, `connect-unix`, `trace`.
    #[must_use]
    pub fn operation_names(&self) -> Vec<&'static str> {
        match self {
            Self::File { operations, .. } => operations.iter().map(FileOperation::name).collect(),
            Self::Exec { .. } => vec!["exec"],
            Self::Trace | Self::Tool { .. } | Self::Mcp { .. } | Self::Posture { .. } => vec![self.name()],
            Self::Connect { to, unix, abstracts, .. } => {
                [(!to.is_empty(), "connect"), (!unix.is_empty() || !abstracts.is_empty(), "connect-unix")]
                    .into_iter()
                    .filter_map(|(named, word)| named.then_some(word))
                    .collect()
            }
        }
    }
}

/// Addresses and ports that a connect rule does not hold for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressException {
    /// The addresses.
    pub to: Vec<Spanned<IpNet>>,
    /// The ports; sorted, disjoint, never empty.
    pub ports: Vec<PortRange>,
}

/// An item of `except` or `only`: subjects of which all of this holds. Something is always asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectItem {
    /// What the process that acts executes.
    pub own: Executable,
    /// What it or a process before it in its lineage has executed.
    pub descendant_of: Option<Executable>,
    /// What its session is.
    pub session: Option<SessionCondition>,
    /// Why, and what it gives away.
    pub reason: Option<String>,
    /// Where it is written.
    pub span: Span,
}

/// An executable file. Where both are given, both have to hold of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Executable {
    /// Its own path.
    pub path: Option<Glob>,
    /// SHA-256 of its content.
    pub sha256: Option<[u8; 32]>,
}

impl Executable {
    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.path.is_none() && self.sha256.is_none()
    }
}

/// How bad a match is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Unlikely to matter.
    Low,
    /// Has to be looked at.
    #[default]
    Medium,
    /// Has to be looked at today.
    High,
    /// Has to be looked at now.
    Critical,
}

impl Severity {
    /// Each with the word for it.
    pub const WORDS: [(&'static str, Self); 5] = [
        ("info", Self::Info),
        ("low", Self::Low),
        ("medium", Self::Medium),
        ("high", Self::High),
        ("critical", Self::Critical),
    ];

    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::WORDS[self as usize].0
    }
}

/// An operation on a file that a rule can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u32)]
pub enum FileOperation {
    /// Open for reading, or list a directory.
    Read = paths::Operation::READ,
    /// Open for writing, truncate, change attributes.
    Write = paths::Operation::WRITE,
    /// A new name for a new object.
    Create = paths::Operation::CREATE,
    /// Removal of a name.
    Delete = paths::Operation::DELETE,
    /// Rename, from and to.
    Rename = paths::Operation::RENAME,
    /// Hard link, from and to.
    Link = paths::Operation::LINK,
}

impl FileOperation {
    /// Each with the word for it.
    pub const WORDS: [(&'static str, Self); 6] = [
        ("read", Self::Read),
        ("write", Self::Write),
        ("create", Self::Create),
        ("delete", Self::Delete),
        ("rename", Self::Rename),
        ("link", Self::Link),
    ];

    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::WORDS[self as usize].0
    }
}

/// A set of [`FileOperation`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Operations(u32);

impl Operations {
    /// All of them.
    pub const ALL: Self = Self(0b11_1111);

    /// Whether one is in it.
    #[must_use]
    pub fn contains(self, operation: FileOperation) -> bool {
        self.0 & (1 << operation as u32) != 0
    }

    /// Those in it.
    pub fn iter(self) -> impl Iterator<Item = FileOperation> {
        FileOperation::WORDS
            .into_iter()
            .map(|(_, operation)| operation)
            .filter(move |one| self.contains(*one))
    }
}

impl FromIterator<FileOperation> for Operations {
    fn from_iter<I: IntoIterator<Item = FileOperation>>(operations: I) -> Self {
        Self(operations.into_iter().fold(0, |bits, operation| bits | 1 << operation as u32))
    }
}

impl std::fmt::Display for PortRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { first, last } = self;
        if first == last { write!(f, "{first}") } else { write!(f, "{first}-{last}") }
    }
}

/// Ports from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortRange {
    /// First port.
    pub first: u16,
    /// Last port, not before `first`.
    pub last: u16,
}

impl PortRange {
    /// Every port.
    pub const ALL: Self = Self { first: 0, last: u16::MAX };

    /// Whether a port is in it.
    #[must_use]
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }

    /// The same ports in as few ranges as can be, sorted.
    #[must_use]
    pub fn union(mut ranges: Vec<Self>) -> Vec<Self> {
        ranges.sort_unstable();
        let mut union: Vec<Self> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match union.last_mut() {
                Some(last) if range.first <= last.last.saturating_add(1) => {
                    last.last = last.last.max(range.last);
                }
                _ => union.push(range),
            }
        }
        union
    }
}

impl PortRange {
    /// The ports of `ranges` that are not in `without`; both are sorted and disjoint, and so is the result.
    #[must_use]
    pub fn difference(ranges: &[Self], without: &[Self]) -> Vec<Self> {
        let mut left = ranges.to_vec();
        for cut in without {
            left = left.iter().flat_map(|range| range.minus(*cut)).collect();
        }
        left
    }

    /// What is before `cut` and what is behind it.
    fn minus(self, cut: Self) -> impl Iterator<Item = Self> {
        let last = cut.first.checked_sub(1).map(|last| self.last.min(last));
        let first = cut.last.checked_add(1).map(|first| self.first.max(first));
        let before = last.map(|last| Self { first: self.first, last });
        let behind = first.map(|first| Self { first, last: self.last });
        [before, behind].into_iter().flatten().filter(|range| range.first <= range.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn difference_of_ports() {
        let ranges = |given: &[(u16, u16)]| {
            given.iter().map(|&(first, last)| PortRange { first, last }).collect::<Vec<_>>()
        };
        let check = |given: &[(u16, u16)], without: &[(u16, u16)], expect: &[(u16, u16)]| {
            assert_eq!(PortRange::difference(&ranges(given), &ranges(without)), ranges(expect));
        };
        check(&[(0, 65535)], &[(443, 443)], &[(0, 442), (444, 65535)]);
        check(&[(0, 65535)], &[(0, 65535)], &[]);
        check(&[(0, 65535)], &[(0, 0), (65535, 65535)], &[(1, 65534)]);
        check(&[(10, 20), (30, 40)], &[(15, 35)], &[(10, 14), (36, 40)]);
        check(&[(10, 20)], &[(1, 5), (30, 40)], &[(10, 20)]);
    }

    #[test]
    fn words_and_bits_agree() {
        for (index, (word, operation)) in FileOperation::WORDS.into_iter().enumerate() {
            assert_eq!((operation as usize, operation.name()), (index, word));
        }
        for (index, (word, severity)) in Severity::WORDS.into_iter().enumerate() {
            assert_eq!((severity as usize, severity.name()), (index, word));
        }
        assert_eq!(Operations::ALL.iter().count(), FileOperation::WORDS.len());
    }

    #[test]
    fn union_of_ports() {
        let range = |(first, last)| PortRange { first, last };
        let check = |given: &[(u16, u16)], expect: &[(u16, u16)]| {
            let given = given.iter().copied().map(range).collect();
            assert_eq!(PortRange::union(given), expect.iter().copied().map(range).collect::<Vec<_>>());
        };
        check(&[(80, 80), (1, 10), (5, 20), (21, 21)], &[(1, 21), (80, 80)]);
        check(&[(0, 65535), (65535, 65535)], &[(0, 65535)]);
        check(&[], &[]);
    }
}
