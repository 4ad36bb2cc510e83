//! Renames of directories above protected places, and links put in their stead.
//!
//! Programs of their own on hooks that `files` has as well: the verifier's bound is for each program. They are attached
//! last and so run first, and what they refuse no other program records. What a rule in `monitor` would have refused they record,
//! and the other program the rename itself.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use treeline_abi::{Kind, record::Flags};

use super::{answer, files::finish_head, scratch_or_refuse};
use crate::{
    ancestors,
    decide::Decision,
    emit,
    kernel::{offset, read},
    lifecycle::subject,
    tasks, walk,
};

#[lsm(hook = "inode_rename")]
pub(crate) fn inode_rename_above(ctx: LsmContext) -> i32 {
    rename_above(ctx.arg(4), ctx.arg(1), ctx.arg(3))
}

/// `security_inode_rename` has one argument more, the flags; an exchange goes through it once, not twice as through the
/// hook. Both names are judged in either order.
#[lsm(hook = "inode_rename")]
pub(crate) fn inode_rename_above_flags(ctx: LsmContext) -> i32 {
    rename_above(ctx.arg(5), ctx.arg(1), ctx.arg(3))
}

#[inline(always)]
fn rename_above(earlier: i32, from: u64, to: u64) -> i32 {
    if earlier != 0 {
        return earlier;
    }
    // Of whoever has no label nothing else is asked.
    if tasks::current_label().is_none() || !has_paths_below(from) && !has_paths_below(to) {
        return 0;
    }
    on_ancestor(Kind::Rename, from, to, 0)
}

/// A link in the place of a directory above a protected one leads its path elsewhere. `security_inode_symlink` has the
/// same arguments.
#[lsm(hook = "inode_symlink")]
pub(crate) fn inode_symlink_above(ctx: LsmContext) -> i32 {
    let earlier: i32 = ctx.arg(3);
    if earlier != 0 {
        return earlier;
    }
    on_ancestor(Kind::Create, ctx.arg(1), 0, Flags::SYMLINK)
}

/// Judges one or two names as directories above protected places; what is allowed is recorded by the other program.
#[inline(always)]
fn on_ancestor(kind: Kind, first: u64, second: u64, extra_flags: u32) -> i32 {
    let Some(label) = tasks::current_label() else {
        return 0;
    };
    let scratch = match scratch_or_refuse(kind, label) {
        Ok(scratch) => scratch,
        Err(result) => return result,
    };
    let above = ancestors::judge_above(scratch, first);
    let mut decision = Decision::unpack(scratch, above, 0);
    if second != 0 {
        let above = ancestors::judge_above(scratch, second);
        decision = decision.or(Decision::unpack(scratch, above, 0));
        if is_directory(first) || is_directory(second) {
            let ways = ancestors::judge_ways(scratch, first, second);
            decision = decision.or(Decision::unpack(scratch, ways, 0));
        }
    }
    if !decision.is_allow() {
        decision.generation = crate::decide::active().map_or(0, |active| active.table.generation);
        emit::begin(scratch, kind, label.session, &subject());
        walk::walk_path(scratch, first);
        let mut position = emit::append_walked(scratch, 0, 0);
        if second != 0 {
            walk::walk_path(scratch, second);
            position = emit::append_walked(scratch, 2, position);
        }
        finish_head(scratch, decision, first, extra_flags);
        emit::send(scratch, kind, position);
    }
    scratch.release();
    answer(decision)
}

/// Whether a rename of it changes the paths of other objects: a directory, or a link that stands for one.
#[inline(always)]
fn has_paths_below(dentry: u64) -> bool {
    const SYMLINK: u16 = 0o120_000;
    let kind = kind_of(dentry);
    kind == DIRECTORY || kind == SYMLINK
}

/// Whether files have paths of their own that lead through it.
#[inline(always)]
fn is_directory(dentry: u64) -> bool {
    kind_of(dentry) == DIRECTORY
}

const DIRECTORY: u16 = 0o040_000;

/// The bits of the mode that say what it is, or 0.
#[inline(always)]
fn kind_of(dentry: u64) -> u16 {
    let node: u64 = read(dentry + offset!(dentry_inode));
    if node == 0 { 0 } else { read::<u16>(node + offset!(inode_mode)) & 0o170_000 }
}
