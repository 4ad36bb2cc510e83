//! What a file holds, so that nothing can have been put in its place: it is read while nobody can write to it, and it is
//! old enough that whatever is written later shows in its change time.
//!
//! 1. The count of opens for writing is taken (`treeline_abi::content`).
//! 2. A read lease (fcntl(2), `F_SETLEASE`): it is granted only when nobody has the file open for writing, writable mappings
//!    included, and whoever opens it for writing from then on waits until the lease is given back.
//! 3. Its identity. If its last change is younger than the clock of file times can tell from the next one, that time is
//!    waited for (as git's index does with racily clean entries).
//! 4. All of its bytes, its identity again, and whether the lease has held.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::FileExt as _,
    },
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::fstatfs,
    time::{ClockId, clock_gettime},
};
use sha2::{Digest as _, Sha256};
use treeline_abi::content::{Content, OVERLAYFS, RAMFS, TMPFS};
use treeline_event::FileId;

use super::super::sys;
use crate::enrich::hash::{
    identity::{self, Mounts},
    loads_programs,
};

/// Bytes that are read at once.
const READ_LEN: usize = 128 * 1024;

/// How much older than the start of reading the last change must be: file times move with the timer, every 10 ms at the
/// most (`CONFIG_HZ=100`).
const SETTLED_NS: u64 = 20_000_000;
/// The same for a time without a fraction: the filesystem may keep seconds only (ext4 with small inodes).
const SETTLED_SECONDS_NS: u64 = 1_100_000_000;

/// Filesystems whose files keep their identity as long as they keep their content, by `f_type`: local ones, whose change
/// time the kernel moves before it writes. In user space, on the network, and where nobody has looked, it is not so.
const TRUSTED: [u64; 8] = [
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // XFS
    0x9123_683e, // btrfs
    0xf2f5_2010, // F2FS
    0x7371_7368, // squashfs
    0xe0f5_e1e2, // EROFS
    0x9660,      // ISO 9660
    0xca45_1a4e, // bcachefs
];

/// Why it is not known what a file holds.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unknown {
    /// The filesystem does not vouch for identities.
    #[error("its filesystem (type {0:#x}) does not tell when a file changes")]
    Filesystem(u64),
    /// It is open for writing, or somebody asks for that.
    #[error("it is being written to")]
    Written,
    /// It changed meanwhile.
    #[error("it changed while it was read")]
    Changed,
    /// There was not enough time.
    #[error("it could not be read in time")]
    Late,
    /// The kernel's word.
    #[error("it could not be read: {0}")]
    Unreadable(#[from] io::Error),
}

/// A file that was read.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) file: FileId,
    pub(super) sha256: [u8; 32],
    /// Those of [`Content`].
    pub(super) flags: u32,
    pub(super) writers: u64,
}

/// Nobody can open the file for writing as long as this lives.
#[derive(Debug)]
pub(super) struct Lease<F: AsFd>(F);

impl<F: AsFd> Lease<F> {
    /// Takes it.
    pub(super) fn take(file: F) -> Result<Self, Unknown> {
        match sys::lease(file.as_fd()) {
            Ok(()) => Ok(Self(file)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(Unknown::Written),
            Err(error) => Err(error.into()),
        }
    }

    fn holds(&self) -> bool {
        sys::has_lease(self.0.as_fd())
    }
}

impl<F: AsFd> Drop for Lease<F> {
    fn drop(&mut self) {
        // It can only fail when the lease was broken before.
        let _ = sys::give_lease_back(self.0.as_fd());
    }
}

/// The flags of a file's filesystem, if it vouches for identities. `pid` is whose mounts the descriptor is of.
pub(super) fn vouches(file: BorrowedFd<'_>) -> Result<u32, Unknown> {
    let magic = fstatfs(file).map_err(io::Error::from)?.f_type as u64 & 0xffff_ffff;
    match magic {
        TMPFS | RAMFS => Ok(Content::COUNTED),
        // One that a user namespace has mounted is not among the sensor's own mounts: its layers are in the hands of
        // whoever mounted it.
        OVERLAYFS if identity::is_mounted_here(file) => Ok(Content::COUNTED),
        _ if TRUSTED.contains(&magic) => Ok(0),
        _ => Err(Unknown::Filesystem(magic)),
    }
}

/// Reads a file under a lease. `writers` is the count of opens for writing, by identity.
pub(super) fn measure<F: AsFd>(
    file: &File,
    lease: &Lease<F>,
    mounts: Mounts,
    writers: u64,
    until: Instant,
) -> Result<Measured, Unknown> {
    let flags = vouches(file.as_fd())?;
    let before = identity::identity_in(file, mounts)?;
    settle(before.ctime_ns, until)?;
    let sha256 = read(file, before.size, until)?;
    let loader = if loads_programs(file) { Content::LOADER } else { 0 };
    let after = identity::identity_in(file, mounts)?;
    if !lease.holds() {
        return Err(Unknown::Written);
    }
    if after != before {
        return Err(Unknown::Changed);
    }
    Ok(Measured { file: after, sha256, flags: flags | loader, writers })
}

/// Waits until a change would get another time than the last one.
fn settle(changed_ns: u64, until: Instant) -> Result<(), Unknown> {
    let margin_ns = if changed_ns.is_multiple_of(1_000_000_000) { SETTLED_SECONDS_NS } else { SETTLED_NS };
    loop {
        let now_ns = now_ns();
        let settled_ns = changed_ns.saturating_add(margin_ns);
        if now_ns > settled_ns {
            return Ok(());
        }
        // One from the future does not settle before it is past.
        let wait = Duration::from_nanos(settled_ns - now_ns + 1);
        if Instant::now() + wait > until {
            return Err(Unknown::Late);
        }
        thread::sleep(wait);
    }
}

/// The clock of file times.
fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::RealtimeCoarse);
    (now.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec as u64)
}

fn read(file: &File, size: u64, until: Instant) -> Result<[u8; 32], Unknown> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0u8; READ_LEN];
    let mut at = 0;
    loop {
        let count = match file.read_at(&mut buffer, at) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        hasher.update(&buffer[..count]);
        at += count as u64;
        if at > size {
            return Err(Unknown::Changed);
        }
        if Instant::now() > until {
            return Err(Unknown::Late);
        }
    }
    if at == size { Ok(hasher.finalize().into()) } else { Err(Unknown::Changed) }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    fn measured(path: &Path) -> Result<Measured, Unknown> {
        let file = File::open(path).expect("opened");
        let lease = Lease::take(&file)?;
        measure(&file, &lease, Mounts::Own, 0, later())
    }

    /// A directory on a filesystem that vouches.
    fn directory() -> tempfile::TempDir {
        sys::ignore_lease_breaks().expect("a handler");
        tempfile::tempdir().expect("directory")
    }

    #[test]
    fn a_file_that_was_just_written_is_read_when_its_time_has_settled() {
        let dir = directory();
        let path = dir.path().join("a");
        fs::write(&path, "abc").expect("written");
        match measured(&path) {
            Ok(measured) => {
                let expect = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
                assert_eq!(hex::encode(measured.sha256), expect);
                assert!(now_ns() > measured.file.ctime_ns + SETTLED_NS);
            }
            Err(Unknown::Filesystem(kind)) => {
                println!("skipped: settle: the scratch directory is on {kind:#x}");
            }
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn who_writes_is_waited_for_by_nobody() {
        let dir = directory();
        let path = dir.path().join("a");
        let writer = File::create(&path).expect("created");
        assert!(matches!(measured(&path), Err(Unknown::Written)));
        drop(writer);
        assert!(matches!(measured(&path), Ok(_) | Err(Unknown::Filesystem(_))));
    }

    #[test]
    fn a_writer_that_comes_meanwhile_is_noticed() {
        let dir = directory();
        let path = dir.path().join("a");
        fs::write(&path, "abc").expect("written");
        let file = File::open(&path).expect("opened");
        let lease = Lease::take(&file).expect("a lease");
        assert!(lease.holds());
        let writer = thread::spawn({
            let path = path.clone();
            move || fs::write(path, "abd")
        });
        let started = Instant::now();
        while lease.holds() && started.elapsed() < Duration::from_secs(20) {
            thread::sleep(Duration::from_millis(1));
        }
        assert!(!lease.holds(), "the writer waits, and it shows");
        assert_eq!(fs::read(&path).expect("read"), b"abc", "it has written nothing yet");
        drop(lease);
        writer.join().expect("joined").expect("written");
        assert_eq!(fs::read(&path).expect("read"), b"abd");
    }

    #[test]
    fn nothing_settles_that_is_from_the_future() {
        let soon = Instant::now() + Duration::from_millis(200);
        assert!(matches!(settle(now_ns() + 3_600_000_000_000, soon), Err(Unknown::Late)));
        assert!(settle(now_ns() - SETTLED_SECONDS_NS - 1, soon).is_ok());
    }
}
