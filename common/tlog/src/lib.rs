//! Transparency log primitives: RFC 6962 hashing, C2SP tiles, signed notes, checkpoints and proofs.
//!
//! Pure: no I/O, no clock, no signature mathematics. Bytes come from a [`TileReader`], signatures from a
//! [`Signer`], and are judged by a [`Verifier`]; all three belong to the caller.
//!
//! Formats, each written and read exactly as its specification says: `c2sp.org/tlog-tiles`,
//! `c2sp.org/signed-note`, `c2sp.org/tlog-checkpoint`, `c2sp.org/tlog-proof`.
#![forbid(unsafe_code)]

pub mod bundle;
pub mod checkpoint;
pub mod frontier;
pub mod hash;
pub mod inclusion;
pub mod note;
pub mod offline;
pub mod proof;
pub mod tile;
pub mod vkey;

pub use bundle::{Bundle, BundleError, ENTRY_LEN_MAX};
pub use checkpoint::{Checkpoint, CheckpointError};
pub use frontier::Frontier;
pub use hash::{EMPTY_ROOT, Hash, leaf_hash, node_hash};
pub use inclusion::{VerifyError, verify_consistency, verify_inclusion};
pub use note::{Note, NoteError, SignError, Signer, Verifier};
pub use offline::{OfflineProof, OfflineProofError};
pub use proof::{ProofError, TileReader, prove_consistency, prove_inclusion, tree_root};
pub use tile::{Tile, TileKind, bundle_path, tile_path};
pub use vkey::{Algorithm, VerifierKey, VerifierKeyError};
