//! Prefix tables of the connect rules.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use treeline_abi::network::{PREFIXES_MAX, PortRule, Prefix4, Prefix6, PrefixRules, RULES_PER_PREFIX_MAX};

use crate::{
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

/// Fills the tables; reports what does not fit.
pub(super) fn prefixes(policy: &Policy, slot: u32, out: &mut Diagnostics) -> Prefixes {
    let mut ranges: BTreeMap<IpNet, BTreeSet<(usize, PortRange)>> = BTreeMap::new();
    for (index, rule) in policy.rules.iter().enumerate() {
        let Kind::Connect { to, ports, .. } = &rule.kind else { continue };
        for net in to {
            ranges.entry(net.value).or_default().extend(ports.iter().map(|range| (index, *range)));
        }
    }
    if too_many(policy, &ranges, out) {
        return Prefixes::default();
    }
    let mut tables = Prefixes::default();
    for net in ranges.keys() {
        let covering: BTreeSet<(usize, PortRange)> = ranges
            .iter()
            .filter(|(other, _)| other.contains(net))
            .flat_map(|(_, rules)| rules)
            .copied()
            .collect();
        if covering.len() > RULES_PER_PREFIX_MAX {
            let rule = &policy.rules[covering.last().map_or(0, |(index, _)| *index)];
            let message = format!(
                "`{net}` falls under {} port ranges, `{}` among them; at most {RULES_PER_PREFIX_MAX} fit",
                covering.len(),
                rule.id
            );
            out.error(rule.span, message, Some("use fewer port ranges, or one rule for several".into()));
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
        Kind::Connect { to, .. } => to.len(),
        _ => 0,
    });
    let (id, span) = largest.map_or(("", Span::default()), |rule| (rule.id.as_str(), rule.span));
    let message = format!("{count} {family} blocks, most of them in `{id}`; at most {PREFIXES_MAX} fit");
    out.error(span, message, Some("write larger blocks".into()));
    true
}

fn value(rules: &BTreeSet<(usize, PortRange)>) -> PrefixRules {
    let mut value =
        PrefixRules { count: rules.len() as u32, pad: 0, rules: [PortRule::default(); RULES_PER_PREFIX_MAX] };
    for (slot, (index, range)) in value.rules.iter_mut().zip(rules) {
        *slot = PortRule { port_first: range.first, port_last: range.last, rule: *index as u32 };
    }
    value
}
