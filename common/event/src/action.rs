//! What a process did.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    image::FileId,
    path::PathBytes,
    process::{Process, ProcessKey},
};

/// A file as the object of an action.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRef {
    /// The file's own path: below its filesystem's root, after that filesystem's canonical mount point. When
    /// `as_named` is set, the path that the caller named, made absolute.
    pub path: PathBytes,
    /// Identity, when an object was reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<FileId>,
    /// Type and permission bits, when an object was reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// The path was not resolved by the kernel.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub as_named: bool,
    /// The path could not be resolved to the root of its filesystem.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unresolved: bool,
    /// The object has no name (memfd, `O_TMPFILE`, deleted).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unlinked: bool,
    /// Nobody knew its content when a rule by SHA-256 asked for it: such a file is not executed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub content_unknown: bool,
}

/// Flags of open(2), as the kernel has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OpenFlags(pub u32);

impl OpenFlags {
    const ACCESS: u32 = 0o3;
    const NAMES: &'static [(u32, &'static str)] = &[
        (0o100, "O_CREAT"),
        (0o200, "O_EXCL"),
        (0o1000, "O_TRUNC"),
        (0o2000, "O_APPEND"),
        (0o200_000, "O_DIRECTORY"),
        (0o400_000, "O_NOFOLLOW"),
        (0o2_000_000, "O_CLOEXEC"),
        (0o10_000_000, "O_PATH"),
        (0o20_000_000, "__O_TMPFILE"),
    ];

    /// Whether the descriptor can read. `O_PATH` can do neither.
    #[must_use]
    pub fn reads(self) -> bool {
        self.0 & Self::ACCESS != 1 && self.0 & 0o10_000_000 == 0
    }

    /// Whether the descriptor can write, or the open truncates.
    #[must_use]
    pub fn writes(self) -> bool {
        (self.0 & Self::ACCESS != 0 || self.0 & 0o1000 != 0) && self.0 & 0o10_000_000 == 0
    }

    /// Names as in open(2), joined by `|`; bits without a name are left out.
    #[must_use]
    pub fn names(self) -> String {
        let access = ["O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE"][(self.0 & Self::ACCESS) as usize];
        let set = Self::NAMES.iter().filter(|(bit, _)| self.0 & bit == *bit).map(|(_, name)| *name);
        std::iter::once(access).chain(set).collect::<Vec<_>>().join("|")
    }
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It succeeded.
    #[default]
    Ok,
    /// It failed with this errno (positive), such as 2 for `ENOENT`; 115, `EINPROGRESS`, for a connect that goes on.
    Errno(i32),
    /// The hook runs before the operation and the rest was not seen.
    Unknown,
}

/// Where a connect goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Destination {
    /// IPv4 address and port.
    V4(Ipv4Addr, u16),
    /// IPv6 address and port.
    V6(Ipv6Addr, u16),
    /// Unix socket by path.
    Unix(PathBytes),
    /// Unix socket by abstract name.
    Abstract(PathBytes),
    /// Wherever this socket leads: one was made whose destinations cannot be looked at.
    Socket(SocketKind),
}

/// What a socket was asked for as, in the kernel's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketKind {
    /// Address family (`AF_PACKET`...).
    pub family: u16,
    /// How it exchanges (`SOCK_RAW`...).
    #[serde(rename = "type")]
    pub kind: u16,
    /// Protocol within the family.
    pub protocol: u16,
}

/// Such as `packet/raw/768`, with numbers for what has no word here.
impl fmt::Display for SocketKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let families = [
            (2, "inet"),
            (10, "inet6"),
            (15, "key"),
            (17, "packet"),
            (29, "can"),
            (30, "tipc"),
            (31, "bluetooth"),
            (40, "vsock"),
            (44, "xdp"),
        ];
        let kinds = [(1, "stream"), (2, "dgram"), (3, "raw"), (5, "seqpacket")];
        let word = |words: &[(u16, &str)], number: u16| {
            let found = words.iter().find(|(of, _)| *of == number);
            found.map_or_else(|| number.to_string(), |(_, word)| (*word).to_owned())
        };
        write!(f, "{}/{}/{}", word(&families, self.family), word(&kinds, self.kind), self.protocol)
    }
}

/// What a process did. The subject is in [`crate::Event::process`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The subject was created by `creator`.
    Fork {
        /// Who created it.
        creator: ProcessKey,
    },
    /// The subject replaced its image; what it runs now is in its `program`.
    Exec,
    /// Execution of this file was refused.
    ExecDenied {
        /// The file.
        file: FileRef,
    },
    /// A file was to be mapped as executable memory: a library, or a program by the dynamic loader.
    Map {
        /// The file.
        file: FileRef,
        /// How it ended.
        outcome: Outcome,
    },
    /// The subject ended.
    Exit {
        /// Exit code, when it ended by itself.
        code: Option<i32>,
        /// Signal that ended it.
        signal: Option<i32>,
    },
    /// A file was opened.
    Open {
        /// The file.
        file: FileRef,
        /// How.
        flags: OpenFlags,
        /// How it ended.
        outcome: Outcome,
        /// How many opens of this object in this way this entry stands for, at least 1.
        count: u64,
    },
    /// A new object got its first name.
    Create {
        /// The object.
        file: FileRef,
        /// Target of a symbolic link.
        target: Option<PathBytes>,
        /// How it ended.
        outcome: Outcome,
    },
    /// A name was removed.
    Delete {
        /// The object.
        file: FileRef,
        /// How it ended.
        outcome: Outcome,
    },
    /// A name was changed.
    Rename {
        /// Before.
        from: FileRef,
        /// After.
        to: FileRef,
        /// How it ended.
        outcome: Outcome,
    },
    /// A hard link was made.
    Link {
        /// The existing name.
        from: FileRef,
        /// The new name.
        to: FileRef,
        /// How it ended.
        outcome: Outcome,
    },
    /// Content or attributes were changed by name (truncate, chmod, chown).
    Modify {
        /// The object.
        file: FileRef,
        /// How it ended.
        outcome: Outcome,
    },
    /// Something was mounted, or the root directory was changed for another (pivot_root).
    Mount {
        /// The place; of a changed root directory, the new one.
        at: FileRef,
        /// What was mounted, as the caller named it; empty where the kernel was given no name.
        source: PathBytes,
        /// How it ended.
        outcome: Outcome,
    },
    /// A descriptor of this file was received from another process.
    Receive {
        /// The file.
        file: FileRef,
        /// How the descriptor was opened.
        flags: OpenFlags,
        /// How it ended.
        outcome: Outcome,
    },
    /// A connect, the first datagram of a process to a place, or the making of a socket that hides where it leads.
    Connect {
        /// Where to.
        to: Destination,
        /// How it ended.
        outcome: Outcome,
    },
    /// Something was tried against the sensor itself, and refused. (Its files are objects like others: what is tried
    /// against those is an open, a delete..., refused by the rule [`SELF_RULE`].)
    Tamper {
        /// What.
        what: Tampering,
        /// The sensor's process that it was aimed at.
        target: Option<ProcessKey>,
        /// Which signal, access mode, resource, or id of a map, program or link; 0 where there is none.
        number: u32,
    },
    /// Access to a process outside of the session was asked for: to trace it, to read or write its memory, or to take
    /// its descriptors.
    Trace {
        /// The process.
        target: ProcessKey,
        /// `PTRACE_MODE_*` of include/linux/ptrace.h.
        mode: u32,
        /// How it ended.
        outcome: Outcome,
    },
    /// The subject, which had no session, was taken into this one: a rule asks for it, and its work is provably the
    /// session's. What it does, and what it creates, is the session's from now on.
    Adopt {
        /// How that is known.
        link: AdoptedBy,
        /// Who created it for the work, or was given access to it.
        by: ProcessKey,
        /// The session's end of the connection.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        client: Option<Destination>,
        /// The job.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        file: Option<FileRef>,
    },
}

impl Action {
    /// How it ended; what has no outcome of its own took place.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Fork { .. } | Self::Exec | Self::Exit { .. } | Self::Adopt { .. } => Outcome::Ok,
            Self::ExecDenied { .. } | Self::Tamper { .. } => Outcome::Unknown,
            Self::Map { outcome, .. }
            | Self::Open { outcome, .. }
            | Self::Create { outcome, .. }
            | Self::Delete { outcome, .. }
            | Self::Rename { outcome, .. }
            | Self::Link { outcome, .. }
            | Self::Modify { outcome, .. }
            | Self::Mount { outcome, .. }
            | Self::Receive { outcome, .. }
            | Self::Connect { outcome, .. }
            | Self::Trace { outcome, .. } => *outcome,
        }
    }
}

/// How it is known that a process does a session's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdoptedBy {
    /// It was created for a TCP connection that the session made.
    Connection,
    /// It opened a job file that the session wrote.
    Job,
    /// A process of the session was given access to it.
    Trace,
}

impl AdoptedBy {
    /// The word for it, as in an entry.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Job => "job",
            Self::Trace => "trace",
        }
    }
}

/// The id of the rule by which the sensor protects itself. No policy can have a rule of this name.
pub const SELF_RULE: &str = "treeline/self";

/// The id of the rule that keeps sessions from the files which the sensor locks: whoever can read one can lock it.
pub const LOCKS_RULE: &str = "treeline/self-locks";

/// Whether a rule is the sensor's own.
#[must_use]
pub fn is_own_rule(id: &str) -> bool {
    OWN_RULES.contains(&id)
}

/// The ids of the sensor's own rules, which are added to every policy.
pub const OWN_RULES: [&str; 2] = [SELF_RULE, LOCKS_RULE];

/// What was tried against the sensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tampering {
    /// To send it a signal.
    Signal,
    /// To trace it, or to read or write its memory, or to take its descriptors.
    Trace,
    /// To change its resource limits.
    Limit,
    /// To change its priority, scheduling class or processors.
    Schedule,
    /// To move its memory between nodes.
    Memory,
    /// To open a file of its directory in /proc for writing.
    ProcFile,
    /// To get one of its maps.
    Map,
    /// To get one of its kernel programs.
    Program,
    /// To get one of the links that attach them.
    Link,
    /// To unmount a filesystem that it keeps things on.
    Unmount,
    /// To change its control group; or, where the verdict is `audit`, it was put into another one.
    Cgroup,
    /// To load a kernel program that can look into other processes or act on them.
    Load,
    /// To load a kernel module or another kernel.
    Kernel,
    /// To write to `/proc/sysrq-trigger`.
    SysRq,
    /// To have whoever opens a file wait for an answer (fanotify's permission events).
    Fanotify,
    /// To freeze or shut down a filesystem.
    Freeze,
    /// To write a setting of the kernel by which its programs are called no more, or others are started outside of every
    /// session (`kernel.ftrace_enabled`, `kernel.core_pattern`, `release_agent` and the like).
    Setting,
}

impl Tampering {
    /// As it is stored.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Signal => "signal",
            Self::Trace => "trace",
            Self::Limit => "limit",
            Self::Schedule => "schedule",
            Self::Memory => "memory",
            Self::ProcFile => "proc_file",
            Self::Map => "map",
            Self::Program => "program",
            Self::Link => "link",
            Self::Unmount => "unmount",
            Self::Cgroup => "cgroup",
            Self::Load => "load",
            Self::Kernel => "kernel",
            Self::SysRq => "sys_rq",
            Self::Fanotify => "fanotify",
            Self::Freeze => "freeze",
            Self::Setting => "setting",
        }
    }
}

/// A subject together with the chain of executables behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The process that acts.
    pub process: Arc<Process>,
    /// Its ancestry, nearest first, back to pid 1 (or to where knowledge ends).
    pub ancestry: Vec<Arc<Process>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_by_name() {
        assert_eq!(OpenFlags(0o101_101).names(), "O_WRONLY|O_CREAT|O_TRUNC");
        assert!(OpenFlags(0o1000).writes() && OpenFlags(0o1000).reads());
        assert!(!OpenFlags(0o10_000_002).writes() && !OpenFlags(0o10_000_002).reads());
    }
}
