//! Prefix tables of the connect rules, and their abstract names.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use treeline_abi::{
    lift::{LIFT, LIFT_ASKS},
    network::{
        ABSTRACTS_MAX, AbstractRule, PREFIXES_MAX, PortRule, Prefix4, Prefix6, PrefixRules,
        RULES_PER_PREFIX_MAX,
    },
};

use super::lifts::{Lifts, is_lifted_by};

use crate::{
    code::Code,
    diagnostic::Diagnostics,
    policy::{Kind, Policy, PortRange},
    source::Span,
};

/// Bits of the slot, which counts into every prefix length.
const SLOT_BITS: u32 = 32;

/// Both tables: prefix length with [`SLOT_BITS`], key, value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Prefixes {
    pub(super) v4: Vec<(u32, Prefix4, PrefixRules)>,
    pub(super) v6: Vec<(u32, Prefix6, PrefixRules)>,
}

/// What a block says by itself: rules, and exceptions of rules, with their ports.
#[derive(Debug, Default)]
struct Says<'p> {
    rules: Vec<(usize, &'p [PortRange])>,
    exceptions: Vec<(usize, &'p [PortRange])>,
}

/// The rules of a block and of every larger one that it lies in, less their exceptions there and what rules allow that are for
/// everybody; and the lifts of those that allow for some.
///
/// Every block that a rule or an exception names is an entry of its own, so an address lies in exactly those blocks
/// in which the smallest of them lies: what is said of that entry holds for each of its addresses that has no entry
/// of its own.
fn covering(
    policy: &Policy,
    lifts: &Lifts,
    blocks: &BTreeMap<IpNet, Says<'_>>,
    net: &IpNet,
) -> BTreeSet<(u32, PortRange)> {
    let mut rules: BTreeMap<usize, Vec<PortRange>> = BTreeMap::new();
    let covering = || blocks.iter().filter(|(other, _)| other.contains(net)).map(|(_, says)| says);
    for (index, ports) in covering().flat_map(|says| &says.rules) {
        rules.entry(*index).or_default().extend_from_slice(ports);
    }
    let mut exceptions: BTreeMap<usize, Vec<PortRange>> = BTreeMap::new();
    for (index, ports) in covering().flat_map(|says| &says.exceptions) {
        exceptions.entry(*index).or_default().extend_from_slice(ports);
    }
    for (index, ports) in &mut rules {
        let without = PortRange::union(exceptions.remove(index).unwrap_or_default());
        *ports = PortRange::difference(&PortRange::union(std::mem::take(ports)), &without);
    }
    let (allowed, refused): (Vec<_>, Vec<_>) =
        rules.into_iter().partition(|(index, _)| policy.rules[*index].allows);
    let mut left = BTreeSet::new();
    for (index, mut ports) in refused {
        let is_above = |allows: usize| is_lifted_by(&policy.rules[index], &policy.rules[allows]);
        for (allows, open) in allowed.iter().filter(|(allows, _)| is_above(*allows)) {
            match lifts.index(*allows) {
                Some(lift) if lift & LIFT_ASKS != 0 => left.extend(open.iter().map(|range| (lift, *range))),
                _ => ports = PortRange::difference(&ports, open),
            }
        }
        left.extend(ports.into_iter().map(|range| (index as u32, range)));
    }
    left
}

/// Fills the tables; reports what does not fit.
pub(super) fn prefixes(policy: &Policy, lifts: &Lifts, slot: u32, out: &mut Diagnostics) -> Prefixes {
    let mut blocks: BTreeMap<IpNet, Says<'_>> = BTreeMap::new();
    for (index, rule) in policy.rules.iter().enumerate() {
        let Kind::Connect { to, ports, except_to, .. } = &rule.kind else { continue };
        for net in to {
            blocks.entry(net.value).or_default().rules.push((index, ports));
        }
        for except in except_to {
            for net in &except.to {
                blocks.entry(net.value).or_default().exceptions.push((index, &except.ports));
            }
        }
    }
    if too_many(policy, &blocks, out) {
        return Prefixes::default();
    }
    let mut tables = Prefixes::default();
    for net in blocks.keys() {
        let covering = covering(policy, lifts, &blocks, net);
        if covering.len() > RULES_PER_PREFIX_MAX {
            let last = covering.iter().rfind(|(index, _)| index & LIFT == 0);
            let rule = &policy.rules[last.map_or(0, |(index, _)| *index as usize)];
            let message = format!(
                "`{net}` falls under {} port ranges, `{}` among them; at most {RULES_PER_PREFIX_MAX} fit",
                covering.len(),
                rule.id
            );
            out.error(
                Code::NoRoom,
                rule.span,
                message,
                Some("use fewer port ranges, or one rule for several".into()),
            );
            continue;
        }
        let value = value(&covering);
        match net {
            IpNet::V4(v4) => {
                let key = Prefix4 { slot, address: v4.addr().octets() };
                tables.v4.push((SLOT_BITS + u32::from(v4.prefix_len()), key, value));
            }
            IpNet::V6(v6) => {
                let key = Prefix6 { slot, address: v6.addr().octets() };
                tables.v6.push((SLOT_BITS + u32::from(v6.prefix_len()), key, value));
            }
        }
    }
    tables
}

/// Reports more blocks than fit, before each is compared with every other.
fn too_many<T>(policy: &Policy, blocks: &BTreeMap<IpNet, T>, out: &mut Diagnostics) -> bool {
    let v4 = blocks.keys().filter(|net| matches!(net, IpNet::V4(_))).count();
    let families = [("IPv4", v4), ("IPv6", blocks.len() - v4)];
    let Some((family, count)) = families.into_iter().find(|(_, count)| *count > PREFIXES_MAX as usize) else {
        return false;
    };
    let largest = policy.rules.iter().max_by_key(|rule| match &rule.kind {
        Kind::Connect { to, except_to, .. } => {
            to.len() + except_to.iter().map(|except| except.to.len()).sum::<usize>()
        }
        _ => 0,
    });
    let (id, span) = largest.map_or(("", Span::default()), |rule| (rule.id.as_str(), rule.span));
    let message = format!("{count} {family} blocks, most of them in `{id}`; at most {PREFIXES_MAX} fit");
    out.error(Code::NoRoom, span, message, Some("write larger blocks".into()));
    true
}

fn value(rules: &BTreeSet<(u32, PortRange)>) -> PrefixRules {
    let mut value =
        PrefixRules { count: rules.len() as u32, pad: 0, rules: [PortRule::default(); RULES_PER_PREFIX_MAX] };
    for (slot, (index, range)) in value.rules.iter_mut().zip(rules) {
        *slot = PortRule { port_first: range.first, port_last: range.last, rule: *index };
    }
    value
}

/// The entries for abstract names; reports what does not fit.
pub(super) fn abstracts(policy: &Policy, lifts: &Lifts, out: &mut Diagnostics) -> Vec<AbstractRule> {
    let mut entries = Vec::new();
    let mut last = None;
    for (index, rule) in policy.rules.iter().enumerate() {
        let Kind::Connect { abstracts, .. } = &rule.kind else { continue };
        let lift = lifts.index(index);
        let own = if rule.allows { lift } else { Some(index as u32) };
        let own = own.into_iter().flat_map(|index| abstracts.iter().map(move |glob| (index, glob)));
        let spared =
            lift.into_iter().flat_map(|index| rule.spares.abstracts.iter().map(move |glob| (index, glob)));
        for (index, glob) in own.chain(spared) {
            let suffix = glob.value.suffix.as_deref();
            entries.push(AbstractRule::new(&glob.value.prefix, suffix, index + 1));
            last = Some((glob.span, &rule.id));
        }
    }
    if let Some((span, id)) = last
        && entries.len() > ABSTRACTS_MAX as usize
    {
        let message =
            format!("{} abstract names, the last in `{id}`; at most {ABSTRACTS_MAX} fit", entries.len());
        out.error(Code::NoRoom, span, message, Some("let one `*` stand for several".into()));
        entries.clear();
    }
    entries.sort_by_key(|entry| (entry.rule, entry.prefix, entry.suffix));
    entries
}
