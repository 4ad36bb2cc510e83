//! Which OCSF class and activity an event is. docs/events.md says why.

use crate::{Action, Body, Notice, Outcome, Verdict};

/// Where an event stands in OCSF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Class {
    pub(super) class_uid: u32,
    pub(super) activity_id: u32,
    /// Only for activity 99, where OCSF wants the source's own word.
    pub(super) activity_name: Option<&'static str>,
    pub(super) severity_id: u32,
    pub(super) status: Status,
}

/// How it ended, in OCSF's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) status_id: u32,
    pub(super) errno: Option<i32>,
}

const SUCCESS: Status = Status { status_id: 1, errno: None };
const FAILURE: Status = Status { status_id: 2, errno: None };
const OTHER: u32 = 99;
const EINPROGRESS: i32 = 115;

const PROCESS: u32 = 1007;
const FILE: u32 = 1001;
const NETWORK: u32 = 4001;
const APPLICATION: u32 = 6002;
const DEVICE_CONFIG: u32 = 5019;
const BASE: u32 = 0;

const INFORMATIONAL: u32 = 1;
const LOW: u32 = 2;
const MEDIUM: u32 = 3;

impl Class {
    pub(super) fn of(body: &Body) -> Self {
        match body {
            Body::Act { action, verdict, .. } => Self::act(action, *verdict),
            Body::Notice(notice) => Self::notice(notice),
        }
    }

    pub(super) fn category_uid(self) -> u32 {
        self.class_uid / 1000
    }

    pub(super) fn type_uid(self) -> u32 {
        self.class_uid * 100 + self.activity_id
    }

    fn act(action: &Action, verdict: Verdict) -> Self {
        let (class_uid, activity_id, activity_name) = match action {
            Action::Exec | Action::ExecDenied { .. } => (PROCESS, 1, None),
            Action::Map { .. } => (FILE, OTHER, Some("Map")),
            Action::Exit { .. } => (PROCESS, 2, None),
            Action::Fork { .. } => (PROCESS, OTHER, Some("Fork")),
            Action::Open { .. } => (FILE, 14, None),
            Action::Create { .. } => (FILE, 1, None),
            Action::Delete { .. } => (FILE, 4, None),
            Action::Rename { .. } => (FILE, 5, None),
            Action::Modify { .. } => (FILE, 3, None),
            Action::Link { .. } => (FILE, OTHER, Some("Link")),
            Action::Mount { .. } => (FILE, 12, None),
            Action::Receive { .. } => (FILE, OTHER, Some("Receive")),
            Action::Connect { outcome: Outcome::Errno(errno), .. } if verdict != Verdict::Deny => {
                (NETWORK, if *errno == EINPROGRESS { 1 } else { 4 }, None)
            }
            Action::Connect { .. } => (NETWORK, 1, None),
            Action::Tamper { .. } => (PROCESS, OTHER, Some("Tamper")),
            Action::Trace { .. } => (PROCESS, 3, None),
            Action::Adopt { .. } => (PROCESS, OTHER, Some("Adopt")),
        };
        let severity_id = match verdict {
            Verdict::Allow => INFORMATIONAL,
            Verdict::Audit => LOW,
            Verdict::Deny => MEDIUM,
        };
        let status = if verdict == Verdict::Deny { FAILURE } else { Status::of(action.outcome()) };
        Self { class_uid, activity_id, activity_name, severity_id, status }
    }

    fn notice(notice: &Notice) -> Self {
        let (class_uid, activity_id, activity_name, severity_id, status) = match notice {
            Notice::Started { .. } | Notice::SessionStarted { .. } => {
                (APPLICATION, 3, None, INFORMATIONAL, SUCCESS)
            }
            Notice::Stopped { .. } | Notice::SessionEnded { .. } => {
                (APPLICATION, 4, None, INFORMATIONAL, SUCCESS)
            }
            Notice::PolicyApplied { .. } => (DEVICE_CONFIG, 1, None, INFORMATIONAL, SUCCESS),
            Notice::PolicyRejected { .. } => (DEVICE_CONFIG, 1, None, MEDIUM, FAILURE),
            Notice::Approved { .. } => (DEVICE_CONFIG, 1, None, LOW, SUCCESS),
            Notice::ApprovalEnded { .. } => (DEVICE_CONFIG, 1, None, INFORMATIONAL, SUCCESS),
            Notice::ApprovalRefused { .. } => (DEVICE_CONFIG, 1, None, MEDIUM, FAILURE),
            Notice::Lost { .. } => (BASE, OTHER, Some("Loss"), MEDIUM, FAILURE),
            Notice::ImageHashed { .. } => (BASE, OTHER, Some("Image hashed"), INFORMATIONAL, SUCCESS),
            Notice::Malformed { .. } => (BASE, OTHER, Some("Malformed input"), MEDIUM, FAILURE),
        };
        Self { class_uid, activity_id, activity_name, severity_id, status }
    }
}

impl Status {
    fn of(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Ok => SUCCESS,
            Outcome::Errno(EINPROGRESS) => Self { status_id: OTHER, errno: Some(EINPROGRESS) },
            Outcome::Errno(errno) => Self { status_id: 2, errno: Some(errno) },
            Outcome::Unknown => Self { status_id: 0, errno: None },
        }
    }
}
