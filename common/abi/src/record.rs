//! Ring buffer records: a fixed head, then variable parts one after the other.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::paths::FileKey;

/// Bytes of variable data in one record.
pub const DATA_LEN_MAX: usize = 16 * 1024;
/// Longest path that a record holds, in bytes (`PATH_MAX`).
pub const PATH_LEN_MAX: usize = 4096;
/// Longest argument vector that a record holds, in bytes, the NUL bytes between arguments included.
pub const ARGV_LEN_MAX: usize = 4096;
/// Longest environment part, in bytes: only variables whose names start with one of [`ENV_PREFIXES`].
pub const ENV_LEN_MAX: usize = 2048;
/// Environment variables that are looked at; an environment with more counts as one with [`Flags::LOADER_ENV`].
pub const ENV_VARS_MAX: usize = 512;
/// First bytes of the variables that are handed over; the agent keeps those of its allow-list.
pub const ENV_PREFIXES: [&[u8]; 2] = [b"CLAUDE", b"AI_AGE"];
/// Number of variable parts.
pub const PARTS: usize = 6;
/// A path that the kernel programs resolved starts with its superblock's `s_dev` (little-endian `u32`), followed by
/// the path below that filesystem's root. Parts that the caller named ([`Flags::AS_NAMED`]) have no such prefix.
pub const DEVICE_PREFIX_LEN: usize = 4;

/// What a record is about; the value of [`Header::kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Kind {
    /// A process was created; `peer_*` is the child.
    Fork = 1,
    /// A process image was replaced. Parts: executable path, file name as given (raw), working directory, argument
    /// vector, environment markers, interpreter name (raw).
    Exec = 2,
    /// The last thread of a process ended; `detail` is the wait status.
    Exit = 3,
    /// A file was opened, or the open failed. Parts: path; on failure the directory it was relative to, too.
    Open = 4,
    /// A name was created for a new object (create, mkdir, mknod, symlink). Parts: path, base directory, link target.
    Create = 5,
    /// A name was removed. Parts: path, base directory.
    Delete = 6,
    /// A name was changed. Parts: from, its base directory, to, its base directory.
    Rename = 7,
    /// A hard link was made. Parts as for rename.
    Link = 8,
    /// A connect by address or unix path, a datagram to an address (the first of a process to it, and every one that is
    /// refused), or a raw socket that was asked for ([`Header::detail`]). Parts: unix path or `@` and abstract name.
    Connect = 9,
    /// Execution was refused before the image was replaced. Parts: executable path.
    ExecDenied = 10,
    /// The content of an object was changed by name or its attributes were (truncate, chmod, chown). Parts: path, base.
    Modify = 11,
    /// Something was mounted, or the root directory was changed. Parts: the place, nothing, the source as it was named.
    Mount = 12,
    /// A descriptor was received from another process. Parts: path.
    Receive = 13,
    /// A file was to be mapped as executable memory; only what a rule matched is sent. Parts: path.
    Map = 14,
    /// Something was tried against the sensor itself, and refused, where it can be; `detail` is a [`Tampering`], `port`
    /// its number (signal, resource, id of a map...), `peer_*` the process that it was aimed at.
    Tamper = 15,
    /// Access to a process outside of the session: `ptrace`, its memory, its descriptors. `detail` is the mode
    /// (`PTRACE_MODE_*`), `peer_*` the process. What a rule does not refuse was not seen to its end.
    Trace = 16,
    /// A process that had no label got one, because its work is provably a session's. The subject is that process;
    /// `detail` is a [`Link`], `peer_*` who handed the work on: the server or daemon that created it, or the process that
    /// traces it. Of a connection `address` and `port` are the client's. Parts: the job's file.
    Adopt = 17,
}

impl Kind {
    /// Size of the counter tables: one more than the largest kind.
    pub const COUNT: usize = 18;
    /// Every kind, in numerical order.
    pub const ALL: [Self; 17] = [
        Self::Fork,
        Self::Exec,
        Self::Exit,
        Self::Open,
        Self::Create,
        Self::Delete,
        Self::Rename,
        Self::Link,
        Self::Connect,
        Self::ExecDenied,
        Self::Modify,
        Self::Mount,
        Self::Receive,
        Self::Map,
        Self::Tamper,
        Self::Trace,
        Self::Adopt,
    ];

    /// The kind with this number.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u16 == number)
    }
}

/// By what the kernel programs know that a process does a session's work; the value of [`Header::detail`] in a
/// [`Kind::Adopt`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Link {
    /// It was created for a TCP connection that a task of the session made.
    Connection = 1,
    /// It is about to run a job file that a task of the session wrote.
    Job = 2,
    /// A task of the session was given access to it.
    Trace = 3,
}

impl Link {
    /// Everything, in numerical order.
    pub const ALL: [Self; 3] = [Self::Connection, Self::Job, Self::Trace];

    /// The one with this number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|one| *one as u32 == number)
    }
}

/// What was tried against the sensor; the value of [`Header::detail`] in a [`Kind::Tamper`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Tampering {
    /// A signal; its number.
    Signal = 1,
    /// `ptrace`, `process_vm_*`, `pidfd_getfd`, `/proc/PID/mem` and what else asks for the same access; its mode.
    Trace = 2,
    /// A resource limit; its number.
    Limit = 3,
    /// Priority, scheduling class, processors.
    Schedule = 4,
    /// Moving its memory between nodes.
    Memory = 5,
    /// A file of its directory in /proc opened for writing.
    ProcFile = 6,
    /// A descriptor of one of its maps; the map's id.
    Map = 7,
    /// A descriptor of one of its programs; the program's id.
    Program = 8,
    /// A descriptor of one of its links; the link's id.
    Link = 9,
    /// A filesystem that it keeps things on.
    Unmount = 10,
    /// A file of its control group or of one above it opened for writing. With verdict `audit`: its process was put into
    /// another group.
    Cgroup = 11,
    /// A kernel program that can look into other processes or act on them; its type.
    Load = 12,
    /// A kernel module or another kernel; `enum kernel_read_file_id`.
    Kernel = 13,
    /// `/proc/sysrq-trigger` opened for writing.
    SysRq = 14,
    /// A mark of fanotify with which whoever opens a file waits for an answer; the events.
    Fanotify = 15,
    /// A filesystem frozen or shut down (`FIFREEZE`, `EXT4_IOC_SHUTDOWN` and those of the same number); the request.
    Freeze = 16,
    /// A setting of the kernel opened for writing by which programs are no more called for, or are started for whoever
    /// asks, or by which others get no processor.
    Setting = 17,
}

impl Tampering {
    /// Everything, in numerical order.
    pub const ALL: [Self; 17] = [
        Self::Signal,
        Self::Trace,
        Self::Limit,
        Self::Schedule,
        Self::Memory,
        Self::ProcFile,
        Self::Map,
        Self::Program,
        Self::Link,
        Self::Unmount,
        Self::Cgroup,
        Self::Load,
        Self::Kernel,
        Self::SysRq,
        Self::Fanotify,
        Self::Freeze,
        Self::Setting,
    ];

    /// The one with this number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|one| *one as u32 == number)
    }
}

/// The value of [`Header::verdict`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Verdict {
    /// No rule matched, or an exception lifted it.
    Allow = 0,
    /// A rule matched and was only recorded: it is in `monitor`, or this hook cannot refuse.
    Audit = 1,
    /// Refused.
    Deny = 2,
}

/// Bits of [`Header::flags`].
pub struct Flags;

impl Flags {
    /// Part 0 was cut to its bound, from the front of a path or the end of an argument vector.
    pub const CUT_0: u32 = 1 << 0;
    /// The path parts are what the caller named, not what the kernel resolved.
    pub const AS_NAMED: u32 = 1 << 4;
    /// `result` is not known: the hook runs before the operation.
    pub const RESULT_UNKNOWN: u32 = 1 << 5;
    /// The file has no name any more, or never had one (memfd, `O_TMPFILE`, deleted).
    pub const UNLINKED: u32 = 1 << 6;
    /// The path could not be resolved (deeper than the walk's bound, unreadable, or by names that stand for others).
    pub const UNRESOLVED: u32 = 1 << 7;
    /// The argument vector was cut to its bound.
    pub const CUT_ARGV: u32 = 1 << 8;
    /// The exec took its file from a descriptor (`execveat`, `fexecve`).
    pub const BY_DESCRIPTOR: u32 = 1 << 9;
    /// The environment has one of [`crate::environment::CODE_VARIABLES`].
    pub const LOADER_ENV: u32 = 1 << 10;
    /// The object is a directory.
    pub const DIRECTORY: u32 = 1 << 11;
    /// The object is a symbolic link being made; part 2 is its target.
    pub const SYMLINK: u32 = 1 << 12;
    /// Nobody knows the object's content; see [`crate::content`].
    pub const CONTENT_UNKNOWN: u32 = 1 << 13;
    /// A rule refuses it, and somebody has approved of it: the verdict is [`Verdict::Audit`]. See [`crate::grant`].
    pub const APPROVED: u32 = 1 << 14;
}

/// The fixed head of every record. Fields that a kind does not use are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// [`Kind`].
    pub kind: u16,
    /// [`Verdict`].
    pub verdict: u8,
    /// Explicit padding.
    pub pad: u8,
    /// [`Flags`].
    pub flags: u32,
    /// `CLOCK_BOOTTIME`, nanoseconds.
    pub time_ns: u64,
    /// Session of the subject.
    pub session: u64,
    /// The subject's process id (thread group) in the initial namespace.
    pub pid: u32,
    /// The subject's thread id.
    pub tid: u32,
    /// When the subject's thread group leader was created, `CLOCK_BOOTTIME` nanoseconds.
    pub start_ns: u64,
    /// Policy generation of the verdict, 0 when no policy was asked.
    pub generation: u64,
    /// Rule index + 1, or 0.
    pub rule: u32,
    /// 0 or a negative errno; for connect also `-EINPROGRESS`.
    pub result: i32,
    /// The other process: child of a fork.
    pub peer_pid: u32,
    /// Open flags, wait status, or address family, by kind. For a socket that was asked for, the upper half is its type
    /// (`SOCK_RAW`...; 0 for every other connect) and `port` its protocol.
    pub detail: u32,
    /// Creation of the other process, `CLOCK_BOOTTIME` nanoseconds.
    pub peer_start_ns: u64,
    /// Real user id.
    pub uid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Real group id.
    pub gid: u32,
    /// Controlling terminal as in /proc/pid/stat (`tty_nr`), 0 for none.
    pub tty: u32,
    /// The object's identity.
    pub file: FileKey,
    /// The object's modification time, nanoseconds since the epoch.
    pub mtime_ns: u64,
    /// The object's mode (type and permission bits).
    pub mode: u32,
    /// Port of a connect, host byte order, or protocol of a socket that was asked for.
    pub port: u32,
    /// Address of a connect: IPv4 in the first four bytes, or IPv6, network byte order.
    pub address: [u8; 16],
    /// Lengths of the variable parts, in bytes; the parts follow the head without gaps.
    pub parts: [u32; PARTS],
}

/// Counters of one kind of record on one CPU, filled by the kernel programs.
///
/// `created - lost` over all CPUs is what the agent must have read once the rings are empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Loss {
    /// Records that a hook set out to send.
    pub created: u64,
    /// Records for which the ring had no room.
    pub lost: u64,
    /// Records that a hook could not build (a helper or a read failed).
    pub failed: u64,
    /// `CLOCK_BOOTTIME` of the first loss since the counters were made, nanoseconds, 0 for none.
    pub first_ns: u64,
    /// `CLOCK_BOOTTIME` of the last loss, nanoseconds.
    pub last_ns: u64,
}

const _: () = assert!(size_of::<Header>() == 176);
const _: () = assert!(size_of::<Loss>() == 40);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_numbers_round_trip() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_number(kind as u16), Some(kind));
            assert!((kind as usize) < Kind::COUNT);
        }
        assert_eq!(Kind::from_number(0), None);
        assert_eq!(Kind::from_number(Kind::COUNT as u16), None);
    }
}
