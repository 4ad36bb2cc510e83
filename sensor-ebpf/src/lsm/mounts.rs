//! Mounts: what is mounted over a protected object, or over a directory above one, takes its place for everybody who
//! goes by its path. A mount *of* a protected object needs no refusal: objects are judged by the path on their own
//! filesystem, wherever that is mounted.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use treeline_abi::{Kind, paths::Operation, record::Flags};

use super::{REFUSED, answer, scratch_or_refuse};
use crate::{
    ancestors,
    decide::{self, Decision},
    emit,
    kernel::{inode, offset, read},
    lifecycle::subject,
    tasks,
};

const MS_REMOUNT: u64 = 1 << 5;
const MS_BIND: u64 = 1 << 12;
/// `MS_UNBINDABLE`, `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`.
const MS_PROPAGATION: u64 = 0xf << 17;

/// What a mount over an object amounts to: other content under its name. Who may not even read it loses nothing.
const REPLACES: u32 = 1 << Operation::WRITE
    | 1 << Operation::CREATE
    | 1 << Operation::DELETE
    | 1 << Operation::RENAME
    | 1 << Operation::LINK;

/// mount(2). `security_sb_mount` has the same arguments.
#[lsm(hook = "sb_mount")]
pub(crate) fn sb_mount(ctx: LsmContext) -> i32 {
    let earlier: i32 = ctx.arg(5);
    if earlier != 0 {
        return earlier;
    }
    let flags: u64 = ctx.arg(3);
    // In the order in which `path_mount` asks: what only changes a mount that is there covers nothing.
    if flags & MS_REMOUNT != 0 || (flags & MS_BIND == 0 && flags & MS_PROPAGATION != 0) {
        return 0;
    }
    on_mount(ctx.arg(1), ctx.arg(0), REPLACES)
}

/// move_mount(2), with which every mount of the newer system calls begins. `security_move_mount` has the same arguments.
#[lsm(hook = "move_mount")]
pub(crate) fn move_mount(ctx: LsmContext) -> i32 {
    let earlier: i32 = ctx.arg(2);
    if earlier != 0 {
        return earlier;
    }
    on_mount(ctx.arg(1), 0, REPLACES)
}

/// pivot_root(2) is recorded: it changes names for its mount namespace only, and objects keep their own paths.
/// `security_sb_pivotroot` has the same arguments.
#[lsm(hook = "sb_pivotroot")]
pub(crate) fn sb_pivotroot(ctx: LsmContext) -> i32 {
    let earlier: i32 = ctx.arg(2);
    if earlier != 0 {
        return earlier;
    }
    on_mount(ctx.arg(1), 0, 0)
}

/// Judges a mount at a path and records it. Without `operations` it is only recorded.
#[inline(always)]
fn on_mount(path: u64, source: u64, operations: u32) -> i32 {
    let Some(label) = tasks::current_label() else {
        return 0;
    };
    let scratch = match scratch_or_refuse(Kind::Mount, label) {
        Ok(scratch) => scratch,
        Err(result) => return result,
    };
    let dentry: u64 = read(path + offset!(path_dentry));
    emit::begin(scratch, Kind::Mount, label.session, &subject());
    let mut decision = decide::judge_dentry(scratch, dentry, operations, label);
    if operations != 0 {
        let above = ancestors::judge_above(scratch, dentry);
        decision = decision.or(Decision::unpack(scratch, above, 0));
    } else {
        decision = decision.lifted();
    }
    emit::decided(&mut scratch.header, decision);
    emit::object(&mut scratch.header, &inode(read(dentry + offset!(dentry_inode))));
    if decision.is_deny() {
        scratch.header.result = REFUSED;
    } else {
        scratch.header.flags |= Flags::RESULT_UNKNOWN;
    }
    let mut position = emit::append_walked(scratch, 0, 0);
    if source != 0 {
        position = crate::lifecycle::append_kernel_string(scratch, 2, position, source);
    }
    emit::send(scratch, Kind::Mount, position);
    scratch.release();
    answer(decision)
}
