//! The entries of one mapping, by its description: each key known, each at most once, none missing.

use super::scalar;
use crate::{
    code::Code,
    diagnostic::{Diagnostic, Diagnostics},
    source::{Span, Spanned},
    suggest,
    syntax::shape::{Key, Kinds, Presence, Record, Shape},
    yaml::{Node, Value},
};

/// The entries of a mapping whose keys have been checked.
pub(super) struct Fields<'n> {
    known: Vec<&'static Key>,
    span: Span,
    entries: Vec<(&'n Spanned<String>, &'n Node)>,
}

impl<'n> Fields<'n> {
    /// Checks the keys of a mapping: each known, each at most once, none missing. Of a key that is given twice the first
    /// counts.
    pub(super) fn of(node: &'n Node, record: &Record, out: &mut Diagnostics) -> Option<Self> {
        Self::new(node, record.what, record.keys().collect(), |_| true, out)
    }

    /// Checks the keys of a mapping of several kinds, with its kind if that is known. Without it, which keys belong is not
    /// known: the keys of every kind are taken for known, and those are missing that every kind has to have.
    pub(super) fn of_kind(
        node: &'n Node,
        kinds: &Kinds,
        record: Option<&Record>,
        out: &mut Diagnostics,
    ) -> Option<Self> {
        if let Some(record) = record {
            return Self::of(node, record, out);
        }
        Self::new(node, kinds.what, kinds.keys(), |key| kinds.is_common(key), out)
    }

    fn new(
        node: &'n Node,
        what: &str,
        known: Vec<&'static Key>,
        is_asked_for: impl Fn(&Key) -> bool,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let offered: Vec<&str> = known.iter().filter(|key| key.is_offered()).map(|key| key.name).collect();
        let Value::Mapping(pairs) = &node.value else {
            let help = Some(format!("its keys are {}", suggest::list(&offered).replace(" or ", " and ")));
            diagnostics.error(
                Code::WrongType,
                node.span,
                format!("{what} has to be a mapping, not {}", node.describe()),
                help,
            );
            return None;
        };
        let mut entries: Vec<(&Spanned<String>, &Node)> = Vec::new();
        for (key, value) in pairs {
            let word = key.value.as_str();
            if !known.iter().any(|key| key.name == word) {
                let help = suggest::nearest(word, offered.iter().copied()).map_or_else(
                    || format!("its keys are {}", suggest::list(&offered).replace(" or ", " and ")),
                    |near| format!("did you mean `{near}`?"),
                );
                diagnostics.error(
                    Code::UnknownKey,
                    key.span,
                    format!("unknown key `{}` in {what}", clip(word)),
                    Some(help),
                );
            } else if let Some((first, _)) = entries.iter().find(|(seen, _)| seen.value == word) {
                let message = format!("`{word}` is given twice in {what}");
                let twice = Diagnostic::error(Code::DuplicateKey, key.span, message);
                diagnostics.push(twice.help("remove one of them").label(first.span, "the first one is here"));
            } else {
                entries.push((key, value));
            }
        }
        let fields = Self { known, span: node.span, entries };
        let required = fields.known.iter().filter(|key| key.presence == Presence::Required);
        for key in required.filter(|key| fields.get(key.name).is_none() && is_asked_for(key)) {
            diagnostics.error(
                Code::MissingKey,
                fields.head(),
                format!("{what} has no `{}`", key.name),
                Some(format!("add `{}:`", key.name)),
            );
        }
        Some(fields)
    }

    /// The value of a key, if there.
    pub(super) fn get(&self, key: &str) -> Option<&'n Node> {
        debug_assert!(self.known.iter().any(|known| known.name == key), "`{key}` is not described");
        self.entries.iter().find(|(name, _)| name.value == key).map(|(_, node)| *node)
    }

    /// What is at a key, or that there is nothing; none if it could not be read.
    pub(super) fn maybe<T>(&self, key: &str, read: impl FnOnce(&'n Node) -> Option<T>) -> Option<Option<T>> {
        self.get(key).map_or(Some(None), |node| read(node).map(Some))
    }

    /// The text at a key, if it is there and in order.
    pub(super) fn text(&self, key: &str, out: &mut Diagnostics) -> Option<String> {
        let node = self.get(key)?;
        let known = self.known.iter().find(|known| known.name == key)?;
        let Shape::Text(text) = known.shape else { return None };
        scalar::text(node, &format!("`{key}`"), text, out)
    }

    /// Where the mapping begins.
    pub(super) fn head(&self) -> Span {
        self.span.head()
    }
}

/// The keys of a mapping without any check, to find out what it is.
pub(super) fn peek<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    let Value::Mapping(pairs) = &node.value else { return None };
    pairs.iter().find(|(name, _)| name.value == key).map(|(_, value)| value)
}

/// Text of the policy for a message, cut to what a line can hold.
pub(super) fn clip(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    if text.chars().count() <= CHARS_MAX {
        text.to_owned()
    } else {
        text.chars().take(CHARS_MAX).chain(['…']).collect()
    }
}
