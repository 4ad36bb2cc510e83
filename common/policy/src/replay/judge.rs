//! What a policy says of a recorded action, by the definition of the language.

use std::{collections::HashMap, sync::Arc};

use treeline_event::{Mode, Verdict};

use super::{Doubt, Past, contents::Contents};
use crate::{
    compile::is_lifted_by,
    eval::{holds, might_allow, rests_on_unknown, rule_matches},
    eval_allow::Allowed,
    host::Host,
    policy::{Kind, Policy},
    request::{Decision, Object, Subject},
};

/// Objects whose rules are remembered: some 200 bytes each. When there are more, all are forgotten.
const MEMO_MAX: usize = 65_536;

/// Decides.
#[derive(Debug)]
pub(super) struct Judge<'p> {
    policy: &'p Policy,
    host: &'p Host,
    /// The rules that match an object, whoever acts. Agents use the same files over and over.
    memo: HashMap<Object, Arc<[usize]>>,
}

/// What was decided, and how certain that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Judged {
    pub(super) decision: Decision,
    /// Which of the objects it is about; the first when no rule decides.
    pub(super) object: usize,
    /// What is not certain about that object.
    pub(super) doubts: Vec<Doubt>,
    /// Whether something that the rule asks of the subject could not be told, and counted.
    pub(super) by_unknown: bool,
    /// Rules that let it through against another one, each with which of the objects that was.
    pub(super) let_through_by: Vec<(usize, usize)>,
}

impl<'p> Judge<'p> {
    pub(super) fn new(policy: &'p Policy, host: &'p Host) -> Self {
        Self { policy, host, memo: HashMap::new() }
    }

    /// Whether a rule asks what the files hold that are executed.
    pub(super) fn asks_for_content(&self) -> bool {
        let asks = |kind: &Kind| matches!(kind, Kind::Exec { sha256, .. } if !sha256.is_empty());
        self.policy.rules.iter().any(|rule| asks(&rule.kind))
    }

    /// Decides about all objects of an action: as the hooks do, a denial of one is a denial, and of several rules the
    /// first is named.
    pub(super) fn judge(&mut self, past: &Past, contents: &Contents) -> Judged {
        let mut subject = None;
        let mut best: Option<(bool, usize, usize)> = None;
        let mut let_through_by: Vec<(usize, usize)> = Vec::new();
        for (at, asked) in past.asked.iter().enumerate() {
            let matching = self.matching(&asked.object);
            if matching.is_empty() {
                continue;
            }
            let subject = &*subject.get_or_insert_with(|| past.who.subject(contents));
            let rules = || matching.iter().map(|index| &self.policy.rules[*index]);
            let allowed = Allowed::of(rules(), self.host, subject, &asked.object);
            for (index, rule) in matching.iter().copied().zip(rules()) {
                if rule.allows || !holds(rule, self.host, subject) {
                    continue;
                }
                if let Some(allows) = allowed.against(rule) {
                    let is_it = |index: &&usize| std::ptr::eq(&self.policy.rules[**index], allows);
                    let found = matching
                        .iter()
                        .find(is_it)
                        .filter(|by| !let_through_by.iter().any(|(known, _)| known == *by));
                    let_through_by.extend(found.map(|by| (*by, at)));
                    continue;
                }
                let found = (rule.mode == Mode::Monitor, index, at);
                best = Some(best.map_or(found, |best| best.min(found)));
            }
        }
        let Some((records, rule, object)) = best else {
            let doubts = past.asked.first().map(|asked| asked.doubts.clone()).unwrap_or_default();
            return Judged {
                decision: Decision::ALLOW,
                object: 0,
                doubts,
                by_unknown: false,
                let_through_by,
            };
        };
        let verdict = if records { Verdict::Audit } else { Verdict::Deny };
        let decides = &self.policy.rules[rule];
        let might_be_allowed = |subject: &Subject| {
            let asked = &past.asked[object].object;
            let above =
                self.policy.rules.iter().filter(|allows| allows.allows && is_lifted_by(decides, allows));
            above.into_iter().any(|allows| might_allow(allows, self.host, subject, asked))
        };
        let by_unknown = subject.is_some_and(|subject| {
            rests_on_unknown(decides, self.host, &subject) || might_be_allowed(&subject)
        });
        Judged {
            decision: Decision { verdict, rule: Some(rule) },
            object,
            doubts: past.asked[object].doubts.clone(),
            by_unknown,
            let_through_by,
        }
    }

    fn matching(&mut self, object: &Object) -> Arc<[usize]> {
        if let Some(known) = self.memo.get(object) {
            return Arc::clone(known);
        }
        let rules = self.policy.rules.iter().enumerate();
        let matching = rules.filter(|(_, rule)| rule_matches(rule, self.host, object));
        let matching: Arc<[usize]> = matching.map(|(index, _)| index).collect();
        if self.memo.len() >= MEMO_MAX {
            self.memo.clear();
        }
        self.memo.insert(object.clone(), Arc::clone(&matching));
        matching
    }
}
