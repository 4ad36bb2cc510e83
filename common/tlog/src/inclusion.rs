//! Checking proofs, as RFC 9162 sections 2.1.3.2 and 2.1.4.2 say.

use thiserror::Error;

use crate::hash::{EMPTY_ROOT, Hash, node_hash};

/// Why a proof proves nothing.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum VerifyError {
    /// The entry is not in a tree of this size.
    #[error("entry {index} is not in a tree of {size} entries")]
    IndexBeyondSize {
        /// The entry.
        index: u64,
        /// The tree.
        size: u64,
    },
    /// The older tree is the larger one.
    #[error("a tree of {old} entries cannot come before one of {new}")]
    SizesReversed {
        /// Entries of the older tree.
        old: u64,
        /// Entries of the newer tree.
        new: u64,
    },
    /// Too many or too few hashes.
    #[error("the proof has {0} hashes, another number than the tree's shape needs")]
    WrongLength(usize),
    /// The hashes lead to another root.
    #[error("the proof leads to another root hash")]
    WrongRoot,
}

/// Checks that `leaf` is the hash of entry `index` in the tree of `size` entries with this root.
///
/// # Errors
/// A [`VerifyError`] that says why not.
pub fn verify_inclusion(
    index: u64,
    size: u64,
    leaf: &Hash,
    proof: &[Hash],
    root: &Hash,
) -> Result<(), VerifyError> {
    if index >= size {
        return Err(VerifyError::IndexBeyondSize { index, size });
    }
    let (mut position, mut last) = (index, size - 1);
    let mut node = *leaf;
    for sibling in proof {
        if last == 0 {
            return Err(VerifyError::WrongLength(proof.len()));
        }
        if position & 1 == 1 || position == last {
            node = node_hash(sibling, &node);
            while position & 1 == 0 && position != 0 {
                position >>= 1;
                last >>= 1;
            }
        } else {
            node = node_hash(&node, sibling);
        }
        position >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(VerifyError::WrongLength(proof.len()));
    }
    if node == *root { Ok(()) } else { Err(VerifyError::WrongRoot) }
}

/// Checks that the tree of `new` entries begins with the tree of `old` entries.
///
/// # Errors
/// A [`VerifyError`] that says why not.
pub fn verify_consistency(
    old: u64,
    new: u64,
    old_root: &Hash,
    new_root: &Hash,
    proof: &[Hash],
) -> Result<(), VerifyError> {
    if old > new {
        return Err(VerifyError::SizesReversed { old, new });
    }
    if old == 0 || old == new {
        let expected = if old == 0 { &EMPTY_ROOT } else { new_root };
        return match (proof.is_empty(), old_root == expected) {
            (false, _) => Err(VerifyError::WrongLength(proof.len())),
            (true, false) => Err(VerifyError::WrongRoot),
            (true, true) => Ok(()),
        };
    }
    let wrong_length = VerifyError::WrongLength(proof.len());
    let (mut old_node, mut rest) =
        if old.is_power_of_two() { (*old_root, proof) } else { split(proof).ok_or(wrong_length)? };
    let mut new_node = old_node;
    let (mut position, mut last) = (old - 1, new - 1);
    let common = position.trailing_ones();
    position >>= common;
    last >>= common;
    while let Some((sibling, tail)) = rest.split_first() {
        if last == 0 {
            return Err(wrong_length);
        }
        if position & 1 == 1 || position == last {
            old_node = node_hash(sibling, &old_node);
            new_node = node_hash(sibling, &new_node);
            while position & 1 == 0 && position != 0 {
                position >>= 1;
                last >>= 1;
            }
        } else {
            new_node = node_hash(&new_node, sibling);
        }
        position >>= 1;
        last >>= 1;
        rest = tail;
    }
    if last != 0 {
        return Err(wrong_length);
    }
    if old_node == *old_root && new_node == *new_root { Ok(()) } else { Err(VerifyError::WrongRoot) }
}

fn split(proof: &[Hash]) -> Option<(Hash, &[Hash])> {
    proof.split_first().map(|(first, rest)| (*first, rest))
}
