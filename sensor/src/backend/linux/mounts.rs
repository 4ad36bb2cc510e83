//! The mount table: from a filesystem's own paths to canonical ones and back.

use std::{io, path::PathBuf};

use treeline_event::PathBytes;

/// The table of the sensor's own mount namespace.
pub(super) const MOUNTINFO_PATH: &str = "/proc/self/mountinfo";

/// One line of mountinfo (proc_pid_mountinfo(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// `s_dev` of the superblock, `major << 20 | minor`.
    pub(super) device: u32,
    /// Directory of the filesystem that is mounted.
    pub(super) root: Vec<u8>,
    /// Where it is mounted.
    pub(super) point: Vec<u8>,
    /// Type of the filesystem.
    pub(super) kind: Vec<u8>,
}

/// Mounts in the order of the table: a later one hides an earlier one at the same point.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MountTable {
    mounts: Vec<Mount>,
}

impl MountTable {
    /// Reads the table of this process.
    ///
    /// # Errors
    /// When /proc is not mounted or a line is malformed.
    pub(super) fn read() -> io::Result<Self> {
        Self::parse(&std::fs::read(MOUNTINFO_PATH)?).map_err(io::Error::other)
    }

    /// Reads a table from its text.
    ///
    /// # Errors
    /// The line that is malformed.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, String> {
        let lines = text.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty());
        let mounts = lines.map(|(number, line)| {
            parse_line(line).ok_or_else(|| {
                format!(
                    "{MOUNTINFO_PATH}:{}: not a mount line: `{}`",
                    number + 1,
                    String::from_utf8_lossy(line)
                )
            })
        });
        Ok(Self { mounts: mounts.collect::<Result<_, _>>()? })
    }

    /// Where a path lies: device and path below the filesystem's root. The path must be absolute and without links.
    pub(crate) fn locate(&self, path: &[u8]) -> Option<(u32, Vec<u8>)> {
        let (mount, rest) = self
            .mounts
            .iter()
            .filter_map(|mount| Some((mount, below(path, &mount.point)?)))
            .enumerate()
            .max_by_key(|(order, (mount, _))| (mount.point.len(), *order))
            .map(|(_, found)| found)?;
        Some((mount.device, join(&mount.root, rest)))
    }

    /// The mounts strictly below a path, where no later mount hides them.
    pub(super) fn below(&self, path: &[u8]) -> impl Iterator<Item = &Mount> {
        let path = path.to_vec();
        self.mounts
            .iter()
            .filter(move |mount| below(&mount.point, &path).is_some_and(|rest| !rest.is_empty()))
    }

    /// Every mount of a filesystem.
    pub(super) fn of(&self, device: u32) -> impl Iterator<Item = &Mount> {
        self.mounts.iter().filter(move |mount| mount.device == device)
    }

    /// The canonical path of a filesystem's own path: by the mount whose root is the longest prefix, the shortest
    /// mount point among equals. A filesystem that is not mounted here is named by its device.
    pub(crate) fn canonical(&self, device: u32, inner: &[u8]) -> PathBytes {
        let best = self
            .mounts
            .iter()
            .filter(|mount| mount.device == device)
            .filter_map(|mount| Some((mount, below(inner, &mount.root)?)))
            .max_by_key(|(mount, _)| (mount.root.len(), std::cmp::Reverse(mount.point.len())));
        match best {
            Some((mount, rest)) => join(&mount.point, rest).into(),
            None => {
                let mut text = format!("[{}:{}]", device >> 20, device & 0xf_ffff).into_bytes();
                text.extend_from_slice(inner);
                text.into()
            }
        }
    }

    /// All of them, in the order of the table.
    pub(super) fn all(&self) -> &[Mount] {
        &self.mounts
    }

    /// Mounts of one type.
    pub(super) fn of_kind(&self, kind: &[u8]) -> impl Iterator<Item = &Mount> {
        self.mounts.iter().filter(move |mount| mount.kind == kind)
    }
}

/// The root of the unified cgroup hierarchy.
///
/// # Errors
/// When it is not mounted.
pub(super) fn cgroup2_root() -> io::Result<PathBuf> {
    let table = MountTable::read()?;
    let mount = table.of_kind(b"cgroup2").find(|mount| mount.root == b"/");
    mount.map(|mount| PathBuf::from(PathBytes::from(mount.point.clone()).to_string())).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            "cgroup2 is not mounted: `mount -t cgroup2 none /sys/fs/cgroup`",
        )
    })
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let device = fields.nth(2)?;
    let root = fields.next()?;
    let point = fields.next()?;
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    let (major, minor) = std::str::from_utf8(device).ok()?.split_once(':')?;
    let (major, minor): (u32, u32) = (major.parse().ok()?, minor.parse().ok()?);
    Some(Mount {
        device: major.checked_mul(1 << 20)?.checked_add(minor)?,
        root: unescape(root),
        point: unescape(point),
        kind: kind.to_vec(),
    })
}

/// Undoes the octal escapes of mountinfo (`\040` for a space).
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = (byte == b'\\' && tail.len() >= 3).then(|| {
            std::str::from_utf8(&tail[..3]).ok().and_then(|digits| u8::from_str_radix(digits, 8).ok())
        });
        if let Some(Some(value)) = octal {
            out.push(value);
            rest = &tail[3..];
        } else {
            out.push(byte);
            rest = tail;
        }
    }
    out
}

/// What follows `prefix` in `path`, by whole components: empty or starting with `/`.
fn below<'a>(path: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    if prefix == b"/" {
        return Some(if path == b"/" { b"" } else { path });
    }
    let rest = path.strip_prefix(prefix)?;
    (rest.is_empty() || rest[0] == b'/').then_some(rest)
}

fn join(base: &[u8], rest: &[u8]) -> Vec<u8> {
    let mut out = if base == b"/" { Vec::new() } else { base.to_vec() };
    out.extend_from_slice(rest);
    if out.is_empty() {
        out.push(b'/');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
        30 22 0:25 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
        31 22 8:3 /@home /home rw,relatime shared:1 - btrfs /dev/sda3 rw,subvol=/@home\n\
        32 31 0:40 / /home/u/my\\040mount rw - tmpfs tmpfs rw\n\
        33 22 254:0 /srv/data /mnt/bind rw - ext4 /dev/vda rw\n";

    fn table() -> MountTable {
        MountTable::parse(TABLE).expect("well-formed")
    }

    #[test]
    fn paths_are_located() {
        let check = |path: &[u8], device: u32, inner: &[u8]| {
            assert_eq!(
                table().locate(path),
                Some((device, inner.to_vec())),
                "{}",
                String::from_utf8_lossy(path)
            );
        };
        check(b"/etc/passwd", 254 << 20, b"/etc/passwd");
        check(b"/", 254 << 20, b"/");
        check(b"/home", 8 << 20 | 3, b"/@home");
        check(b"/home/u/.ssh", 8 << 20 | 3, b"/@home/u/.ssh");
        check(b"/homes", 254 << 20, b"/homes");
        check(b"/home/u/my mount/x", 40, b"/x");
        check(b"/mnt/bind/x", 254 << 20, b"/srv/data/x");
    }

    #[test]
    fn filesystem_paths_become_canonical() {
        let check = |device: u32, inner: &[u8], path: &str| {
            assert_eq!(table().canonical(device, inner).to_string(), path);
        };
        check(254 << 20, b"/etc/passwd", "/etc/passwd");
        check(254 << 20, b"/srv/data/x", "/mnt/bind/x");
        check(8 << 20 | 3, b"/@home/u/.ssh/id", "/home/u/.ssh/id");
        check(40, b"/", "/home/u/my mount");
        check(9 << 20 | 9, b"/x", "[9:9]/x");
    }

    #[test]
    fn malformed_lines_are_named() {
        for text in [
            &b"nonsense\n"[..],
            b"22 1 254 / / rw - ext4 a rw\n",
            b"22 1 a:b / / rw - ext4 a rw\n",
            b"1 2 3:4 / /",
        ] {
            let error = MountTable::parse(text).expect_err("malformed");
            assert!(error.contains("mountinfo:1"), "{error}");
        }
    }
}
