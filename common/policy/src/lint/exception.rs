//! Exceptions that take everything out of their rule, or nothing.

use std::collections::BTreeSet;

use super::{
    Lints,
    addresses::Addresses,
    cover::{excludes, item_covers},
};
use crate::{
    abstract_name::AbstractGlob,
    code::Code,
    diagnostic::Diagnostic,
    explain::describe,
    glob::{Anchor, Component, Glob},
    policy::{Kind, Rule, Spared, SubjectItem},
    source::{Span, Spanned},
};

/// Warns of exceptions that are as wide as their rule or a part of it, and of those that change nothing. `wider` are, of each
/// rule, those that match all that it matches; of one that is `shadowed` no exception changes anything.
pub(super) fn look(lints: &mut Lints<'_>, wider: &[Vec<usize>], shadowed: &BTreeSet<Span>) {
    let rules = &lints.policy().rules;
    for (index, rule) in rules.iter().enumerate() {
        // The parts of a rule about brokers have one list of exceptions.
        if index > 0 && rules[index - 1].span == rule.span {
            continue;
        }
        of_subjects(lints, rule);
        of_objects(lints, rule);
        if let Some(addresses) = Addresses::of(&rule.kind) {
            of_addresses(lints, rule, addresses);
        }
        let can_change = !rule.id.contains('/') && !shadowed.contains(&rule.span);
        for item in rule.exceptions.iter().filter(|_| can_change) {
            let voids = |other: &&Rule| is_void(item, other);
            if let Some(other) = wider[index].iter().map(|other| &rules[*other]).find(voids) {
                lints.report(rule, void(rule, item, other));
            }
        }
    }
}

/// Whether an exception is for every program, wherever it is.
fn is_for_everybody(lifts: &SubjectItem) -> bool {
    let anywhere = Glob { anchor: Anchor::Root, components: vec![Component::Any, Component::Globstar] };
    let is_by_path_only =
        lifts.own.sha256.is_none() && lifts.descendant_of.is_none() && lifts.session.is_none();
    is_by_path_only && lifts.own.path.as_ref().is_some_and(|path| path.covers(&anywhere))
}

/// Items of `only` for which an exception lifts the rule.
fn of_subjects(lints: &mut Lints<'_>, rule: &Rule) {
    let lifting = |item: &SubjectItem| rule.exceptions.iter().find(|lifts| item_covers(lifts, item));
    let lifted: Vec<(Span, Span, String)> =
        rule.only.iter().filter_map(|item| Some((item.span, lifting(item)?.span, describe(item)))).collect();
    let id = rule.written_id();
    if lifted.is_empty() {
        let for_everybody = rule.exceptions.iter().filter(|_| rule.only.is_empty());
        if let Some(lifts) = for_everybody.into_iter().find(|lifts| is_for_everybody(lifts)) {
            let message =
                format!("`{id}` is lifted for everybody: every program is at `{}`", describe(lifts));
            let finding = Diagnostic::warning(Code::Unreachable, rule.span, message)
                .help("name the programs that have the need, or remove the rule");
            lints.report(rule, finding.label(lifts.span, "lifts it"));
        }
        return;
    }
    if lifted.len() == rule.only.len() {
        let message =
            format!("`{id}` is lifted for everybody that it is for: every item of `only` is in `except`");
        let finding = Diagnostic::warning(Code::Unreachable, rule.span, message).help(match rule.allows {
            true => "narrow `except`, or remove the rule; it allows nobody anything",
            false => "narrow `except`, or remove the rule; it is left for those of whom it cannot be told",
        });
        lints.report(rule, label(finding, lifted.iter().map(|(_, by, _)| *by), "lifts it"));
        return;
    }
    for (span, by, item) in lifted {
        let message = format!("`{id}` is for `{item}`, and is lifted for the same");
        let finding = Diagnostic::warning(Code::ExceptedItem, span, message)
            .help("remove the item, or narrow the exception")
            .label(by, "lifted here");
        lints.report(rule, finding);
    }
}

/// Patterns of `except_paths` and `except_unix` that leave nothing of the rule, and those that take nothing out.
fn of_objects(lints: &mut Lints<'_>, rule: &Rule) {
    let Spared { paths, abstracts } = &rule.spares;
    let own = rule.kind.globs();
    let (names, has_more): (&[Spanned<AbstractGlob>], bool) = match &rule.kind {
        Kind::Connect { abstracts, to, .. } => (abstracts, !to.is_empty()),
        Kind::Exec { sha256, .. } => (&[], !sha256.is_empty()),
        _ => (&[], false),
    };
    let id = rule.written_id();
    let is_out = |glob: &Spanned<Glob>| paths.iter().any(|out| out.value.covers(&glob.value));
    let is_named_out =
        |name: &Spanned<AbstractGlob>| abstracts.iter().any(|out| out.value.covers(&name.value));
    if !rule.spares.is_empty() && !has_more && own.iter().all(is_out) && names.iter().all(is_named_out) {
        let finding = Diagnostic::warning(
            Code::Unreachable,
            rule.span,
            format!("its exceptions leave nothing of `{id}`: each of its patterns is in one of them"),
        );
        let places = paths.iter().map(|out| out.span).chain(abstracts.iter().map(|out| out.span));
        lints.report(
            rule,
            label(finding.help("narrow them, or remove the rule"), places, "taken out by this"),
        );
        return;
    }
    for out in paths.iter().filter(|out| own.iter().all(|glob| glob.value.excludes(&out.value))) {
        let message =
            format!("`{}` takes nothing out of `{id}`: no pattern of it is about such paths", out.value);
        let finding = Diagnostic::warning(Code::IdleException, out.span, message);
        lints.report(rule, finding.help("remove it, or add to the rule what it was meant for"));
    }
}

/// Blocks of `to` that `except_to` takes out, and items of `except_to` that take nothing out.
fn of_addresses(lints: &mut Lints<'_>, rule: &Rule, addresses: Addresses<'_>) {
    let id = rule.written_id();
    let out: Vec<_> =
        addresses.to.iter().filter_map(|net| Some((net, addresses.taking_out(net.value)?))).collect();
    let has_sockets = matches!(&rule.kind, Kind::Connect { unix, abstracts, .. } if !unix.is_empty() || !abstracts.is_empty());
    if out.len() == addresses.to.len() && !has_sockets {
        let message =
            format!("`except_to` leaves nothing of `{id}` but sockets that do not say where they lead");
        let finding = Diagnostic::warning(Code::Unreachable, rule.span, message)
            .help("narrow `except_to`, or remove the rule");
        let places = out.iter().flat_map(|(_, by)| by.iter().map(|item| item.span));
        lints.report(rule, label(finding, places, "taken out by this"));
    } else {
        for (net, by) in out {
            let message = format!("`except_to` takes the whole of `{}` out of `{id}`", net.value);
            let finding = Diagnostic::warning(Code::ExceptedItem, net.span, message)
                .help("remove it from `to`, or narrow the exception");
            lints.report(rule, label(finding, by.iter().map(|item| item.span), "taken out by this"));
        }
    }
    for except in addresses.except.iter().filter(|except| !addresses.meets(except)) {
        let Some(first) = except.to.first() else { continue };
        let message = format!("this takes nothing out of `{id}`: none of it is in `to` and `ports`");
        let finding = Diagnostic::warning(Code::IdleException, first.span, message)
            .help("remove it, or add to `to` what it was meant for");
        lints.report(rule, finding);
    }
}

/// Whether a rule refuses all the same what an exception of another one, of which it matches everything, lifts.
fn is_void(item: &SubjectItem, other: &Rule) -> bool {
    let is_asked = other.only.is_empty() || other.only.iter().any(|wide| item_covers(wide, item));
    is_asked && other.exceptions.iter().all(|lifts| excludes(lifts, item))
}

fn void(rule: &Rule, item: &SubjectItem, other: &Rule) -> Diagnostic {
    let (id, other_id) = (rule.written_id(), other.written_id());
    let message = format!(
        "`{id}` is lifted for `{}`, and `{other_id}` matches all of it for the same: nothing becomes allowed",
        describe(item)
    );
    Diagnostic::warning(Code::IdleException, item.span, message)
        .help(format!(
            "an exception lifts its own rule only: except it in `{other_id}` as well, or remove it here"
        ))
        .label(other.span, "not lifted here")
}

fn label(finding: Diagnostic, places: impl Iterator<Item = Span>, text: &str) -> Diagnostic {
    let mut places: Vec<Span> = places.collect();
    places.sort_unstable();
    places.dedup();
    places.into_iter().fold(finding, |finding, place| finding.label(place, text))
}
