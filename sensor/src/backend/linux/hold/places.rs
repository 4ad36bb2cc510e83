//! The filesystems that programs can be executed from, in the sensor's mount namespace and in those of sessions.

use std::{
    collections::{BTreeSet, HashMap},
    ffi::OsStr,
    fs,
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    },
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use nix::sys::fanotify::{Fanotify, MarkFlags, MaskFlags};

use super::super::mounts::{Mount, MountTable};
use crate::backend::BackendError;

/// Types of filesystems whose files have an identity, as in mountinfo; see `measure.rs`.
const HELD: [&[u8]; 14] = [
    b"rootfs",
    b"ext2",
    b"ext3",
    b"ext4",
    b"xfs",
    b"btrfs",
    b"f2fs",
    b"squashfs",
    b"erofs",
    b"iso9660",
    b"bcachefs",
    b"tmpfs",
    b"ramfs",
    b"overlay",
];
/// Types that hold no programs, and that answer by themselves: the way to a filesystem may lead through them. Of all
/// others somebody may make whoever passes wait for ever.
const PASSED: [&[u8]; 17] = [
    b"proc",
    b"sysfs",
    b"devtmpfs",
    b"devpts",
    b"cgroup",
    b"cgroup2",
    b"mqueue",
    b"bpf",
    b"securityfs",
    b"debugfs",
    b"tracefs",
    b"hugetlbfs",
    b"pstore",
    b"efivarfs",
    b"configfs",
    b"binfmt_misc",
    b"nsfs",
];

/// How often the mounts of sessions in namespaces of their own are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Mount namespaces that are looked at again and again: the others when one of their processes executes something.
const NAMESPACES_MAX: usize = 64;

/// Marks on filesystems.
pub(super) struct Places {
    group: Arc<Fanotify>,
    active: AtomicBool,
    /// Mount points that were marked, by device, as seen from which root.
    marked: Mutex<BTreeSet<(u32, PathBuf)>>,
}

/// The mounts of a namespace, as they were last seen by one of its processes.
struct Namespace {
    pid: u32,
    table: Vec<u8>,
}

impl Places {
    pub(super) fn new(group: Arc<Fanotify>) -> Self {
        Self { group, active: AtomicBool::new(false), marked: Mutex::default() }
    }

    pub(super) fn is_active(&self) -> bool {
        self.active.load(Ordering::Acquire)
    }

    /// Marks the filesystems of the sensor's own namespace, also those that came since the last time.
    ///
    /// # Errors
    /// [`BackendError::Io`] when not one of them can be marked.
    pub(super) fn begin(&self) -> Result<(), BackendError> {
        self.active.store(true, Ordering::Release);
        let failed =
            |source| BackendError::Io { attempt: "mark the filesystems of programs".to_owned(), source };
        let table = fs::read(super::super::mounts::MOUNTINFO_PATH).map_err(failed)?;
        let result = self.mark(&table, Path::new("/"));
        if self.marked.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            self.active.store(false, Ordering::Release);
            return Err(failed(result.err().unwrap_or_else(|| std::io::ErrorKind::NotFound.into())));
        }
        Ok(())
    }

    /// Takes all marks away.
    pub(super) fn end(&self) {
        if !self.active.swap(false, Ordering::AcqRel) {
            return;
        }
        self.marked.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let flags = MarkFlags::FAN_MARK_FLUSH | MarkFlags::FAN_MARK_FILESYSTEM;
        if let Err(error) = self.group.mark(flags, MaskFlags::empty(), rustix::fs::CWD, None::<&Path>) {
            tracing::warn!(%error, "executions outside of sessions are asked for still");
        }
    }

    /// Looks after namespaces of sessions until stopped.
    pub(super) fn serve(&self, pids: &Receiver<u32>, stop: &AtomicBool) {
        let mut namespaces: HashMap<PathBuf, Namespace> = HashMap::new();
        while !stop.load(Ordering::Acquire) {
            let pid = match pids.recv_timeout(LOOK_INTERVAL) {
                Ok(pid) => Some(pid),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if !self.is_active() {
                namespaces.clear();
                continue;
            }
            match pid {
                Some(pid) => self.look_at(pid, &mut namespaces),
                None => {
                    let pids: Vec<u32> = namespaces.values().map(|namespace| namespace.pid).collect();
                    namespaces.retain(|_, namespace| {
                        fs::exists(format!("/proc/{}/ns", namespace.pid)).unwrap_or(false)
                    });
                    pids.into_iter().for_each(|pid| self.look_at(pid, &mut namespaces));
                }
            }
        }
    }

    fn look_at(&self, pid: u32, namespaces: &mut HashMap<PathBuf, Namespace>) {
        let (Ok(name), Ok(table)) =
            (fs::read_link(format!("/proc/{pid}/ns/mnt")), fs::read(format!("/proc/{pid}/mountinfo")))
        else {
            return;
        };
        if namespaces.get(&name).is_some_and(|known| known.table == table) {
            return;
        }
        let root = PathBuf::from(format!("/proc/{pid}/root"));
        if let Err(error) = self.mark(&table, &root) {
            tracing::debug!(%error, pid, "not every filesystem of a session is marked");
        }
        if namespaces.len() < NAMESPACES_MAX || namespaces.contains_key(&name) {
            namespaces.insert(name, Namespace { pid, table });
        }
    }

    /// Marks what a mount table has, below a root. The last error, when there was one.
    fn mark(&self, table: &[u8], root: &Path) -> std::io::Result<()> {
        let table = MountTable::parse(table).map_err(std::io::Error::other)?;
        let mut result = Ok(());
        for mount in table.all().iter().filter(|mount| is_within_reach(mount, table.all())) {
            let point = OsStr::from_bytes(mount.point.strip_prefix(b"/").unwrap_or(&mount.point));
            let path = root.join(point);
            let key = (mount.device, path.clone());
            if self.marked.lock().unwrap_or_else(PoisonError::into_inner).contains(&key) {
                continue;
            }
            match self.mark_one(&path, mount) {
                Ok(()) => {
                    self.marked.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
                }
                Err(error) => result = Err(error),
            }
        }
        result
    }

    fn mark_one(&self, path: &Path, mount: &Mount) -> std::io::Result<()> {
        use rustix::fs::{Mode, OFlags};
        let place: OwnedFd = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let flags = MarkFlags::FAN_MARK_ADD | MarkFlags::FAN_MARK_FILESYSTEM;
        let through = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&place));
        let found = fs::metadata(&through)?.dev();
        tracing::debug!(path = %path.display(), device = mount.device, found, "marked");
        self.group
            .mark(flags, MaskFlags::FAN_OPEN_EXEC_PERM, rustix::fs::CWD, Some(through.as_str()))
            .map_err(std::io::Error::from)
    }
}

/// Whether a mount has programs, and the way to it cannot make anybody wait.
fn is_within_reach(mount: &Mount, all: &[Mount]) -> bool {
    let answers = |other: &&Mount| {
        let kind = other.kind.as_slice();
        HELD.contains(&kind) || PASSED.contains(&kind)
    };
    let is_on_the_way = |other: &&Mount| {
        Path::new(OsStr::from_bytes(&mount.point)).starts_with(OsStr::from_bytes(&other.point))
    };
    HELD.contains(&mount.kind.as_slice()) && all.iter().filter(is_on_the_way).all(|other| answers(&other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_marked_behind_what_somebody_serves() {
        let text = b"1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:5 / /proc rw - proc p rw\n3 1 0:30 / /tmp rw - tmpfs t rw\n\
            4 1 0:31 / /home/u/mnt rw - fuse.sshfs s rw\n5 4 0:32 / /home/u/mnt/x rw - tmpfs t rw\n\
            6 1 0:33 / /home/u/mntx rw - tmpfs t rw\n7 1 0:34 / /net rw - nfs4 n rw\n";
        let table = MountTable::parse(text).expect("well-formed");
        let reached = table.all().iter().filter(|mount| is_within_reach(mount, table.all()));
        let points: Vec<&[u8]> = reached.map(|mount| mount.point.as_slice()).collect();
        assert_eq!(points, [&b"/"[..], b"/tmp", b"/home/u/mntx"]);
    }
}
