//! The entries of one mapping: each key known, each at most once.

use crate::{
    code::Code,
    diagnostic::{Diagnostic, Diagnostics},
    source::{Span, Spanned},
    suggest,
    yaml::{Node, Value},
};

/// Keys that are known in order to be refused with a reason.
const NEVER_OFFERED: [&str; 1] = ["hosts"];

/// The entries of a mapping whose keys have been checked.
pub(super) struct Fields<'n> {
    /// What the mapping is, such as "a `file` rule".
    what: String,
    span: Span,
    entries: Vec<(&'n Spanned<String>, &'n Node)>,
}

impl<'n> Fields<'n> {
    /// Checks the keys of a mapping; of a key that is given twice the first counts.
    pub(super) fn new(
        node: &'n Node,
        what: &str,
        known: &[&str],
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let offered: Vec<&str> = known.iter().copied().filter(|key| !NEVER_OFFERED.contains(key)).collect();
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
            if !known.contains(&word) {
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
        Some(Self { what: what.to_owned(), span: node.span, entries })
    }

    /// The value of a key, if there.
    pub(super) fn optional(&self, key: &str) -> Option<&'n Node> {
        self.entries.iter().find(|(name, _)| name.value == key).map(|(_, node)| *node)
    }

    /// The value of a key; reports its absence.
    pub(super) fn required(&self, key: &str, diagnostics: &mut Diagnostics) -> Option<&'n Node> {
        let found = self.optional(key);
        if found.is_none() {
            diagnostics.error(
                Code::MissingKey,
                self.head(),
                format!("{} has no `{key}`", self.what),
                Some(format!("add `{key}:`")),
            );
        }
        found
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
