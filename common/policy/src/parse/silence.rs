//! What an author has said of lints.

use super::{fields::Fields, scalar};
use crate::{
    code::Code,
    diagnostic::Diagnostics,
    lint::Silences,
    source::{FileId, Spanned},
    yaml::Node,
};

/// The key of a rule or of a file.
pub(super) const KEY: &str = "silence";
/// Characters of a reason: it is read by who reviews the policy.
const REASON_CHARS_MAX: usize = 1024;

/// The value of the key `silence`: a reason for each code of a lint.
pub(super) fn read(node: &Node, out: &mut Diagnostics) -> Silences {
    let names: Vec<&str> = Code::LINTS.iter().map(|code| code.name()).collect();
    let Some(fields) = Fields::new(node, "`silence`", &names, out) else { return Silences::default() };
    let read = |code: &Code| {
        let node = fields.optional(code.name())?;
        let value = scalar::text(node, &format!("`{}`", code.name()), REASON_CHARS_MAX, true, out)?;
        Some((*code, Spanned { value, span: node.span }))
    };
    Silences(Code::LINTS.iter().filter_map(read).collect())
}

/// What the files of a policy say of all that is in them.
pub(super) fn of_files<'n>(
    files: impl Iterator<Item = &'n Node>,
    out: &mut Diagnostics,
) -> Vec<(FileId, Silences)> {
    let silences = files.filter_map(|file| super::fields::peek(file, KEY));
    silences.map(|node| (node.span.file, read(node, out))).collect()
}
