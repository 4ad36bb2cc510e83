//! Connects and datagrams, judged on the address that the kernel has copied in, and the sockets that name none.

use aya_ebpf::{
    macros::{fexit, lsm},
    programs::{FExitContext, LsmContext},
};
use treeline_abi::{Kind, Label, Offsets, paths::Operation, record::Flags};

use super::{REFUSED, answer, scratch_or_refuse};
use crate::{
    adopt,
    cgroup::{self, AF_INET, AF_INET6, AF_UNIX, Follows},
    decide, emit,
    kernel::{offset, read, settings},
    lifecycle::subject,
    tasks,
};

#[lsm(hook = "socket_connect")]
pub(crate) fn socket_connect(ctx: LsmContext) -> i32 {
    let earlier: i32 = ctx.arg(3);
    if earlier != 0 {
        return earlier;
    }
    let address: u64 = ctx.arg(1);
    let len: i32 = ctx.arg(2);
    let Some(label) = tasks::current_label() else {
        return 0;
    };
    let follows = if settings().connect_exit != 0 { Follows::Result } else { Follows::Nothing };
    on_address(label, read(address), address, len, follows, 0)
}

/// A message that names its destination: a datagram, also by io_uring, or data of a connect that it begins (TCP Fast
/// Open). The name is in kernel memory. Of those that one `sendmmsg` sends to the same place the first is asked for.
#[lsm(hook = "socket_sendmsg")]
pub(crate) fn socket_sendmsg(ctx: LsmContext) -> i32 {
    let earlier: i32 = ctx.arg(3);
    if earlier != 0 {
        return earlier;
    }
    let (socket, message): (u64, u64) = (ctx.arg(0), ctx.arg(1));
    let Some(label) = tasks::current_label() else {
        return 0;
    };
    let address: u64 = read(message + offset!(msg_name));
    let len: i32 = read(message + offset!(msg_namelen));
    if address == 0 || len < 2 {
        return 0;
    }
    let own: u16 = read(read::<u64>(socket + offset!(socket_sk)) + offset!(sock_family));
    // Without a family an address counts as one of the socket's own (`udp_sendmsg`, `raw_sendmsg`, `rawv6_sendmsg`).
    let named: u16 = read(address);
    let family = if named == AF_UNSPEC { own } else { named };
    let connects = read::<u32>(message + offset!(msg_flags)) & MSG_FASTOPEN != 0
        && read::<u16>(socket + offset!(socket_type)) == SOCK_STREAM;
    let follows = if connects { Follows::Nothing } else { Follows::More };
    on_address(label, family, address, len, follows, connects as u32)
}

const AF_UNSPEC: u16 = 0;
const SOCK_STREAM: u16 = 1;
const MSG_FASTOPEN: u32 = 0x2000_0000;

/// Judges a `sockaddr` in kernel memory; others than those of IPv4 and IPv6 are judged where their sockets are made.
#[inline(always)]
fn on_address(
    label: &mut Label,
    family: u16,
    address: u64,
    len: i32,
    follows: Follows,
    with_data: u32,
) -> i32 {
    let words = if family == AF_INET && len >= 8 {
        [read(address + 4), 0, 0, 0]
    } else if family == AF_INET6 && len >= 24 {
        [read(address + 8), read(address + 12), read(address + 16), read(address + 20)]
    } else {
        return 0;
    };
    let scratch = match scratch_or_refuse(Kind::Connect, label) {
        Ok(scratch) => scratch,
        Err(result) => return result,
    };
    cgroup::begin(scratch, label, family, u16::from_be(read(address + 2)), words);
    let port = scratch.header.port;
    let denied = follows != Follows::More && adopt::cannot_follow(scratch, port, with_data) != 0
        || cgroup::judge(scratch, label, follows);
    scratch.release();
    if denied { REFUSED } else { 0 }
}

/// A socket that is being made.
#[lsm(hook = "socket_create")]
pub(crate) fn socket_create(ctx: LsmContext) -> i32 {
    let earlier: i32 = ctx.arg(4);
    if earlier != 0 {
        return earlier;
    }
    let (family, kind, protocol, by_kernel): (i32, i32, i32, i32) =
        (ctx.arg(0), ctx.arg(1), ctx.arg(2), ctx.arg(3));
    if by_kernel != 0 {
        return 0;
    }
    if cgroup::on_socket(family as u32, kind as u32, protocol as u32) { REFUSED } else { 0 }
}

/// The result of a connect that was let through.
#[fexit(function = "__sys_connect_file")]
pub(crate) fn connect_exit(ctx: FExitContext) -> i32 {
    let result: i32 = ctx.arg(4);
    if let Some(label) = tasks::current_label()
        && tasks::call(label).is_some_and(|call| call.pending.family != 0)
    {
        cgroup::report_kept(label, Some(result));
    }
    0
}

#[lsm(hook = "unix_stream_connect")]
pub(crate) fn unix_stream_connect(ctx: LsmContext) -> i32 {
    let earlier: i32 = ctx.arg(3);
    if earlier != 0 {
        return earlier;
    }
    on_unix(|| ctx.arg(1), true)
}

/// Datagrams to a unix socket, connected or not. Allowed ones are not recorded: there may be one for every message.
#[lsm(hook = "unix_may_send")]
pub(crate) fn unix_may_send(ctx: LsmContext) -> i32 {
    let earlier: i32 = ctx.arg(2);
    if earlier != 0 {
        return earlier;
    }
    let other: u64 = ctx.arg(1);
    // `struct socket` here, `struct sock` above.
    on_unix(|| read(other + offset!(socket_sk)), false)
}

#[inline(always)]
fn on_unix(other: impl FnOnce() -> u64, record_allowed: bool) -> i32 {
    let Some(label) = tasks::current_label() else {
        return 0;
    };
    let other = other();
    if offsets_absent() {
        return 0;
    }
    let scratch = match scratch_or_refuse(Kind::Connect, label) {
        Ok(scratch) => scratch,
        Err(result) => return result,
    };
    emit::begin(scratch, Kind::Connect, label.session, &subject());
    scratch.header.detail = AF_UNIX as u32;
    let dentry: u64 = read(other + offset!(unix_sock_path) + offset!(path_dentry));
    let (decision, position) = if dentry == 0 {
        cgroup::on_abstract(scratch, label, other)
    } else {
        let decision = decide::judge_dentry(scratch, dentry, 1 << Operation::CONNECT, label);
        (decision, emit::append_walked(scratch, 0, 0))
    };
    emit::decided(&mut scratch.header, decision);
    if decision.is_deny() {
        scratch.header.result = REFUSED;
    } else {
        scratch.header.flags |= Flags::RESULT_UNKNOWN;
    }
    if record_allowed || !decision.is_allow() {
        emit::send(scratch, Kind::Connect, position);
    }
    scratch.release();
    answer(decision)
}

#[inline(always)]
fn offsets_absent() -> bool {
    offset!(unix_sock_path) == Offsets::ABSENT as u64
}
