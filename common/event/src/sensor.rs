//! What the sensor says of itself: these are entries like every other.

use serde::{Deserialize, Serialize};

use crate::{
    attributes::SessionAttributes,
    event::Level,
    image::Image,
    path::PathBytes,
    process::{ProcessKey, SessionId},
};

/// How the kernel programs are attached, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttachMode {
    /// BPF LSM programs: observe and deny in the kernel.
    Lsm,
    /// The same programs on `security_*` functions.
    FmodRet,
    /// Tracepoints, fanotify permission marks and cgroup programs.
    Fallback,
    /// Recorded events; nothing is attached.
    Replay,
}

impl AttachMode {
    /// Whether programs in the kernel judge what happens, before it does.
    #[must_use]
    pub fn judges_in_kernel(self) -> bool {
        matches!(self, Self::Lsm | Self::FmodRet)
    }
}

impl std::fmt::Display for AttachMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Lsm => "lsm",
            Self::FmodRet => "fmod_ret",
            Self::Fallback => "fallback",
            Self::Replay => "replay",
        })
    }
}

/// What became of one hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookState {
    /// In place.
    Attached,
    /// The kernel refused it.
    Failed {
        /// The kernel's words.
        error: String,
    },
    /// This kernel does not have it, or this attach mode does not use it.
    Unsupported {
        /// Why.
        reason: String,
    },
}

/// One hook and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookStatus {
    /// Such as `lsm/file_open`, `tp_btf/sched_process_exec`, `fanotify/open_perm`.
    pub hook: String,
    /// What became of it.
    pub state: HookState,
}

/// What a rule amounts to on this machine in this attach mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleStatus {
    /// The rule.
    pub rule: String,
    /// What it amounts to.
    pub state: RuleState,
    /// Operations that are refused before they happen.
    pub enforced: Vec<String>,
    /// Operations that are only recorded.
    pub observed: Vec<String>,
    /// Operations that are neither.
    pub unseen: Vec<String>,
    /// Why it is not better.
    pub reason: Option<String>,
    /// The name of the policy that it is in, where several hold together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
}

/// The sum of [`RuleStatus`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleState {
    /// Everything that it names is refused before it happens.
    Enforced,
    /// Some of it is refused, the rest recorded or unseen.
    Partly,
    /// Recorded, not refused (also: the rule is in `monitor`).
    Observed,
    /// Neither refused nor recorded here.
    Impossible,
    /// It allows: there is nothing that it could refuse or record.
    Allows,
}

/// One of several policies that hold together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyPart {
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub level: Level,
    /// SHA-256 of its text, lower-case hexadecimal.
    pub sha256: String,
    /// The revision that its author gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// The key that signed it, as `NAME+ID`, where signatures are asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<String>,
}

/// What somebody has approved of: one subject, one object, for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Index of the entry of what was refused.
    pub denial: u64,
    /// The session that it is for.
    pub session: SessionId,
    /// The executable that it is for.
    pub executable: PathBytes,
    /// The rules that refused.
    pub rules: Vec<String>,
    /// What may be done, such as `read`.
    pub operations: Vec<String>,
    /// To what: a path, an address and a port, or `unix:@` and an abstract name.
    pub object: String,
    /// For how long, in seconds.
    pub for_s: u32,
    /// `CLOCK_BOOTTIME` from which on it no longer holds, nanoseconds.
    pub until_ns: u64,
}

/// Who asked for an approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asker {
    /// User id.
    pub uid: u32,
    /// Name of the user, when the machine knows one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The process that asked.
    pub process: ProcessKey,
}

/// A statement of the sensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Notice {
    /// The sensor started.
    Started {
        /// Version of the sensor.
        version: String,
        /// How it is attached.
        mode: AttachMode,
        /// Release of the kernel.
        kernel: String,
        /// Every hook.
        hooks: Vec<HookStatus>,
        /// Bytes of a damaged tail that recovery moved aside, and where, when the log had to be mended.
        recovery: Option<String>,
    },
    /// The sensor stopped in order.
    Stopped {
        /// Why, such as `SIGTERM`.
        reason: String,
    },
    /// A policy is in force from here on.
    PolicyApplied {
        /// Its generation.
        generation: u64,
        /// Its name.
        name: String,
        /// SHA-256 of its text, lower-case hexadecimal.
        sha256: String,
        /// The revision that its author gave it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        revision: Option<u64>,
        /// The key that signed it, as `NAME+ID`, where signatures are asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signed_by: Option<String>,
        /// What it consists of, where several policies hold together.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        parts: Vec<PolicyPart>,
        /// What each rule amounts to here.
        rules: Vec<RuleStatus>,
    },
    /// A policy was refused; the one before it stays in force.
    PolicyRejected {
        /// SHA-256 of its text, lower-case hexadecimal.
        sha256: String,
        /// The diagnostics.
        error: String,
    },
    /// Events were lost.
    Lost {
        /// Kind of record, such as `open`; `any` when the kind is not known.
        kind: String,
        /// Where, such as `ring` or `queue`.
        site: String,
        /// How many.
        count: u64,
        /// First loss, nanoseconds of `CLOCK_BOOTTIME`.
        first_ns: u64,
        /// Last loss, nanoseconds of `CLOCK_BOOTTIME`.
        last_ns: u64,
    },
    /// A session began.
    SessionStarted {
        /// Which.
        session: SessionId,
        /// Its root.
        root: ProcessKey,
        /// User id of who asked for it.
        uid: u32,
        /// `run`, `claude` or `adopt`.
        origin: String,
        /// The command that the root was about to run (for `adopt`, the one it ran).
        command: Vec<String>,
        /// What else is known of it.
        #[serde(default, skip_serializing_if = "SessionAttributes::is_empty")]
        attributes: SessionAttributes,
    },
    /// The last process of a session ended.
    SessionEnded {
        /// Which.
        session: SessionId,
    },
    /// The hash of an image whose entries said `pending`.
    ImageHashed {
        /// The image.
        image: Image,
    },
    /// A record or a file could not be understood; nothing of it was used.
    Malformed {
        /// What it was, such as `ring record`.
        what: String,
        /// What was wrong with it.
        error: String,
    },
    /// What was refused is let through for a while.
    Approved {
        /// What.
        approval: Approval,
        /// Who has approved.
        by: Asker,
    },
    /// An approval no longer holds.
    ApprovalEnded {
        /// Index of the entry of what was refused.
        denial: u64,
        /// The session that it was for.
        session: SessionId,
        /// Why: its time had come, the session ended, or the policy changed.
        reason: String,
    },
    /// Somebody wanted to approve and may not.
    ApprovalRefused {
        /// Index of the entry that was to be approved of.
        denial: u64,
        /// The session that the asking process is in, if it is in one: no session approves.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session: Option<SessionId>,
        /// Who has asked.
        by: Asker,
        /// Why not.
        reason: String,
    },
}
