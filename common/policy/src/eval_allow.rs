//! Rules that allow: what they take away from others of their kind.
//!
//! A rule is taken away by one with a higher priority that surely holds. What is unknown, of the object or of who acts, allows
//! nothing. What a rule refuses by its content is refused wherever it is, and where a raw socket leads cannot be looked at. Of an
//! address that stands for two, both have to be allowed. A rule that adopts takes nothing away, so nothing is allowed against it.

use std::cell::OnceCell;

use crate::{
    eval::{destinations, is_by_content, rule_matches, surely_holds},
    host::Host,
    policy::Rule,
    request::{Object, Subject},
};

/// What is allowed of one request.
pub(crate) struct Allowed<'r, 'p> {
    rules: Vec<&'p Rule>,
    host: &'r Host,
    subject: &'r Subject,
    object: &'r Object,
    /// Of each object that is meant, the rule with the highest priority that allows it. Not looked for before a rule asks: few
    /// requests are refused.
    found: OnceCell<Vec<(Object, Option<&'p Rule>)>>,
}

impl<'r, 'p> Allowed<'r, 'p> {
    /// By those of some rules that allow.
    pub(crate) fn of(
        rules: impl IntoIterator<Item = &'p Rule>,
        host: &'r Host,
        subject: &'r Subject,
        object: &'r Object,
    ) -> Self {
        let rules = rules.into_iter().filter(|rule| rule.allows).collect();
        Self { rules, host, subject, object, found: OnceCell::new() }
    }

    /// The rule that allows the request against another one that matches.
    pub(crate) fn against(&self, rule: &Rule) -> Option<&'p Rule> {
        if self.rules.is_empty() || rule.adopts.is_some() || is_by_content(rule, self.object) {
            return None;
        }
        let found = self.found.get_or_init(|| self.find());
        let is_alone = found.len() == 1;
        let meant = found.iter().filter(|(object, _)| is_alone || rule_matches(rule, self.host, object));
        let mut by = None;
        for (_, allows) in meant {
            by = Some(allows.filter(|allows| allows.priority > rule.priority)?);
        }
        by
    }

    fn find(&self) -> Vec<(Object, Option<&'p Rule>)> {
        let objects = match self.object {
            Object::Connect { address, port } => {
                let each = destinations(*address);
                each.map(|address| Object::Connect { address, port: *port }).collect()
            }
            object => vec![object.clone()],
        };
        let highest = |object: &Object| {
            let holds = |rule: &&&Rule| surely_holds(rule, self.host, self.subject, object);
            // Rules with a higher priority come first.
            self.rules.iter().find(holds).copied()
        };
        objects.into_iter().map(|object| (object.clone(), highest(&object))).collect()
    }
}
