//! Roots and proofs are those of an implementation that is not ours, byte for byte.

use std::collections::BTreeMap;

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use proptest::prelude::*;
use sha2_oracle::Sha256;
use treeline_tlog::{Frontier, Hash, Tile, TileReader, leaf_hash, prove_consistency, prove_inclusion};

/// All tiles of a tree.
#[derive(Default)]
struct Tiles(BTreeMap<u8, Vec<u8>>);

impl TileReader for &Tiles {
    type Error = ();

    fn read_tile(&mut self, tile: Tile) -> Result<Vec<u8>, ()> {
        let start = usize::try_from(tile.index).expect("small") * 256 * 32;
        let end = start + usize::from(tile.width) * 32;
        self.0.get(&tile.level).and_then(|level| level.get(start..end)).map(<[u8]>::to_vec).ok_or(())
    }
}

fn entry(index: u64) -> Vec<u8> {
    index.to_le_bytes()[..usize::try_from(index % 9).expect("below 9")].to_vec()
}

fn ours(size: u64) -> (Tiles, Hash) {
    let mut tiles = Tiles::default();
    let mut frontier = Frontier::default();
    for index in 0..size {
        frontier.append_with(leaf_hash(&entry(index)), |height, hash| {
            if height % 8 == 0 {
                tiles.0.entry(u8::try_from(height / 8).expect("small")).or_default().extend_from_slice(hash);
            }
        });
    }
    (tiles, frontier.root())
}

fn theirs(size: u64) -> MemoryBackedTree<Sha256, Vec<u8>> {
    let mut tree = MemoryBackedTree::new();
    (0..size).for_each(|index| tree.push(entry(index)));
    tree
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn roots_and_proofs_are_the_oracles((old, size) in (1_u64..900).prop_flat_map(|size| (1..=size, Just(size)))) {
        let (tiles, root) = ours(size);
        let tree = theirs(size);
        prop_assert_eq!(root.to_vec(), tree.root().as_bytes().to_vec());
        let index = old - 1;
        let inclusion = prove_inclusion(&tiles, index, size).expect("all tiles are there");
        let place = usize::try_from(index).expect("small");
        prop_assert_eq!(inclusion.concat(), tree.prove_inclusion(place).as_bytes().to_vec());
        if old < size {
            let consistency = prove_consistency(&tiles, old, size).expect("all tiles are there");
            let additions = usize::try_from(size - old).expect("small");
            prop_assert_eq!(consistency.concat(), tree.prove_consistency(additions).as_bytes().to_vec());
        }
    }
}
