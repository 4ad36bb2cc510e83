//! The right edge of the log in memory: what the next entry touches.

use std::io;

use treeline_tlog::bundle::push_entry;
use treeline_tlog::tile::{
    LEVEL_MAX, TILE_HEIGHT, TILE_WIDTH, Tile, hashes_at_level, partial_tiles, subtree_hash,
};
use treeline_tlog::{Frontier, Hash, bundle_path, tile_path};

use super::storage::Source;

const TILE_LEN: usize = 256 * 32;

/// A tile or bundle that is full and has still to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finished {
    pub(super) path: String,
    pub(super) bytes: Vec<u8>,
}

/// The tree's frontier, the open bundle and the open tile of every level.
#[derive(Clone, Debug, Default)]
pub(super) struct Edge {
    frontier: Frontier,
    bundle: Vec<u8>,
    /// By level: the bytes of the tile that is not full yet.
    tiles: Vec<Vec<u8>>,
}

impl Edge {
    /// The edge of a log of `size` entries, a multiple of 256, from its full tiles.
    ///
    /// Whether they are the right ones shows when the root is compared with a signed one. `Ok(None)` if one is
    /// missing or has not 256 hashes. Reads at most 255 tiles a level.
    pub(super) fn load(source: &dyn Source, size: u64) -> io::Result<Option<Self>> {
        assert_eq!(size % TILE_WIDTH, 0, "segments begin with a bundle");
        let mut this = Self::default();
        let mut bytes = Vec::new();
        for level in 1..=LEVEL_MAX {
            let hashes = hashes_at_level(size, level);
            let mut tile = Vec::new();
            for index in hashes / TILE_WIDTH * TILE_WIDTH..hashes {
                let child = Tile { level: level - 1, index, width: 256 };
                match source.read(&tile_path(child), TILE_LEN, &mut bytes) {
                    Ok(()) if bytes.len() == TILE_LEN => {}
                    Ok(()) => return Ok(None),
                    Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::FileTooLarge) => {
                        return Ok(None);
                    }
                    Err(e) => return Err(e),
                }
                tile.extend_from_slice(&subtree_hash(bytes.as_chunks().0));
            }
            this.tiles.resize(usize::from(level) + 1, Vec::new());
            this.tiles[usize::from(level)] = tile;
        }
        this.frontier =
            Frontier::from_subtrees(size, this.subtrees()).expect("the widths are the digits of the size");
        Ok(Some(this))
    }

    /// The perfect subtrees of the open tiles, the largest first.
    fn subtrees(&self) -> Vec<Hash> {
        let mut subtrees = Vec::new();
        for tile in self.tiles.iter().rev() {
            let mut rest: &[Hash] = tile.as_chunks().0;
            while !rest.is_empty() {
                let (subtree, tail) = rest.split_at(1 << rest.len().ilog2());
                subtrees.push(subtree_hash(subtree));
                rest = tail;
            }
        }
        subtrees
    }

    pub(super) fn size(&self) -> u64 {
        self.frontier.size()
    }

    pub(super) fn root(&self) -> Hash {
        self.frontier.root()
    }

    /// The bytes of the bundle that is not full yet, and the hashes of its entries.
    pub(super) fn open_bundle(&self) -> (&[u8], &[Hash]) {
        (&self.bundle, self.tiles.first().map_or(&[], |tile| tile.as_chunks().0))
    }

    /// Appends an entry, whose length has been checked; what it completes goes to `finished`.
    pub(super) fn push(&mut self, entry: &[u8], leaf: Hash, finished: &mut Vec<Finished>) {
        push_entry(&mut self.bundle, entry).expect("the length has been checked");
        let tiles = &mut self.tiles;
        self.frontier.append_with(leaf, |height, hash| {
            if height % TILE_HEIGHT == 0 {
                let level = (height / TILE_HEIGHT) as usize;
                if tiles.len() <= level {
                    tiles.resize(level + 1, Vec::new());
                }
                tiles[level].extend_from_slice(hash);
            }
        });
        let size = self.size();
        if !size.is_multiple_of(TILE_WIDTH) {
            return;
        }
        let index = size / TILE_WIDTH - 1;
        let next = Vec::with_capacity(self.bundle.len());
        finished.push(Finished {
            path: bundle_path(index, 256),
            bytes: std::mem::replace(&mut self.bundle, next),
        });
        for level in 0..=LEVEL_MAX {
            let Some(bytes) = self.tiles.get_mut(usize::from(level)).filter(|t| t.len() == TILE_LEN) else {
                break;
            };
            let bytes = std::mem::replace(bytes, Vec::with_capacity(TILE_LEN));
            let index = hashes_at_level(size, level) / TILE_WIDTH - 1;
            finished.push(Finished { path: tile_path(Tile { level, index, width: 256 }), bytes });
        }
    }

    /// Path and bytes of the partial bundle and tiles that a checkpoint of this size needs.
    pub(super) fn partials(&self) -> Vec<(String, &[u8])> {
        let mut partials = Vec::new();
        for tile in partial_tiles(self.size()) {
            if tile.level == 0 {
                partials.push((bundle_path(tile.index, tile.width), &self.bundle[..]));
            }
            partials.push((tile_path(tile), &self.tiles[usize::from(tile.level)][..]));
        }
        partials
    }
}
