//! One rule.

use std::collections::{BTreeMap, btree_map::Entry};

use super::{
    about, call,
    fields::{Fields, peek},
    lists::Lists,
    scalar::{self, MODES, UnixGlob},
};
use crate::{
    brokers::{BROKERS, Part},
    code::Code,
    diagnostic::{Diagnostic, Diagnostics},
    glob::{Component, Glob},
    policy::{
        AddressException, Adoption, Executable, FileOperation, Kind, Mode, Operations, PortRange, Rule,
        Severity, SubjectItem,
    },
    source::{Span, Spanned},
    suggest,
    yaml::{Node, Value},
};

/// Characters of an id: it is in every entry that the rule makes.
const ID_CHARS_MAX: usize = 64;
/// Characters of a reason: it is shown in a terminal and read by an agent.
const REASON_CHARS_MAX: usize = 1024;
/// Priorities are from minus this to this.
const PRIORITY_MAX: i32 = 1000;
/// Keys of every rule.
const COMMON: [&str; 8] = ["id", "kind", "mode", "severity", "reason", "except", "only", "expires"];
/// Keys of each kind.
const KINDS: [(&str, &[&str]); 7] = [
    ("broker", &["brokers", "action"]),
    ("file", &["paths", "operations"]),
    ("exec", &["paths", "sha256"]),
    ("connect", &["to", "ports", "except_to", "unix", "hosts"]),
    ("tool", &["tools", "when", "action", "priority"]),
    ("mcp", &["servers", "tools", "action", "priority"]),
    ("posture", &["require", "on_unknown"]),
];
/// Why there is no rule by host name.
const HOSTS: &str = "host names cannot be matched: what a name stands for is known only to who resolved it";
const HOSTS_HELP: &str = "write addresses in `to` or `except_to`, or leave only a proxy that decides by name: \
                          `to: [0.0.0.0/0, \"::/0\"]` with `except_to: [{to: [ADDRESS], ports: [PORT]}]`";
/// Programs that run whatever they are told: an exception for one of them is an exception for everything.
const INTERPRETERS: [&str; 18] = [
    "sh", "bash", "dash", "zsh", "fish", "busybox", "env", "python", "python3", "perl", "ruby", "node",
    "bun", "deno", "php", "lua", "xargs", "sudo",
];

/// Reads a rule; reports everything that is wrong with it. One of kind `broker` is several: each has the id, a slash and
/// the part's name for its own.
pub(super) fn read(
    node: &Node,
    policy_mode: Mode,
    lists: &mut Lists,
    out: &mut Diagnostics,
) -> Option<Written> {
    let kinds: Vec<(&'static str, &'static str)> = KINDS.iter().map(|(name, _)| (*name, *name)).collect();
    let kind = peek(node, "kind").and_then(|kind| scalar::word(kind, "kind", &kinds, out));
    // Without a kind, which keys belong is not known: the keys of every kind are taken for known.
    let own: Vec<&str> = KINDS
        .iter()
        .filter(|(name, _)| kind.is_none_or(|k| k == *name))
        .flat_map(|(_, k)| *k)
        .copied()
        .collect();
    let known: Vec<&str> = COMMON.into_iter().chain(about::KEYS).chain(own).collect();
    let what = kind.map_or_else(|| "a rule".to_owned(), |kind| format!("a rule of kind `{kind}`"));
    let fields = Fields::new(node, &what, &known, out)?;

    fields.required("kind", out);
    let id = fields.required("id", out);
    let span = id.map_or(fields.head(), |id| id.span);
    let id = id.and_then(|node| self::id(node, out));
    let reason = fields.required("reason", out).and_then(|node| self::reason(node, out));
    let mode = match fields.optional("mode") {
        Some(node) => scalar::word(node, "mode", &MODES, out),
        None => Some(policy_mode),
    };
    let severity = match fields.optional("severity") {
        Some(node) => scalar::word(node, "severity", &Severity::WORDS, out),
        None => Some(Severity::default()),
    };
    let expires = fields.optional("expires").map(|node| scalar::moment(node, out));
    let about = about::read(&fields, out);
    let exceptions = subject_items(&fields, List::Except, out);
    let only = subject_items(&fields, List::Only, out);
    let action = kind.map_or(Some(None), |kind| self::action(kind, &fields, out));
    let priority = match fields.optional("priority") {
        Some(node) => self::priority(node, out),
        None => Some(0),
    };
    let kinds = pieces(kind?, action.flatten(), &fields, lists, out);
    let (id, severity, reason, priority, action) = (id?, severity?, reason?, priority?, action?);
    let mode = action.map_or(mode, |action| Some(action.mode()))?;
    let allows = action == Some(Action::Allow);
    // What could not be read must not make the rule hold for ever.
    let expires = match expires {
        Some(expires) => Some(expires?),
        None => None,
    };
    let rule = |Piece { part, kind, adopts }: Piece| Rule {
        id: part.map_or_else(|| id.clone(), |part| format!("{id}/{part}")),
        mode,
        adopts,
        allows,
        priority,
        severity,
        reason: reason.clone(),
        about: about.clone(),
        kind,
        exceptions: exceptions.clone(),
        only: only.clone(),
        expires: expires.clone(),
        span,
    };
    let rules = kinds?.into_iter().map(rule).collect();
    Some(Written { id, span, rules })
}

/// What a rule of a kind matches.
fn pieces(
    kind: &str,
    action: Option<Action>,
    fields: &Fields<'_>,
    lists: &mut Lists,
    out: &mut Diagnostics,
) -> Option<Vec<Piece>> {
    match kind {
        "file" => file(fields, lists, out).map(whole),
        "exec" => exec(fields, lists, out).map(whole),
        "broker" => brokers(fields, action == Some(Action::Adopt), out),
        "tool" => call::tool(fields, action == Some(Action::Allow), lists, out).map(whole),
        "mcp" => call::mcp(fields, lists, out).map(whole),
        "posture" => call::posture(fields, out).map(whole),
        _ => connect(fields, lists, out).map(whole),
    }
}

/// What was written as one rule.
pub(super) struct Written {
    pub(super) id: String,
    pub(super) span: Span,
    pub(super) rules: Vec<Rule>,
}

/// What a rule matches, by the names of its parts.
struct Piece {
    part: Option<String>,
    kind: Kind,
    adopts: Option<Adoption>,
}

fn whole(kind: Kind) -> Vec<Piece> {
    vec![Piece { part: None, kind, adopts: None }]
}

/// What a rule does, in one word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Deny,
    Record,
    Adopt,
    Allow,
}

impl Action {
    const OF_BROKERS: [(&'static str, Self); 3] =
        [("deny", Self::Deny), ("record", Self::Record), ("adopt", Self::Adopt)];
    const OF_CALLS: [(&'static str, Self); 3] =
        [("deny", Self::Deny), ("record", Self::Record), ("allow", Self::Allow)];

    pub(super) fn mode(self) -> Mode {
        match self {
            Self::Deny => Mode::Enforce,
            Self::Record | Self::Adopt | Self::Allow => Mode::Monitor,
        }
    }
}

/// What is shown to the agent and the developer.
pub(super) fn reason(node: &Node, out: &mut Diagnostics) -> Option<String> {
    scalar::text(node, "`reason`", REASON_CHARS_MAX, true, out)
}

fn priority(node: &Node, out: &mut Diagnostics) -> Option<i32> {
    let number = match &node.value {
        // `parse` would take a plus, too.
        Value::Scalar { text, plain: true } if !text.starts_with('+') => text.parse::<i32>().ok(),
        _ => None,
    };
    let number = number.filter(|number| (-PRIORITY_MAX..=PRIORITY_MAX).contains(number));
    if number.is_none() {
        let help = format!("write a whole number from -{PRIORITY_MAX} to {PRIORITY_MAX}");
        out.error(Code::WrongType, node.span, "`priority` has to be a number", Some(help));
    }
    number
}

/// The action of a rule, if it has one; the outer none if it could not be read, for it must not be another one.
fn action(kind: &str, fields: &Fields<'_>, out: &mut Diagnostics) -> Option<Option<Action>> {
    let words = match kind {
        "broker" => &Action::OF_BROKERS,
        "tool" | "mcp" => &Action::OF_CALLS,
        _ => return Some(None),
    };
    let Some(node) = fields.optional("action") else { return Some(None) };
    let action = scalar::word(node, "action", words, out)?;
    if let Some(mode) = fields.optional("mode") {
        let twice =
            Diagnostic::error(Code::ConflictingKeys, mode.span, "`mode` beside `action` says it twice");
        let help = "remove `mode`: `deny` is `enforce`, `record` is `monitor`";
        out.push(twice.help(help).label(node.span, "the action is here"));
    }
    if let (Action::Adopt, Some(except)) = (action, fields.optional("except")) {
        let both =
            Diagnostic::error(Code::ConflictingKeys, except.span, "a rule that adopts has no exceptions");
        let help = "remove `except`; what one program starts this way is as much the session's as another's";
        out.push(both.help(help).label(node.span, "it adopts by this"));
    }
    Some(Some(action))
}

fn id(node: &Node, out: &mut Diagnostics) -> Option<String> {
    let id = scalar::text(node, "`id`", ID_CHARS_MAX, false, out)?;
    if scalar::is_kebab(&id) {
        return Some(id);
    }
    let words: Vec<String> = id
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|w| !w.is_empty())
        .map(str::to_lowercase)
        .collect();
    let help = match words.is_empty() {
        true => "use lower-case letters and digits, separated by `-`".to_owned(),
        false => format!("write `{}`", words.join("-")),
    };
    out.error(
        Code::BadId,
        node.span,
        format!("`{id}` is not an id: lower-case letters and digits, separated by `-`"),
        Some(help),
    );
    None
}

fn file(fields: &Fields<'_>, lists: &mut Lists, out: &mut Diagnostics) -> Option<Kind> {
    let paths = fields.required("paths", out).map(|node| lists.paths(node, "`paths`", out));
    let operations = match fields.optional("operations") {
        None => Operations::ALL,
        Some(node) => {
            let read = |item: &Node, out: &mut Diagnostics| {
                scalar::word(item, "operation", &FileOperation::WORDS, out)
            };
            scalar::list(node, "`operations`", out, read)
                .into_iter()
                .map(|operation| operation.value)
                .collect()
        }
    };
    Some(Kind::File { paths: paths?, operations })
}

fn exec(fields: &Fields<'_>, lists: &mut Lists, out: &mut Diagnostics) -> Option<Kind> {
    let paths = fields.optional("paths").map(|node| lists.paths(node, "`paths`", out));
    let sha256 = fields.optional("sha256").map(|node| lists.hashes(node, "`sha256`", out));
    if paths.is_none() && sha256.is_none() {
        let help = Some("add `paths:` or `sha256:`".into());
        out.error(Code::MissingKey, fields.head(), "a rule of kind `exec` needs `paths` or `sha256`", help);
        return None;
    }
    Some(Kind::Exec { paths: paths.unwrap_or_default(), sha256: sha256.unwrap_or_default() })
}

fn brokers(fields: &Fields<'_>, adopt: bool, out: &mut Diagnostics) -> Option<Vec<Piece>> {
    let node = fields.required("brokers", out)?;
    let words = BROKERS.map(|broker| (broker.name, broker));
    let read = |item: &Node, out: &mut Diagnostics| scalar::word(item, "broker", &words, out);
    let brokers = scalar::list(node, "`brokers`", out, read);
    for Spanned { value: broker, span } in brokers.iter().filter(|_| adopt) {
        if let Some(why) = broker.unprovable() {
            let message = format!("what `{}` starts cannot be adopted: {why}", broker.name);
            let provable = BROKERS.iter().filter(|broker| broker.unprovable().is_none());
            let names: Vec<&str> = provable.map(|broker| broker.name).collect();
            let help = format!(
                "use `deny` or `record` in a rule of its own; adopted is from {}",
                suggest::list(&names)
            );
            out.error(Code::CannotAdopt, *span, message, Some(help));
        }
    }
    let parts = brokers.into_iter().flat_map(|broker| broker.value.parts(broker.span));
    let piece = |part: Part| Piece {
        part: Some(part.name),
        kind: part.kind,
        adopts: part.adoption.filter(|_| adopt),
    };
    Some(parts.map(piece).collect())
}

fn connect(fields: &Fields<'_>, lists: &mut Lists, out: &mut Diagnostics) -> Option<Kind> {
    if let Some(node) = fields.optional("hosts") {
        out.error(Code::HostName, node.span, HOSTS, Some(HOSTS_HELP.into()));
    }
    let to = fields.optional("to").map(|node| lists.addresses(node, "`to`", out));
    let unix = fields.optional("unix").map(|node| lists.sockets(node, "`unix`", out));
    let ports = fields.optional("ports");
    if to.is_none() && unix.is_none() {
        let help = match ports {
            Some(_) => "add `to: [0.0.0.0/0, \"::/0\"]` for every address",
            None => "add `to:` for addresses or `unix:` for sockets",
        };
        out.error(
            Code::MissingKey,
            fields.head(),
            "a rule of kind `connect` needs `to` or `unix`",
            Some(help.into()),
        );
    }
    if let (Some(node), None, Some(_)) = (ports, &to, &unix) {
        let help = Some("remove `ports`, or add `to:`".into());
        out.error(
            Code::IdleKey,
            node.span,
            "`ports` says nothing without `to`: unix sockets have none",
            help,
        );
    }
    let except_to = fields.optional("except_to");
    if let (Some(node), None) = (except_to, &to) {
        let help = Some("add `to:`, such as `to: [0.0.0.0/0, \"::/0\"]` for every address".into());
        out.error(Code::IdleKey, node.span, "`except_to` says nothing without `to`", help);
    }
    let except_to = except_to.map(|node| address_exceptions(node, lists, out)).unwrap_or_default();
    let mut paths = Vec::new();
    let mut abstracts = Vec::new();
    for Spanned { value, span } in unix.unwrap_or_default() {
        match value {
            UnixGlob::Path(value) => paths.push(Spanned { value, span }),
            UnixGlob::Abstract(value) => abstracts.push(Spanned { value, span }),
        }
    }
    let ports = self::ports(ports, out);
    Some(Kind::Connect { to: to.unwrap_or_default(), ports, except_to, unix: paths, abstracts })
}

/// The ranges of `ports`; every port without it.
fn ports(node: Option<&Node>, out: &mut Diagnostics) -> Vec<PortRange> {
    let Some(node) = node else { return vec![PortRange::ALL] };
    let ranges = scalar::list(node, "`ports`", out, scalar::ports);
    PortRange::union(ranges.into_iter().map(|range| range.value).collect())
}

fn address_exceptions(node: &Node, lists: &mut Lists, out: &mut Diagnostics) -> Vec<AddressException> {
    let Value::Sequence(items) = &node.value else {
        let help = Some("write `except_to:` and below it `- to: [127.0.0.0/8]`".into());
        out.error(
            Code::WrongType,
            node.span,
            format!("`except_to` has to be a list, not {}", node.describe()),
            help,
        );
        return Vec::new();
    };
    if items.is_empty() {
        out.error(
            Code::Empty,
            node.span,
            "`except_to` cannot be empty",
            Some("leave the key out or add an item".into()),
        );
    }
    let mut read = |item: &Node, out: &mut Diagnostics| {
        let fields = Fields::new(item, "an item of `except_to`", &["to", "ports"], out)?;
        let to = fields.required("to", out)?;
        let to = lists.addresses(to, "`to`", out);
        Some(AddressException { to, ports: ports(fields.optional("ports"), out) })
    };
    items.iter().filter_map(|item| read(item, out)).collect()
}

/// A list of subjects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum List {
    Except,
    Only,
}

impl List {
    fn key(self) -> &'static str {
        match self {
            Self::Except => "except",
            Self::Only => "only",
        }
    }

    fn item(self) -> &'static str {
        match self {
            Self::Except => "an exception",
            Self::Only => "an item of `only`",
        }
    }

    fn for_everybody(self) -> &'static str {
        match self {
            Self::Except => "an exception for everybody lifts the rule for everybody",
            Self::Only => "this is everybody; a rule is for everybody without `only`",
        }
    }
}

fn subject_items(fields: &Fields<'_>, list: List, out: &mut Diagnostics) -> Vec<SubjectItem> {
    let key = list.key();
    let Some(node) = fields.optional(key) else { return Vec::new() };
    let Value::Sequence(nodes) = &node.value else {
        let help = Some(format!("write `{key}:` and below it `- executable: /usr/bin/ssh`"));
        out.error(
            Code::WrongType,
            node.span,
            format!("`{key}` has to be a list, not {}", node.describe()),
            help,
        );
        return Vec::new();
    };
    if nodes.is_empty() {
        let help = Some("leave the key out or add an item".into());
        out.error(Code::Empty, node.span, format!("`{key}` cannot be empty"), help);
    }
    let mut items: Vec<SubjectItem> = Vec::new();
    let mut seen = BTreeMap::new();
    for node in nodes {
        let Some(item) = subject_item(node, list, out) else { continue };
        match seen.entry((item.own.clone(), item.descendant_of.clone())) {
            Entry::Occupied(first) => scalar::twice(&format!("`{key}`"), *first.get(), node.span, out),
            Entry::Vacant(new) => {
                new.insert(node.span);
                items.push(item);
            }
        }
    }
    items
}

fn subject_item(node: &Node, list: List, out: &mut Diagnostics) -> Option<SubjectItem> {
    let keys = ["executable", "sha256", "descendant_of", "reason"];
    let fields = Fields::new(node, list.item(), &keys, out)?;
    let reason = fields.optional("reason");
    let warns = list == List::Except && reason.is_none();
    let reason = reason.and_then(|node| scalar::text(node, "`reason`", REASON_CHARS_MAX, true, out));
    let descendant_of = fields.optional("descendant_of");
    let own = executable(&fields, warns && descendant_of.is_none(), out);
    let descendant_of = descendant_of.map(|node| ancestor(node, warns, out));
    if descendant_of.is_none() && own.as_ref().is_some_and(Executable::is_any) {
        let help = Some(format!("give {}", suggest::list(&keys[..3])));
        out.error(Code::ForEverybody, fields.head(), list.for_everybody(), help);
        return None;
    }
    // What could not be read must not make the item wider.
    let descendant_of = match descendant_of {
        Some(ancestor) => Some(ancestor?),
        None => None,
    };
    Some(SubjectItem { own: own?, descendant_of, reason, span: node.span })
}

/// The value of `descendant_of`.
fn ancestor(node: &Node, warns: bool, out: &mut Diagnostics) -> Option<Executable> {
    let keys = ["executable", "sha256"];
    if let Value::Scalar { .. } = node.value {
        let help = Some("write `descendant_of: {executable: /usr/bin/make}`".into());
        let message = format!("`descendant_of` has to be a mapping, not {}", node.describe());
        out.error(Code::WrongType, node.span, message, help);
        return None;
    }
    let fields = Fields::new(node, "`descendant_of`", &keys, out)?;
    let ancestor = executable(&fields, warns, out)?;
    if ancestor.is_any() {
        let help = Some(format!("give {}", suggest::list(&keys)));
        out.error(Code::ForEverybody, fields.head(), "everybody is a descendant of something", help);
        return None;
    }
    Some(ancestor)
}

/// The keys `executable` and `sha256` of a mapping; none when one of them could not be read.
fn executable(fields: &Fields<'_>, warns: bool, out: &mut Diagnostics) -> Option<Executable> {
    let glob = fields.optional("executable").map(|node| (node.span, scalar::glob(node, out)));
    let digest = fields.optional("sha256").map(|node| scalar::sha256(node, out));
    if let (Some((span, Some(glob))), None, true) = (&glob, &digest, warns)
        && let Some(warning) = too_wide(glob)
    {
        out.warning(
            Code::WideException,
            *span,
            warning,
            Some("except the program that has the need, add its `sha256`, or give a `reason`".into()),
        );
    }
    let path = match glob {
        Some((_, glob)) => Some(glob?),
        None => None,
    };
    let sha256 = match digest {
        Some(digest) => Some(digest?),
        None => None,
    };
    Some(Executable { path, sha256 })
}

/// Why an exception by path likely lifts the rule for more than is meant.
fn too_wide(glob: &Glob) -> Option<String> {
    match glob.components.last() {
        Some(Component::Literal(name)) => INTERPRETERS
            .iter()
            .find(|interpreter| interpreter.as_bytes() == name)
            .map(|name| format!("`{name}` runs whatever it is told: this lifts the rule for everything")),
        Some(Component::Globstar | Component::Any) if glob.components.len() == 1 => {
            Some("this lifts the rule for every program there".into())
        }
        _ => None,
    }
}
