//! Where the hashes of a tree are kept: tiles of 256 consecutive hashes, named as `c2sp.org/tlog-tiles` says.

use crate::hash::{Hash, node_hash};

/// Hashes in a full tile, entries in a full bundle.
pub const TILE_WIDTH: u64 = 256;

/// Height of a tile: a tile holds one hash for each of its 2^8 leaves.
pub const TILE_HEIGHT: u32 = 8;

/// The highest level that a tree of 2^64 entries has.
pub const LEVEL_MAX: u8 = 7;

/// One tile: `width` hashes (1 to 256) of level `level`, from `index` * 256 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    /// 0 for the hashes of entries; a hash of level `n + 1` covers a full tile of level `n`.
    pub level: u8,
    /// Number of the tile in its level.
    pub index: u64,
    /// Number of hashes, 1 to 256.
    pub width: u16,
}

/// What a path below `tile/` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TileKind {
    /// A tile of hashes.
    Hashes(Tile),
    /// A bundle of entries.
    Entries {
        /// Number of the bundle.
        index: u64,
        /// Number of entries, 1 to 256.
        width: u16,
    },
}

/// The number of hashes that a tree of `size` entries has at `level`.
#[must_use]
pub fn hashes_at_level(size: u64, level: u8) -> u64 {
    size.checked_shr(u32::from(level) * TILE_HEIGHT).unwrap_or(0)
}

/// The width of tile `index` of `level` in a tree of `size` entries; 0 if there is no such tile.
#[must_use]
pub fn width_at(size: u64, level: u8, index: u64) -> u16 {
    let rest = hashes_at_level(size, level).saturating_sub(index.saturating_mul(TILE_WIDTH));
    u16::try_from(rest.min(TILE_WIDTH)).expect("at most 256")
}

/// The partial tiles, one for each level that has one, of a tree of `size` entries.
pub fn partial_tiles(size: u64) -> impl Iterator<Item = Tile> {
    (0..=LEVEL_MAX).filter_map(move |level| {
        let hashes = hashes_at_level(size, level);
        let width = u16::try_from(hashes % TILE_WIDTH).expect("below 256");
        (width != 0).then_some(Tile { level, index: hashes / TILE_WIDTH, width })
    })
}

/// The hash of the perfect subtree over `hashes`, whose number must be a power of two.
///
/// # Panics
/// If the number of hashes is not a power of two.
#[must_use]
pub fn subtree_hash(hashes: &[Hash]) -> Hash {
    assert!(hashes.len().is_power_of_two(), "a perfect subtree has 2^n leaves");
    let mut row = hashes.to_vec();
    while row.len() > 1 {
        for i in 0..row.len() / 2 {
            row[i] = node_hash(&row[2 * i], &row[2 * i + 1]);
        }
        row.truncate(row.len() / 2);
    }
    row[0]
}

/// Path of a tile below the log's prefix, such as `tile/0/x001/234.p/7`.
#[must_use]
pub fn tile_path(tile: Tile) -> String {
    format!("tile/{}/{}{}", tile.level, index_path(tile.index), width_suffix(tile.width))
}

/// Path of an entry bundle below the log's prefix, such as `tile/entries/x001/234`.
#[must_use]
pub fn bundle_path(index: u64, width: u16) -> String {
    format!("tile/entries/{}{}", index_path(index), width_suffix(width))
}

/// Reads a path that [`tile_path`] or [`bundle_path`] wrote; `None` for every other text.
#[must_use]
pub fn parse_path(path: &str) -> Option<TileKind> {
    let (level, rest) = path.strip_prefix("tile/")?.split_once('/')?;
    let (number, width) = match rest.split_once(".p/") {
        Some((number, width)) => (number, width.parse().ok().filter(|w| (1..256).contains(w))?),
        None => (rest, 256),
    };
    let mut index: u64 = 0;
    for part in number.split('/') {
        let digits = part.strip_prefix('x').unwrap_or(part);
        if digits.len() != 3 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        index = index.checked_mul(1000)?.checked_add(digits.parse().ok()?)?;
    }
    let kind = if level == "entries" {
        TileKind::Entries { index, width }
    } else {
        TileKind::Hashes(Tile { level: level.parse().ok().filter(|l| *l <= 63)?, index, width })
    };
    // One name for one thing: what would be written differently (leading zeros, a missing `x`) is no name.
    let written = match kind {
        TileKind::Entries { index, width } => bundle_path(index, width),
        TileKind::Hashes(tile) => tile_path(tile),
    };
    (written == path).then_some(kind)
}

fn index_path(index: u64) -> String {
    let mut path = format!("{:03}", index % 1000);
    let mut rest = index / 1000;
    while rest > 0 {
        path = format!("x{:03}/{path}", rest % 1000);
        rest /= 1000;
    }
    path
}

fn width_suffix(width: u16) -> String {
    if u64::from(width) == TILE_WIDTH { String::new() } else { format!(".p/{width}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_are_the_specifications() {
        let check = |level, index, width, expect: &str| {
            assert_eq!(tile_path(Tile { level, index, width }), expect);
        };
        check(0, 0, 256, "tile/0/000");
        check(1, 1_234_067, 256, "tile/1/x001/x234/067");
        check(0, 273, 112, "tile/0/273.p/112");
        check(2, 0, 1, "tile/2/000.p/1");
        assert_eq!(bundle_path(1000, 3), "tile/entries/x001/000.p/3");
    }

    #[test]
    fn other_texts_are_no_paths() {
        for path in [
            "tile/0/0",
            "tile/0/x000/001",
            "tile/00/000",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/01",
            "tile/64/000",
            "tile/0/x001",
            "checkpoint",
            "tile/0/",
            "tile/entries/000/001",
            "tile/0/000.p/",
            "tile/0/x999/x999/x999/x999/x999/x999/x999/999",
        ] {
            assert_eq!(parse_path(path), None, "{path}");
        }
    }

    #[test]
    fn the_specifications_example_of_70_000_entries() {
        let tiles: Vec<Tile> = partial_tiles(70_000).collect();
        let tile = |level, index, width| Tile { level, index, width };
        assert_eq!(tiles, [tile(0, 273, 112), tile(1, 1, 17), tile(2, 0, 1)]);
        assert_eq!(width_at(70_000, 0, 272), 256);
        assert_eq!(width_at(70_000, 0, 274), 0);
    }

    proptest! {
        #[test]
        fn every_path_is_read_back(level in 0_u8..64, index: u64, width in 1_u16..=256) {
            let tile = Tile { level, index, width };
            prop_assert_eq!(parse_path(&tile_path(tile)), Some(TileKind::Hashes(tile)));
            prop_assert_eq!(parse_path(&bundle_path(index, width)), Some(TileKind::Entries { index, width }));
        }

        #[test]
        fn no_text_panics(text in "(tile/)?[0-9a-zx/.p]{0,40}") {
            let _ = parse_path(&text);
        }
    }
}
