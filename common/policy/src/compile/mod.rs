//! From a checked policy to the tables of `treeline_abi`.

mod ancestors;
mod connect;
mod exceptions;
mod hold;
mod layout;
mod lists;
mod pattern;
pub(crate) mod place;
mod tables;
mod tree;

use std::collections::{BTreeMap, BTreeSet};

use treeline_abi::paths::{self, ImageRules, Operation};
use treeline_event::{Mode, SELF_RULE};

pub use self::{
    exceptions::EXCEPTION_SETS_MAX,
    tables::{HashRules, RuleInfo, Tables, Usage},
};
use self::{
    exceptions::ExceptionSet,
    layout::{Full, Layout, Owner, WORD_BITS},
    pattern::Pattern,
    place::place,
};
use crate::{
    diagnostic::Diagnostics,
    glob::Glob,
    host::{Host, Resolver},
    policy::{Kind, Policy, Rule},
    source::Span,
};

/// Which tables are to be filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Seed of the name hash, random for each generation.
    pub seed: u64,
    /// Policy generation, from 1.
    pub generation: u64,
    /// Slot, below [`paths::SLOTS`].
    pub slot: u32,
}

/// Compiles a policy for a machine.
///
/// # Errors
/// What does not fit into the kernel's tables or has no place on this machine, by rule.
pub fn compile(
    policy: &Policy,
    host: &Host,
    resolver: &dyn Resolver,
    target: Target,
) -> Result<Tables, Diagnostics> {
    let mut out = Diagnostics::new(policy.source.clone());
    let sets = exceptions::sets(policy, &mut out);
    let patterns = patterns(policy, &sets, host, resolver, &mut out);
    let ancestors = ancestors::ancestors(policy, host, resolver, target, &mut out);
    let prefixes = connect::prefixes(policy, target.slot, &mut out);
    let abstracts = connect::abstracts(policy, &mut out);
    let hashes = hashes(policy, &sets, &mut out);
    let sizes = sizes(&patterns, policy);
    let layout = layout::lay_out(patterns, target.seed, target.slot);
    let layout = match layout {
        Ok(layout) if !out.has_errors() => layout,
        Ok(_) => return Err(out),
        Err(full) => {
            report_full(full, &sizes, policy, &mut out);
            return Err(out);
        }
    };
    let Layout { mut table, names, wilds, devices, accepts, edges, lists } = layout;
    table.generation = target.generation;
    table.judges_mappings = u32::from(policy.rules.iter().any(|rule| matches!(rule.kind, Kind::Exec { .. })));
    table.unresolved_rule =
        policy.rules.iter().position(decides_unresolved).map_or(0, |index| index as u32 + 1);
    table.enforcing = u32::from(policy.rules.iter().any(|rule| rule.mode == Mode::Enforce));
    let rules: Vec<_> =
        policy.rules.iter().enumerate().map(|(index, rule)| kernel_rule(index, rule, &sets)).collect();
    Ok(Tables {
        slot: target.slot,
        table,
        names,
        wilds,
        devices,
        accepts,
        ancestors,
        edges,
        lists,
        hold: hold::hold(policy, &rules),
        rules,
        prefixes4: prefixes.v4,
        prefixes6: prefixes.v6,
        abstracts,
        hashes,
        info: policy.rules.iter().map(rule_info).collect(),
        host: host.clone(),
    })
}

/// Whether a rule denies what cannot be resolved. The sensor's own does not: its files are not deep, and a policy that
/// only records must not refuse anything of others.
fn decides_unresolved(rule: &Rule) -> bool {
    rule.mode == Mode::Enforce && rule.id != SELF_RULE && matches!(rule.kind, Kind::File { .. })
}

fn kernel_rule(index: usize, rule: &Rule, sets: &[ExceptionSet]) -> paths::Rule {
    let operations = match &rule.kind {
        Kind::Connect { to, unix, .. } => {
            let by_address = if to.is_empty() { 0 } else { paths::Rule::BY_ADDRESS };
            let by_path = if unix.is_empty() { 0 } else { rule.kind.operations() };
            by_address | by_path
        }
        Kind::Trace => paths::Rule::TRACE,
        kind => kind.operations(),
    };
    paths::Rule {
        exceptions: sets
            .iter()
            .enumerate()
            .filter(|(_, set)| set.rules.contains(&index))
            .fold(0, |bits, (number, _)| bits | 1 << number),
        operations,
        enforce: u32::from(rule.mode == Mode::Enforce),
    }
}

fn rule_info(rule: &Rule) -> RuleInfo {
    RuleInfo {
        id: rule.id.clone(),
        reason: rule.reason.clone(),
        mode: rule.mode,
        severity: rule.severity,
        kind: rule.kind.name(),
        operations: rule.kind.operation_names(),
    }
}

/// The patterns of every rule and exception set.
fn patterns(
    policy: &Policy,
    sets: &[ExceptionSet],
    host: &Host,
    resolver: &dyn Resolver,
    out: &mut Diagnostics,
) -> Vec<(Owner, Pattern)> {
    let mut patterns = Vec::new();
    let mut add = |owner: Owner, id: &str, globs: Vec<(&Glob, Span)>| {
        let mut places = BTreeSet::new();
        for (glob, span) in globs {
            let found = place(glob, host, resolver);
            if found.is_empty() && !(glob.anchor == crate::glob::Anchor::Home && host.homes.is_empty()) {
                let help = Some("the mount table has no filesystem for it; is `/` mounted?".into());
                out.error(span, format!("`{glob}` of `{id}` is on no filesystem of this machine"), help);
            }
            if let Some(long) = found.iter().find(|placed| placed.components.len() >= WORD_BITS) {
                let message = format!(
                    "`{glob}` of `{id}` has {} components on this machine; at most {} can be matched",
                    long.components.len(),
                    WORD_BITS - 1
                );
                out.error(span, message, None);
                continue;
            }
            places.extend(found);
        }
        patterns.extend(pattern::merge(places).into_iter().map(|pattern| (owner, pattern)));
    };
    for (index, rule) in policy.rules.iter().enumerate() {
        let owner = Owner { operations: rule.kind.operations(), index: index as u32 };
        add(owner, &rule.id, rule.kind.globs().iter().map(|glob| (&glob.value, glob.span)).collect());
    }
    for (number, set) in sets.iter().enumerate() {
        let owner = Owner { operations: 1 << Operation::SUBJECT, index: number as u32 };
        let Some(rule) = set.rules.first().map(|index| &policy.rules[*index]) else { continue };
        let by_path = set.conditions.iter().filter(|condition| condition.sha256.is_none());
        let globs = by_path.filter_map(|condition| condition.executable.as_ref());
        add(owner, &rule.id, globs.map(|glob| (glob, rule.span)).collect());
    }
    patterns
}

/// What contents mean. The kernel's entry for a content holds one exec rule.
fn hashes(policy: &Policy, sets: &[ExceptionSet], out: &mut Diagnostics) -> Vec<HashRules> {
    let mut hashes: BTreeMap<([u8; 32], Option<Glob>), ImageRules> = BTreeMap::new();
    for (index, rule) in policy.rules.iter().enumerate() {
        let Kind::Exec { sha256, .. } = &rule.kind else { continue };
        for digest in sha256 {
            let entry = hashes.entry((digest.value, None)).or_default();
            if entry.exec_rule != paths::NO_RULE {
                let first = &policy.rules[entry.exec_rule as usize - 1].id;
                let message = format!("this content is in `{first}` as well as in `{}`", rule.id);
                out.error(
                    digest.span,
                    message,
                    Some("the kernel holds one rule per content; keep one".into()),
                );
            }
            entry.exec_rule = index as u32 + 1;
        }
    }
    for (number, set) in sets.iter().enumerate() {
        for condition in &set.conditions {
            if let Some(sha256) = condition.sha256 {
                hashes.entry((sha256, condition.executable.clone())).or_default().exceptions |= 1 << number;
            }
        }
    }
    let rules = hashes.into_iter();
    rules.map(|((sha256, executable), rules)| HashRules { sha256, executable, rules }).collect()
}

/// Positions that each rule takes.
fn sizes(patterns: &[(Owner, Pattern)], policy: &Policy) -> Vec<usize> {
    let mut sizes = vec![0; policy.rules.len()];
    for (owner, pattern) in patterns {
        if owner.operations != 1 << Operation::SUBJECT {
            sizes[owner.index as usize] += pattern.bits();
        }
    }
    sizes
}

fn report_full(full: Full, sizes: &[usize], policy: &Policy, out: &mut Diagnostics) {
    let largest = sizes.iter().enumerate().max_by_key(|(_, size)| **size);
    let Some((rule, size)) = largest.map(|(index, size)| (&policy.rules[index], size)) else { return };
    let message = format!("the policy does not fit into the kernel's tables: {}", full.describe());
    let help = format!(
        "`{}` takes the most, {size} positions; patterns of one rule that differ in one name only share theirs",
        rule.id
    );
    out.error(rule.span, message, Some(help));
}
