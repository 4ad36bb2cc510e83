//! Approvals of what can never be approved of.

use super::Lints;
use crate::{
    approval::{can_be_approved, written_id},
    code::Code,
    diagnostic::Diagnostic,
    policy::Kind,
};
use treeline_event::Mode;

/// Warns of rules in `approvals` whose refusals cannot be approved of.
pub(super) fn look(lints: &mut Lints<'_>) {
    let policy = lints.policy();
    for approval in &policy.approvals {
        for named in &approval.rules {
            let is_meant = |rule: &&crate::policy::Rule| {
                rule.policy == approval.policy && written_id(rule) == named.value
            };
            let mut rules = policy.rules.iter().filter(is_meant).peekable();
            let Some(first) = rules.peek().copied() else { continue };
            if rules.any(can_be_approved) {
                continue;
            }
            let why = match (&first.kind, first.mode) {
                _ if first.allows => "it allows",
                (Kind::Tool { .. } | Kind::Mcp { .. } | Kind::Posture { .. }, _) => {
                    "no kernel program asks it"
                }
                (Kind::Trace, _) => "it is about processes, which come and go",
                (_, Mode::Monitor) => "it only records",
                (Kind::Exec { .. }, _) => "it names contents, which are refused wherever they are",
                (Kind::File { .. } | Kind::Connect { .. }, _) => {
                    "it is about renames and links, which have two names"
                }
            };
            let message = format!("what `{}` refuses cannot be approved of: {why}", named.value);
            let finding = Diagnostic::warning(Code::IdleApproval, named.span, message);
            lints.report(first, finding.help("take it out of `approvals`"));
        }
    }
}
