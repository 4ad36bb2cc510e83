//! Counting for one rule.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use treeline_event::{Mode, PathBytes, SessionId, Verdict};

use super::{
    Ancestry, Doubt, Past, Place, Sum, Then, ThenCounts,
    judge::Judged,
    places::Places,
    report::{ANCESTRIES_NAMED_MAX, PLACES_NAMED_MAX, SESSIONS_NAMED_MAX},
};
use crate::request::Object;

/// Sessions that are told apart, 8 bytes each.
const SESSIONS_MAX: usize = 65_536;
/// Ancestries that are told apart. What comes later is not named.
const ANCESTRIES_MAX: usize = 256;
/// Executables of an ancestry that are looked at, the latest.
const EXECUTABLES_MAX: usize = 6;

/// In which sessions, on what and when.
#[derive(Clone, Debug, Default)]
pub(super) struct Span {
    sessions: BTreeSet<SessionId>,
    places: Places,
    pub(super) first_ms: Option<u64>,
    pub(super) last_ms: Option<u64>,
}

/// As a report has it.
pub(super) struct Named {
    pub(super) sessions: Vec<SessionId>,
    pub(super) sessions_more: usize,
    pub(super) objects: Vec<Place>,
}

impl Span {
    pub(super) fn add(&mut self, past: &Past, object: Option<&Object>) {
        let time = Some(past.time_ms);
        self.first_ms = self.first_ms.min(time).or(time);
        self.last_ms = self.last_ms.max(time);
        if self.sessions.len() < SESSIONS_MAX {
            self.sessions.extend(past.session);
        }
        if let Some(object) = object {
            self.places.add(object, past.times);
        }
    }

    pub(super) fn named(self) -> Named {
        Named {
            sessions_more: self.sessions.len().saturating_sub(SESSIONS_NAMED_MAX),
            sessions: self.sessions.into_iter().take(SESSIONS_NAMED_MAX).collect(),
            objects: self.places.finish(PLACES_NAMED_MAX),
        }
    }
}

/// What one rule would have done.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) sum: Sum,
    pub(super) then: ThenCounts,
    pub(super) span: Span,
    pub(super) doubted: BTreeMap<Doubt, u64>,
    pub(super) by_unknown: u64,
    ancestries: HashMap<(bool, Vec<PathBytes>), u64>,
}

impl Tally {
    pub(super) fn add(&mut self, past: &Past, judged: &Judged) {
        let times = past.times;
        self.sum.add(times);
        self.then.of(&past.then).add(times);
        if judged.by_unknown {
            self.by_unknown = self.by_unknown.saturating_add(times);
        }
        self.note(past, judged.object);
    }

    /// That a rule that allows let an object through.
    pub(super) fn let_through(&mut self, past: &Past, object: usize) {
        self.sum.add(past.times);
        self.then.of(&past.then).add(past.times);
        self.note(past, object);
    }

    /// By whom it was done to what, and what is not certain of that.
    fn note(&mut self, past: &Past, object: usize) {
        let times = past.times;
        let asked = past.asked.get(object);
        self.span.add(past, asked.map(|asked| &asked.object));
        for doubt in asked.into_iter().flat_map(|asked| &asked.doubts) {
            let count = self.doubted.entry(*doubt).or_default();
            *count = count.saturating_add(times);
        }
        let mut latest: Vec<PathBytes> = past.who.paths().rev().take(EXECUTABLES_MAX).cloned().collect();
        latest.reverse();
        let begins_before = !past.who.has_whole_lineage() || past.who.paths().count() > latest.len();
        let key = (begins_before, latest);
        if self.ancestries.len() < ANCESTRIES_MAX || self.ancestries.contains_key(&key) {
            let count = self.ancestries.entry(key).or_default();
            *count = count.saturating_add(times);
        }
    }

    /// The most frequent ancestries.
    pub(super) fn ancestries(&self) -> Vec<Ancestry> {
        let mut all: Vec<_> = self.ancestries.iter().collect();
        all.sort_by_key(|(key, times)| (Reverse(**times), *key));
        let named = all.into_iter().take(ANCESTRIES_NAMED_MAX);
        named
            .map(|((begins_before, executables), times)| Ancestry {
                executables: executables.clone(),
                begins_before: *begins_before,
                times: *times,
            })
            .collect()
    }
}

impl ThenCounts {
    fn of(&mut self, then: &Then) -> &mut Sum {
        match (then.verdict, then.mode) {
            (Verdict::Audit, _) if then.approved => &mut self.approved,
            (Verdict::Allow, _) => &mut self.allowed,
            (Verdict::Audit, Some(Mode::Enforce)) => &mut self.not_refused,
            (Verdict::Audit, _) => &mut self.recorded,
            (Verdict::Deny, _) => &mut self.denied,
        }
    }
}
