//! Paths of the machine as paths of a policy, and what a policy protects of them.

use crate::{
    glob::{Anchor, Component, Glob, split},
    host::Host,
    policy::{Kind, Mode, Policy},
};

/// Where a path begins, and its names from there on. Of several homes that it is in, the innermost counts.
pub(super) fn anchored<'p>(host: &Host, path: &'p [u8]) -> (Anchor, Vec<&'p [u8]>) {
    let names: Vec<&[u8]> = split(path).collect();
    let depth = |home: &[u8]| split(home).count();
    let homes = host.home_paths().filter(|home| depth(home) > 0);
    let inside = homes.filter(|home| names.iter().copied().take(depth(home)).eq(split(home)));
    match inside.map(depth).max() {
        Some(depth) => (Anchor::Home, names[depth..].to_vec()),
        None => (Anchor::Root, names),
    }
}

/// A pattern as it is written. Without an anchor it is only names.
pub(super) fn write(anchor: Option<Anchor>, components: &[Component]) -> String {
    let mut text = if anchor == Some(Anchor::Home) { "~".to_owned() } else { String::new() };
    for component in components {
        text.push('/');
        match component {
            Component::Literal(name) => text.push_str(&String::from_utf8_lossy(name)),
            Component::Any => text.push('*'),
            Component::Globstar => text.push_str("**"),
            Component::Wild(wild) => {
                // Halves of a name with `?` may part a character.
                let gap: &[u8] = if wild.gap { b"*" } else { b"" };
                let name = [wild.prefix.as_slice(), gap, &wild.suffix].concat();
                text.push_str(&String::from_utf8_lossy(&name));
            }
        }
    }
    text
}

/// Patterns that nothing is generalised over.
#[derive(Debug)]
pub(super) struct Guard<'h> {
    homes: Vec<&'h [u8]>,
    protected: Vec<Glob>,
}

impl<'h> Guard<'h> {
    /// What the rules of a policy refuse whose kind is asked for.
    pub(super) fn of(policy: &Policy, host: &'h Host, wanted: impl Fn(&Kind) -> bool) -> Self {
        let homes: Vec<&[u8]> = host.home_paths().collect();
        let rules = policy
            .rules
            .iter()
            .filter(|rule| rule.mode == Mode::Enforce && !rule.allows && wanted(&rule.kind));
        let globs = rules.flat_map(|rule| rule.kind.globs()).map(|glob| &glob.value);
        let protected = globs.flat_map(|glob| from_root(&homes, glob)).collect();
        Self { homes, protected }
    }

    /// Whether nothing that is protected is matched by a pattern.
    pub(super) fn lets(&self, anchor: Anchor, components: &[Component]) -> bool {
        let glob = Glob { anchor, components: components.to_vec() };
        let mut places = from_root(&self.homes, &glob).into_iter();
        places.all(|place| self.protected.iter().all(|protected| protected.excludes(&place)))
    }
}

/// The same pattern without `~`, in each home.
fn from_root(homes: &[&[u8]], glob: &Glob) -> Vec<Glob> {
    let at = |home: &[u8]| {
        let names = split(home).map(|name| Component::Literal(name.to_vec()));
        Glob { anchor: Anchor::Root, components: names.chain(glob.components.iter().cloned()).collect() }
    };
    match glob.anchor {
        Anchor::Root => vec![glob.clone()],
        Anchor::Home => homes.iter().map(|home| at(home)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{host::Home, parse};

    fn host() -> Host {
        let home = |path: &str| Home { uid: 1, path: path.into() };
        Host { homes: vec![home("/home/ada"), home("/root"), home("/")] }
    }

    #[test]
    fn paths_in_homes() {
        let host = host();
        let check = |path: &str, anchor, names: &[&str]| {
            let names: Vec<&[u8]> = names.iter().map(|name| name.as_bytes()).collect();
            assert_eq!(anchored(&host, path.as_bytes()), (anchor, names), "{path}");
        };
        check("/home/ada/a/b", Anchor::Home, &["a", "b"]);
        check("/root", Anchor::Home, &[]);
        check("/home/adam/a", Anchor::Root, &["home", "adam", "a"]);
        check("/", Anchor::Root, &[]);
    }

    #[test]
    fn what_is_protected_is_not_generalised_over() {
        let text =
            "version: 1\nname: p\nrules: [{id: a, kind: file, paths: [~/.ssh/**, /etc/key], reason: r}]\n";
        let policy = parse("p", text).expect("valid");
        let host = host();
        let guard = Guard::of(&policy, &host, |kind| matches!(kind, Kind::File { .. }));
        let check = |text: &str, expect| {
            let glob = Glob::parse(text).expect("a pattern");
            assert_eq!(guard.lets(glob.anchor, &glob.components), expect, "{text}");
        };
        for text in ["~/**", "~/.ss*/**", "/home/**", "/**", "/etc/*", "/etc/k*", "/*/ada/.ssh", "~/*"] {
            check(text, false);
        }
        for text in ["~/work/**", "~/.ssh2", "/etc/key/a/*", "/srv/**", "~/.s/*"] {
            check(text, true);
        }
    }
}
