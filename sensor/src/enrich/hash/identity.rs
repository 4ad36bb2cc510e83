//! Which file a descriptor names, in the terms of the kernel programs.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, AsRawFd},
};

use rustix::fs::{FileType, Stat, fstat, major, minor};
use treeline_event::FileId;

/// Longest mount table that is read, in bytes: some 20 000 mounts.
const MOUNTS_LEN_MAX: u64 = 4 * 1024 * 1024;

/// The identity of an open (or only held) regular file.
///
/// The kernel programs report the device of the superblock. btrfs and overlayfs tell stat(2) another one, so a device
/// without a block device behind it (major number 0) is looked up in the mount table, by the descriptor's mount.
///
/// # Errors
/// The file cannot be asked, or `InvalidInput` when it is not a regular file.
pub fn identity(file: impl AsFd) -> io::Result<FileId> {
    identity_in(file, Mounts::Own)
}

/// Whose mount a descriptor may be of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mounts {
    /// The sensor's.
    Own,
    /// The sensor's, or those of the mount namespace of this process.
    Of(u32),
}

/// [`identity`] of a file that may be on a mount of another namespace.
///
/// # Errors
/// As for [`identity`].
pub fn identity_in(file: impl AsFd, mounts: Mounts) -> io::Result<FileId> {
    let stat = regular(file.as_fd())?;
    let (major, minor) = match (major(stat.st_dev), minor(stat.st_dev)) {
        (0, minor) => mount_device(file, mounts).unwrap_or((0, minor)),
        device => device,
    };
    Ok(FileId { major, minor, ..of_stat(&stat) })
}

/// Whether the descriptor's mount is one of the sensor's own namespace.
#[must_use]
pub fn is_mounted_here(file: impl AsFd) -> bool {
    mount_device(file, Mounts::Own).is_some()
}

/// Whether the descriptor names exactly this file with exactly this content.
///
/// # Errors
/// As for [`identity`].
pub(super) fn matches(file: impl AsFd, expect: &FileId) -> io::Result<bool> {
    let plain = of_stat(&regular(file.as_fd())?);
    Ok(plain == *expect || (plain.inode == expect.inode && identity(file)? == *expect))
}

fn regular(file: impl AsFd) -> io::Result<Stat> {
    let stat = fstat(file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(stat)
}

fn of_stat(stat: &Stat) -> FileId {
    let nanos =
        |seconds: i64, nanos: u64| seconds.cast_unsigned().wrapping_mul(1_000_000_000).wrapping_add(nanos);
    FileId {
        major: major(stat.st_dev),
        minor: minor(stat.st_dev),
        inode: stat.st_ino,
        size: stat.st_size.cast_unsigned(),
        mtime_ns: nanos(stat.st_mtime, stat.st_mtime_nsec),
        ctime_ns: nanos(stat.st_ctime, stat.st_ctime_nsec),
    }
}

/// Device of the descriptor's mount.
fn mount_device(file: impl AsFd, mounts: Mounts) -> Option<(u32, u32)> {
    let info = read(&format!("/proc/self/fdinfo/{}", file.as_fd().as_raw_fd()))?;
    let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim();
    let own = read("/proc/self/mountinfo").and_then(|table| find_device(&table, mount));
    match mounts {
        Mounts::Own => own,
        Mounts::Of(pid) => own.or_else(|| find_device(&read(&format!("/proc/{pid}/mountinfo"))?, mount)),
    }
}

fn read(path: &str) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MOUNTS_LEN_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// `36 35 98:0 /mnt1 /mnt2 ...`: the mount's id, its parent's, its device.
fn find_device(table: &str, mount: &str) -> Option<(u32, u32)> {
    table.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let device = (fields.next()? == mount).then(|| fields.nth(1))??;
        let (major, minor) = device.split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_of_a_mount() {
        let table = "36 35 98:0 / /a rw - ext4 x rw\n40 36 0:31 / /b rw - btrfs y rw\nbroken\n41 36 x /\n";
        assert_eq!(find_device(table, "40"), Some((0, 31)));
        assert_eq!(find_device(table, "36"), Some((98, 0)));
        assert_eq!(find_device(table, "41"), None);
        assert_eq!(find_device(table, "4"), None);
    }

    #[test]
    fn only_regular_files_have_an_identity() {
        assert!(identity(File::open("/dev/null").expect("null")).is_err());
        let file = File::open("/proc/self/exe").expect("own executable");
        let id = identity(&file).expect("identity");
        assert!(matches(&file, &id).expect("asked"));
        assert!(!matches(&file, &FileId { ctime_ns: 1, ..id }).expect("asked"));
    }
}
