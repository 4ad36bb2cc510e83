//! Who waits for an answer. The subject is blocked in the kernel meanwhile, so what /proc says of it holds still.

use std::{fs, io};

use rustix::fd::OwnedFd;

/// Open flags of the access that waits, when they can be had for certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// open(2) and its kin, with the flags in a register: no other thread can change them.
    Flags(u32),
    /// An exec.
    Exec,
    /// Anything else (openat2 keeps its flags in memory that others can write, io_uring does not tell): it may read
    /// and it may write.
    Unknown,
    /// The thread has asked and is not asleep yet, so that the kernel does not show its registers. Until it does, the
    /// same.
    Unsettled,
}

impl Access {
    /// Whether it can read.
    pub(super) fn reads(self) -> bool {
        match self {
            Self::Flags(flags) => flags & 0o3 != 1,
            Self::Exec | Self::Unknown | Self::Unsettled => true,
        }
    }

    /// Whether it can write.
    pub(super) fn writes(self) -> bool {
        match self {
            Self::Flags(flags) => flags & 0o3 != 0 || flags & 0o1000 != 0,
            Self::Exec => false,
            Self::Unknown | Self::Unsettled => true,
        }
    }

    /// Flags for the record.
    pub(super) fn flags(self) -> u32 {
        match self {
            Self::Flags(flags) => flags,
            Self::Exec => 0,
            Self::Unknown | Self::Unsettled => 2,
        }
    }
}

/// The process that a thread belongs to.
///
/// # Errors
/// When the thread is gone or /proc is malformed.
pub(super) fn process_of(tid: i32) -> io::Result<i32> {
    let status = fs::read_to_string(format!("/proc/{tid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
    line.and_then(|value| value.trim().parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{tid}/status has no Tgid")))
}

/// A descriptor for a process that cannot come to mean another one: it is blocked while this is called.
///
/// # Errors
/// When it is gone.
pub(in crate::backend::linux) fn pidfd(pid: i32) -> io::Result<OwnedFd> {
    let pid = rustix::process::Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?)
}

/// Creation time of a process in ticks of 10 ms, field 22 of /proc/PID/stat.
///
/// # Errors
/// When it is gone or /proc is malformed.
pub(in crate::backend::linux) fn start_ticks(pid: i32) -> io::Result<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat"))?;
    parse_start_ticks(&stat)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat is malformed")))
}

/// Whether a thread is the kernel's own, doing the work of io_uring for its process; also if that cannot be told.
pub(super) fn is_io_worker(tid: i32) -> bool {
    fs::read(format!("/proc/{tid}/stat")).map_or(true, |stat| parse_io_worker(&stat))
}

/// `PF_IO_WORKER` (Linux 5.12) in the flags, field 9.
fn parse_io_worker(stat: &[u8]) -> bool {
    const PF_IO_WORKER: u64 = 0x10;
    let end = stat.iter().rposition(|byte| *byte == b')');
    let rest = end.and_then(|end| std::str::from_utf8(stat.get(end + 1..)?).ok());
    let flags = rest.and_then(|rest| rest.split_ascii_whitespace().nth(6)?.parse::<u64>().ok());
    flags.is_none_or(|flags| flags & PF_IO_WORKER != 0)
}

fn parse_start_ticks(stat: &[u8]) -> Option<u64> {
    // The command name may hold anything, closing parentheses too: the fields begin behind the last one.
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// How the thread accesses the file that it waits for.
pub(super) fn access(tid: i32) -> Access {
    let text = fs::read_to_string(format!("/proc/{tid}/syscall")).unwrap_or_default();
    parse_access(&text)
}

/// Numbers of x86-64 system calls, as in the kernel's table.
fn parse_access(text: &str) -> Access {
    if text.starts_with("running") {
        return Access::Unsettled;
    }
    let mut fields = text.split_ascii_whitespace();
    let number: Option<u64> = fields.next().and_then(|field| field.parse().ok());
    let arguments: Vec<u64> =
        fields.map_while(|field| u64::from_str_radix(field.strip_prefix("0x")?, 16).ok()).collect();
    let flags =
        |index: usize| arguments.get(index).map_or(Access::Unknown, |flags| Access::Flags(*flags as u32));
    match number {
        Some(2) => flags(1),
        Some(257 | 304) => flags(2),
        Some(85) => Access::Flags(0o1101),
        Some(59 | 322) => Access::Exec,
        _ => Access::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accesses() {
        let check = |text: &str, expect: Access| assert_eq!(parse_access(text), expect, "{text}");
        check("257 0xffffff9c 0x7ffe 0x80000 0x0 0x0 0x0 0x7ffd 0x7f00", Access::Flags(0x80000));
        check("2 0x7ffe 0x1 0x0 0x0 0x0 0x0 0x7ffd 0x7f00", Access::Flags(1));
        check("85 0x7ffe 0x1a4 0x0 0x0 0x0 0x0 0x7ffd 0x7f00", Access::Flags(0o1101));
        check("59 0x7ffe 0x1 0x0 0x0 0x0 0x0 0x7ffd 0x7f00", Access::Exec);
        check("437 0x7ffe 0x1 0x0 0x0 0x0 0x0 0x7ffd 0x7f00", Access::Unknown);
        check("running\n", Access::Unsettled);
        check("", Access::Unknown);
        check("257 nonsense", Access::Unknown);
        assert!(Access::Unknown.reads() && Access::Unknown.writes());
    }

    #[test]
    fn workers_of_io_uring() {
        let check = |line: &[u8], expect| assert_eq!(parse_io_worker(line), expect);
        check(b"12 (cat) S 1 12 12 0 -1 4194304 0", false);
        check(b"12 (iou-wrk) 9) S 1 12 12 0 -1 4194384 0", true);
        check(b"12 (cat) S 1", true);
        let own = rustix::thread::gettid().as_raw_nonzero().get();
        assert!(!is_io_worker(own) && is_io_worker(-1));
    }

    #[test]
    fn start_times() {
        let line = b"12 (a) b) (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20 21";
        assert_eq!(parse_start_ticks(line), Some(4242));
        for wrong in [&b""[..], b"12 (a", b"12 (a) S 1", b"12 (a) S 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 x"] {
            assert_eq!(parse_start_ticks(wrong), None);
        }
    }
}
