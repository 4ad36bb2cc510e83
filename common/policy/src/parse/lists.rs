//! Named lists, and `$name` in the places where their items can stand.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::{
    fields::{Fields, clip},
    scalar::{self, UnixGlob},
};
use crate::{
    code::Code,
    diagnostic::{Diagnostic, Diagnostics},
    glob::Glob,
    source::{Span, Spanned},
    suggest,
    syntax::{
        policy_shape::{LISTS, LISTS_MAX},
        scalars::ID,
    },
    yaml::{self, Node},
};

/// Items that all `$name` of a policy stand for together: twice what the kernel's tables hold. Lists of lists would
/// otherwise multiply.
const COPIES_MAX: usize = 1 << 16;

/// What the items of a list are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Paths,
    Addresses,
    Hashes,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Paths, Self::Addresses, Self::Hashes];

    /// The key for it, which is also the word for its items.
    fn key(self) -> &'static str {
        match self {
            Self::Paths => "paths",
            Self::Addresses => "addresses",
            Self::Hashes => "hashes",
        }
    }

    fn read(self, node: &Node, out: &mut Diagnostics) -> Option<Value> {
        match self {
            Self::Paths => scalar::glob(node, out).map(Value::Path),
            Self::Addresses => scalar::net(node, out).map(Value::Address),
            Self::Hashes => scalar::sha256(node, out).map(Value::Hash),
        }
    }
}

/// An item of a list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Value {
    Path(Glob),
    Address(IpNet),
    Hash([u8; 32]),
}

/// What is written where an item can stand.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Written<T> {
    One(T),
    List(String),
}

#[derive(Debug)]
struct List {
    kind: Kind,
    /// Where its name is written.
    span: Span,
    written: Vec<Spanned<Written<Value>>>,
    /// What it stands for, once that is known.
    items: Option<Vec<Spanned<Value>>>,
    /// Whether a rule has it.
    used: bool,
}

/// The named lists of a policy.
#[derive(Debug)]
pub(super) struct Lists {
    lists: BTreeMap<String, List>,
    /// Whether every file that can define one was read; else none is said to be unknown.
    complete: bool,
    /// None when it has been said that they are too many.
    copies_left: Option<usize>,
}

impl Lists {
    /// None yet, of a policy of which all files were read or not.
    pub(super) fn new(complete: bool) -> Self {
        Self { lists: BTreeMap::new(), complete, copies_left: Some(COPIES_MAX) }
    }

    /// Takes up the lists that one text defines: the value of its key `lists`.
    pub(super) fn add(&mut self, node: &Node, out: &mut Diagnostics) {
        let Some(fields) = Fields::of(node, &LISTS, out) else { return };
        for kind in Kind::ALL {
            let Some(node) = fields.get(kind.key()) else { continue };
            let yaml::Value::Mapping(pairs) = &node.value else {
                let message = format!("`{}` has to be a mapping, not {}", kind.key(), node.describe());
                let help = format!("write `{}:` and below it `name: [...]`", kind.key());
                out.error(Code::WrongType, node.span, message, Some(help));
                continue;
            };
            for (name, node) in pairs {
                self.define(kind, name, node, out);
            }
        }
    }

    fn define(&mut self, kind: Kind, name: &Spanned<String>, node: &Node, out: &mut Diagnostics) {
        let Spanned { value: name, span } = name;
        let written =
            scalar::list(node, &format!("`{}`", clip(name)), out, |item, out| match reference(item) {
                Some(name) => Some(Written::List(name.to_owned())),
                None => kind.read(item, out).map(Written::One),
            });
        if name.chars().count() > ID.chars_max {
            let message = format!("a name of a list has at most {} characters", ID.chars_max);
            out.error(Code::TooLong, *span, message, None);
        } else if !scalar::is_kebab(name) {
            let message =
                format!("`{}` is not a name: lower-case letters and digits, separated by `-`", clip(name));
            out.error(Code::BadId, *span, message, None);
        } else if let Some(first) = self.lists.get(name) {
            let twice =
                Diagnostic::error(Code::DuplicateList, *span, format!("`{name}` is the name of two lists"));
            out.push(twice.help("names of lists are unique").label(first.span, "the first one is here"));
        } else if self.lists.len() >= LISTS_MAX {
            let help = "write the items of small lists where they are used";
            out.error(Code::TooManyLists, *span, format!("more than {LISTS_MAX} lists"), Some(help.into()));
        } else {
            self.lists.insert(name.clone(), List { kind, span: *span, written, items: None, used: false });
        }
    }

    /// Finds out what each list stands for, when all have been added.
    pub(super) fn resolve(&mut self, out: &mut Diagnostics) {
        for name in self.lists.keys().cloned().collect::<Vec<_>>() {
            self.resolve_one(&name, &mut Vec::new(), out);
        }
    }

    /// `path` are the lists that are being resolved, from the first on, each with the place by which it was come to.
    fn resolve_one(&mut self, name: &str, path: &mut Vec<(String, Span)>, out: &mut Diagnostics) {
        let Some(List { kind, written, items: None, .. }) = self.lists.get(name) else { return };
        let (kind, written) = (*kind, written.clone());
        let mut items = Vec::new();
        for Spanned { value, span } in written {
            match value {
                Written::One(value) => items.push(Spanned { value, span }),
                Written::List(other) => {
                    if path.iter().any(|(name, _)| *name == other) || other == name {
                        cycle(&other, span, name, path, out);
                        continue;
                    }
                    path.push((name.to_owned(), span));
                    self.resolve_one(&other, path, out);
                    path.pop();
                    items.extend(self.items(&other, kind, span, out));
                }
            }
        }
        let mut seen = BTreeSet::new();
        items.retain(|item| seen.insert(item.value.clone()));
        if let Some(list) = self.lists.get_mut(name) {
            list.items = Some(items);
        }
    }

    /// What `$name` at `span` stands for; reports why it cannot stand there.
    fn items(&mut self, name: &str, kind: Kind, span: Span, out: &mut Diagnostics) -> Vec<Spanned<Value>> {
        let Some(list) = self.lists.get(name) else {
            if !self.complete {
                return Vec::new();
            }
            let known =
                self.lists.iter().filter(|(_, list)| list.kind == kind).map(|(name, _)| name.as_str());
            let help = match suggest::nearest(name, known) {
                Some(near) => format!("did you mean `${near}`?"),
                None => format!("add `{}: [...]` to `{}` of `lists`", clip(name), kind.key()),
            };
            out.error(Code::UnknownList, span, format!("there is no list `{}`", clip(name)), Some(help));
            return Vec::new();
        };
        if list.kind != kind {
            let (is, wanted) = (list.kind.key(), kind.key());
            let wrong = Diagnostic::error(
                Code::WrongList,
                span,
                format!("`${name}` is a list of {is}, not of {wanted}"),
            );
            out.push(wrong.label(list.span, "it is defined here"));
            return Vec::new();
        }
        let items = list.items.clone().unwrap_or_default();
        let Some(left) = self.copies_left else { return Vec::new() };
        self.copies_left = left.checked_sub(items.len());
        if self.copies_left.is_none() {
            let message =
                format!("with `${name}` lists stand for more than {COPIES_MAX} items of this policy");
            out.error(Code::TooLong, span, message, Some("use it in fewer places".into()));
            return Vec::new();
        }
        items
    }

    /// A list of a rule, with what its `$name` stand for. An item that comes from several of them counts once.
    fn read<T: Ord + Clone>(
        &mut self,
        node: &Node,
        list: (&str, Kind),
        item: Item<T>,
        out: &mut Diagnostics,
    ) -> Vec<Spanned<T>> {
        let (what, kind) = list;
        let written = scalar::list(node, what, out, |node, out| match reference(node) {
            Some(name) => Some(Written::List(name.to_owned())),
            None => (item.read)(node, out).map(Written::One),
        });
        let mut items = Vec::with_capacity(written.len());
        for Spanned { value, span } in written {
            match value {
                Written::One(value) => items.push(Spanned { value, span }),
                Written::List(name) => {
                    let listed = self.items(&name, kind, span, out).into_iter();
                    let listed = listed
                        .filter_map(|one| Some(Spanned { value: (item.of)(one.value)?, span: one.span }));
                    items.extend(listed);
                    if let Some(list) = self.lists.get_mut(&name) {
                        list.used = true;
                    }
                }
            }
        }
        let mut seen = BTreeSet::new();
        items.retain(|item| seen.insert(item.value.clone()));
        items
    }

    /// A list of paths.
    pub(super) fn paths(&mut self, node: &Node, what: &str, out: &mut Diagnostics) -> Vec<Spanned<Glob>> {
        let of = |value| if let Value::Path(glob) = value { Some(glob) } else { None };
        self.read(node, (what, Kind::Paths), Item { read: scalar::glob, of }, out)
    }

    /// A list of unix sockets, of which those with a path can be in lists.
    pub(super) fn sockets(
        &mut self,
        node: &Node,
        what: &str,
        out: &mut Diagnostics,
    ) -> Vec<Spanned<UnixGlob>> {
        let of = |value| if let Value::Path(glob) = value { Some(UnixGlob::Path(glob)) } else { None };
        self.read(node, (what, Kind::Paths), Item { read: scalar::unix, of }, out)
    }

    /// A list of addresses.
    pub(super) fn addresses(
        &mut self,
        node: &Node,
        what: &str,
        out: &mut Diagnostics,
    ) -> Vec<Spanned<IpNet>> {
        let of = |value| if let Value::Address(net) = value { Some(net) } else { None };
        self.read(node, (what, Kind::Addresses), Item { read: scalar::net, of }, out)
    }

    /// A list of SHA-256.
    pub(super) fn hashes(
        &mut self,
        node: &Node,
        what: &str,
        out: &mut Diagnostics,
    ) -> Vec<Spanned<[u8; 32]>> {
        let of = |value| if let Value::Hash(digest) = value { Some(digest) } else { None };
        self.read(node, (what, Kind::Hashes), Item { read: scalar::sha256, of }, out)
    }

    /// Warns of lists that are in no rule, directly or by another list, when all rules have been read.
    pub(super) fn warn_of_unused(&self, out: &mut Diagnostics) {
        let mut open: Vec<&str> =
            self.lists.iter().filter(|(_, list)| list.used).map(|(name, _)| name.as_str()).collect();
        let mut used: BTreeSet<&str> = BTreeSet::new();
        while let Some(name) = open.pop() {
            let Some(list) = self.lists.get(name).filter(|_| used.insert(name)) else { continue };
            open.extend(list.written.iter().filter_map(|item| match &item.value {
                Written::List(other) => Some(other.as_str()),
                Written::One(_) => None,
            }));
        }
        for (name, list) in self.lists.iter().filter(|(name, _)| !used.contains(name.as_str())) {
            let help = format!("remove it, or write `${name}` in a rule");
            out.warning(Code::UnusedList, list.span, format!("no rule has the list `{name}`"), Some(help));
        }
    }
}

/// How an item is read, and how it comes out of a list.
struct Item<T> {
    read: fn(&Node, &mut Diagnostics) -> Option<T>,
    of: fn(Value) -> Option<T>,
}

/// The name of the list that a scalar stands for.
fn reference(node: &Node) -> Option<&str> {
    match &node.value {
        yaml::Value::Scalar { text, .. } => text.strip_prefix('$'),
        _ => None,
    }
}

/// Reports that `name` has, at `span`, a list that it is itself in.
fn cycle(list: &str, span: Span, name: &str, path: &[(String, Span)], out: &mut Diagnostics) {
    let mut found = Diagnostic::error(Code::ListCycle, span, format!("`${list}` is a part of itself"))
        .help("remove one of these");
    let within = path.iter().skip_while(|(outer, _)| outer != list);
    let inner = within.clone().skip(1).map(|(outer, _)| outer.as_str()).chain([name]);
    for ((outer, at), inner) in within.zip(inner) {
        found = found.label(*at, format!("`${outer}` has `${inner}`"));
    }
    out.push(found);
}
