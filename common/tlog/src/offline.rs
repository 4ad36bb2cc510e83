//! A proof in one file, to be checked without the log: `c2sp.org/tlog-proof`.

use std::fmt;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use thiserror::Error;

use crate::checkpoint::parse_decimal;
use crate::hash::{Hash, leaf_hash};
use crate::{Checkpoint, CheckpointError, Note, NoteError, Verifier, VerifyError, verify_inclusion};

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";

/// The most hashes in a proof: the height of the largest tree.
pub const PROOF_HASHES_MAX: usize = 64;

/// Why an offline proof cannot be read or proves nothing.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OfflineProofError {
    /// The text is not in the form of an offline proof.
    #[error("not a tlog-proof: {0}")]
    Malformed(&'static str),
    /// The checkpoint in it is not signed by the key.
    #[error("the proof's checkpoint cannot be trusted")]
    Note(#[source] NoteError),
    /// The checkpoint in it cannot be read.
    #[error("the proof's checkpoint cannot be read")]
    Checkpoint(#[source] CheckpointError),
    /// The hashes do not lead from the entry to the checkpoint's root.
    #[error("the entry is not proven to be in the log")]
    Inclusion(#[source] VerifyError),
}

/// An entry's place in a log, its inclusion proof, and the signed checkpoint that it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfflineProof {
    /// The entry's index.
    pub index: u64,
    /// From the entry's sibling upwards.
    pub hashes: Vec<Hash>,
    /// The whole signed checkpoint.
    pub checkpoint: String,
}

impl OfflineProof {
    /// Reads a proof. A line of `extra` data is skipped: nothing vouches for it.
    ///
    /// # Errors
    /// [`OfflineProofError::Malformed`].
    pub fn parse(text: &str) -> Result<Self, OfflineProofError> {
        let malformed = OfflineProofError::Malformed;
        let (head, checkpoint) =
            text.split_once("\n\n").ok_or(malformed("no empty line before the checkpoint"))?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(FIRST_LINE) {
            return Err(malformed("the first line is not `c2sp.org/tlog-proof@v1`"));
        }
        lines.next_if(|line| line.starts_with("extra "));
        let index = lines
            .next()
            .and_then(|line| parse_decimal(line.strip_prefix("index ")?))
            .ok_or(malformed("no `index` line"))?;
        let hashes: Vec<Hash> = lines
            .take(PROOF_HASHES_MAX + 1)
            .map(|line| BASE64_STANDARD.decode(line).ok()?.try_into().ok())
            .collect::<Option<_>>()
            .ok_or(malformed("a line is not a hash in base64"))?;
        if hashes.len() > PROOF_HASHES_MAX {
            return Err(malformed("more than 64 hashes"));
        }
        Ok(Self { index, hashes, checkpoint: checkpoint.to_owned() })
    }

    /// Checks that `entry` is in the log of this key, at this proof's index, and returns the checkpoint that says so.
    ///
    /// # Errors
    /// [`OfflineProofError`], by step.
    pub fn verify(&self, entry: &[u8], verifier: &dyn Verifier) -> Result<Checkpoint, OfflineProofError> {
        let note = Note::parse(self.checkpoint.as_bytes()).map_err(OfflineProofError::Note)?;
        let text = note.verify(verifier).map_err(OfflineProofError::Note)?;
        let checkpoint: Checkpoint = text.parse().map_err(OfflineProofError::Checkpoint)?;
        verify_inclusion(self.index, checkpoint.size, &leaf_hash(entry), &self.hashes, &checkpoint.root)
            .map_err(OfflineProofError::Inclusion)?;
        Ok(checkpoint)
    }
}

impl fmt::Display for OfflineProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{FIRST_LINE}\nindex {}", self.index)?;
        for hash in &self.hashes {
            writeln!(f, "{}", BASE64_STANDARD.encode(hash))?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node_hash;
    use crate::note::{sign, tests::TestKey};
    use proptest::prelude::*;

    fn proof() -> (OfflineProof, TestKey) {
        let key = TestKey::new("a.example/log", 1);
        let (left, right) = (leaf_hash(b"left"), leaf_hash(b"right"));
        let checkpoint = Checkpoint {
            origin: "a.example/log".to_owned(),
            size: 2,
            root: node_hash(&left, &right),
            extensions: Vec::new(),
        };
        let checkpoint = sign(&checkpoint.to_string(), &key).expect("signs");
        (OfflineProof { index: 1, hashes: vec![left], checkpoint }, key)
    }

    #[test]
    fn a_proof_is_read_back_and_verifies() {
        let (proof, key) = proof();
        let read = OfflineProof::parse(&proof.to_string()).expect("a proof");
        assert_eq!(read, proof);
        assert_eq!(read.verify(b"right", &key).map(|c| c.size), Ok(2));
        assert_eq!(read.verify(b"wrong", &key), Err(OfflineProofError::Inclusion(VerifyError::WrongRoot)));
        let other = TestKey::new("a.example/log", 2);
        assert!(matches!(read.verify(b"right", &other), Err(OfflineProofError::Note(_))));
    }

    #[test]
    fn extra_data_is_skipped_and_damage_is_named() {
        let (proof, _) = proof();
        let text = proof.to_string();
        let extra = text.replacen("index", "extra AAAA\nindex", 1);
        assert_eq!(OfflineProof::parse(&extra), Ok(proof));
        for broken in [
            String::new(),
            text.replacen("v1", "v2", 1),
            text.replacen("index 1", "index 01", 1),
            text.replacen("index 1\n", "index 1\nxyz\n", 1),
            text.replacen(
                "index 1\n",
                &format!("index 1\n{}", format!("{}=\n", "A".repeat(43)).repeat(64)),
                1,
            ),
        ] {
            assert!(matches!(OfflineProof::parse(&broken), Err(OfflineProofError::Malformed(_))), "{broken}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "c2sp.org/tlog-proof@v1\n(index [0-9]{1,22}\n)?([A-Za-z0-9=]{0,44}\n){0,4}\n?\\PC{0,30}") {
            let _ = OfflineProof::parse(&text);
        }
    }
}
