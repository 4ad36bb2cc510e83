//! The lineage label: task storage, set when a task is created inside a tracked tree.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::subject::Lineage;

/// What every task of a tracked tree carries in task storage.
///
/// A task gets it from its creator at `sched_process_fork`; from the agent when a session's root is registered or
/// adopted; or from its thread group leader, when the process was adopted while the thread already ran. Nothing that the subject can change (parent, session, cgroup, namespace) is
/// consulted afterwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Label {
    /// Session identifier, never 0 in a valid label.
    pub session: u64,
    /// [`LabelFlags`].
    pub flags: u32,
    /// A verdict of `file_open` that waits for the result of the open: rule index + 1, or 0.
    pub pending_rule: u32,
    /// The address that a connect in progress was judged on.
    pub pending: PendingConnect,
    /// The file that it executes, as the kernel had it at the exec: what `/proc/PID/exe` shows can be changed since
    /// (`PR_SET_MM`). Both are 0 when no exec was seen; the first look at the executable then fills them in.
    pub image: Image,
    /// The file whose execution it was last allowed to begin: it may be mapped before the exec has come to its end.
    pub next: Image,
    /// What it and those before it have executed, as far as policies ask for it.
    pub lineage: Lineage,
}

/// A file, as long as it lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Image {
    /// `s_dev` of the superblock, as the kernel encodes it (`major << 20 | minor`).
    pub device: u32,
    /// Explicit padding.
    pub pad: u32,
    /// Inode number, never 0.
    pub inode: u64,
}

/// The address of a connect whose result is not known yet, as the kernel (not the caller's memory) has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PendingConnect {
    /// Address family (`AF_INET`, `AF_INET6`), or 0 when nothing is pending.
    pub family: u16,
    /// Port in host byte order.
    pub port: u16,
    /// Rule index + 1 of an `audit` verdict, or 0; with [`PendingConnect::APPROVED`].
    pub rule: u32,
    /// IPv4 in the first four bytes, or IPv6, network byte order.
    pub address: [u8; 16],
}

impl PendingConnect {
    /// Bit of [`PendingConnect::rule`]: the rule refuses, and somebody has approved.
    pub const APPROVED: u32 = 1 << 31;
}

/// Labels by process: more processes than the usual bound on process ids (32 768, or 4 194 304 where systemd has raised
/// it) lets a machine of some GiB run in sessions.
pub const LABELS_MAX: u32 = 65_536;

/// Key of a label where the kernel cannot put it on a task: a process, as the sensor sees it in /proc, too. It stays the
/// same when a thread takes the first one's place in order to execute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ProcessId {
    /// Process id.
    pub pid: u32,
    /// Explicit padding.
    pub pad: u32,
    /// The creation of its first thread, in ticks of [`crate::sensor::TICK_NS`].
    pub start_ticks: u64,
}

/// Labels that wait for their tasks: see [`Waiting`].
pub const WAITING_MAX: u32 = 4096;
/// So many are left for those who were asked about at the same moment: nothing holds a place between the question and the
/// label that waits.
pub const WAITING_SLACK: u32 = 1024;

/// Key of the `WAITING` table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TaskKey {
    /// The thread's id, as the kernel counts it.
    pub tid: u32,
    /// Explicit padding.
    pub pad: u32,
    /// The thread's creation, `CLOCK_BOOTTIME` nanoseconds.
    pub start_ns: u64,
}

/// A label that could not be put on a new task, and is put on it at its first hook: there was no memory, or a task was
/// preempted on that CPU within task storage, which tracepoints then find busy (`bpf_task_storage_get_recur`, since
/// Linux 6.2; before, every program does).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Waiting {
    /// [`Label::session`].
    pub session: u64,
    /// [`LabelFlags`].
    pub flags: u32,
    /// Explicit padding.
    pub pad: u32,
    /// [`Label::lineage`].
    pub lineage: Lineage,
}

/// Bits of [`Label::flags`].
pub struct LabelFlags;

impl LabelFlags {
    /// The image was started with one of [`crate::environment::CODE_VARIABLES`] in its environment: exceptions by
    /// executable do not apply to it.
    pub const LOADER_ENV: u32 = 1 << 0;
    /// The label was put on a process that already ran (`treeline adopt`).
    pub const ADOPTED: u32 = 1 << 1;
    /// The task is the root of its session.
    pub const ROOT: u32 = 1 << 2;
    /// The open in progress was already reported by `file_open`.
    pub const OPEN_REPORTED: u32 = 1 << 3;
}

const _: () = assert!(size_of::<TaskKey>() == 16);
const _: () = assert!(size_of::<ProcessId>() == 16);
const _: () = assert!(size_of::<Waiting>() == 40);
const _: () = assert!(size_of::<PendingConnect>() == 24);
const _: () = assert!(size_of::<Image>() == 16);
const _: () = assert!(size_of::<Label>() == 96);
