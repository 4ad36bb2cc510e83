//! Lifts: what takes rules away from an object, see `treeline_abi::lift`.

use treeline_abi::lift::{LIFT_ASKS, LIFT_WORDS, LIFTED_OPERATIONS, LIFTS_MAX, RULE_WORDS};

use crate::{
    decide::lowest,
    kernel::{GO_ON, STOP, is_older, masked, repeat, repeat_plainly},
    maps::LIFTS,
    scratch::{Found, Scratch},
};

/// Whether the lifts that were looked at take a rule away for each of these operations, bits over `Operation`.
///
/// Without a branch: the verifier would walk every combination of operations.
#[inline(always)]
pub(crate) fn is_lifted(scratch: &Scratch, index: u32, asked: u32) -> bool {
    let word = masked::<{ RULE_WORDS as i32 - 1 }>(index >> 6) as usize;
    let mut left = 0;
    for operation in 0..LIFTED_OPERATIONS {
        // SAFETY: within the array by the mask, which the verifier sees.
        let word = unsafe { (&raw const scratch.lifted[operation]).cast::<u64>().add(word).read_volatile() };
        left |= (asked >> operation) as u64 & 1 & !(word >> (index & 63));
    }
    left == 0
}

/// No lift has been found about the object.
#[inline(always)]
pub(crate) fn forget(scratch: &mut Scratch) {
    for word in 0..LIFT_WORDS {
        // SAFETY: within the array; volatile, so that it stays word by word.
        unsafe { (&raw mut scratch.lifts[word]).write_volatile(0) };
    }
}

/// Keeps a lift that was found, given as what stands in the place of a rule's index.
#[inline(always)]
pub(crate) fn note(scratch: &mut Scratch, index: u32) {
    if index & LIFT_ASKS != 0 {
        scratch.found.noted |= Found::LIFT_ASKS;
    }
    let word = masked::<{ LIFT_WORDS as i32 - 1 }>(index >> 6) as usize;
    // SAFETY: within the array by the mask, which the verifier sees.
    let word = unsafe { (&raw mut scratch.lifts).cast::<u64>().add(word) };
    // SAFETY: as above.
    unsafe { word.write_volatile(word.read_volatile() | 1 << (index & 63)) };
}

/// Leaves the rules that the lifts that were found take away from the subject in `Scratch::lifted`.
#[inline(always)]
pub(crate) fn weigh(scratch: &mut Scratch, slot: u32) {
    for word in 0..RULE_WORDS * LIFTED_OPERATIONS {
        // SAFETY: within the array; volatile, so that it stays word by word.
        unsafe { (&raw mut scratch.lifted).cast::<u64>().add(word).write_volatile(0) };
    }
    if is_older() {
        older_lift_rules(scratch.number as u32, slot);
        return;
    }
    let mut pass = LiftPass { scratch, slot };
    repeat(LIFTS_MAX, lift, &mut pass, |_| STOP);
}

/// A look at the lifts that were found.
struct LiftPass {
    scratch: *mut Scratch,
    slot: u32,
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn older_lift_rules(number: u32, slot: u32) -> u64 {
    repeat_plainly(LIFTS_MAX, |_| older_lift(number, slot));
    GO_ON
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn older_lift(number: u32, slot: u32) -> u64 {
    match Scratch::numbered(number) {
        Some(scratch) => one_lift(&mut LiftPass { scratch, slot }),
        None => STOP,
    }
}

extern "C" fn lift(_round: u64, pass: *mut LiftPass) -> u64 {
    one_lift(pass)
}

/// Takes one lift away from those that were found, and the rules that it takes away into account.
#[inline(always)]
fn one_lift(pass: *mut LiftPass) -> u64 {
    // SAFETY: the pointers were put there by the callers above and outlive the loop; the verifier tracks them.
    let (slot, scratch) = unsafe { ((*pass).slot, &mut *(*pass).scratch) };
    let mut number = LIFTS_MAX;
    for word in 0..LIFT_WORDS {
        let bits = scratch.lifts[word];
        if number == LIFTS_MAX && bits != 0 {
            scratch.lifts[word] = bits & (bits - 1);
            number = word as u32 * 64 + lowest(bits);
        }
    }
    if number >= LIFTS_MAX {
        return STOP;
    }
    let Some(lift) = LIFTS.get(slot * LIFTS_MAX + number) else {
        return STOP;
    };
    if lift.holds_for(&scratch.holds) {
        for operation in 0..LIFTED_OPERATIONS {
            let is_for = ((lift.operations >> operation) as u64 & 1).wrapping_neg();
            for word in 0..RULE_WORDS {
                scratch.lifted[operation][word] |= lift.rules[word] & is_for;
            }
        }
    }
    GO_ON
}
