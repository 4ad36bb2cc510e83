//! Whether one rule matches all that another one matches, for all whom that is for.
//!
//! What is found out is certain, and not all is found out: an item has to be in one item of the other, not in several
//! together.

use std::cell::Cell;

use super::addresses::Addresses;
use crate::{
    diff::rules::are_alike,
    glob::Glob,
    policy::{Executable, FileOperation, Kind, Mode, Rule, SubjectItem},
    source::Spanned,
};

/// Items that are compared with one another before it gives up: about a second. A policy of a thousand rules of three patterns
/// each takes a tenth of it.
const COMPARISONS_MAX: u32 = 1 << 24;

/// Compares items, and counts how often: rules by rules by items are more than anybody waits for.
#[derive(Debug)]
pub(super) struct Comparer {
    left: Cell<u32>,
}

impl Comparer {
    pub(super) fn new() -> Self {
        Self::with_so_many(COMPARISONS_MAX)
    }

    /// One that gives up after so many items.
    pub(super) fn with_so_many(comparisons: u32) -> Self {
        Self { left: Cell::new(comparisons) }
    }

    /// Whether it has given up: from then on nothing is found, which says nothing.
    pub(super) fn has_given_up(&self) -> bool {
        self.left.get() == 0
    }

    /// Whether something holds of one of several items.
    pub(super) fn any<T>(&self, of: &[T], holds: impl Fn(&T) -> bool) -> bool {
        of.iter().any(|one| {
            let left = self.left.get().saturating_sub(1);
            self.left.set(left);
            left > 0 && holds(one)
        })
    }

    /// Whether one of `wide` matches all that `one` matches.
    pub(super) fn is_in(&self, one: &Glob, wide: &[Spanned<Glob>]) -> bool {
        self.any(wide, |wide| wide.value.covers(one))
    }

    /// Whether each of some patterns is in one of `wide`.
    fn are_in(&self, some: &[Spanned<Glob>], wide: &[Spanned<Glob>]) -> bool {
        some.iter().all(|one| self.is_in(&one.value, wide))
    }

    /// Whether `wide` matches every object that `kind` matches.
    pub(super) fn covers(&self, wide: &Kind, kind: &Kind) -> bool {
        match (wide, kind) {
            (Kind::File { paths: wide, operations: of_wide }, Kind::File { paths, operations }) => {
                operations.iter().all(|operation| of_wide.contains(operation)) && self.are_in(paths, wide)
            }
            (Kind::Exec { paths: wide, sha256: contents }, Kind::Exec { paths, sha256 }) => {
                let has = |digest: &Spanned<[u8; 32]>| self.any(contents, |has| has.value == digest.value);
                self.are_in(paths, wide) && sha256.iter().all(has)
            }
            (
                Kind::Connect { unix: wide_unix, abstracts: wide_abstracts, .. },
                Kind::Connect { unix, abstracts, .. },
            ) => {
                self.are_in(unix, wide_unix)
                    && abstracts
                        .iter()
                        .all(|one| self.any(wide_abstracts, |wide| wide.value.covers(&one.value)))
                    && self.addresses_cover(wide, kind)
            }
            (Kind::Trace, Kind::Trace) => true,
            // Of rules about calls only those are compared that say the same.
            (Kind::Tool { .. }, Kind::Tool { .. })
            | (Kind::Mcp { .. }, Kind::Mcp { .. })
            | (Kind::Posture { .. }, Kind::Posture { .. }) => self.any(&[kind], |kind| are_alike(wide, kind)),
            (
                Kind::File { .. }
                | Kind::Exec { .. }
                | Kind::Connect { .. }
                | Kind::Trace
                | Kind::Tool { .. }
                | Kind::Mcp { .. }
                | Kind::Posture { .. },
                _,
            ) => false,
        }
    }

    fn addresses_cover(&self, wide: &Kind, kind: &Kind) -> bool {
        match (Addresses::of(wide), Addresses::of(kind)) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(wide), Some(addresses)) => wide.covers(&addresses, self),
        }
    }

    /// Whether a rule is asked and not lifted whenever another one is, as far as subjects go.
    pub(super) fn holds_for_all_of(&self, wide: &Rule, rule: &Rule) -> bool {
        let is_asked = wide.only.is_empty()
            || !rule.only.is_empty()
                && rule.only.iter().all(|item| self.any(&wide.only, |wide| item_covers(wide, item)));
        let is_not_lifted = |lifts: &SubjectItem| {
            let is_for_others = !rule.only.is_empty() && rule.only.iter().all(|item| excludes(item, lifts));
            is_for_others || self.any(&rule.exceptions, |item| item_covers(item, lifts))
        };
        is_asked && wide.exceptions.iter().all(is_not_lifted)
    }

    /// Whether a rule protects what is in reach of another one from being renamed out of that: it has the same patterns, or
    /// judges the renames of all and everybody.
    pub(super) fn keeps_in_reach(&self, wide: &Rule, rule: &Rule) -> bool {
        let (Kind::File { paths: wide_paths, operations }, Kind::File { paths, .. }) =
            (&wide.kind, &rule.kind)
        else {
            return true;
        };
        let judges_renames = operations.contains(FileOperation::Rename)
            && wide.exceptions.is_empty()
            && wide.only.is_empty()
            && wide.spares.is_empty();
        judges_renames || paths.iter().all(|one| self.any(wide_paths, |wide| wide.value == one.value))
    }
}

/// Whether a rule is in force as long as another one is.
pub(super) fn outlives(wide: &Rule, rule: &Rule) -> bool {
    match (&wide.expires, &rule.expires) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(wide), Some(rule)) => rule.value <= wide.value,
    }
}

/// Whether one mode does all that the other does.
pub(super) fn is_as_severe(severe: Mode, mode: Mode) -> bool {
    severe == mode || severe == Mode::Enforce
}

/// Whether an item holds for all for whom another one holds. What cannot be told counts as it would for that one.
pub(super) fn item_covers(wide: &SubjectItem, item: &SubjectItem) -> bool {
    // Of another condition about the lineage the kernel may know less: what it was not asked it has not noted.
    let in_lineage = wide.descendant_of.is_none() || wide.descendant_of == item.descendant_of;
    let in_session = match (&wide.session, &item.session) {
        (None, _) => true,
        (Some(wide), Some(session)) => wide.covers(session),
        (Some(_), None) => false,
    };
    in_lineage && in_session && executable_covers(&wide.own, &item.own)
}

fn executable_covers(wide: &Executable, executable: &Executable) -> bool {
    let by_path = match (&wide.path, &executable.path) {
        (None, _) => true,
        (Some(wide), Some(path)) => wide.covers(path),
        (Some(_), None) => false,
    };
    by_path && (wide.sha256.is_none() || wide.sha256 == executable.sha256)
}

/// Whether two items are surely for different subjects.
pub(super) fn excludes(one: &SubjectItem, other: &SubjectItem) -> bool {
    let by_path = matches!((&one.own.path, &other.own.path), (Some(one), Some(other)) if one.excludes(other));
    let by_content = matches!((one.own.sha256, other.own.sha256), (Some(one), Some(other)) if one != other);
    by_path || by_content
}
