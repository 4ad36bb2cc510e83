//! Execution, judged for every file that takes part: the script, its interpreter, the binary.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use treeline_abi::Kind;

use super::{answer, files, scratch_or_refuse};
use crate::{
    content,
    decide::{self, Decision},
    emit,
    kernel::{inode, offset, read},
    lifecycle::subject,
    tasks,
};

#[lsm(hook = "bprm_check_security")]
pub(crate) fn bprm_check_security(ctx: LsmContext) -> i32 {
    let earlier: i32 = ctx.arg(1);
    if earlier != 0 {
        return earlier;
    }
    let bprm: u64 = ctx.arg(0);
    let Some(label) = tasks::current_label() else {
        return 0;
    };
    let scratch = match scratch_or_refuse(Kind::ExecDenied, label) {
        Ok(scratch) => scratch,
        Err(result) => return result,
    };
    let file: u64 = read(bprm + offset!(bprm_file));
    let dentry: u64 = read(file + offset!(file_path) + offset!(path_dentry));
    emit::begin(scratch, Kind::ExecDenied, label.session, &subject());
    // Now, and not when there is something to record: it would be on the stack while the file is judged.
    emit::object(&mut scratch.header, &inode(read(file + offset!(file_inode))));
    let mut decision = files::judge_execution(scratch, file, dentry, label);
    let node: u64 = read(file + offset!(file_inode));
    if let Some(active) = decide::active() {
        scratch.key = scratch.header.file;
        scratch.asked.strict = 1;
        let packed = content::judge(scratch, active.table, active.slot, label.flags, node);
        decision = decision.or(Decision::unpack(scratch, packed, active.table.generation));
    }
    if !decision.is_allow() {
        emit::decided(&mut scratch.header, decision);
        scratch.header.flags |= scratch.asked.unknown * scratch.asked.refused;
        scratch.header.result = answer(decision);
        let position = emit::append_walked(scratch, 0, 0);
        emit::send(scratch, Kind::ExecDenied, position);
    }
    let refusal = answer(decision);
    if refusal == 0 {
        (label.next.device, label.next.inode) = (scratch.header.file.device, scratch.header.file.inode);
    }
    scratch.release();
    refusal
}
