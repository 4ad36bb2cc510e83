//! Hashes that are known, by file identity, and the file that keeps them between runs.
//!
//! The file is `MAGIC`, the SHA-256 of what follows, and a [`Stored`] in postcard. It is a cache: whatever does not
//! check out is dropped as a whole and computed again. Device numbers with major 0 (btrfs, overlayfs, tmpfs) are given
//! out anew at each boot, so entries with them count only within the boot that wrote them.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use treeline_event::FileId;

use crate::durable;

const MAGIC: &[u8; 16] = b"treeline-hash-1\n";
/// Longest file that is read, in bytes: 16 384 entries of at most 250.
const FILE_LEN_MAX: u64 = 8 * 1024 * 1024;

/// What is known of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// SHA-256 of its content.
    pub sha256: [u8; 32],
    /// Its build-id.
    pub build_id: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    boot: String,
    /// Least recently used first.
    entries: Vec<(FileId, Known)>,
}

/// Why a cache file was not used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It could not be read.
    #[error("cannot read the file")]
    Read(#[source] io::Error),
    /// It is not a cache of this version, or damaged.
    #[error("the file is damaged or of another version")]
    Damaged,
}

/// Known hashes; the least recently used go first.
#[derive(Debug)]
pub struct Cache {
    entries: HashMap<FileId, (Known, u64)>,
    entries_max: usize,
    uses: u64,
    changed: bool,
}

impl Cache {
    /// An empty one.
    #[must_use]
    pub fn new(entries_max: usize) -> Self {
        Self { entries: HashMap::new(), entries_max: entries_max.max(1), uses: 0, changed: false }
    }

    /// What is known of a file.
    pub fn find(&mut self, file: &FileId) -> Option<&Known> {
        self.uses += 1;
        let (known, used) = self.entries.get_mut(file)?;
        *used = self.uses;
        Some(known)
    }

    /// Remembers.
    pub fn insert(&mut self, file: FileId, known: Known) {
        self.uses += 1;
        self.entries.insert(file, (known, self.uses));
        self.changed = true;
        if self.entries.len() > self.entries_max {
            self.evict();
        }
    }

    /// An eighth at once, so that a full cache does not search for the oldest entry at each insertion.
    fn evict(&mut self) {
        let mut used: Vec<u64> = self.entries.values().map(|(_, used)| *used).collect();
        used.sort_unstable();
        let limit = used[(self.entries_max / 8).min(used.len() - 1)];
        self.entries.retain(|_, (_, used)| *used > limit);
    }

    /// Reads a file; a missing one is empty.
    ///
    /// # Errors
    /// [`LoadError`]; start with an empty cache then.
    pub fn load(path: &Path, entries_max: usize, boot: &str) -> Result<Self, LoadError> {
        let mut cache = Self::new(entries_max);
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(cache),
            Err(error) => return Err(LoadError::Read(error)),
        };
        let mut bytes = Vec::new();
        file.take(FILE_LEN_MAX).read_to_end(&mut bytes).map_err(LoadError::Read)?;
        let stored = decode(&bytes).ok_or(LoadError::Damaged)?;
        let same_boot = stored.boot == boot;
        for (file, known) in stored.entries {
            if file.major != 0 || same_boot {
                cache.insert(file, known);
            }
        }
        cache.changed = false;
        Ok(cache)
    }

    /// The content of the file, when there is something new since the last call.
    pub fn encode_changes(&mut self, boot: &str) -> Option<Vec<u8>> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let mut entries: Vec<_> = self.entries.iter().collect();
        entries.sort_unstable_by_key(|(_, (_, used))| *used);
        let entries = entries.into_iter().map(|(file, (known, _))| (*file, known.clone())).collect();
        let payload = postcard::to_stdvec(&Stored { boot: boot.to_owned(), entries }).ok()?;
        Some([MAGIC.as_slice(), Sha256::digest(&payload).as_slice(), &payload].concat())
    }
}

fn decode(bytes: &[u8]) -> Option<Stored> {
    let (digest, payload) = bytes.strip_prefix(MAGIC)?.split_at_checked(32)?;
    (Sha256::digest(payload).as_slice() == digest).then(|| postcard::from_bytes(payload).ok()).flatten()
}

/// Replaces the file, and makes its directory.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(dir)?;
    durable::replace(path, bytes, 0o600)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(major: u32, inode: u64) -> FileId {
        FileId { major, inode, ..FileId::default() }
    }

    fn known(byte: u8) -> Known {
        Known { sha256: [byte; 32], build_id: Some("ab".to_owned()) }
    }

    #[test]
    fn survives_a_restart_and_boot_where_it_may() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("state/hashes.postcard");
        let mut cache = Cache::new(8);
        cache.insert(file(8, 1), known(1));
        cache.insert(file(0, 2), known(2));
        replace(&path, &cache.encode_changes("boot-1").expect("changes")).expect("written");
        assert_eq!(cache.encode_changes("boot-1"), None);
        let mut same = Cache::load(&path, 8, "boot-1").expect("loaded");
        assert_eq!(same.find(&file(8, 1)), Some(&known(1)));
        assert_eq!(same.find(&file(0, 2)), Some(&known(2)));
        let mut next = Cache::load(&path, 8, "boot-2").expect("loaded");
        assert_eq!(next.find(&file(8, 1)), Some(&known(1)));
        assert_eq!(next.find(&file(0, 2)), None);
        assert!(Cache::load(&dir.path().join("missing"), 8, "").is_ok());
    }

    #[test]
    fn damage_anywhere_is_noticed() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("hashes");
        let mut cache = Cache::new(8);
        cache.insert(file(8, 1), known(1));
        let sound = cache.encode_changes("b").expect("changes");
        for at in 0..sound.len() {
            let mut bytes = sound.clone();
            bytes[at] ^= 1;
            assert!(decode(&bytes).is_none(), "byte {at}");
            assert!(decode(&sound[..at]).is_none(), "cut at {at}");
        }
        fs::write(&path, &sound[1..]).expect("written");
        assert!(matches!(Cache::load(&path, 8, "b"), Err(LoadError::Damaged)));
    }

    #[test]
    fn bounded_and_the_used_stay() {
        let mut cache = Cache::new(16);
        for inode in 0..100 {
            cache.insert(file(8, inode), known(1));
            assert!(cache.find(&file(8, 0)).is_some());
            assert!(cache.entries.len() <= 16);
        }
    }
}
