//! From a checked policy to the tables of `treeline_abi`.

mod ancestors;
mod connect;
pub mod cost;
mod hold;
mod layout;
mod lifts;
mod lists;
mod maps;
mod pattern;
pub(crate) mod place;
mod spared;
mod subjects;
mod tables;
mod tree;
mod ways;

use std::collections::{BTreeMap, BTreeSet};

use treeline_abi::{
    lift::LIFT,
    paths::{self, ImageRules, Operation},
    subject::Subjects,
};
use treeline_event::Mode;

pub(crate) use self::lifts::is_lifted_by;
pub use self::maps::MapUse;
pub use self::tables::{HashRules, LineageReader, RuleInfo, SessionSets, Tables, Usage};
use self::{
    layout::{Full, Layout, Owner, WORD_BITS},
    lifts::Lifts,
    pattern::Pattern,
    place::{Placed, Places, place},
    subjects::SubjectSets,
};
use crate::{
    code::Code,
    diagnostic::{Diagnostic, Diagnostics},
    glob::Glob,
    host::{Host, Resolver},
    policy::{Adoption, Kind, Policy, Rule},
    source::{Span, Spanned},
};

/// In the order of the numbers of [`treeline_abi::record::Link`].
const ADOPTIONS: [Adoption; 3] = [Adoption::Connection, Adoption::Job, Adoption::Trace];

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

/// What was in force before, as far as labels still speak of it.
#[derive(Clone, Copy, Debug)]
pub struct Before<'t> {
    /// The numbers of the conditions on lineage.
    pub subjects: &'t Subjects,
    /// The moment, nanoseconds since the machine started; more than any number in `subjects` was given at.
    pub now_ns: u64,
}

/// Compiles a policy for a machine on which none was in force.
///
/// # Errors
/// What does not fit into the kernel's tables or has no place on this machine, by rule.
pub fn compile(
    policy: &Policy,
    host: &Host,
    resolver: &dyn Resolver,
    target: Target,
) -> Result<Tables, Diagnostics> {
    compile_after(policy, host, resolver, target, Before { subjects: &Subjects::NONE, now_ns: 1 })
}

/// Compiles a policy that comes after another: conditions on lineage that both have keep their numbers.
///
/// # Errors
/// As [`compile`].
pub fn compile_after(
    policy: &Policy,
    host: &Host,
    resolver: &dyn Resolver,
    target: Target,
    before: Before<'_>,
) -> Result<Tables, Diagnostics> {
    let mut out = Diagnostics::new(policy.sources.clone());
    let sets = SubjectSets::of(policy, before.subjects, &mut out);
    let lifts = Lifts::of(policy, &sets, &mut out);
    let places = Places::of(policy, host, resolver);
    let patterns = patterns(policy, (&sets, &lifts), &places, (host, resolver), &mut out);
    let watched = spared::watched(policy, &places);
    let ancestors = ancestors::ancestors(policy, &places, &watched, target, &mut out);
    let prefixes = connect::prefixes(policy, &lifts, target.slot, &mut out);
    let abstracts = connect::abstracts(policy, &lifts, &mut out);
    let hashes = hashes(policy, &sets, &mut out);
    let sizes = sizes(&patterns, policy);
    let ways = ways::ways(policy, &places, &watched);
    let layout = match layout::lay_out(patterns, &ways, target.seed, target.slot) {
        Ok(layout) if !out.has_errors() => layout,
        Ok(_) => return Err(out),
        Err(full) => {
            report_full(full, &sizes, policy, &mut out);
            return Err(out);
        }
    };
    let Layout { mut table, names, wilds, devices, accepts, edges, lists, left_out } = layout;
    table.generation = target.generation;
    table.subjects = sets.table(before.subjects, before.now_ns);
    table.judges_mappings = u32::from(policy.rules.iter().any(|rule| matches!(rule.kind, Kind::Exec { .. })));
    let number = |index: Option<usize>| index.map_or(0, |index| index as u32 + 1);
    let unresolved = |operation| number(policy.unresolved_rule(operation));
    table.unresolved_files = unresolved(Operation::READ);
    table.unresolved_exec = unresolved(Operation::EXEC);
    table.unresolved_connect = unresolved(Operation::CONNECT);
    table.foreign_ring = number(policy.ring_rule());
    table.adopts = ADOPTIONS.map(|link| {
        policy.rules.iter().position(|rule| rule.adopts == Some(link)).map_or(0, |index| index as u32 + 1)
    });
    table.enforcing = u32::from(policy.rules.iter().any(refuses));
    let rules: Vec<_> =
        policy.rules.iter().enumerate().map(|rule| kernel_rule(rule, &sets, &lifts)).collect();
    let sessions = SessionSets { unknown: table.subjects.of_unknown_session(), asked: sets.sessions() };
    Ok(Tables {
        slot: target.slot,
        table,
        names,
        wilds,
        devices,
        accepts,
        ancestors,
        ways_left_out: left_out,
        lifts_left_out: places.left_out,
        edges,
        lists,
        hold: hold::hold(policy, &rules),
        rules,
        lifts: lifts.into_table(),
        prefixes4: prefixes.v4,
        prefixes6: prefixes.v6,
        abstracts,
        hashes,
        lineage: sets.lineage(),
        sessions,
        info: policy.rules.iter().map(rule_info).collect(),
        host: host.clone(),
    })
}

/// Whether a rule refuses anything that the kernel sees. What cannot be followed must not get away either.
fn refuses(rule: &Rule) -> bool {
    (rule.mode == Mode::Enforce || rule.adopts.is_some()) && !rule.kind.is_for_the_sensor()
}

fn kernel_rule((index, rule): (usize, &Rule), sets: &SubjectSets, lifts: &Lifts) -> paths::Rule {
    if rule.allows {
        return paths::Rule::default();
    }
    let operations = match &rule.kind {
        Kind::Connect { to, unix, .. } => {
            let by_address = if to.is_empty() { 0 } else { paths::Rule::BY_ADDRESS };
            let by_path = if unix.is_empty() { 0 } else { rule.kind.operations() };
            by_address | by_path
        }
        Kind::Trace => paths::Rule::TRACE,
        kind => kind.operations(),
    };
    let (exceptions, only) = sets.of_rule(index);
    let liftable = if lifts.may_lift(index) { paths::Rule::LIFTABLE } else { 0 };
    let is_anywhere = rule.kind.globs().iter().any(|glob| glob.value.is_everywhere());
    let anywhere = if is_anywhere { paths::Rule::ANYWHERE } else { 0 };
    let enforce = u32::from(rule.mode == Mode::Enforce) | liftable | anywhere;
    paths::Rule { exceptions, only, operations, enforce }
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

/// The patterns of every rule, lift and subject set.
fn patterns<'p>(
    policy: &'p Policy,
    (sets, lifts): (&SubjectSets, &Lifts),
    places: &Places,
    (host, resolver): (&Host, &dyn Resolver),
    out: &mut Diagnostics,
) -> Vec<(Owner, Pattern)> {
    let mut patterns = Vec::new();
    let mut add = |owner: Owner, lifts: bool, id: &str, globs: Vec<(&Glob, Span, BTreeSet<Placed>)>| {
        let mut places = BTreeSet::new();
        for (glob, span, found) in globs {
            // Of what takes rules away, the places say themselves what is left out.
            if found.is_empty()
                && !lifts
                && !(glob.anchor == crate::glob::Anchor::Home && host.homes.is_empty())
            {
                let help = Some("the mount table has no filesystem for it; is `/` mounted?".into());
                out.error(
                    Code::NoFilesystem,
                    span,
                    format!("`{glob}` of `{id}` is on no filesystem of this machine"),
                    help,
                );
            }
            if let Some(long) = found.iter().find(|placed| placed.components.len() >= WORD_BITS) {
                let message = format!(
                    "`{glob}` of `{id}` has {} components on this machine; at most {} can be matched",
                    long.components.len(),
                    WORD_BITS - 1
                );
                out.error(Code::TooDeep, span, message, None);
                continue;
            }
            places.extend(found);
        }
        patterns.extend(pattern::merge(places).into_iter().map(|pattern| (owner, pattern)));
    };
    for (index, rule) in policy.rules.iter().enumerate() {
        let lift = lifts.index(index);
        let mut own = |index: u32, globs: &'p [Spanned<Glob>], found: &[BTreeSet<Placed>]| {
            let owner = Owner { operations: rule.kind.operations(), index };
            let globs = globs.iter().zip(found);
            add(
                owner,
                index & LIFT != 0,
                &rule.id,
                globs.map(|(glob, found)| (&glob.value, glob.span, found.clone())).collect(),
            );
        };
        match (rule.allows, lift) {
            (false, _) => own(index as u32, rule.kind.globs(), places.of_rule(index)),
            (true, Some(lift)) => own(lift, rule.kind.globs(), places.of_rule(index)),
            // It allows against nothing.
            (true, None) => {}
        }
        if let (false, Some(lift)) = (rule.allows, lift) {
            own(lift, &rule.spares.paths, places.spared_by(index));
        }
    }
    for (owner, index, globs) in sets.patterns() {
        let rule = &policy.rules[index];
        let found = |glob| (glob, rule.span, place(glob, host, resolver));
        add(owner, false, &rule.id, globs.into_iter().map(found).collect());
    }
    patterns
}

/// What contents mean. The kernel's entry for a content holds one exec rule.
fn hashes(policy: &Policy, sets: &SubjectSets, out: &mut Diagnostics) -> Vec<HashRules> {
    let mut hashes: BTreeMap<([u8; 32], Option<Glob>), ImageRules> = BTreeMap::new();
    let mut places: BTreeMap<[u8; 32], Span> = BTreeMap::new();
    for (index, rule) in policy.rules.iter().enumerate() {
        let Kind::Exec { sha256, .. } = &rule.kind else { continue };
        for digest in sha256 {
            let entry = hashes.entry((digest.value, None)).or_default();
            if entry.exec_rule != paths::NO_RULE {
                let first = &policy.rules[entry.exec_rule as usize - 1].id;
                let message = format!("this content is in `{first}` as well as in `{}`", rule.id);
                let mut twice = Diagnostic::error(Code::DuplicateContent, digest.span, message)
                    .help("the kernel holds one rule per content; keep one");
                if let Some(place) = places.get(&digest.value) {
                    twice = twice.label(*place, format!("`{first}` has it here"));
                }
                out.push(twice);
            }
            entry.exec_rule = index as u32 + 1;
            places.insert(digest.value, digest.span);
        }
    }
    for (executable, means) in sets.contents() {
        if let Some(sha256) = executable.sha256 {
            let entry = hashes.entry((sha256, executable.path.clone())).or_default();
            entry.subject.sets |= means.sets;
            entry.subject.lineage |= means.lineage;
        }
    }
    let rules = hashes.into_iter();
    rules.map(|((sha256, executable), rules)| HashRules { sha256, executable, rules }).collect()
}

/// Positions that each rule takes.
fn sizes(patterns: &[(Owner, Pattern)], policy: &Policy) -> Vec<usize> {
    let mut sizes = vec![0; policy.rules.len()];
    for (owner, pattern) in patterns {
        if owner.operations != 1 << Operation::SUBJECT
            && let Some(size) = sizes.get_mut(owner.index as usize)
        {
            *size += pattern.bits();
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
    out.error(Code::NoRoom, rule.span, message, Some(help));
}
