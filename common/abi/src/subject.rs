//! Conditions on who acts: what a rule's `except` and `only` ask of a subject.
//!
//! An item of `except` or `only` belongs to one **subject set**, of which there are [`SETS_MAX`]. It asks for the
//! subject's own executable, for its lineage, or for both. Of each the answer is yes, no or unknown, kept as two bits
//! ([`Facts`]): what is surely so, and what is possibly so. An exception lifts a rule when one of its sets is sure; a
//! rule with `only` is asked when one of its sets is possible. So what is unknown never allows anything.
//!
//! # Lineage
//!
//! What is asked of lineage is a **condition**, by path or content of an executable, and each has a number below
//! [`LINEAGES_MAX`]. A task's label has the facts by number: they are copied at fork, and at exec those of the new image
//! are added. Nothing is ever looked up at a parent.
//!
//! Numbers are kept from one policy to the next, so that a label goes on to mean the same. A condition that is new gets
//! a number that no condition of the policy has, and [`Subjects::born`] says when. A label whose [`Lineage::since`] is
//! older does not know of it: what it says of that number may be about another condition, or about nothing, so it counts
//! as unknown. That is all that happens when a number is used anew; no label has to be found and changed.
//!
//! # Sessions
//!
//! What is asked of the session as a whole (its user, say) is known in user space alone, when the session begins. The agent
//! puts into [`SessionFacts`] which sets that leaves, for the sessions that live, before the slot is put in force.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::paths::SLOTS;

/// Subject sets of a policy: the bits of a word.
pub const SETS_MAX: usize = 64;
/// Conditions on lineage of a policy: the bits of a word in every label.
pub const LINEAGES_MAX: usize = 64;
/// Conditions whose answers are looked up together: [`Subjects::sets`].
const TOGETHER: usize = 4;

/// Yes, no or unknown for each of up to 64 things.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Facts {
    /// What is so.
    pub sure: u64,
    /// What is so or may be so; `sure` is a part of it.
    pub possible: u64,
}

impl Facts {
    /// Nothing is known of anything.
    pub const UNKNOWN: Self = Self { sure: 0, possible: u64::MAX };

    /// Whether a rule that is only for some subject sets (0: for everybody), and that others lift, holds for a subject
    /// in these sets.
    #[inline(always)]
    #[must_use]
    pub fn fall_under(&self, only: u64, exceptions: u64) -> bool {
        let asked = (only == 0) | (only & self.possible != 0);
        asked & (exceptions & self.sure == 0)
    }
}

/// What a task's label knows of its lineage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Lineage {
    /// By number of the condition.
    pub facts: Facts,
    /// The newest [`Subjects::born`] that it knows of.
    pub since: u64,
}

impl Lineage {
    /// Nothing is known of anything, now or later.
    pub const UNKNOWN: Self = Self { facts: Facts::UNKNOWN, since: 0 };
}

/// Kinds of an accepting entry of a subject's executable; its index is `kind * 64 + number`.
pub struct AcceptKind;

impl AcceptKind {
    /// The subject set of this number has an item that this path is enough for, lineage aside.
    pub const SET: u32 = 0;
    /// It has one that asks for a content beside this path.
    pub const SET_WITH_CONTENT: u32 = 1;
    /// The lineage condition of this number asks for this path.
    pub const LINEAGE: u32 = 2;
    /// It asks for a content beside this path.
    pub const LINEAGE_WITH_CONTENT: u32 = 3;
    /// How many there are.
    pub const COUNT: usize = 4;
}

/// What an executable's path leads to, by [`AcceptKind`].
pub type ByPath = [u64; AcceptKind::COUNT];

/// The sets of the policy in each slot that a session leaves: the value of the `SESSIONS` table, by session.
///
/// The kernel gives the room of an entry that was replaced to the next one, also while a program looks at it. So whoever reads
/// it looks at [`SessionFacts::session`] when it has read the facts: the writer copies from the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SessionFacts {
    /// Whose they are.
    pub session: u64,
    /// By slot.
    pub of_slot: [Facts; SLOTS as usize],
}

/// Entries of the `SESSIONS` table: more sessions than live at a time, since those that have ended leave it later.
pub const SESSIONS_MAX: u32 = 8192;

/// What an executable's content is known to mean to the policy in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ByContent {
    /// [`Subjects::fingerprint`] of the tables that this is for. With another one it means nothing.
    pub fingerprint: u64,
    /// Subject sets with an item that asks for this content, and for no path or for this file's.
    pub sets: u64,
    /// Lineage conditions alike.
    pub lineage: u64,
}

/// The part of [`crate::paths::Table`] that is about subjects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Subjects {
    /// What the numbers of sets and conditions stand for, as a hash; never 0.
    pub fingerprint: u64,
    /// When the newest condition got its number, of this policy or of one before it.
    pub since: u64,
    /// Sets with an item that asks nothing of the executable, only of lineage.
    pub any: u64,
    /// Sets with an item that asks for a content, and for no path.
    pub content_alone: u64,
    /// Sets that ask nothing of lineage.
    pub without_lineage: u64,
    /// Conditions that there are.
    pub lineages: u64,
    /// Conditions that ask for a content, and for no path.
    pub lineage_content_alone: u64,
    /// Sets that ask something of the session.
    pub with_session: u64,
    /// By number of a condition: when it got it, nanoseconds since the machine started.
    pub born: [u64; LINEAGES_MAX],
    /// By number of a condition: what it says, as a hash; 0 for none.
    pub identity: [u64; LINEAGES_MAX],
    /// The numbers of `born`, the oldest first.
    pub ages: [u64; LINEAGES_MAX],
    /// The conditions of this number in `ages`, and of those behind it, which are not older.
    pub younger: [u64; LINEAGES_MAX],
    /// The sets that ask for any of four conditions that hold: the answers of conditions 0 to 3 are the index into the
    /// first of these, and so on. A loop over the conditions would be 64 times the verifier's work, for every program.
    pub sets: [[u64; 1 << TOGETHER]; LINEAGES_MAX / TOGETHER],
}

impl Subjects {
    /// Those of a policy that asks nothing of subjects.
    pub const NONE: Self = Self {
        fingerprint: 1,
        since: 0,
        any: 0,
        content_alone: 0,
        without_lineage: 0,
        lineages: 0,
        lineage_content_alone: 0,
        with_session: 0,
        born: [0; LINEAGES_MAX],
        identity: [0; LINEAGES_MAX],
        ages: [0; LINEAGES_MAX],
        younger: [0; LINEAGES_MAX],
        sets: [[0; 1 << TOGETHER]; LINEAGES_MAX / TOGETHER],
    };

    /// Notes that these sets ask for a condition.
    ///
    /// # Panics
    /// There is no such number of a condition.
    pub fn ask(&mut self, condition: usize, sets: u64) {
        let places = self.sets[condition / TOGETHER].iter_mut().enumerate();
        for (_, place) in places.filter(|(answers, _)| answers >> (condition % TOGETHER) & 1 != 0) {
            *place |= sets;
        }
    }

    /// Makes `ages` and `younger` those of `born`.
    pub fn arrange(&mut self) {
        let mut order: [usize; LINEAGES_MAX] = core::array::from_fn(|number| number);
        order.sort_unstable_by_key(|number| self.born[*number]);
        let mut younger = 0;
        for (place, number) in order.into_iter().enumerate().rev() {
            younger |= 1 << number;
            self.ages[place] = self.born[number];
            self.younger[place] = younger;
        }
    }

    /// What a label says of the conditions of these tables.
    ///
    /// A label that is newer than the tables, which a program can see that was about to begin with tables that were then
    /// replaced, says nothing here: its numbers may be those of the tables that came next.
    #[inline(always)]
    #[must_use]
    pub fn of_label(&self, label: &Lineage) -> Facts {
        let unknown = is_less(self.since, label.since) | self.born_after(label.since);
        Facts { sure: label.facts.sure & !unknown, possible: label.facts.possible | unknown }
    }

    /// The conditions that got their number later. A binary search without a branch: how many of `ages` are not later.
    #[inline(always)]
    fn born_after(&self, moment: u64) -> u64 {
        let mut count = 0;
        for power in [5, 4, 3, 2, 1, 0, 0] {
            let age = self.ages[(count as usize + (1 << power) - 1) & (LINEAGES_MAX - 1)];
            // Of a sign bit that it sees the compiler makes a branch again.
            count += (core::hint::black_box(borrow(moment, age)) ^ 1) << power;
        }
        let all = (count >> LINEAGES_MAX.trailing_zeros()).wrapping_neg();
        self.younger[count as usize & (LINEAGES_MAX - 1)] & !all
    }

    /// What an image means to the conditions on lineage. One whose environment puts other code into it is not surely
    /// anything.
    #[inline(always)]
    #[must_use]
    pub fn of_image(&self, path: Option<&ByPath>, content: &ByContent, loads_code: bool) -> Facts {
        let facts = self.weigh(
            path,
            [AcceptKind::LINEAGE, AcceptKind::LINEAGE_WITH_CONTENT],
            self.known(content, content.lineage),
            self.lineage_content_alone,
        );
        Facts { sure: facts.sure & !mask(loads_code), possible: facts.possible & self.lineages }
    }

    /// What is known of a session of which nobody has said anything: all sets that do not ask.
    #[inline(always)]
    #[must_use]
    pub fn of_unknown_session(&self) -> Facts {
        Facts { sure: !self.with_session, possible: u64::MAX }
    }

    /// The subject sets of a subject: by its executable, by what its lineage amounts to, and by its session.
    #[inline(always)]
    #[must_use]
    pub fn sets(
        &self,
        path: Option<&ByPath>,
        content: &ByContent,
        loads_code: bool,
        lineage: Facts,
        session: Facts,
    ) -> Facts {
        let own = self.weigh(
            path,
            [AcceptKind::SET, AcceptKind::SET_WITH_CONTENT],
            self.known(content, content.sets),
            self.content_alone,
        );
        Facts {
            sure: (own.sure | self.any) & self.with_lineage(lineage.sure) & session.sure & !mask(loads_code),
            possible: (own.possible | self.any) & self.with_lineage(lineage.possible) & session.possible,
        }
    }

    /// Whether a content is known, as a mask, and what it means.
    #[inline(always)]
    fn known(&self, content: &ByContent, means: u64) -> (u64, u64) {
        let known = mask(content.fingerprint == self.fingerprint);
        (known, means & known)
    }

    #[inline(always)]
    fn weigh(
        &self,
        path: Option<&ByPath>,
        kinds: [u32; 2],
        (known, means): (u64, u64),
        content_alone: u64,
    ) -> Facts {
        match path {
            Some(path) => {
                let sure = path[kinds[0] as usize] | means;
                Facts { sure, possible: sure | (path[kinds[1] as usize] | content_alone) & !known }
            }
            None => Facts { sure: means, possible: u64::MAX },
        }
    }

    /// The sets of which these conditions hold, or that ask for none.
    #[inline(always)]
    fn with_lineage(&self, conditions: u64) -> u64 {
        let mut sets = self.without_lineage;
        if self.lineages == 0 {
            return sets;
        }
        for (place, of_four) in self.sets.iter().enumerate() {
            sets |= of_four[(conditions >> (place * TOGETHER)) as usize & ((1 << TOGETHER) - 1)];
        }
        sets
    }
}

/// All bits if it is so. Without a branch: the verifier would walk both ways behind it.
#[inline(always)]
fn mask(is: bool) -> u64 {
    u64::from(is).wrapping_neg()
}

/// All bits if `one` is less than `other`, without a branch.
#[inline(always)]
fn is_less(one: u64, other: u64) -> u64 {
    borrow(one, other).wrapping_neg()
}

/// 1 if `one` is less than `other`, else 0: the borrow of the subtraction.
#[inline(always)]
pub(crate) fn borrow(one: u64, other: u64) -> u64 {
    ((!one & other) | (!(one ^ other) & one.wrapping_sub(other))) >> 63
}

const _: () = assert!(size_of::<Facts>() == 16);
const _: () = assert!(size_of::<Lineage>() == 24);
const _: () = assert!(size_of::<ByContent>() == 24);
const _: () = assert!(size_of::<SessionFacts>() == 40);
const _: () = assert!(size_of::<Subjects>() == 64 + 8 * 8 * LINEAGES_MAX);

#[cfg(test)]
mod tests {
    use super::*;

    /// Condition 0 is as old as the machine, condition 1 got its number at 20; set 5 asks for 0, set 6 for 1.
    fn subjects() -> Subjects {
        let mut subjects = Subjects { since: 20, any: 0b110_0000, lineages: 0b11, ..Subjects::NONE };
        (subjects.born[0], subjects.born[1]) = (10, 20);
        subjects.arrange();
        subjects.ask(0, 1 << 5);
        subjects.ask(1, 1 << 6);
        subjects
    }

    #[test]
    fn a_label_knows_of_what_is_not_younger() {
        let check = |since, expect: Facts| {
            let label = Lineage { facts: Facts { sure: 0b11, possible: 0b11 }, since };
            assert_eq!(subjects().of_label(&label), expect, "{since}");
        };
        check(20, Facts { sure: 0b11, possible: 0b11 });
        check(10, Facts { sure: 0b01, possible: 0b11 });
        check(0, Facts { sure: 0, possible: 0b11 });
        check(21, Facts::UNKNOWN);
        let none = Lineage { since: 10, ..Lineage::default() };
        assert_eq!(subjects().of_label(&none), Facts { sure: 0, possible: 0b10 });
    }

    #[test]
    fn a_set_needs_its_lineage() {
        let check = |lineage: Facts, loads_code, expect: Facts| {
            let found = subjects().sets(
                Some(&[0; 4]),
                &ByContent::default(),
                loads_code,
                lineage,
                subjects().of_unknown_session(),
            );
            assert_eq!(found, expect);
        };
        check(Facts::default(), false, Facts::default());
        check(Facts { sure: 1, possible: 3 }, false, Facts { sure: 1 << 5, possible: 3 << 5 });
        check(Facts { sure: 1, possible: 1 }, true, Facts { sure: 0, possible: 1 << 5 });
        check(Facts::UNKNOWN, false, Facts { sure: 0, possible: 3 << 5 });
    }

    #[test]
    fn a_set_needs_its_session() {
        let subjects = Subjects { any: 0b11, without_lineage: 0b11, with_session: 0b10, ..Subjects::NONE };
        let check = |session, expect| {
            let found = subjects.sets(None, &ByContent::default(), false, Facts::default(), session);
            assert_eq!(found, expect);
        };
        check(subjects.of_unknown_session(), Facts { sure: 0b01, possible: 0b11 });
        check(Facts { sure: 0b01, possible: 0b01 }, Facts { sure: 0b01, possible: 0b01 });
        check(Facts { sure: 0b11, possible: 0b11 }, Facts { sure: 0b11, possible: 0b11 });
    }

    #[test]
    fn a_content_counts_for_its_own_tables_only() {
        let subjects = Subjects {
            fingerprint: 7,
            content_alone: 0b1,
            without_lineage: 0b111,
            lineages: 0b11,
            lineage_content_alone: 0b10,
            ..Subjects::NONE
        };
        let by_path = [0b10, 0b100, 0b1, 0];
        let check = |fingerprint, sure, possible, image: Facts| {
            let content = ByContent { fingerprint, sets: 0b1, lineage: 0b10 };
            let found = subjects.sets(
                Some(&by_path),
                &content,
                false,
                Facts::default(),
                subjects.of_unknown_session(),
            );
            assert_eq!(found, Facts { sure, possible }, "{fingerprint}");
            assert_eq!(subjects.of_image(Some(&by_path), &content, false), image, "{fingerprint}");
        };
        check(7, 0b11, 0b11, Facts { sure: 0b11, possible: 0b11 });
        check(6, 0b10, 0b111, Facts { sure: 0b1, possible: 0b11 });
        let nowhere = subjects.of_image(None, &ByContent::default(), false);
        assert_eq!(nowhere, Facts { sure: 0, possible: 0b11 });
        let preloaded = subjects.of_image(Some(&by_path), &ByContent::default(), true);
        assert_eq!(preloaded, Facts { sure: 0, possible: 0b11 });
    }

    #[test]
    fn every_condition_has_its_age_and_its_sets() {
        let mut subjects = Subjects { lineages: u64::MAX, ..Subjects::NONE };
        for number in 0..LINEAGES_MAX {
            // Some are of the same moment, and they are in no order.
            subjects.born[number] = (number as u64 * 37 % 64) / 3 * 5;
            subjects.ask(number, 1 << (63 - number));
        }
        subjects.arrange();
        for moment in 0..120 {
            let later = (0..LINEAGES_MAX).filter(|number| subjects.born[*number] > moment);
            assert_eq!(subjects.born_after(moment), later.map(|number| 1 << number).sum(), "{moment}");
        }
        for conditions in [0, 1, 1 << 63, 0b1011 << 17, 0x0123_4567_89ab_cdef, u64::MAX] {
            assert_eq!(subjects.with_lineage(conditions), conditions.reverse_bits(), "{conditions:x}");
        }
        let mut distinct = Subjects::NONE;
        distinct.born = core::array::from_fn(|number| number as u64 + 1);
        distinct.arrange();
        assert_eq!((distinct.born_after(0), distinct.born_after(63)), (u64::MAX, 1 << 63));
        assert_eq!(distinct.born_after(64), 0);
    }

    #[test]
    fn comparing_without_a_branch() {
        let values = [0, 1, 2, u64::MAX / 2, u64::MAX / 2 + 1, u64::MAX - 1, u64::MAX];
        for one in values {
            for other in values {
                assert_eq!(is_less(one, other) == u64::MAX, one < other, "{one} {other}");
                assert!([0, u64::MAX].contains(&is_less(one, other)));
            }
        }
    }
}
