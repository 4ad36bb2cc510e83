//! What is done, in words: one grammar for questions, for test files and for what is printed.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use treeline_abi::{network::ABSTRACT_LEN_MAX, paths::DEPTH_MAX};
use treeline_event::PathBytes;

use crate::{
    glob::split,
    host::join,
    mcp::{McpCall, McpServer},
    policy::FileOperation,
    posture::Posture,
    request::Object,
    suggest,
    tool::{Features, Opaque, ToolCall},
};

/// Bytes of a tool's name.
pub(crate) const TOOL_NAME_LEN_MAX: usize = 128;
/// What every name of a tool begins with that an agent makes up for a server.
pub(crate) const OF_SERVERS: &str = "mcp__";

/// The words for what is done, each with whether something follows it.
const WORDS: [(&str, bool); 14] = [
    ("read", true),
    ("write", true),
    ("create", true),
    ("delete", true),
    ("rename", true),
    ("link", true),
    ("exec", true),
    ("connect", true),
    ("unix", true),
    ("raw-socket", false),
    ("trace", false),
    ("tool", true),
    ("mcp", true),
    ("posture", false),
];

/// Why a text does not say what is done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}{}", .help.as_ref().map(|help| format!(": {help}")).unwrap_or_default())]
pub struct ObjectError {
    /// The part of the text that is wrong, as byte offsets.
    pub range: (usize, usize),
    /// What is wrong with it.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

impl ObjectError {
    fn new(range: (usize, usize), message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { range, message: message.into(), help: Some(help.into()) }
    }
}

impl FromStr for Object {
    type Err = ObjectError;

    /// Reads `read PATH` (`write`, `create`, `delete`, `rename`, `link`), `exec PATH`, `connect ADDRESS:PORT`,
    /// `unix PATH`, `unix @NAME`, `raw-socket`, `trace`, `tool NAME`, `mcp TOOL` or `posture`: what [`Object`] prints. Of calls and
    /// the machine nothing else is known then. In paths and names `\xHH` is a byte and
    /// `\\` a backslash; a space at the end is written as `\x20`.
    fn from_str(text: &str) -> Result<Self, ObjectError> {
        let begin = text.len() - text.trim_start().len();
        let words = text.trim();
        let (word, behind) = words.split_once(char::is_whitespace).unwrap_or((words, ""));
        let rest = behind.trim_start();
        let start = begin + words.len() - rest.len();
        if !WORDS.iter().any(|(known, _)| *known == word) {
            return Err(unknown(word, begin));
        }
        // An address has no escapes, and is refused with them.
        let bytes = if word == "connect" {
            rest.as_bytes().to_vec()
        } else {
            let escaped =
                |why| ObjectError::new((start, start + rest.len()), why, "write `\\\\` for a backslash");
            PathBytes::from_text(rest).map_err(escaped)?.as_bytes().to_vec()
        };
        let at = if rest.is_empty() { begin } else { start };
        let len = if rest.is_empty() { word.len() } else { rest.len() };
        Self::named(word, &bytes).map_err(|error| ObjectError { range: (at, at + len), ..error })
    }
}

fn unknown(word: &str, begin: usize) -> ObjectError {
    let words = WORDS.map(|(word, _)| word);
    if word.is_empty() {
        let help = format!("begin with {}", suggest::list(&words));
        return ObjectError::new((begin, begin), "nothing is done", help);
    }
    let help = suggest::nearest(word, words).map_or_else(
        || format!("begin with {}", suggest::list(&words)),
        |near| format!("did you mean `{near}`?"),
    );
    let shown: String = word.chars().take(60).collect();
    ObjectError::new((begin, begin + word.len()), format!("`{shown}` is nothing that a rule is about"), help)
}

impl Object {
    /// What is done, from its word and what follows the word, whose bytes stand for themselves.
    ///
    /// # Errors
    /// What cannot be done so; ranges are those of `what`.
    pub fn named(word: &str, what: &[u8]) -> Result<Self, ObjectError> {
        let whole = (0, what.len());
        let Some((_, takes)) = WORDS.iter().find(|(known, _)| *known == word) else {
            return Err(unknown(word, 0));
        };
        if *takes == what.is_empty() {
            let (message, help) = match (word, takes) {
                (_, false) => (format!("nothing follows `{word}`"), "remove it"),
                ("connect", _) => {
                    ("`connect` needs an address and a port".to_owned(), "write `connect 10.0.0.1:443`")
                }
                ("unix", _) => {
                    ("`unix` needs a socket".to_owned(), "write `unix /run/x.sock` or `unix @name`")
                }
                ("tool", _) => ("`tool` needs the tool's name".to_owned(), "write `tool Bash`"),
                ("mcp", _) => ("`mcp` needs the name of a tool".to_owned(), "write `mcp search`"),
                _ => (format!("`{word}` needs a path"), "write it from `/` on"),
            };
            return Err(ObjectError::new(whole, message, help));
        }
        Ok(match word {
            "exec" => Self::Exec { path: own_path(what)?, sha256: None },
            "connect" => {
                let (address, port) = destination(what)?;
                Self::Connect { address, port }
            }
            "unix" => match what.strip_prefix(b"@") {
                Some(name) if name.len() > ABSTRACT_LEN_MAX => {
                    let message =
                        format!("{} bytes; an abstract name has at most {ABSTRACT_LEN_MAX}", name.len());
                    return Err(ObjectError { range: whole, message, help: None });
                }
                Some(name) => Self::ConnectAbstract { name: name.to_vec() },
                None => Self::ConnectUnix { path: own_path(what)? },
            },
            "raw-socket" => Self::RawSocket,
            "trace" => Self::Trace,
            "tool" => {
                let features = Features::unknown(Opaque::Input);
                Self::Tool(ToolCall { tool: own_tool_name(what)?, features })
            }
            "mcp" => Self::Mcp(McpCall { server: McpServer::Unknown, tool: tool_name(what)? }),
            "posture" => Self::Posture(Posture::default()),
            word => {
                let found = FileOperation::WORDS.into_iter().find(|(name, _)| *name == word);
                let (_, operation) = found.ok_or_else(|| unknown(word, 0))?;
                Self::File { path: own_path(what)?, operation }
            }
        })
    }

    /// The path that it is about, if it is about one.
    pub fn path_mut(&mut self) -> Option<&mut Vec<u8>> {
        match self {
            Self::File { path, .. } | Self::Exec { path, .. } | Self::ConnectUnix { path } => Some(path),
            Self::Connect { .. }
            | Self::ConnectAbstract { .. }
            | Self::RawSocket
            | Self::Trace
            | Self::Tool(_)
            | Self::Mcp(_)
            | Self::Posture(_) => None,
        }
    }
}

/// The name of a tool: one word, as agents have them.
fn tool_name(bytes: &[u8]) -> Result<String, ObjectError> {
    let text = String::from_utf8_lossy(bytes).into_owned();
    if is_tool_name(&text) {
        return Ok(text);
    }
    let shown: String = text.chars().take(60).collect();
    let help = "a name is letters, digits, `_`, `-`, `.` and `:`";
    Err(ObjectError::new((0, bytes.len()), format!("`{shown}` is no name of a tool"), help))
}

/// The name of a tool that the agent has itself.
fn own_tool_name(bytes: &[u8]) -> Result<String, ObjectError> {
    let name = tool_name(bytes)?;
    if name.starts_with(OF_SERVERS) {
        let message = format!("`{name}` is a tool of a server, which is asked about as `mcp`");
        let help = "write `mcp` and the tool's name as the server has it, and say what the server is";
        return Err(ObjectError::new((0, bytes.len()), message, help));
    }
    Ok(name)
}

/// Whether a text is a name that a tool can have.
pub(crate) fn is_tool_name(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte);
    (1..=TOOL_NAME_LEN_MAX).contains(&text.len()) && text.bytes().all(is_plain)
}

/// The path of a file as rules are matched against it: absolute, names with one `/` before each.
///
/// # Errors
/// A path that is not absolute, that has `..` or a NUL in it, or that is deeper than the kernel walks.
pub fn own_path(bytes: &[u8]) -> Result<Vec<u8>, ObjectError> {
    let (whole, text) = ((0, bytes.len()), PathBytes::from(bytes));
    if !bytes.starts_with(b"/") {
        let help = match bytes.first() {
            Some(b'~') => "write the home itself: whose it is, is not known here",
            _ => "write it from `/` on",
        };
        return Err(ObjectError::new(whole, format!("`{text}` is not absolute"), help));
    }
    if bytes.contains(&0) {
        return Err(ObjectError::new(whole, format!("`{text}` has a NUL in it"), "no path has"));
    }
    let names: Vec<&[u8]> = split(bytes).filter(|name| *name != b".").collect();
    if names.contains(&b"..".as_slice()) {
        return Err(ObjectError::new(whole, format!("`{text}` has `..` in it"), "write it without"));
    }
    if names.len() >= DEPTH_MAX {
        let message = format!("{} components; the kernel walks {} at most", names.len(), DEPTH_MAX - 1);
        let help = "what is deeper is denied when a file rule is in `enforce`, whatever it is";
        return Err(ObjectError::new(whole, message, help));
    }
    Ok(join(names))
}

/// An address and a port.
fn destination(bytes: &[u8]) -> Result<(IpAddr, u16), ObjectError> {
    let whole = (0, bytes.len());
    let text = String::from_utf8_lossy(bytes);
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok((address.ip(), address.port()));
    }
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let help = match (bare.parse::<IpAddr>(), text.split_once(' ')) {
        (Ok(IpAddr::V4(address)), _) => format!("a port is missing: write `{address}:443`"),
        (Ok(IpAddr::V6(address)), _) => format!("a port is missing: write `[{address}]:443`"),
        (_, Some(("unix", _))) => "write `unix` without `connect`".to_owned(),
        _ if text.starts_with(['/', '@']) => {
            "write `unix` for a socket by path or by abstract name".to_owned()
        }
        _ => "such as `169.254.169.254:80` or `[::1]:443`".to_owned(),
    };
    let shown: String = text.chars().take(60).collect();
    Err(ObjectError::new(whole, format!("`{shown}` is not an address and a port"), help))
}

/// An object in the words that it is read from; what is executed without its content.
impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |path: &[u8]| PathBytes::from(path);
        match self {
            Self::File { path, operation } => write!(f, "{} {}", operation.name(), text(path)),
            Self::Exec { path, .. } => write!(f, "exec {}", text(path)),
            Self::Connect { address, port } => write!(f, "connect {}", SocketAddr::new(*address, *port)),
            Self::ConnectUnix { path } => write!(f, "unix {}", text(path)),
            Self::ConnectAbstract { name } => write!(f, "unix @{}", text(name)),
            Self::RawSocket => f.write_str("raw-socket"),
            Self::Trace => f.write_str("trace"),
            Self::Tool(call) => write!(f, "tool {}", call.tool),
            Self::Mcp(call) => write!(f, "mcp {}", call.tool),
            Self::Posture(_) => f.write_str("posture"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_read_is_printed() {
        let check = |text: &str, expect: &str| {
            let object: Object = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(object.to_string(), expect);
        };
        for word in ["read", "write", "create", "delete", "rename", "link", "exec", "unix"] {
            check(&format!("{word} /a/b"), &format!("{word} /a/b"));
        }
        check("  read   /a b/c ", "read /a b/c");
        check("read /a//b/./c/", "read /a/b/c");
        check("read /", "read /");
        check("read /\\xff\\\\", "read /\\xff\\\\");
        check("connect 1.2.3.4:443", "connect 1.2.3.4:443");
        check("connect [::1]:0", "connect [::1]:0");
        check("unix @a/b c", "unix @a/b c");
        check("unix @a\\x00", "unix @a\\x00");
        check("raw-socket", "raw-socket");
        check("trace", "trace");
        check("tool Bash", "tool Bash");
        check("mcp search-issues", "mcp search-issues");
        check("posture", "posture");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |text: &str, part: &str, words: &[&str]| {
            let error = text.parse::<Object>().expect_err(text);
            assert_eq!(&text[error.range.0..error.range.1], part, "{text}: {error}");
            for word in words {
                assert!(error.to_string().contains(word), "{text}: {error}");
            }
        };
        check("", "", &["nothing is done", "begin with `read`"]);
        check(" raed /x", "raed", &["`raed`", "did you mean `read`?"]);
        check("open /x", "open", &["nothing that a rule is about"]);
        check("read", "read", &["`read` needs a path"]);
        check("connect", "connect", &["needs an address and a port"]);
        check("unix", "unix", &["needs a socket"]);
        check("tool", "tool", &["needs the tool's name"]);
        check("tool a b", "a b", &["`a b` is no name of a tool"]);
        check("tool mcp__gh__search", "mcp__gh__search", &["a tool of a server", "write `mcp`"]);
        check("mcp ", "mcp", &["needs the name of a tool"]);
        check("trace 1", "1", &["nothing follows `trace`"]);
        check("read x/y", "x/y", &["`x/y` is not absolute"]);
        check("read ~/x", "~/x", &["not absolute", "write the home itself"]);
        check("read /x/../y", "/x/../y", &["`..`"]);
        check("exec /a\\x00b", "/a\\x00b", &["NUL"]);
        check("exec /a\\q", "/a\\q", &["backslash"]);
        check(&format!("read {}", "/a".repeat(64)), &"/a".repeat(64), &["64 components", "63"]);
        check("connect example.com:443", "example.com:443", &["not an address and a port"]);
        check("connect 1.2.3.4", "1.2.3.4", &["port is missing", "`1.2.3.4:443`"]);
        check("connect ::1", "::1", &["`[::1]:443`"]);
        check("connect [::1]", "[::1]", &["`[::1]:443`"]);
        check("connect 1.2.3.4:65536", "1.2.3.4:65536", &["not an address and a port"]);
        check("connect unix /x", "unix /x", &["without `connect`"]);
        check("connect /x", "/x", &["write `unix`"]);
        check(&format!("unix @{}", "x".repeat(108)), &format!("@{}", "x".repeat(108)), &["108 bytes"]);
    }

    fn object() -> impl Strategy<Value = Object> {
        let name = prop::collection::vec(1..=u8::MAX, 1..8)
            .prop_map(|name| name.into_iter().map(|byte| if byte == b'/' { b'x' } else { byte }).collect())
            .prop_filter("a name", |name: &Vec<u8>| name != b"." && name != b"..");
        let path = prop::collection::vec(name, 0..6)
            .prop_map(|names| join(names.iter().map(Vec::as_slice)))
            .prop_filter("what a text cannot end with", |path| {
                !String::from_utf8_lossy(path).ends_with(char::is_whitespace)
            });
        let operation = prop::sample::select(FileOperation::WORDS.map(|(_, operation)| operation).to_vec());
        prop_oneof![
            (path.clone(), operation).prop_map(|(path, operation)| Object::File { path, operation }),
            path.clone().prop_map(|path| Object::Exec { path, sha256: None }),
            path.prop_map(|path| Object::ConnectUnix { path }),
            (any::<IpAddr>(), any::<u16>()).prop_map(|(address, port)| Object::Connect { address, port }),
            prop::collection::vec(any::<u8>(), 0..=ABSTRACT_LEN_MAX)
                .prop_filter("what a text cannot end with", |name| {
                    !String::from_utf8_lossy(name).ends_with(char::is_whitespace)
                })
                .prop_map(|name| Object::ConnectAbstract { name }),
            Just(Object::RawSocket),
            Just(Object::Trace),
        ]
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(object in object()) {
            prop_assert_eq!(object.to_string().parse::<Object>(), Ok(object));
        }

        #[test]
        fn any_text_is_answered(text in "(read|exec|connect|unix|trace)? ?[-/@.:~\\\\x0-9\\[\\] ]{0,12}|\\PC*") {
            if let Err(error) = text.parse::<Object>() {
                prop_assert!(text.get(error.range.0..error.range.1).is_some(), "{:?} of {}", error.range, text);
            }
        }
    }
}
