//! Rules about calls of tools and servers, and about the machine.

use std::net::Ipv6Addr;

use super::{
    fields::{Fields, clip},
    lists::Lists,
    scalar,
};
use crate::{
    call::{CommandPattern, Files, HostPattern, Names, PackagePattern, Requirement, ServerPattern, When},
    code::Code,
    diagnostic::Diagnostics,
    mcp::Registry,
    object::{OF_SERVERS, is_tool_name},
    policy::Kind,
    posture::Trait,
    suggest,
    syntax::{
        call_shape::{ANY, EVERY_TOOL, ON_UNKNOWN, PACKAGE, REQUIRE, SERVER, WHEN},
        scalars::{FLAG, HOST, NPM, PACKAGE_VERSION, PROGRAM, PYPI, TOOL, URL, WORD},
        shape::Text,
    },
    tool::{Opaque, Secret},
    url::{Url, UrlError, host_of},
    yaml::{Node, Value},
};

/// The keys of a rule of kind `tool`.
pub(super) fn tool(
    fields: &Fields<'_>,
    allows: bool,
    lists: &mut Lists,
    out: &mut Diagnostics,
) -> Option<Kind> {
    let tools = fields.get("tools").and_then(|node| names(node, own_tool, out));
    let when = match fields.get("when") {
        Some(node) => when(node, allows, lists, out),
        None => Some(When::default()),
    };
    Some(Kind::Tool { tools: tools?, when: when? })
}

/// The keys of a rule of kind `mcp`.
pub(super) fn mcp(fields: &Fields<'_>, lists: &mut Lists, out: &mut Diagnostics) -> Option<Kind> {
    let tools = match fields.get("tools") {
        Some(node) => names(node, tool_name, out),
        None => Some(Names::Any),
    };
    let servers = fields.get("servers").map(|node| {
        let read = |item: &Node, out: &mut Diagnostics| server(item, lists, out);
        scalar::list(node, "`servers`", out, read).into_iter().map(|server| server.value).collect::<Vec<_>>()
    });
    // Of a list of which nothing could be read nothing is left, which would be every server.
    let servers = match servers {
        Some(servers) if servers.is_empty() => None,
        Some(servers) => Some(servers),
        None => Some(Vec::new()),
    };
    Some(Kind::Mcp { servers: servers?, tools: tools? })
}

/// The keys of a rule of kind `posture`.
pub(super) fn posture(fields: &Fields<'_>, out: &mut Diagnostics) -> Option<Kind> {
    let node = fields.get("require");
    let own = node.and_then(|node| Fields::of(node, &REQUIRE, out));
    if let Some(node) = node.filter(|node| matches!(&node.value, Value::Mapping(pairs) if pairs.is_empty())) {
        let help = format!("give {}", suggest::list(&Trait::WORDS.map(|(word, _)| word)));
        out.error(Code::Empty, node.span, "`require` cannot be empty", Some(help));
    }
    let unknown_counts = match fields.get("on_unknown") {
        Some(node) => scalar::word(node, "value of `on_unknown`", &ON_UNKNOWN, out),
        None => Some(true),
    };
    let own = own?;
    let require = Trait::WORDS.into_iter().filter_map(|(word, of)| {
        let has = scalar::boolean(own.get(word)?, &format!("`{word}`"), out)?;
        Some(Requirement { of, has })
    });
    Some(Kind::Posture { require: require.collect(), unknown_counts: unknown_counts? })
}

type ReadText = fn(&Node, &mut Diagnostics) -> Option<String>;

/// The name of a tool, or `"*"`.
fn tool_name(item: &Node, out: &mut Diagnostics) -> Option<String> {
    let text = scalar::text(item, "the name of a tool", &TOOL, out)?;
    if text == EVERY_TOOL || is_tool_name(&text) {
        return Some(text);
    }
    let help = "a name is letters, digits, `_`, `-`, `.` and `:`; `\"*\"` alone is every tool";
    let message = format!("`{}` is no name of a tool", clip(&text));
    out.error(Code::BadPattern, item.span, message, Some(help.into()));
    None
}

/// The name of a tool that the agent has itself, or `"*"`.
fn own_tool(item: &Node, out: &mut Diagnostics) -> Option<String> {
    let name = tool_name(item, out)?;
    if name.starts_with(OF_SERVERS) {
        let message =
            format!("`{}` is what an agent calls a server's tool, not what the server is", clip(&name));
        let help = "write a rule of kind `mcp`, with `servers` by what they are and `tools: [...]`";
        out.error(Code::ServerName, item.span, message, Some(help.into()));
    }
    Some(name)
}

/// Names of tools, or `"*"` for all of them.
fn names(node: &Node, read: ReadText, out: &mut Diagnostics) -> Option<Names> {
    let names: Vec<String> = texts(scalar::list(node, "`tools`", out, read));
    match names.iter().any(|name| name == EVERY_TOOL) {
        true if names.len() > 1 => {
            let help = Some("leave `\"*\"` or the others".into());
            out.error(Code::ConflictingKeys, node.span, "`\"*\"` is every tool", help);
            None
        }
        true => Some(Names::Any),
        false if names.is_empty() => None,
        false => Some(Names::Of(names)),
    }
}

fn texts<T>(items: Vec<crate::source::Spanned<T>>) -> Vec<T> {
    items.into_iter().map(|item| item.value).collect()
}

fn when(node: &Node, allows: bool, lists: &mut Lists, out: &mut Diagnostics) -> Option<When> {
    let fields = Fields::of(node, &WHEN, out)?;
    if let Value::Mapping(pairs) = &node.value
        && pairs.is_empty()
    {
        let help = Some("leave it out for every call, or add a key".into());
        out.error(Code::Empty, node.span, "`when` cannot be empty", help);
    }
    for key in ["secrets", "opaque"] {
        if let Some(node) = fields.get(key).filter(|_| allows) {
            let message = format!("a rule that allows cannot ask for `{key}`");
            let help = "what cannot be told is never allowed, and a secret is no reason to; refuse it in a rule of its own";
            out.error(Code::ConflictingKeys, node.span, message, Some(help.into()));
        }
    }
    let command = command(&fields, out);
    let reads = fields.maybe("reads", |node| files(node, "`reads`", lists, out));
    let writes = fields.maybe("writes", |node| files(node, "`writes`", lists, out));
    let hosts = fields.get("hosts").map(|node| texts(scalar::list(node, "`hosts`", out, host)));
    let secrets = fields.get("secrets").map(|node| kinds(node, "secret", &Secret::WORDS, out));
    let opaque = fields.get("opaque").map(|node| kinds(node, "opaque construct", &Opaque::WORDS, out));
    // What could not be read must not make the rule about more.
    Some(When { command, reads: reads?, writes: writes?, hosts, secrets, opaque })
}

fn command(fields: &Fields<'_>, out: &mut Diagnostics) -> Option<CommandPattern> {
    let mut list = |key: &str, read: ReadText| {
        fields.get(key).map(|node| texts(scalar::list(node, &format!("`{key}`"), out, read)))
    };
    let (programs, words, flags) = (list("programs", program), list("words", word), list("flags", flag));
    if programs.is_none() && words.is_none() && flags.is_none() {
        return None;
    }
    let [programs, words, flags] = [programs, words, flags].map(Option::unwrap_or_default);
    Some(CommandPattern { programs, words, flags })
}

/// A text in which nothing is that cannot be seen.
pub(super) fn plain(node: &Node, what: &str, of: &Text, out: &mut Diagnostics) -> Option<String> {
    let text = scalar::text(node, what, of, out)?;
    let Some(bad) = text.chars().find(|c| c.is_control()) else { return Some(text) };
    let message = format!("control character U+{:04X} in {what}", u32::from(bad));
    out.error(Code::ControlCharacter, node.span, message, None);
    None
}

fn word(node: &Node, out: &mut Diagnostics) -> Option<String> {
    plain(node, "a word", &WORD, out)
}

fn program(node: &Node, out: &mut Diagnostics) -> Option<String> {
    let text = plain(node, "a program", &PROGRAM, out)?;
    let is_path = text.starts_with('/')
        && crate::object::own_path(text.as_bytes()).is_ok_and(|path| path == text.as_bytes());
    if is_path || !text.contains('/') {
        return Some(text);
    }
    let help = "write the name that it is called by (`git`), or its path from `/` on";
    out.error(
        Code::BadPath,
        node.span,
        format!("`{}` is no name of a program", clip(&text)),
        Some(help.into()),
    );
    None
}

fn flag(node: &Node, out: &mut Diagnostics) -> Option<String> {
    let text = plain(node, "a flag", &FLAG, out)?;
    if text.len() > 1 && text.starts_with('-') && !text.contains('=') {
        return Some(text);
    }
    let help = "a flag begins with `-` and is without its value: `--force`, `-f`";
    out.error(Code::BadPattern, node.span, format!("`{}` is no flag", clip(&text)), Some(help.into()));
    None
}

/// A word, or patterns.
fn files(node: &Node, what: &str, lists: &mut Lists, out: &mut Diagnostics) -> Option<Files> {
    if let Value::Scalar { .. } = node.value {
        let is_inside = scalar::word(node, &format!("value of {what}"), &Files::WORDS, out)?;
        return Some(if is_inside { Files::InsideRepository } else { Files::OutsideRepository });
    }
    let globs = lists.paths(node, what, out);
    (!globs.is_empty()).then_some(Files::Globs(globs))
}

fn host(node: &Node, out: &mut Diagnostics) -> Option<HostPattern> {
    let text = scalar::text(node, "a host", &HOST, out)?;
    let (domain, is_below) = text.strip_prefix("*.").map_or((text.as_str(), false), |domain| (domain, true));
    // An address of IPv6 has brackets around it in a URL alone.
    let is_v6 = !is_below && domain.parse::<Ipv6Addr>().is_ok_and(|address| address.to_string() == domain);
    if is_v6 || host_of(domain).as_deref() == Some(domain) {
        let domain = domain.to_owned();
        return Some(if is_below { HostPattern::Below(domain) } else { HostPattern::Is(domain) });
    }
    let help = "write a name or an address in lower case (`example.com`), or `\"*.example.com\"` for what is below it";
    out.error(Code::BadHost, node.span, format!("`{}` is no host", clip(&text)), Some(help.into()));
    None
}

/// Reports a word that is not `any`, which could be one of a list.
fn any_kind<T: Copy>(node: &Node, what: &str, words: &[(&'static str, T)], out: &mut Diagnostics) {
    let Value::Scalar { text, .. } = &node.value else { return };
    if ANY.iter().any(|(any, ())| any == text) {
        return;
    }
    let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let help = match suggest::nearest(text, names.iter().copied().chain(ANY.map(|(any, ())| any))) {
        Some("any") => "did you mean `any`?".to_owned(),
        Some(near) => format!("did you mean `[{near}]`?"),
        None => format!("write `any`, or a list of {}", suggest::list(&names)),
    };
    out.error(Code::UnknownWord, node.span, format!("unknown {what} `{}`", clip(text)), Some(help));
}

/// `any`, or a list of words.
fn kinds<T: Copy + Ord>(
    node: &Node,
    what: &str,
    words: &[(&'static str, T)],
    out: &mut Diagnostics,
) -> Vec<T> {
    if let Value::Scalar { .. } = node.value {
        any_kind(node, what, words, out);
        return words.iter().map(|(_, kind)| *kind).collect();
    }
    let read = |item: &Node, out: &mut Diagnostics| scalar::word(item, what, words, out);
    texts(scalar::list(node, &format!("kinds of {what}s"), out, read))
}

/// An item of `servers`.
fn server(node: &Node, lists: &mut Lists, out: &mut Diagnostics) -> Option<ServerPattern> {
    let fields = Fields::of(node, &SERVER, out)?;
    if let Value::Mapping(pairs) = &node.value
        && pairs.is_empty()
    {
        let keys: Vec<&str> = SERVER.keys().map(|key| key.name).collect();
        let help = Some(format!("give {}", suggest::list(&keys)));
        out.error(Code::Empty, node.span, "this is every server", help);
        return None;
    }
    let package = fields.maybe("package", |node| package(node, out));
    let interpreter = fields.maybe("interpreter", |node| scalar::glob(node, out));
    let mut hashes = |key: &str| {
        fields.maybe(key, |node| {
            let hashes = texts(lists.hashes(node, &format!("`{key}`"), out));
            (!hashes.is_empty()).then_some(hashes)
        })
    };
    let (interpreter_sha256, script_sha256) = (hashes("interpreter_sha256"), hashes("script_sha256"));
    let url = fields.maybe("url", |node| url_pattern(node, out));
    // What could not be read must not make it more servers.
    Some(ServerPattern {
        package: package?,
        interpreter: interpreter?,
        interpreter_sha256: interpreter_sha256?,
        script_sha256: script_sha256?,
        url: url?,
    })
}

/// The name of a package, as its registry has it.
fn package_name(node: &Node, registry: Registry, out: &mut Diagnostics) -> Option<String> {
    let (of, help) = match registry {
        Registry::Npm => (
            &NPM,
            "a name is lower-case letters, digits, `-`, `_`, `.` and `~`, with `@scope/` before it or not",
        ),
        Registry::Pypi => (&PYPI, "a name is letters and digits, with `-`, `_` and `.` between them"),
    };
    let text = plain(node, &format!("the name of a package of `{}`", registry.name()), of, out)?;
    if registry.has_name(&text) {
        return Some(registry.normal(&text));
    }
    let message = format!("`{}` is no name of a package of `{}`", clip(&text), registry.name());
    out.error(Code::BadPackage, node.span, message, Some(help.into()));
    None
}

/// The version of a package, as it is compared: byte by byte.
fn version(node: &Node, out: &mut Diagnostics) -> Option<String> {
    let text = plain(node, "a version", &PACKAGE_VERSION, out)?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._+!".contains(&byte);
    if text.bytes().all(is_plain) {
        return Some(text);
    }
    let message = format!("`{}` is no version of a package", clip(&text));
    let help = "write one version as the registry has it, such as \"2.1.0\"; ranges are not compared";
    out.error(Code::BadPackage, node.span, message, Some(help.into()));
    None
}

/// `{npm: NAME, version: VERSION}`.
pub(super) fn package(node: &Node, out: &mut Diagnostics) -> Option<PackagePattern> {
    let fields = Fields::of(node, &PACKAGE, out)?;
    let named =
        Registry::WORDS.into_iter().filter_map(|(word, registry)| Some((registry, fields.get(word)?)));
    let version = fields.maybe("version", |node| version(node, out));
    match named.collect::<Vec<_>>().as_slice() {
        [(registry, name)] => Some(PackagePattern {
            registry: *registry,
            name: package_name(name, *registry, out)?,
            version: version?,
        }),
        [] => {
            let help = "add `npm:` or `pypi:` with the package's name";
            out.error(Code::MissingKey, fields.head(), "`package` has no name", Some(help.into()));
            None
        }
        [_, (_, second), ..] => {
            let message = "a package is of one registry";
            out.error(
                Code::ConflictingKeys,
                second.span,
                message,
                Some("write two items of `servers`".into()),
            );
            None
        }
    }
}

/// The address of a server, and of all that is below it.
fn url_pattern(node: &Node, out: &mut Diagnostics) -> Option<Url> {
    let text = scalar::text(node, "a URL", &URL, out)?;
    let read = Url::parse_pattern(&text);
    read.map_err(|error| bad_url(node, &text, error, out)).ok()
}

/// The address of a server.
pub(super) fn url(node: &Node, out: &mut Diagnostics) -> Option<Url> {
    let text = scalar::text(node, "a URL", &URL, out)?;
    let url = Url::parse(&text);
    if url.is_none() {
        bad_url(node, &text, UrlError::OTHER, out);
    }
    url
}

fn bad_url(node: &Node, text: &str, UrlError { message, help }: UrlError, out: &mut Diagnostics) {
    out.error(Code::BadUrl, node.span, format!("`{}` {message}", clip(text)), Some(help.into()));
}
