//! Scalars and lists of them, each checked where it stands.

use std::collections::{BTreeMap, btree_map::Entry};

use ipnet::IpNet;

use super::fields::clip;
use crate::{
    abstract_name::AbstractGlob,
    code::Code,
    diagnostic::{Diagnostic, Diagnostics},
    glob::Glob,
    moment::Moment,
    policy::PortRange,
    source::{Span, Spanned},
    suggest,
    syntax::shape::{Form, Text},
    yaml::{Node, Type, Value},
};

/// A text, without the white space around it. What has a form of its own comes as it is written, for who calls to check.
pub(super) fn text(node: &Node, what: &str, of: &Text, out: &mut Diagnostics) -> Option<String> {
    let Value::Scalar { text, .. } = &node.value else {
        out.error(
            Code::WrongType,
            node.span,
            format!("{what} has to be a string, not {}", node.describe()),
            None,
        );
        return None;
    };
    if node.describe() != "a string" {
        let help = (!text.is_empty()).then(|| format!("write \"{}\" if this is meant", clip(text)));
        out.error(
            Code::WrongType,
            node.span,
            format!("{what} has to be a string, not {}", node.describe()),
            help,
        );
        return None;
    }
    let chars = text.chars().count();
    let chars_max = of.chars_max;
    // So the schema has it: no byte order mark counts as something.
    let is_blank = text.chars().all(|c| c.is_whitespace() || c == '\u{feff}');
    // What is written as a block ends with a line break.
    let line = text.strip_suffix('\n').unwrap_or(text);
    let bad = match of.form {
        Form::Line => line.chars().find(|c| c.is_control()),
        Form::Lines => text.chars().find(|c| c.is_control() && *c != '\n'),
        Form::Exactly(_) => None,
    };
    if is_blank {
        out.error(Code::Empty, node.span, format!("{what} cannot be empty"), None);
    } else if chars > chars_max {
        out.error(
            Code::TooLong,
            node.span,
            format!("{what} has {chars} characters; at most {chars_max} are allowed"),
            None,
        );
    } else if let Some(bad) = bad {
        // A reason is printed on terminals and given to agents.
        out.error(
            Code::ControlCharacter,
            node.span,
            format!("control character U+{:04X} in {what}", u32::from(bad)),
            None,
        );
    } else {
        let is_exact = matches!(of.form, Form::Exactly(_));
        return Some(if is_exact { text.clone() } else { text.trim().to_owned() });
    }
    None
}

/// Whether a name is of lower-case letters and digits, separated by `-`.
pub(super) fn is_kebab(name: &str) -> bool {
    name.split('-').all(|part| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    })
}

/// One of a few words.
pub(super) fn word<T: Copy>(
    node: &Node,
    what: &str,
    words: &[(&'static str, T)],
    out: &mut Diagnostics,
) -> Option<T> {
    let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
    let Value::Scalar { text, .. } = &node.value else {
        let message = format!("{what} has to be {}, not {}", suggest::list(&names), node.describe());
        out.error(Code::WrongType, node.span, message, None);
        return None;
    };
    if let Some((_, value)) = words.iter().find(|(name, _)| name == text) {
        return Some(*value);
    }
    let help = suggest::nearest(text, names.iter().copied())
        .map_or_else(|| format!("write {}", suggest::list(&names)), |near| format!("did you mean `{near}`?"));
    out.error(Code::UnknownWord, node.span, format!("unknown {what} `{}`", clip(text)), Some(help));
    None
}

/// Yes or no.
pub(super) fn boolean(node: &Node, what: &str, out: &mut Diagnostics) -> Option<bool> {
    if let Value::Scalar { text, plain: true } = &node.value
        && let Type::Boolean(value) = Type::of_plain(text)
    {
        return Some(value);
    }
    let message = format!("{what} has to be a boolean, not {}", node.describe());
    out.error(Code::WrongType, node.span, message, Some("write `true` or `false`, without quotes".into()));
    None
}

/// A list whose items are read by `read`; an empty list and an item that is there twice are reported.
pub(super) fn list<T: Ord + Clone>(
    node: &Node,
    what: &str,
    out: &mut Diagnostics,
    mut read: impl FnMut(&Node, &mut Diagnostics) -> Option<T>,
) -> Vec<Spanned<T>> {
    let Value::Sequence(items) = &node.value else {
        let help =
            matches!(node.value, Value::Scalar { .. }).then(|| "put it in brackets: `[...]`".to_owned());
        out.error(
            Code::WrongType,
            node.span,
            format!("{what} has to be a list, not {}", node.describe()),
            help,
        );
        return Vec::new();
    };
    if items.is_empty() {
        out.error(
            Code::Empty,
            node.span,
            format!("{what} cannot be empty"),
            Some("leave the key out or add an item".into()),
        );
    }
    let mut values: Vec<Spanned<T>> = Vec::with_capacity(items.len());
    let mut seen = BTreeMap::new();
    for item in items {
        let Some(value) = read(item, out) else { continue };
        match seen.entry(value.clone()) {
            Entry::Occupied(first) => twice(what, *first.get(), item.span, out),
            Entry::Vacant(new) => {
                new.insert(item.span);
                values.push(Spanned { value, span: item.span });
            }
        }
    }
    values
}

/// Reports an item of `what` that is there already.
pub(super) fn twice(what: &str, first: Span, second: Span, out: &mut Diagnostics) {
    let twice = Diagnostic::error(Code::DuplicateItem, second, format!("this is in {what} twice"));
    out.push(twice.help("remove one of them").label(first, "the first one is here"));
}

/// The text of a scalar that is not a word of prose: numbers count as what they are written as.
pub(super) fn raw<'n>(node: &'n Node, what: &str, out: &mut Diagnostics) -> Option<&'n str> {
    match &node.value {
        Value::Scalar { text, .. } if text.starts_with('$') => {
            let message = format!("`{}` is a list, which cannot stand here for {what}", clip(text));
            out.error(Code::WrongList, node.span, message, Some("write the value itself".into()));
            None
        }
        Value::Scalar { text, .. } if node.describe() != "nothing" => Some(text),
        _ if matches!(&node.value, Value::Scalar { text, .. } if text == "~") => {
            let help = Some("write \"~\" with quotes: YAML reads a bare `~` as nothing".into());
            out.error(Code::WrongType, node.span, format!("{what} has to be a string, not nothing"), help);
            None
        }
        _ => {
            out.error(
                Code::WrongType,
                node.span,
                format!("{what} has to be a string, not {}", node.describe()),
                None,
            );
            None
        }
    }
}

/// A path glob.
pub(super) fn glob(node: &Node, out: &mut Diagnostics) -> Option<Glob> {
    let text = raw(node, "a path", out)?;
    match Glob::parse(text) {
        Ok(glob) => Some(glob),
        Err(error) => {
            // Quotes and folded lines shift offsets; then the whole scalar is shown.
            let verbatim = node.span.end - node.span.start == text.len();
            let span = if verbatim { node.span.within(error.range.0, error.range.1) } else { node.span };
            out.error(Code::BadPattern, span, error.message, error.help);
            None
        }
    }
}

/// A unix socket, by path or by abstract name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum UnixGlob {
    /// By path.
    Path(Glob),
    /// By abstract name.
    Abstract(AbstractGlob),
}

/// A path glob, or `@` and a pattern for abstract names.
pub(super) fn unix(node: &Node, out: &mut Diagnostics) -> Option<UnixGlob> {
    let text = raw(node, "a socket", out)?;
    if !text.starts_with('@') {
        return glob(node, out).map(UnixGlob::Path);
    }
    match AbstractGlob::parse(text) {
        Ok(glob) => Some(UnixGlob::Abstract(glob)),
        Err(error) => {
            out.error(Code::BadPattern, node.span, error.message, error.help);
            None
        }
    }
}

/// A SHA-256 in hexadecimal.
pub(super) fn sha256(node: &Node, out: &mut Diagnostics) -> Option<[u8; 32]> {
    let text = raw(node, "a SHA-256", out)?;
    let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect();
    let help = Some("write what `sha256sum FILE` prints first: 64 hexadecimal digits".to_owned());
    match digits {
        Some(digits) if digits.len() == 64 => {
            let mut digest = [0; 32];
            for (byte, pair) in digest.iter_mut().zip(digits.chunks(2)) {
                *byte = pair[0] << 4 | pair[1];
            }
            Some(digest)
        }
        Some(digits) => {
            out.error(
                Code::BadHash,
                node.span,
                format!("a SHA-256 has 64 hexadecimal digits, not {}", digits.len()),
                help,
            );
            None
        }
        None => {
            out.error(Code::BadHash, node.span, format!("`{}` is not hexadecimal", clip(text)), help);
            None
        }
    }
}

/// An address or a CIDR block.
pub(super) fn net(node: &Node, out: &mut Diagnostics) -> Option<IpNet> {
    let text = raw(node, "an address", out)?;
    let help_form = "write an address (`169.254.169.254`, `fd00:ec2::254`) or a block (`10.0.0.0/8`)";
    let parsed = match text.split_once('/') {
        None => text.parse::<std::net::IpAddr>().ok().map(IpNet::from),
        Some(_) => text.parse::<IpNet>().ok(),
    };
    let Some(net) = parsed else {
        let name = text.parse::<f64>().is_err()
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c));
        let help = if name {
            "host names cannot be matched; write addresses, see `docs/policy.md`"
        } else {
            help_form
        };
        out.error(
            Code::BadAddress,
            node.span,
            format!("`{}` is not an address", clip(text)),
            Some(help.into()),
        );
        return None;
    };
    if net.trunc() != net {
        let message = format!("`{}` has bits beyond its prefix length", clip(text));
        out.error(
            Code::BadAddress,
            node.span,
            message,
            Some(format!("write `{}` or `{}`", net.trunc(), net.addr())),
        );
        return None;
    }
    if net.addr().is_unspecified() && net.prefix_len() == net.max_prefix_len() {
        let loopback = if net.addr().is_ipv4() { "127.0.0.1" } else { "::1" };
        let help =
            Some(format!("write `{loopback}`, or `{net_all}/0` for every address", net_all = net.addr()));
        out.error(
            Code::BadAddress,
            node.span,
            format!("`{}` is loopback to who connects to it", clip(text)),
            help,
        );
        return None;
    }
    if let IpNet::V6(v6) = net
        && let Some(v4) = v6.addr().to_ipv4_mapped()
        && v6.prefix_len() >= 96
    {
        let help = Some(format!("write `{v4}/{}`: mapped addresses count as IPv4", v6.prefix_len() - 96));
        out.error(Code::BadAddress, node.span, format!("`{}` is an IPv4-mapped address", clip(text)), help);
        return None;
    }
    Some(net)
}

/// A date or a moment.
pub(super) fn moment(node: &Node, out: &mut Diagnostics) -> Option<Spanned<Moment>> {
    let text = raw(node, "a date", out)?;
    match text.parse() {
        Ok(value) => Some(Spanned { value, span: node.span }),
        Err(error) => {
            let help = "write a date, `2027-03-01`, or a moment of UTC, `2027-03-01T12:00:00Z`";
            out.error(Code::BadDate, node.span, format!("`{}` is {error}", clip(text)), Some(help.into()));
            None
        }
    }
}

/// A port or a range of ports.
pub(super) fn ports(node: &Node, out: &mut Diagnostics) -> Option<PortRange> {
    let text = raw(node, "a port", out)?;
    let help = Some("write a port (`443`) or a range (`8000-8999`), 0 to 65535".to_owned());
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    // `parse` would take a sign, too.
    let number = |digits: &str| {
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<u16>().ok()).flatten()
    };
    match (number(first.trim_matches(' ')), number(last.trim_matches(' '))) {
        (Some(first), Some(last)) if first <= last => Some(PortRange { first, last }),
        (Some(first), Some(last)) => {
            let help = Some(format!("write `{last}-{first}`"));
            out.error(
                Code::BadPort,
                node.span,
                format!("port range `{}` ends before it begins", clip(text)),
                help,
            );
            None
        }
        _ => {
            out.error(Code::BadPort, node.span, format!("`{}` is not a port", clip(text)), help);
            None
        }
    }
}
