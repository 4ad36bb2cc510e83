//! Where a file rule is lifted, as far as renames of directories matter.
//!
//! Who moves `/a/x/y` to `/a/open/y` takes what is below it into the reach of an exception for `/a/open/**`. A rule that judges
//! renames itself refuses that: each directory with something in it that is protected is protected, too, if the rule is about
//! whole trees, and about whole trees its exceptions. Where it is not so, the places of exceptions are watched as those of the
//! rule are: see `ancestors` and `ways`.

use super::{
    lifts::is_lifted_by,
    place::{Placed, Places, Where},
};
use crate::{
    glob::{Component, differ},
    policy::{FileOperation, Kind, Policy, Rule},
};

/// Of each rule, by index, the places at which it is lifted, by exceptions of its own or by rules that allow, and that have to be
/// watched.
pub(super) fn watched<'p>(policy: &Policy, places: &'p Places) -> Vec<Vec<&'p Placed>> {
    let allowing = policy.allowing();
    (0..policy.rules.len()).map(|index| watched_of(policy, &allowing, places, index)).collect()
}

fn watched_of<'p>(
    policy: &Policy,
    allowing: &[(usize, &Rule)],
    places: &'p Places,
    index: usize,
) -> Vec<&'p Placed> {
    let rule = &policy.rules[index];
    let Kind::File { .. } = rule.kind else { return Vec::new() };
    let allowed: Vec<_> = allowing.iter().filter(|(_, allows)| is_lifted_by(rule, allows)).collect();
    let spared = places.spared_by(index).iter().flatten();
    let own: Vec<&Placed> = places.of_rule(index).iter().flatten().collect();
    let renamed = allowed.iter().filter(|(_, allows)| renames(allows));
    let renamed = renamed.flat_map(|(at, _)| places.of_rule(*at)).flatten().chain(spared.clone());
    let judges_itself = judges_renames(rule)
        && own.iter().all(|placed| is_literal_tree(placed))
        && renamed.clone().all(|placed| placed.components.last() == Some(&Component::Globstar));
    if judges_itself {
        return Vec::new();
    }
    // What is nowhere in the rule's reach takes nothing out of it.
    let meets = |placed: &&Placed| own.iter().any(|own| may_meet(own, placed));
    spared.chain(allowed.iter().flat_map(|(at, _)| places.of_rule(*at)).flatten()).filter(meets).collect()
}

/// Whether a rule decides about renames, whoever asks for them: what one moves, all others find elsewhere.
pub(super) fn judges_renames(rule: &Rule) -> bool {
    rule.exceptions.is_empty() && rule.only.is_empty() && renames(rule)
}

fn renames(rule: &Rule) -> bool {
    let Kind::File { operations, .. } = rule.kind else { return false };
    operations.contains(FileOperation::Rename)
}

fn may_meet(one: &Placed, other: &Placed) -> bool {
    let is_elsewhere = match (&one.on, &other.on) {
        (Where::Device(one), Where::Device(other)) => one != other,
        _ => false,
    };
    !is_elsewhere && !differ(&one.components, &other.components)
}

/// A directory that is spelt out, and everything below it.
fn is_literal_tree(placed: &Placed) -> bool {
    matches!(placed.components.split_last(), Some((Component::Globstar, names))
        if names.iter().all(|name| matches!(name, Component::Literal(_))))
}
