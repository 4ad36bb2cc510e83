//! What takes rules away from an object: exceptions by path, and rules that allow.
//!
//! A lift is found as rules are: its patterns lead to an [`Accept`](crate::paths::Accept), its addresses to a
//! [`PortRule`](crate::network::PortRule), its abstract names to an [`AbstractRule`](crate::network::AbstractRule), with
//! [`LIFT`] in the place of a rule's index. What is found about one object is gathered first; rules that a lift can take away
//! ([`Rule::LIFTABLE`](crate::paths::Rule::LIFTABLE)) are weighed afterwards. So order does not matter here either.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    paths::{Operation, RULES_MAX},
    subject::Facts,
};

/// Lifts of a policy.
pub const LIFTS_MAX: u32 = 256;
/// Words that have a bit for each lift.
pub const LIFT_WORDS: usize = LIFTS_MAX as usize / 64;
/// Words that have a bit for each rule.
pub const RULE_WORDS: usize = RULES_MAX as usize / 64;

/// Operations of objects, each by itself: one that a lift is not for is refused though another one is allowed.
pub const LIFTED_OPERATIONS: usize = Operation::SUBJECT as usize;

/// In the place of a rule's index: the bits below are the number of a lift.
pub const LIFT: u32 = 1 << 31;
/// Beside [`LIFT`]: who acts has to be known.
pub const LIFT_ASKS: u32 = 1 << 30;

/// Value of the `LIFTS` table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Lift {
    /// The rules that it takes away, a bit for each index.
    pub rules: [u64; RULE_WORDS],
    /// The subject sets that it is for, as bits: a subject has to be in one of them for certain. 0 for everybody.
    pub only: u64,
    /// The subject sets that it is not for: a subject that may be in one of them is not meant.
    pub except: u64,
    /// Bit set over [`Operation`] that it is for.
    pub operations: u32,
    /// Explicit padding.
    pub pad: u32,
}

impl Lift {
    /// Whether it holds for a subject in these sets. What is unknown lifts nothing.
    #[inline(always)]
    #[must_use]
    pub fn holds_for(&self, sets: &Facts) -> bool {
        let asked = (self.only == 0) | (self.only & sets.sure != 0);
        asked & (self.except & sets.possible == 0)
    }

    /// What is in the place of a rule's index for the lift of this number.
    #[must_use]
    pub const fn index(&self, number: u32) -> u32 {
        LIFT | if self.only | self.except == 0 { 0 } else { LIFT_ASKS } | number
    }
}

const _: () = assert!(LIFT_WORDS * 64 == LIFTS_MAX as usize && RULE_WORDS * 64 == RULES_MAX as usize);
const _: () = assert!(size_of::<Lift>() == 8 * RULE_WORDS + 24);
