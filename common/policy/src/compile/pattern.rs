//! Patterns as rows of token sets, and the merging that makes many of them one.
//!
//! A token of the kernel's matcher is one bit, and nothing says that only one name may set it. `~/.ssh/**` and
//! `~/.aws/**` of one rule for five users in `/home` are therefore one pattern: `home`, one of five names, one of
//! two names, `**`. What is merged differs in one position only, so the merged pattern matches exactly the union.

use std::collections::{BTreeMap, BTreeSet};

use super::place::{Placed, Where};
use crate::glob::{Component, Wild};

/// What one position of a pattern matches.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Token {
    /// `**`.
    Globstar,
    /// `*`.
    Any,
    /// One of these names, or a name that one of these globs matches.
    Names { literals: BTreeSet<Vec<u8>>, wilds: BTreeSet<Wild> },
}

impl From<Component> for Token {
    fn from(component: Component) -> Self {
        match component {
            Component::Globstar => Self::Globstar,
            Component::Any => Self::Any,
            Component::Literal(name) => {
                Self::Names { literals: BTreeSet::from([name]), wilds: BTreeSet::new() }
            }
            Component::Wild(wild) => Self::Names { literals: BTreeSet::new(), wilds: BTreeSet::from([wild]) },
        }
    }
}

/// The filesystems of a pattern.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Devices {
    /// All of them.
    Everywhere,
    /// These.
    Some(BTreeSet<u32>),
}

/// A pattern in the order in which the kernel sees names: the file's own first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pattern {
    pub(super) tokens: Vec<Token>,
    pub(super) devices: Devices,
}

impl Pattern {
    /// Bits that it occupies: a start bit and one for each token.
    pub(super) fn bits(&self) -> usize {
        self.tokens.len() + 1
    }
}

/// As few patterns as merging finds that match exactly what these places match.
pub(super) fn merge(places: BTreeSet<Placed>) -> Vec<Pattern> {
    let mut devices: BTreeMap<Vec<Component>, Devices> = BTreeMap::new();
    for Placed { on, components } in places {
        let held = devices.entry(components).or_insert_with(|| Devices::Some(BTreeSet::new()));
        match (on, &mut *held) {
            (Where::Everywhere, _) => *held = Devices::Everywhere,
            (Where::Device(device), Devices::Some(some)) => _ = some.insert(device),
            (Where::Device(_), Devices::Everywhere) => {}
        }
    }
    let mut groups: BTreeMap<Devices, BTreeSet<Vec<Token>>> = BTreeMap::new();
    for (components, on) in devices {
        let tokens = components.into_iter().rev().map(Token::from).collect();
        groups.entry(on).or_default().insert(tokens);
    }
    let merged = groups.into_iter().flat_map(|(devices, rows)| {
        merge_rows(rows).into_iter().map(move |tokens| Pattern { tokens, devices: devices.clone() })
    });
    merged.collect()
}

/// Merges until no position has anything left to merge. Only rows of one length can be equal but for one position.
fn merge_rows(rows: BTreeSet<Vec<Token>>) -> BTreeSet<Vec<Token>> {
    let mut by_len: BTreeMap<usize, BTreeSet<Vec<Token>>> = BTreeMap::new();
    for row in rows {
        by_len.entry(row.len()).or_default().insert(row);
    }
    by_len.into_iter().flat_map(|(len, rows)| merge_rows_of(len, rows)).collect()
}

/// Each round makes the set smaller, so it ends. Where all rows have the same there is nothing to merge: they differ
/// elsewhere.
fn merge_rows_of(len: usize, mut rows: BTreeSet<Vec<Token>>) -> BTreeSet<Vec<Token>> {
    loop {
        let before = rows.len();
        for position in 0..len {
            let first = rows.first().and_then(|row| row.get(position));
            if rows.iter().any(|row| row.get(position) != first) {
                rows = merge_at(rows, position);
            }
        }
        if rows.len() == before {
            return rows;
        }
    }
}

/// Merges the rows that are equal but for the names at one position.
fn merge_at(rows: BTreeSet<Vec<Token>>, position: usize) -> BTreeSet<Vec<Token>> {
    let mut merged: BTreeSet<Vec<Token>> = BTreeSet::new();
    let mut groups: BTreeMap<Vec<Token>, Token> = BTreeMap::new();
    for mut row in rows {
        let empty = Token::Names { literals: BTreeSet::new(), wilds: BTreeSet::new() };
        match row.get_mut(position) {
            Some(slot @ Token::Names { .. }) => {
                let token = std::mem::replace(slot, empty.clone());
                let union = groups.entry(row).or_insert(empty);
                if let (
                    Token::Names { literals, wilds },
                    Token::Names { literals: more, wilds: more_wilds },
                ) = (union, token)
                {
                    literals.extend(more);
                    wilds.extend(more_wilds);
                }
            }
            _ => _ = merged.insert(row),
        }
    }
    for (mut row, token) in groups {
        row[position] = token;
        merged.insert(row);
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        compile::place::place,
        glob::Glob,
        host::{Home, Host, MountTable},
    };

    #[track_caller]
    fn check(globs: &[&str], patterns: usize) {
        let home = |name: &str| Home { uid: 0, path: name.into() };
        let host = Host { homes: vec![home("/root"), home("/home/a"), home("/home/b"), home("/home/c")] };
        let resolver = MountTable::single(1);
        let glob = |text: &&str| Glob::parse(text).expect("valid glob");
        let places = globs.iter().map(glob).flat_map(|glob| place(&glob, &host, &resolver)).collect();
        assert_eq!(merge(places).len(), patterns, "{globs:?}");
    }

    #[test]
    fn merging() {
        check(&["~/.ssh/**"], 2);
        check(&["~/.ssh/**", "~/.aws/**", "~/.kube/**"], 2);
        check(&["~/.ssh/**", "~/.netrc"], 4);
        check(&["/a/x", "/b/x", "/a/y"], 2);
        check(&["/a/x", "/b/x", "/a/y", "/b/y"], 1);
        check(&["/a/*.pem", "/a/id_*"], 1);
        check(&["/a/*", "/a/b"], 2);
    }
}
