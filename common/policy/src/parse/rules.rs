//! The rules of all files of a policy.

use std::collections::BTreeMap;

use super::{
    lists::Lists,
    rule::{self, Written},
};
use crate::{
    code::Code,
    diagnostic::{Diagnostic, Diagnostics},
    policy::{Mode, Rule},
    source::Span,
    syntax::policy_shape::RULES_MAX,
    yaml::{Node, Value},
};

/// What has been read.
pub(super) struct Rules {
    mode: Mode,
    /// Items of lists of rules, good or not.
    items: usize,
    written: BTreeMap<String, Span>,
    rules: BTreeMap<String, Rule>,
}

impl Rules {
    /// None yet; `mode` is that of rules that do not say.
    pub(super) fn new(mode: Mode) -> Self {
        Self { mode, items: 0, written: BTreeMap::new(), rules: BTreeMap::new() }
    }

    /// Adds those of one file.
    pub(super) fn add(&mut self, node: &Node, lists: &mut Lists, out: &mut Diagnostics) {
        let Value::Sequence(items) = &node.value else {
            let help = Some("write `rules:` and below it `- id: ...`".into());
            let message = format!("`rules` has to be a list, not {}", node.describe());
            out.error(Code::WrongType, node.span, message, help);
            return;
        };
        self.items += items.len();
        if self.items > RULES_MAX {
            let message = format!("{} rules; a policy has at most {RULES_MAX}", self.items);
            out.error(
                Code::TooManyRules,
                node.span.head(),
                message,
                Some("merge rules that share a reason".into()),
            );
            return;
        }
        for item in items {
            let Some(Written { id, span, rules: parts }) = rule::read(item, self.mode, lists, out) else {
                continue;
            };
            if let Some(first) = self.written.get(&id) {
                let twice =
                    Diagnostic::error(Code::DuplicateId, span, format!("`{id}` is the id of two rules"));
                out.push(twice.help("ids are unique").label(*first, "the first one is here"));
                continue;
            }
            self.written.insert(id, span);
            self.rules.extend(parts.into_iter().map(|rule| (rule.id.clone(), rule)));
        }
        if self.rules.len() > RULES_MAX {
            let message = format!("{} rules with the parts of those about brokers", self.rules.len());
            let help = Some(format!("a policy has at most {RULES_MAX}: name each broker once"));
            out.error(Code::TooManyRules, node.span.head(), message, help);
        }
    }

    /// Adds what holds where no rule does, when all others are there: the kernel's tables have a place for each.
    pub(super) fn add_defaults(&mut self, defaults: Vec<Rule>, out: &mut Diagnostics) {
        let Some(span) = defaults.first().map(|first| first.span) else { return };
        let had_room = self.rules.len() <= RULES_MAX;
        self.rules.extend(defaults.into_iter().map(|rule| (rule.id.clone(), rule)));
        if had_room && self.rules.len() > RULES_MAX {
            let message = format!("{} rules with the defaults", self.rules.len());
            let help = Some(format!("a policy has at most {RULES_MAX}: merge rules that share a reason"));
            out.error(Code::TooManyRules, span, message, help);
        }
    }

    /// All of them, in their order.
    pub(super) fn into_vec(self) -> Vec<Rule> {
        let mut rules: Vec<Rule> = self.rules.into_values().collect();
        rules.sort_by(|left, right| left.place().cmp(&right.place()));
        rules
    }
}
