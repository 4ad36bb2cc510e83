//! Connects: the cgroup programs of attach mode `fallback`, and what they share with the LSM hooks.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use treeline_abi::{Kind, Label, Offsets, Verdict, label::PendingConnect, record::Flags};

use crate::{
    decide::{self, Decision},
    emit,
    kernel::{copy, masked, offset, read},
    lifecycle::subject,
    scratch::Scratch,
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
    on_connect(AF_INET, [address, 0, 0, 0], port)
}

#[cgroup_sock_addr(connect6)]
pub(crate) fn cgroup_connect6(ctx: SockAddrContext) -> i32 {
    // SAFETY: as above, for connect6; the four words are read one by one as the verifier wants it.
    let (words, port) = unsafe {
        let address = &raw const (*ctx.sock_addr).user_ip6;
        let word = |index: usize| (&raw const (*address)[index]).read_volatile();
        ([word(0), word(1), word(2), word(3)], (*ctx.sock_addr).user_port)
    };
    on_connect(AF_INET6, words, port)
}

#[inline(always)]
fn on_connect(family: u16, words: [u32; 4], port: u32) -> i32 {
    let Some(label) = tasks::current_label() else {
        return PROCEED;
    };
    let Some(scratch) = Scratch::take() else {
        emit::failed(Kind::Connect);
        let enforcing = decide::active().is_some_and(|active| active.table.unresolved_rule != 0);
        return if enforcing { REFUSE } else { PROCEED };
    };
    begin(scratch, label, family, u16::from_be(port as u16), words);
    let denied = judge(scratch, label, true);
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

/// Judges the connect that [`begin`] started; true when it is refused. A refusal is sent at once; with `result_follows`
/// an allowed one waits in the label for its result.
#[inline(always)]
pub(crate) fn judge(scratch: &mut Scratch, label: &mut Label, result_follows: bool) -> bool {
    let generation = decide::active().map_or(0, |active| active.table.generation);
    let decision = Decision::unpack(decide::judge_address(scratch, label), generation);
    emit::decided(&mut scratch.header, decision);
    let denied = matches!(decision.verdict, Verdict::Deny);
    if denied {
        scratch.header.result = -1;
    } else if result_follows {
        label.pending = PendingConnect {
            family: scratch.header.detail as u16,
            port: scratch.header.port as u16,
            rule: decision.rule,
            address: scratch.header.address,
        };
        return false;
    } else {
        scratch.header.flags |= Flags::RESULT_UNKNOWN;
    }
    emit::send(scratch, Kind::Connect, 0);
    denied
}

/// Reports the connect that waits in the label. Its result is unknown where there is none.
#[inline(always)]
pub(crate) fn report_kept(label: &mut Label, result: Option<i32>) {
    let Some(scratch) = Scratch::take() else {
        label.pending.family = 0;
        emit::failed(Kind::Connect);
        return;
    };
    emit::begin(scratch, Kind::Connect, label.session, &subject());
    scratch.header.detail = label.pending.family as u32;
    scratch.header.port = label.pending.port as u32;
    scratch.header.address = label.pending.address;
    match result {
        Some(result) => scratch.header.result = result,
        None => scratch.header.flags |= Flags::RESULT_UNKNOWN,
    }
    scratch.header.rule = label.pending.rule;
    scratch.header.generation = decide::active().map_or(0, |active| active.table.generation);
    if label.pending.rule != 0 {
        scratch.header.verdict = Verdict::Audit as u8;
    }
    label.pending.family = 0;
    emit::send(scratch, Kind::Connect, 0);
    scratch.release();
}

/// Appends the abstract name of a unix socket as `@name`. Returns the position behind it.
#[inline(always)]
pub(crate) fn append_abstract(scratch: &mut Scratch, sock: u64) -> u32 {
    scratch.header.flags |= Flags::AS_NAMED;
    if offset!(unix_sock_addr) == Offsets::ABSENT as u64
        || offset!(unix_address_name) == Offsets::ABSENT as u64
    {
        return 0;
    }
    let address: u64 = read(sock + offset!(unix_sock_addr));
    let len: u32 = read(address + offset!(unix_address_len));
    // The name is a `sockaddr_un`: two bytes of family, then a NUL byte in front of an abstract name.
    if address == 0 || len <= 3 || len > 110 {
        return 0;
    }
    let len = masked::<0x7f>(len - 3);
    scratch.data[0] = b'@';
    let from = address + offset!(unix_address_name) + 3;
    // SAFETY: at most 127 bytes behind the first one of the data buffer.
    unsafe { copy(scratch.data.as_mut_ptr().add(1), len, from) };
    scratch.header.parts[0] = len + 1;
    len + 1
}
