//! A question to a policy and its answer.

use std::{net::IpAddr, sync::Arc};

use serde::Serialize;
use treeline_event::Verdict;

use crate::{
    mcp::McpCall,
    policy::{Executable, FileOperation},
    posture::Posture,
    session::Session,
    tool::ToolCall,
};

/// Who acts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// Absolute path of the executable file; empty when it cannot be determined.
    pub executable: Vec<u8>,
    /// SHA-256 of its content, when it is known.
    pub sha256: Option<[u8; 32]>,
    /// User id. No rule asks for it yet; it is part of what is explained.
    pub uid: u32,
    /// It was started with a variable that puts other code into it.
    pub loads_code: bool,
    /// What it and those before it have executed.
    pub lineage: Lineage,
    /// What is known of its session.
    pub session: Arc<Session>,
}

/// What is known of a subject's lineage: of what its creators, back to the session's root, and it itself executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lineage {
    /// The images.
    Images {
        /// As far as they are known, the subject's own among them.
        images: Vec<Executed>,
        /// Whether there were no others.
        complete: bool,
    },
    /// What came of each condition that a policy has. One that is not there is unknown.
    Found(Arc<Vec<(Executable, Holds)>>),
}

impl Default for Lineage {
    fn default() -> Self {
        Self::Images { images: Vec::new(), complete: false }
    }
}

/// An image that was executed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Executed {
    /// Absolute path; empty when it is not known.
    pub path: Vec<u8>,
    /// SHA-256 of its content, when it was known.
    pub sha256: Option<[u8; 32]>,
    /// It was started with a variable that puts other code into it.
    pub loads_code: bool,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holds {
    /// It does not.
    No,
    /// It cannot be told.
    Unknown,
    /// It does.
    Yes,
}

/// What is acted on, and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Object {
    /// A file.
    File {
        /// Its own absolute path.
        path: Vec<u8>,
        /// How.
        operation: FileOperation,
    },
    /// Execution of a file.
    Exec {
        /// Its own absolute path.
        path: Vec<u8>,
        /// SHA-256 of its content, when it is known.
        sha256: Option<[u8; 32]>,
    },
    /// A connect to an address.
    Connect {
        /// The address; it counts as what the kernel connects to.
        address: IpAddr,
        /// The port.
        port: u16,
    },
    /// A connect to a unix socket by path.
    ConnectUnix {
        /// Its own absolute path.
        path: Vec<u8>,
    },
    /// A connect to a unix socket by abstract name.
    ConnectAbstract {
        /// The name, without `@`.
        name: Vec<u8>,
    },
    /// A socket whose destinations cannot be looked at: raw, packet, SCTP, and families that no rule can name.
    RawSocket,
    /// Access to a process outside of the session: `ptrace`, its memory, its descriptors.
    Trace,
    /// A call of an agent's tool.
    Tool(ToolCall),
    /// A call of a tool of a server.
    Mcp(McpCall),
    /// The state of the machine.
    Posture(Posture),
}

impl Object {
    /// Whether it is one that no kernel program sees.
    #[must_use]
    pub fn is_for_the_sensor(&self) -> bool {
        matches!(self, Self::Tool(_) | Self::Mcp(_) | Self::Posture(_))
    }
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Who.
    pub subject: Subject,
    /// What.
    pub object: Object,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// What is decided.
    pub verdict: Verdict,
    /// Index of the rule that decides, for `audit` and `deny`.
    pub rule: Option<usize>,
}

impl Decision {
    /// No rule matches.
    pub const ALLOW: Self = Self { verdict: Verdict::Allow, rule: None };
}
