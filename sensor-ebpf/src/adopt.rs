//! Adoption: a process outside of every session gets a session's label, where the kernel can tell that it does that
//! session's work. There are three such links, each on only if a rule of the policy asks for it:
//!
//! - **A connection** ([`state_changed`], [`on_accepted`], [`on_created`]). A task of a session connects to port 22. Both
//!   ends of a TCP connection within one network namespace have the same four numbers; the client's end is there before
//!   the server's, so that whoever accepts it finds the session. The next process that OpenSSH's listener creates is
//!   that connection's: it accepts, creates, closes, in one thread.
//! - **A job** ([`with_job`], [`on_opened`]). A task of a session writes a file in a directory where at(1) keeps
//!   jobs; a process that `atd` has created opens that very file.
//! - **Access** ([`trace_granted`]). A task of a session is given access to another process.
//!
//! Where a connection or a job cannot be remembered, what would make the link is refused. Access has been granted by every
//! security module when it is known; a process for whose label there is no room is then counted as lost.

use aya_ebpf::{
    bindings::{BPF_NOEXIST, task_struct},
    macros::{btf_tracepoint, fexit, lsm},
    programs::{BtfTracePointContext, FExitContext, LsmContext},
};
use treeline_abi::{
    Kind, Label, LabelFlags, Offsets,
    adopt::{CONNECTIONS_MAX, Connection, Ends, JobKey, Note, PORT},
    record::Link,
    subject::Lineage,
};

use crate::{
    decide::{self, Decision},
    emit,
    kernel::{add, inode, offset, read, short_name, words},
    lsm::REFUSED,
    maps::{ADOPTING, CONNECTING, CONNECTIONS, JOBS, NOTES},
    scratch::Scratch,
    tasks::{self, TaskIds},
    walk,
};

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const IPPROTO_TCP: u16 = 6;
/// `::ffff:0:0/96`, as words in memory order.
const MAPPED: [u32; 4] = [0, 0, 0xffff_0000, 0];
/// States of a TCP socket (include/net/tcp_states.h).
const ESTABLISHED: i32 = 1;
const SYN_SENT: i32 = 2;
const FIN_WAIT1: i32 = 4;
const CLOSE: i32 = 7;
const LAST_ACK: i32 = 9;
/// `PTRACE_MODE_ATTACH` (include/linux/ptrace.h).
const PTRACE_MODE_ATTACH: u32 = 2;
const FMODE_READ: u32 = 1;
const FMODE_WRITE: u32 = 2;

/// Words of [`ADOPTING`]: what is remembered of each kind, so that tasks outside need not look when there is nothing.
pub(crate) const COUNTS: u32 = 3;
const OF_CONNECTIONS: u32 = 0;
const OF_NOTES: u32 = 1;
const OF_JOBS: u32 = 2;

#[inline(always)]
fn count(of: u32) -> u64 {
    ADOPTING.get(of).copied().unwrap_or(0)
}

#[inline(always)]
fn count_by(of: u32, by: u64) {
    if let Some(word) = ADOPTING.get_ptr_mut(of) {
        add(word, by);
    }
}

/// Rule index + 1 of the rule that adopts by this link, 0 for none.
#[inline(always)]
fn rule_for(link: Link) -> u32 {
    decide::active().map_or(0, |active| active.table.adopts[link as usize - 1])
}

/// Who was adopted, by what, from whom.
struct Adopted {
    session: u64,
    link: Link,
    /// The rule, as [`rule_for`] says.
    rule: u32,
    /// The process.
    who: TaskIds,
    /// Who created or traces it.
    by: TaskIds,
    client: [u32; 4],
    client_port: u32,
    /// The job's file.
    dentry: u64,
}

/// Records an adoption.
#[inline(never)]
fn record(adopted: &Adopted) -> u32 {
    let Some(scratch) = Scratch::take() else {
        emit::failed(Kind::Adopt);
        return 0;
    };
    emit::begin(scratch, Kind::Adopt, adopted.session, &adopted.who);
    let generation = decide::active().map_or(0, |active| active.table.generation);
    let decision = Decision::unpack(scratch, Decision::packed_of(adopted.rule, 0), generation);
    emit::decided(&mut scratch.header, decision);
    let header = &mut scratch.header;
    header.detail = adopted.link as u32;
    header.peer_pid = adopted.by.pid;
    header.peer_start_ns = adopted.by.start_ns;
    header.port = adopted.client_port;
    for (index, word) in adopted.client.iter().enumerate() {
        // SAFETY: within the sixteen bytes of the address.
        unsafe { (&raw mut header.address).cast::<u32>().add(index).write_unaligned(*word) };
    }
    let mut len = 0;
    if adopted.dentry != 0 {
        emit::object(&mut scratch.header, &inode(read(adopted.dentry + offset!(dentry_inode))));
        walk::walk_path(scratch, adopted.dentry);
        len = emit::append_walked(scratch, 0, 0);
    }
    emit::send(scratch, Kind::Adopt, len);
    scratch.release();
    0
}

/// Puts the label of a session on a task that has none. False when there is no memory for it.
#[inline(always)]
fn label(task: *mut task_struct, session: u64) -> bool {
    let label = Label { session, lineage: Lineage::UNKNOWN, ..Label::default() };
    match tasks::inherit(task, &label) {
        Some(label) => {
            label.flags |= LabelFlags::ADOPTED;
            true
        }
        None => false,
    }
}

/// Whether a task executes the system's program of this name: a file of root's, which nobody else can write, in a
/// directory `sbin` or `bin`.
#[inline(always)]
fn executes(task: u64, program: &[u8; 16]) -> bool {
    let mm: u64 = read(task + offset!(task_mm));
    if mm == 0 {
        return false;
    }
    let file: u64 = read(mm + offset!(mm_exe_file));
    let node: u64 = read(file + offset!(file_inode));
    let dentry: u64 = read(file + offset!(file_path) + offset!(path_dentry));
    if node == 0 || short_name(dentry) != words(program) {
        return false;
    }
    let directory = short_name(read(dentry + offset!(dentry_parent)));
    if directory != words(b"sbin\0\0\0\0\0\0\0\0\0\0\0\0")
        && directory != words(b"bin\0\0\0\0\0\0\0\0\0\0\0\0\0")
    {
        return false;
    }
    read::<u32>(node + offset!(inode_uid)) == 0 && read::<u16>(node + offset!(inode_mode)) & 0o022 == 0
}

// ---- Connections -------------------------------------------------------------------------------------------------

/// Refuses a connect or a message of a tracked task that could not be followed: too many wait, or its data would come
/// with the connection, before the client's end is there (TCP Fast Open). The record has been begun.
#[inline(never)]
pub(crate) fn cannot_follow(scratch: &mut Scratch, port: u32, with_data: u32) -> u32 {
    if port != PORT as u32 {
        return 0;
    }
    let rule = rule_for(Link::Connection);
    if rule == 0 || (with_data == 0 && count(OF_CONNECTIONS) < CONNECTIONS_MAX as u64) {
        return 0;
    }
    let generation = decide::active().map_or(0, |active| active.table.generation);
    let decision = Decision::unpack(scratch, Decision::packed_of(rule, 1), generation);
    emit::decided(&mut scratch.header, decision);
    scratch.header.result = REFUSED;
    emit::send(scratch, Kind::Connect, 0);
    1
}

#[inline(always)]
fn offsets_absent() -> bool {
    offset!(sock_net) == Offsets::ABSENT as u64
        || offset!(sock_daddr) == Offsets::ABSENT as u64
        || offset!(sock_rcv_saddr) == Offsets::ABSENT as u64
        || offset!(sock_dport) == Offsets::ABSENT as u64
        || offset!(sock_sport) == Offsets::ABSENT as u64
        || offset!(sock_protocol) == Offsets::ABSENT as u64
}

#[inline(always)]
fn own_port(sock: u64) -> u16 {
    u16::from_be(read(sock + offset!(sock_sport)))
}

#[inline(always)]
fn other_port(sock: u64) -> u16 {
    u16::from_be(read(sock + offset!(sock_dport)))
}

/// One of a socket's two addresses, that of IPv4 as a mapped one.
#[inline(always)]
fn address(sock: u64, v4: u64, v6: u64) -> [u32; 4] {
    let family: u16 = read(sock + offset!(sock_family));
    if family == AF_INET6 && v6 != Offsets::ABSENT as u64 {
        return read(sock + v6);
    }
    if family == AF_INET { [0, 0, MAPPED[2], read(sock + v4)] } else { [0; 4] }
}

#[inline(always)]
fn own_address(sock: u64) -> [u32; 4] {
    address(sock, offset!(sock_rcv_saddr), offset!(sock_v6_rcv_saddr))
}

#[inline(always)]
fn other_address(sock: u64) -> [u32; 4] {
    address(sock, offset!(sock_daddr), offset!(sock_v6_daddr))
}

/// Both ends, by the client's.
#[inline(always)]
fn ends_of_client(sock: u64) -> Ends {
    Ends {
        net: read(sock + offset!(sock_net)),
        client: own_address(sock),
        server: other_address(sock),
        client_port: own_port(sock) as u32,
        server_port: other_port(sock) as u32,
    }
}

/// Both ends, by the server's.
#[inline(always)]
fn ends_of_server(sock: u64) -> Ends {
    Ends {
        net: read(sock + offset!(sock_net)),
        client: other_address(sock),
        server: own_address(sock),
        client_port: other_port(sock) as u32,
        server_port: own_port(sock) as u32,
    }
}

/// A TCP socket changes its state: in the context of whoever connects or closes, or while a packet is taken in, in
/// anybody's. A socket that was used has the state `CLOSE` before it is gone.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub(crate) fn sock_state(ctx: BtfTracePointContext) -> i32 {
    let sock: u64 = ctx.arg(0);
    let (from, to): (i32, i32) = (ctx.arg(1), ctx.arg(2));
    if offsets_absent() {
        return 0;
    }
    let (own, other) = (own_port(sock), other_port(sock));
    if own != PORT && other != PORT {
        return 0;
    }
    if read::<u16>(sock + offset!(sock_protocol)) != IPPROTO_TCP {
        return 0;
    }
    if other == PORT {
        client_state(sock, from, to);
    }
    if own == PORT {
        server_state(sock, to);
    }
    0
}

#[inline(never)]
fn client_state(sock: u64, from: i32, to: i32) -> u32 {
    if to == SYN_SENT {
        if let Some(label) = tasks::current_label()
            && rule_for(Link::Connection) != 0
        {
            let session = label.session;
            remember_client(sock, session);
        }
        return 0;
    }
    if to != CLOSE && !(to == ESTABLISHED && from == SYN_SENT) {
        return 0;
    }
    let ends = ends_of_client(sock);
    // SAFETY: the value is copied at once.
    let session = unsafe { CONNECTING.get(&sock) }.copied();
    if to == CLOSE {
        if session.is_some() {
            // SAFETY: as above.
            let reached = unsafe { CONNECTIONS.get(&ends) }.is_some_and(|found| found.reached != 0);
            if !reached {
                forget(&ends);
            }
            if CONNECTING.remove(&sock).is_ok() {
                count_by(OF_CONNECTIONS, u64::MAX);
            }
        }
        return 0;
    }
    // Whoever has these four numbers now is who made the connection last.
    forget(&ends);
    if let Some(session) = session {
        if CONNECTIONS.insert(&ends, &Connection { session, reached: 0 }, 0).is_ok() {
            count_by(OF_CONNECTIONS, 1);
        } else {
            emit::failed(Kind::Adopt);
        }
    }
    0
}

#[inline(always)]
fn remember_client(sock: u64, session: u64) {
    let fresh = CONNECTING.insert(&sock, &session, BPF_NOEXIST as u64);
    if fresh.is_ok() {
        count_by(OF_CONNECTIONS, 1);
    } else if CONNECTING.insert(&sock, &session, 0).is_err() {
        emit::failed(Kind::Adopt);
    }
}

#[inline(always)]
fn forget(ends: &Ends) -> bool {
    let was_there = CONNECTIONS.remove(ends).is_ok();
    if was_there {
        count_by(OF_CONNECTIONS, u64::MAX);
    }
    was_there
}

/// The end that a server accepts, or that of a socket which is bound to this port and connects.
#[inline(never)]
fn server_state(sock: u64, to: i32) -> u32 {
    // With unread data a socket goes from `ESTABLISHED` to `CLOSE` at once.
    if to == FIN_WAIT1 || to == LAST_ACK || to == CLOSE {
        closed_by_current(sock);
    }
    if to != ESTABLISHED && to != CLOSE || count(OF_CONNECTIONS) == 0 {
        return 0;
    }
    let ends = ends_of_server(sock);
    if to == CLOSE {
        forget(&ends);
    } else if let Some(found) = CONNECTIONS.get_ptr_mut(&ends) {
        // SAFETY: the pointer comes from the map; a whole word is written.
        unsafe { (&raw mut (*found).reached).write_volatile(1) };
    }
    0
}

/// Whoever closes an accepted connection before creating a process for it will not create one.
#[inline(always)]
fn closed_by_current(sock: u64) {
    if count(OF_NOTES) == 0 {
        return;
    }
    let key = tasks::key(tasks::current() as u64);
    // SAFETY: the value is looked at at once.
    if unsafe { NOTES.get(&key) }.is_some_and(|note| note.sock == sock) {
        drop_note(tasks::current() as u64);
    }
}

#[inline(always)]
fn drop_note(task: u64) -> bool {
    let was_there = count(OF_NOTES) != 0 && NOTES.remove(&tasks::key(task)).is_ok();
    if was_there {
        count_by(OF_NOTES, u64::MAX);
    }
    was_there
}

/// A connection was accepted (up to Linux 6.9 the function takes four arguments, since then two).
#[fexit(function = "inet_csk_accept")]
pub(crate) fn accept_exit(ctx: FExitContext) -> i32 {
    on_accepted(ctx.arg(2));
    0
}

#[fexit(function = "inet_csk_accept")]
pub(crate) fn accept_exit_of_four(ctx: FExitContext) -> i32 {
    on_accepted(ctx.arg(4));
    0
}

/// Whoever has a label hands it on by itself. The note is for OpenSSH's listener alone: of a server with threads, or one
/// that serves several connections at once, the next process could be another connection's.
#[inline(never)]
fn on_accepted(sock: u64) -> u32 {
    let task = tasks::current() as u64;
    drop_note(task);
    if sock == 0 || offsets_absent() || count(OF_CONNECTIONS) == 0 || own_port(sock) != PORT {
        return 0;
    }
    if tasks::current_label().is_some() {
        return 0;
    }
    let ends = ends_of_server(sock);
    // SAFETY: the value is copied at once.
    let Some(found) = (unsafe { CONNECTIONS.get(&ends) }).copied() else {
        return 0;
    };
    if !forget(&ends) || !is_listener(task) {
        return 0;
    }
    let note =
        Note { session: found.session, sock, client: ends.client, client_port: ends.client_port, pad: 0 };
    if NOTES.insert(&tasks::key(task), &note, 0).is_ok() {
        count_by(OF_NOTES, 1);
    } else {
        emit::failed(Kind::Adopt);
    }
    0
}

#[inline(always)]
fn is_listener(task: u64) -> bool {
    let signal: u64 = read(task + offset!(task_signal));
    read::<i32>(signal + offset!(signal_live)) == 1 && executes(task, b"sshd\0\0\0\0\0\0\0\0\0\0\0\0")
}

/// A task without a label has created another.
#[inline(always)]
pub(crate) fn on_created(parent: *mut task_struct, child: *mut task_struct) {
    if count(OF_NOTES) != 0 {
        created_by_noted(parent, child);
    }
}

/// A function of its own, so that its locals are not on the stack while the creator's label is looked for.
#[inline(never)]
fn created_by_noted(parent: *mut task_struct, child: *mut task_struct) -> u32 {
    let key = tasks::key(parent as u64);
    // SAFETY: the value is copied at once.
    let Some(note) = (unsafe { NOTES.get(&key) }).copied() else {
        return 0;
    };
    // Taken away first: it is for one process.
    if !drop_note(parent as u64) {
        return 0;
    }
    let who = tasks::ids(child as u64);
    if who.pid != who.tid {
        return 0;
    }
    if !tasks::bestow(child, &Label { session: note.session, lineage: Lineage::UNKNOWN, ..Label::default() })
    {
        emit::failed(Kind::Adopt);
        return 0;
    }
    if let Some(label) = tasks::label_of(child) {
        label.flags |= LabelFlags::ADOPTED;
    }
    record(&Adopted {
        session: note.session,
        link: Link::Connection,
        rule: rule_for(Link::Connection),
        who,
        by: tasks::ids(parent as u64),
        client: note.client,
        client_port: note.client_port,
        dentry: 0,
    });
    0
}

/// A task without a label ends or executes: what it has accepted goes with it, or is somebody else's.
#[inline(always)]
pub(crate) fn on_ended(task: *mut task_struct) {
    drop_note(task as u64);
}

// ---- Jobs --------------------------------------------------------------------------------------------------------

/// Whether a name is in a directory where at(1) keeps its jobs, by the names of that directory and of the one above:
/// `cron/atjobs` (Debian), `spool/at` (Red Hat), `spool/atjobs` (SUSE). Another directory that is called so does no
/// harm: its files are remembered, and `atd` does not open them.
#[inline(always)]
fn is_in_spool(dentry: u64) -> bool {
    let directory: u64 = read(dentry + offset!(dentry_parent));
    let above: u64 = read(directory + offset!(dentry_parent));
    let (first, second) = (short_name(directory), short_name(above));
    let spool = second == words(b"spool\0\0\0\0\0\0\0\0\0\0\0");
    if first == words(b"atjobs\0\0\0\0\0\0\0\0\0\0") {
        return spool || second == words(b"cron\0\0\0\0\0\0\0\0\0\0\0\0");
    }
    spool && first == words(b"at\0\0\0\0\0\0\0\0\0\0\0\0\0\0")
}

#[inline(always)]
fn job(node: u64) -> JobKey {
    let superblock: u64 = read(node + offset!(inode_sb));
    JobKey {
        inode: read(node + offset!(inode_ino)),
        device: read(superblock + offset!(sb_dev)),
        generation: read(node + offset!(inode_generation)),
    }
}

/// A tracked task writes the file of this inode, or gives it this name. Remembers the file if it is a job; when it
/// cannot, the decision becomes the rule's refusal.
#[inline(always)]
pub(crate) fn with_job(
    scratch: &mut Scratch,
    decision: Decision,
    dentry: u64,
    node: u64,
    session: u64,
) -> Decision {
    let packed = remember_job(dentry, node, session);
    decision.or(Decision::unpack(scratch, packed, 0))
}

/// 0, or the refusal of a job that could not be remembered, packed.
#[inline(never)]
fn remember_job(dentry: u64, node: u64, session: u64) -> u64 {
    let rule = rule_for(Link::Job);
    if rule == 0 || node == 0 || !is_in_spool(dentry) {
        return 0;
    }
    let key = job(node);
    if JOBS.insert(&key, &session, BPF_NOEXIST as u64).is_ok() {
        count_by(OF_JOBS, 1);
        return 0;
    }
    if JOBS.insert(&key, &session, 0).is_ok() { 0 } else { Decision::packed_of(rule, 1) }
}

/// A task without a label opens a file. Refused when it is a job and cannot be adopted for want of memory.
#[inline(always)]
pub(crate) fn on_opened(file: u64) -> i32 {
    if count(OF_JOBS) == 0 {
        return 0;
    }
    opened_outside(file)
}

#[inline(never)]
fn opened_outside(file: u64) -> i32 {
    let key = job(read(file + offset!(file_inode)));
    // SAFETY: the value is copied at once.
    let Some(session) = (unsafe { JOBS.get(&key) }).copied() else {
        return 0;
    };
    let mode: u32 = read(file + offset!(file_mode));
    if mode & FMODE_WRITE != 0 {
        // From now on it is somebody else's.
        forget_job(&key);
        return 0;
    }
    let task = tasks::current();
    if mode & FMODE_READ == 0 || rule_for(Link::Job) == 0 || !is_runner(task) {
        return 0;
    }
    if !label(task, session) {
        emit::failed(Kind::Adopt);
        return REFUSED;
    }
    record(&Adopted {
        session,
        link: Link::Job,
        rule: rule_for(Link::Job),
        who: tasks::ids(task as u64),
        by: tasks::ids(read(task as u64 + offset!(task_real_parent))),
        client: [0; 4],
        client_port: 0,
        dentry: read(file + offset!(file_path) + offset!(path_dentry)),
    });
    0
}

/// Whether a task is a process that `atd` created for a job, and not `atd` itself: its creator executes the same file.
#[inline(always)]
fn is_runner(task: *mut task_struct) -> bool {
    let parent: u64 = read(task as u64 + offset!(task_real_parent));
    tasks::leader(task) == task
        && parent != task as u64
        && tasks::image_inode(parent) == tasks::image_inode(task as u64)
        && executes(task as u64, b"atd\0\0\0\0\0\0\0\0\0\0\0\0\0")
}

#[inline(always)]
fn forget_job(key: &JobKey) {
    if JOBS.remove(key).is_ok() {
        count_by(OF_JOBS, u64::MAX);
    }
}

/// A name is removed, by anybody: with its last name a job is gone.
#[lsm(hook = "inode_unlink")]
pub(crate) fn job_removed(ctx: LsmContext) -> i32 {
    let earlier: i32 = ctx.arg(2);
    if earlier != 0 {
        return earlier;
    }
    if count(OF_JOBS) == 0 {
        return 0;
    }
    let dentry: u64 = ctx.arg(1);
    let node: u64 = read(dentry + offset!(dentry_inode));
    if node != 0 && read::<u32>(node + offset!(inode_nlink)) == 1 {
        forget_job(&job(node));
    }
    0
}

// ---- Access ------------------------------------------------------------------------------------------------------

/// Every security module has been asked for access to a process.
#[fexit(function = "security_ptrace_access_check")]
pub(crate) fn trace_granted(ctx: FExitContext) -> i32 {
    let (mode, result): (u32, i32) = (ctx.arg(1), ctx.arg(2));
    if result != 0 || mode & PTRACE_MODE_ATTACH == 0 {
        return 0;
    }
    let Some(subject) = tasks::current_label() else {
        return 0;
    };
    let task: *mut task_struct = ctx.arg(0);
    let leader = tasks::leader(task);
    let is_labelled = tasks::label_of(task).is_some() || tasks::label_of(leader).is_some();
    if is_labelled || rule_for(Link::Trace) == 0 {
        return 0;
    }
    let session = subject.session;
    // The other threads copy the leader's.
    if !label(leader, session) {
        emit::failed(Kind::Adopt);
        return 0;
    }
    record(&Adopted {
        session,
        link: Link::Trace,
        rule: rule_for(Link::Trace),
        who: tasks::ids(leader as u64),
        by: crate::lifecycle::subject(),
        client: [0; 4],
        client_port: 0,
        dentry: 0,
    });
    0
}
