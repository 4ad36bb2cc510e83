//! What holds where no rule does.

use super::{
    fields::Fields,
    rule::{self, Action},
    scalar,
};
use crate::{
    call::{Names, When},
    diagnostic::Diagnostics,
    policy::{About, DEFAULT_PRIORITY, Kind, Rule, Severity},
    yaml::Node,
};

/// The kinds that have a default.
const KINDS: [&str; 2] = ["tool", "mcp"];

/// The value of `defaults` as rules: each is about everything of its kind, and every rule that allows has a higher priority.
pub(super) fn read(node: &Node, out: &mut Diagnostics) -> Vec<Rule> {
    let Some(fields) = Fields::new(node, "`defaults`", &KINDS, out) else { return Vec::new() };
    KINDS.into_iter().filter_map(|kind| one(kind, fields.optional(kind)?, out)).collect()
}

fn one(kind: &str, node: &Node, out: &mut Diagnostics) -> Option<Rule> {
    let what = format!("the default of `{kind}`");
    let fields = Fields::new(node, &what, &["action", "reason", "severity"], out)?;
    let words = [("deny", Action::Deny), ("record", Action::Record)];
    let action = fields.required("action", out).and_then(|node| scalar::word(node, "action", &words, out));
    let reason = fields.required("reason", out).and_then(|node| rule::reason(node, out));
    let severity = match fields.optional("severity") {
        Some(node) => scalar::word(node, "severity", &Severity::WORDS, out),
        None => Some(Severity::default()),
    };
    let kind_of = match kind {
        "tool" => Kind::Tool { tools: Names::Any, when: When::default() },
        _ => Kind::Mcp { servers: Vec::new(), tools: Names::Any },
    };
    Some(Rule {
        id: format!("default/{kind}"),
        mode: action?.mode(),
        adopts: None,
        allows: false,
        priority: DEFAULT_PRIORITY,
        severity: severity?,
        reason: reason?,
        about: About::default(),
        kind: kind_of,
        exceptions: Vec::new(),
        only: Vec::new(),
        expires: None,
        span: node.span.head(),
    })
}
