//! What opening a log does: read what is signed, replay the journal behind it, mend what a crash has torn.

use std::io;

use treeline_tlog::bundle::BUNDLE_LEN_MAX;
use treeline_tlog::note::NOTE_LEN_MAX;
use treeline_tlog::tile::{LEVEL_MAX, TILE_WIDTH, Tile, hashes_at_level, width_at};
use treeline_tlog::{Bundle, Checkpoint, Note, Signer, bundle_path, leaf_hash, tile_path};

use super::edge::{Edge, Finished};
use super::error::OpenError;
use super::journal::{self, SegmentReader};
use super::key::LogKey;
use super::storage::{
    PendingSync, PublishError, Storage, StoredFile, TEMPORARY_DIR, publish, publish_durably,
};
use super::writer::{CHECKPOINT, Limits, Segment};

/// Where damaged and stray files go. Nothing there is ever removed by us.
pub(super) const DAMAGED_DIR: &str = "damaged";

/// What opening the log found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Entries that the checkpoint covers. All of them are there.
    pub signed_size: u64,
    /// Entries behind them, from before this start; the next checkpoint covers them.
    pub unsigned_entries: u64,
    /// Signed entries that were taken from bundles because the journal did not have them.
    pub entries_from_bundles: u64,
    /// Tiles and bundles that a crash had kept from the disk and that were made again from the journal.
    pub files_mended: u64,
    /// Damaged ends of the journal and files from beyond the end of the log, by their new path below the log directory.
    pub moved_aside: Vec<String>,
}

impl Recovery {
    /// Whether the log was found as a clean shutdown leaves it.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        *self == Self { signed_size: self.signed_size, ..Self::default() }
    }
}

/// All that a writer starts from.
pub(super) struct Recovered {
    pub(super) edge: Edge,
    /// The segment to go on with; none if a new one has to be begun.
    pub(super) segment: Option<Segment>,
    /// Segments that are not needed once the new one is there.
    pub(super) superseded: Vec<String>,
    /// Paths of the partial tiles of the checkpoint.
    pub(super) partials: Vec<String>,
    pub(super) checkpoint: Option<Checkpoint>,
    pub(super) report: Recovery,
}

pub(super) fn recover(
    storage: &mut dyn Storage,
    key: &dyn LogKey,
    limits: Limits,
) -> Result<Recovered, OpenError> {
    let checkpoint = read_checkpoint(storage, key)?;
    let signed_size = checkpoint.as_ref().map_or(0, |c| c.size);
    let firsts = journal::segments(storage).map_err(|e| failed("list", journal::DIR, e))?;
    if checkpoint.is_none() {
        refuse_headless(storage, &firsts)?;
    }
    let mut replay = Replay::begin(storage, checkpoint, &firsts)?;
    for (position, first) in firsts.iter().enumerate() {
        replay.segment(*first, position + 1 == firsts.len())?;
    }
    if replay.edge.size() < signed_size {
        replay.bundles()?;
    }
    replay.move_strays_aside(limits)?;
    replay.remove_stale_partials()?;
    replay.end(&firsts)
}

fn failed(what: &'static str, path: &str, source: io::Error) -> OpenError {
    OpenError::Io { what, path: path.to_owned(), source }
}

/// The checkpoint, if there is one and this key has signed it.
fn read_checkpoint(storage: &dyn Storage, key: &dyn LogKey) -> Result<Option<Checkpoint>, OpenError> {
    let mut bytes = Vec::new();
    match storage.read(CHECKPOINT, NOTE_LEN_MAX, &mut bytes) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed("read", CHECKPOINT, e)),
    }
    let text = Note::parse(&bytes).and_then(|note| note.verify(key)).map_err(OpenError::ForeignCheckpoint)?;
    let checkpoint: Checkpoint = text.parse().map_err(OpenError::Checkpoint)?;
    let expected = Signer::name(key);
    if checkpoint.origin != expected {
        return Err(OpenError::WrongOrigin { found: checkpoint.origin, expected: expected.to_owned() });
    }
    Ok(Some(checkpoint))
}

/// Without a checkpoint only what a first start leaves is accepted: one segment, from the first entry on, or nothing.
fn refuse_headless(storage: &dyn Storage, firsts: &[u64]) -> Result<(), OpenError> {
    let bundles = storage.list("tile/entries").map_err(|e| failed("list", "tile/entries", e))?;
    match firsts {
        [] if bundles.is_empty() => Ok(()),
        [0] => Ok(()),
        _ => Err(OpenError::CheckpointMissing),
    }
}

struct Replay<'a> {
    storage: &'a mut dyn Storage,
    checkpoint: Option<Checkpoint>,
    signed_size: u64,
    /// Where the oldest segment begins: before it everything is durable in full tiles.
    base: u64,
    edge: Edge,
    finished: Vec<Finished>,
    partials: Vec<String>,
    /// Valid length of the last segment, if its last entry is the log's last.
    last: Option<(u64, u64)>,
    /// Where in the last segment the signed entries end.
    signed_end: u64,
    report: Recovery,
}

impl<'a> Replay<'a> {
    fn begin(
        storage: &'a mut dyn Storage,
        checkpoint: Option<Checkpoint>,
        firsts: &[u64],
    ) -> Result<Self, OpenError> {
        for name in storage.list(TEMPORARY_DIR).map_err(|e| failed("list", TEMPORARY_DIR, e))? {
            let path = format!("{TEMPORARY_DIR}/{name}");
            storage.remove(&path).map_err(|e| failed("remove", &path, e))?;
        }
        let signed_size = checkpoint.as_ref().map_or(0, |c| c.size);
        let base = firsts.first().copied().unwrap_or(signed_size / TILE_WIDTH * TILE_WIDTH);
        if base % TILE_WIDTH != 0 || base > signed_size {
            let problem = "begins behind the signed entries";
            return Err(OpenError::Journal { path: journal::path(base), problem });
        }
        let edge = Edge::load(storage, base)
            .map_err(|e| failed("read", "tile", e))?
            .ok_or(OpenError::SignedEntriesMissing { signed: signed_size, found: 0 })?;
        let report = Recovery { signed_size, ..Recovery::default() };
        let mut this = Self {
            storage,
            checkpoint,
            signed_size,
            base,
            edge,
            finished: Vec::new(),
            partials: Vec::new(),
            last: None,
            signed_end: 0,
            report,
        };
        this.check_signed()?;
        Ok(this)
    }

    /// Takes the entries of one segment that are not there yet.
    fn segment(&mut self, first: u64, last: bool) -> Result<(), OpenError> {
        let path = journal::path(first);
        let opened = SegmentReader::open(self.storage, first).map_err(|e| failed("read", &path, e))?;
        let Some(mut reader) = opened else {
            // It has no header, so nothing can be read from it. What it should have held is looked for in bundles.
            return self.move_aside(&path);
        };
        self.signed_end = 0;
        loop {
            let index = reader.index();
            if index == self.signed_size {
                self.signed_end = reader.offset();
            }
            let entry = reader.next(self.storage).map_err(|e| failed("read", &path, e))?;
            let Some((entry, leaf)) = entry else { break };
            match index.cmp(&self.edge.size()) {
                std::cmp::Ordering::Less => continue,
                std::cmp::Ordering::Greater => {
                    let problem = "does not follow the segment before it";
                    return Err(OpenError::Journal { path, problem });
                }
                std::cmp::Ordering::Equal => self.edge.push(entry, leaf, &mut self.finished),
            }
            self.check_signed()?;
            self.write_finished()?;
        }
        let (index, offset) = (reader.index(), reader.offset());
        self.cut_damaged_end(&path, index, offset)?;
        if last && index == self.edge.size() {
            self.last = Some((first, offset));
        }
        Ok(())
    }

    /// Moves what follows the last valid record to a file of its own.
    fn cut_damaged_end(&mut self, path: &str, index: u64, offset: u64) -> Result<(), OpenError> {
        /// A damaged end is read at once. A segment is not larger: it ends at 64 MiB and a second's entries.
        const DAMAGED_LEN_MAX: usize = 1 << 30;
        let mut bytes = Vec::new();
        self.storage
            .read_at(path, offset, DAMAGED_LEN_MAX, &mut bytes)
            .map_err(|e| failed("read", path, e))?;
        if bytes.is_empty() {
            return Ok(());
        }
        let aside = self.unused_name(&format!("journal-behind-entry-{index}"))?;
        publish_durably(self.storage, &aside, &bytes).map_err(|e| match e {
            PublishError::Unchanged(e) | PublishError::Unknown(e) => failed("write", &aside, e),
        })?;
        let cut = |storage: &mut dyn Storage| {
            storage.sync_dir("")?;
            let mut file = storage.open_file(path)?;
            file.truncate(offset)?;
            file.sync()
        };
        cut(self.storage).map_err(|e| failed("cut the damaged end of", path, e))?;
        self.report.moved_aside.push(aside);
        Ok(())
    }

    /// Takes the signed entries that the journal does not have from the published bundles.
    fn bundles(&mut self) -> Result<(), OpenError> {
        let mut bytes = Vec::new();
        self.last = None;
        while self.edge.size() < self.signed_size {
            let from = self.edge.size();
            let index = from / TILE_WIDTH;
            let width = width_at(self.signed_size, 0, index);
            let missing = OpenError::SignedEntriesMissing { signed: self.signed_size, found: from };
            let full = self.storage.read(&bundle_path(index, 256), BUNDLE_LEN_MAX, &mut bytes);
            let read =
                full.or_else(|_| self.storage.read(&bundle_path(index, width), BUNDLE_LEN_MAX, &mut bytes));
            if read.is_err() {
                return Err(missing);
            }
            let skip = usize::try_from(from % TILE_WIDTH).expect("below 256");
            for entry in Bundle::new(&bytes).take(usize::from(width)).skip(skip) {
                let Ok(entry) = entry else { return Err(missing) };
                self.edge.push(entry, leaf_hash(entry), &mut self.finished);
                self.report.entries_from_bundles += 1;
                self.check_signed()?;
                self.write_finished()?;
            }
            if self.edge.size() == from {
                return Err(missing);
            }
        }
        Ok(())
    }

    /// When the replay arrives at the signed size: whether these are the signed entries, and their partial tiles.
    fn check_signed(&mut self) -> Result<(), OpenError> {
        let Some(checkpoint) = self.checkpoint.as_ref().filter(|c| c.size == self.edge.size()) else {
            return Ok(());
        };
        if checkpoint.root != self.edge.root() {
            return Err(OpenError::SignedEntriesChanged { size: checkpoint.size });
        }
        // A bundle that the last signed entry fills is not written yet, and has to be there for its readers.
        for (path, bytes) in self.edge.partials() {
            self.report.files_mended += u64::from(mend(self.storage, &path, bytes)?);
            self.partials.push(path);
        }
        Ok(())
    }

    fn write_finished(&mut self) -> Result<(), OpenError> {
        for file in self.finished.drain(..) {
            self.report.files_mended += u64::from(mend(self.storage, &file.path, &file.bytes)?);
        }
        Ok(())
    }

    /// Moves full tiles from beyond the end aside: their entries never reached the journal's disk, and were not signed.
    fn move_strays_aside(&mut self, limits: Limits) -> Result<(), OpenError> {
        let size = self.edge.size();
        // A writer is never further ahead of its checkpoint than this.
        let reach = (self.signed_size + limits.unsigned_max).max(size) + TILE_WIDTH;
        let mut strays = Vec::new();
        for index in size / TILE_WIDTH..=reach / TILE_WIDTH {
            strays.push(bundle_path(index, 256));
        }
        for level in 0..=LEVEL_MAX {
            for index in
                hashes_at_level(size, level) / TILE_WIDTH..=hashes_at_level(reach, level) / TILE_WIDTH
            {
                strays.push(tile_path(Tile { level, index, width: 256 }));
            }
        }
        let mut bytes = Vec::new();
        for path in strays {
            match self.storage.read_at(&path, 0, 0, &mut bytes) {
                Ok(()) => self.move_aside(&path)?,
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(failed("read", &path, e)),
            }
        }
        Ok(())
    }

    /// Removes the partial tiles of earlier checkpoints: a crash may have kept their bytes from the disk.
    fn remove_stale_partials(&mut self) -> Result<(), OpenError> {
        let mut tiles = Vec::new();
        for level in 0..=LEVEL_MAX {
            let last = hashes_at_level(self.edge.size(), level) / TILE_WIDTH;
            for index in hashes_at_level(self.base, level) / TILE_WIDTH..=last {
                tiles.push(tile_path(Tile { level, index, width: 256 }));
                if level == 0 {
                    tiles.push(bundle_path(index, 256));
                }
            }
        }
        for tile in tiles {
            let dir = format!("{tile}.p");
            for name in self.storage.list(&dir).map_err(|e| failed("list", &dir, e))? {
                let path = format!("{dir}/{name}");
                if !self.partials.contains(&path) {
                    self.storage.remove(&path).map_err(|e| failed("remove", &path, e))?;
                }
            }
        }
        Ok(())
    }

    fn move_aside(&mut self, path: &str) -> Result<(), OpenError> {
        let aside = self.unused_name(&path.replace('/', "-"))?;
        self.storage.rename(path, &aside).map_err(|e| failed("move aside", path, e))?;
        self.report.moved_aside.push(aside);
        Ok(())
    }

    /// Makes durable what the last writer may have left undone: the segment's name, and its unsigned entries. Those are
    /// written once more, because after a failed sync the kernel holds pages that it will never write again.
    fn confirm(&mut self, path: &str, len: u64) -> io::Result<Box<dyn StoredFile>> {
        const CHUNK_LEN: usize = 1 << 20;
        let mut file = self.storage.open_file(path)?;
        let mut chunk = Vec::new();
        let mut offset = self.signed_end.min(len);
        while self.report.unsigned_entries > 0 && offset < len {
            self.storage.read_at(path, offset, CHUNK_LEN, &mut chunk)?;
            if chunk.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            file.write_at(offset, &chunk)?;
            offset += chunk.len() as u64;
        }
        file.sync()?;
        self.storage.sync_dir(journal::DIR)?;
        self.storage.sync_dir("")?;
        Ok(file)
    }

    fn unused_name(&self, name: &str) -> Result<String, OpenError> {
        let names = self.storage.list(DAMAGED_DIR).map_err(|e| failed("list", DAMAGED_DIR, e))?;
        let unused = |name: &String| !names.contains(name);
        // There are finitely many names in a directory, so this ends.
        let candidates = std::iter::once(name.to_owned()).chain((1_u64..).map(|n| format!("{name}.{n}")));
        let name = candidates.into_iter().find(unused).expect("one of them is unused");
        Ok(format!("{DAMAGED_DIR}/{name}"))
    }

    fn end(mut self, firsts: &[u64]) -> Result<Recovered, OpenError> {
        let size = self.edge.size();
        if size < self.signed_size {
            return Err(OpenError::SignedEntriesMissing { signed: self.signed_size, found: size });
        }
        self.report.unsigned_entries = size - self.signed_size;
        let going_on = self.last.map(|(first, _)| first);
        let superseded: Vec<String> = firsts
            .iter()
            .filter(|first| Some(**first) != going_on)
            .map(|first| journal::path(*first))
            .collect();
        if going_on.is_none() || !superseded.is_empty() {
            // Segments will go, so what only they and the tiles hold has to be durable in tiles.
            self.storage.begin_sync().and_then(PendingSync::wait).map_err(|e| failed("sync", "tile", e))?;
        }
        let segment = match self.last {
            Some((first, len)) => {
                let path = journal::path(first);
                let file = self.confirm(&path, len).map_err(|e| failed("confirm", &path, e))?;
                Some(Segment { first, file, len })
            }
            None if size / TILE_WIDTH * TILE_WIDTH > self.signed_size => {
                let path = firsts.last().map_or(journal::DIR.to_owned(), |first| journal::path(*first));
                return Err(OpenError::Journal { path, problem: "ends before the segment before it" });
            }
            None => None,
        };
        Ok(Recovered {
            edge: self.edge,
            segment,
            superseded,
            partials: self.partials,
            checkpoint: self.checkpoint,
            report: self.report,
        })
    }
}

/// Writes a file that can be made from the journal, unless it is there already. Returns whether it was not.
fn mend(storage: &mut dyn Storage, path: &str, bytes: &[u8]) -> Result<bool, OpenError> {
    let mut there = Vec::new();
    match storage.read(path, bytes.len(), &mut there) {
        Ok(()) if there == bytes => return Ok(false),
        Ok(()) => {}
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::FileTooLarge) => {}
        Err(e) => return Err(failed("read", path, e)),
    }
    publish(storage, path, bytes).map_err(|e| failed("write", path, e))?;
    Ok(true)
}
