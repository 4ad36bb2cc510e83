//! Access to processes outside of the session: who can write into another process has it do the work, in nobody's tree.

use aya_ebpf::bindings::task_struct;
use treeline_abi::{Kind, Label, paths::Rule, record::Flags};

use super::{REFUSED, answer, scratch_or_refuse};
use crate::{
    address,
    decide::{self, Decision},
    emit,
    lifecycle::subject,
    tasks::{self, TaskIds},
};

/// A tracked task asks to attach to another, to use its memory or to take its descriptors. Within the session that is a
/// debugger's work, and goes on unseen.
#[inline(always)]
pub(crate) fn on_access(label: &Label, task: *mut task_struct, ids: &TaskIds, mode: u32) -> i32 {
    let other = tasks::label_of(task).or_else(|| tasks::label_of(tasks::leader(task)));
    if other.is_some_and(|other| other.session == label.session) {
        return 0;
    }
    let scratch = match scratch_or_refuse(Kind::Trace, label) {
        Ok(scratch) => scratch,
        Err(result) => return result,
    };
    emit::begin(scratch, Kind::Trace, label.session, &subject());
    scratch.header.detail = mode;
    scratch.header.peer_pid = ids.pid;
    scratch.header.peer_start_ns = ids.start_ns;
    let packed = address::judge_all(scratch, label, Rule::TRACE);
    let generation = decide::active().map_or(0, |active| active.table.generation);
    let decision = Decision::unpack(scratch, packed, generation);
    emit::decided(&mut scratch.header, decision);
    if decision.is_deny() {
        scratch.header.result = REFUSED;
    } else {
        scratch.header.flags |= Flags::RESULT_UNKNOWN;
    }
    emit::send(scratch, Kind::Trace, 0);
    scratch.release();
    answer(decision)
}
