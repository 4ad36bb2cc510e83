//! Building a record in working memory and sending it. What could not be sent is counted by kind.

use treeline_abi::{
    Header, Kind, Verdict,
    record::{DATA_LEN_MAX, DEVICE_PREFIX_LEN, Flags},
};

use crate::{
    decide::Decision,
    kernel::{Inode, add, copy, now_ns},
    maps::{ACTIVITY, ACTIVITY_LEN, COUNTERS, LIFECYCLE, LIFECYCLE_LEN, QUOTAS, Quota},
    scratch::{PATH_BUFFER_LEN, Scratch, Walked},
    tasks::TaskIds,
};

/// Starts a record about the subject.
#[inline(always)]
pub(crate) fn begin(scratch: &mut Scratch, kind: Kind, session: u64, subject: &TaskIds) {
    let words = (&raw mut scratch.header).cast::<u64>();
    for word in 0..size_of::<Header>() / 8 {
        // SAFETY: within the head, which is a whole number of words; volatile, so that it stays word by word.
        unsafe { words.add(word).write_volatile(0) };
    }
    let header = &mut scratch.header;
    header.kind = kind as u16;
    header.time_ns = now_ns();
    header.session = session;
    header.pid = subject.pid;
    header.tid = subject.tid;
    header.start_ns = subject.start_ns;
}

/// Puts a decision into the record.
#[inline(always)]
pub(crate) fn decided(header: &mut Header, decision: Decision) {
    header.verdict = decision.verdict() as u8;
    header.rule = decision.rule;
    header.generation = decision.generation;
}

/// Puts an object's identity into the record.
#[inline(always)]
pub(crate) fn object(header: &mut Header, inode: &Inode) {
    header.file = inode.key;
    header.mtime_ns = inode.mtime_ns;
    header.mode = inode.mode;
    if inode.links == 0 {
        header.flags |= Flags::UNLINKED;
    }
    if inode.mode & 0o170_000 == 0o040_000 {
        header.flags |= Flags::DIRECTORY;
    }
}

/// Appends the path of the last walk, after its device. Returns the position behind it.
#[inline(always)]
pub(crate) fn append_walked(scratch: &mut Scratch, part: usize, position: u32) -> u32 {
    let walked = scratch.walked;
    let len = (PATH_BUFFER_LEN as u32 - walked.start) & 0x1fff;
    let len = if len > PATH_BUFFER_LEN as u32 { PATH_BUFFER_LEN as u32 } else { len };
    let from = scratch.path.as_ptr() as u64 + (walked.start & 0x1fff) as u64;
    if walked.flags & Walked::CUT != 0 {
        scratch.header.flags |= Flags::CUT_0;
    }
    if walked.flags & Walked::RESOLVED == 0 {
        scratch.header.flags |= Flags::UNRESOLVED;
    }
    if walked.flags & Walked::DETACHED != 0 {
        scratch.header.flags |= Flags::UNLINKED;
    }
    let at = (position & (DATA_LEN_MAX as u32 - 1)) as usize;
    // SAFETY: `at` is below DATA_LEN_MAX and at most 4 + 4096 bytes follow; the buffer has 4 KiB of slack and the
    // verifier checks the bound again.
    unsafe {
        let to = scratch.data.as_mut_ptr().add(at);
        to.cast::<u32>().write_unaligned(walked.device);
        copy(to.add(DEVICE_PREFIX_LEN), len, from);
    }
    scratch.header.parts[part] = len + DEVICE_PREFIX_LEN as u32;
    position + len + DEVICE_PREFIX_LEN as u32
}

/// Sends the record with `len` bytes of data behind the head.
#[inline(always)]
pub(crate) fn send(scratch: &mut Scratch, kind: Kind, len: u32) {
    send_as(scratch, kind as u32, len);
}

/// Kinds that go to the lifecycle ring whatever the verdict, as a bit set.
const LIFECYCLE_KINDS: u32 = 1 << Kind::Fork as u32
    | 1 << Kind::Exec as u32
    | 1 << Kind::Exit as u32
    | 1 << Kind::ExecDenied as u32
    | 1 << Kind::Adopt as u32;

/// As [`send`], with the number of a [`Kind`].
///
/// Lifecycle records, denials and audits have a ring of their own.
#[inline(never)]
pub(crate) fn send_as(scratch: &mut Scratch, kind: u32, len: u32) -> u32 {
    let first = LIFECYCLE_KINDS >> (kind & 31) & 1 != 0 || scratch.header.verdict != Verdict::Allow as u8;
    let size = size_of::<Header>() + (len as usize & (2 * DATA_LEN_MAX - 1)).min(DATA_LEN_MAX);
    // SAFETY: header and data are contiguous (`repr(C)`, no padding between them) and `size` is within both.
    let bytes = unsafe { core::slice::from_raw_parts((&raw const scratch.header).cast::<u8>(), size) };
    count(kind, |counter| &raw mut counter.created);
    let (ring, ring_len) = if first { (&LIFECYCLE, LIFECYCLE_LEN) } else { (&ACTIVITY, ACTIVITY_LEN) };
    let waiting = ring.query(BPF_RB_AVAIL_DATA);
    if waiting >= u64::from(ring_len / 2)
        && is_over_quota(scratch.header.pid, scratch.header.time_ns, waiting, u64::from(ring_len))
    {
        lost(kind);
        return 0;
    }
    let sent = if first { LIFECYCLE.output::<[u8]>(bytes, 0) } else { ACTIVITY.output::<[u8]>(bytes, 0) };
    if sent.is_err() {
        lost(kind);
    }
    0
}

/// `BPF_RB_AVAIL_DATA`: what waits to be read, in bytes (Linux 5.8).
const BPF_RB_AVAIL_DATA: u64 = 0;

/// Records of one process per second that a ring takes when it is half full, three quarters, and seven eighths.
const QUOTA: [u32; 3] = [1024, 128, 16];

/// Whether a process has sent its share of a ring that runs full: what is left is for the others, so that a flood hides
/// nobody's records but the flooder's.
#[inline(never)]
fn is_over_quota(pid: u32, time_ns: u64, waiting: u64, ring_len: u64) -> bool {
    let quota = if waiting < ring_len / 4 * 3 {
        QUOTA[0]
    } else if waiting < ring_len / 8 * 7 {
        QUOTA[1]
    } else {
        QUOTA[2]
    };
    let second = (time_ns >> 30) as u32;
    if let Some(known) = QUOTAS.get_ptr_mut(&pid) {
        // SAFETY: the pointer comes from the map; both are plain words, and a count that misses some by a race does no
        // harm.
        let known = unsafe { &mut *known };
        if known.second == second {
            known.count += 1;
            return known.count > quota;
        }
    }
    // A full table forgets who was there longest, so this does not fail.
    let _ = QUOTAS.insert(&pid, &Quota { second, count: 1 }, 0);
    false
}

/// Counts a record that could not be built.
#[inline(always)]
pub(crate) fn failed(kind: Kind) {
    count(kind as u32, |counter| &raw mut counter.failed);
}

#[inline(always)]
fn lost(kind: u32) {
    count(kind, |counter| &raw mut counter.lost);
    let Some(counter) = COUNTERS.get_ptr_mut(kind) else {
        return;
    };
    // SAFETY: the pointer comes from the map; both are plain words and only the agent's report depends on them.
    unsafe {
        let now = now_ns();
        if (*counter).first_ns == 0 {
            (*counter).first_ns = now;
        }
        (*counter).last_ns = now;
    }
}

#[inline(always)]
fn count(kind: u32, field: impl Fn(&mut treeline_abi::Loss) -> *mut u64) {
    if let Some(counter) = COUNTERS.get_ptr_mut(kind) {
        // SAFETY: the pointer comes from the map. The add is atomic because a hook may be preempted on its CPU.
        add(field(unsafe { &mut *counter }), 1);
    }
}
