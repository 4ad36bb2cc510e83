//! Making a process the root of a session.

use std::{
    collections::BTreeSet,
    fs, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open},
};
use treeline_abi::{Label, LabelFlags};
use treeline_event::{ProcessKey, SessionId};

use super::sys;
use crate::backend::{BackendError, TrackRequest};

/// Rounds of looking for descendants that were created while others were labelled. A process that has its label
/// passes it on by itself, so each round can only find children of processes that had none yet.
const ROUNDS_MAX: usize = 16;

/// `PIDFD_THREAD` (include/uapi/linux/pidfd.h, Linux 6.9): the number may be any thread's, not only a leader's.
const PIDFD_THREAD: PidfdFlags = PidfdFlags::from_bits_retain(libc::O_EXCL as u32);

/// Labels the process and, when it is adopted, its threads and every descendant that /proc shows. Returns the
/// processes that were labelled.
///
/// # Errors
/// [`BackendError::Gone`] when the root has ended.
pub(super) fn track(labels: BorrowedFd<'_>, request: &TrackRequest) -> Result<Vec<ProcessKey>, BackendError> {
    let root_flags = LabelFlags::ROOT | if request.adopt { LabelFlags::ADOPTED } else { 0 };
    let label = set(labels, request.pidfd.as_fd(), request, root_flags)?;
    let root = key_of(request.pid).map_err(|_| BackendError::Gone { pid: request.pid })?;
    let mut labelled = BTreeSet::from([root.pid]);
    let mut keys = vec![root];
    if !request.adopt {
        return Ok(keys);
    }
    set_threads(labels, root.pid, label);
    for _ in 0..ROUNDS_MAX {
        let fresh: Vec<u32> =
            children_of(&labelled).into_iter().filter(|pid| !labelled.contains(pid)).collect();
        if fresh.is_empty() {
            break;
        }
        for pid in fresh {
            labelled.insert(pid);
            let Some((pidfd, key)) = child(pid) else { continue };
            if let Ok(label) = set(labels, pidfd.as_fd(), request, LabelFlags::ADOPTED) {
                set_threads(labels, pid, label);
                keys.push(key);
            }
        }
    }
    Ok(keys)
}

/// The processes that have a label, with their sessions, as /proc shows them.
pub(super) fn labelled(labels: BorrowedFd<'_>) -> Vec<(SessionId, ProcessKey)> {
    let Ok(listing) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = listing.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let (pidfd, key) = child(pid)?;
        let label = sys::label(labels, pidfd.as_fd()).ok().flatten()?;
        // What has ended and waits to be reaped does nothing any more.
        let ends = fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "));
        (!ends).then_some((SessionId(label.session), key))
    })
    .collect()
}

fn set(
    labels: BorrowedFd<'_>,
    pidfd: BorrowedFd<'_>,
    request: &TrackRequest,
    flags: u32,
) -> Result<Label, BackendError> {
    // A process that registers from inside a tree stays what it is: neither code that the environment put into it nor
    // another name for its executable must regain an exception.
    let before = sys::label(labels, pidfd).ok().flatten().unwrap_or_default();
    let flags = flags | before.flags & LabelFlags::LOADER_ENV;
    let label = Label { session: request.session.0, flags, image: before.image, ..Label::default() };
    match sys::set_label(labels, pidfd, &label) {
        Ok(()) => Ok(label),
        Err(source) => Err(match source.raw_os_error() {
            Some(libc::ESRCH | libc::ENOENT) => BackendError::Gone { pid: request.pid },
            _ => BackendError::Io { attempt: format!("label process {}", request.pid), source },
        }),
    }
}

/// Gives the other threads of a process the label that its leader has got.
///
/// Those that come later have it from their creator. On a kernel where other threads cannot be named, and for one
/// that could not be labelled here, the kernel programs copy the leader's label when the thread first meets a hook,
/// or when the leader ends because the thread executes.
fn set_threads(labels: BorrowedFd<'_>, pid: u32, leader: Label) {
    let label = Label { flags: leader.flags & !LabelFlags::ROOT, ..leader };
    let Ok(listing) = fs::read_dir(format!("/proc/{pid}/task")) else { return };
    let tids = listing.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    for tid in tids.filter(|tid| *tid != pid) {
        let Some(number) = Pid::from_raw(tid as i32) else { continue };
        match pidfd_open(number, PIDFD_THREAD) {
            Err(Errno::INVAL) => return,
            Err(_) => {}
            Ok(pidfd) => {
                // By now the number could stand for a thread of another process.
                if fs::exists(format!("/proc/{pid}/task/{tid}")).unwrap_or(false) {
                    let _ = sys::set_label(labels, pidfd.as_fd(), &label);
                }
            }
        }
    }
}

/// A descriptor and the key of a process that was seen in /proc, if it is still the same one.
fn child(pid: u32) -> Option<(OwnedFd, ProcessKey)> {
    let before = key_of(pid).ok()?;
    let pidfd = pidfd_open(Pid::from_raw(pid as i32)?, PidfdFlags::empty()).ok()?;
    let after = key_of(pid).ok()?;
    (before == after).then_some((pidfd, after))
}

fn children_of(parents: &BTreeSet<u32>) -> Vec<u32> {
    let Ok(listing) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = listing.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| fields(*pid).is_ok_and(|(parent, _)| parents.contains(&parent))).collect()
}

pub(super) fn key_of(pid: u32) -> io::Result<ProcessKey> {
    fields(pid).map(|(_, start_ticks)| ProcessKey { pid, start_ticks })
}

/// Parent and start time of a process, fields 4 and 22 of /proc/PID/stat.
fn fields(pid: u32) -> io::Result<(u32, u64)> {
    let stat = fs::read(format!("/proc/{pid}/stat"))?;
    parse(&stat)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat is malformed")))
}

fn parse(stat: &[u8]) -> Option<(u32, u64)> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    let start = fields.nth(17)?.parse().ok()?;
    Some((parent, start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_fields() {
        let line = b"12 (a) b) S 77 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20 21";
        assert_eq!(parse(line), Some((77, 4242)));
        for wrong in
            [&b""[..], b"1 (a", b"1 (a) S", b"1 (a) S x 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20"]
        {
            assert_eq!(parse(wrong), None);
        }
    }
}
