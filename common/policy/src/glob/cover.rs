//! Whether one glob matches all that another one matches.

use std::borrow::Cow;

use treeline_abi::paths::ANY_BYTE;

use super::{Anchor, Component, Glob, Wild};

/// Components of which a set fits into an integer, with the place behind the last one.
const COMPONENTS_MAX: usize = u128::BITS as usize - 1;

/// Stands before a pattern that begins in a home, wherever homes are.
const ANYWHERE: [Component; 1] = [Component::Globstar];

impl Glob {
    /// Whether it matches every path that `other` matches, whatever homes there are. `true` is certain; `false` can also mean
    /// that it was not found out, as for `/a?*` and `/a*b`, where `?` is what the other has behind its `*`.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self.anchor, other.anchor) {
            (Anchor::Root, Anchor::Root) | (Anchor::Home, Anchor::Home) => {
                components_cover(&self.components, &[], &other.components)
            }
            (Anchor::Root, Anchor::Home) => components_cover(&self.components, &ANYWHERE, &other.components),
            (Anchor::Home, Anchor::Root) => false,
        }
    }

    /// Whether no path is matched by both, whatever homes there are. `true` is certain.
    #[must_use]
    pub fn excludes(&self, other: &Self) -> bool {
        let path = |glob: &Self| -> Option<Vec<u8>> {
            let names = glob.components.iter().map(|component| match component {
                Component::Literal(name) => Some([b"/", name.as_slice()].concat()),
                _ => None,
            });
            (glob.anchor == Anchor::Root)
                .then(|| names.collect::<Option<Vec<_>>>())
                .flatten()
                .map(|n| n.concat())
        };
        let misses = |glob: &Self, path: Option<Vec<u8>>| {
            glob.anchor == Anchor::Root && path.is_some_and(|path| !glob.matches([], &path))
        };
        // One home can be in another one.
        let is_alike = self.anchor == Anchor::Root && other.anchor == Anchor::Root;
        is_alike && differ(&self.components, &other.components)
            || misses(self, path(other))
            || misses(other, path(self))
    }
}

/// Whether two patterns differ in a name before either has a `**`, or behind the last one.
pub(crate) fn differ(one: &[Component], other: &[Component]) -> bool {
    differ_in_front(one.iter().zip(other)) || differ_in_front(one.iter().rev().zip(other.iter().rev()))
}

fn differ_in_front<'c>(pairs: impl Iterator<Item = (&'c Component, &'c Component)>) -> bool {
    let is_name = |component: &Component| *component != Component::Globstar;
    let mut names = pairs.take_while(|(one, other)| is_name(one) && is_name(other));
    names.any(|pair| match pair {
        (Component::Literal(one), Component::Literal(other)) => one != other,
        (Component::Literal(name), Component::Wild(wild))
        | (Component::Wild(wild), Component::Literal(name)) => !wild.matches(name),
        _ => false,
    })
}

/// Whether `wide` matches whatever the components of `head` and then those of `tail` match.
///
/// A set of places in `wide` and one in the other: from the last component of `wide` to its first, bit `j` of `covered`
/// says that what is left of `wide` covers what is left of the other from its `j`th component on.
fn components_cover(wide: &[Component], head: &[Component], tail: &[Component]) -> bool {
    let len = head.len() + tail.len();
    if len > COMPONENTS_MAX {
        return false;
    }
    let narrow = |index: usize| head.get(index).or_else(|| tail.get(index - head.len()));
    // Most pairs differ in their first names.
    if let (Some(Component::Literal(left)), Some(Component::Literal(right))) = (wide.first(), narrow(0))
        && left != right
    {
        return false;
    }
    let mut covered: u128 = 1 << len;
    for component in in_order(wide).iter().rev() {
        let behind = covered;
        covered = 0;
        for index in (0..=len).rev() {
            let is = |set: u128, index: usize| set & 1 << index != 0;
            let holds = match (component, narrow(index).filter(|_| index < len)) {
                // Nothing, or one more component of the other, whatever that is.
                (Component::Globstar, next) => is(behind, index) || next.is_some() && is(covered, index + 1),
                (_, None) => false,
                // The other ends its `**` here, or goes on with it for one name.
                (one, Some(Component::Globstar)) => {
                    is_any(one) && is(covered, index + 1) && is(behind, index)
                }
                (one, Some(other)) => component_covers(one, other) && is(behind, index + 1),
            };
            covered |= u128::from(holds) << index;
        }
    }
    covered & 1 != 0
}

/// The same with each `**` behind the `*` that follow it: `**/*` and `*/**` are both at least one name, and only the second
/// one is compared name by name.
fn in_order(components: &[Component]) -> Cow<'_, [Component]> {
    let out_of_order = |pair: &[Component]| pair[0] == Component::Globstar && is_any(&pair[1]);
    if !components.windows(2).any(out_of_order) {
        return Cow::Borrowed(components);
    }
    let mut sorted: Vec<Component> = Vec::with_capacity(components.len());
    for component in components {
        match sorted.last() {
            Some(Component::Globstar) if *component == Component::Globstar => {}
            Some(Component::Globstar) if is_any(component) => {
                let last = sorted.len() - 1;
                sorted.insert(last, component.clone());
            }
            _ => sorted.push(component.clone()),
        }
    }
    Cow::Owned(sorted)
}

/// Whether a component that is no `**` matches every name.
fn is_any(component: &Component) -> bool {
    match component {
        Component::Any => true,
        // No name is empty.
        Component::Wild(Wild { prefix, suffix, gap: true }) => {
            prefix.len() + suffix.len() <= 1 && prefix.iter().chain(suffix).all(|byte| *byte == ANY_BYTE)
        }
        _ => false,
    }
}

/// Whether one name that `other` matches is always matched; neither is `**`.
fn component_covers(wide: &Component, other: &Component) -> bool {
    match (wide, other) {
        (wide, _) if is_any(wide) => true,
        (wide, Component::Literal(name)) => wide.matches(name),
        (Component::Wild(wide), Component::Wild(other)) => wild_covers(wide, other),
        _ => false,
    }
}

fn wild_covers(wide: &Wild, other: &Wild) -> bool {
    // A byte of a name that is known to be that one, or any if it may be any.
    let fits = |want: &u8, byte: &u8| *want == ANY_BYTE || want == byte;
    let begins = |with: &[u8], name: &[u8]| {
        with.len() <= name.len() && with.iter().zip(name).all(|(want, byte)| fits(want, byte))
    };
    let ends = |with: &[u8], name: &[u8]| {
        with.len() <= name.len()
            && with.iter().rev().zip(name.iter().rev()).all(|(want, byte)| fits(want, byte))
    };
    match (wide.gap, other.gap) {
        (true, true) => begins(&wide.prefix, &other.prefix) && ends(&wide.suffix, &other.suffix),
        (false, true) => false,
        (gap, false) => {
            let name = [other.prefix.as_slice(), &other.suffix].concat();
            let len = wide.prefix.len() + wide.suffix.len();
            let long_enough = if gap { name.len() >= len } else { name.len() == len };
            long_enough && begins(&wide.prefix, &name) && ends(&wide.suffix, &name)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn glob(text: &str) -> Glob {
        Glob::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn covering() {
        let check = |wide: &str, other: &str, expect: bool| {
            assert_eq!(glob(wide).covers(&glob(other)), expect, "{wide} {other}");
        };
        check("/a", "/a", true);
        check("/a", "/b", false);
        check("/a", "/a/b", false);
        check("/a/**", "/a", true);
        check("/a/**", "/a/b/c", true);
        check("/a/**", "/a/**/c", true);
        check("/a/**/c", "/a/**", false);
        check("/a/*", "/a/b", true);
        check("/a/*", "/a/**", false);
        check("/a/*/**", "/a/**", false);
        check("/a/*/**", "/a/**/b", true);
        check("/**/*", "/*/**", true);
        check("/*/**", "/**/*", true);
        check("/a/**/b/**", "/a/x/b/y/b", true);
        check("/a/**/b/**/b", "/a/b/b", true);
        check("/a/**/b/**/b", "/a/b", false);
        check("/a/*.pem", "/a/x.pem", true);
        check("/a/*.pem", "/a/?.pem", true);
        check("/a/*.pem", "/a/b*.pem", true);
        check("/a/b*.pem", "/a/*.pem", false);
        check("/a/ab*ba", "/a/aba", false);
        check("/a/?*", "/a/*", true);
        check("/a/??*", "/a/*", false);
        check("/a/??", "/a/b?", true);
        check("/a/b?", "/a/??", false);
        check("/a/*?", "/a/id_?*", true);
        // Not found out.
        check("/a?*", "/a*b", false);
        check("~/x/**", "~/x/y", true);
        check("**/.env", "~/.env", true);
        check("/**", "~", true);
        check("/**/.ssh/**", "~/.ssh/id", true);
        check("/home/**", "~/x", false);
        check("~/**", "/home/u/x", false);
        check("~/**", "/**", false);
    }

    #[test]
    fn excluding() {
        let check = |one: &str, other: &str, expect: bool| {
            assert_eq!(glob(one).excludes(&glob(other)), expect, "{one} {other}");
            assert_eq!(glob(other).excludes(&glob(one)), expect, "{other} {one}");
        };
        check("/a", "/b", true);
        check("/a", "/a", false);
        check("/usr/bin/*", "/usr/bin/ssh", false);
        check("/usr/bin/*", "/usr/local/bin/x", true);
        check("/a/*", "/b/*", true);
        check("/a/**", "/b/**", true);
        check("/a*/**", "/b/x", true);
        check("/**/a", "/b/x", true);
        check("/a/**/x", "/a/b/**", false);
        check("~/a/**", "~/b/**", false);
        check("/**/a", "/b/*/c", true);
        check("/**/a.*", "/b/**/a.x", false);
        check("~/a", "/home/u/b", false);
    }

    fn component() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec!["a", "b", "*", "**", "a*", "*b", "?", "a?", "?*", "*?b", "ab", "??", "a*b"])
    }

    fn any_glob() -> impl Strategy<Value = Glob> {
        let anchor = prop::sample::select(vec!["/", "/", "~/", "/**/"]);
        (anchor, prop::collection::vec(component(), 1..4))
            .prop_map(|(anchor, rest)| glob(&format!("{anchor}{}", rest.join("/"))))
    }

    /// Every path of up to four names of up to three letters of two.
    fn paths() -> Vec<Vec<u8>> {
        let names = ["a", "b", "aa", "ab", "ba", "bb", "aab", "abb", "bab"];
        let mut paths = vec![String::from("/")];
        let mut last = vec![String::new()];
        for _ in 0..4 {
            last = last.iter().flat_map(|path| names.map(|name| format!("{path}/{name}"))).collect();
            paths.extend(last.iter().cloned());
        }
        paths.into_iter().map(String::into_bytes).collect()
    }

    /// Homes in two places.
    const HOMES: [&[u8]; 2] = [b"/a", b"/b/ab"];

    /// Globs that are told apart by their paths alone, with every path that each matches.
    #[test]
    fn what_is_covered_is_what_is_matched() {
        let parts = ["a", "*", "**", "a*", "*b", "?", "?*", "a?"];
        let one = parts.iter().map(|part| format!("/{part}"));
        let two = parts.iter().flat_map(|first| parts.map(|second| format!("/{first}/{second}")));
        let globs: Vec<Glob> = one.chain(two).map(|text| glob(&text)).collect();
        let paths: Vec<Vec<u8>> = paths().into_iter().filter(|path| path.len() < 13).collect();
        let matched: Vec<Vec<bool>> =
            globs.iter().map(|glob| paths.iter().map(|path| glob.matches(HOMES, path)).collect()).collect();
        let mut missed = 0;
        for (wide, of_wide) in globs.iter().zip(&matched) {
            for (other, of_other) in globs.iter().zip(&matched) {
                let is_subset = of_wide.iter().zip(of_other).all(|(wide, other)| *wide || !*other);
                let covers = wide.covers(other);
                assert!(!covers || is_subset, "{wide} {other}");
                missed += usize::from(is_subset && !covers);
            }
        }
        // Of these few, it finds out all.
        assert_eq!(missed, 0);
    }

    proptest! {
        #[test]
        fn what_the_covered_one_matches_is_matched(wide in any_glob(), other in any_glob(), path in prop::sample::select(paths())) {
            if wide.covers(&other) && other.matches(HOMES, &path) {
                prop_assert!(wide.matches(HOMES, &path), "{} {}", wide, other);
            }
            if wide.excludes(&other) {
                prop_assert!(!(wide.matches(HOMES, &path) && other.matches(HOMES, &path)), "{} {}", wide, other);
            }
        }

        #[test]
        fn a_glob_covers_itself_and_covering_adds_up(one in any_glob(), two in any_glob(), three in any_glob()) {
            prop_assert!(one.covers(&one));
            if one.covers(&two) && two.covers(&three) {
                let path = paths().into_iter().find(|path| three.matches(HOMES, path) && !one.matches(HOMES, path));
                prop_assert_eq!(path, None, "{} {} {}", one, two, three);
            }
        }
    }
}
