//! Files that somebody can rename out of a rule's reach.

use super::{
    Lints,
    cover::{Comparer, is_as_severe, outlives},
};
use crate::{
    code::Code,
    diagnostic::Diagnostic,
    glob::{Anchor, Component, Glob},
    policy::{FileOperation, Kind, Rule},
    source::Spanned,
};

/// Whether nobody can rename what a pattern matches: the kernel makes these files.
fn is_fixed(glob: &Glob) -> bool {
    let made: [&[u8]; 2] = [b"proc", b"sys"];
    glob.anchor == Anchor::Root
        && matches!(glob.components.first(), Some(Component::Literal(name)) if made.contains(&name.as_slice()))
}

/// Warns of rules about reading or writing that let the same files be renamed, and so be read or written elsewhere.
pub(super) fn look(lints: &mut Lints<'_>, comparer: &Comparer) {
    let rules = &lints.policy().rules;
    let judges_renames = |rule: &&Rule| matches!(&rule.kind, Kind::File { operations, .. } if operations.contains(FileOperation::Rename));
    let keepers: Vec<&Rule> = rules.iter().filter(judges_renames).collect();
    for rule in rules {
        // What a broker's files can be used for is not the author's to say.
        let Kind::File { paths, operations } = &rule.kind else { continue };
        let opens = operations.iter().find(|one| matches!(one, FileOperation::Read | FileOperation::Write));
        let Some(opens) =
            opens.filter(|_| !operations.contains(FileOperation::Rename) && !rule.id.contains('/'))
        else {
            continue;
        };
        let keepers: Vec<&Rule> = keepers
            .iter()
            .copied()
            .filter(|keeper| {
                is_as_severe(keeper.mode, rule.mode)
                    && outlives(keeper, rule)
                    && comparer.holds_for_all_of(keeper, rule)
            })
            .collect();
        let is_kept = |path: &Spanned<Glob>| {
            keepers.iter().any(|keeper| comparer.is_in(&path.value, keeper.kind.globs()))
        };
        let Some(loose) = paths.iter().find(|path| !is_fixed(&path.value) && !is_kept(path)) else {
            continue;
        };
        if comparer.has_given_up() {
            return;
        }
        let done = match opens {
            FileOperation::Read => "read",
            _ => "written",
        };
        let message = format!(
            "`{}` does not name `rename`: what `{}` matches can be renamed, and {done} under its new name",
            rule.id, loose.value
        );
        let help =
            "add `rename` to `operations`, or a rule with `rename` for the same files and the same subjects";
        let finding = Diagnostic::warning(Code::RenamedAway, rule.span, message).help(help);
        lints.report(rule, finding.label(loose.span, "this pattern"));
    }
}
