//! Why the log cannot be opened, written or read. Each message names where, what, and the next step.

use std::io;
use std::path::PathBuf;

use thiserror::Error;
use treeline_tlog::{CheckpointError, NoteError};

/// Why a log was not opened for writing. Nothing in it has been changed, unless the variant says so.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The directory or its lock file could not be made.
    #[error("cannot use `{}` as the log directory", path.display())]
    Directory {
        /// The log directory.
        path: PathBuf,
        /// What the file system says.
        #[source]
        source: io::Error,
    },
    /// There is a writer already.
    #[error(
        "the log `{}` is being written by another process{}; a log has one writer: stop that one, or name another directory",
        path.display(), pid.map_or(String::new(), |pid| format!(" (pid {pid})"))
    )]
    Locked {
        /// The log directory.
        path: PathBuf,
        /// Who has it.
        pid: Option<u32>,
    },
    /// A file could not be read or mended.
    #[error("cannot {what} `{path}` of the log")]
    Io {
        /// What was attempted.
        what: &'static str,
        /// The file, below the log directory.
        path: String,
        /// What the file system says.
        #[source]
        source: io::Error,
    },
    /// The checkpoint is not one of this key.
    #[error(
        "the log's `checkpoint` is not signed by this log's key; `treeline log verify` says more. To begin a new log, move this directory away and keep it"
    )]
    ForeignCheckpoint(#[source] NoteError),
    /// The checkpoint is signed and yet cannot be read.
    #[error("the log's `checkpoint` cannot be read")]
    Checkpoint(#[source] CheckpointError),
    /// The checkpoint is another log's.
    #[error("the log's `checkpoint` is of the log `{found}`, and this log is `{expected}`")]
    WrongOrigin {
        /// Origin in the checkpoint.
        found: String,
        /// Name of the key.
        expected: String,
    },
    /// There are entries and no checkpoint.
    #[error(
        "the log has entries and no `checkpoint`: somebody removed it. Put it back, or move this directory away and keep it"
    )]
    CheckpointMissing,
    /// What was signed is not there any more.
    #[error(
        "the checkpoint has signed {signed} entries and only {found} are there; `treeline log verify` says more. To begin a new log, move this directory away and keep it"
    )]
    SignedEntriesMissing {
        /// Size in the checkpoint.
        signed: u64,
        /// Entries that could be read.
        found: u64,
    },
    /// What was signed is not what is there.
    #[error(
        "the first {size} entries are not those that the checkpoint has signed; `treeline log verify` names the place. To begin a new log, move this directory away and keep it"
    )]
    SignedEntriesChanged {
        /// Size in the checkpoint.
        size: u64,
    },
    /// The journal contradicts itself or the checkpoint.
    #[error(
        "the log's journal `{path}` {problem}; move the log directory away and keep it to begin a new log"
    )]
    Journal {
        /// The segment.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The first segment of the journal could not be begun.
    #[error("cannot begin the log's journal")]
    Write(#[source] LogError),
}

/// Why an entry was not taken, or a checkpoint not made.
#[derive(Debug, Error)]
pub enum LogError {
    /// Entries have a bound.
    #[error("an entry of {0} bytes is too long for the log; the bound is 65535 bytes")]
    EntryTooLong(usize),
    /// No room. Everything taken so far is kept, and the next call tries again.
    #[error(
        "the disk is full: cannot {what} `{path}` of the log. What was recorded is kept; new entries are refused until there is room"
    )]
    DiskFull {
        /// What was attempted.
        what: &'static str,
        /// The file, below the log directory.
        path: String,
        /// What the file system says.
        #[source]
        source: io::Error,
    },
    /// A write failed. Everything taken so far is kept, and the next call tries again.
    #[error("cannot {what} `{path}` of the log")]
    Io {
        /// What was attempted.
        what: &'static str,
        /// The file, below the log directory.
        path: String,
        /// What the file system says.
        #[source]
        source: io::Error,
    },
    /// A sync failed, so nobody knows what the disk holds. The log has to be opened anew, which finds out.
    #[error("the disk did not confirm what was written to the log ({0}); open the log again to recover it")]
    Unconfirmed(String),
    /// The key could not sign.
    #[error("cannot sign a checkpoint")]
    Sign(#[source] NoteError),
}

impl LogError {
    pub(super) fn io(what: &'static str, path: &str, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { what, path, source }
            }
            _ => Self::Io { what, path, source },
        }
    }

    /// Whether trying again is pointless before the log has been opened anew.
    #[must_use]
    pub fn needs_reopening(&self) -> bool {
        matches!(self, Self::Unconfirmed(_))
    }
}

/// Why a log cannot be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// A file could not be read.
    #[error("cannot read `{path}` of the log")]
    Io {
        /// The file, below the log directory.
        path: String,
        /// What the file system says.
        #[source]
        source: io::Error,
    },
    /// There is no checkpoint: no log, or one that has not signed anything yet.
    #[error("there is no `checkpoint`: this is not a log, or it has not signed anything yet")]
    NoCheckpoint,
    /// The checkpoint is not a note.
    #[error("the log's `checkpoint` is not a signed note")]
    Note(#[source] NoteError),
    /// The note is not a checkpoint.
    #[error("the log's `checkpoint` cannot be read")]
    Checkpoint(#[source] CheckpointError),
    /// A bundle does not hold the entries it should.
    #[error("`{path}` does not hold its entries; `treeline log verify` says more")]
    Bundle {
        /// The file, below the log directory.
        path: String,
        /// What is wrong.
        #[source]
        source: treeline_tlog::BundleError,
    },
}
