//! The comments of a text.

use super::{Node, Value};

/// A comment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Comment {
    /// Where it begins.
    pub(crate) start: usize,
    /// From its `#` on.
    pub(crate) text: String,
    /// Whether nothing is before it on its line.
    pub(crate) is_alone: bool,
}

/// Every comment of the text that a node is the root of, in order. A `#` outside of scalars begins one: nothing else in the
/// language has it.
pub(crate) fn comments(text: &str, root: &Node) -> Vec<Comment> {
    let mut scalars = Vec::new();
    collect(root, &mut scalars);
    scalars.sort_unstable();
    scalars.push((text.len(), text.len()));
    let (mut found, mut at) = (Vec::new(), 0);
    for (start, end) in scalars {
        while let Some(hash) = text.get(at..start).and_then(|gap| gap.find('#')) {
            let start = at + hash;
            let line = text[start..].split(['\n', '\r']).next().unwrap_or_default();
            let before = text[..start].rfind(['\n', '\r']).map_or(0, |newline| newline + 1);
            let is_alone = text[before..start].trim_matches([' ', '\t', '\u{feff}']).is_empty();
            found.push(Comment { start, text: line.trim_end().to_owned(), is_alone });
            at = start + line.len();
        }
        at = at.max(end);
    }
    found
}

fn collect(node: &Node, into: &mut Vec<(usize, usize)>) {
    match &node.value {
        Value::Scalar { .. } => into.push((node.span.start, node.span.end)),
        Value::Sequence(items) => items.iter().for_each(|item| collect(item, into)),
        Value::Mapping(entries) => {
            for (key, value) in entries {
                into.push((key.span.start, key.span.end));
                collect(value, into);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        diagnostic::Diagnostics,
        source::{FileId, Source},
        yaml,
    };

    #[test]
    fn what_is_a_comment() {
        let check = |text: &str, expect: &[(&str, bool)]| {
            let mut out = Diagnostics::about(Source::new("p", text));
            let root = yaml::parse(FileId::default(), &mut out).unwrap_or_else(|| panic!("{out}"));
            let found = comments(text, &root);
            let found: Vec<(&str, bool)> =
                found.iter().map(|one| (one.text.as_str(), one.is_alone)).collect();
            assert_eq!(found, expect, "{text}");
        };
        check("# a\na: 1 # b  \n# c", &[("# a", true), ("# b", false), ("# c", true)]);
        check("a: x#y\nb: 'p # q' # c\nd: \"\\\" # e\" # f\n", &[("# c", false), ("# f", false)]);
        check(
            "a: | # h\n  # text\n  more\n\n # c\nb: >-\n\n  x # y\n# d\n",
            &[("# h", false), ("# c", true), ("# d", true)],
        );
        check(
            "a: [x, # b\n  'it''s # x', # c\n # d\n] # e\r\n",
            &[("# b", false), ("# c", false), ("# d", true), ("# e", false)],
        );
        check("a: # b\n  # c\n  - # d\n    x: y\n", &[("# b", false), ("# c", true), ("# d", false)]);
        check("'k # k': {a: 1} # b\n---x: #\n", &[("# b", false), ("#", false)]);
        // Behind what is not written, and blocks without lines.
        check("a:\n  - {b: c, by} # d\n", &[("# d", false)]);
        check("a: {b} # c\n", &[("# c", false)]);
        check("- {a} # x\n- b\n", &[("# x", false)]);
        check("- [a: ] # x\n- {b: , c: # y\n}\n", &[("# x", false), ("# y", false)]);
        for header in ["|", ">", "|+", ">-", "|1", "|+1", ">1-"] {
            check(&format!("a: {header} # why"), &[("# why", false)]);
            check(&format!("a: {header} # why\n"), &[("# why", false)]);
            check(&format!("a: {header} # why\n\n \n"), &[("# why", false)]);
            check(&format!("a: {header} # why\nb: c # d\n"), &[("# why", false), ("# d", false)]);
        }
    }
}
