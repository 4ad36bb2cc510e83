//! What an exec adds to what a label knows of its lineage: see `treeline_abi::subject`.

use treeline_abi::{Label, LabelFlags, paths::Table, subject::Facts};

use crate::{decide, kernel::is_older, maps::TABLES, scratch::Scratch, tasks, walk};

/// Adds the image with this inode and dentry to the label of the task that begins to execute it. What the environment
/// does is in the label by now.
#[inline(always)]
pub(crate) fn executed(scratch: &mut Scratch, label: &mut Label, node: u64, dentry: u64) {
    let Some(active) = decide::active() else {
        return;
    };
    if active.table.subjects.lineages == 0 {
        return;
    }
    decide::take_content(scratch, node, active.slot);
    scratch.object = dentry;
    tasks::take_lineage(scratch);
    if is_older() {
        older_executed(scratch.number as u32, active.slot, label.flags);
    } else {
        // SAFETY: a valid reference, used by nobody else meanwhile.
        unsafe { treeline_executed(scratch, active.slot, label.flags) };
    }
    // Nobody else writes to it: an exec ends all other threads of its process.
    label.lineage.facts.sure = scratch.lineage.facts.sure;
    label.lineage.facts.possible = scratch.lineage.facts.possible;
    label.lineage.since = scratch.lineage.since;
}

/// The image could not be looked at: it may be any.
#[inline(always)]
pub(crate) fn executed_something(label: &mut Label) {
    label.lineage.facts.possible = u64::MAX;
}

/// [`executed`] as a global function: the verifier walks it once. The lineage is in `Scratch::lineage`, before and after.
///
/// # Safety
/// `scratch` is null or a hook's working memory.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn treeline_executed(scratch: *mut Scratch, slot: u32, label_flags: u32) -> u64 {
    // SAFETY: the caller's promise; the verifier does not know it, and asks for the look at null.
    match (unsafe { scratch.as_mut() }, TABLES.get(slot)) {
        (Some(scratch), Some(table)) => look_at_image(scratch, table, slot, label_flags),
        _ => 0,
    }
}

/// As [`treeline_executed`], for older kernels: see `kernel::repeat`.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn older_executed(number: u32, slot: u32, label_flags: u32) -> u64 {
    match (Scratch::numbered(number), TABLES.get(slot)) {
        (Some(scratch), Some(table)) => look_at_image(scratch, table, slot, label_flags),
        _ => 0,
    }
}

#[inline(always)]
fn look_at_image(scratch: &mut Scratch, table: &'static Table, slot: u32, label_flags: u32) -> u64 {
    let dentry = scratch.object;
    walk::walk_subject(scratch, dentry, table, slot);
    let resolved = if scratch.subject.resolved() { decide::by_path(scratch, table, slot) } else { 0 };
    let loads_code = label_flags & LabelFlags::LOADER_ENV;
    add(scratch, slot, resolved, loads_code);
    0
}

/// Adds the image that was looked at to the lineage in `Scratch::lineage`, and brings that up to these tables.
#[inline(never)]
pub(crate) fn add(scratch: &mut Scratch, slot: u32, resolved: u32, loads_code: u32) -> u32 {
    let Some(table) = TABLES.get(slot) else {
        return 0;
    };
    let path = if resolved != 0 { Some(&scratch.sets.found) } else { None };
    let before: Facts = table.subjects.of_label(&scratch.lineage);
    let image = table.subjects.of_image(path, &scratch.content, loads_code != 0);
    scratch.lineage.facts.sure = before.sure | image.sure;
    scratch.lineage.facts.possible = before.possible | image.possible;
    scratch.lineage.since = table.subjects.since;
    0
}
