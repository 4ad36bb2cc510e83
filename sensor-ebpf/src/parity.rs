//! Cases from a map through the matcher and the judge of the hooks, for `treeline parity`. Never attached: the agent
//! runs it with `BPF_PROG_TEST_RUN` (raw tracepoints: Linux 5.10).

use aya_ebpf::{
    macros::{map, raw_tracepoint},
    maps::Array,
    programs::RawTracePointContext,
};
use treeline_abi::{
    LabelFlags,
    parity::{Case, Executable, NAME_BYTES, NAMES_PER_PATH, Path},
    paths::Table,
};

use crate::{
    decide,
    kernel::{GO_ON, STOP, copy, repeat},
    lineage,
    scratch::{Scratch, Walked},
    walk,
};

/// The case.
#[map]
pub(crate) static CASE: Array<Case> = Array::with_max_entries(1, 0);

#[raw_tracepoint(tracepoint = "sys_enter")]
pub(crate) fn parity(_ctx: RawTracePointContext) -> i32 {
    let (Some(case), Some(active)) = (CASE.get_ptr_mut(0), decide::active()) else {
        return 1;
    };
    let Some(scratch) = Scratch::take() else {
        return 2;
    };
    // SAFETY: the pointer comes from the map, and nobody else writes the case while it runs.
    let case = unsafe { &mut *case };
    scratch.lineage.facts.sure = case.lineage.facts.sure;
    scratch.lineage.facts.possible = case.lineage.facts.possible;
    scratch.lineage.since = case.lineage.since;
    for ancestor in &case.ancestors {
        execute(scratch, ancestor, active.table, active.slot);
    }
    // What it leaves of the subject's own path is what the subject is judged by.
    execute(scratch, &case.subject, active.table, active.slot);
    decide::weigh_subject(scratch, active.table, 1, case.subject.label_flags);
    scratch.walked.flags = Walked::RESOLVED;
    walk_names::<true>(scratch, &case.object, active.table, active.slot);
    case.answer = decide::judge::<true>(scratch, active.table, active.slot, case.operations, 0);
    scratch.release();
    0
}

/// What an exec does to a lineage, with an executable from a case.
#[inline(never)]
fn execute(scratch: &mut Scratch, executable: &Executable, table: &'static Table, slot: u32) -> u32 {
    if executable.is_there == 0 {
        return 0;
    }
    scratch.content.fingerprint = executable.content.fingerprint;
    scratch.content.sets = executable.content.sets;
    scratch.content.lineage = executable.content.lineage;
    walk_names::<false>(scratch, &executable.path, table, slot);
    decide::by_path(scratch, table, slot);
    lineage::add(scratch, slot, 1, executable.label_flags & LabelFlags::LOADER_ENV)
}

struct Names {
    scratch: *mut Scratch,
    path: *const Path,
    table: *const Table,
    slot: u32,
}

/// What `walk_object` and `walk_subject` do, with names from a case.
#[inline(never)]
fn walk_names<const KEEP: bool>(scratch: &mut Scratch, path: &Path, table: &'static Table, slot: u32) -> u32 {
    walk::clear::<KEEP>(scratch, table);
    let walked = walk::walked::<KEEP>(scratch);
    walked.depth = 0;
    walked.device = path.device;
    let mut names = Names { scratch, path, table, slot };
    repeat(NAMES_PER_PATH as u32, step::<KEEP>, &mut names);
    walk::accept::<KEEP>(scratch, table, slot);
    0
}

extern "C" fn step<const KEEP: bool>(depth: u64, names: *mut Names) -> u64 {
    // SAFETY: the pointers were put there by `walk_names` and outlive the loop; the verifier tracks them.
    let (names, scratch, path, table) =
        unsafe { (&*names, &mut *(*names).scratch, &*(*names).path, &*(*names).table) };
    let index = depth as usize;
    if index >= NAMES_PER_PATH || index as u32 >= path.count {
        return STOP;
    }
    let name = &path.names[index];
    let len = name.len;
    if len == 0 || len > NAME_BYTES as u32 {
        return STOP;
    }
    if !copy(scratch.name.as_mut_ptr().cast(), len, (&raw const name.bytes) as u64) {
        return STOP;
    }
    scratch.name_len = len;
    walk::advance::<KEEP>(scratch, len, table, names.slot, index as u32);
    walk::walked::<KEEP>(scratch).depth = index as u32 + 1;
    GO_ON
}
