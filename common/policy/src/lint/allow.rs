//! Rules that allow nothing, or whatever somebody says of itself.

use super::Lints;
use crate::{
    call::ServerPattern,
    code::Code,
    compile::is_lifted_by,
    diagnostic::Diagnostic,
    diff::rules::server,
    policy::{Kind, Policy, Rule},
};

/// Warns of rules that allow, and of which it is likely not meant what they allow.
pub(super) fn look(lints: &mut Lints<'_>) {
    let policy = lints.policy();
    for rule in policy.rules.iter().filter(|rule| rule.allows) {
        if !policy.rules.iter().any(|other| is_lifted_by(other, rule)) {
            lints.report(rule, idle(policy, rule));
        }
        if let Kind::Mcp { servers, .. } = &rule.kind {
            for weak in servers.iter().filter(|server| is_weak(server)) {
                lints.report(rule, weak_server(rule, weak));
            }
        }
    }
}

fn idle(policy: &Policy, rule: &Rule) -> Diagnostic {
    let (id, kind) = (rule.written_id(), rule.kind.name());
    let message = format!("`{id}` allows nothing: no rule of kind `{kind}` has a lower priority");
    let others = policy.rules.iter().filter(|other| !other.allows && other.kind.name() == kind);
    let help = match others.min_by_key(|other| other.priority) {
        Some(other) => format!("give it a `priority` above {}, that of `{}`", other.priority, other.id),
        None => {
            let key = if kind == "file" { "write" } else { kind };
            format!(
                "add what it is to lift, such as `defaults: {{{key}: {{action: deny, ...}}}}`, or remove it"
            )
        }
    };
    Diagnostic::warning(Code::IdleAllow, rule.span, message).help(help)
}

/// Whether nothing that is asked for is the server itself: a package is what it says of itself, and an interpreter runs every script.
fn is_weak(server: &ServerPattern) -> bool {
    server.interpreter_sha256.is_none() && server.script_sha256.is_none() && server.url.is_none()
}

fn weak_server(rule: &Rule, weak: &ServerPattern) -> Diagnostic {
    let why = match (&weak.package, &weak.interpreter) {
        (None, _) => "an interpreter runs whatever script it is given",
        (Some(_), _) => "a package is what somebody says that it is",
    };
    let message = format!("`{}` allows more than one server by `{}`: {why}", rule.written_id(), server(weak));
    Diagnostic::warning(Code::WeakServer, rule.span, message)
        .help("add `script_sha256`, or `interpreter_sha256` for a server that is a program of its own")
}
