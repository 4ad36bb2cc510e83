//! What a verification says.

use std::fmt;

use serde::Serialize;

/// The most findings that are listed. One is enough to distrust a log; a thousand are enough to see a pattern.
pub const FINDINGS_MAX: usize = 1000;

/// The result of a verification.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether nothing was found.
    pub whole: bool,
    /// The log's name, as its checkpoint says.
    pub origin: Option<String>,
    /// Entries that the checkpoint covers.
    pub signed_size: u64,
    /// The checkpoint's ordinal.
    pub epoch: Option<u64>,
    /// When the checkpoint was signed by the machine's clock, in milliseconds since 1970.
    pub time_ms: Option<u64>,
    /// Entries whose hash was computed.
    pub entries_checked: u64,
    /// Whether it was compared with a checkpoint from elsewhere. Without one, a log that was cut and honestly
    /// signed again looks whole.
    pub compared_with_known_checkpoint: bool,
    /// What is wrong, in the order in which it was found; at most [`FINDINGS_MAX`].
    pub findings: Vec<Finding>,
    /// What is worth knowing and is not wrong.
    pub remarks: Vec<Remark>,
}

/// Something that a whole log has not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Finding {
    /// There is no checkpoint.
    CheckpointMissing,
    /// The checkpoint is not signed by the key: forged, or of another log.
    CheckpointForged {
        /// What the signature check says.
        reason: String,
    },
    /// The checkpoint is signed and yet no checkpoint of this log.
    CheckpointMalformed {
        /// Why.
        reason: String,
    },
    /// The known checkpoint is not signed by the key either.
    KnownCheckpointForged {
        /// What the signature check says.
        reason: String,
    },
    /// The log is shorter than it once was.
    RolledBack {
        /// Entries of the known checkpoint.
        known_size: u64,
        /// Entries of the log's checkpoint.
        size: u64,
    },
    /// The entries up to the known checkpoint are not those that it covered.
    Rewritten {
        /// Entries of the known checkpoint.
        known_size: u64,
    },
    /// The checkpoint covers entries that are not there.
    Truncated {
        /// The first that is missing.
        first_missing: u64,
        /// Entries that the checkpoint covers.
        size: u64,
    },
    /// A file that the checkpoint needs is not there, and others behind it are.
    FileMissing {
        /// The file, below the log directory.
        path: String,
    },
    /// An entry is not the one that was hashed.
    EntryChanged {
        /// Its index.
        index: u64,
        /// The file, below the log directory.
        path: String,
    },
    /// An entry was taken out of its bundle.
    EntryRemoved {
        /// Its index.
        index: u64,
        /// The file, below the log directory.
        path: String,
    },
    /// An entry was put into a bundle.
    EntryAdded {
        /// The index it stands at.
        index: u64,
        /// The file, below the log directory.
        path: String,
    },
    /// Entries were changed together with the tile of their hashes.
    EntriesRewritten {
        /// The first of them.
        first: u64,
        /// How many; at least one of these is not the one that was signed.
        count: u64,
    },
    /// A bundle cannot be read as entries.
    BundleDamaged {
        /// The file, below the log directory.
        path: String,
        /// Why.
        reason: String,
    },
    /// A hash in a tile is not that of the entries below it.
    TileChanged {
        /// The file, below the log directory.
        path: String,
        /// The first wrong hash in it.
        position: u64,
    },
    /// The file holds more or fewer hashes than its name says.
    TileLength {
        /// The file, below the log directory.
        path: String,
        /// Its bytes.
        found: u64,
        /// The bytes it should have.
        expected: u64,
    },
    /// A file below `tile/` that a log does not have.
    FileUnexpected {
        /// The file, below the log directory.
        path: String,
    },
    /// All entries are there, and they are not those that were signed.
    RootMismatch {
        /// Entries that the checkpoint covers.
        size: u64,
    },
    /// There are more findings than are listed.
    More,
}

/// Something worth knowing that is not wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Remark {
    /// Entries that no checkpoint covers yet.
    UnsignedEntries {
        /// How many.
        count: u64,
    },
    /// The key came from the log directory: whoever could change the log could change it too.
    KeyFromLogDirectory,
    /// Files that a recovery moved aside.
    MovedAside {
        /// The file, below the log directory.
        path: String,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CheckpointMissing => write!(f, "there is no `checkpoint`"),
            Self::CheckpointForged { reason } => {
                write!(f, "the `checkpoint` is forged or another log's: {reason}")
            }
            Self::CheckpointMalformed { reason } => {
                write!(f, "the `checkpoint` is signed and malformed: {reason}")
            }
            Self::KnownCheckpointForged { reason } => {
                write!(f, "the known checkpoint is not one of this key: {reason}")
            }
            Self::RolledBack { known_size, size } => {
                write!(f, "the log is rolled back: it once had {known_size} entries and has {size}")
            }
            Self::Rewritten { known_size } => {
                write!(
                    f,
                    "the log is rewritten: its first {known_size} entries are not those of the known checkpoint"
                )
            }
            Self::Truncated { first_missing, size } => {
                write!(
                    f,
                    "the log is truncated: entries from {first_missing} on are missing, {size} were signed"
                )
            }
            Self::FileMissing { path } => write!(f, "`{path}` is missing"),
            Self::EntryChanged { index, path } => write!(f, "entry {index} was changed (in `{path}`)"),
            Self::EntryRemoved { index, path } => write!(f, "entry {index} was removed (from `{path}`)"),
            Self::EntryAdded { index, path } => write!(f, "an entry was put in at {index} (in `{path}`)"),
            Self::EntriesRewritten { first, count } => write!(
                f,
                "of the {count} entries from {first} on at least one was changed, and the tile of their hashes with it"
            ),
            Self::BundleDamaged { path, reason } => write!(f, "`{path}` is damaged: {reason}"),
            Self::TileChanged { path, position } => {
                write!(f, "hash {position} of `{path}` is not that of its entries")
            }
            Self::TileLength { path, found, expected } => {
                write!(f, "`{path}` has {found} bytes and should have {expected}")
            }
            Self::FileUnexpected { path } => write!(f, "`{path}` does not belong to the log"),
            Self::RootMismatch { size } => {
                write!(f, "the root of the {size} entries is not the one that was signed")
            }
            Self::More => write!(f, "there are more findings; only the first {FINDINGS_MAX} are listed"),
        }
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnsignedEntries { count } => write!(f, "{count} entries are not signed yet"),
            Self::KeyFromLogDirectory => write!(
                f,
                "the public key is the log directory's own; give the one that you noted with `--key` to be sure"
            ),
            Self::MovedAside { path } => write!(f, "a recovery moved damaged bytes to `{path}`"),
        }
    }
}
