//! Rules that allow: what they take away from others of their kind.
//!
//! A rule is taken away by one with a higher priority that surely holds, and that may: see [`Rule::yields_to`]. What is unknown, of the object or of who acts, allows
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
    /// Of each object that is meant, the rules that allow it, those with a higher priority first. Not looked for before a rule
    /// asks: few requests are refused.
    found: OnceCell<Vec<(Object, Vec<&'p Rule>)>>,
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
        self.first_of(rule, Rule::yields_to)
    }

    /// The rule that would, were it in a policy of a higher level.
    pub(crate) fn kept_from(&self, rule: &Rule) -> Option<&'p Rule> {
        self.first_of(rule, |rule, allows| rule.is_outranked_by(allows) && !rule.yields_to(allows))
    }

    /// Of what allows the request, the rule that is in some relation to a rule that matches: for each object that is meant.
    fn first_of(&self, rule: &Rule, is_related: impl Fn(&Rule, &Rule) -> bool) -> Option<&'p Rule> {
        if self.rules.is_empty() || is_by_content(rule, self.object) {
            return None;
        }
        let found = self.found.get_or_init(|| self.find());
        let is_alone = found.len() == 1;
        let meant = found.iter().filter(|(object, _)| is_alone || rule_matches(rule, self.host, object));
        let mut by = None;
        for (_, allow) in meant {
            by = Some(allow.iter().copied().find(|allows| is_related(rule, allows))?);
        }
        by
    }

    fn find(&self) -> Vec<(Object, Vec<&'p Rule>)> {
        let objects = match self.object {
            Object::Connect { address, port } => {
                let each = destinations(*address);
                each.map(|address| Object::Connect { address, port: *port }).collect()
            }
            object => vec![object.clone()],
        };
        let allow = |object: &Object| {
            let holds = |rule: &&Rule| surely_holds(rule, self.host, self.subject, object);
            self.rules.iter().copied().filter(holds).collect()
        };
        objects.into_iter().map(|object| (object.clone(), allow(&object))).collect()
    }
}
