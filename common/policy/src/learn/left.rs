//! What was done and is not allowed by what was learned.

use std::collections::BTreeMap;

use super::{
    seen::{Facts, Thing},
    text::{brief, comment, path_text},
};

/// Different things that are kept, 200 bytes each.
const THINGS_MAX: usize = 4096;
/// Lines of the policy that tell of them, for each reason.
const LINES_MAX: usize = 24;

/// Why something is not allowed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// A rule of the baseline protects it; its id.
    Protected(String),
    /// It was refused when it happened; by which rule.
    Refused(String),
    /// No pattern stands for it and for nothing that is protected: it has no path, or one with bytes that no pattern has.
    Unnameable,
    /// Somebody had approved of it; against which rule.
    Approved(String),
}

/// Everything that was left out.
#[derive(Clone, Debug, Default)]
pub(super) struct Left {
    things: BTreeMap<(Why, Thing), Facts>,
    /// Beyond the bound: how often.
    untold: u64,
}

impl Left {
    pub(super) fn add(&mut self, why: Why, thing: &Thing, facts: &Facts) {
        let key = (why, thing.clone());
        if let Some(known) = self.things.get_mut(&key) {
            known.merge(facts);
            return;
        }
        self.things.insert(key, facts.clone());
        // The last in order goes, so that what is told depends on no other order.
        if self.things.len() > THINGS_MAX
            && let Some((_, facts)) = self.things.pop_last()
        {
            self.untold = self.untold.saturating_add(facts.times);
        }
    }

    /// How many different things, by the reason.
    pub(super) fn counts(&self) -> BTreeMap<Why, usize> {
        let mut counts = BTreeMap::new();
        for (why, _) in self.things.keys() {
            *counts.entry(why.clone()).or_default() += 1;
        }
        counts
    }

    /// As comments.
    pub(super) fn write(&self, out: &mut String) {
        let mut of: BTreeMap<&Why, Vec<(&Thing, &Facts)>> = BTreeMap::new();
        for ((why, thing), facts) in &self.things {
            of.entry(why).or_default().push((thing, facts));
        }
        if of.is_empty() {
            return;
        }
        out.push('\n');
        comment(out, 0, "Was done, and is not allowed by this policy:");
        for (why, mut things) in of {
            comment(out, 0, "");
            comment(
                out,
                0,
                &match why {
                    Why::Protected(rule) => format!("protected by the rule `{rule}` of the baseline:"),
                    Why::Refused(rule) => format!("refused when it happened, by the rule `{rule}`:"),
                    Why::Approved(rule) => {
                        format!("done only because somebody had approved of it, against the rule `{rule}`:")
                    }
                    Why::Unnameable => {
                        "no pattern stands for it and for nothing else that matters:".to_owned()
                    }
                },
            );
            things.sort_by_key(|(thing, facts)| (std::cmp::Reverse(facts.times), *thing));
            for (thing, facts) in things.iter().take(LINES_MAX) {
                let by: Vec<String> =
                    facts.programs.iter().take(3).map(|path| brief(&path_text(path))).collect();
                let by = if by.is_empty() {
                    "programs that are not surely known".to_owned()
                } else {
                    by.join(", ")
                };
                let text = format!(
                    "  {} {}: {} times, by {by}",
                    thing.kind().name(),
                    brief(&thing.text()),
                    facts.times
                );
                comment(out, 0, &text);
            }
            if let Some(more) = things.len().checked_sub(LINES_MAX).filter(|more| *more > 0) {
                comment(out, 0, &format!("  and {more} others"));
            }
        }
        if self.untold > 0 {
            comment(out, 0, &format!("and more, {} times", self.untold));
        }
    }
}
