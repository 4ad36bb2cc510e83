//! What holds where no rule does.

use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{fields::Fields, rule, scalar};
use crate::{
    abstract_name::AbstractGlob,
    call::{Names, When},
    diagnostic::Diagnostics,
    glob::Glob,
    lint::Silences,
    policy::{
        About, DEFAULT_PRIORITY, FileOperation, Kind, Level, Operations, PortRange, Rule, Severity, Spared,
    },
    source::{Span, Spanned},
    syntax::{
        call_shape::{DEFAULT, DEFAULTS},
        rule_shape::Action,
    },
    yaml::Node,
};

/// The value of `defaults` as rules: each is about everything of its kind, and every rule that allows has a higher priority.
pub(super) fn read(node: &Node, out: &mut Diagnostics) -> Vec<Rule> {
    let Some(fields) = Fields::of(node, &DEFAULTS, out) else { return Vec::new() };
    let read = |key| fields.get(key).and_then(|node| one(node, key, out));
    DEFAULTS.keys().map(|key| key.name).filter_map(read).collect()
}

/// All there is of a kind.
fn everything(key: &str, span: Span) -> Option<Kind> {
    let globs = || Glob::parse("/**").map(|value| vec![Spanned { value, span }]);
    let file = |reads: bool| {
        let operations = Operations::ALL.iter().filter(|one| (*one == FileOperation::Read) == reads);
        Some(Kind::File { paths: globs().ok()?, operations: operations.collect() })
    };
    let ports = vec![PortRange::ALL];
    match key {
        "read" => file(true),
        "write" => file(false),
        "exec" => Some(Kind::Exec { paths: globs().ok()?, sha256: Vec::new() }),
        "connect" => {
            let every = [IpNet::from(Ipv4Net::default()), IpNet::from(Ipv6Net::default())];
            let to = every.map(|value| Spanned { value, span }).to_vec();
            let (unix, abstracts) = (Vec::new(), Vec::new());
            Some(Kind::Connect { to, ports, except_to: Vec::new(), unix, abstracts })
        }
        "unix" => {
            let abstracts = vec![Spanned { value: AbstractGlob::parse("@*").ok()?, span }];
            let (to, except_to) = (Vec::new(), Vec::new());
            Some(Kind::Connect { to, ports, except_to, unix: globs().ok()?, abstracts })
        }
        "tool" => Some(Kind::Tool { tools: Names::Any, when: When::default() }),
        "mcp" => Some(Kind::Mcp { servers: Vec::new(), tools: Names::Any }),
        _ => None,
    }
}

fn one(node: &Node, key: &str, out: &mut Diagnostics) -> Option<Rule> {
    let kind = everything(key, node.span.head())?;
    let fields = Fields::of(node, &DEFAULT, out)?;
    let action =
        fields.get("action").and_then(|node| scalar::word(node, "action", &Action::OF_DEFAULTS, out));
    let reason = fields.text("reason", out);
    let severity = match fields.get("severity") {
        Some(node) => scalar::word(node, "severity", &Severity::WORDS, out),
        None => Some(Severity::default()),
    };
    let loosened_by = rule::loosened_by(&fields, out);
    Some(Rule {
        id: format!("default/{key}"),
        mode: action?.mode(),
        adopts: None,
        allows: false,
        priority: DEFAULT_PRIORITY,
        severity: severity?,
        reason: reason?,
        about: About::default(),
        level: Level::default(),
        policy: Arc::default(),
        loosened_by,
        kind,
        spares: Spared::default(),
        exceptions: Vec::new(),
        only: Vec::new(),
        expires: None,
        silences: Silences::default(),
        span: node.span.head(),
    })
}
