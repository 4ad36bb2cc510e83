//! The kinds of event by name, as in the stored form's `unmapped.treeline.kind` and in filters.

use crate::{Action, Body, Notice};

/// Every kind, actions first.
pub const KINDS: [&str; 29] = [
    "fork",
    "exec",
    "exec_denied",
    "map",
    "exit",
    "open",
    "create",
    "delete",
    "rename",
    "link",
    "modify",
    "mount",
    "receive",
    "connect",
    "tamper",
    "trace",
    "adopt",
    "started",
    "stopped",
    "policy_applied",
    "policy_rejected",
    "lost",
    "session_started",
    "session_ended",
    "image_hashed",
    "malformed",
    "approved",
    "approval_ended",
    "approval_refused",
];

impl Action {
    /// Its kind, one of [`KINDS`].
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Fork { .. } => "fork",
            Self::Exec => "exec",
            Self::ExecDenied { .. } => "exec_denied",
            Self::Map { .. } => "map",
            Self::Exit { .. } => "exit",
            Self::Open { .. } => "open",
            Self::Create { .. } => "create",
            Self::Delete { .. } => "delete",
            Self::Rename { .. } => "rename",
            Self::Link { .. } => "link",
            Self::Modify { .. } => "modify",
            Self::Mount { .. } => "mount",
            Self::Receive { .. } => "receive",
            Self::Connect { .. } => "connect",
            Self::Tamper { .. } => "tamper",
            Self::Trace { .. } => "trace",
            Self::Adopt { .. } => "adopt",
        }
    }
}

impl Notice {
    /// Its kind, one of [`KINDS`].
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::Stopped { .. } => "stopped",
            Self::PolicyApplied { .. } => "policy_applied",
            Self::PolicyRejected { .. } => "policy_rejected",
            Self::Lost { .. } => "lost",
            Self::SessionStarted { .. } => "session_started",
            Self::SessionEnded { .. } => "session_ended",
            Self::ImageHashed { .. } => "image_hashed",
            Self::Malformed { .. } => "malformed",
            Self::Approved { .. } => "approved",
            Self::ApprovalEnded { .. } => "approval_ended",
            Self::ApprovalRefused { .. } => "approval_refused",
        }
    }
}

impl Body {
    /// Its kind, one of [`KINDS`].
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Act { action, .. } => action.kind(),
            Self::Notice(notice) => notice.kind(),
        }
    }
}
