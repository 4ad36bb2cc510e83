//! Making a process the root of a session.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStringExt as _,
    },
    sync::PoisonError,
};

use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open},
};
use treeline_abi::{
    Label, LabelFlags,
    subject::{Facts, Lineage},
};
use treeline_event::{PathBytes, ProcessKey, SessionId};
use treeline_policy::Tables;

use super::{
    Known,
    guard::{identity, leads_to},
    labels::Labels,
};
use crate::backend::{BackendError, TrackRequest};

/// Rounds of looking for descendants that were created while others were labelled. A process that has its label
/// passes it on by itself, so each round can only find children of processes that had none yet.
const ROUNDS_MAX: usize = 16;

/// `PIDFD_THREAD` (include/uapi/linux/pidfd.h, Linux 6.9): the number may be any thread's, not only a leader's.
const PIDFD_THREAD: PidfdFlags = PidfdFlags::from_bits_retain(libc::O_EXCL as u32);

/// What the lineage of processes begins with that had no label.
pub(super) struct Beginning<'b> {
    /// The tables in force.
    pub(super) tables: Option<&'b Tables>,
    /// Contents by identity.
    pub(super) known: &'b Known,
}

impl Beginning<'_> {
    /// That of a process which begins with what it executes now, below a creator of this lineage.
    fn lineage(&self, pid: u32, above: Facts) -> Lineage {
        let Some(tables) = self.tables else { return Lineage::UNKNOWN };
        let image = self.image(tables, pid).unwrap_or(Facts::UNKNOWN);
        let facts = Facts { sure: above.sure | image.sure, possible: above.possible | image.possible };
        Lineage { facts, since: tables.table.subjects.since }
    }

    fn image(&self, tables: &Tables, pid: u32) -> io::Result<Facts> {
        let link = format!("/proc/{pid}/exe");
        let stat = rustix::fs::stat(link.as_str())?;
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let sha256 = known.sha256(&identity(&stat));
        drop(known);
        let path = PathBytes::from(fs::read_link(link)?.into_os_string().into_vec());
        let path = if leads_to(&path, &stat) { path.as_bytes() } else { b"" };
        Ok(tables.lineage_of(path, sha256))
    }
}

/// Labels the process and, when it is adopted, its threads and every descendant that /proc shows, but for those that are in
/// another session. Returns the processes that were labelled.
///
/// # Errors
/// [`BackendError::Gone`] when the root has ended.
pub(super) fn track(
    labels: &Labels,
    request: &TrackRequest,
    beginning: &Beginning<'_>,
) -> Result<Vec<ProcessKey>, BackendError> {
    let root_flags = LabelFlags::ROOT | if request.adopt { LabelFlags::ADOPTED } else { 0 };
    let tracking = Tracking { labels, request, beginning };
    let label = tracking.set(request.pidfd.as_fd(), request.pid, root_flags, Facts::default())?;
    let root = key_of(request.pid).map_err(|_| BackendError::Gone { pid: request.pid })?;
    let mut labelled = BTreeMap::from([(root.pid, label.lineage.facts)]);
    // Who is in another session stays in it, with what is below.
    let mut others = BTreeSet::new();
    let mut keys = vec![root];
    if !request.adopt {
        return Ok(keys);
    }
    set_threads(labels, root.pid, label);
    for _ in 0..ROUNDS_MAX {
        let fresh = children_of(&labelled, &others);
        if fresh.is_empty() {
            break;
        }
        for (pid, above) in fresh {
            let opened = child(pid);
            let session = opened.as_ref().and_then(|(pidfd, _)| labels.label(pidfd.as_fd()).ok().flatten());
            if session.is_some_and(|label| label.session != request.session.0) {
                others.insert(pid);
                continue;
            }
            labelled.insert(pid, Facts::UNKNOWN);
            let Some((pidfd, key)) = opened else { continue };
            if let Ok(label) = tracking.set(pidfd.as_fd(), pid, LabelFlags::ADOPTED, above) {
                labelled.insert(pid, label.lineage.facts);
                set_threads(labels, pid, label);
                keys.push(key);
            }
        }
    }
    Ok(keys)
}

/// The label of a process that may still live.
pub(super) fn label(labels: &Labels, key: ProcessKey) -> Option<Label> {
    let (pidfd, found) = child(key.pid)?;
    (found == key).then(|| labels.label(pidfd.as_fd()).ok().flatten()).flatten()
}

/// The processes that have a label, with their sessions, as /proc shows them.
pub(super) fn labelled(labels: &Labels) -> Vec<(SessionId, ProcessKey)> {
    let Ok(listing) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = listing.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let (pidfd, key) = child(pid)?;
        let label = labels.label(pidfd.as_fd()).ok().flatten()?;
        // What has ended and waits to be reaped does nothing any more.
        let ends = fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "));
        (!ends).then_some((SessionId(label.session), key))
    })
    .collect()
}

/// What labels are put on processes by.
struct Tracking<'t> {
    labels: &'t Labels,
    request: &'t TrackRequest,
    beginning: &'t Beginning<'t>,
}

impl Tracking<'_> {
    fn set(&self, pidfd: BorrowedFd<'_>, pid: u32, flags: u32, above: Facts) -> Result<Label, BackendError> {
        let Self { labels, request, beginning } = *self;
        // A process that registers from inside a tree stays what it is: neither code that the environment put into it nor
        // another name for its executable must regain an exception, and its lineage goes on.
        let before = labels.label(pidfd).ok().flatten();
        let image = image_of(pid);
        let lineage = before.map_or_else(|| beginning.lineage(pid, above), |label| label.lineage);
        let before = before.unwrap_or_default();
        let flags = flags | before.flags & LabelFlags::LOADER_ENV;
        let mut label =
            Label { session: request.session.0, flags, image: before.image, lineage, ..Label::default() };
        let put = |label: &Label| {
            labels.set(pidfd, label).map_err(|source| match source.raw_os_error() {
                Some(libc::ESRCH | libc::ENOENT) => BackendError::Gone { pid: request.pid },
                _ => BackendError::Io { attempt: format!("label process {}", request.pid), source },
            })
        };
        put(&label)?;
        // What it executed meanwhile may have been written over.
        if image.is_none() || image_of(pid) != image {
            label.lineage.facts.possible = u64::MAX;
            put(&label)?;
        }
        Ok(label)
    }
}

/// Which file a process executes.
fn image_of(pid: u32) -> Option<(u64, u64)> {
    rustix::fs::stat(format!("/proc/{pid}/exe")).ok().map(|stat| (stat.st_dev, stat.st_ino))
}

/// Gives the other threads of a process the label that its leader has got.
///
/// Those that come later have it from their creator. On a kernel where other threads cannot be named, and for one
/// that could not be labelled here, the kernel programs copy the leader's label when the thread first meets a hook,
/// or when the leader ends because the thread executes. A label by process is that of all its threads.
fn set_threads(labels: &Labels, pid: u32, leader: Label) {
    if matches!(labels, Labels::ByProcess(_)) {
        return;
    }
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
                    let _ = labels.set(pidfd.as_fd(), &label);
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

/// The processes whose creator is one of these, and that are none of them, with their creators' lineage.
fn children_of(parents: &BTreeMap<u32, Facts>, others: &BTreeSet<u32>) -> Vec<(u32, Facts)> {
    let Ok(listing) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = listing.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_new = |pid: &u32| !parents.contains_key(pid) && !others.contains(pid);
    let children = pids.filter(is_new).filter_map(|pid| {
        let (parent, _) = fields(pid).ok()?;
        Some((pid, *parents.get(&parent)?))
    });
    children.collect()
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
