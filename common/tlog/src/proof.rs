//! Making proofs from tiles, as RFC 6962 sections 2.1.1 and 2.1.2 define them.

use thiserror::Error;

use crate::hash::{EMPTY_ROOT, Hash};
use crate::node_hash;
use crate::tile::{TILE_HEIGHT, Tile, subtree_hash, width_at};

/// Where the tiles come from.
pub trait TileReader {
    /// Why a tile could not be had.
    type Error;

    /// The bytes of a tile: `width` hashes of 32 bytes.
    ///
    /// # Errors
    /// Whatever keeps the tile from being read.
    fn read_tile(&mut self, tile: Tile) -> Result<Vec<u8>, Self::Error>;
}

/// Why a proof could not be made.
#[derive(Debug, Error)]
pub enum ProofError<E> {
    /// The tile could not be read.
    #[error("cannot read tile {}", crate::tile::tile_path(*.0))]
    Read(Tile, #[source] E),
    /// The tile has another size than its width asks for.
    #[error("tile {} has {found} bytes", crate::tile::tile_path(*.tile))]
    WrongTileLength {
        /// Which.
        tile: Tile,
        /// Its length in bytes.
        found: usize,
    },
    /// There is no such entry, or the older tree is the larger one.
    #[error("{asked} is outside of a tree of {size} entries")]
    OutOfRange {
        /// The index or the size asked for.
        asked: u64,
        /// Size of the tree.
        size: u64,
    },
}

/// The hashes that prove entry `index` to be in the tree of `size` entries.
///
/// # Errors
/// [`ProofError::OutOfRange`] if `index` is not below `size`, else what reading tiles brings.
pub fn prove_inclusion<R: TileReader>(
    reader: R,
    index: u64,
    size: u64,
) -> Result<Vec<Hash>, ProofError<R::Error>> {
    if index >= size {
        return Err(ProofError::OutOfRange { asked: index, size });
    }
    let mut tree = Tree::new(reader, size);
    let mut proof = Vec::new();
    let (mut low, mut high) = (0, size);
    while high - low > 1 {
        let middle = split_point(low, high);
        if index < middle {
            proof.push(tree.range(middle, high)?);
            high = middle;
        } else {
            proof.push(tree.range(low, middle)?);
            low = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// The hashes that prove the tree of `new` entries to begin with the tree of `old` entries.
///
/// # Errors
/// [`ProofError::OutOfRange`] if `old` is above `new`, else what reading tiles brings.
pub fn prove_consistency<R: TileReader>(
    reader: R,
    old: u64,
    new: u64,
) -> Result<Vec<Hash>, ProofError<R::Error>> {
    if old > new {
        return Err(ProofError::OutOfRange { asked: old, size: new });
    }
    if old == 0 || old == new {
        return Ok(Vec::new());
    }
    let mut tree = Tree::new(reader, new);
    let mut proof = Vec::new();
    let (mut low, mut high) = (0, new);
    while old < high {
        let middle = split_point(low, high);
        if old <= middle {
            proof.push(tree.range(middle, high)?);
            high = middle;
        } else {
            proof.push(tree.range(low, middle)?);
            low = middle;
        }
    }
    // What is left is a subtree of the old tree; if it is the whole old tree, the verifier has its hash.
    if low != 0 {
        proof.push(tree.range(low, high)?);
    }
    proof.reverse();
    Ok(proof)
}

/// The root of the tree of `size` entries, from its tiles.
///
/// # Errors
/// What reading tiles brings.
pub fn tree_root<R: TileReader>(reader: R, size: u64) -> Result<Hash, ProofError<R::Error>> {
    if size == 0 { Ok(EMPTY_ROOT) } else { Tree::new(reader, size).range(0, size) }
}

/// The largest power of two below the length, added to the start.
fn split_point(low: u64, high: u64) -> u64 {
    low + (1 << (63 - (high - low - 1).leading_zeros()))
}

struct Tree<R> {
    reader: R,
    size: u64,
    /// Tiles read so far. A proof touches at most two in each of the eight levels.
    tiles: Vec<(Tile, Vec<Hash>)>,
}

impl<R: TileReader> Tree<R> {
    fn new(reader: R, size: u64) -> Self {
        Self { reader, size, tiles: Vec::new() }
    }

    /// The hash of the entries from `low` up to `high`, a range that the tree's splits produce.
    fn range(&mut self, low: u64, high: u64) -> Result<Hash, ProofError<R::Error>> {
        let len = high - low;
        if len.is_power_of_two() {
            return self.perfect(len.trailing_zeros(), low);
        }
        let middle = split_point(low, high);
        let left = self.range(low, middle)?;
        let right = self.range(middle, high)?;
        Ok(node_hash(&left, &right))
    }

    /// The hash of the perfect subtree of 2^`height` entries that starts at entry `low`.
    fn perfect(&mut self, height: u32, low: u64) -> Result<Hash, ProofError<R::Error>> {
        let level = u8::try_from(height / TILE_HEIGHT).expect("heights are below 64");
        let first = low >> (u32::from(level) * TILE_HEIGHT);
        let index = first >> TILE_HEIGHT;
        let offset = usize::try_from(first % 256).expect("below 256");
        let count = 1 << (height % TILE_HEIGHT);
        let hashes = self.tile(Tile { level, index, width: width_at(self.size, level, index) })?;
        Ok(subtree_hash(&hashes[offset..offset + count]))
    }

    fn tile(&mut self, tile: Tile) -> Result<&[Hash], ProofError<R::Error>> {
        let known = self.tiles.iter().position(|(t, _)| *t == tile);
        let position = match known {
            Some(position) => position,
            None => {
                let bytes = self.reader.read_tile(tile).map_err(|e| ProofError::Read(tile, e))?;
                let (hashes, rest) = bytes.as_chunks::<32>();
                if hashes.len() != usize::from(tile.width) || !rest.is_empty() {
                    return Err(ProofError::WrongTileLength { tile, found: bytes.len() });
                }
                self.tiles.push((tile, hashes.to_vec()));
                self.tiles.len() - 1
            }
        };
        Ok(&self.tiles[position].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Frontier, VerifyError, leaf_hash, verify_consistency, verify_inclusion};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// All tiles of a tree, as a writer that publishes everything would have left them.
    #[derive(Clone, Default)]
    struct Published {
        levels: BTreeMap<u8, Vec<u8>>,
        roots: Vec<Hash>,
    }

    impl Published {
        fn of(size: u64) -> Self {
            let mut this = Self::default();
            let mut frontier = Frontier::default();
            this.roots.push(frontier.root());
            for i in 0..size {
                frontier.append_with(leaf_hash(&i.to_le_bytes()), |height, hash| {
                    if height % TILE_HEIGHT == 0 {
                        let level = u8::try_from(height / TILE_HEIGHT).expect("small");
                        this.levels.entry(level).or_default().extend_from_slice(hash);
                    }
                });
                this.roots.push(frontier.root());
            }
            this
        }
    }

    impl TileReader for &Published {
        type Error = ();

        fn read_tile(&mut self, tile: Tile) -> Result<Vec<u8>, ()> {
            let start = usize::try_from(tile.index).expect("small") * 256 * 32;
            let end = start + usize::from(tile.width) * 32;
            self.levels.get(&tile.level).and_then(|l| l.get(start..end)).map(<[u8]>::to_vec).ok_or(())
        }
    }

    const SIZE_MAX: u64 = 66_000;

    fn published() -> &'static Published {
        static TREE: std::sync::OnceLock<Published> = std::sync::OnceLock::new();
        TREE.get_or_init(|| Published::of(SIZE_MAX))
    }

    fn index_and_size() -> impl Strategy<Value = (u64, u64)> {
        (1..=SIZE_MAX).prop_flat_map(|size| (0..size, Just(size)))
    }

    proptest! {
        #[test]
        fn any_entry_of_any_tree_is_proven((index, size) in index_and_size(), spoilt: prop::sample::Index) {
            let tree = published();
            let root = tree.roots[size as usize];
            let leaf = leaf_hash(&index.to_le_bytes());
            let mut proof = prove_inclusion(tree, index, size).expect("published");
            prop_assert_eq!(verify_inclusion(index, size, &leaf, &proof, &root), Ok(()));
            prop_assert_eq!(tree_root(tree, size).expect("published"), root);
            prop_assert!(verify_inclusion(index, size, &[7; 32], &proof, &root).is_err());
            proof.push([0; 32]);
            prop_assert!(verify_inclusion(index, size, &leaf, &proof, &root).is_err());
            proof.pop();
            if !proof.is_empty() {
                let which = spoilt.index(proof.len());
                proof[which][5] ^= 1;
                prop_assert_eq!(verify_inclusion(index, size, &leaf, &proof, &root), Err(VerifyError::WrongRoot));
                proof.pop();
                prop_assert!(verify_inclusion(index, size, &leaf, &proof, &root).is_err());
            }
        }

        #[test]
        fn any_two_trees_are_proven_consistent((old, new) in index_and_size()) {
            let tree = published();
            let (old_root, new_root) = (tree.roots[old as usize], tree.roots[new as usize]);
            let proof = prove_consistency(tree, old, new).expect("published");
            prop_assert_eq!(verify_consistency(old, new, &old_root, &new_root, &proof), Ok(()));
            prop_assert!(verify_consistency(old, new, &[7; 32], &new_root, &proof).is_err());
            prop_assert!(verify_consistency(old, new, &old_root, &[7; 32], &proof).is_err() || old == 0);
        }

        #[test]
        fn no_proof_panics(index: u64, size: u64, old: u64, proof in prop::collection::vec(any::<[u8; 32]>(), 0..70)) {
            let _ = verify_inclusion(index, size, &[0; 32], &proof, &[1; 32]);
            let _ = verify_consistency(old, size, &[0; 32], &[1; 32], &proof);
        }
    }

    #[test]
    fn every_pair_of_small_trees() {
        let tree = published();
        for new in 0..70_u64 {
            for old in 0..=new {
                let proof = prove_consistency(tree, old, new).expect("published");
                let (old_root, new_root) = (tree.roots[old as usize], tree.roots[new as usize]);
                assert_eq!(verify_consistency(old, new, &old_root, &new_root, &proof), Ok(()), "{old} {new}");
                if old < new {
                    let leaf = leaf_hash(&old.to_le_bytes());
                    let proof = prove_inclusion(tree, old, new).expect("published");
                    assert_eq!(verify_inclusion(old, new, &leaf, &proof, &new_root), Ok(()), "{old} {new}");
                }
            }
        }
    }

    #[test]
    fn a_tile_of_the_wrong_length_is_named() {
        struct Short;
        impl TileReader for Short {
            type Error = ();
            fn read_tile(&mut self, _: Tile) -> Result<Vec<u8>, ()> {
                Ok(vec![0; 31])
            }
        }
        assert!(matches!(prove_inclusion(Short, 0, 2), Err(ProofError::WrongTileLength { found: 31, .. })));
        assert!(matches!(prove_inclusion(Short, 2, 2), Err(ProofError::OutOfRange { asked: 2, size: 2 })));
    }
}
