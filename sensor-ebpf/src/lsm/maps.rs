//! Executable mappings: what a rule says of execution holds for code that is mapped, too. The dynamic loader run by hand
//! maps the program that it is given, and a library is code like any other.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use treeline_abi::{Kind, paths::Operation};

use super::{answer, files, scratch_or_refuse};
use crate::{
    content,
    decide::{self, Decision},
    emit,
    kernel::{inode, offset, read},
    lifecycle::subject,
    tasks,
};

/// `PROT_EXEC`.
const EXECUTABLE: u64 = 4;

/// `mmap_file(file, reqprot, prot, flags)`; `prot` is what the mapping gets, `READ_IMPLIES_EXEC` included.
#[lsm(hook = "mmap_file")]
pub(crate) fn mmap_file(ctx: LsmContext) -> i32 {
    let earlier: i32 = ctx.arg(4);
    if earlier != 0 {
        return earlier;
    }
    on_mapping::<false>(ctx.arg(0), ctx.arg(2))
}

/// `security_mmap_file(file, prot, flags)`, for attach mode `fmod_ret`. The personality `READ_IMPLIES_EXEC` is applied
/// behind it, so such a mapping is seen when it asks for execution itself.
#[lsm(hook = "mmap_file")]
pub(crate) fn mmap_file_function(ctx: LsmContext) -> i32 {
    let earlier: i32 = ctx.arg(3);
    if earlier != 0 {
        return earlier;
    }
    on_mapping::<false>(ctx.arg(0), ctx.arg(1))
}

/// `file_mprotect(vma, reqprot, prot)`, and `security_file_mprotect` alike: a mapping that becomes executable.
#[lsm(hook = "file_mprotect")]
pub(crate) fn file_mprotect(ctx: LsmContext) -> i32 {
    let earlier: i32 = ctx.arg(3);
    if earlier != 0 {
        return earlier;
    }
    let protection: u64 = ctx.arg(2);
    if protection & EXECUTABLE == 0 {
        return 0;
    }
    let area: u64 = ctx.arg(0);
    on_mapping::<true>(read(area + offset!(vma_file)), protection)
}

/// Judges a mapping of a file, which with `BEHIND` may be one behind an overlay's.
#[inline(always)]
fn on_mapping<const BEHIND: bool>(file: u64, protection: u64) -> i32 {
    // Memory without a file has no name and no content that a rule could know.
    if file == 0 || protection & EXECUTABLE == 0 {
        return 0;
    }
    let Some(label) = tasks::current_label() else {
        return 0;
    };
    let Some(active) = decide::active() else {
        return 0;
    };
    if active.table.judges_mappings == 0 {
        return 0;
    }
    let node: u64 = read(file + offset!(file_inode));
    // Its own image was judged when it was executed: by what executed it, to which exceptions may apply.
    if node == tasks::image_inode(tasks::current() as u64)
        && (tasks::has_its_image() || tasks::may_map_its_image())
    {
        return 0;
    }
    let scratch = match scratch_or_refuse(Kind::Map, label) {
        Ok(scratch) => scratch,
        Err(result) => return result,
    };
    emit::begin(scratch, Kind::Map, label.session, &subject());
    // As in `exec`.
    emit::object(&mut scratch.header, &inode(node));
    let mut decision = files::judge_execution(scratch, file, files::dentry_of(file), label);
    let shown = if BEHIND { files::name_shown(file) } else { 0 };
    if shown != 0 && !decision.is_deny() {
        decision = decide::judge_dentry(scratch, shown, 1 << Operation::EXEC, label).or(decision);
    }
    // A program that the dynamic loader was told to run is code that nobody has executed; its libraries have mostly been
    // mapped before, by others.
    scratch.asked.strict = content::runs_a_loader(scratch);
    scratch.key = scratch.header.file;
    let packed = content::judge(scratch, active.table, active.slot, label.flags, node);
    decision = decision.or(Decision::unpack(scratch, packed, active.table.generation));
    // The search for exceptions may have used it for the subject.
    scratch.key = scratch.header.file;
    if !decision.is_allow() || scratch.asked.unknown != 0 && content::is_news(scratch) {
        emit::decided(&mut scratch.header, decision);
        let is_about_that = scratch.asked.refused | decision.is_allow() as u32;
        scratch.header.flags |= scratch.asked.unknown * is_about_that;
        scratch.header.result = answer(decision);
        let position = emit::append_walked(scratch, 0, 0);
        emit::send(scratch, Kind::Map, position);
    }
    scratch.release();
    answer(decision)
}
