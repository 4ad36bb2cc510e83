//! Grants: refusals that somebody has approved of, see `treeline_abi::grant`. They are looked for only where something was
//! refused, so that nothing else pays for them.

use treeline_abi::{
    LabelFlags, Verdict,
    grant::{self, FILE_OPERATIONS, GrantKey, ObjectKind},
    name,
    paths::{DEPTH_MAX, Operation},
    record::Flags,
};

use crate::{
    decide::active,
    kernel::{is_older, now_ns, offset, read},
    maps::GRANTS,
    scratch::Scratch,
    tasks,
    walk::{self, Active},
};

/// What is left of a decision about the file in `Scratch::object`, which was just judged. Packed, as `Decision::pack` has it.
#[inline(always)]
pub(crate) fn of_object(scratch: &mut Scratch, operations: u32, packed: u64) -> u64 {
    // By which of its names a file was approved of says nothing of the others.
    let is_one_name = scratch.several_names == 0;
    if !is_refused(packed) || operations == 0 || operations & !FILE_OPERATIONS != 0 || !is_one_name {
        return packed;
    }
    if is_older() {
        return older_grant_of_object(scratch.number as u32, operations, packed);
    }
    // SAFETY: a valid reference, used by nobody else meanwhile.
    unsafe { treeline_grant_of_object(scratch, operations, packed) }
}

/// [`of_object`] as a global function, as `decide::treeline_judge_dentry` is one: beside it, and not below it, for the stack.
///
/// # Safety
/// `scratch` is null or a hook's working memory.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn treeline_grant_of_object(scratch: *mut Scratch, operations: u32, packed: u64) -> u64 {
    // SAFETY: the caller's promise; the verifier does not know it, and asks for the look at null.
    match unsafe { scratch.as_mut() } {
        Some(scratch) => grant_of_object(scratch, operations, packed),
        None => packed,
    }
}

/// As [`treeline_grant_of_object`], for older kernels: see `kernel::repeat`.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn older_grant_of_object(number: u32, operations: u32, packed: u64) -> u64 {
    match Scratch::numbered(number) {
        Some(scratch) => grant_of_object(scratch, operations, packed),
        None => packed,
    }
}

/// It is walked once more: the hashes of its names may be those of the subject's executable by now.
#[inline(always)]
fn grant_of_object(scratch: &mut Scratch, operations: u32, packed: u64) -> u64 {
    let Some(active) = active() else {
        return packed;
    };
    // Another policy has come into force since it was judged.
    if active.table.generation != scratch.generation {
        return packed;
    }
    let dentry = scratch.object;
    walk::walk_object(scratch, dentry, active.table, active.slot);
    // Which rules it falls under is not known: another one may be among them.
    if !scratch.walked.resolved() {
        return packed;
    }
    let node: u64 = read(dentry + offset!(dentry_inode));
    let inode: u64 = if node == 0 { 0 } else { read(node + offset!(inode_ino)) };
    scratch.wanted = [path_hash(scratch, active.table.seed), inode, scratch.walked.device as u64];
    look(scratch, active.slot | (ObjectKind::File as u32) << 8, operations, packed)
}

/// The same for the destination in the record's head.
#[inline(always)]
pub(crate) fn of_address(scratch: &mut Scratch, slot: u32, packed: u64) -> u64 {
    if !is_refused(packed) {
        return packed;
    }
    let [a, b, c, d, e, f, g, h, rest @ ..] = scratch.header.address;
    let first = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
    let (second, head) = (u64::from_ne_bytes(rest), &scratch.header);
    scratch.wanted = [first, second, grant::port_and_family(head.port, head.detail)];
    look(scratch, slot | (ObjectKind::Address as u32) << 8, 1 << Operation::CONNECT, packed)
}

/// The same for the abstract name that was just compared.
#[inline(always)]
pub(crate) fn of_abstract(scratch: &mut Scratch, active: &Active, packed: u64) -> u64 {
    if !is_refused(packed) {
        return packed;
    }
    let hash = grant::abstract_hash(active.table.seed, scratch.abstract_len, &scratch.name_head);
    scratch.wanted = [hash, 0, 0];
    look(scratch, active.slot | (ObjectKind::Abstract as u32) << 8, 1 << Operation::CONNECT, packed)
}

#[inline(always)]
fn is_refused(packed: u64) -> bool {
    packed >> 32 == Verdict::Deny as u64
}

/// `treeline_abi::grant::path_hash` of the path that was just walked.
#[inline(always)]
fn path_hash(scratch: &Scratch, seed: u64) -> u64 {
    let depth = scratch.walked.depth;
    let mut hash = grant::path_start(seed, depth);
    for at in 0..DEPTH_MAX {
        if at as u32 >= depth {
            break;
        }
        hash = name::mix(hash, scratch.hashes[at]);
    }
    hash
}

/// Looks for the grant of the object in `Scratch::wanted`. `at` has the slot of the tables and an [`ObjectKind`], a byte each.
///
/// A process into which its environment puts other code is not the program that was approved.
#[inline(never)]
fn look(scratch: &mut Scratch, at: u32, operations: u32, packed: u64) -> u64 {
    let Some(label) = tasks::label_of(tasks::current()) else {
        return packed;
    };
    if label.flags & LabelFlags::LOADER_ENV != 0 || !tasks::has_its_image() {
        return packed;
    }
    // On the stack, as in `decide::judge_alias`.
    let mut key = GrantKey::of(at & 0xff, packed as u32, label.session, &label.image);
    key.object = at >> 8;
    key.identity = scratch.wanted;
    // SAFETY: the value stays in place while the program runs (RCU).
    let Some(grant) = (unsafe { GRANTS.get(&key) }) else {
        return packed;
    };
    if !grant.holds(operations, now_ns()) {
        return packed;
    }
    scratch.header.flags |= Flags::APPROVED;
    (Verdict::Audit as u64) << 32 | packed as u32 as u64
}
