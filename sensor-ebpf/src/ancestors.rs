//! Directories above what rules protect: moving one away, putting another in its place or mounting over it would
//! change what the rules' paths mean. Before a pattern's first `*` they are known one by one. Behind it only renames are
//! judged, by what of the pattern the paths match: a sandbox mounts over the project that it works in, and links are made
//! everywhere (THREATS.md, E14).

use treeline_abi::{
    name,
    paths::{AncestorKey, DEPTH_MAX, DeviceKey, RULES_MAX, Table, WORDS},
};

use crate::{
    decide::{self, Decision},
    kernel::{GO_ON, STOP, offset, read, repeat},
    maps::{ANCESTORS, DEVICES, RULES, TABLES},
    scratch::{Scratch, Walked},
    walk,
};

/// What a round of the walk needs. What it finds is in the working memory, see [`Walked`].
struct Climb {
    scratch: *mut Scratch,
    seed: u64,
}

/// Judges a dentry as a directory above protected places. Exceptions of rules do not count: the paths of others change
/// with it. The path of the walk before stays. The result is packed, see `Decision::pack`.
#[inline(never)]
pub(crate) fn judge_above(scratch: &mut Scratch, dentry: u64) -> u64 {
    let Some(active) = decide::active() else {
        return 0;
    };
    let sb: u64 = read(dentry + offset!(dentry_sb));
    scratch.ancestor = AncestorKey { slot: active.slot, device: read(sb + offset!(sb_dev)), names: 0 };
    scratch.subject.flags = walk::folding(sb);
    scratch.subject.at = dentry;
    let (number, slot) = (scratch.number as u32, active.slot);
    let mut climb = Climb { scratch, seed: active.table.seed };
    repeat(DEPTH_MAX as u32, step, &mut climb, |_| older_climb(number, slot));
    if !scratch.subject.resolved() || is_folded(scratch) {
        return decide::undecidable_by(active.table.unresolved_files).pack();
    }
    // SAFETY: the value stays in place while the program runs (RCU).
    let number = unsafe { ANCESTORS.get(&scratch.ancestor) }.copied().unwrap_or(0);
    if number == 0 {
        return 0;
    }
    of_rule(active.slot, number)
}

/// Judges the rename of a directory from one place to another by the beginnings of patterns that the two match (see
/// `treeline_abi::paths::Table::ways`): where that changes, what is below it falls under other rules than before, and one
/// of these decides. Exceptions do not count here either. The path of the walk before is gone. Packed.
#[inline(never)]
pub(crate) fn judge_ways(scratch: &mut Scratch, from: u64, to: u64) -> u64 {
    let Some(active) = decide::active() else {
        return 0;
    };
    walk::walk_object(scratch, from, active.table, active.slot);
    let resolved = scratch.walked.resolved();
    scratch.keep_accepted();
    walk::walk_object(scratch, to, active.table, active.slot);
    if !resolved || !scratch.walked.resolved() {
        return decide::undecidable_by(active.table.unresolved_files).pack();
    }
    for word in 0..WORDS {
        scratch.accepted.words[word] ^= scratch.kept.words[word];
    }
    of_ways(scratch, active.table, active.slot)
}

/// By the ways among the positions in `Scratch::accepted`; one of a rule that refuses comes first.
#[inline(always)]
fn of_ways(scratch: &Scratch, table: &Table, slot: u32) -> u64 {
    let mut position = 0;
    for enforce in [1, 0] {
        for word in 0..WORDS {
            let ways = scratch.accepted.words[word] & table.ways[enforce].words[word];
            if position == 0 && ways != 0 {
                position = 1 + word as u32 * 64 + decide::lowest(ways);
            }
        }
    }
    if position == 0 {
        return 0;
    }
    let Some(accept) = decide::accept_at(slot, position - 1) else {
        return 0;
    };
    of_rule(slot, accept.index + 1)
}

/// What a rule decides that protects something below a directory.
#[inline(always)]
fn of_rule(slot: u32, number: u32) -> u64 {
    match RULES.get(slot * RULES_MAX + ((number - 1) & (RULES_MAX - 1))) {
        Some(rule) => Decision::of(number, rule.enforce).pack(),
        None => 0,
    }
}

/// Whether its names do not tell where it is, on a filesystem onto which a pattern leads.
#[inline(always)]
fn is_folded(scratch: &Scratch) -> bool {
    let AncestorKey { slot, device, .. } = scratch.ancestor;
    // SAFETY: only whether there is one counts.
    scratch.subject.flags & Walked::FOLDED != 0
        && unsafe { DEVICES.get(&DeviceKey { slot, device }) }.is_some()
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn older_climb(number: u32, slot: u32) -> u64 {
    let (Some(scratch), Some(table)) = (Scratch::numbered(number), TABLES.get(slot)) else {
        return STOP;
    };
    one_step(&mut Climb { scratch, seed: table.seed })
}

extern "C" fn step(_depth: u64, climb: *mut Climb) -> u64 {
    one_step(climb)
}

#[inline(always)]
fn one_step(climb: *mut Climb) -> u64 {
    // SAFETY: the pointers were put there by `judge_above` and outlive the loop; the verifier tracks them.
    let (climb, scratch) = unsafe { (&*climb, &mut *(*climb).scratch) };
    let at = scratch.subject.at;
    let parent: u64 = read(at + offset!(dentry_parent));
    if parent == at {
        if walk::is_root(at) {
            scratch.subject.flags |= Walked::RESOLVED;
        }
        return STOP;
    }
    let len = walk::read_name(scratch, at);
    if len == 0 {
        return STOP;
    }
    scratch.subject.at = parent;
    if walk::folds_names(parent, scratch.subject.flags) {
        scratch.subject.flags |= Walked::FOLDED;
    }
    let hash = walk::hash_name(scratch, len, climb.seed);
    scratch.ancestor.names = name::mix(scratch.ancestor.names, hash);
    GO_ON
}
