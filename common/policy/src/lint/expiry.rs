//! Rules whose time comes soon.

use std::collections::BTreeSet;

use super::Lints;
use crate::{code::Code, diagnostic::Diagnostic, moment::Moment};

/// How long before its time a rule is warned of: two weeks, in which somebody comes back from a holiday.
const NOTICE_S: u64 = 14 * 24 * 60 * 60;

/// Warns of the rules that expire soon.
pub(super) fn look(lints: &mut Lints<'_>, now: Moment) {
    let mut seen = BTreeSet::new();
    for rule in &lints.policy().rules {
        let Some(expires) = &rule.expires else { continue };
        let is_soon = expires.value > now && expires.value.0 - now.0 <= NOTICE_S;
        if !is_soon || !seen.insert(rule.span) {
            continue;
        }
        let message =
            format!("`{}` expires soon: from {} on it is not in force", rule.written_id(), expires.value);
        let help = match rule.allows {
            true => "give it a later date if it is still needed; without it, what it allows can be refused",
            false => "give it a later date if it is still needed; without it, what it refuses is allowed",
        };
        let finding = Diagnostic::warning(Code::ExpiresSoon, expires.span, message).help(help);
        lints.report(rule, finding);
    }
}
