//! Whether a log is whole, and if not, where not. Needs the log and the public key and nothing else.

use std::io;
use std::path::Path;

use treeline_tlog::bundle::BUNDLE_LEN_MAX;
use treeline_tlog::note::NOTE_LEN_MAX;
use treeline_tlog::tile::{TILE_HEIGHT, TILE_WIDTH, Tile, subtree_hash, width_at};
use treeline_tlog::{
    Bundle, Checkpoint, Frontier, Hash, Note, VerifierKey, bundle_path, leaf_hash, tile_path, tree_root,
};

use super::audit::{self, Found};
use super::disk::Directory;
use super::error::ReadError;
use super::key::PublicKey;
use super::report::{FINDINGS_MAX, Finding, Report};
use super::storage::Source;
use super::writer::CHECKPOINT;

/// What a log is compared with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// A checkpoint of this log that was kept elsewhere, with its signature. Only it shows a rolled-back log.
    pub known_checkpoint: Option<String>,
}

/// Verifies a log directory. A writer may be at work in it.
///
/// # Errors
/// [`ReadError::Io`] if a file is there and cannot be read; everything else is a finding.
pub fn verify(dir: &Path, key: &VerifierKey, options: &Options) -> Result<Report, ReadError> {
    verify_on(&Directory::new(dir), key, options)
}

pub(super) fn verify_on(
    source: &dyn Source,
    key: &VerifierKey,
    options: &Options,
) -> Result<Report, ReadError> {
    let mut check = Check {
        source,
        size: 0,
        root: treeline_tlog::EMPTY_ROOT,
        known: None,
        frontier: Frontier::default(),
        upper: Vec::new(),
        report: Report::default(),
    };
    let key = PublicKey(key.clone());
    if check.checkpoint(&key)? {
        check.known_checkpoint(&key, options);
        check.entries()?;
        check.roots();
        audit::files(source, check.size, &mut check.report)?;
    }
    let mut report = check.report;
    if report.findings.len() > FINDINGS_MAX {
        report.findings.truncate(FINDINGS_MAX);
        report.findings.push(Finding::More);
    }
    report.whole = report.findings.is_empty();
    Ok(report)
}

struct Check<'a> {
    source: &'a dyn Source,
    size: u64,
    root: Hash,
    known: Option<Checkpoint>,
    frontier: Frontier,
    /// By level, from 1 on: the tile that the next completed subtree of that level is compared with.
    upper: Vec<Option<(Tile, Vec<u8>)>>,
    report: Report,
}

impl Check<'_> {
    fn find(&mut self, finding: Finding) {
        // One more than is listed, so that the end can say that there are more.
        if self.report.findings.len() <= FINDINGS_MAX {
            self.report.findings.push(finding);
        }
    }

    /// Reads the log's own checkpoint. `false` if there is nothing to go on with.
    fn checkpoint(&mut self, key: &PublicKey) -> Result<bool, ReadError> {
        let mut bytes = Vec::new();
        match self.source.read(CHECKPOINT, NOTE_LEN_MAX, &mut bytes) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.find(Finding::CheckpointMissing);
                return Ok(false);
            }
            Err(source) => return Err(ReadError::Io { path: CHECKPOINT.to_owned(), source }),
        }
        let text = match Note::parse(&bytes) {
            Ok(note) => {
                if let Err(e) = note.verify(key) {
                    self.find(Finding::CheckpointForged { reason: e.to_string() });
                }
                // A forged checkpoint is still compared with the entries: that shows what the forger touched.
                note.unverified_text()
            }
            Err(e) => {
                self.find(Finding::CheckpointForged { reason: e.to_string() });
                return Ok(false);
            }
        };
        match text.parse::<Checkpoint>() {
            Ok(checkpoint) => {
                if checkpoint.origin != key.0.name() {
                    let reason =
                        format!("its origin is `{}`, the key's name `{}`", checkpoint.origin, key.0.name());
                    self.find(Finding::CheckpointMalformed { reason });
                }
                self.report.signed_size = checkpoint.size;
                self.report.epoch = checkpoint.epoch();
                self.report.time_ms = checkpoint.time_ms();
                (self.size, self.root) = (checkpoint.size, checkpoint.root);
                self.report.origin = Some(checkpoint.origin);
                Ok(true)
            }
            Err(e) => {
                self.find(Finding::CheckpointMalformed { reason: e.to_string() });
                Ok(false)
            }
        }
    }

    fn known_checkpoint(&mut self, key: &PublicKey, options: &Options) {
        let Some(known) = &options.known_checkpoint else { return };
        let text = Note::parse(known.as_bytes()).and_then(|note| note.verify(key)).map_err(|e| e.to_string());
        let checkpoint = text.and_then(|text| text.parse::<Checkpoint>().map_err(|e| e.to_string()));
        match checkpoint {
            Ok(known) => {
                self.report.compared_with_known_checkpoint = true;
                if known.size > self.size {
                    self.find(Finding::RolledBack { known_size: known.size, size: self.size });
                } else {
                    self.known = Some(known);
                    self.compare_with_known();
                }
            }
            Err(reason) => self.find(Finding::KnownCheckpointForged { reason }),
        }
    }

    fn compare_with_known(&mut self) {
        if let Some(known) = self.known.take_if(|known| known.size == self.frontier.size())
            && known.root != self.frontier.root()
        {
            self.find(Finding::Rewritten { known_size: known.size });
        }
    }

    fn entries(&mut self) -> Result<(), ReadError> {
        let mut bundle = Vec::new();
        let mut tile = Vec::new();
        let mut leaves = Vec::with_capacity(256);
        for index in 0..self.size.div_ceil(TILE_WIDTH) {
            let width = width_at(self.size, 0, index);
            let path = bundle_path(index, width);
            let found = audit::read_at_least(self.source, &path, BUNDLE_LEN_MAX, &mut bundle)?;
            let have_bundle = found != Found::Nothing;
            let have_tile = self.read_tile(Tile { level: 0, index, width }, &mut tile)?;
            if !have_bundle && !self.is_anything_from(index + 1)? {
                self.find(Finding::Truncated { first_missing: index * TILE_WIDTH, size: self.size });
                return Ok(());
            }
            leaves.clear();
            let hashes: &[Hash] = tile.as_chunks().0;
            let mut damage = None;
            if have_bundle {
                // One more than a bundle has shows that one was put in.
                let entries_max = if found == Found::Wider { usize::from(width) } else { 257 };
                for entry in Bundle::new(&bundle).take(entries_max) {
                    match entry {
                        Ok(entry) => leaves.push(leaf_hash(entry)),
                        Err(e) => damage = Some(e),
                    }
                }
                self.report.entries_checked += leaves.len() as u64;
            } else {
                self.find(Finding::FileMissing { path: path.clone() });
            }
            if have_bundle && damage.is_none() && (leaves == hashes || !have_tile) {
                self.count(&leaves, width, &path);
            } else if !have_bundle {
                leaves.clear();
                leaves.extend_from_slice(hashes);
            } else if self.is_tile_right(index, width, &leaves, hashes, have_tile)? {
                self.name_differences(index, &path, &leaves, hashes);
                leaves.clear();
                leaves.extend_from_slice(hashes);
            } else {
                let position = first_difference(&leaves, hashes) as u64;
                let path = tile_path(Tile { level: 0, index, width });
                self.find(Finding::TileChanged { path, position });
            }
            if let Some(e) = damage {
                self.find(Finding::BundleDamaged { path, reason: e.to_string() });
            }
            for leaf in &leaves {
                self.append(*leaf)?;
            }
            if leaves.len() != usize::from(width) {
                // Without hashes for all entries, nothing behind them can be checked against the root.
                return Ok(());
            }
        }
        Ok(())
    }

    /// A bundle without a tile to compare with still has to have the right number of entries.
    fn count(&mut self, leaves: &[Hash], width: u16, path: &str) {
        if leaves.len() != usize::from(width) {
            let reason = format!("it holds {} entries and should hold {width}", leaves.len());
            self.find(Finding::BundleDamaged { path: path.to_owned(), reason });
        }
    }

    /// Bundle and tile disagree: whether the level above, or the signed root, agrees with the tile.
    fn is_tile_right(
        &mut self,
        index: u64,
        width: u16,
        leaves: &[Hash],
        hashes: &[Hash],
        have_tile: bool,
    ) -> Result<bool, ReadError> {
        if !have_tile || leaves.len() != usize::from(width) {
            return Ok(have_tile);
        }
        if width == 256 {
            let above = Tile {
                level: 1,
                index: index / TILE_WIDTH,
                width: width_at(self.size, 1, index / TILE_WIDTH),
            };
            let mut bytes = Vec::new();
            audit::read_at_least(self.source, &tile_path(above), 256 * 32, &mut bytes)?;
            let position = usize::try_from(index % TILE_WIDTH).expect("below 256");
            let expected: Option<&Hash> = bytes.as_chunks().0.get(position);
            return Ok(expected != Some(&subtree_hash(leaves)));
        }
        let mut frontier = self.frontier.clone();
        leaves.iter().for_each(|leaf| frontier.append(*leaf));
        Ok(hashes.len() != usize::from(width) || frontier.root() != self.root)
    }

    fn name_differences(&mut self, index: u64, path: &str, leaves: &[Hash], hashes: &[Hash]) {
        let first = first_difference(leaves, hashes);
        let at = |position: usize| index * TILE_WIDTH + position as u64;
        let path = path.to_owned();
        if leaves.len() == hashes.len() {
            for position in (0..leaves.len()).filter(|i| leaves[*i] != hashes[*i]) {
                self.find(Finding::EntryChanged { index: at(position), path: path.clone() });
            }
        } else if leaves.len() < hashes.len()
            && leaves[first..] == hashes[first + hashes.len() - leaves.len()..]
        {
            for position in first..first + hashes.len() - leaves.len() {
                self.find(Finding::EntryRemoved { index: at(position), path: path.clone() });
            }
        } else if leaves.len() > hashes.len() && leaves.get(first + 1) == hashes.get(first) {
            self.find(Finding::EntryAdded { index: at(first), path });
        } else {
            self.find(Finding::EntryChanged { index: at(first), path });
        }
    }

    /// Appends to the tree and compares every completed subtree of 2^(8 n) entries with its tile.
    fn append(&mut self, leaf: Hash) -> Result<(), ReadError> {
        let mut completed: [Option<(u8, Hash)>; 8] = [None; 8];
        self.frontier.append_with(leaf, |height, hash| {
            if height > 0 && height % TILE_HEIGHT == 0 {
                let level = height / TILE_HEIGHT;
                completed[level as usize] = Some((u8::try_from(level).expect("below 8"), *hash));
            }
        });
        let size = self.frontier.size();
        if size.is_multiple_of(TILE_WIDTH) {
            for (level, hash) in completed.into_iter().flatten() {
                self.compare_with_upper(level, (size >> (u32::from(level) * TILE_HEIGHT)) - 1, &hash)?;
            }
        }
        if self.known.is_some() {
            self.compare_with_known();
        }
        Ok(())
    }

    fn compare_with_upper(&mut self, level: u8, number: u64, hash: &Hash) -> Result<(), ReadError> {
        let index = number / TILE_WIDTH;
        let tile = Tile { level, index, width: width_at(self.size, level, index) };
        let slot = usize::from(level);
        if self.upper.len() <= slot {
            self.upper.resize(slot + 1, None);
        }
        if self.upper[slot].as_ref().is_none_or(|(there, _)| *there != tile) {
            let mut bytes = Vec::new();
            // A missing tile is found once: its place is kept by empty bytes.
            self.read_tile(tile, &mut bytes)?;
            self.upper[slot] = Some((tile, bytes));
        }
        let position = number % TILE_WIDTH;
        let there = self.upper[slot].as_ref().and_then(|(_, bytes)| {
            let hashes: &[Hash] = bytes.as_chunks().0;
            hashes.get(usize::try_from(position).expect("below 256")).copied()
        });
        if there.is_some_and(|there| there != *hash) {
            self.find(Finding::TileChanged { path: tile_path(tile), position });
        }
        Ok(())
    }

    /// Compares the root of what is there with what was signed, and if they differ, says which entries are to blame.
    fn roots(&mut self) {
        let complete = self.frontier.size() == self.size;
        if !complete || self.frontier.root() == self.root {
            return;
        }
        let tiles_are_right = tree_root(Tiles(self.source), self.size).is_ok_and(|root| root == self.root);
        if !tiles_are_right {
            return self.find(Finding::RootMismatch { size: self.size });
        }
        // The upper tiles lead to the signed root: where entries disagree with them, the entries are wrong.
        let size = self.size;
        for finding in &mut self.report.findings {
            if let Finding::TileChanged { path, position } = finding
                && let Some(treeline_tlog::TileKind::Hashes(tile)) = treeline_tlog::tile::parse_path(path)
                && tile.level > 0
            {
                let count = 1 << (u32::from(tile.level) * TILE_HEIGHT);
                let first = (tile.index * TILE_WIDTH + *position) * count;
                *finding = Finding::EntriesRewritten { first, count: count.min(size - first) };
            }
        }
    }

    /// Reads a tile and checks its length; nothing is read if that is wrong.
    fn read_tile(&mut self, tile: Tile, into: &mut Vec<u8>) -> Result<bool, ReadError> {
        let path = tile_path(tile);
        let expected = usize::from(tile.width) * 32;
        match audit::read_at_least(self.source, &path, 256 * 32, into)? {
            Found::Nothing => {
                self.find(Finding::FileMissing { path });
                return Ok(false);
            }
            // A tile of a later checkpoint begins with the one that is needed.
            Found::Wider if into.len() >= expected => into.truncate(expected),
            Found::Exactly | Found::Wider => {}
        }
        let found = into.len();
        if found != expected {
            into.clear();
            self.find(Finding::TileLength { path, found: found as u64, expected: expected as u64 });
            return Ok(false);
        }
        Ok(true)
    }

    /// Whether any signed bundle from this one on is there.
    fn is_anything_from(&self, index: u64) -> Result<bool, ReadError> {
        let last = (self.size - 1) / TILE_WIDTH;
        let mut bytes = Vec::new();
        // The next and the last: what is missing from there to the end has been cut off.
        for index in [index, last].into_iter().filter(|i| (index..=last).contains(i)) {
            let path = bundle_path(index, width_at(self.size, 0, index));
            if audit::read_at_least(self.source, &path, BUNDLE_LEN_MAX, &mut bytes)? != Found::Nothing {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

struct Tiles<'a>(&'a dyn Source);

impl treeline_tlog::TileReader for Tiles<'_> {
    type Error = ReadError;

    fn read_tile(&mut self, tile: Tile) -> Result<Vec<u8>, ReadError> {
        let mut bytes = Vec::new();
        audit::read_at_least(self.0, &tile_path(tile), 256 * 32, &mut bytes)?;
        bytes.truncate(usize::from(tile.width) * 32);
        Ok(bytes)
    }
}

fn first_difference(left: &[Hash], right: &[Hash]) -> usize {
    left.iter().zip(right).take_while(|(l, r)| l == r).count()
}
