//! What a policy needs to know of the machine that it is compiled for.

use crate::glob::split;

/// The machine's users.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Home directories that `~/` stands for.
    pub homes: Vec<Home>,
}

impl Host {
    /// The paths of the home directories.
    pub fn home_paths(&self) -> impl Iterator<Item = &[u8]> {
        self.homes.iter().map(|home| home.path.as_slice())
    }
}

/// The home directory of a user.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Home {
    /// User id.
    pub uid: u32,
    /// Absolute path.
    pub path: Vec<u8>,
}

/// A place on a filesystem.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Located {
    /// `s_dev` of the superblock, as the kernel encodes it (`major << 20 | minor`).
    pub device: u32,
    /// Path below the root of that filesystem, which is `/`.
    pub inner: Vec<u8>,
}

/// A mounted filesystem, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mount {
    /// Absolute path of the mount point.
    pub point: Vec<u8>,
    /// What is mounted there.
    pub root: Located,
}

/// Finds places on filesystems.
pub trait Resolver {
    /// Every place that an absolute path may stand for: the place of its own name, and where it leads when it, or
    /// a directory on the way, is a symbolic link. What does not exist yet is located by the nearest directory
    /// that does.
    fn locate(&self, path: &[u8]) -> Vec<Located>;

    /// The place of an absolute path's own name, wherever links lead.
    fn locate_itself(&self, path: &[u8]) -> Option<Located>;

    /// What is mounted strictly below an absolute path.
    fn mounts_below(&self, path: &[u8]) -> Vec<Mount>;

    /// Every mount of a filesystem.
    fn mounts_of(&self, device: u32) -> Vec<Mount>;
}

/// A mount table without symbolic links: what the sensor reads from `/proc/self/mountinfo`, or a test makes up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountTable {
    /// The mounts; of several at one point, the last one hides the others.
    pub mounts: Vec<Mount>,
}

impl MountTable {
    /// One filesystem that holds everything.
    #[must_use]
    pub fn single(device: u32) -> Self {
        let root = Located { device, inner: b"/".to_vec() };
        Self { mounts: vec![Mount { point: b"/".to_vec(), root }] }
    }
}

impl Resolver for MountTable {
    fn locate(&self, path: &[u8]) -> Vec<Located> {
        self.locate_itself(path).into_iter().collect()
    }

    fn locate_itself(&self, path: &[u8]) -> Option<Located> {
        let names: Vec<&[u8]> = split(path).collect();
        let holder = self
            .mounts
            .iter()
            .filter_map(|mount| {
                let point: Vec<&[u8]> = split(&mount.point).collect();
                names.starts_with(&point).then_some((point.len(), mount))
            })
            // The last of the longest: `max_by_key` returns the last maximum.
            .max_by_key(|(depth, _)| *depth);
        holder.map(|(depth, mount)| Located {
            device: mount.root.device,
            inner: join(split(&mount.root.inner).chain(names[depth..].iter().copied())),
        })
    }

    fn mounts_of(&self, device: u32) -> Vec<Mount> {
        self.mounts.iter().filter(|mount| mount.root.device == device).cloned().collect()
    }

    fn mounts_below(&self, path: &[u8]) -> Vec<Mount> {
        let names: Vec<&[u8]> = split(path).collect();
        let below = |mount: &&Mount| {
            let point: Vec<&[u8]> = split(&mount.point).collect();
            point.len() > names.len() && point.starts_with(&names)
        };
        self.mounts.iter().filter(below).cloned().collect()
    }
}

/// The path without `.`, `..` and doubled slashes, by its text alone.
#[must_use]
pub fn normal(path: &[u8]) -> Vec<u8> {
    let mut names: Vec<&[u8]> = Vec::new();
    for name in split(path) {
        match name {
            b"." => {}
            b".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    join(names)
}

/// An absolute path of these names.
pub(crate) fn join<'a>(names: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut path = Vec::new();
    for name in names {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    if path.is_empty() {
        path.push(b'/');
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> MountTable {
        let mount = |point: &str, device, inner: &str| Mount {
            point: point.into(),
            root: Located { device, inner: inner.into() },
        };
        MountTable {
            mounts: vec![
                mount("/", 1, "/"),
                mount("/home", 2, "/"),
                mount("/home/u", 3, "/@u"),
                mount("/tmp", 4, "/"),
            ],
        }
    }

    #[test]
    fn locating() {
        let check = |path: &str, device: u32, inner: &str| {
            let expect = vec![Located { device, inner: inner.into() }];
            assert_eq!(table().locate(path.as_bytes()), expect, "{path}");
        };
        check("/", 1, "/");
        check("/etc/passwd", 1, "/etc/passwd");
        check("/home", 2, "/");
        check("/home/v/x", 2, "/v/x");
        check("/home/u/.ssh", 3, "/@u/.ssh");
        check("/homes", 1, "/homes");
        assert_eq!(MountTable::default().locate(b"/"), []);
    }

    #[test]
    fn normal_paths() {
        let check =
            |path: &str, expect: &str| assert_eq!(normal(path.as_bytes()), expect.as_bytes(), "{path}");
        check("/a/x/../b//./c", "/a/b/c");
        check("/../a/", "/a");
        check("/", "/");
        check("", "/");
    }

    #[test]
    fn below() {
        let points =
            |path: &[u8]| table().mounts_below(path).into_iter().map(|m| m.root.device).collect::<Vec<_>>();
        assert_eq!(points(b"/"), [2, 3, 4]);
        assert_eq!(points(b"/home"), [3]);
        assert_eq!(points(b"/home/u"), [] as [u32; 0]);
    }
}
