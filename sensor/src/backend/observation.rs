//! What a backend saw, before it is enriched to a [`treeline_event::Event`].

use treeline_event::{Action, FileId, PathBytes, ProcessKey, SessionId, Verdict};

/// One thing that a tracked process did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// `CLOCK_BOOTTIME`, nanoseconds.
    pub time_ns: u64,
    /// Session of the subject.
    pub session: SessionId,
    /// The subject.
    pub subject: ProcessKey,
    /// When the subject was created, `CLOCK_BOOTTIME` nanoseconds.
    pub subject_start_ns: u64,
    /// The subject's thread.
    pub tid: u32,
    /// What was decided.
    pub verdict: Verdict,
    /// Index of the rule in its generation, for `audit` and `deny`.
    pub rule: Option<u32>,
    /// The rule refuses it, and somebody has approved of it: the verdict is `audit`.
    pub approved: bool,
    /// Policy generation of the verdict, 0 when no policy was asked.
    pub generation: u64,
    /// What.
    pub seen: Seen,
}

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The subject created a process.
    Fork {
        /// The new process.
        child: ProcessKey,
        /// Its creation, `CLOCK_BOOTTIME` nanoseconds.
        child_start_ns: u64,
    },
    /// The subject replaced its image.
    Exec(Box<ExecSeen>),
    /// The subject ended, with this wait status.
    Exit {
        /// As wait(2) has it.
        wait_status: u32,
    },
    /// Anything else; never [`Action::Fork`], [`Action::Exec`] or [`Action::Exit`].
    Act(Box<Action>),
}

/// A successful exec.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecSeen {
    /// The binary that runs now (for a script its interpreter), as the kernel has it.
    pub image: FileSeen,
    /// The script, where the kernel tells. Linux does not: it is looked up by name, see `Image::seen_by_kernel`.
    pub script: Option<FileSeen>,
    /// The name of the interpreter that the kernel chose; equal to `name_given` when there is none.
    pub interpreter_name: PathBytes,
    /// The file name that was given; `/dev/fd/N` for an exec by descriptor.
    pub name_given: PathBytes,
    /// Working directory.
    pub cwd: PathBytes,
    /// Argument vector.
    pub argv: Vec<PathBytes>,
    /// It was longer than what was recorded.
    pub argv_cut: bool,
    /// Environment variables of the allow-list.
    pub env: Vec<(String, String)>,
    /// The environment named variables that make programs load code, such as those of the dynamic loader.
    pub loader_env: bool,
    /// Real user id.
    pub uid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Real group id.
    pub gid: u32,
    /// Controlling terminal as in /proc/PID/stat, 0 for none.
    pub tty: u32,
}

/// A file as the kernel has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileSeen {
    /// Its own path.
    pub path: PathBytes,
    /// Its identity.
    pub id: FileId,
    /// It has no name (memfd, deleted).
    pub unlinked: bool,
}
