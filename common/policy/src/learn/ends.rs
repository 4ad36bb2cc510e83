//! What patterns surely begin and end with, and finding by that.

use treeline_abi::paths::ANY_BYTE;

use crate::glob::{Component, Wild};

/// What each name that a component stands for begins with, and what it ends with.
pub(super) fn of_component(component: &Component) -> (Vec<u8>, Vec<u8>) {
    match component {
        Component::Literal(name) => (name.clone(), name.clone()),
        Component::Wild(Wild { prefix, suffix, gap: true }) => (fixed_start(prefix), fixed_end(suffix)),
        Component::Wild(Wild { prefix, suffix, gap: false }) => {
            let whole = [prefix.as_slice(), suffix].concat();
            (fixed_start(&whole), fixed_end(&whole))
        }
        Component::Any | Component::Globstar => (Vec::new(), Vec::new()),
    }
}

/// What each path that components stand for begins with, and what it ends with, as `/name/name`.
pub(super) fn of_components(components: &[Component]) -> (Vec<u8>, Vec<u8>) {
    let (mut start, mut end) = (Vec::new(), Vec::new());
    for component in components {
        match component {
            Component::Literal(name) => start.extend([b"/", name.as_slice()].concat()),
            // It stands for no name, too.
            Component::Globstar => break,
            Component::Any | Component::Wild(_) => {
                start.extend([b"/", of_component(component).0.as_slice()].concat());
                break;
            }
        }
    }
    for component in components.iter().rev() {
        match component {
            Component::Literal(name) => {
                end.splice(..0, [b"/", name.as_slice()].concat());
            }
            Component::Globstar => break,
            Component::Any | Component::Wild(_) => {
                end.splice(..0, of_component(component).1);
                break;
            }
        }
    }
    (start, end)
}

fn fixed_start(text: &[u8]) -> Vec<u8> {
    text.iter().copied().take_while(|byte| *byte != ANY_BYTE).collect()
}

fn fixed_end(text: &[u8]) -> Vec<u8> {
    let start = text.iter().rposition(|byte| *byte == ANY_BYTE).map_or(0, |at| at + 1);
    text[start..].to_vec()
}

/// Numbers by texts, in the texts' order.
#[derive(Debug, Default)]
struct Sorted(Vec<(Vec<u8>, usize)>);

impl Sorted {
    /// Those whose text begins so.
    fn beginning(&self, start: &[u8]) -> &[(Vec<u8>, usize)] {
        let first = self.0.partition_point(|(text, _)| text.as_slice() < start);
        let found = &self.0[first..];
        &found[..found.partition_point(|(text, _)| text.starts_with(start))]
    }
}

/// Components of one directory by their ends, so that not each is compared with each.
#[derive(Debug, Default)]
pub(super) struct Ends {
    starts: Sorted,
    /// Backwards.
    ends: Sorted,
}

impl Ends {
    pub(super) fn of(components: &[Component]) -> Self {
        let mut all = Self::default();
        for (at, component) in components.iter().enumerate() {
            let (start, mut end) = of_component(component);
            end.reverse();
            all.starts.0.push((start, at));
            all.ends.0.push((end, at));
        }
        all.starts.0.sort();
        all.ends.0.sort();
        all
    }

    /// The places of those that a pattern may stand for, in their order: a few too many, and none too few.
    pub(super) fn below(&self, pattern: &Component) -> Vec<usize> {
        let (start, mut end) = of_component(pattern);
        end.reverse();
        let (starts, ends) = (self.starts.beginning(&start), self.ends.beginning(&end));
        let fewer = if starts.len() <= ends.len() { starts } else { ends };
        let mut places: Vec<usize> = fewer.iter().map(|(_, at)| *at).collect();
        places.sort_unstable();
        places
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::glob::{Anchor, Glob};

    /// A name, or a pattern for names.
    pub(in crate::learn) fn component() -> impl Strategy<Value = Component> {
        "[ab]{1,3}|[ab?]{0,2}[*]?[ab?]{1,2}|[*]".prop_map(|text| {
            let glob = Glob::parse(&format!("/{text}")).expect("a pattern");
            glob.components.into_iter().next().expect("one name")
        })
    }

    fn glob(component: &Component) -> Glob {
        Glob { anchor: Anchor::Root, components: vec![component.clone()] }
    }

    #[test]
    fn paths_begin_and_end() {
        let check = |text: &str, start: &str, end: &str| {
            let found = of_components(&Glob::parse(text).expect("a pattern").components);
            assert_eq!(found, (start.into(), end.into()), "{text}");
        };
        check("/a/b", "/a/b", "/a/b");
        check("/a/b*c", "/a/b", "c");
        check("/a/b?c", "/a/b", "c");
        check("/a/*/c", "/a/", "/c");
        check("/a/**", "/a", "");
        check("/a/**/b/*d/e", "/a", "d/e");
        check("/**", "", "");
    }

    proptest! {
        #[test]
        fn none_is_missed(all in prop::collection::vec(component(), 0..12), pattern in component()) {
            let found = Ends::of(&all).below(&pattern);
            for (at, one) in all.iter().enumerate() {
                prop_assert!(found.contains(&at) || !glob(&pattern).covers(&glob(one)), "{pattern:?} {one:?}");
            }
        }
    }
}
