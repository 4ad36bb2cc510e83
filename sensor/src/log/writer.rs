//! The only writer of the evidence log.

use std::path::Path;
use std::time::{Duration, Instant};

use treeline_tlog::tile::TILE_WIDTH;
use treeline_tlog::{Checkpoint, ENTRY_LEN_MAX, leaf_hash, note};

use super::clock::Clock;
use super::disk::LockedLog;
use super::edge::{Edge, Finished};
use super::error::{LogError, OpenError};
use super::journal;
use super::key::LogKey;
use super::recovery::{Recovered, Recovery, recover};
use super::storage::{PendingSync, PublishError, Storage, StoredFile, publish, publish_durably};

/// Entries wait for a checkpoint no longer than a second, if the caller ticks at least every 100 ms.
pub const CHECKPOINT_INTERVAL: Duration = Duration::from_millis(900);

/// An idle log signs a checkpoint this often all the same: silence is then something that somebody made.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(60);

/// A segment grows to at most so many times its bound while the tiles of the one before are not durable yet.
const SEGMENT_EXCESS_MAX: u64 = 8;

/// Name of the file with the latest checkpoint.
pub(super) const CHECKPOINT: &str = "checkpoint";

/// The writer's bounds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Accepted entries that have not been handed to the kernel yet; one write then costs little per entry.
    pub(super) buffer_len_max: usize,
    /// Entries without a signature. Bounds what a recovery can find beyond the signed size.
    pub(super) unsigned_max: u64,
    /// A segment with so many entries ends at the next checkpoint: bounds how much a recovery replays.
    pub(super) segment_entries: u64,
    /// The same in bytes: bounds how much disk is used twice.
    pub(super) segment_len: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            buffer_len_max: 64 << 10,
            unsigned_max: 1 << 18,
            segment_entries: 1 << 16,
            segment_len: 64 << 20,
        }
    }
}

/// What a writer has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Entries appended.
    pub entries: u64,
    /// Their bytes.
    pub entry_bytes: u64,
    /// Checkpoints published.
    pub checkpoints: u64,
    /// Calls that failed; what was recorded is kept.
    pub failures: u64,
    /// How long the latest checkpoint took, from the first write to its publication, in microseconds.
    pub checkpoint_us: u64,
}

/// The journal segment that entries go to.
pub(super) struct Segment {
    pub(super) first: u64,
    pub(super) file: Box<dyn StoredFile>,
    /// Bytes of the file that are whole records.
    pub(super) len: u64,
}

/// Appends entries and signs checkpoints. There is at most one for a directory.
pub struct LogWriter {
    storage: Box<dyn Storage>,
    key: Box<dyn LogKey>,
    clock: Box<dyn Clock>,
    limits: Limits,
    edge: Edge,
    segment: Segment,
    /// The segment before, until the sync that makes it superfluous has ended.
    ended: Option<(String, Box<dyn PendingSync>)>,
    /// Records accepted and not yet written to the segment.
    buffer: Vec<u8>,
    /// Full tiles and bundles not yet written: those of one bundle at most, since nothing is accepted before.
    finished: Vec<Finished>,
    /// Partial tiles of the latest checkpoint, and files that should be gone and are not yet.
    partials: Vec<String>,
    superseded: Vec<String>,
    signed_size: u64,
    epoch: u64,
    latest_checkpoint: Option<Instant>,
    unconfirmed: Option<String>,
    metrics: Metrics,
}

impl std::fmt::Debug for LogWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogWriter")
            .field("size", &self.size())
            .field("signed_size", &self.signed_size)
            .field("metrics", &self.metrics)
            .finish_non_exhaustive()
    }
}

impl LogWriter {
    /// Opens the log of a directory, which is created if need be, and recovers what a crash has left.
    ///
    /// # Errors
    /// [`OpenError`]. A log whose signed part is damaged is refused and left as it is.
    pub fn open(
        dir: &Path,
        key: Box<dyn LogKey>,
        clock: Box<dyn Clock>,
    ) -> Result<(Self, Recovery), OpenError> {
        Self::open_locked(LockedLog::lock(dir)?, key, clock)
    }

    /// The same for a log that is ours already.
    ///
    /// # Errors
    /// As above.
    pub fn open_locked(
        log: LockedLog,
        key: Box<dyn LogKey>,
        clock: Box<dyn Clock>,
    ) -> Result<(Self, Recovery), OpenError> {
        Self::open_on(Box::new(log), key, clock, Limits::default())
    }

    pub(super) fn open_on(
        mut storage: Box<dyn Storage>,
        key: Box<dyn LogKey>,
        clock: Box<dyn Clock>,
        limits: Limits,
    ) -> Result<(Self, Recovery), OpenError> {
        let Recovered { edge, segment, superseded, partials, checkpoint, report } =
            recover(storage.as_mut(), key.as_ref(), limits)?;
        let segment = match segment {
            Some(segment) => segment,
            None => begin_segment(storage.as_mut(), &edge).map_err(|e| OpenError::Write(e.into_error()))?,
        };
        let mut this = Self {
            storage,
            key,
            clock,
            limits,
            edge,
            buffer: Vec::with_capacity(limits.buffer_len_max),
            finished: Vec::new(),
            superseded: superseded.into_iter().filter(|path| *path != journal::path(segment.first)).collect(),
            segment,
            ended: None,
            partials,
            signed_size: checkpoint.as_ref().map_or(0, |c| c.size),
            epoch: checkpoint.as_ref().and_then(Checkpoint::epoch).unwrap_or(0),
            latest_checkpoint: None,
            unconfirmed: None,
            metrics: Metrics::default(),
        };
        this.remove_superseded();
        Ok((this, report))
    }

    /// Entries that the log has, with and without a signature.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.edge.size()
    }

    /// Entries that the published checkpoint covers. Only these may leave the machine.
    #[must_use]
    pub fn signed_size(&self) -> u64 {
        self.signed_size
    }

    /// What has been done since the log was opened.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.metrics
    }

    /// Takes an entry and returns its index.
    ///
    /// The entry outlives the process after the next [`Self::flush`], and the machine after the next checkpoint.
    ///
    /// # Errors
    /// [`LogError`]. The entry was then not taken, and all those taken before are kept.
    pub fn append(&mut self, entry: &[u8]) -> Result<u64, LogError> {
        if entry.len() > ENTRY_LEN_MAX {
            return Err(LogError::EntryTooLong(entry.len()));
        }
        self.check_confirmed()?;
        if !self.finished.is_empty()
            || self.buffer.len() + journal::record_len(entry) > self.limits.buffer_len_max
        {
            self.flush()?;
        }
        if self.size() - self.signed_size >= self.limits.unsigned_max {
            self.checkpoint_now()?;
        }
        let leaf = leaf_hash(entry);
        let index = self.edge.size();
        journal::push_record(&mut self.buffer, entry, &leaf);
        self.edge.push(entry, leaf, &mut self.finished);
        self.metrics.entries += 1;
        self.metrics.entry_bytes += entry.len() as u64;
        Ok(index)
    }

    /// Hands all entries taken to the kernel. Call it when a batch of events ends: what was flushed survives the
    /// death of this process.
    ///
    /// # Errors
    /// [`LogError`]. Nothing is lost; the next call tries again.
    pub fn flush(&mut self) -> Result<(), LogError> {
        self.check_confirmed()?;
        let result = self.write_buffer().and_then(|()| self.write_finished());
        self.metrics.failures += u64::from(result.is_err());
        result
    }

    /// Signs a checkpoint if entries have waited for [`CHECKPOINT_INTERVAL`], or none was signed for
    /// [`HEARTBEAT_INTERVAL`], or none since the log was opened. Returns the new signed size.
    ///
    /// # Errors
    /// See [`Self::checkpoint_now`].
    pub fn checkpoint_if_due(&mut self, now: Instant) -> Result<Option<u64>, LogError> {
        let waited = self.latest_checkpoint.map(|latest| now.saturating_duration_since(latest));
        let interval = if self.size() > self.signed_size { CHECKPOINT_INTERVAL } else { HEARTBEAT_INTERVAL };
        if waited.is_some_and(|waited| waited < interval) {
            return self.flush().map(|()| None);
        }
        let size = self.checkpoint_now()?;
        self.latest_checkpoint = Some(now);
        Ok(Some(size))
    }

    /// Makes all entries durable, signs a checkpoint over them, publishes it, and returns the signed size.
    ///
    /// # Errors
    /// [`LogError`]. Nothing is lost; unless [`LogError::needs_reopening`], the next call tries again.
    pub fn checkpoint_now(&mut self) -> Result<u64, LogError> {
        let begun = Instant::now();
        self.flush()?;
        let result = self
            .publish_checkpoint()
            .and_then(|()| self.remove_ended_segment())
            .and_then(|()| self.end_segment_if_large());
        match result {
            Ok(()) => {
                self.metrics.checkpoint_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
            }
            Err(_) => self.metrics.failures += 1,
        }
        result.map(|()| self.signed_size)
    }

    fn check_confirmed(&self) -> Result<(), LogError> {
        self.unconfirmed.as_ref().map_or(Ok(()), |reason| Err(LogError::Unconfirmed(reason.clone())))
    }

    /// Notes that the disk may not hold what we believe it to hold. A second sync would not tell: the kernel
    /// reports a failed write once and then forgets it, together with the pages.
    fn distrust(&mut self, error: &std::io::Error) -> LogError {
        self.unconfirmed = Some(error.to_string());
        LogError::Unconfirmed(error.to_string())
    }

    fn write_buffer(&mut self) -> Result<(), LogError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let segment = &mut self.segment;
        if let Err(e) = segment.file.write_at(segment.len, &self.buffer) {
            // Leaves no half entry to readers. If this fails too, the next write goes to the same place anyway.
            let _ = segment.file.truncate(segment.len);
            return Err(LogError::io("write to", &journal::path(segment.first), e));
        }
        segment.len += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Full tiles come after the journal, so that what they show is always in it.
    fn write_finished(&mut self) -> Result<(), LogError> {
        while let Some(file) = self.finished.last() {
            publish(self.storage.as_mut(), &file.path, &file.bytes)
                .map_err(|e| LogError::io("write", &file.path, e))?;
            self.finished.pop();
        }
        Ok(())
    }

    fn publish_checkpoint(&mut self) -> Result<(), LogError> {
        let size = self.edge.size();
        if size > self.signed_size {
            self.segment.file.sync().map_err(|e| self.distrust(&e))?;
        }
        let partials = self.publish_partials()?;
        let text = Checkpoint {
            origin: treeline_tlog::Signer::name(self.key.as_ref()).to_owned(),
            size,
            root: self.edge.root(),
            extensions: vec![
                format!("boot {}", self.clock.boot()),
                format!("time {}", self.clock.wall_ms()),
                format!("epoch {}", self.epoch + 1),
            ],
        };
        let note = note::sign(&text.to_string(), self.key.as_ref()).map_err(LogError::Sign)?;
        match publish_durably(self.storage.as_mut(), CHECKPOINT, note.as_bytes()) {
            Ok(()) => {}
            Err(PublishError::Unchanged(e)) => return Err(LogError::io("write", CHECKPOINT, e)),
            Err(PublishError::Unknown(e)) => return Err(self.distrust(&e)),
        }
        self.signed_size = size;
        self.epoch += 1;
        self.metrics.checkpoints += 1;
        let before = std::mem::replace(&mut self.partials, partials);
        self.superseded.extend(before.into_iter().filter(|path| !self.partials.contains(path)));
        self.remove_superseded();
        Ok(())
    }

    fn publish_partials(&mut self) -> Result<Vec<String>, LogError> {
        let mut paths = Vec::new();
        for (path, bytes) in self.edge.partials() {
            // The same name in the same log has the same bytes.
            if !self.partials.contains(&path) {
                publish(self.storage.as_mut(), &path, bytes).map_err(|e| LogError::io("write", &path, e))?;
            }
            paths.push(path);
        }
        Ok(paths)
    }

    /// Removes what nobody needs any more. What cannot be removed now is tried again at the next checkpoint: it is
    /// in nobody's way.
    fn remove_superseded(&mut self) {
        let storage = self.storage.as_mut();
        self.superseded.retain(|path| storage.remove(path).is_err());
    }

    /// Begins a new segment when this one is large. The old one goes when its tiles are durable, see
    /// [`Self::remove_ended_segment`].
    fn end_segment_if_large(&mut self) -> Result<(), LogError> {
        let excess = self.segment_excess();
        if excess == 0 || self.edge.size() / TILE_WIDTH * TILE_WIDTH == self.segment.first {
            return Ok(());
        }
        if let Some((path, pending)) = self.ended.take_if(|_| excess >= SEGMENT_EXCESS_MAX) {
            // The disk cannot keep up. Waiting is better than a recovery that takes minutes.
            pending.wait().map_err(|e| self.distrust(&e))?;
            self.superseded.push(path);
            self.remove_superseded();
        } else if self.ended.is_some() {
            return Ok(());
        }
        let begun =
            self.storage.begin_sync().map_err(|e| SegmentError::Unchanged(LogError::io("sync", "tile", e)));
        let begun =
            begun.and_then(|pending| Ok((pending, begin_segment(self.storage.as_mut(), &self.edge)?)));
        match begun {
            Ok((pending, segment)) => {
                let ended = std::mem::replace(&mut self.segment, segment);
                self.ended = Some((journal::path(ended.first), pending));
                Ok(())
            }
            // The checkpoint stands and the old segment goes on; the next checkpoint tries again.
            Err(SegmentError::Unchanged(_)) => {
                self.metrics.failures += 1;
                Ok(())
            }
            Err(SegmentError::Unknown(e)) => Err(self.distrust(&e)),
        }
    }

    /// How many times the segment is as large as it should be; 0 if it may go on.
    fn segment_excess(&self) -> u64 {
        let entries = (self.edge.size() - self.segment.first) / self.limits.segment_entries;
        entries.max(self.segment.len / self.limits.segment_len)
    }

    /// Removes the segment before this one once everything in it is durable in full tiles.
    fn remove_ended_segment(&mut self) -> Result<(), LogError> {
        let Some(result) = self.ended.as_mut().and_then(|(_, pending)| pending.poll()) else {
            return Ok(());
        };
        result.map_err(|e| self.distrust(&e))?;
        self.superseded.extend(self.ended.take().map(|(path, _)| path));
        self.remove_superseded();
        Ok(())
    }
}

/// Why a segment was not begun.
pub(super) enum SegmentError {
    Unchanged(LogError),
    Unknown(std::io::Error),
}

impl SegmentError {
    fn into_error(self) -> LogError {
        match self {
            Self::Unchanged(e) => e,
            Self::Unknown(e) => LogError::Unconfirmed(e.to_string()),
        }
    }
}

/// Begins the segment that holds the entries of the open bundle. The segments before it have to stay until all before
/// it is durable in full tiles.
fn begin_segment(storage: &mut dyn Storage, edge: &Edge) -> Result<Segment, SegmentError> {
    let first = edge.size() / TILE_WIDTH * TILE_WIDTH;
    let mut bytes = journal::header(first).to_vec();
    let (bundle, leaves) = edge.open_bundle();
    for (entry, leaf) in treeline_tlog::Bundle::new(bundle).zip(leaves) {
        journal::push_record(&mut bytes, entry.expect("the open bundle holds whole entries"), leaf);
    }
    let path = journal::path(first);
    match publish_durably(storage, &path, &bytes) {
        Ok(()) => {}
        Err(PublishError::Unchanged(e)) => {
            return Err(SegmentError::Unchanged(LogError::io("write", &path, e)));
        }
        Err(PublishError::Unknown(e)) => return Err(SegmentError::Unknown(e)),
    }
    // The directory of the segments may be new.
    storage.sync_dir("").map_err(SegmentError::Unknown)?;
    let file = storage.open_file(&path).map_err(SegmentError::Unknown)?;
    Ok(Segment { first, file, len: bytes.len() as u64 })
}
