//! The evidence log: the only code that writes it, and the code that reads, proves and verifies it.
//!
//! # Bytes
//!
//! A log is a directory in the layout of `c2sp.org/tlog-tiles`, which other people's tools read, and a journal:
//!
//! ```text
//! checkpoint                  the latest signed note, `c2sp.org/tlog-checkpoint`, with lines `boot`, `time`, `epoch`
//! tile/<level>/<n>[.p/<w>]    hashes, 32 bytes each, 256 in a full tile
//! tile/entries/<n>[.p/<w>]    entries, each behind its length as a big-endian u16
//! journal/<first index>       the latest entries, see `journal.rs` for its bytes
//! vkey                        the public key, one line
//! key/ed25519.p8              the private key, PKCS#8, mode 0600
//! lock                        locked by the writer as long as it lives; holds its process id
//! damaged/                    what a recovery moved aside; never read, never removed
//! tmp/                        files that have no name yet
//! ```
//!
//! An entry has at most 65 535 bytes. What was appended is what is stored and hashed, byte for byte.
//!
//! # Invariants
//!
//! 1. What a published `checkpoint` covers is durable: in the journal, or in full tiles that were synced.
//! 2. When a `checkpoint` is there, so are the partial and full tiles that its size needs. Partial tiles of earlier
//!    checkpoints may be there; each begins as the later one does.
//! 3. The journal's oldest segment begins at a multiple of 256, not behind the signed size; every entry before it is
//!    in full, durable bundles.
//! 4. No two checkpoints that were ever signed contradict each other: entries are durable before they are signed, in
//!    this order: append to the journal, `fdatasync`, write partial tiles, sign, write the checkpoint to another
//!    name, `fsync`, rename, `fsync` of the directory.
//! 5. At most 2^18 entries are unsigned. A segment ends at the first checkpoint behind 65 536 entries or 64 MiB, and
//!    goes when a sync that began behind its last entry has ended; while that one lasts, the next segment may grow to
//!    eight times these bounds.
//!
//! # Recovery
//!
//! Opening verifies the checkpoint with the log's own key, replays the journal, and compares the root at the signed
//! size with the signed one. What can be made from the journal (tiles, bundles) is compared and made again where a
//! crash has kept it from the disk. An end of the journal that is not whole records, and full tiles from beyond the
//! last entry, are moved to `damaged/` and named in [`Recovery`]. Whole entries behind the signed size stay and are
//! signed next, after they have been written once more. If signed entries are missing or are not those that were signed, nothing is changed, opening fails
//! and says so: evidence is not mended by guessing.
//!
//! A full disk refuses new entries; those taken before stay in memory or in the journal, and appending goes on when
//! there is room. After a failed sync nobody knows what the disk holds (the kernel reports it once and forgets the
//! pages), so the writer refuses everything until the log is opened anew.
//!
//! # Why
//!
//! Tiles alone would do for reading, but a crash-safe partial bundle a second costs an `fsync` for each of its files.
//! The journal makes that one `fdatasync`, whatever the number of entries. The partial tiles of one second are
//! mostly removed in the next, before the kernel has written them to the disk at all. Full tiles become durable by
//! one `syncfs` when a segment ends, in the background, because it waits for everybody's writes to that disk. The
//! price is that each entry is written twice.
//!
//! The leaf hash is the journal's checksum because it has to be computed anyway. Segments are bounded, so opening
//! takes a second at most however large the log is.

mod audit;
pub mod bench;
pub mod clock;
pub mod disk;
#[cfg(test)]
mod disk_tests;
mod edge;
pub mod error;
mod journal;
pub mod key;
#[cfg(test)]
mod model;
#[cfg(test)]
mod model_tests;
mod reader;
mod recovery;
pub mod report;
pub mod storage;
mod verify;
#[cfg(test)]
mod verify_tests;
mod writer;

pub use clock::{Clock, SystemClock};
pub use disk::{LOCK, LockedLog};
pub use error::{LogError, OpenError, ReadError};
pub use key::{KeyError, LogKey, PublicKey, SoftwareKey};
pub use reader::{Cursor, Extent, LogReader};
pub use recovery::Recovery;
pub use report::{Finding, Remark, Report};
pub use verify::{Options, verify};
pub use writer::{CHECKPOINT_INTERVAL, HEARTBEAT_INTERVAL, LogWriter, Metrics};
