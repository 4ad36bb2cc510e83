//! A storage in memory that fails or cuts any one of its calls and, in a crash, forgets what was not synced.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use super::storage::{PendingSync, Source, Storage, StoredFile};

/// What happens at the chosen call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It fails and does nothing; later calls work. A full disk looks like this.
    Refuse,
    /// A write does the first half and fails; later calls work.
    Cut,
    /// The machine dies in it: a write does the first half, and every later call fails.
    Die,
}

#[derive(Clone, Debug, Default)]
struct Inode {
    bytes: Vec<u8>,
    /// What a crash leaves for sure.
    durable: Vec<u8>,
}

/// A change of a directory that was not synced yet: a name and what it then meant.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Change {
    /// Its number: the same change can be made twice.
    number: usize,
    path: String,
    inode: Option<usize>,
}

#[derive(Clone, Debug, Default)]
struct Model {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    /// In order; a crash keeps some of them.
    changes: Vec<Change>,
    calls: usize,
    fault: Option<(usize, Fault)>,
    dead: bool,
}

/// Shared, so that a test can look at it while a writer has it.
#[derive(Clone, Debug, Default)]
pub(super) struct ModelStorage(Arc<Mutex<Model>>);

fn error(kind: io::ErrorKind) -> io::Error {
    io::Error::from(kind)
}

fn dir_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

impl Model {
    /// Counts a call that changes something. `Some` if it is the one that fails.
    fn call(&mut self) -> io::Result<Option<Fault>> {
        self.calls += 1;
        if self.dead {
            return Err(error(io::ErrorKind::BrokenPipe));
        }
        let fault = self.fault.filter(|(n, _)| *n == self.calls).map(|(_, fault)| fault);
        self.dead = fault == Some(Fault::Die);
        Ok(fault)
    }

    fn call_or_fail(&mut self) -> io::Result<()> {
        match self.call()? {
            Some(_) => Err(error(io::ErrorKind::StorageFull)),
            None => Ok(()),
        }
    }

    fn name(&mut self, path: &str, inode: Option<usize>) {
        match inode {
            Some(inode) => self.names.insert(path.to_owned(), inode),
            None => self.names.remove(path),
        };
        self.changes.push(Change { number: self.calls, path: path.to_owned(), inode });
    }

    fn make_durable(&mut self, changes: Vec<Change>) {
        for Change { path, inode, .. } in changes {
            match inode {
                Some(inode) => self.durable_names.insert(path, inode),
                None => self.durable_names.remove(&path),
            };
        }
    }
}

impl ModelStorage {
    pub(super) fn with_file(path: &str, bytes: &[u8]) -> Self {
        let this = Self::default();
        this.put(path, bytes);
        this
    }

    fn lock(&self) -> MutexGuard<'_, Model> {
        self.0.lock().expect("no test panics while it holds this")
    }

    /// Writes a file behind the writer's back.
    pub(super) fn put(&self, path: &str, bytes: &[u8]) {
        let mut model = self.lock();
        model.inodes.push(Inode { bytes: bytes.to_vec(), durable: bytes.to_vec() });
        let inode = model.inodes.len() - 1;
        model.names.insert(path.to_owned(), inode);
        model.durable_names.insert(path.to_owned(), inode);
    }

    /// The bytes of a file.
    pub(super) fn bytes(&self, path: &str) -> Option<Vec<u8>> {
        let model = self.lock();
        model.names.get(path).map(|inode| model.inodes[*inode].bytes.clone())
    }

    /// Takes a file away behind the writer's back.
    pub(super) fn take(&self, path: &str) -> Option<Vec<u8>> {
        let bytes = self.bytes(path);
        self.lock().names.remove(path);
        bytes
    }

    pub(super) fn paths(&self) -> Vec<String> {
        self.lock().names.keys().cloned().collect()
    }

    /// Lets the n-th changing call from now on fail.
    pub(super) fn fail_at(&self, n: usize, fault: Fault) {
        let mut model = self.lock();
        model.fault = Some((model.calls + n, fault));
    }

    /// Whether the chosen call has come.
    pub(super) fn has_failed(&self) -> bool {
        let model = self.lock();
        model.fault.is_some_and(|(n, _)| model.calls >= n)
    }

    /// An independent storage with the same content.
    pub(super) fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.lock().clone())))
    }

    /// What the disk holds after the power was cut: everything synced, and by `seed` some of the rest. Of each
    /// directory a prefix of its unsynced changes remains; of each file the synced bytes, or a prefix of the new
    /// ones, or the new length filled with zeros.
    pub(super) fn after_power_loss(&self, seed: u64) -> Self {
        let mut model = self.lock().clone();
        let mut state = seed;
        let mut random = move |below: usize| {
            // A linear congruential generator: the seed reproduces the run.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from((state >> 33) % below.max(1) as u64).expect("below a usize")
        };
        let changes = std::mem::take(&mut model.changes);
        let mut by_dir: BTreeMap<String, Vec<Change>> = BTreeMap::new();
        for change in changes {
            by_dir.entry(dir_of(&change.path).to_owned()).or_default().push(change);
        }
        for mut changes in by_dir.into_values() {
            changes.truncate(random(changes.len() + 1));
            model.make_durable(changes);
        }
        for inode in &mut model.inodes {
            let len = inode.bytes.len();
            match random(4) {
                0 => {}
                1 => inode.durable = inode.bytes.clone(),
                2 if len > inode.durable.len() => {
                    inode.durable = inode.bytes[..random(len + 1).max(inode.durable.len())].to_vec();
                }
                3 if len > inode.durable.len() => inode.durable.resize(len, 0),
                _ => {}
            }
            inode.bytes.clone_from(&inode.durable);
        }
        model.names.clone_from(&model.durable_names);
        model.fault = None;
        model.dead = false;
        Self(Arc::new(Mutex::new(model)))
    }

    /// What the kernel still has after the process was killed: everything written.
    pub(super) fn after_kill(&self) -> Self {
        let this = self.copy();
        let mut model = this.lock();
        model.fault = None;
        model.dead = false;
        drop(model);
        this
    }
}

impl Source for ModelStorage {
    fn read(&self, path: &str, len_max: usize, into: &mut Vec<u8>) -> io::Result<()> {
        self.read_at(path, 0, usize::MAX, into)?;
        if into.len() > len_max { Err(error(io::ErrorKind::FileTooLarge)) } else { Ok(()) }
    }

    fn read_at(&self, path: &str, offset: u64, len_max: usize, into: &mut Vec<u8>) -> io::Result<()> {
        into.clear();
        let model = self.lock();
        let inode = model.names.get(path).ok_or(error(io::ErrorKind::NotFound))?;
        let bytes = &model.inodes[*inode].bytes;
        let start = usize::try_from(offset).expect("small").min(bytes.len());
        let end = start.saturating_add(len_max).min(bytes.len());
        into.extend_from_slice(&bytes[start..end]);
        Ok(())
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let prefix = format!("{dir}/");
        let model = self.lock();
        let below = model.names.keys().filter_map(|path| path.strip_prefix(&prefix));
        let mut names: Vec<String> =
            below.map(|rest| rest.split_once('/').map_or(rest, |(name, _)| name).to_owned()).collect();
        names.dedup();
        Ok(names)
    }
}

impl Storage for ModelStorage {
    fn create(&mut self, path: &str) -> io::Result<Box<dyn StoredFile>> {
        let mut model = self.lock();
        model.call_or_fail()?;
        let inode = match model.names.get(path) {
            Some(inode) => *inode,
            None => {
                model.inodes.push(Inode::default());
                let inode = model.inodes.len() - 1;
                model.name(path, Some(inode));
                inode
            }
        };
        model.inodes[inode].bytes.clear();
        drop(model);
        Ok(Box::new(ModelFile { storage: self.clone(), inode }))
    }

    fn open_file(&mut self, path: &str) -> io::Result<Box<dyn StoredFile>> {
        let mut model = self.lock();
        model.call_or_fail()?;
        let inode = *model.names.get(path).ok_or(error(io::ErrorKind::NotFound))?;
        drop(model);
        Ok(Box::new(ModelFile { storage: self.clone(), inode }))
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let mut model = self.lock();
        model.call_or_fail()?;
        let inode = *model.names.get(from).ok_or(error(io::ErrorKind::NotFound))?;
        model.name(to, Some(inode));
        model.name(from, None);
        Ok(())
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        let mut model = self.lock();
        model.call_or_fail()?;
        if model.names.contains_key(path) {
            model.name(path, None);
        }
        Ok(())
    }

    fn sync_dir(&mut self, dir: &str) -> io::Result<()> {
        let mut model = self.lock();
        model.call_or_fail()?;
        let changes = std::mem::take(&mut model.changes);
        let (here, elsewhere) = changes.into_iter().partition(|change| dir_of(&change.path) == dir);
        model.changes = elsewhere;
        model.make_durable(here);
        Ok(())
    }

    fn begin_sync(&mut self) -> io::Result<Box<dyn PendingSync>> {
        let mut model = self.lock();
        model.call_or_fail()?;
        let changes = std::mem::take(&mut model.changes);
        let inodes = model.inodes.iter().map(|inode| inode.bytes.clone()).collect();
        // Until the sync ends nothing of it is certain.
        model.changes.clone_from(&changes);
        Ok(Box::new(ModelSync { storage: self.clone(), inodes, changes, polls: 0 }))
    }
}

/// Ends when it is asked for the second time; what was written meanwhile is not in it.
struct ModelSync {
    storage: ModelStorage,
    inodes: Vec<Vec<u8>>,
    changes: Vec<Change>,
    polls: usize,
}

impl PendingSync for ModelSync {
    fn poll(&mut self) -> Option<io::Result<()>> {
        self.polls += 1;
        if self.polls < 2 {
            return None;
        }
        let mut model = self.storage.lock();
        if let Err(e) = model.call_or_fail() {
            return Some(Err(e));
        }
        for (inode, bytes) in model.inodes.iter_mut().zip(&self.inodes) {
            // A file that was synced since has newer bytes for sure.
            if inode.durable.len() < bytes.len() {
                inode.durable.clone_from(bytes);
            }
        }
        let changes = std::mem::take(&mut self.changes);
        // Those that a directory's own sync has made durable meanwhile are not done twice: they may be outdated.
        let pending: Vec<Change> = changes.into_iter().filter(|c| model.changes.contains(c)).collect();
        model.changes.retain(|c| !pending.contains(c));
        model.make_durable(pending);
        Some(Ok(()))
    }

    fn wait(mut self: Box<Self>) -> io::Result<()> {
        loop {
            if let Some(result) = self.poll() {
                return result;
            }
        }
    }
}

struct ModelFile {
    storage: ModelStorage,
    inode: usize,
}

impl StoredFile for ModelFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut model = self.storage.lock();
        let fault = model.call()?;
        let written = match fault {
            None => bytes,
            Some(Fault::Refuse) => return Err(error(io::ErrorKind::StorageFull)),
            Some(Fault::Cut | Fault::Die) => &bytes[..bytes.len() / 2],
        };
        let offset = usize::try_from(offset).expect("small");
        let file = &mut model.inodes[self.inode].bytes;
        file.resize(file.len().max(offset + written.len()), 0);
        file[offset..offset + written.len()].copy_from_slice(written);
        if fault.is_some() { Err(error(io::ErrorKind::StorageFull)) } else { Ok(()) }
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let mut model = self.storage.lock();
        model.call_or_fail()?;
        model.inodes[self.inode].bytes.truncate(usize::try_from(len).expect("small"));
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut model = self.storage.lock();
        model.call_or_fail()?;
        let inode = &mut model.inodes[self.inode];
        inode.durable.clone_from(&inode.bytes);
        Ok(())
    }
}
