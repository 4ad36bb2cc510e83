//! Grants: refusals that somebody has approved of, see `treeline_abi::grant`. They are looked for only where something was
//! refused, so that nothing else pays for them.

use core::sync::atomic::{Ordering, compiler_fence};

use treeline_abi::{
    LabelFlags, Verdict,
    grant::{self, FILE_OPERATIONS, GrantKey, ObjectKind},
    lift::RULE_WORDS,
    name,
    paths::{DEPTH_MAX, Operation},
    record::Flags,
};

use crate::{
    decide::{self, active},
    kernel::{is_older, masked, now_ns, offset, read},
    maps::GRANTS,
    scratch::Scratch,
    tasks,
    walk::{self, Active},
};

/// Rules of one object that can be granted together.
const RULES_MAX: usize = 7;

/// What is left of a decision about a file, which was just judged: it is judged again without the rule that refused, if
/// that was granted, and so on, so that no rule is hidden by one that was. Packed, as `Decision::pack` has it.
#[inline(always)]
pub(crate) fn of_object(
    scratch: &mut Scratch,
    dentry: u64,
    operations: u32,
    label_flags: u32,
    packed: u64,
) -> u64 {
    if !is_refused(packed) || operations == 0 || operations & !FILE_OPERATIONS != 0 {
        return packed;
    }
    let mut left = packed;
    scratch.has_granted = 0;
    for _ in 0..RULES_MAX {
        if !is_granted(scratch, operations, left) {
            break;
        }
        left = decide::judge_named(scratch, dentry, operations, label_flags);
        if !is_refused(left) {
            scratch.header.flags |= Flags::APPROVED;
            left = (Verdict::Audit as u64) << 32 | packed as u32 as u64;
            break;
        }
    }
    scratch.has_granted = 0;
    left
}

#[inline(always)]
fn is_granted(scratch: &mut Scratch, operations: u32, packed: u64) -> bool {
    // By which of its names a file was approved of says nothing of the others. Who approves that a file is made does not
    // approve of a link to another one.
    let is_link = scratch.header.flags & Flags::SYMLINK != 0;
    if scratch.several_names != 0 || is_link {
        return false;
    }
    let granted = if is_older() {
        older_grant_of_object(scratch.number as u32, operations, packed)
    } else {
        // SAFETY: a valid reference, used by nobody else meanwhile.
        unsafe { treeline_grant_of_object(scratch, operations, packed) }
    };
    granted != 0
}

/// Whether a refusal of the file in `Scratch::object` was granted; then the rule is among `Scratch::granted`. A global
/// function, as `decide::treeline_judge_dentry` is one: beside it, and not below it, for the stack.
///
/// # Safety
/// `scratch` is null or a hook's working memory.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn treeline_grant_of_object(scratch: *mut Scratch, operations: u32, packed: u64) -> u64 {
    // SAFETY: the caller's promise; the verifier does not know it, and asks for the look at null.
    match unsafe { scratch.as_mut() } {
        Some(scratch) => grant_of_object(scratch, operations, packed),
        None => 0,
    }
}

/// As [`treeline_grant_of_object`], for older kernels: see `kernel::repeat`.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn older_grant_of_object(number: u32, operations: u32, packed: u64) -> u64 {
    match Scratch::numbered(number) {
        Some(scratch) => grant_of_object(scratch, operations, packed),
        None => 0,
    }
}

/// It is walked once more: the hashes of its names may be those of the subject's executable by now.
#[inline(always)]
fn grant_of_object(scratch: &mut Scratch, operations: u32, packed: u64) -> u64 {
    let Some(active) = active() else {
        return 0;
    };
    // Another policy has come into force since it was judged.
    if active.table.generation != scratch.generation {
        return 0;
    }
    let dentry = scratch.object;
    walk::walk_object(scratch, dentry, active.table, active.slot);
    // Which rules it falls under is not known: another one may be among them.
    if !scratch.walked.resolved() {
        return 0;
    }
    let node: u64 = read(dentry + offset!(dentry_inode));
    let inode: u64 = if node == 0 { 0 } else { read(node + offset!(inode_ino)) };
    scratch.wanted = [path_hash(scratch, active.table.seed), inode, scratch.walked.device as u64];
    let at = active.slot | (ObjectKind::File as u32) << 8;
    if !is_refused(packed) || look(scratch, at, operations, packed) == 0 {
        return 0;
    }
    note(scratch, (packed as u32).wrapping_sub(1));
    1
}

/// Puts a rule among those that do not count when the object is judged again.
#[inline(always)]
fn note(scratch: &mut Scratch, index: u32) {
    if scratch.has_granted == 0 {
        for word in 0..RULE_WORDS {
            // SAFETY: a field of a valid reference; volatile keeps the loop from becoming `memset`.
            unsafe { (&raw mut scratch.granted[word]).write_volatile(0) };
        }
        scratch.has_granted = 1;
    }
    let word = masked::<{ RULE_WORDS as i32 - 1 }>(index >> 6) as usize;
    // SAFETY: below RULE_WORDS by the mask, which the verifier sees.
    let word = unsafe { &mut *(&raw mut scratch.granted).cast::<u64>().add(word) };
    *word |= 1 << (index & 63);
}

/// Whether a rule does not count because what it refuses was granted.
#[inline(always)]
pub(crate) fn is_left_out(scratch: &Scratch, index: u32) -> bool {
    if scratch.has_granted == 0 {
        return false;
    }
    let word = masked::<{ RULE_WORDS as i32 - 1 }>(index >> 6) as usize;
    // SAFETY: below RULE_WORDS by the mask, which the verifier sees.
    let word = unsafe { *(&raw const scratch.granted).cast::<u64>().add(word) };
    word >> (index & 63) & 1 != 0
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
    settled(scratch, slot | (ObjectKind::Address as u32) << 8, packed)
}

/// The same for the abstract name that was just compared.
#[inline(always)]
pub(crate) fn of_abstract(scratch: &mut Scratch, active: &Active, packed: u64) -> u64 {
    if !is_refused(packed) {
        return packed;
    }
    let hash = grant::abstract_hash(active.table.seed, scratch.abstract_len, &scratch.name_head);
    scratch.wanted = [hash, 0, 0];
    settled(scratch, active.slot | (ObjectKind::Abstract as u32) << 8, packed)
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

/// What is left of a refused connect: what is refused beside it was weighed when it was approved, by addresses and names that
/// mean the same there.
#[inline(always)]
fn settled(scratch: &mut Scratch, at: u32, packed: u64) -> u64 {
    if look(scratch, at, 1 << Operation::CONNECT, packed) == 0 {
        return packed;
    }
    scratch.header.flags |= Flags::APPROVED;
    (Verdict::Audit as u64) << 32 | packed as u32 as u64
}

/// Whether there is a grant of the object in `Scratch::wanted`, as 1. `at` has the slot of the tables and an [`ObjectKind`],
/// a byte each.
///
/// A process into which its environment puts other code is not the program that was approved.
#[inline(never)]
fn look(scratch: &mut Scratch, at: u32, operations: u32, packed: u64) -> u64 {
    let Some(label) = tasks::label_of(tasks::current()) else {
        return 0;
    };
    if label.flags & LabelFlags::LOADER_ENV != 0 || !tasks::has_its_image() {
        return 0;
    }
    // On the stack, as in `decide::judge_alias`.
    let mut key = GrantKey::of(at & 0xff, packed as u32, label.session, &label.image);
    key.object = at >> 8;
    key.identity = scratch.wanted;
    // SAFETY: the entry's room stays a value of this map while the program runs (RCU), if not that of this key.
    let Some(grant) = (unsafe { GRANTS.get(&key) }) else {
        return 0;
    };
    let holds = grant.holds(operations, now_ns());
    compiler_fence(Ordering::SeqCst);
    // SAFETY: a field of a valid reference; volatile, so that whose it is is read behind the rest.
    let tag = unsafe { (&raw const grant.tag).read_volatile() };
    (holds & (tag == key.tag())) as u64
}
