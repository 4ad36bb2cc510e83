//! Connects, judged on the address that the kernel has copied in.

use aya_ebpf::{
    macros::{fexit, lsm},
    programs::{FExitContext, LsmContext},
};
use treeline_abi::{Kind, Offsets, Verdict, paths::Operation, record::Flags};

use super::{REFUSED, answer, scratch_or_refuse};
use crate::{
    cgroup::{self, AF_INET, AF_INET6, AF_UNIX},
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
    let family: u16 = read(address);
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
    let denied = cgroup::judge(scratch, label, settings().connect_exit != 0);
    scratch.release();
    if denied { REFUSED } else { 0 }
}

/// The result of a connect that was let through.
#[fexit(function = "__sys_connect_file")]
pub(crate) fn connect_exit(ctx: FExitContext) -> i32 {
    let result: i32 = ctx.arg(4);
    if let Some(label) = tasks::current_label()
        && label.pending.family != 0
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
    on_unix(ctx.arg(1), true)
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
    on_unix(read(other + offset!(socket_sk)), false)
}

#[inline(always)]
fn on_unix(other: u64, record_allowed: bool) -> i32 {
    let Some(label) = tasks::current_label() else {
        return 0;
    };
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
        (decide::Decision::ALLOW, cgroup::append_abstract(scratch, other))
    } else {
        let decision = decide::judge_dentry(scratch, dentry, 1 << Operation::CONNECT, label);
        (decision, emit::append_walked(scratch, 0, 0))
    };
    emit::decided(&mut scratch.header, decision);
    if matches!(decision.verdict, Verdict::Deny) {
        scratch.header.result = REFUSED;
    } else {
        scratch.header.flags |= Flags::RESULT_UNKNOWN;
    }
    if record_allowed || !matches!(decision.verdict, Verdict::Allow) {
        emit::send(scratch, Kind::Connect, position);
    }
    scratch.release();
    answer(decision)
}

#[inline(always)]
fn offsets_absent() -> bool {
    offset!(unix_sock_path) == Offsets::ABSENT as u64
}
