//! Connects and datagrams: the cgroup programs of attach mode `fallback`, and what they share with the LSM hooks.

use aya_ebpf::{
    macros::{cgroup_sock, cgroup_sock_addr},
    programs::{SockAddrContext, SockContext},
};
use treeline_abi::{Kind, Label, Offsets, Verdict, label::PendingConnect, paths::Rule, record::Flags};

use crate::{
    address,
    decide::{self, Decision},
    emit,
    kernel::{copy, masked, offset, read},
    lifecycle::subject,
    maps::SENT,
    scratch::{Scratch, SentKey},
    tasks,
};

pub(crate) const AF_UNIX: u16 = 1;
pub(crate) const AF_INET: u16 = 2;
pub(crate) const AF_INET6: u16 = 10;
/// What a cgroup program returns to let the call go on, and to refuse it with `EPERM`.
const PROCEED: i32 = 1;
const REFUSE: i32 = 0;

#[cgroup_sock_addr(connect4)]
pub(crate) fn cgroup_connect4(ctx: SockAddrContext) -> i32 {
    // SAFETY: the context is valid for the run of the program and the fields are readable in connect4.
    let (address, port) = unsafe { ((*ctx.sock_addr).user_ip4, (*ctx.sock_addr).user_port) };
    on_address(AF_INET, [address, 0, 0, 0], port, Follows::Result)
}

#[cgroup_sock_addr(connect6)]
pub(crate) fn cgroup_connect6(ctx: SockAddrContext) -> i32 {
    let (words, port) = address6(&ctx);
    on_address(AF_INET6, words, port, Follows::Result)
}

/// A datagram that names its destination (Linux 4.18); the kernel has told the family of the address.
#[cgroup_sock_addr(sendmsg4)]
pub(crate) fn cgroup_sendmsg4(ctx: SockAddrContext) -> i32 {
    // SAFETY: as for connect4.
    let (address, port) = unsafe { ((*ctx.sock_addr).user_ip4, (*ctx.sock_addr).user_port) };
    on_address(AF_INET, [address, 0, 0, 0], port, Follows::More)
}

#[cgroup_sock_addr(sendmsg6)]
pub(crate) fn cgroup_sendmsg6(ctx: SockAddrContext) -> i32 {
    let (words, port) = address6(&ctx);
    on_address(AF_INET6, words, port, Follows::More)
}

#[inline(always)]
fn address6(ctx: &SockAddrContext) -> ([u32; 4], u32) {
    // SAFETY: the context is valid for the run of the program and the fields are readable in connect6 and sendmsg6; the
    // four words are read one by one as the verifier wants it.
    unsafe {
        let address = &raw const (*ctx.sock_addr).user_ip6;
        let word = |index: usize| (&raw const (*address)[index]).read_volatile();
        ([word(0), word(1), word(2), word(3)], (*ctx.sock_addr).user_port)
    }
}

/// An IPv4 or IPv6 socket that is being made (Linux 4.10).
#[cgroup_sock(sock_create)]
pub(crate) fn cgroup_sock_create(ctx: SockContext) -> i32 {
    // SAFETY: the context is valid for the run of the program and these fields are readable when a socket is made.
    let (family, kind, protocol) = unsafe { ((*ctx.sock).family, (*ctx.sock).type_, (*ctx.sock).protocol) };
    if on_socket(family, kind, protocol) { REFUSE } else { PROCEED }
}

/// Families whose sockets say where they connect or send to in a form that rules can name, or lead nowhere else: unix,
/// IPv4, IPv6, netlink, the kernel's cryptography (`AF_ALG`).
const JUDGED_FAMILIES: u64 = 1 << AF_UNIX | 1 << AF_INET | 1 << AF_INET6 | 1 << 16 | 1 << 38;
const SOCK_RAW: u32 = 3;
/// SCTP takes further destinations by ways that the hooks of addresses do not see.
const IPPROTO_SCTP: u32 = 132;

/// Judges the making of a socket; true when it is refused. Only one whose destinations cannot be looked at is recorded,
/// and refused if a rule in `enforce` names an address.
#[inline(always)]
pub(crate) fn on_socket(family: u32, kind: u32, protocol: u32) -> bool {
    let inet = family == AF_INET as u32 || family == AF_INET6 as u32;
    let judged = family < 64 && JUDGED_FAMILIES >> (family & 63) & 1 != 0;
    if judged && !(inet && (kind == SOCK_RAW || protocol == IPPROTO_SCTP)) {
        return false;
    }
    let Some(label) = tasks::current_label() else {
        return false;
    };
    let Some(scratch) = Scratch::take() else {
        emit::failed(Kind::Connect);
        return decide::enforcing();
    };
    emit::begin(scratch, Kind::Connect, label.session, &subject());
    let generation = decide::active().map_or(0, |active| active.table.generation);
    let packed = address::judge_all(scratch, label, Rule::BY_ADDRESS);
    let decision = Decision::unpack(scratch, packed, generation);
    scratch.header.detail = (family & 0xffff) | kind << 16;
    scratch.header.port = protocol;
    let denied = conclude(scratch, decision);
    emit::send(scratch, Kind::Connect, 0);
    scratch.release();
    denied
}

/// What comes after a judgement.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Follows {
    /// The result of the connect.
    Result,
    /// Nothing that is seen.
    Nothing,
    /// Likely more of the same: only the first of a process to each place is recorded, unless it is refused.
    More,
}

/// A kernel thread that works for a process (Linux 5.12).
const PF_IO_WORKER: u32 = 0x10;

#[inline(always)]
fn on_address(family: u16, words: [u32; 4], port: u32, follows: Follows) -> i32 {
    let Some(label) = tasks::current_label() else {
        return PROCEED;
    };
    let Some(scratch) = Scratch::take() else {
        emit::failed(Kind::Connect);
        return if decide::enforcing() { REFUSE } else { PROCEED };
    };
    begin(scratch, label, family, u16::from_be(port as u16), words);
    // The thread that polls a submission queue of io_uring makes no system call whose return would be seen.
    let flags: u32 = read(tasks::current() as u64 + offset!(task_flags));
    let follows = if flags & PF_IO_WORKER == 0 { follows } else { Follows::Nothing };
    let denied = judge(scratch, label, follows);
    scratch.release();
    if denied { REFUSE } else { PROCEED }
}

/// Starts the record of a connect. `words` are the address as four words in memory order.
#[inline(always)]
pub(crate) fn begin(scratch: &mut Scratch, label: &Label, family: u16, port: u16, words: [u32; 4]) {
    emit::begin(scratch, Kind::Connect, label.session, &subject());
    scratch.header.detail = family as u32;
    scratch.header.port = port as u32;
    for (index, word) in words.iter().enumerate() {
        // SAFETY: within the sixteen bytes of the address.
        unsafe { (&raw mut scratch.header.address).cast::<u32>().add(index).write_unaligned(*word) };
    }
}

/// Puts a decision into the record of something whose result will not be seen; true when it is refused.
#[inline(always)]
fn conclude(scratch: &mut Scratch, decision: Decision) -> bool {
    emit::decided(&mut scratch.header, decision);
    let denied = decision.is_deny();
    if denied {
        scratch.header.result = -1;
    } else {
        scratch.header.flags |= Flags::RESULT_UNKNOWN;
    }
    denied
}

/// Whether the datagram of the record is the first of its process to its destination under this policy.
#[inline(always)]
fn is_first(scratch: &mut Scratch, generation: u64) -> bool {
    scratch.sent = SentKey {
        start_ns: scratch.header.start_ns,
        generation,
        address: scratch.header.address,
        pid: scratch.header.pid,
        family: scratch.header.detail as u16,
        port: scratch.header.port as u16,
    };
    // SAFETY: the value is only looked at for being there.
    if unsafe { SENT.get(&scratch.sent) }.is_some() {
        return false;
    }
    // Without room it is recorded, and so is the next.
    let _ = SENT.insert(&scratch.sent, &1, 0);
    true
}

/// Judges the connect that [`begin`] started; true when it is refused. A refusal is sent at once; an allowed one whose
/// result follows waits for it in the label.
#[inline(always)]
pub(crate) fn judge(scratch: &mut Scratch, label: &mut Label, follows: Follows) -> bool {
    let generation = decide::active().map_or(0, |active| active.table.generation);
    let packed = address::judge_address(scratch, label);
    let decision = Decision::unpack(scratch, packed, generation);
    let denied = conclude(scratch, decision);
    if !denied
        && follows == Follows::Result
        && let Some(call) = tasks::begin_call(label)
    {
        call.pending = PendingConnect {
            family: scratch.header.detail as u16,
            port: scratch.header.port as u16,
            rule: decision.rule | approved(scratch.header.flags),
            address: scratch.header.address,
        };
        return false;
    }
    if denied || follows != Follows::More || is_first(scratch, generation) {
        emit::send(scratch, Kind::Connect, 0);
    }
    denied
}

/// [`PendingConnect::APPROVED`], if the flags of the record say so.
#[inline(always)]
fn approved(flags: u32) -> u32 {
    if flags & Flags::APPROVED != 0 { PendingConnect::APPROVED } else { 0 }
}

/// Reports the connect that waits in the label. Its result is unknown where there is none.
#[inline(always)]
pub(crate) fn report_kept(label: &mut Label, result: Option<i32>) {
    let session = label.session;
    let Some(call) = tasks::call(label) else {
        return;
    };
    let Some(scratch) = Scratch::take() else {
        call.pending.family = 0;
        tasks::end_call();
        emit::failed(Kind::Connect);
        return;
    };
    emit::begin(scratch, Kind::Connect, session, &subject());
    scratch.header.detail = call.pending.family as u32;
    scratch.header.port = call.pending.port as u32;
    scratch.header.address = call.pending.address;
    match result {
        Some(result) => scratch.header.result = result,
        None => scratch.header.flags |= Flags::RESULT_UNKNOWN,
    }
    scratch.header.rule = call.pending.rule & !PendingConnect::APPROVED;
    if call.pending.rule & PendingConnect::APPROVED != 0 {
        scratch.header.flags |= Flags::APPROVED;
    }
    scratch.header.generation = decide::active().map_or(0, |active| active.table.generation);
    if call.pending.rule != 0 {
        scratch.header.verdict = Verdict::Audit as u8;
    }
    call.pending.family = 0;
    tasks::end_call();
    emit::send(scratch, Kind::Connect, 0);
    scratch.release();
}

/// Judges the abstract name of a unix socket and appends it as `@name`. Returns the decision and the position behind
/// the name. A socket without a name (of a pair, or never bound) has neither.
#[inline(always)]
pub(crate) fn on_abstract(scratch: &mut Scratch, label: &Label, sock: u64) -> (Decision, u32) {
    scratch.header.flags |= Flags::AS_NAMED;
    if offset!(unix_sock_addr) == Offsets::ABSENT as u64
        || offset!(unix_address_name) == Offsets::ABSENT as u64
    {
        return (Decision::ALLOW, 0);
    }
    let address: u64 = read(sock + offset!(unix_sock_addr));
    let len: u32 = read(address + offset!(unix_address_len));
    // The name is a `sockaddr_un`: two bytes of family, then a NUL byte in front of an abstract name.
    if address == 0 || len < 3 || len > 110 {
        return (Decision::ALLOW, 0);
    }
    let len = masked::<0x7f>(len - 3);
    scratch.data[0] = b'@';
    let from = address + offset!(unix_address_name) + 3;
    // SAFETY: at most 127 bytes behind the first one of the data buffer.
    unsafe { copy(scratch.data.as_mut_ptr().add(1), len, from) };
    scratch.header.parts[0] = len + 1;
    let generation = decide::active().map_or(0, |active| active.table.generation);
    let packed = address::judge_abstract(scratch, label, from, len);
    (Decision::unpack(scratch, packed, generation), len + 1)
}
