//! Who may see which entries.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use treeline_event::SessionId;

use super::proto::EntriesRequest;
use crate::{
    daemon::adapters::facts,
    log::{Extent, LogReader, ReadError},
};

/// Entries of one batch: a reader holds one bundle of 256 anyway.
const BATCH_ENTRIES_MAX: usize = 256;

/// Bytes of one batch, so that a connection never holds more in memory.
const BATCH_LEN_MAX: usize = 512 << 10;

/// Entries that are looked at for one batch; a batch for a user with one session among many ends sooner than that.
const BATCH_SEEN_MAX: u64 = 8192;

/// Whose sessions there are, as far as the log has been read for it. Grows by 16 bytes for every session that the log
/// has ever seen.
#[derive(Debug, Default)]
struct Owners {
    next: u64,
    by_session: HashMap<SessionId, u32>,
}

/// The log as its readers may see it.
#[derive(Debug)]
pub(super) struct Visible {
    dir: PathBuf,
    owners: Mutex<Owners>,
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
        Self { dir: dir.to_owned(), owners: Mutex::default() }
    }

    /// The next signed entries from `from` on that this user may see and has asked for.
    pub(super) fn batch(&self, uid: u32, request: &EntriesRequest, from: u64) -> Result<Batch, ReadError> {
        let reader = LogReader::open(&self.dir);
        let mut cursor = reader.entries(from, Extent::Signed);
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        owners.read_up_to(&reader, from)?;
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
            if owners.sees(index, uid, request.session, entry) {
                len += entry.len();
                batch.entries.push((index, entry.to_vec()));
            }
        }
        Ok(batch)
    }
}

impl Owners {
    /// Learns whose sessions began before `end`.
    fn read_up_to(&mut self, reader: &LogReader, end: u64) -> Result<(), ReadError> {
        if self.next >= end {
            return Ok(());
        }
        let mut cursor = reader.entries(self.next, Extent::Signed);
        while cursor.index() < end
            && let Some((index, entry)) = cursor.next_entry()?
        {
            self.learn(index, entry);
        }
        Ok(())
    }

    fn learn(&mut self, index: u64, entry: &[u8]) -> Option<crate::daemon::adapters::Facts> {
        let facts = facts(entry);
        if index == self.next {
            self.next += 1;
            if let Some((session, uid)) = facts.as_ref().and_then(|facts| facts.started) {
                self.by_session.insert(session, uid);
            }
        }
        facts
    }

    fn sees(&mut self, index: u64, uid: u32, wanted: Option<SessionId>, entry: &[u8]) -> bool {
        let facts = self.learn(index, entry);
        // What cannot be read belongs to nobody, so only root sees it, and only when no session was asked for.
        let Some(facts) = facts else { return uid == 0 && wanted.is_none() };
        let own = uid == 0 || facts.session.is_none_or(|session| self.by_session.get(&session) == Some(&uid));
        own && (wanted.is_none() || wanted == facts.session)
    }
}
