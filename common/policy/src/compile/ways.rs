//! The beginnings of patterns behind their first `*` or `**`.
//!
//! Who moves `/home/u/work/project` to `/home/u/old` takes `/home/u/work/project/secrets/key` out of reach of
//! `/home/u/work/*/secrets/**`, and who moves it back puts there what no session may write. Above the first `*`, single
//! directories are known, see `ancestors`; from there on a directory is known by what of the pattern its path matches.
//! Two names of one directory mean the same to a pattern if both match the same of its beginnings.

use std::collections::{BTreeMap, BTreeSet};

use treeline_event::Mode;

use super::{
    layout::WORD_BITS,
    pattern::{self, Pattern},
    place::{Placed, Places},
    spared::judges_renames,
};
use crate::{
    glob::Component,
    policy::{Kind, Policy},
};

/// A beginning of patterns, or several that mean the same, of rules in one mode.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) pattern: Pattern,
    pub(super) mode: Mode,
    /// Its rules, by index; never empty. The first one decides.
    pub(super) rules: BTreeSet<u32>,
}

/// What is left of which rule's patterns behind a beginning, and whether of those that lift it.
type Rests = BTreeSet<(u32, bool, Vec<Component>)>;

/// The ways of every file rule, those that refuse first and the shorter before the longer. What is in `monitor` has ways of
/// its own: it makes no rule refuse more.
pub(super) fn ways(policy: &Policy, places: &Places, watched: &[Vec<&Placed>]) -> Vec<Way> {
    let of_mode = |mode| of_mode(policy, mode, places, watched);
    [Mode::Enforce, Mode::Monitor].into_iter().flat_map(of_mode).collect()
}

fn of_mode(policy: &Policy, mode: Mode, places: &Places, watched: &[Vec<&Placed>]) -> Vec<Way> {
    let mut found: BTreeMap<Placed, Rests> = BTreeMap::new();
    let rules = policy.rules.iter().enumerate();
    for (index, rule) in rules.filter(|(_, rule)| rule.mode == mode && !rule.allows) {
        let Kind::File { .. } = &rule.kind else { continue };
        let watched = &watched[index];
        // Of a directory that is not judged it has to be seen whether it is in a rule's reach at all.
        let judges_renames = judges_renames(rule) && watched.is_empty();
        let all = |placed| whole(placed).filter(|_| !watched.is_empty());
        let own = places.of_rule(index).iter().flatten();
        let own = own.flat_map(|placed| beginnings(placed, judges_renames).into_iter().chain(all(placed)));
        let own = own.map(|way| (way, false));
        let spared = watched.iter().copied();
        let spared = spared.flat_map(|placed| beginnings(placed, false).into_iter().chain(whole(placed)));
        for ((way, rest), lifts) in own.chain(spared.map(|way| (way, true))) {
            found.entry(way).or_default().insert((index as u32, lifts, rest));
        }
    }
    // What is merged cannot be told from one another: only where the same is left to match, of the same rules.
    let mut alike: BTreeMap<Rests, BTreeSet<Placed>> = BTreeMap::new();
    for (way, rests) in found {
        alike.entry(rests).or_default().insert(way);
    }
    let mut ways: Vec<Way> = Vec::new();
    for (rests, places) in alike {
        let rules: BTreeSet<u32> = rests.iter().map(|(rule, _, _)| *rule).collect();
        let way = |pattern| Way { pattern, mode, rules: rules.clone() };
        ways.extend(pattern::merge(places).into_iter().map(way));
    }
    ways.sort_by(|left, right| {
        let bits = left.pattern.bits().cmp(&right.pattern.bits());
        bits.then_with(|| left.rules.cmp(&right.rules)).then_with(|| left.pattern.cmp(&right.pattern))
    });
    ways
}

/// The beginnings of a pattern from its first `*` on, each with the rest.
fn beginnings(placed: &Placed, judges_renames: bool) -> Vec<(Placed, Vec<Component>)> {
    let components = &placed.components;
    let literal =
        components.iter().take_while(|component| matches!(component, Component::Literal(_))).count();
    let counts = literal + 1..components.len().min(WORD_BITS);
    let splits = counts.map(|count| components.split_at(count)).filter(|(way, rest)| {
        // Every directory is on the way, whatever its name.
        let is_everything = *way == [Component::Globstar];
        // The pattern matches the directory itself.
        let is_judged = *rest == [Component::Globstar] && judges_renames;
        !is_everything && !is_judged
    });
    splits
        .map(|(way, rest)| (Placed { on: placed.on.clone(), components: way.to_vec() }, rest.to_vec()))
        .collect()
}

/// All of a pattern about a directory and everything below it.
fn whole(placed: &Placed) -> Option<(Placed, Vec<Component>)> {
    let is_tree =
        placed.components.last() == Some(&Component::Globstar) && placed.components.len() < WORD_BITS;
    // Every directory is in it.
    let is_everything = placed.components.len() == 1;
    (is_tree && !is_everything).then(|| (placed.clone(), Vec::new()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        compile::{Target, compile, spared::watched},
        host::{Home, Host, MountTable},
        policy::Policy,
    };

    fn policy(rules: &str) -> Policy {
        let text = format!("version: 1\nname: t\nmode: enforce\nrules:\n{rules}");
        crate::parse("t", &text).expect("a valid policy")
    }

    fn rule(id: &str, glob: &str, more: &str) -> String {
        format!("  - {{id: {id}, kind: file, paths: [\"{glob}\"], reason: r{more}}}\n")
    }

    fn host() -> Host {
        let home = |name: &str| Home { uid: 0, path: format!("/home/{name}").into() };
        Host { homes: vec![home("a"), home("b")] }
    }

    fn found(policy: &Policy) -> Vec<Way> {
        let places = Places::of(policy, &host(), &MountTable::single(5));
        ways(policy, &places, &watched(policy, &places))
    }

    #[test]
    fn whoever_refuses_comes_first() {
        let text = rule("a", "/a/*/c/x", ", mode: monitor")
            + &rule("b", "/a/*/c/x", "")
            + &rule("c", "/b/*/c", ", mode: monitor");
        let found = found(&policy(&text));
        let found: Vec<_> =
            found.into_iter().map(|way| (way.mode, way.rules.into_iter().collect())).collect();
        let expect: [(Mode, Vec<u32>); 5] = [
            (Mode::Enforce, vec![1]),
            (Mode::Enforce, vec![1]),
            (Mode::Monitor, vec![0]),
            (Mode::Monitor, vec![2]),
            (Mode::Monitor, vec![0]),
        ];
        assert_eq!(found, expect);
    }

    #[track_caller]
    fn check(rules: &[(&str, &str)], expect: usize) {
        let text: String =
            rules.iter().enumerate().map(|(at, (glob, more))| rule(&format!("r{at}"), glob, more)).collect();
        let found = found(&policy(&text));
        assert_eq!(found.len(), expect, "{rules:?}: {found:?}");
    }

    #[test]
    fn which_there_are() {
        check(&[("/a/b/c", ""), ("~/.ssh/**", ""), ("/**/.env", ""), ("/a/*", "")], 0);
        check(&[("/a/*/c", "")], 1);
        check(&[("/a/*/c/**", "")], 1);
        check(&[("/a/*/c/**", ", operations: [read]")], 2);
        check(&[("/a/*/c/**", ", except: [{executable: /bin/c}]")], 2);
        check(&[("/a/*/c/**", ", mode: monitor")], 1);
        check(&[("/**/.git/hooks/**", "")], 1);
        check(&[("/a/**/b/c", "")], 2);
        check(&[("/a/x-*/c/d", "")], 2);
        check(&[("/a/*/c/**", ""), ("/b/*/c/**", "")], 2);
        // Homes share theirs, and rules the beginning that is the same.
        check(&[("~/work/*/c/**", ""), ("~/work/*/d/**", "")], 1);
        check(&[("/a/*/c/d/**", ""), ("/a/*/e/f/**", "")], 3);
    }

    /// Whether a rename of a directory leaves it where it was to every pattern.
    #[track_caller]
    fn check_rename(from: &str, to: &str, expect: bool) {
        let text = rule("r0", "~/work/*/secrets/**", "")
            + &rule("r1", "~/work/*/keys/own/**", "")
            + &rule("r2", "/**/.git/hooks/**", "")
            + &rule("r3", "/srv/**/private/*.pem", "")
            + &rule("r4", "/srv/one-*/x/y", "")
            + &rule("r5", "/srv/two-*/x/z", "")
            + &rule("r6", "/var/*/x/y", "")
            + "  - {id: r7, kind: file, paths: [\"/var/*/x/y\", \"/opt/*/x/y\"], reason: r}\n"
            + &rule("r8", "/usr/*/x/y", ", mode: monitor")
            + "  - {id: r9, kind: file, paths: [\"/lib/*/x/y\", \"/run/*/x/y\"], reason: r}\n"
            + &rule("s0", "/lib/*/x/y", ", mode: monitor");
        let target = Target { seed: 7, generation: 1, slot: 1 };
        let tables = compile(&policy(&text), &host(), &MountTable::single(5), target).expect("it fits");
        let matcher = crate::matcher::Matcher::new(&tables);
        let at = |path: &str| {
            let inner = path.into();
            matcher.ways(&crate::host::Located { device: 5, inner }, Mode::Enforce).expect("few components")
        };
        assert_eq!(at(from) == at(to), expect, "{from} -> {to}");
        assert!(tables.ways_left_out.is_empty());
    }

    #[test]
    fn renames() {
        check_rename("/home/a/work/x", "/home/a/work/y", true);
        check_rename("/home/a/work/x", "/home/b/work/y", true);
        check_rename("/home/a/work/x", "/home/a/x", false);
        check_rename("/home/a/x", "/home/a/work/x", false);
        check_rename("/home/a/work/x/src", "/home/a/src", true);
        check_rename("/home/a/work/x/keys", "/home/a/work/x/k", false);
        check_rename("/home/a/work/x/keys", "/home/b/work/y/keys", true);
        check_rename("/tmp/a/.git", "/tmp/b/.git", true);
        check_rename("/tmp/a/.git", "/tmp/a/git", false);
        check_rename("/tmp/a", "/tmp/b", true);
        check_rename("/srv/a/b", "/srv/c", true);
        check_rename("/srv/a/b", "/tmp/b", false);
        check_rename("/srv/a/private", "/srv/a/public", false);
        check_rename("/srv/one-a", "/srv/one-b", true);
        check_rename("/srv/one-a", "/srv/two-a", false);
        check_rename("/srv/one-a/x", "/srv/two-a/x", false);
        // One of the rules has both.
        check_rename("/var/a", "/opt/a", false);
        check_rename("/opt/a", "/opt/b", true);
        check_rename("/usr/a", "/a", true);
        // What only records makes no other rule refuse.
        check_rename("/lib/a", "/run/a", true);
    }
}
