//! Reading the log, beside its writer: what the checkpoint covers, and on request what comes behind it.

use std::io;
use std::ops::Deref;
use std::path::Path;

use treeline_tlog::bundle::BUNDLE_LEN_MAX;
use treeline_tlog::note::NOTE_LEN_MAX;
use treeline_tlog::tile::{TILE_WIDTH, Tile, width_at};
use treeline_tlog::{
    Bundle, BundleError, Checkpoint, Note, OfflineProof, ProofError, TileReader, bundle_path,
    prove_inclusion, tile_path,
};

use super::disk::Directory;
use super::error::ReadError;
use super::journal::{self, SegmentReader};
use super::storage::Source;
use super::writer::CHECKPOINT;

/// How often a file that the writer is just replacing is looked for again.
const ATTEMPTS_MAX: usize = 8;

/// How far to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The entries that the checkpoint covers.
    Signed,
    /// Those behind it too: nothing vouches for them yet.
    WithUnsigned,
}

/// An open log. Signatures and hashes are not checked here: that is [`super::verify`]'s part.
pub struct LogReader {
    source: Box<dyn Source>,
}

impl std::fmt::Debug for LogReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogReader")
    }
}

impl LogReader {
    /// Reads the log of a directory. Opens nothing yet, and needs no lock.
    #[must_use]
    pub fn open(dir: &Path) -> Self {
        Self::on(Box::new(Directory::new(dir)))
    }

    pub(super) fn on(source: Box<dyn Source>) -> Self {
        Self { source }
    }

    /// The latest checkpoint as it is stored, with its signatures.
    ///
    /// # Errors
    /// [`ReadError::NoCheckpoint`] or [`ReadError::Io`].
    pub fn checkpoint_note(&self) -> Result<Vec<u8>, ReadError> {
        let mut bytes = Vec::new();
        match self.source.read(CHECKPOINT, NOTE_LEN_MAX, &mut bytes) {
            Ok(()) => Ok(bytes),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(ReadError::NoCheckpoint),
            Err(source) => Err(ReadError::Io { path: CHECKPOINT.to_owned(), source }),
        }
    }

    /// The latest checkpoint; nothing in it has been verified.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn checkpoint(&self) -> Result<Checkpoint, ReadError> {
        let note = self.checkpoint_note()?;
        let note = Note::parse(&note).map_err(ReadError::Note)?;
        note.unverified_text().parse().map_err(ReadError::Checkpoint)
    }

    /// Entries that the latest checkpoint covers; none if there is no checkpoint yet.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn signed_size(&self) -> Result<u64, ReadError> {
        match self.checkpoint() {
            Ok(checkpoint) => Ok(checkpoint.size),
            Err(ReadError::NoCheckpoint) => Ok(0),
            Err(e) => Err(e),
        }
    }

    /// Reads entries from an index on. Holds one bundle in memory.
    #[must_use]
    pub fn entries(&self, from: u64, extent: Extent) -> Cursor<&Self> {
        Cursor::new(self, from, extent)
    }

    /// The same for who keeps the place and has no use for the reader.
    #[must_use]
    pub fn into_entries(self, from: u64, extent: Extent) -> Cursor<Box<Self>> {
        Cursor::new(Box::new(self), from, extent)
    }

    /// Proves that an entry is in the log, to somebody who has the entry and the public key and not the log.
    ///
    /// # Errors
    /// [`ProofError::OutOfRange`] for an entry that is not signed yet.
    pub fn prove(&self, index: u64) -> Result<OfflineProof, ProofError<ReadError>> {
        // The tile is only a place to name when the checkpoint itself cannot be read.
        let unread = |e| ProofError::Read(Tile { level: 0, index: index / TILE_WIDTH, width: 256 }, e);
        let bytes = self.checkpoint_note().map_err(unread)?;
        let note = Note::parse(&bytes).map_err(|e| unread(ReadError::Note(e)))?;
        let text = note.unverified_text();
        let checkpoint: Checkpoint = text.parse().map_err(|e| unread(ReadError::Checkpoint(e)))?;
        let hashes = prove_inclusion(self, index, checkpoint.size)?;
        let checkpoint = String::from_utf8(bytes).expect("a note is UTF-8");
        Ok(OfflineProof { index, hashes, checkpoint })
    }

    /// The bytes of a partial or full file, whichever there is: full ones begin with the partial ones.
    fn read_either(&self, partial: &str, full: &str, len_max: usize, into: &mut Vec<u8>) -> io::Result<()> {
        match self.source.read(partial, len_max, into) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => self.source.read(full, len_max, into),
            result => result,
        }
    }
}

impl TileReader for &LogReader {
    type Error = ReadError;

    fn read_tile(&mut self, tile: Tile) -> Result<Vec<u8>, ReadError> {
        let mut bytes = Vec::new();
        let full = tile_path(Tile { width: 256, ..tile });
        self.read_either(&tile_path(tile), &full, 256 * 32, &mut bytes)
            .map_err(|source| ReadError::Io { path: tile_path(tile), source })?;
        bytes.truncate(usize::from(tile.width) * 32);
        Ok(bytes)
    }
}

/// A place in the log. At the end it stays; asked again it goes on with what has come since, so it can follow.
pub struct Cursor<R> {
    reader: R,
    next: u64,
    extent: Extent,
    signed_size: u64,
    /// The bundle that `next` is in, from `position` on; empty if it has to be read.
    bundle: Vec<u8>,
    position: usize,
    segment: Option<(u64, SegmentReader)>,
}

impl<R> std::fmt::Debug for Cursor<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cursor").field("next", &self.next).finish_non_exhaustive()
    }
}

impl<R: Deref<Target = LogReader>> Cursor<R> {
    fn new(reader: R, from: u64, extent: Extent) -> Self {
        Self { reader, next: from, extent, signed_size: 0, bundle: Vec::new(), position: 0, segment: None }
    }

    /// Index of the entry that comes next.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.next
    }

    /// The next entry with its index; `None` at the present end.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn next_entry(&mut self) -> Result<Option<(u64, &[u8])>, ReadError> {
        if self.position == self.bundle.len() && !self.load()? {
            return match self.extent {
                Extent::Signed => Ok(None),
                Extent::WithUnsigned => self.unsigned(),
            };
        }
        let rest = &self.bundle[self.position..];
        let entry = match Bundle::new(rest).next() {
            Some(Ok(entry)) => entry,
            _ => return Err(self.damaged(BundleError::CutShort(0))),
        };
        self.position += 2 + entry.len();
        self.next += 1;
        Ok(Some((self.next - 1, entry)))
    }

    fn damaged(&self, source: BundleError) -> ReadError {
        ReadError::Bundle { path: bundle_path(self.next / TILE_WIDTH, 256), source }
    }

    /// Reads the bundle with the next entry. `false` if that entry is not signed.
    fn load(&mut self) -> Result<bool, ReadError> {
        self.bundle.clear();
        self.position = 0;
        for attempt in 1.. {
            if self.next >= self.signed_size {
                self.signed_size = self.reader.signed_size()?;
            }
            if self.next >= self.signed_size {
                return Ok(false);
            }
            let index = self.next / TILE_WIDTH;
            let width = width_at(self.signed_size, 0, index);
            let (partial, full) = (bundle_path(index, width), bundle_path(index, 256));
            match self.reader.read_either(&partial, &full, BUNDLE_LEN_MAX, &mut self.bundle) {
                Ok(()) => {
                    self.narrow(width)?;
                    return Ok(true);
                }
                // The writer has just published the next checkpoint and removed the partial bundle of the one before.
                Err(e) if e.kind() == io::ErrorKind::NotFound && attempt < ATTEMPTS_MAX => {
                    self.signed_size = 0;
                }
                Err(source) => return Err(ReadError::Io { path: partial, source }),
            }
        }
        unreachable!("the last attempt returns")
    }

    /// Checks the bundle, cuts it to the signed entries and goes to the next one of them.
    fn narrow(&mut self, width: u16) -> Result<(), ReadError> {
        let skip = usize::try_from(self.next % TILE_WIDTH).expect("below 256");
        let mut end = 0;
        let mut position = 0;
        let mut found = 0;
        for entry in Bundle::new(&self.bundle).take(usize::from(width)) {
            let entry = entry.map_err(|e| self.damaged(e))?;
            if found == skip {
                position = end;
            }
            end += 2 + entry.len();
            found += 1;
        }
        if found != usize::from(width) {
            return Err(self.damaged(BundleError::WrongCount { found, expected: usize::from(width) }));
        }
        self.bundle.truncate(end);
        self.position = position;
        Ok(())
    }

    /// The next entry from the journal.
    fn unsigned(&mut self) -> Result<Option<(u64, &[u8])>, ReadError> {
        let failed = |source| ReadError::Io { path: journal::DIR.to_owned(), source };
        let source = self.reader.source.as_ref();
        let latest = journal::segments(source).map_err(failed)?.pop();
        if self.segment.as_ref().map(|(first, _)| *first) != latest {
            let opened = latest.map(|first| SegmentReader::open(source, first)).transpose();
            self.segment = match opened {
                Ok(reader) => latest.zip(reader.flatten()),
                // The writer has just ended this segment.
                Err(e) if e.kind() == io::ErrorKind::NotFound => None,
                Err(e) => return Err(failed(e)),
            };
        }
        let Some((_, segment)) = &mut self.segment else {
            return Ok(None);
        };
        while segment.index() < self.next {
            if segment.next(source).map_err(failed)?.is_none() {
                return Ok(None);
            }
        }
        if segment.index() > self.next {
            // The entries between have been signed meanwhile; the next call finds them in bundles.
            return Ok(None);
        }
        let Some((entry, _)) = segment.next(source).map_err(failed)? else {
            return Ok(None);
        };
        self.next += 1;
        Ok(Some((self.next - 1, entry)))
    }
}
