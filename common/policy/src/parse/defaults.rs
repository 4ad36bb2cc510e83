//! What holds where no rule does.

use super::{fields::Fields, scalar};
use crate::{
    call::{Names, When},
    diagnostic::Diagnostics,
    lint::Silences,
    policy::{About, DEFAULT_PRIORITY, Kind, Rule, Severity},
    syntax::{
        call_shape::{DEFAULT_OF_SERVERS, DEFAULT_OF_TOOLS, DEFAULTS},
        rule_shape::Action,
        shape::Record,
    },
    yaml::Node,
};

/// The value of `defaults` as rules: each is about everything of its kind, and every rule that allows has a higher priority.
pub(super) fn read(node: &Node, out: &mut Diagnostics) -> Vec<Rule> {
    let Some(fields) = Fields::of(node, &DEFAULTS, out) else { return Vec::new() };
    let of_tools = || Kind::Tool { tools: Names::Any, when: When::default() };
    let of_servers = || Kind::Mcp { servers: Vec::new(), tools: Names::Any };
    let tool = fields.get("tool").and_then(|node| one(node, &DEFAULT_OF_TOOLS, of_tools(), out));
    let mcp = fields.get("mcp").and_then(|node| one(node, &DEFAULT_OF_SERVERS, of_servers(), out));
    [tool, mcp].into_iter().flatten().collect()
}

fn one(node: &Node, record: &Record, kind: Kind, out: &mut Diagnostics) -> Option<Rule> {
    let fields = Fields::of(node, record, out)?;
    let action =
        fields.get("action").and_then(|node| scalar::word(node, "action", &Action::OF_DEFAULTS, out));
    let reason = fields.text("reason", out);
    let severity = match fields.get("severity") {
        Some(node) => scalar::word(node, "severity", &Severity::WORDS, out),
        None => Some(Severity::default()),
    };
    Some(Rule {
        id: format!("default/{}", kind.name()),
        mode: action?.mode(),
        adopts: None,
        allows: false,
        priority: DEFAULT_PRIORITY,
        severity: severity?,
        reason: reason?,
        about: About::default(),
        kind,
        exceptions: Vec::new(),
        only: Vec::new(),
        expires: None,
        silences: Silences::default(),
        span: node.span.head(),
    })
}
