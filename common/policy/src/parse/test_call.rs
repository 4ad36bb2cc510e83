//! Calls and machines in tests: what is called, with what.

use super::{fields::Fields, scalar};
use crate::{
    code::Code,
    diagnostic::Diagnostics,
    mcp::{Fact, FileIdentity, McpCall, McpServer, Package, Registry},
    posture::{Posture, Trait},
    request::Object,
    source::Span,
    tool::{ToolCall, ToolReader, Workplace},
    url::Url,
    yaml::{Node, Value},
};

const KEYS_OF_SERVER: [&str; 6] =
    ["interpreter", "interpreter_sha256", "script", "script_sha256", "package", "url"];
const BOOLEANS: [(&str, bool); 2] = [("true", true), ("false", false)];

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
        if let Some(node) = fields.optional(key).filter(|_| wanted != Some(key)) {
            let help = "`input` is that of `tool`, `server` that of `mcp`, `machine` that of `posture`";
            out.error(Code::IdleKey, node.span, format!("`{key}` says nothing of this"), Some(help.into()));
        }
    }
    match object {
        Object::Tool(call) => {
            let Some(node) = fields.optional("input") else {
                let help = "add `input: {...}` with what the tool is given";
                out.error(Code::MissingKey, span, "a call of a tool has an `input`", Some(help.into()));
                return None;
            };
            let features = tools.features(&call.tool, &json(node), place);
            Some(Object::Tool(ToolCall { features, ..call }))
        }
        Object::Mcp(call) => match fields.optional("server") {
            Some(node) => Some(Object::Mcp(McpCall { server: server(node, out)?, ..call })),
            None => Some(Object::Mcp(call)),
        },
        Object::Posture(_) => Some(Object::Posture(match fields.optional("machine") {
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

/// A server of which everything is known: what is not said, it has not.
fn server(node: &Node, out: &mut Diagnostics) -> Option<McpServer> {
    let fields = Fields::new(node, "`server`", &KEYS_OF_SERVER, out)?;
    if let Some(node) = fields.optional("url") {
        let text = scalar::raw(node, "a URL", out)?;
        let Some(url) = Url::parse(text) else {
            out.error(Code::BadUrl, node.span, "this is no URL of a server", None);
            return None;
        };
        return Some(McpServer::Remote { url: Fact::Is(url) });
    }
    let package = match fields.optional("package") {
        Some(node) => Fact::Is(package(node, out)?),
        None => Fact::None,
    };
    let interpreter = file(&fields, "interpreter", "interpreter_sha256", out)?;
    let script = file(&fields, "script", "script_sha256", out)?;
    Some(McpServer::Process { interpreter, script, package })
}

fn file(fields: &Fields<'_>, path: &str, content: &str, out: &mut Diagnostics) -> Option<Fact<FileIdentity>> {
    let path = match fields.optional(path) {
        Some(node) => Some(scalar::raw(node, "a path", out)?.into()),
        None => None,
    };
    let sha256 = match fields.optional(content) {
        Some(node) => Some(scalar::sha256(node, out)?),
        None => None,
    };
    Some(match (path, sha256) {
        (None, None) => Fact::None,
        (path, sha256) => Fact::Is(FileIdentity { path: path.unwrap_or_else(|| "".into()), sha256 }),
    })
}

fn package(node: &Node, out: &mut Diagnostics) -> Option<Package> {
    let [npm, pypi] = Registry::WORDS.map(|(word, _)| word);
    let fields = Fields::new(node, "`package`", &[npm, pypi, "version"], out)?;
    let version = match fields.optional("version") {
        Some(node) => Some(scalar::raw(node, "a version", out)?.to_owned()),
        None => None,
    };
    let named =
        Registry::WORDS.into_iter().find_map(|(word, registry)| Some((registry, fields.optional(word)?)));
    let Some((registry, name)) = named else {
        let help = "add `npm:` or `pypi:` with the package's name";
        out.error(Code::MissingKey, fields.head(), "`package` has no name", Some(help.into()));
        return None;
    };
    Some(Package { registry, name: scalar::raw(name, "a name", out)?.to_owned(), version })
}

fn posture(node: &Node, out: &mut Diagnostics) -> Option<Posture> {
    let fields = Fields::new(node, "`machine`", &Trait::WORDS.map(|(word, _)| word), out)?;
    let mut posture = Posture::default();
    for (word, of) in Trait::WORDS {
        if let Some(node) = fields.optional(word) {
            posture.set(of, scalar::word(node, &format!("value of `{word}`"), &BOOLEANS, out)?);
        }
    }
    Some(posture)
}
