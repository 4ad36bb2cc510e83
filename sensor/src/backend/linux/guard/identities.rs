//! The protected objects by identity: what the answering thread knows of a file beyond the name that was used.

use std::{
    collections::{HashMap, HashSet},
    os::fd::{AsRawFd, BorrowedFd},
};

use rustix::fs::{AtFlags, Stat, StatxFlags};
use treeline_event::PathBytes;

/// `OVERLAYFS_SUPER_MAGIC`: there stat(2) and the kernel's lists of marks may number one inode differently.
const OVERLAYFS: i64 = 0x794c_7630;

/// Seconds and nanoseconds of an object's creation. An inode number is used again, with another time.
type Born = (i64, u32);

/// Protected objects by device and inode, with the paths under which they were found.
///
/// An object that was moved to where no pattern finds it stays here, and stays marked: it is the same object.
#[derive(Default)]
pub(super) struct Identities {
    known: HashMap<(u64, u64), Identity>,
    /// Counts the searches, to tell what the latest one did not find.
    search: u64,
}

#[derive(Clone, Debug, Default)]
struct Identity {
    paths: Vec<PathBytes>,
    born: Option<Born>,
    /// Whether lists of marks name it by the same number.
    is_listed: bool,
    search: u64,
}

/// An object that is not where it was.
#[derive(Clone, Debug)]
pub(super) struct Missing {
    /// Device and inode.
    pub(super) key: (u64, u64),
    /// Where it was.
    pub(super) paths: Vec<PathBytes>,
    /// Whether lists of marks name it by the same inode number.
    pub(super) is_listed: bool,
}

/// One object, as it is found in a directory or behind a descriptor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Object {
    /// What stat(2) says.
    pub(super) stat: Stat,
    born: Option<Born>,
    is_listed: bool,
}

impl Object {
    /// What a path leads to; a symbolic link is an object of its own.
    pub(super) fn at(path: impl rustix::path::Arg + Copy) -> rustix::io::Result<Self> {
        let stat = rustix::fs::lstat(path)?;
        let is_listed = rustix::fs::statfs(path).is_ok_and(|found| found.f_type != OVERLAYFS);
        Ok(Self { stat, born: born(rustix::fs::CWD, path, AtFlags::SYMLINK_NOFOLLOW), is_listed })
    }

    /// What a descriptor is open for.
    pub(super) fn open(file: BorrowedFd<'_>) -> rustix::io::Result<Self> {
        let stat = rustix::fs::fstat(file)?;
        Ok(Self { stat, born: born(file, "", AtFlags::EMPTY_PATH), is_listed: false })
    }

    fn key(&self) -> (u64, u64) {
        (self.stat.st_dev, self.stat.st_ino)
    }
}

/// None where the file system does not keep it.
fn born(at: impl std::os::fd::AsFd, path: impl rustix::path::Arg, flags: AtFlags) -> Option<Born> {
    let found = rustix::fs::statx(at, path, flags, StatxFlags::BTIME).ok()?;
    let known = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::BTIME);
    known.then_some((found.stx_btime.tv_sec, found.stx_btime.tv_nsec))
}

fn could_be(one: Option<Born>, other: Option<Born>) -> bool {
    one.is_none() || other.is_none() || one == other
}

impl Identities {
    /// The paths under which an object is protected.
    pub(super) fn paths(&self, object: &Object) -> &[PathBytes] {
        match self.known.get(&object.key()) {
            Some(identity) if could_be(identity.born, object.born) => &identity.paths,
            _ => &[],
        }
    }

    /// Learns an object that a search has found.
    pub(super) fn add(&mut self, object: &Object, path: PathBytes) {
        let identity = self.known.entry(object.key()).or_default();
        if !could_be(identity.born, object.born) {
            *identity = Identity::default();
        }
        (identity.born, identity.is_listed) = (object.born, object.is_listed);
        identity.search = self.search;
        if !identity.paths.contains(&path) {
            identity.paths.push(path);
        }
    }

    /// Begins a search for everything.
    pub(super) fn start_search(&mut self) {
        self.search += 1;
    }

    /// What the latest search did not find.
    pub(super) fn not_found(&self) -> Vec<Missing> {
        let missing = self.known.iter().filter(|(_, identity)| identity.search != self.search);
        missing
            .map(|(key, identity)| Missing {
                key: *key,
                paths: identity.paths.clone(),
                is_listed: identity.is_listed,
            })
            .collect()
    }

    /// Forgets an object.
    pub(super) fn forget(&mut self, key: (u64, u64)) {
        self.known.remove(&key);
    }
}

/// Inodes that carry a mark of this group: an object that is gone has lost its mark. None when that cannot be had.
///
/// From /proc/self/fdinfo, Linux 3.8.
pub(super) fn marked_inodes(group: BorrowedFd<'_>) -> Option<HashSet<u64>> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", group.as_raw_fd())).ok()?;
    parse_marked_inodes(&text)
}

fn parse_marked_inodes(text: &str) -> Option<HashSet<u64>> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("fanotify ino:"));
    lines.map(|line| u64::from_str_radix(line.split(' ').next()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(inode: u64, born: Option<Born>) -> Object {
        let mut stat = rustix::fs::stat("/").expect("there is a root");
        stat.st_ino = inode;
        Object { stat, born, is_listed: true }
    }

    #[test]
    fn what_a_search_does_not_find_is_listed_and_kept() {
        let mut identities = Identities::default();
        for (inode, path) in [(1, "/a"), (1, "/b"), (2, "/c")] {
            identities.add(&object(inode, None), path.into());
        }
        identities.start_search();
        identities.add(&object(1, None), "/b".into());
        let missing = identities.not_found();
        assert_eq!(
            missing.iter().map(|missing| (missing.key.1, missing.paths.clone())).collect::<Vec<_>>(),
            [(2, vec!["/c".into()])]
        );
        assert_eq!(identities.paths(&object(2, None)), ["/c".into()]);
        identities.forget(missing[0].key);
        assert!(identities.paths(&object(2, None)).is_empty());
        assert_eq!(identities.paths(&object(1, None)), ["/a".into(), "/b".into()]);
    }

    #[test]
    fn an_inode_that_is_used_again_is_another_object() {
        let mut identities = Identities::default();
        identities.add(&object(1, Some((5, 0))), "/key".into());
        assert!(identities.paths(&object(1, Some((6, 0)))).is_empty());
        assert_eq!(
            identities.paths(&object(1, None)),
            ["/key".into()],
            "where it is not known, it may be the same"
        );
        identities.add(&object(1, Some((6, 0))), "/other".into());
        assert_eq!(identities.paths(&object(1, Some((6, 0)))), ["/other".into()]);
    }

    #[test]
    fn marks_are_read_from_fdinfo() {
        let text = "pos:\t0\nflags:\t02\nmnt_id:\t15\nino:\t1057\nfanotify flags:37 event-flags:80000\n\
                    fanotify ino:2c00e5 sdev:fe00000 mflags:0 mask:10000 ignored_mask:0 fhandle-bytes:8 fhandle-type:1 \
                    f_handle:e5\nfanotify ino:ff sdev:2 mflags:0 mask:10000 ignored_mask:0\n";
        assert_eq!(parse_marked_inodes(text), Some(HashSet::from([0x2c_00e5, 0xff])));
        assert_eq!(parse_marked_inodes("fanotify ino:x y\n"), None);
        assert_eq!(parse_marked_inodes(""), Some(HashSet::new()));
    }
}
