//! Where the patterns of a rule begin: for backends that watch directories and not every file.

use crate::{
    compile::place::expand,
    glob::Component,
    host::{Host, join},
    policy::Rule,
};

/// One pattern of a rule, for one home if it is relative to homes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LiteralRoot {
    /// The deepest directory that is spelt out, as an absolute path.
    pub directory: Vec<u8>,
    /// What follows below it.
    pub shape: Shape,
    /// `false` for a pattern that begins with `**`: it holds on every filesystem, and `directory` is `/`.
    pub anchored: bool,
}

/// What follows the literal directory of a pattern.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shape {
    /// One entry of the directory.
    Name(Vec<u8>),
    /// The entries of the directory that match.
    Wildcard(Component),
    /// The directory itself and everything below it.
    Subtree,
    /// Anything else: what has to match below the directory, one component after the other.
    Deep(Vec<Component>),
}

impl Shape {
    /// What has to match below the directory, one component after the other.
    #[must_use]
    pub fn into_components(self) -> Vec<Component> {
        match self {
            Self::Name(name) => vec![Component::Literal(name)],
            Self::Wildcard(component) => vec![component],
            Self::Subtree => vec![Component::Globstar],
            Self::Deep(components) => components,
        }
    }
}

/// The roots of every path pattern of a rule, sorted.
#[must_use]
pub fn literal_roots(rule: &Rule, host: &Host) -> Vec<LiteralRoot> {
    let globs = rule.kind.globs().iter().flat_map(|glob| expand(&glob.value, host));
    let mut roots: Vec<LiteralRoot> = globs.map(|components| literal_root(&components)).collect();
    roots.sort_unstable();
    roots.dedup();
    roots
}

fn literal_root(components: &[Component]) -> LiteralRoot {
    let names = components.iter().map_while(|component| match component {
        Component::Literal(name) => Some(name.as_slice()),
        _ => None,
    });
    let names: Vec<&[u8]> = names.collect();
    let anchored = components.first() != Some(&Component::Globstar);
    let (directory, shape) = match (&components[names.len()..], names.split_last()) {
        ([], Some((name, directory))) => (directory, Shape::Name(name.to_vec())),
        ([Component::Globstar], _) => (names.as_slice(), Shape::Subtree),
        ([one @ (Component::Any | Component::Wild(_))], _) => {
            (names.as_slice(), Shape::Wildcard(one.clone()))
        }
        (rest, _) => (names.as_slice(), Shape::Deep(rest.to_vec())),
    };
    LiteralRoot { directory: join(directory.iter().copied()), shape, anchored }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Home, parse};

    #[track_caller]
    fn check(glob: &str, expect: &[(&str, Shape, bool)]) {
        let text = format!(
            "version: 1\nname: t\nrules:\n  - {{id: r, kind: file, reason: x, paths: [\"{glob}\"]}}\n"
        );
        let policy = parse("t", &text).expect("valid policy");
        let home = |uid, path: &str| Home { uid, path: path.into() };
        let host = Host { homes: vec![home(0, "/root"), home(1, "/home/u")] };
        let expect = expect.iter().map(|(directory, shape, anchored)| LiteralRoot {
            directory: directory.as_bytes().to_vec(),
            shape: shape.clone(),
            anchored: *anchored,
        });
        assert_eq!(literal_roots(&policy.rules[0], &host), expect.collect::<Vec<_>>(), "{glob}");
    }

    #[test]
    fn roots() {
        let literal = |name: &str| Component::Literal(name.into());
        check("/etc/shadow", &[("/etc", Shape::Name(b"shadow".into()), true)]);
        check("~/.ssh/**", &[("/home/u/.ssh", Shape::Subtree, true), ("/root/.ssh", Shape::Subtree, true)]);
        check("/home/*", &[("/home", Shape::Wildcard(Component::Any), true)]);
        check("/home/*/x", &[("/home", Shape::Deep(vec![Component::Any, literal("x")]), true)]);
        check("/a/**/x", &[("/a", Shape::Deep(vec![Component::Globstar, literal("x")]), true)]);
        check("**/.env", &[("/", Shape::Deep(vec![Component::Globstar, literal(".env")]), false)]);
        check("/**", &[("/", Shape::Subtree, false)]);
    }
}
