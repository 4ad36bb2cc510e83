//! What an author has said of lints.

use super::fields::{Fields, peek};
use crate::{
    code::Code,
    diagnostic::Diagnostics,
    lint::Silences,
    source::{FileId, Spanned},
    syntax::silence_shape::SILENCE,
    yaml::Node,
};

/// The key of a rule or of a file.
pub(super) const KEY: &str = "silence";

/// The value of the key `silence`: a reason for each code of a lint.
pub(super) fn read(node: &Node, out: &mut Diagnostics) -> Silences {
    let Some(fields) = Fields::of(node, &SILENCE, out) else { return Silences::default() };
    let read = |code: &Code| {
        let span = fields.get(code.name())?.span;
        Some((*code, Spanned { value: fields.text(code.name(), out)?, span }))
    };
    Silences(Code::LINTS.iter().filter_map(read).collect())
}

/// What the files of a policy say of all that is in them.
pub(super) fn of_files<'n>(
    files: impl Iterator<Item = &'n Node>,
    out: &mut Diagnostics,
) -> Vec<(FileId, Silences)> {
    let silences = files.filter_map(|file| peek(file, KEY));
    silences.map(|node| (node.span.file, read(node, out))).collect()
}
