//! What somebody has approved of, as a backend is told it.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use treeline_event::{PathBytes, SessionId};

/// Approvals that hold at a time. Each is a person's decision.
pub const APPROVALS_MAX: usize = 64;

/// Rules that refuse the same, each of which somebody has to approve of.
pub const RULES_PER_APPROVAL_MAX: usize = 7;

/// One approval: who may do what to which object, until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approved {
    /// Index of the entry of what was refused.
    pub denial: u64,
    /// In which session.
    pub session: SessionId,
    /// What the subject executes.
    pub image: FileNumber,
    /// The rules that refuse it, by id.
    pub rules: Vec<String>,
    /// Bits over `treeline_abi::paths::Operation`.
    pub operations: u32,
    /// To what.
    pub object: ApprovedObject,
    /// `CLOCK_BOOTTIME` from which on it no longer holds, nanoseconds.
    pub until_ns: u64,
}

/// A file by its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileNumber {
    /// Device of the superblock, as the kernel encodes it (`major << 20 | minor`).
    pub device: u32,
    /// Inode number; 0 for a name that is to be created.
    pub inode: u64,
}

/// An object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovedObject {
    /// A file, by its own path and its number.
    File {
        /// Its own path.
        path: PathBytes,
        /// Its number, or 0 for a name that is to be created.
        inode: u64,
        /// Its device, where the entry has it.
        device: Option<u32>,
    },
    /// An address and a port.
    Address(SocketAddr),
    /// The abstract name of a unix socket.
    Abstract(PathBytes),
}
