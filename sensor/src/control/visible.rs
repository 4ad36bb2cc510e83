//! The log as one user may see it.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use treeline_event::{Entry, decode};

use super::proto::EntriesRequest;
use crate::{
    log::{Extent, LogReader, ReadError},
    view::Access,
};

/// Entries of one batch: a reader holds one bundle of 256 anyway.
const BATCH_ENTRIES_MAX: usize = 256;

/// Bytes of one batch, so that a connection never holds more in memory.
const BATCH_LEN_MAX: usize = 512 << 10;

/// Entries that are looked at for one batch; a batch for a user with one session among many ends sooner than that.
const BATCH_SEEN_MAX: u64 = 8192;

/// The log as its readers may see it.
#[derive(Debug)]
pub(super) struct Visible {
    dir: PathBuf,
    access: Mutex<Access>,
}

/// Entries for one reader.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) entries: Vec<(u64, Vec<u8>)>,
    /// Where to go on.
    pub(super) next: u64,
    /// There is nothing behind it yet.
    pub(super) at_end: bool,
}

impl Visible {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), access: Mutex::default() }
    }

    /// The next signed entries from `from` on that this user may see and has asked for.
    pub(super) fn batch(&self, uid: u32, request: &EntriesRequest, from: u64) -> Result<Batch, ReadError> {
        let reader = LogReader::open(&self.dir);
        let mut cursor = reader.entries(from, Extent::Signed);
        let mut access = self.access.lock().unwrap_or_else(PoisonError::into_inner);
        learn_up_to(&mut access, &reader, from)?;
        let mut batch = Batch { next: from, ..Batch::default() };
        let mut len = 0;
        while batch.entries.len() < BATCH_ENTRIES_MAX
            && len < BATCH_LEN_MAX
            && cursor.index() - from < BATCH_SEEN_MAX
        {
            let Some((index, entry)) = cursor.next_entry()? else {
                batch.at_end = true;
                break;
            };
            batch.next = index + 1;
            let decoded = decode(entry).ok();
            access.learn(index, decoded.as_ref());
            let session = decoded.as_ref().and_then(|entry| entry.session);
            let wanted = request.session.is_none() || request.session == session;
            if wanted && access.allows(uid, decoded.as_ref()) {
                len += entry.len();
                batch.entries.push((index, entry.to_vec()));
            }
        }
        Ok(batch)
    }
}

impl Visible {
    /// One signed entry, and whether this user may see it.
    pub(super) fn one(&self, uid: u32, index: u64) -> Result<Option<(Entry, bool)>, ReadError> {
        let reader = LogReader::open(&self.dir);
        let mut access = self.access.lock().unwrap_or_else(PoisonError::into_inner);
        learn_up_to(&mut access, &reader, index)?;
        let mut cursor = reader.entries(index, Extent::Signed);
        let Some((found, bytes)) = cursor.next_entry()? else { return Ok(None) };
        let entry = decode(bytes).ok().filter(|_| found == index);
        access.learn(found, entry.as_ref());
        let allows = access.allows(uid, entry.as_ref());
        Ok(entry.map(|entry| (entry, allows)))
    }
}

/// Learns what was said before `end`.
fn learn_up_to(access: &mut Access, reader: &LogReader, end: u64) -> Result<(), ReadError> {
    if access.next() >= end {
        return Ok(());
    }
    let mut cursor = reader.entries(access.next(), Extent::Signed);
    while cursor.index() < end
        && let Some((index, entry)) = cursor.next_entry()?
    {
        access.learn(index, decode(entry).ok().as_ref());
    }
    Ok(())
}
