//! Several policies that hold together: of an organisation, of teams, and of the machine.
//!
//! All their rules hold. What one allows, it allows against rules of its own level and of those below; against a rule of a level
//! above only where that rule says so (`loosened_by`): see [`Rule::yields_to`]. What is local can only refuse and record, so that
//! adding it never gives a smaller verdict. In what order they come makes no difference.

use std::{cmp::Reverse, collections::BTreeMap};

use crate::{
    code::Code,
    diagnostic::{Diagnostic, Diagnostics},
    moved::Move as _,
    policy::{DEFAULT_PRIORITY, Level, Policy, Rule},
    source::{Full, Moved, Sources, Span},
    syntax::policy_shape::RULES_MAX,
};

/// The rules of all policies as one policy, with the name, the revision and what else the first one of the highest level says of
/// itself. Ids of rules are unique in all of them; a default of a lower level has the name of its policy behind its id.
///
/// # Errors
/// What one of them cannot have at its level, names and ids that two of them have, and more texts or rules than a policy has; none
/// at all is an error, too.
pub fn compose(mut policies: Vec<(Level, Policy)>) -> Result<Policy, Diagnostics> {
    policies.sort_by(|(left_level, left), (right_level, right)| {
        (Reverse(left_level), &left.name).cmp(&(Reverse(right_level), &right.name))
    });
    let (sources, moves, full) = gather(&policies);
    let mut out = Diagnostics::new(sources);
    if let Some((name, full)) = full {
        let (code, help) = match full {
            Full::Files => (Code::TooManyFiles, "merge some of them"),
            Full::Bytes { .. } => (Code::TooLong, "write fewer rules"),
        };
        let message = format!("`{name}` cannot be added to the other policies: {full}");
        out.error(code, Span::default(), message, Some(help.to_owned()));
        return Err(out);
    }
    let mut policies = policies.into_iter().zip(moves);
    let Some(((level, mut whole), _)) = policies.next() else {
        out.error(Code::EmptyPolicy, Span::default(), "there is no policy", Some("name one".to_owned()));
        return Err(out);
    };
    let mut names = BTreeMap::from([(whole.name.clone(), Span::default())]);
    whole.rules.iter_mut().for_each(|rule| place(rule, level, &mut out));
    let mut warnings = std::mem::replace(&mut whole.warnings, Diagnostics::new(Sources::default()))
        .among(out.sources().clone());
    for ((level, policy), by) in policies {
        let head = Span::default().moved(by);
        refuse_name(&mut names, &policy, head, &mut out);
        whole.silences.extend(policy.silences.into_iter().map(|(file, mut silences)| {
            silences.shift(by);
            (file.moved(by), silences)
        }));
        whole.approvals.extend(policy.approvals.into_iter().map(|mut approval| {
            approval.shift(by);
            approval
        }));
        whole.rules.extend(policy.rules.into_iter().map(|mut rule| {
            rule.shift(by);
            place(&mut rule, level, &mut out);
            rule
        }));
        warnings.extend(policy.warnings, by);
    }
    whole.rules.sort_by(|left, right| left.place().cmp(&right.place()));
    refuse_ids(&whole.rules, &mut out);
    refuse_more(&whole.rules, &mut out);
    if out.has_errors() {
        return Err(out);
    }
    Ok(Policy { sources: out.sources().clone(), warnings, ..whole })
}

/// All texts, by how much the numbers of each policy's become other ones, and the file that found no room.
fn gather(policies: &[(Level, Policy)]) -> (Sources, Vec<Moved>, Option<(String, Full)>) {
    let mut all = policies.first().map_or_else(Sources::default, |(_, first)| first.sources.clone());
    let mut moves = vec![Moved::default()];
    for (_, policy) in policies.iter().skip(1) {
        match all.extend(&policy.sources) {
            Ok(moved) => moves.push(moved),
            Err(full) => return (all, moves, Some((policy.sources.first().name().to_owned(), full))),
        }
    }
    (all, moves, None)
}

/// Puts a rule on its level.
fn place(rule: &mut Rule, level: Level, out: &mut Diagnostics) {
    rule.level = level;
    if rule.priority == DEFAULT_PRIORITY && level != Level::Organisation {
        rule.id = format!("{}/{}", rule.id, rule.policy);
    }
    let only_loosens = [(rule.allows, "allows"), (rule.adopts.is_some(), "adopts")];
    if level == Level::Local
        && let Some((_, what)) = only_loosens.into_iter().find(|(does, _)| *does)
    {
        let message = format!("`{}` {what}, and a local policy only refuses and records", rule.written_id());
        let help = "put it into the policy of a team or of the organisation, or take it out".to_owned();
        out.error(Code::WrongLevel, rule.span, message, Some(help));
    }
    // The parts of a rule about brokers say it once.
    let named = rule.loosened_by.iter().find(|named| named.value >= level);
    if let Some(named) = named.filter(|named| !out.items().iter().any(|item| item.span == named.span)) {
        let (named_level, own) = (named.value.name(), level.name());
        let message = format!("`{named_level}` is not below `{own}`, the level of this policy");
        let help =
            "remove `loosened_by`: rules of a policy's own level and of those above allow against it anyway";
        out.error(Code::WrongLevel, named.span, message, Some(help.to_owned()));
    }
}

fn refuse_name(names: &mut BTreeMap<String, Span>, policy: &Policy, head: Span, out: &mut Diagnostics) {
    let Some(first) = names.get(&policy.name) else {
        names.insert(policy.name.clone(), head);
        return;
    };
    let message = format!("`{}` is the name of two policies", policy.name);
    let twice = Diagnostic::error(Code::DuplicatePolicy, head, message);
    out.push(
        twice
            .help("give each a name of its own; it is in every denial")
            .label(*first, "the first one is here"),
    );
}

/// Ids are compared as they were written: the parts of a rule about brokers are one rule.
fn refuse_ids(rules: &[Rule], out: &mut Diagnostics) {
    let mut written: BTreeMap<&str, Span> = BTreeMap::new();
    let is_default = |rule: &&Rule| rule.priority == DEFAULT_PRIORITY;
    for rule in rules.iter().filter(|rule| !is_default(rule)) {
        let id = rule.written_id();
        let first = *written.entry(id).or_insert(rule.span);
        let [first, second] = if first < rule.span { [first, rule.span] } else { [rule.span, first] };
        if first == second || out.items().iter().any(|item| item.span == second) {
            continue;
        }
        let twice = Diagnostic::error(
            Code::DuplicateId,
            second,
            format!("`{id}` is the id of rules in two policies"),
        );
        out.push(twice.help("ids are unique in all of them").label(first, "the first one is here"));
    }
}

fn refuse_more(rules: &[Rule], out: &mut Diagnostics) {
    if rules.len() > RULES_MAX {
        let message = format!("{} rules in all policies together", rules.len());
        let help = format!("together they have at most {RULES_MAX}: merge rules that share a reason");
        out.error(Code::TooManyRules, Span::default(), message, Some(help));
    }
}
