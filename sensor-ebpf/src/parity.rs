//! Cases from a map through the matcher and the judge of the hooks, for `treeline parity`. Never attached: the agent
//! runs it with `BPF_PROG_TEST_RUN` (raw tracepoints: Linux 5.10).

use aya_ebpf::{
    macros::{map, raw_tracepoint},
    maps::Array,
    programs::RawTracePointContext,
};
use treeline_abi::{
    LabelFlags,
    parity::{ANCESTORS, Case, Executable, NAME_BYTES, NAMES_PER_PATH, Path},
    paths::Table,
};

use crate::{
    decide,
    kernel::{GO_ON, STOP, copy, masked, repeat},
    lineage,
    maps::TABLES,
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
    scratch.session = case.session;
    for (index, ancestor) in case.ancestors.iter().enumerate() {
        execute(scratch, ancestor, active.table, active.slot, SUBJECT + 1 + index as u32);
    }
    // What it leaves of the subject's own path is what the subject is judged by.
    execute(scratch, &case.subject, active.table, active.slot, SUBJECT);
    decide::take_session(scratch, active.table, active.slot);
    decide::weigh_subject(scratch, active.table, 1, case.subject.label_flags);
    scratch.walked.flags = Walked::RESOLVED;
    walk_names::<true>(scratch, &case.object, active.table, active.slot, OBJECT);
    case.answer = decide::judge::<true>(scratch, active.table, active.slot, case.operations, 0);
    scratch.release();
    0
}

/// Numbers of a case's paths, by which global functions of older kernels find them again. The ancestors follow.
const OBJECT: u32 = 0;
const SUBJECT: u32 = 1;

/// What an exec does to a lineage, with an executable from a case. `which` is the number of its path.
#[inline(never)]
fn execute(
    scratch: &mut Scratch,
    executable: &Executable,
    table: &'static Table,
    slot: u32,
    which: u32,
) -> u32 {
    if executable.is_there == 0 {
        return 0;
    }
    scratch.content.fingerprint = executable.content.fingerprint;
    scratch.content.sets = executable.content.sets;
    scratch.content.lineage = executable.content.lineage;
    walk_names::<false>(scratch, &executable.path, table, slot, which);
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
fn walk_names<const KEEP: bool>(
    scratch: &mut Scratch,
    path: &Path,
    table: &'static Table,
    slot: u32,
    which: u32,
) -> u32 {
    walk::clear::<KEEP>(scratch, table);
    let walked = walk::walked::<KEEP>(scratch);
    walked.depth = 0;
    walked.device = path.device;
    let number = scratch.number as u32;
    let mut names = Names { scratch, path, table, slot };
    repeat(NAMES_PER_PATH as u32, step::<KEEP>, &mut names, |index| {
        if KEEP {
            older_parity_object(number, slot, index)
        } else {
            older_parity_subject(number, slot, index, which)
        }
    });
    walk::accept::<KEEP>(scratch, table, slot);
    0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn older_parity_object(number: u32, slot: u32, index: u32) -> u64 {
    older_step::<true>(number, slot, index, OBJECT)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn older_parity_subject(number: u32, slot: u32, index: u32, which: u32) -> u64 {
    older_step::<false>(number, slot, index, which)
}

#[inline(always)]
fn older_step<const KEEP: bool>(number: u32, slot: u32, index: u32, which: u32) -> u64 {
    let (Some(scratch), Some(table), Some(case)) = (Scratch::numbered(number), TABLES.get(slot), CASE.get(0))
    else {
        return STOP;
    };
    let path = match which {
        OBJECT => &raw const case.object,
        SUBJECT => &raw const case.subject.path,
        _ => {
            let ancestor = masked::<{ ANCESTORS as i32 - 1 }>(which - SUBJECT - 1) as usize;
            // SAFETY: within the array by the mask, which the verifier sees.
            unsafe { &raw const (*(&raw const case.ancestors).cast::<Executable>().add(ancestor)).path }
        }
    };
    one_step::<KEEP>(index as u64, &mut Names { scratch, path, table, slot })
}

extern "C" fn step<const KEEP: bool>(depth: u64, names: *mut Names) -> u64 {
    one_step::<KEEP>(depth, names)
}

#[inline(always)]
fn one_step<const KEEP: bool>(depth: u64, names: *mut Names) -> u64 {
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
