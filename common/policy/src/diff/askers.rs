//! Who asks: nobody in particular, and whoever an item of `except` or `only` is for.

use std::{collections::BTreeMap, sync::Arc};

use super::probe::Filler;
use crate::{
    explain::describe,
    policy::{Executable, Policy, Rule, SubjectItem},
    request::{Executed, Lineage, Subject},
    session::SessionCondition,
};

/// Items of the rules that match one object, up to which pairs of them are asked about as well.
const PAIRED_MAX: usize = 24;

/// Sessions of one item that ask, one for each user, group and so on that it names.
const ELEMENTS_MAX: usize = 256;

/// Somebody who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asker {
    pub(super) text: String,
    pub(super) subject: Subject,
}

/// Everybody whom two policies name.
pub(super) struct Askers<'f> {
    filler: &'f Filler,
    /// The first one is whom neither names.
    all: Vec<Asker>,
    by_text: BTreeMap<String, usize>,
}

impl<'f> Askers<'f> {
    pub(super) fn of(policies: [&Policy; 2], filler: &'f Filler) -> Self {
        let nobody = Asker { text: String::new(), subject: subject(vec![filler.nobody()], &[]) };
        let mut askers = Self { filler, all: vec![nobody], by_text: BTreeMap::new() };
        for rule in policies.into_iter().flat_map(|policy| &policy.rules) {
            for item in rule.items().flat_map(one_at_a_time) {
                askers.number(describe(&item), || (ancestors(&item), &item.own, sessions(&item)));
            }
        }
        askers
    }

    pub(super) fn get(&self, number: usize) -> &Asker {
        &self.all[number]
    }

    /// Those for whom rules that match an object can differ: nobody in particular, each whom they name, and each who is two
    /// of these.
    pub(super) fn of_rules<'p>(&mut self, rules: impl Iterator<Item = &'p Rule>) -> Vec<usize> {
        let items: Vec<SubjectItem> = rules.flat_map(Rule::items).flat_map(one_at_a_time).collect();
        let mut asked = vec![0];
        asked.extend(items.iter().filter_map(|item| self.by_text.get(&describe(item)).copied()));
        if items.len() <= PAIRED_MAX {
            for (at, one) in items.iter().enumerate() {
                for other in &items[at + 1..] {
                    asked.extend(self.both(one, other));
                }
            }
        }
        asked.sort_unstable();
        asked.dedup();
        asked
    }

    /// Who is meant by both of two items; none where each asks for an executable of its own.
    fn both(&mut self, one: &SubjectItem, other: &SubjectItem) -> Option<usize> {
        let own = match (one.own.is_any(), other.own.is_any()) {
            (true, _) => &other.own,
            (_, true) => &one.own,
            _ if one.own == other.own => &one.own,
            _ => return None,
        };
        let texts = [describe(one), describe(other)];
        // Two sessions of one item are asked for one at a time.
        if texts[0] == texts[1] || one.span == other.span {
            return None;
        }
        let ancestors: Vec<&Executable> = [ancestors(one), ancestors(other)].concat();
        let sessions = [sessions(one), sessions(other)].concat();
        Some(self.number(texts.join(" and "), || (ancestors, own, sessions)))
    }

    fn number<'i>(
        &mut self,
        text: String,
        who: impl FnOnce() -> (Vec<&'i Executable>, &'i Executable, Vec<&'i SessionCondition>),
    ) -> usize {
        if let Some(number) = self.by_text.get(&text) {
            return *number;
        }
        let (ancestors, own, sessions) = who();
        let images = ancestors.into_iter().chain([own]).map(|wanted| self.filler.executed(wanted)).collect();
        self.all.push(Asker { text: text.clone(), subject: subject(images, &sessions) });
        self.by_text.insert(text, self.all.len() - 1);
        self.all.len() - 1
    }
}

/// An item for each session that it names, one at a time.
fn one_at_a_time(item: &SubjectItem) -> Vec<SubjectItem> {
    let Some(session) = &item.session else { return vec![item.clone()] };
    let of = |session| SubjectItem { session: Some(session), ..item.clone() };
    session.elements().into_iter().take(ELEMENTS_MAX).map(of).collect()
}

fn ancestors(item: &SubjectItem) -> Vec<&Executable> {
    item.descendant_of.iter().collect()
}

fn sessions(item: &SubjectItem) -> Vec<&SessionCondition> {
    item.session.iter().collect()
}

/// Who has executed these images, the last one now, in a session of which all of this holds, as far as it can.
fn subject(images: Vec<Executed>, sessions: &[&SessionCondition]) -> Subject {
    let Executed { path, sha256, loads_code } = images.last().cloned().unwrap_or_default();
    let lineage = Lineage::Images { images, complete: true };
    let session = Arc::new(SessionCondition::example_of(sessions));
    Subject { executable: path, sha256, uid: 0, loads_code, lineage, session }
}
