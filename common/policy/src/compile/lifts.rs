//! What takes rules away: the exceptions of a rule by path or name, and rules that allow.

use treeline_abi::lift::{LIFTS_MAX, Lift};

use super::subjects::SubjectSets;
use crate::{
    code::Code,
    diagnostic::Diagnostics,
    policy::{Kind, Policy, Rule},
};

/// The lifts of a policy, in the order of the rules that they come of.
#[derive(Debug, Default)]
pub(super) struct Lifts {
    found: Vec<(usize, Lift)>,
}

impl Lifts {
    /// Reports when there are too many.
    pub(super) fn of(policy: &Policy, sets: &SubjectSets, out: &mut Diagnostics) -> Self {
        let rules = policy.rules.iter().enumerate().filter(|(_, rule)| !rule.kind.is_for_the_sensor());
        let mut found = Vec::new();
        for (index, rule) in rules {
            let mut lift = Lift { operations: rule.kind.operations(), ..Lift::default() };
            if rule.allows {
                for (other, _) in
                    policy.rules.iter().enumerate().filter(|(_, other)| is_lifted_by(other, rule))
                {
                    add(&mut lift, other);
                }
                (lift.except, lift.only) = sets.of_rule(index);
            } else if !rule.spares.is_empty() {
                add(&mut lift, index);
            }
            if lift.rules.iter().any(|word| *word != 0) {
                found.push((index, lift));
            }
        }
        if let Some((index, _)) = found.get(LIFTS_MAX as usize) {
            let rule = &policy.rules[*index];
            let message = format!(
                "`{}` is one more rule that allows, or that has exceptions by path, than the {LIFTS_MAX} that fit",
                rule.id
            );
            let help =
                "merge rules that allow the same subjects, or rules with the same exceptions".to_owned();
            out.error(Code::NoRoom, rule.span, message, Some(help));
            found.truncate(LIFTS_MAX as usize);
        }
        Self { found }
    }

    /// What stands in the place of a rule's index for the lift that comes of a rule.
    pub(super) fn index(&self, rule: usize) -> Option<u32> {
        let at = self.found.binary_search_by_key(&rule, |(index, _)| *index).ok()?;
        Some(self.found[at].1.index(at as u32))
    }

    /// Whether a lift takes a rule away.
    pub(super) fn may_lift(&self, rule: usize) -> bool {
        self.found.iter().any(|(_, lift)| lift.rules[rule / 64] >> (rule % 64) & 1 != 0)
    }

    /// The table.
    pub(super) fn into_table(self) -> Vec<Lift> {
        self.found.into_iter().map(|(_, lift)| lift).collect()
    }
}

/// Whether a rule that allows takes a rule away, where both mean the same object.
pub(crate) fn is_lifted_by(rule: &Rule, allows: &Rule) -> bool {
    let is_same = std::mem::discriminant::<Kind>(&rule.kind) == std::mem::discriminant(&allows.kind);
    // Those about calls have none, and are about all of them.
    let [own, allowed] = [rule, allows].map(|rule| rule.kind.operations());
    let meets = own & allowed != 0 || rule.kind.is_for_the_sensor();
    is_same && meets && rule.yields_to(allows)
}

fn add(lift: &mut Lift, rule: usize) {
    lift.rules[rule / 64] |= 1 << (rule % 64);
}
