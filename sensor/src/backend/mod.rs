//! Where events come from and verdicts are enforced. Only what is below this module knows the operating system.

mod approved;
pub mod linux;
pub mod observation;
pub mod replay;

use std::{os::fd::BorrowedFd, path::PathBuf, time::Duration};

use sha2::{Digest as _, Sha256};
use treeline_event::{AttachMode, FileId, HookStatus, PathBytes, ProcessKey, RuleStatus, SessionId};

pub use approved::{APPROVALS_MAX, Approved, ApprovedObject, FileNumber, RULES_PER_APPROVAL_MAX};
pub use observation::{ExecSeen, FileSeen, Observation, Seen};
pub use replay::ReplayBackend;

/// What a backend can do on this machine.
#[derive(Clone, Debug)]
pub struct Capabilities {
    /// How it is attached.
    pub mode: AttachMode,
    /// Release of the kernel.
    pub kernel: String,
    /// Every hook and what became of it.
    pub hooks: Vec<HookStatus>,
    /// What it took to start; none for a backend without kernel programs.
    pub start: Option<StartReport>,
}

/// What it took the kernel to take the programs.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct StartReport {
    /// Reading the kernel's types, in milliseconds.
    pub types_ms: u64,
    /// Creating the maps and making the programs ready, in milliseconds.
    pub object_ms: u64,
    /// Every program that was loaded.
    pub programs: Vec<ProgramReport>,
}

/// One program in the kernel.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ProgramReport {
    /// Its hook.
    pub hook: String,
    /// Instructions that the verifier looked at, each as often as it did; none before Linux 5.16.
    pub verified_instructions: Option<u32>,
    /// From handing it to the kernel until it was attached, in milliseconds.
    pub load_ms: u64,
}

/// What another sensor's process, which has ended, left in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inherited {
    /// The policy generation; 0 when no policy was in force.
    pub generation: u64,
    /// The first eight bytes of the SHA-256 of the policy's text, big-endian.
    pub policy: u64,
    /// Tracked processes that live, with their sessions.
    pub members: Vec<(SessionId, ProcessKey)>,
}

/// Who gets a label, and which.
#[derive(Clone, Debug)]
pub struct TrackRequest {
    /// The session that the process becomes the root of.
    pub session: SessionId,
    /// The process, by a descriptor that cannot come to mean another one.
    pub pidfd: std::sync::Arc<std::os::fd::OwnedFd>,
    /// Its pid in the initial namespace, for messages.
    pub pid: u32,
    /// It already ran for a while: its threads and descendants are labelled, too.
    pub adopt: bool,
    /// What is known of the session, for rules that ask.
    pub known: std::sync::Arc<treeline_policy::Session>,
}

/// Records that went missing since the last poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LossReport {
    /// Kind of record (`open`, `exec`...), as in `treeline_abi::Kind`, lower case; at `recursion` the hook.
    pub kind: &'static str,
    /// Where: `ring`, `build` (a hook could not build its record), `queue`, `recursion` (the kernel left a program
    /// of mode `fmod_ret` out, and what it would have judged went through), `unread` (while no sensor read), or `taken`
    /// (by a sensor that was killed before it had recorded it).
    pub site: &'static str,
    /// How many.
    pub count: u64,
    /// First one, nanoseconds of `CLOCK_BOOTTIME`.
    pub first_ns: u64,
    /// Last one, nanoseconds of `CLOCK_BOOTTIME`.
    pub last_ns: u64,
}

/// Records of one kind since programs were first put in force, whichever backends that was, as far as their counters could
/// be read. `created = read + lost` once nothing is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindCount {
    /// Kind of record, as in [`LossReport::kind`].
    pub kind: &'static str,
    /// What hooks set out to send.
    pub created: u64,
    /// What was read. Before this backend: what was not lost.
    pub read: u64,
    /// What found no room.
    pub lost: u64,
}

/// Runs of one attached program since it was attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramRuns {
    /// Where it is attached, as in [`treeline_event::HookStatus`].
    pub hook: String,
    /// Runs while the kernel measured them.
    pub runs: u64,
    /// How long these took in all, nanoseconds.
    pub run_ns: u64,
    /// Runs that the kernel left out.
    pub left_out: u64,
}

/// What a poll brings.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// A tracked process did something.
    Observation(Box<Observation>),
    /// Records were lost.
    Loss(LossReport),
    /// Something could not be understood; nothing of it was used.
    Malformed {
        /// What it was, such as `ring record`.
        what: &'static str,
        /// What was wrong with it.
        error: String,
    },
}

/// Why a backend refused.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// A kernel facility is missing or refuses; the message says which and what to do.
    #[error("{0}")]
    Unsupported(String),
    /// The policy cannot be put in force here; the last one stays.
    #[error("the policy cannot be put in force here: {0}")]
    Policy(String),
    /// The process to be tracked is gone.
    #[error("process {pid} ended before it could be tracked")]
    Gone {
        /// Its pid.
        pid: u32,
    },
    /// A system call failed.
    #[error("cannot {attempt}")]
    Io {
        /// What was attempted.
        attempt: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}

/// A policy ready to be put in force, with what is needed to compile it for this machine.
#[derive(Clone, Debug)]
pub struct Installable {
    /// The checked policy, with the rules that are in force.
    pub policy: treeline_policy::Policy,
    /// The digest of its texts, lower-case hexadecimal.
    pub sha256: String,
    /// Its generation, from 1.
    pub generation: u64,
    /// Homes that `~` stands for.
    pub homes: Vec<(u32, PathBuf)>,
    /// Whether an `enforce` rule that cannot be enforced here at all is tolerated as observed.
    pub allow_unenforceable: bool,
    /// What holds of what was approved under the policy before.
    pub approved: Vec<Approved>,
}

/// What the kernel's tables have of a policy: a digest of its texts' digest and of the rules that were in force.
#[must_use]
pub fn policy_mark(sha256: &str, policy: &treeline_policy::Policy) -> u64 {
    let mut digest = Sha256::new();
    digest.update(sha256);
    for rule in &policy.rules {
        digest.update("\n");
        digest.update(&rule.id);
    }
    digest.finalize().first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}

/// How much of what the kernel recorded has been handed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Of which rings; another number once others are read.
    pub of: u32,
    /// Records of these, since there have been any.
    pub records: u64,
}

/// A source of observations that can also refuse.
pub trait Backend: Send {
    /// What this backend can do here.
    fn capabilities(&self) -> Capabilities;

    /// Puts a policy in force atomically and says what each of its rules amounts to here.
    ///
    /// # Errors
    /// [`BackendError::Policy`]; the policy in force before stays.
    fn install(&mut self, policy: &Installable) -> Result<Vec<RuleStatus>, BackendError>;

    /// Makes a process the root of a session.
    ///
    /// # Errors
    /// [`BackendError::Gone`] or [`BackendError::Io`].
    fn track(&mut self, request: &TrackRequest) -> Result<Vec<ProcessKey>, BackendError>;

    /// The session of a process, if it has one.
    ///
    /// # Errors
    /// [`BackendError::Io`]: it cannot be told.
    fn session_of(&mut self, process: BorrowedFd<'_>) -> Result<Option<SessionId>, BackendError> {
        let _ = process;
        Ok(None)
    }

    /// Tells the backend what a session is that another sensor began.
    ///
    /// # Errors
    /// [`BackendError::Io`]; nothing is known of it then.
    fn resumed(
        &mut self,
        session: SessionId,
        known: std::sync::Arc<treeline_policy::Session>,
    ) -> Result<(), BackendError> {
        let _ = (session, known);
        Ok(())
    }

    /// Tells the backend that nobody is in these sessions any more.
    ///
    /// # Errors
    /// [`BackendError::Io`].
    fn forget(&mut self, sessions: &[SessionId]) -> Result<(), BackendError> {
        let _ = sessions;
        Ok(())
    }

    /// These approvals hold, and no others.
    ///
    /// # Errors
    /// [`BackendError`]; those before hold.
    fn approve(&mut self, approved: &[Approved]) -> Result<(), BackendError> {
        let _ = approved;
        Ok(())
    }

    /// Tells the backend that a file's content is known, for rules by SHA-256.
    fn content_known(&mut self, path: &PathBytes, file: &FileId, sha256: &[u8; 32]);

    /// Counts by kind; of kinds that were seen only.
    fn counts(&self) -> Vec<KindCount> {
        Vec::new()
    }

    /// Runs by program.
    fn runs(&self) -> Vec<ProgramRuns> {
        Vec::new()
    }

    /// How much has been handed over, by all polls until now.
    fn handed_over(&self) -> Mark {
        Mark::default()
    }

    /// What was handed over up to this mark is in the log.
    fn recorded(&mut self, mark: Mark) {
        let _ = mark;
    }

    /// What was in force when this backend started; asked for once, before anything else.
    ///
    /// # Errors
    /// [`BackendError::Io`].
    fn inherited(&mut self) -> Result<Option<Inherited>, BackendError> {
        Ok(None)
    }

    /// The sensor ends in order. What can stay in force without it does so while tracked processes live.
    fn leave(&mut self) {}

    /// Hands over what has arrived, waiting at most `timeout` when there is nothing.
    ///
    /// # Errors
    /// [`BackendError::Io`] when the source broke; the sensor then stops with an error.
    fn poll(&mut self, timeout: Duration, deliver: &mut dyn FnMut(Delivery)) -> Result<(), BackendError>;
}
