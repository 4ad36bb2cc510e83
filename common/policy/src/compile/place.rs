//! Where on which filesystem a glob holds.

use std::collections::BTreeSet;

use crate::{
    glob::{Anchor, Component, Glob, split},
    host::{Host, Resolver, join},
    policy::{Policy, Rule},
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
pub(crate) struct Places(Vec<[Vec<BTreeSet<Placed>>; 2]>);

impl Places {
    pub(crate) fn of(policy: &Policy, host: &Host, resolver: &dyn Resolver) -> Self {
        let of = |globs: &[Spanned<Glob>]| {
            globs.iter().map(|glob| place(&glob.value, host, resolver)).collect::<Vec<_>>()
        };
        let of_rule = |rule: &Rule| [of(rule.kind.globs()), of(&rule.spares.paths)];
        Self(policy.rules.iter().map(of_rule).collect())
    }

    /// Those of a rule's globs.
    pub(crate) fn of_rule(&self, index: usize) -> &[BTreeSet<Placed>] {
        self.0.get(index).map_or(&[], |[own, _]| own)
    }

    /// Those of the globs that a rule spares.
    pub(crate) fn spared_by(&self, index: usize) -> &[BTreeSet<Placed>] {
        self.0.get(index).map_or(&[], |[_, spared]| spared)
    }
}

/// Every place where a glob holds. Empty when there is no such place: no home, or a resolver that knows nothing.
pub(crate) fn place(glob: &Glob, host: &Host, resolver: &dyn Resolver) -> BTreeSet<Placed> {
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
            for located in resolver.locate(&path) {
                places.insert(on_device(located.device, &located.inner, rest));
            }
        }
        if rest.is_empty() {
            continue;
        }
        for mount in resolver.mounts_below(&path) {
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
