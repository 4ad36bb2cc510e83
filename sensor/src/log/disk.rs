//! The log directory on a real file system.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};

use rustix::fs::{FlockOperation, flock, syncfs};

use super::error::OpenError;
use super::storage::{PendingSync, Source, Storage, StoredFile};

/// Entries hold what every user of the machine did: the owner alone reads them.
const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;

/// A log directory, to be read.
#[derive(Clone, Debug)]
pub struct Directory {
    root: PathBuf,
}

impl Directory {
    /// Reads from this directory. Nothing is opened yet.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }
}

impl Source for Directory {
    fn read(&self, path: &str, len_max: usize, into: &mut Vec<u8>) -> io::Result<()> {
        self.read_at(path, 0, len_max + 1, into)?;
        match into.len() > len_max {
            true => Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {len_max} bytes"))),
            false => Ok(()),
        }
    }

    fn read_at(&self, path: &str, offset: u64, len_max: usize, into: &mut Vec<u8>) -> io::Result<()> {
        into.clear();
        let mut file = File::open(self.at(path))?;
        if offset > 0 {
            io::Seek::seek(&mut file, io::SeekFrom::Start(offset))?;
        }
        file.take(len_max as u64).read_to_end(into).map(|_| ())
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.at(dir)) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e),
        };
        let mut names = Vec::new();
        for entry in entries {
            // A name that is not UTF-8 is none of ours; its replacement form cannot be either.
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }
}

/// The file in a log's directory that its writer locks.
pub const LOCK: &str = "lock";

/// A log directory, to be written by its only writer.
#[derive(Debug)]
pub struct LockedLog {
    directory: Directory,
    /// Held open as long as the log is: `syncfs` reports the errors since this was opened.
    root: File,
    /// The lock lasts as long as this file is open, so it ends with the process, however that ends.
    _lock: File,
}

impl LockedLog {
    /// Creates the directory if need be and takes its lock.
    ///
    /// # Errors
    /// [`OpenError::Locked`] if another process has it, [`OpenError::Directory`] for what the file system says.
    pub fn lock(root: &Path) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Directory { path: root.to_owned(), source };
        DirBuilder::new().recursive(true).mode(DIR_MODE).create(root).map_err(failed)?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(root.join(LOCK))
            .map_err(failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                // Only for the message: without it the message is still true.
                let _ = lock.take(20).read_to_string(&mut pid);
                return Err(OpenError::Locked { path: root.to_owned(), pid: pid.trim().parse().ok() });
            }
            Err(e) => return Err(failed(e.into())),
        }
        lock.set_len(0)
            .and_then(|()| io::Write::write_all(&mut lock, format!("{}\n", std::process::id()).as_bytes()))
            .map_err(failed)?;
        let root_file = File::open(root).map_err(failed)?;
        Ok(Self { directory: Directory::new(root), root: root_file, _lock: lock })
    }

    fn create_parent(&self, path: &str) -> io::Result<()> {
        let path = self.directory.at(path);
        let parent = path.parent().expect("paths are below the root");
        DirBuilder::new().recursive(true).mode(DIR_MODE).create(parent)
    }

    /// Does `what`, if need be a second time after the directories of `path` have been created.
    fn with_parent<T>(&self, path: &str, what: impl Fn() -> io::Result<T>) -> io::Result<T> {
        match what() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.create_parent(path)?;
                what()
            }
            result => result,
        }
    }
}

impl Source for LockedLog {
    fn read(&self, path: &str, len_max: usize, into: &mut Vec<u8>) -> io::Result<()> {
        self.directory.read(path, len_max, into)
    }

    fn read_at(&self, path: &str, offset: u64, len_max: usize, into: &mut Vec<u8>) -> io::Result<()> {
        self.directory.read_at(path, offset, len_max, into)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.directory.list(dir)
    }
}

impl Storage for LockedLog {
    fn create(&mut self, path: &str) -> io::Result<Box<dyn StoredFile>> {
        let absolute = self.directory.at(path);
        let open =
            || OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(&absolute);
        Ok(Box::new(OnDisk(self.with_parent(path, open)?)))
    }

    fn open_file(&mut self, path: &str) -> io::Result<Box<dyn StoredFile>> {
        Ok(Box::new(OnDisk(OpenOptions::new().write(true).open(self.directory.at(path))?)))
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.with_parent(to, || fs::rename(self.directory.at(from), self.directory.at(to)))
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        match fs::remove_file(self.directory.at(path)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        if let Some((dir, _)) = path.rsplit_once('/').filter(|(dir, _)| dir.ends_with(".p")) {
            // Fails, as it should, while there are further partial tiles.
            let _ = fs::remove_dir(self.directory.at(dir));
        }
        Ok(())
    }

    fn sync_dir(&mut self, dir: &str) -> io::Result<()> {
        File::open(self.directory.at(dir))?.sync_all()
    }

    fn begin_sync(&mut self) -> io::Result<Box<dyn PendingSync>> {
        // A duplicate shares the position up to which errors have been reported, so none is lost between two syncs.
        let root = self.root.try_clone()?;
        let (sender, receiver) = sync_channel(1);
        std::thread::Builder::new().name("log-sync".to_owned()).spawn(move || {
            // Nobody listens any more when the log has been closed meanwhile; recovery then finds both segments.
            let _ = sender.send(syncfs(&root).map_err(io::Error::from));
        })?;
        Ok(Box::new(InBackground(receiver)))
    }
}

/// The result of a `syncfs` in a thread of its own.
struct InBackground(Receiver<io::Result<()>>);

impl PendingSync for InBackground {
    fn poll(&mut self) -> Option<io::Result<()>> {
        match self.0.try_recv() {
            Ok(result) => Some(result),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(io::Error::other("the sync ended without a result"))),
        }
    }

    fn wait(self: Box<Self>) -> io::Result<()> {
        self.0.recv().unwrap_or_else(|_| Err(io::Error::other("the sync ended without a result")))
    }
}

struct OnDisk(File);

impl StoredFile for OnDisk {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }
}
