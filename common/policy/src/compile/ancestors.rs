//! Directories above what file rules protect.
//!
//! A rule holds for paths. Who moves `/home/u/.config` away, or puts another directory or a mount in its place, takes
//! `/home/u/.config/gh/hosts.yml` out of reach of its rule without touching it. So every directory that the literal
//! beginning of a pattern goes through is known to the kernel, with one rule that protects something below.

use std::collections::{BTreeMap, BTreeSet};

use treeline_abi::{
    name,
    paths::{ANCESTORS_MAX, AncestorKey},
};
use treeline_event::Mode;

use super::{
    Target,
    place::{Placed, Places, Where},
};
use crate::{
    code::Code,
    diagnostic::Diagnostics,
    glob::Component,
    policy::{Kind, Policy, Rule},
};

/// The table; reports when there are too many. Of several rules the first in `enforce` is kept, else the first.
pub(super) fn ancestors(
    policy: &Policy,
    places: &Places,
    watched: &[Vec<&Placed>],
    target: Target,
    out: &mut Diagnostics,
) -> Vec<(AncestorKey, u32)> {
    let mut table = BTreeMap::new();
    // Rules in `enforce` come first, and whoever comes first stays.
    for mode in [Mode::Enforce, Mode::Monitor] {
        let files = |(_, rule): &(usize, &Rule)| {
            rule.mode == mode && !rule.allows && matches!(rule.kind, Kind::File { .. })
        };
        for (index, rule) in policy.rules.iter().enumerate().filter(files) {
            let placed = places.of_rule(index).iter().flatten().chain(watched[index].iter().copied());
            for key in placed.flat_map(|placed| above(placed, target)) {
                table.entry(key).or_insert(index as u32 + 1);
            }
            if table.len() > ANCESTORS_MAX as usize {
                let message = format!(
                    "with `{}` there are more than {ANCESTORS_MAX} directories above protected places",
                    rule.id
                );
                out.error(
                    Code::NoRoom,
                    rule.span,
                    message,
                    Some("protect a directory and everything below it".into()),
                );
                return Vec::new();
            }
        }
    }
    table.into_iter().collect()
}

/// The root of the filesystem, and every directory that is named literally before the pattern's last name.
fn above(placed: &Placed, target: Target) -> BTreeSet<AncestorKey> {
    // What holds everywhere names no directory that could be moved.
    let Where::Device(device) = placed.on else { return BTreeSet::new() };
    let literal = placed.components.iter().map_while(|component| match component {
        Component::Literal(name) => Some(name.as_slice()),
        _ => None,
    });
    let names: Vec<&[u8]> = literal.collect();
    let longest = names.len().min(placed.components.len().saturating_sub(1));
    (0..=longest)
        .map(|count| {
            let names = names[..count].iter().rev();
            let folded = names.fold(0, |state, name| name::mix(state, name::hash(target.seed, name)));
            AncestorKey { slot: target.slot, device, names: folded }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::spared::watched;
    use crate::host::{Host, MountTable};

    const TARGET: Target = Target { seed: 7, generation: 1, slot: 1 };

    fn key(path: &str) -> AncestorKey {
        let names = path.split('/').filter(|name| !name.is_empty()).rev();
        let fold = |state, name: &str| name::mix(state, name::hash(TARGET.seed, name.as_bytes()));
        AncestorKey { slot: TARGET.slot, device: 5, names: names.fold(0, fold) }
    }

    #[track_caller]
    fn check(rules: &[(&str, &str)], expect: &[(&str, u32)]) {
        let rules: String = rules
            .iter()
            .enumerate()
            .map(|(index, (mode, glob))| {
                format!("  - id: r{index}\n    kind: file\n    mode: {mode}\n    paths: [\"{glob}\"]\n    reason: r\n")
            })
            .collect();
        let text = format!("version: 1\nname: t\nmode: enforce\nrules:\n{rules}");
        let policy = crate::parse("t", &text).expect("a valid policy");
        let mut out = Diagnostics::new(policy.sources.clone());
        let places = Places::of(&policy, &Host::default(), &MountTable::single(5));
        let watched = watched(&policy, &places);
        let found = ancestors(&policy, &places, &watched, TARGET, &mut out);
        let mut expect: Vec<_> = expect.iter().map(|(path, rule)| (key(path), *rule)).collect();
        expect.sort_unstable();
        assert_eq!(found, expect, "{rules}");
    }

    #[test]
    fn directories_above() {
        check(&[("enforce", "/a/b")], &[("/", 1), ("/a", 1)]);
        check(&[("enforce", "/a/b/**")], &[("/", 1), ("/a", 1), ("/a/b", 1)]);
        check(&[("enforce", "/a/*/c/d")], &[("/", 1), ("/a", 1)]);
        check(&[("enforce", "/**/.env")], &[]);
    }

    #[test]
    fn what_is_enforced_comes_first() {
        check(&[("monitor", "/a/x/y"), ("enforce", "/a/z")], &[("/", 2), ("/a", 2), ("/a/x", 1)]);
    }
}
