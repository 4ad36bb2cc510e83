//! Processes as /proc shows them. What is read is another program's to choose: bounded, and never trusted to be whole.

use std::{
    fs::File,
    io::{self, Read},
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt, ffi::OsStringExt},
    },
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, Mode, OFlags, openat};
use treeline_event::{PathBytes, ProcessKey};

/// Longest file of /proc that is read, in bytes: a command line beyond it is cut.
const FILE_LEN_MAX: u64 = 64 * 1024;

/// Longest argument vector that is kept, in bytes; the kernel programs keep as much.
const ARGV_LEN_MAX: usize = 4096;

/// What /proc/PID/stat says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The process.
    pub key: ProcessKey,
    /// Its parent now, 0 for none.
    pub ppid: u32,
    /// Controlling terminal, 0 for none.
    pub tty: u32,
    /// It ended and waits to be reaped.
    pub zombie: bool,
}

/// User and group ids of /proc/PID/status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    /// Real user id.
    pub uid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Real group id.
    pub gid: u32,
}

/// A procfs at some place.
#[derive(Clone, Debug)]
pub struct ProcFs {
    root: PathBuf,
}

impl ProcFs {
    /// The procfs that is mounted at `root`.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The path of an entry of a process.
    #[must_use]
    pub fn path(&self, pid: u32, entry: &str) -> PathBuf {
        self.root.join(pid.to_string()).join(entry)
    }

    fn read(&self, pid: u32, entry: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.path(pid, entry))?.take(FILE_LEN_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// /proc/PID/stat of whoever has this pid now.
    ///
    /// # Errors
    /// The process is gone, or `InvalidData` when the file is not what it should be.
    pub fn stat(&self, pid: u32) -> io::Result<Stat> {
        let stat = parse_stat(&self.read(pid, "stat")?).filter(|stat| stat.key.pid == pid);
        stat.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("malformed /proc/{pid}/stat")))
    }

    /// Whether the process, and not another one with its pid, still runs.
    #[must_use]
    pub fn alive(&self, key: ProcessKey) -> bool {
        self.stat(key.pid).is_ok_and(|stat| stat.key == key && !stat.zombie)
    }

    /// Its ids.
    ///
    /// # Errors
    /// As for [`Self::stat`].
    pub fn ids(&self, pid: u32) -> io::Result<Ids> {
        let ids = parse_ids(&self.read(pid, "status")?);
        ids.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("malformed /proc/{pid}/status")))
    }

    /// Its argument vector, and whether it was cut.
    ///
    /// # Errors
    /// The process is gone or may not be read.
    pub fn argv(&self, pid: u32) -> io::Result<(Vec<PathBytes>, bool)> {
        Ok(parse_argv(&self.read(pid, "cmdline")?))
    }

    /// The target of a link such as `cwd` or `exe`.
    ///
    /// # Errors
    /// The process is gone, has none (a kernel thread) or may not be read.
    pub fn link(&self, pid: u32, entry: &str) -> io::Result<PathBytes> {
        let target = std::fs::read_link(self.path(pid, entry))?;
        Ok(PathBytes::from(target.into_os_string().into_vec()))
    }

    /// Holds the file behind a link such as `exe` or `fd/3` without opening it: this neither walks a path nor asks
    /// the file system, so that a file system that the process serves itself cannot stall the caller.
    ///
    /// # Errors
    /// As for [`Self::link`].
    pub fn hold(&self, pid: u32, entry: &str) -> io::Result<OwnedFd> {
        hold(&self.path(pid, entry), OFlags::empty())
    }
}

/// A descriptor that names a file and cannot read it yet.
pub(crate) fn hold(path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(openat(CWD, path.as_os_str().as_bytes(), OFlags::PATH | OFlags::CLOEXEC | flags, Mode::empty())?)
}

/// Splits `path (deleted)` and `/memfd:name (deleted)` of a link below /proc.
#[must_use]
pub fn parse_exe(target: &PathBytes) -> (PathBytes, bool) {
    let Some(path) = target.as_bytes().strip_suffix(b" (deleted)") else { return (target.clone(), false) };
    let path = if path.starts_with(b"/memfd:") { &path[1..] } else { path };
    (PathBytes::from(path), true)
}

/// The name of a process may hold anything, `) R 1` and newlines, too: the fields begin after the last parenthesis.
pub(crate) fn parse_stat(bytes: &[u8]) -> Option<Stat> {
    let end = bytes.iter().rposition(|byte| *byte == b')')?;
    let pid = std::str::from_utf8(bytes.split(|byte| *byte == b' ').next()?).ok()?.parse().ok()?;
    let fields: Vec<&str> = std::str::from_utf8(&bytes[end + 1..]).ok()?.split_ascii_whitespace().collect();
    // The state is field 3 of proc(5) and the first one here.
    let field = |number: usize| fields.get(number - 3).copied();
    Some(Stat {
        key: ProcessKey { pid, start_ticks: field(22)?.parse().ok()? },
        ppid: field(4)?.parse().ok()?,
        // A signed number in the file.
        tty: field(7)?.parse::<i32>().ok()?.cast_unsigned(),
        zombie: matches!(field(3)?, "Z" | "X" | "x"),
    })
}

pub(crate) fn parse_ids(bytes: &[u8]) -> Option<Ids> {
    // The name, the first line, has its newlines escaped by the kernel, so no other line can be imitated.
    let line = |name: &[u8]| bytes.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(name));
    let ids = |line: &[u8]| -> Option<(u32, u32)> {
        let mut ids = std::str::from_utf8(line).ok()?.split_ascii_whitespace().map(str::parse);
        Some((ids.next()?.ok()?, ids.next()?.ok()?))
    };
    let ((uid, euid), (gid, _)) = (ids(line(b"Uid:")?)?, ids(line(b"Gid:")?)?);
    Some(Ids { uid, euid, gid })
}

pub(crate) fn parse_argv(bytes: &[u8]) -> (Vec<PathBytes>, bool) {
    let cut = bytes.len() > ARGV_LEN_MAX;
    let kept = &bytes[..bytes.len().min(ARGV_LEN_MAX)];
    let kept = kept.strip_suffix(b"\0").unwrap_or(kept);
    if kept.is_empty() {
        return (Vec::new(), cut);
    }
    (kept.split(|byte| *byte == 0).map(PathBytes::from).collect(), cut)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TAIL: &[u8] = b" S 7 1 1 34817 1 0 0 0 0 0 0 0 0 0 20 0 1 0 777 0 0";

    #[track_caller]
    fn check_stat(head: &[u8], tail: &[u8], expect: Option<(u32, u32, u64)>) {
        let stat = parse_stat(&[head, tail].concat());
        assert_eq!(stat.map(|stat| (stat.key.pid, stat.ppid, stat.key.start_ticks)), expect);
    }

    #[test]
    fn stat_with_any_name() {
        check_stat(b"42 (sh)", TAIL, Some((42, 7, 777)));
        check_stat(b"42 (a) R 1 (b c)", TAIL, Some((42, 7, 777)));
        check_stat(b"42 (a\n) S 9\n)", TAIL, Some((42, 7, 777)));
        check_stat(b"42 (\xff\xfe)", TAIL, Some((42, 7, 777)));
        check_stat(b"42 (sh)", b" S 7 1", None);
        check_stat(b"42 (sh", b" S 7 1", None);
        check_stat(b"x (sh)", TAIL, None);
        check_stat(b"", b"", None);
    }

    #[test]
    fn ids_of_status() {
        let status = b"Name:\tx\\nUid:\nUmask:\t0022\nUid:\t1000\t0\t0\t0\nGid:\t100\t5\t5\t5\n";
        assert_eq!(parse_ids(status), Some(Ids { uid: 1000, euid: 0, gid: 100 }));
        assert_eq!(parse_ids(b"Uid:\t1\nGid:\t1\t2\n"), None);
        assert_eq!(parse_ids(b""), None);
    }

    #[test]
    fn argv_and_exe() {
        assert_eq!(parse_argv(b"a\0\0b\0"), (vec!["a".into(), "".into(), "b".into()], false));
        assert_eq!(parse_argv(b""), (vec![], false));
        assert!(parse_argv(&[b'x'; ARGV_LEN_MAX + 1]).1);
        assert_eq!(parse_exe(&"/bin/a".into()), ("/bin/a".into(), false));
        assert_eq!(parse_exe(&"/tmp/a (deleted)".into()), ("/tmp/a".into(), true));
        assert_eq!(parse_exe(&"/memfd:x (deleted)".into()), ("memfd:x".into(), true));
    }

    #[test]
    fn own_process_is_read() {
        let (proc, pid) = (ProcFs::new("/proc"), std::process::id());
        let stat = proc.stat(pid).expect("own stat");
        assert!(proc.alive(stat.key));
        assert!(!proc.alive(ProcessKey { start_ticks: stat.key.start_ticks + 1, ..stat.key }));
        assert_eq!(proc.ids(pid).expect("own status").uid, rustix::process::getuid().as_raw());
        assert!(!proc.argv(pid).expect("own argv").0.is_empty());
        assert!(ProcFs::new("/nowhere").stat(1).is_err());
    }

    proptest! {
        #[test]
        fn any_content_is_survived(bytes: Vec<u8>) {
            parse_stat(&bytes);
            parse_ids(&bytes);
            parse_argv(&bytes);
        }
    }
}
