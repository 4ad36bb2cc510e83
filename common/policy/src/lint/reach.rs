//! Files that somebody can rename out of a rule's reach.

use super::{
    Lints,
    cover::{Comparer, is_as_severe, outlives},
    shadow::is_lifted_no_further,
};
use crate::{
    code::Code,
    compile::is_lifted_by,
    diagnostic::Diagnostic,
    glob::{Anchor, Component, Glob},
    policy::{DEFAULT_PRIORITY, FileOperation, Kind, Rule},
    source::Spanned,
};

fn done(opens: FileOperation) -> &'static str {
    match opens {
        FileOperation::Read => "read",
        _ => "written",
    }
}

/// A rule that allows renames of something that another one is about, and what it does not allow of it: to open it.
fn renaming<'p>(rules: &'p [Rule], rule: &Rule) -> Option<(&'p Rule, FileOperation)> {
    let Kind::File { operations, .. } = &rule.kind else { return None };
    let opens = [FileOperation::Read, FileOperation::Write];
    let opens: Vec<_> = opens.into_iter().filter(|one| operations.contains(*one)).collect();
    let meets = |allows: &Rule| {
        let paths = rule.kind.globs().iter();
        paths
            .into_iter()
            .any(|path| allows.kind.globs().iter().any(|other| !other.value.excludes(&path.value)))
    };
    rules.iter().find_map(|allows| {
        let Kind::File { operations: allowed, .. } = &allows.kind else { return None };
        let is_renamed = is_lifted_by(rule, allows) && allowed.contains(FileOperation::Rename);
        let left =
            opens.iter().find(|one| !allowed.contains(**one)).filter(|_| is_renamed && meets(allows))?;
        Some((allows, *left))
    })
}

/// Whether nobody can rename what a pattern matches: the kernel makes these files.
fn is_fixed(glob: &Glob) -> bool {
    let made: [&[u8]; 2] = [b"proc", b"sys"];
    glob.anchor == Anchor::Root
        && matches!(glob.components.first(), Some(Component::Literal(name)) if made.contains(&name.as_slice()))
}

/// Warns of rules about reading or writing that let the same files be renamed, and so be read or written elsewhere.
pub(super) fn look(lints: &mut Lints<'_>, comparer: &Comparer) {
    let rules = &lints.policy().rules;
    let allowing = lints.policy().allowing();
    let judges_renames = |rule: &&Rule| matches!(&rule.kind, Kind::File { operations, .. } if operations.contains(FileOperation::Rename));
    let is_strict = |rule: &&Rule| !rule.allows && rule.spares.is_empty();
    let keepers: Vec<&Rule> = rules.iter().filter(judges_renames).filter(is_strict).collect();
    for rule in rules.iter().filter(|rule| !rule.allows) {
        // What a broker's files can be used for is not the author's to say.
        let Kind::File { paths, operations } = &rule.kind else { continue };
        if let Some((allows, opens)) = renaming(rules, rule) {
            let message = format!(
                "`{}` allows renames of what `{}` is about: it can then be {} under its new name",
                allows.id,
                rule.id,
                done(opens)
            );
            let help = "remove `rename` from what it allows, or allow the rest as well";
            let finding = Diagnostic::warning(Code::RenamedAway, rule.span, message).help(help);
            lints.report(rule, finding.label(allows.span, "by this rule"));
            continue;
        }
        let opens = operations.iter().find(|one| matches!(one, FileOperation::Read | FileOperation::Write));
        // What a broker's files can be used for is not the author's to say; a default is.
        let is_own = !rule.id.contains('/') || rule.priority == DEFAULT_PRIORITY;
        let Some(opens) = opens.filter(|_| !operations.contains(FileOperation::Rename) && is_own) else {
            continue;
        };
        let keepers: Vec<&Rule> = keepers
            .iter()
            .copied()
            .filter(|keeper| {
                is_as_severe(keeper.mode, rule.mode)
                    && is_lifted_no_further(&allowing, keeper, rule)
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
        let message = format!(
            "`{}` does not name `rename`: what `{}` matches can be renamed, and {} under its new name",
            rule.id,
            loose.value,
            done(opens)
        );
        let help = match rule.priority {
            DEFAULT_PRIORITY => {
                "add the default `write`, which judges renames, and allow no renames of what must not be read"
            }
            _ => {
                "add `rename` to `operations`, or a rule with `rename` for the same files and the same subjects"
            }
        };
        let finding = Diagnostic::warning(Code::RenamedAway, rule.span, message).help(help);
        lints.report(rule, finding.label(loose.span, "this pattern"));
    }
}
