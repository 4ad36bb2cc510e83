//! Calls and machines in tests: what is called, with what.

use super::{call, fields::Fields, scalar, test_file};
use crate::{
    call::PackagePattern,
    code::Code,
    diagnostic::{Diagnostic, Diagnostics},
    mcp::{Fact, FileIdentity, McpCall, McpServer, Package},
    posture::{Posture, Trait},
    request::Object,
    source::{FileId, Source, Span},
    syntax::test_shape::{CALLED, POSTURE, UNKNOWN},
    tool::{ToolCall, ToolReader, Workplace},
    yaml::{self, Node, Value},
};

/// An object with what the keys `input`, `server` and `machine` of its test say of it.
pub(super) fn with_input(
    object: Object,
    span: Span,
    fields: &Fields<'_>,
    (place, tools): (&Workplace, &mut dyn ToolReader),
    out: &mut Diagnostics,
) -> Option<Object> {
    let wanted = match object {
        Object::Tool(_) => Some("input"),
        Object::Mcp(_) => Some("server"),
        Object::Posture(_) => Some("machine"),
        _ => None,
    };
    for key in ["input", "server", "machine"] {
        if let Some(node) = fields.get(key).filter(|_| wanted != Some(key)) {
            let help = "`input` is that of `tool`, `server` that of `mcp`, `machine` that of `posture`";
            out.error(Code::IdleKey, node.span, format!("`{key}` says nothing of this"), Some(help.into()));
        }
    }
    match object {
        Object::Tool(call) => {
            let Some(node) = fields.get("input") else {
                let help = "add `input: {...}` with what the tool is given";
                out.error(Code::MissingKey, span, "a call of a tool has an `input`", Some(help.into()));
                return None;
            };
            let features = tools.features(&call.tool, &json(node), place);
            Some(Object::Tool(ToolCall { features, ..call }))
        }
        Object::Mcp(call) => match fields.get("server") {
            Some(node) => Some(Object::Mcp(McpCall { server: server(node, out)?, ..call })),
            None => Some(Object::Mcp(call)),
        },
        Object::Posture(_) => Some(Object::Posture(match fields.get("machine") {
            Some(node) => posture(node, out)?,
            None => Posture::default(),
        })),
        object => Some(object),
    }
}

/// A node as JSON has it. How deep it goes is bounded by who read it.
fn json(node: &Node) -> serde_json::Value {
    match &node.value {
        Value::Sequence(items) => items.iter().map(json).collect(),
        Value::Mapping(pairs) => pairs.iter().map(|(key, value)| (key.value.clone(), json(value))).collect(),
        Value::Scalar { text, .. } => match node.describe() {
            "nothing" => serde_json::Value::Null,
            "a boolean" => text.eq_ignore_ascii_case("true").into(),
            "a number" => serde_json::from_str(text).unwrap_or_else(|_| text.clone().into()),
            _ => text.clone().into(),
        },
    }
}

/// Reads what a server is, as tests of a policy have it: a mapping in YAML, or an object in JSON.
///
/// # Errors
/// Every error in the text.
pub fn parse_server(source: Source) -> Result<McpServer, Diagnostics> {
    let mut out = Diagnostics::about(source);
    let root = if out.has_errors() { None } else { yaml::parse(FileId::default(), &mut out) };
    match root.and_then(|root| server(&root, &mut out)) {
        Some(server) if !out.has_errors() => Ok(server),
        _ => Err(out),
    }
}

/// A server: what is not said, it has not.
fn server(node: &Node, out: &mut Diagnostics) -> Option<McpServer> {
    let fields = Fields::of(node, &CALLED, out)?;
    let package = fact(&fields, "package", |node| call::package(node, out).map(of));
    let interpreter = file(&fields, "interpreter", "interpreter_sha256", out);
    let script = file(&fields, "script", "script_sha256", out);
    let url = fact(&fields, "url", |node| call::url(node, out));
    if let Some(node) = fields.get("url") {
        let others = CALLED.keys().filter(|key| key.name != "url");
        for (key, other) in others.filter_map(|key| Some((key.name, fields.get(key.name)?))) {
            let message = format!("a server at an address has no `{key}` that anybody here could know");
            let both = Diagnostic::error(Code::ConflictingKeys, other.span, message);
            out.push(both.help("remove one of them").label(node.span, "the address is here"));
        }
        return Some(McpServer::Remote { url: url? });
    }
    Some(McpServer::Process { interpreter: interpreter?, script: script?, package: package? })
}

/// What is at a key: nothing, that it is not known, or this.
fn fact<T>(fields: &Fields<'_>, key: &str, read: impl FnOnce(&Node) -> Option<T>) -> Option<Fact<T>> {
    let read = |node: &Node| if is_unknown(node) { Some(Fact::Unknown) } else { read(node).map(Fact::Is) };
    fields.maybe(key, read).map(|fact| fact.unwrap_or(Fact::None))
}

fn is_unknown(node: &Node) -> bool {
    matches!(&node.value, Value::Scalar { text, .. } if text == UNKNOWN[0].0)
}

/// A file by its path and its content. Of one of which the one is known, the other is unknown where it is not said.
fn file(fields: &Fields<'_>, path: &str, content: &str, out: &mut Diagnostics) -> Option<Fact<FileIdentity>> {
    let path = fact(fields, path, |node| test_file::path(node, out));
    let sha256 = fact(fields, content, |node| scalar::sha256(node, out));
    let (path, sha256) = match (path?, sha256?) {
        (Fact::None, Fact::None) => return Some(Fact::None),
        (Fact::Is(path), Fact::Is(sha256)) => (path, Some(sha256)),
        (Fact::Is(path), _) => (path, None),
        (_, Fact::Is(sha256)) => (Vec::new(), Some(sha256)),
        _ => return Some(Fact::Unknown),
    };
    Some(Fact::Is(FileIdentity { path: path.as_slice().into(), sha256 }))
}

/// The package that a pattern is written like; without a version it is not known which.
fn of(PackagePattern { registry, name, version }: PackagePattern) -> Package {
    Package { registry, name, version }
}

fn posture(node: &Node, out: &mut Diagnostics) -> Option<Posture> {
    let fields = Fields::of(node, &POSTURE, out)?;
    let mut posture = Posture::default();
    for (word, of) in Trait::WORDS {
        if let Some(node) = fields.get(word) {
            posture.set(of, scalar::boolean(node, &format!("`{word}`"), out)?);
        }
    }
    Some(posture)
}
