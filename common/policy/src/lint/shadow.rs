//! Rules that never decide, because of other ones.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Lints,
    cover::{Comparer, is_as_severe, outlives},
};
use crate::{
    code::Code,
    compile::is_lifted_by,
    diagnostic::Diagnostic,
    policy::{Policy, Rule},
    source::Span,
};

/// Of each rule, by index, those that match all that it matches and are as severe, whoever they are for.
pub(super) fn wider(policy: &Policy, comparer: &Comparer) -> Vec<Vec<usize>> {
    let rules = &policy.rules;
    let allowing = policy.allowing();
    let of = |rule: &Rule| {
        let is_wider = |wide: &&(usize, &Rule)| {
            let (_, wide) = wide;
            // The parts of one rule are not another one.
            wide.span != rule.span
                && !wide.allows
                && !rule.allows
                && is_lifted_no_further(&allowing, wide, rule)
                && is_as_severe(wide.mode, rule.mode)
                && outlives(wide, rule)
                && comparer.covers(&wide.kind, &rule.kind)
        };
        rules.iter().enumerate().filter(|wide| is_wider(&wide)).map(|(index, _)| index).collect()
    };
    rules.iter().map(of).collect()
}

/// Whether nothing lifts a rule for its objects that does not lift another one: what it spares, the other one spares, and what
/// allows against it does against the other.
pub(super) fn is_lifted_no_further(allowing: &[(usize, &Rule)], wide: &Rule, rule: &Rule) -> bool {
    let texts = |rule: &Rule| {
        let paths = rule.spares.paths.iter().map(|glob| glob.value.to_string());
        paths.chain(rule.spares.abstracts.iter().map(|glob| glob.value.to_string())).collect::<BTreeSet<_>>()
    };
    let spares_no_more = wide.spares.is_empty() || texts(wide).is_subset(&texts(rule));
    let allows_no_more = |allows: &Rule| !is_lifted_by(wide, allows) || is_lifted_by(rule, allows);
    spares_no_more && allowing.iter().all(|(_, allows)| allows_no_more(allows))
}

/// Why a rule never decides.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    /// The other one refuses what this one records; it matches the same, or more.
    Refused { alike: bool },
    /// The other one does the same, and is named for it.
    Named,
}

/// Warns of the rules that never decide. Returns where their ids are written.
pub(super) fn look(lints: &mut Lints<'_>, comparer: &Comparer, wider: &[Vec<usize>]) -> BTreeSet<Span> {
    let rules = &lints.policy().rules;
    let mut written: BTreeMap<Span, Vec<usize>> = BTreeMap::new();
    for (index, rule) in rules.iter().enumerate() {
        written.entry(rule.span).or_default().push(index);
    }
    let mut shadowed = BTreeSet::new();
    for parts in written.into_values() {
        let by = |index: &usize| {
            let others = wider[*index].iter();
            let found = others.filter_map(|other| {
                Some((*other, why([&rules[*index], &rules[*other]], other < index, comparer)?))
            });
            // What refuses it is what decides, whatever else would be named if nothing did.
            found.min_by_key(|(_, why)| match why {
                Why::Refused { alike } => usize::from(!alike),
                Why::Named => 2,
            })
        };
        let parts_of = |rule: &Rule| rules.iter().filter(|part| part.span == rule.span).count();
        // A rule about brokers is of use while one of its parts is.
        let Some(by) = parts.iter().map(by).collect::<Option<Vec<_>>>() else { continue };
        let (Some(first), Some((other, why))) = (parts.first(), by.first()) else { continue };
        // The parts of the one are all of the other one's, or they are not the same.
        let is_whole = parts_of(&rules[*other]) == parts.len();
        let why =
            if *why == (Why::Refused { alike: true }) { Why::Refused { alike: is_whole } } else { *why };
        let finding = finding(&rules[*first], &rules[*other], why);
        let mut places: Vec<Span> = by.iter().map(|(other, _)| rules[*other].span).collect();
        places.sort_unstable();
        places.dedup();
        let label = match why {
            Why::Refused { .. } => "refused by this rule",
            Why::Named => "this rule is named for it",
        };
        let finding = places.into_iter().fold(finding, |finding, place| finding.label(place, label));
        lints.report(&rules[*first], finding);
        shadowed.insert(rules[*first].span);
    }
    shadowed
}

/// Why one rule never decides because of another one that matches all that it matches, and that is named before it or not.
fn why([rule, wide]: [&Rule; 2], is_before: bool, comparer: &Comparer) -> Option<Why> {
    let is_for_all = comparer.holds_for_all_of(wide, rule) && comparer.keeps_in_reach(wide, rule);
    if !is_for_all {
        return None;
    }
    if wide.mode != rule.mode {
        let alike = comparer.covers(&rule.kind, &wide.kind) && comparer.holds_for_all_of(rule, wide);
        return Some(Why::Refused { alike });
    }
    // Of rules in one mode the first is named, and one that is not named can still adopt.
    (is_before && rule.adopts.is_none()).then_some(Why::Named)
}

fn finding(rule: &Rule, other: &Rule, why: Why) -> Diagnostic {
    let (id, other) = (rule.written_id(), other.written_id());
    match why {
        Why::Refused { alike: true } => Diagnostic::warning(
            Code::Contradictory,
            rule.span,
            format!("`{id}` is to record what `{other}` refuses, of the same things: it never decides"),
        )
        .help(format!("remove `{id}` if it has been tried out, or `{other}` if it has not")),
        Why::Refused { alike: false } => Diagnostic::warning(
            Code::Shadowed,
            rule.span,
            format!("`{id}` never decides: `{other}` refuses all that it would record"),
        )
        .help(format!("remove `{id}`, or take what it matches out of `{other}`")),
        Why::Named => Diagnostic::warning(
            Code::Shadowed,
            rule.span,
            format!("`{id}` never decides: `{other}` matches all of it, and is named before it"),
        )
        .help(format!(
            "remove `{id}`; if its reason is to be shown, give it a higher `priority`, or an id that sorts before `{other}`"
        )),
    }
}
