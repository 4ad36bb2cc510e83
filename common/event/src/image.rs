//! Executable images and files by identity and content.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::path::PathBytes;

/// What a file is, whatever it is called: the fields that change when another file, or other content, takes its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileId {
    /// Major number of the superblock's device.
    pub major: u32,
    /// Minor number of the superblock's device.
    pub minor: u32,
    /// Inode number.
    pub inode: u64,
    /// Size in bytes.
    pub size: u64,
    /// Modification time, nanoseconds since the epoch.
    pub mtime_ns: u64,
    /// Change time, nanoseconds since the epoch.
    pub ctime_ns: u64,
}

/// The SHA-256 of a file's content, or why there is none. Never a hash of something else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Digest {
    /// Being computed; an [`crate::Notice::ImageHashed`] follows.
    #[default]
    Pending,
    /// The content of exactly the file that the kernel saw.
    Sha256(#[serde(with = "hex::serde")] [u8; 32]),
    /// The file at that place is not, or no longer, what the kernel saw.
    Changed,
    /// There is no such file any more.
    Gone,
    /// The agent could not read it (an I/O error, a network file system that refuses root...).
    Unreadable,
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pending => f.write_str("pending"),
            Self::Sha256(digest) => f.write_str(&hex::encode(digest)),
            Self::Changed => f.write_str("changed"),
            Self::Gone => f.write_str("gone"),
            Self::Unreadable => f.write_str("unreadable"),
        }
    }
}

/// An executable, interpreter or script.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Image {
    /// The file's own path (for a memfd `memfd:NAME`).
    pub path: PathBytes,
    /// Its identity.
    pub file: FileId,
    /// SHA-256 of its content.
    pub digest: Digest,
    /// GNU build-id, lower-case hexadecimal, when the file has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_id: Option<String>,
    /// It has no name in any directory: a memfd, or deleted since it was opened.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unlinked: bool,
    /// `false` when the identity comes from looking the name up and not from the kernel's own record.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub seen_by_kernel: bool,
}

fn yes() -> bool {
    true
}
