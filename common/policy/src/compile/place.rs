//! Where on which filesystem a glob holds.

use std::collections::{BTreeMap, BTreeSet};

use treeline_event::PathBytes;

use crate::{
    glob::{Anchor, Component, Glob, split},
    host::{Host, Located, Mount, Resolver, join},
    policy::Policy,
    source::Spanned,
};

/// The filesystems that a pattern holds on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Where {
    /// Every one, also those that are mounted later.
    Everywhere,
    /// This device.
    Device(u32),
}

/// A glob below the root of a filesystem.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Placed {
    pub(crate) on: Where,
    pub(crate) components: Vec<Component>,
}

/// The absolute globs that a glob stands for: itself, or one for each home.
pub(crate) fn expand(glob: &Glob, host: &Host) -> BTreeSet<Vec<Component>> {
    match glob.anchor {
        Anchor::Root => BTreeSet::from([glob.components.clone()]),
        Anchor::Home => host
            .home_paths()
            .map(|home| literals(home).chain(glob.components.iter().cloned()).collect())
            .collect(),
    }
}

/// Where each glob of each rule holds, and each glob that it spares, by the indices of both. Looking it up is much of the work of
/// a large policy.
pub(crate) struct Places {
    of_rules: Vec<[Vec<BTreeSet<Placed>>; 2]>,
    /// What is not in force of what a rule spares or allows, by the rule's index, and why.
    pub(crate) left_out: BTreeMap<u32, String>,
}

impl Places {
    pub(crate) fn of(policy: &Policy, host: &Host, resolver: &dyn Resolver) -> Self {
        let mut left_out = BTreeMap::new();
        let mut lifting = |index: usize, glob: &Glob| {
            let mut other_names = Vec::new();
            let places = place_lifting(glob, host, resolver, &mut other_names);
            if let Some((path, other)) = other_names.into_iter().min() {
                let text = |path: Vec<u8>| PathBytes::from(path).to_string();
                let why =
                    format!("`{glob}` does not count at {}: that is {} as well", text(path), text(other));
                left_out.entry(index as u32).or_insert(why);
            }
            places
        };
        let own = |glob: &Spanned<Glob>| place(&glob.value, host, resolver);
        let mut of_rules = Vec::new();
        for (index, rule) in policy.rules.iter().enumerate() {
            let globs = rule.kind.globs().iter();
            let globs = match rule.allows {
                true => globs.map(|glob| lifting(index, &glob.value)).collect(),
                false => globs.map(own).collect(),
            };
            of_rules
                .push([globs, rule.spares.paths.iter().map(|glob| lifting(index, &glob.value)).collect()]);
        }
        Self { of_rules, left_out }
    }

    /// Those of a rule's globs.
    pub(crate) fn of_rule(&self, index: usize) -> &[BTreeSet<Placed>] {
        self.of_rules.get(index).map_or(&[], |[own, _]| own)
    }

    /// Those of the globs that a rule spares.
    pub(crate) fn spared_by(&self, index: usize) -> &[BTreeSet<Placed>] {
        self.of_rules.get(index).map_or(&[], |[_, spared]| spared)
    }
}

/// Every place where a glob holds. Empty when there is no such place: no home, or a resolver that knows nothing.
pub(crate) fn place(glob: &Glob, host: &Host, resolver: &dyn Resolver) -> BTreeSet<Placed> {
    let locate = |path: &[u8]| resolver.locate(path);
    place_by(glob, host, resolver, &locate, &mut |_, _| true)
}

/// The places where a glob takes rules away: less than where one holds that refuses, for what leads there can be made by whoever
/// is to be refused. Links are not followed. What has another name, as by a bind mount, is a place only if the glob is about
/// all that is below each of its names; other names, each with the path that it is beside, are in `others` then.
pub(crate) fn place_lifting(
    glob: &Glob,
    host: &Host,
    resolver: &dyn Resolver,
    others: &mut Vec<(Vec<u8>, Vec<u8>)>,
) -> BTreeSet<Placed> {
    let locate = |path: &[u8]| resolver.locate_itself(path).into_iter().collect();
    let is_tree = glob.components.last() == Some(&Component::Globstar);
    let mut is_own = |path: &[u8], place: &Located| {
        let fits = |name: &Vec<u8>| name == path || is_tree && glob.matches(host.home_paths(), name);
        let other = names_of(place, resolver).into_iter().find(|name| !fits(name));
        let is_alone = other.is_none();
        others.extend(other.map(|other| (path.to_vec(), other)));
        is_alone
    };
    place_by(glob, host, resolver, &locate, &mut is_own)
}

/// Under which paths a place is seen, or a part of what is below it.
fn names_of(place: &Located, resolver: &dyn Resolver) -> Vec<Vec<u8>> {
    let inner: Vec<&[u8]> = split(&place.inner).collect();
    let name = |mount: Mount| {
        let root: Vec<&[u8]> = split(&mount.root.inner).collect();
        match inner.strip_prefix(root.as_slice()) {
            Some(rest) => Some(join(split(&mount.point).chain(rest.iter().copied()))),
            None => root.starts_with(&inner).then(|| mount.point.clone()),
        }
    };
    resolver.mounts_of(place.device).into_iter().filter_map(name).collect()
}

/// `locate` finds the places of a path; `counts` says of a path and its place whether the place counts.
fn place_by(
    glob: &Glob,
    host: &Host,
    resolver: &dyn Resolver,
    locate: &dyn Fn(&[u8]) -> Vec<Located>,
    counts: &mut dyn FnMut(&[u8], &Located) -> bool,
) -> BTreeSet<Placed> {
    let mut places = BTreeSet::new();
    for components in expand(glob, host) {
        let literal = components.iter().take_while(|c| matches!(c, Component::Literal(_))).count();
        let (prefix, rest) = components.split_at(literal);
        let prefix: Vec<&[u8]> = prefix.iter().filter_map(literal_name).collect();
        let path = join(prefix.iter().copied());
        let everywhere = prefix.is_empty() && rest.first() == Some(&Component::Globstar);
        if everywhere {
            places.insert(Placed { on: Where::Everywhere, components: rest.to_vec() });
        } else {
            for located in locate(&path).into_iter().filter(|located| counts(&path, located)) {
                places.insert(on_device(located.device, &located.inner, rest));
            }
        }
        if rest.is_empty() {
            continue;
        }
        let below = resolver.mounts_below(&path).into_iter();
        for mount in below.filter(|mount| counts(&mount.point, &mount.root)) {
            let below: Vec<&[u8]> = split(&mount.point).skip(prefix.len()).collect();
            for start in residuals(rest, &below) {
                // What begins with the same `**` holds everywhere already.
                if !(everywhere && start == 0) {
                    places.insert(on_device(mount.root.device, &mount.root.inner, &rest[start..]));
                }
            }
        }
    }
    places
}

fn on_device(device: u32, inner: &[u8], rest: &[Component]) -> Placed {
    let components = literals(inner).chain(rest.iter().cloned()).collect();
    Placed { on: Where::Device(device), components }
}

fn literals(path: &[u8]) -> impl Iterator<Item = Component> {
    split(path).map(|name| Component::Literal(name.to_vec()))
}

fn literal_name(component: &Component) -> Option<&[u8]> {
    match component {
        Component::Literal(name) => Some(name),
        _ => None,
    }
}

/// Where in `components` a match can stand after it consumed `names`: what follows is what is left to match.
fn residuals(components: &[Component], names: &[&[u8]]) -> BTreeSet<usize> {
    let mut starts = BTreeSet::from([0]);
    for name in names {
        let mut next = BTreeSet::new();
        for start in starts {
            match components.get(start) {
                Some(Component::Globstar) => {
                    // It takes this name, or it ends before it.
                    next.insert(start);
                    if components.get(start + 1).is_some_and(|component| component.matches(name)) {
                        next.insert(start + 2);
                    }
                }
                Some(component) if component.matches(name) => {
                    next.insert(start + 1);
                }
                _ => {}
            }
        }
        starts = next;
    }
    starts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Home, Located, Mount, MountTable};

    fn machine() -> (Host, MountTable) {
        let mount = |point: &str, device, inner: &str| Mount {
            point: point.into(),
            root: Located { device, inner: inner.into() },
        };
        let home = |uid, path: &str| Home { uid, path: path.into() };
        let host = Host { homes: vec![home(0, "/root"), home(1000, "/home/u")] };
        let mounts = vec![
            mount("/", 1, "/"),
            mount("/home", 2, "/"),
            mount("/home/u", 3, "/@u"),
            mount("/srv/a", 4, "/"),
        ];
        (host, MountTable { mounts })
    }

    #[track_caller]
    fn check(glob: &str, expect: &[&str]) {
        let (host, resolver) = machine();
        let glob = Glob::parse(glob).expect("valid glob");
        let places = place(&glob, &host, &resolver);
        let shown: BTreeSet<String> = places
            .into_iter()
            .map(|placed| {
                let glob = Glob { anchor: Anchor::Root, components: placed.components };
                match placed.on {
                    Where::Everywhere => format!("* {glob}"),
                    Where::Device(device) => format!("{device} {glob}"),
                }
            })
            .collect();
        assert_eq!(shown, expect.iter().map(ToString::to_string).collect(), "{glob}");
    }

    #[test]
    fn where_rules_are_taken_away() {
        let (host, mut resolver) = machine();
        let mount = |point: &str, device, inner: &str| Mount {
            point: point.into(),
            root: Located { device, inner: inner.into() },
        };
        let check = |resolver: &MountTable, glob: &str, expect: &[&str], others: &[(&str, &str)]| {
            let glob = Glob::parse(glob).expect("valid glob");
            let mut found = Vec::new();
            let places = place_lifting(&glob, &host, resolver, &mut found);
            let shown = places.into_iter().map(|Placed { on, components }| {
                let glob = Glob { anchor: Anchor::Root, components };
                match on {
                    Where::Everywhere => format!("* {glob}"),
                    Where::Device(device) => format!("{device} {glob}"),
                }
            });
            assert_eq!(
                shown.collect::<BTreeSet<_>>(),
                expect.iter().map(ToString::to_string).collect(),
                "{glob}"
            );
            let text = |path: &Vec<u8>| String::from_utf8_lossy(path).into_owned();
            let found: Vec<_> = found.iter().map(|(path, other)| (text(path), text(other))).collect();
            let others: Vec<_> =
                others.iter().map(|(path, other)| ((*path).to_owned(), (*other).to_owned())).collect();
            assert_eq!(found, others, "{glob}");
        };
        check(&resolver, "~/work/**", &["1 /root/work/**", "3 /@u/work/**"], &[]);
        check(&resolver, "/srv/**", &["1 /srv/**", "4 /**"], &[]);
        // Somebody binds what is protected into what is open.
        resolver.mounts.push(mount("/home/u/work/x", 1, "/etc"));
        check(&resolver, "~/work/**", &["1 /root/work/**", "3 /@u/work/**"], &[("/home/u/work/x", "/etc")]);
        check(&resolver, "/etc/**", &[], &[("/etc", "/home/u/work/x")]);
        check(&resolver, "/**/x/**", &["* /**/x/**"], &[("/home/u/work/x", "/etc")]);
        // A directory below what is open has a name elsewhere, which is not.
        resolver.mounts.push(mount("/mnt", 3, "/@u/work/deep"));
        check(
            &resolver,
            "~/work/**",
            &["1 /root/work/**"],
            &[("/home/u/work", "/mnt"), ("/home/u/work/x", "/etc")],
        );
        // All of its names are open.
        resolver.mounts.push(mount("/srv/b", 4, "/sub"));
        check(&resolver, "/srv/**", &["1 /srv/**", "4 /**", "4 /sub/**"], &[]);
        check(&resolver, "/srv/a/x*", &[], &[("/srv/a", "/srv/b")]);
        resolver.mounts.push(mount("/home/u/work", 1, "/"));
        check(
            &resolver,
            "~/work/**",
            &["1 /root/work/**"],
            &[("/home/u/work", "/"), ("/home/u/work/x", "/etc")],
        );
    }

    #[test]
    fn places() {
        check("/etc/shadow", &["1 /etc/shadow"]);
        check("/home", &["2 "]);
        check("~/.ssh/**", &["1 /root/.ssh/**", "3 /@u/.ssh/**"]);
        check("/home/*/x", &["2 /*/x", "3 /@u/x"]);
        check("/home/*", &["2 /*", "3 /@u"]);
        check("/home/**", &["2 /**", "3 /@u/**"]);
        check("/**/.env", &["* /**/.env"]);
        check("/**/a/b", &["* /**/a/b", "4 /b"]);
        check("/**/u/**/x", &["* /**/u/**/x", "3 /@u/**/x"]);
        check("/s*/a/**/x", &["1 /s*/a/**/x", "4 /**/x"]);
    }
}
