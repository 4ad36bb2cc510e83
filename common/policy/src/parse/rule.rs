//! One rule.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use super::{
    about, call,
    fields::{Fields, clip, peek},
    lists::Lists,
    scalar::{self, UnixGlob},
    session, silence,
    wide::too_wide,
};
use crate::{
    abstract_name::AbstractGlob,
    brokers::{BROKERS, Part},
    code::Code,
    diagnostic::{Diagnostic, Diagnostics},
    glob::Glob,
    policy::{
        AddressException, Adoption, Executable, FileOperation, Kind, Level, Mode, Operations, PortRange,
        Rule, Severity, Spared, SubjectItem,
    },
    source::{Span, Spanned},
    suggest,
    syntax::{
        policy_shape::MODES,
        rule_shape::{
            ANCESTOR, Action, EXCEPT_TO, EXCEPTION, LEVELS_THAT_LOOSEN, ONLY_ITEM, RULE, SUBJECT_KEYS,
        },
        scalars::{ID, PRIORITY},
        shape::{Numbers, Record},
    },
    yaml::{Node, Value},
};

/// Why there is no rule by host name.
const HOSTS: &str = "host names cannot be matched: what a name stands for is known only to who resolved it";
const HOSTS_HELP: &str = "write addresses in `to` or `except_to`, or leave only a proxy that decides by name: \
                          `to: [0.0.0.0/0, \"::/0\"]` with `except_to: [{to: [ADDRESS], ports: [PORT]}]`";

/// Reads a rule; reports everything that is wrong with it. One of kind `broker` is several: each has the id, a slash and
/// the part's name for its own.
pub(super) fn read(
    node: &Node,
    policy_mode: Mode,
    lists: &mut Lists,
    out: &mut Diagnostics,
) -> Option<Written> {
    let kinds: Vec<(&'static str, &'static str)> = RULE.words().map(|word| (word, word)).collect();
    let kind = peek(node, RULE.by).and_then(|kind| scalar::word(kind, "kind", &kinds, out));
    let fields = Fields::of_kind(node, &RULE, kind.and_then(|kind| RULE.kind(kind)), out)?;

    let id = fields.get("id");
    let span = id.map_or(fields.head(), |id| id.span);
    let id = id.and_then(|node| self::id(node, out));
    let reason = fields.text("reason", out);
    let mode = match fields.get("mode") {
        Some(node) => scalar::word(node, "mode", &MODES, out),
        None => Some(policy_mode),
    };
    let severity = match fields.get("severity") {
        Some(node) => scalar::word(node, "severity", &Severity::WORDS, out),
        None => Some(Severity::default()),
    };
    let expires = fields.get("expires").map(|node| scalar::moment(node, out));
    let about = about::read(&fields, out);
    let silences = fields.get(silence::KEY).map(|node| silence::read(node, out)).unwrap_or_default();
    let action = kind.map_or(Some(None), |kind| self::action(kind, &fields, out));
    // With an exception less is allowed, where a rule allows.
    let (except, only) = match action {
        Some(Some(Action::Allow)) => (List::Narrow, List::Grant),
        _ => (List::Except, List::Only),
    };
    let exceptions = subject_items(&fields, except, out);
    let only = subject_items(&fields, only, out);
    let priority = match fields.find("priority") {
        Some(node) => self::priority(node, out),
        None => Some(0),
    };
    let spares = spared(&fields, kind, lists, out);
    let loosened_by = loosened_by(&fields, out);
    refuse_narrow_allow(action.flatten(), &fields, out);
    refuse_loosened(action.flatten(), &fields, out);
    let kinds = pieces(kind?, action.flatten(), &fields, lists, out);
    let (id, severity, reason, priority, action) = (id?, severity?, reason?, priority?, action?);
    let mode = action.map_or(mode, |action| Some(action.mode()))?;
    let allows = action == Some(Action::Allow);
    // What could not be read must not make the rule hold for ever.
    let expires = expires.map_or(Some(None), |expires| expires.map(Some))?;
    let rule = |Piece { part, kind, adopts }: Piece| Rule {
        id: part.map_or_else(|| id.clone(), |part| format!("{id}/{part}")),
        mode,
        adopts,
        allows,
        priority,
        severity,
        reason: reason.clone(),
        about: about.clone(),
        level: Level::default(),
        policy: Arc::default(),
        loosened_by: loosened_by.clone(),
        kind,
        spares: spares.clone(),
        exceptions: exceptions.clone(),
        only: only.clone(),
        expires: expires.clone(),
        silences: silences.clone(),
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

impl Action {
    pub(super) fn mode(self) -> Mode {
        match self {
            Self::Deny => Mode::Enforce,
            Self::Record | Self::Adopt | Self::Allow => Mode::Monitor,
        }
    }
}

fn priority(node: &Node, out: &mut Diagnostics) -> Option<i32> {
    let Numbers::From(min, max) = PRIORITY.numbers else { return None };
    let help = format!("write a whole number from {min} to {max}");
    let text = match &node.value {
        Value::Scalar { text, plain: true } if node.describe() == "a number" => text,
        _ => {
            out.error(Code::WrongType, node.span, "`priority` has to be a number", Some(help));
            return None;
        }
    };
    // `parse` would take a plus, too.
    let number = if text.starts_with('+') { None } else { text.parse::<i32>().ok() };
    let number = number.filter(|number| (min..=max).contains(&i64::from(*number)));
    if number.is_none() {
        out.error(Code::BadNumber, node.span, format!("`{}` cannot be a priority", clip(text)), Some(help));
    }
    number
}

/// The action of a rule, if it has one; the outer none if it could not be read, for it must not be another one.
fn action(kind: &str, fields: &Fields<'_>, out: &mut Diagnostics) -> Option<Option<Action>> {
    let words = match kind {
        "broker" => &Action::OF_BROKERS,
        "posture" => return Some(None),
        _ => &Action::OF_RULES,
    };
    let Some(node) = fields.get("action") else { return Some(None) };
    let action = scalar::word(node, "action", words, out)?;
    if let Some(mode) = fields.get("mode") {
        let twice =
            Diagnostic::error(Code::ConflictingKeys, mode.span, "`mode` beside `action` says it twice");
        let help = "remove `mode`: `deny` is `enforce`, `record` is `monitor`";
        out.push(twice.help(help).label(node.span, "the action is here"));
    }
    if let (Action::Adopt, Some(except)) = (action, fields.get("except")) {
        let both =
            Diagnostic::error(Code::ConflictingKeys, except.span, "a rule that adopts has no exceptions");
        let help = "remove `except`; what one program starts this way is as much the session's as another's";
        out.push(both.help(help).label(node.span, "it adopts by this"));
    }
    Some(Some(action))
}

/// A rule that allows means all that it names: what of that is refused is a rule of its own, and the kernel knows a content where
/// it is executed and not where it is found.
fn refuse_narrow_allow(action: Option<Action>, fields: &Fields<'_>, out: &mut Diagnostics) {
    if action != Some(Action::Allow) {
        return;
    }
    let found = ["except_paths", "except_unix", "sha256"].map(|key| fields.find(key).map(|node| (key, node)));
    for (key, node) in found.into_iter().flatten() {
        let message = format!("a rule that allows has no `{key}`");
        let help = match key {
            "sha256" => "write `paths`, or an item of `except` with this `sha256` in the rule that refuses",
            _ => "refuse these by a rule with a higher `priority`",
        };
        let both = Diagnostic::error(Code::ConflictingKeys, node.span, message).help(help);
        out.push(match fields.find("action") {
            Some(action) => both.label(action.span, "it allows by this"),
            None => both,
        });
    }
}

/// The levels whose rules can allow against a rule, or against a default.
pub(super) fn loosened_by(fields: &Fields<'_>, out: &mut Diagnostics) -> Vec<Spanned<Level>> {
    let Some(node) = fields.find("loosened_by") else { return Vec::new() };
    let read = |item: &Node, out: &mut Diagnostics| scalar::word(item, "level", &LEVELS_THAT_LOOSEN, out);
    scalar::list(node, "`loosened_by`", out, read)
}

/// A rule that allows or adopts is lifted by none.
fn refuse_loosened(action: Option<Action>, fields: &Fields<'_>, out: &mut Diagnostics) {
    let what = match action {
        Some(Action::Allow) => "allows",
        Some(Action::Adopt) => "adopts",
        _ => return,
    };
    if let (Some(node), Some(action)) = (fields.find("loosened_by"), fields.find("action")) {
        let message = format!("a rule that {what} has no `loosened_by`");
        let both = Diagnostic::error(Code::ConflictingKeys, node.span, message)
            .help("remove it: no rule lifts this one; `loosened_by` stands in the rule that refuses");
        out.push(both.label(action.span, "the action is here"));
    }
}

/// `except_paths` or `except_unix`.
fn spared(fields: &Fields<'_>, kind: Option<&str>, lists: &mut Lists, out: &mut Diagnostics) -> Spared {
    let mut spared = Spared::default();
    if let Some(node) = fields.find("except_paths") {
        spared.paths = lists.paths(node, "`except_paths`", out);
        if kind == Some("exec") && fields.get("paths").is_none() {
            let help = Some("remove it: a content that is refused is refused wherever it is".into());
            out.error(Code::IdleKey, node.span, "`except_paths` says nothing without `paths`", help);
        }
    }
    if let Some(node) = fields.find("except_unix") {
        (spared.paths, spared.abstracts) = by_kind(lists.sockets(node, "`except_unix`", out));
        if kind == Some("connect") && fields.get("unix").is_none() {
            let help = Some("add `unix:`, such as `unix: [/**, \"@*\"]` for every socket".into());
            out.error(Code::IdleKey, node.span, "`except_unix` says nothing without `unix`", help);
        }
    }
    spared
}

/// Unix sockets by path, and by abstract name.
fn by_kind(sockets: Vec<Spanned<UnixGlob>>) -> (Vec<Spanned<Glob>>, Vec<Spanned<AbstractGlob>>) {
    let (mut paths, mut abstracts) = (Vec::new(), Vec::new());
    for Spanned { value, span } in sockets {
        match value {
            UnixGlob::Path(value) => paths.push(Spanned { value, span }),
            UnixGlob::Abstract(value) => abstracts.push(Spanned { value, span }),
        }
    }
    (paths, abstracts)
}

fn id(node: &Node, out: &mut Diagnostics) -> Option<String> {
    let id = scalar::text(node, "`id`", &ID, out)?;
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
    let paths = fields.get("paths").map(|node| lists.paths(node, "`paths`", out));
    let operations = match fields.get("operations") {
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
    let paths = fields.get("paths").map(|node| lists.paths(node, "`paths`", out));
    let sha256 = fields.get("sha256").map(|node| lists.hashes(node, "`sha256`", out));
    if paths.is_none() && sha256.is_none() {
        let help = Some("add `paths:` or `sha256:`".into());
        out.error(Code::MissingKey, fields.head(), "a rule of kind `exec` needs `paths` or `sha256`", help);
        return None;
    }
    Some(Kind::Exec { paths: paths.unwrap_or_default(), sha256: sha256.unwrap_or_default() })
}

fn brokers(fields: &Fields<'_>, adopt: bool, out: &mut Diagnostics) -> Option<Vec<Piece>> {
    let node = fields.get("brokers")?;
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
    if let Some(node) = fields.get("hosts") {
        out.error(Code::HostName, node.span, HOSTS, Some(HOSTS_HELP.into()));
    }
    let to = fields.get("to").map(|node| lists.addresses(node, "`to`", out));
    let unix = fields.get("unix").map(|node| lists.sockets(node, "`unix`", out));
    let ports = fields.get("ports");
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
    let except_to = fields.get("except_to");
    if let (Some(node), None) = (except_to, &to) {
        let help = Some("add `to:`, such as `to: [0.0.0.0/0, \"::/0\"]` for every address".into());
        out.error(Code::IdleKey, node.span, "`except_to` says nothing without `to`", help);
    }
    let except_to = except_to.map(|node| address_exceptions(node, lists, out)).unwrap_or_default();
    let (paths, abstracts) = by_kind(unix.unwrap_or_default());
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
        let fields = Fields::of(item, &EXCEPT_TO, out)?;
        let to = fields.get("to")?;
        let to = lists.addresses(to, "`to`", out);
        Some(AddressException { to, ports: ports(fields.get("ports"), out) })
    };
    items.iter().filter_map(|item| read(item, out)).collect()
}

/// A list of subjects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum List {
    Except,
    /// `except` of a rule that allows.
    Narrow,
    Only,
    /// `only` of a rule that allows.
    Grant,
}

impl List {
    fn key(self) -> &'static str {
        match self {
            Self::Except | Self::Narrow => "except",
            Self::Only | Self::Grant => "only",
        }
    }

    fn item(self) -> &'static Record {
        match self {
            Self::Except | Self::Narrow => &EXCEPTION,
            Self::Only | Self::Grant => &ONLY_ITEM,
        }
    }

    fn for_everybody(self) -> &'static str {
        match self {
            Self::Except | Self::Narrow => "an exception for everybody lifts the rule for everybody",
            Self::Only | Self::Grant => "this is everybody; a rule is for everybody without `only`",
        }
    }

    /// Whether what a session says of itself counts: not where somebody gets more by saying something else than is so.
    fn takes_claims(self) -> bool {
        matches!(self, Self::Only)
    }

    /// What an item does for whom it is for, and what to write instead, if that is to let something through.
    fn lets_through(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Except => Some(("lifts the rule", "except")),
            Self::Grant => Some(("allows this", "name")),
            Self::Narrow | Self::Only => None,
        }
    }
}

fn subject_items(fields: &Fields<'_>, list: List, out: &mut Diagnostics) -> Vec<SubjectItem> {
    let key = list.key();
    let Some(node) = fields.get(key) else { return Vec::new() };
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
        match seen.entry((item.own.clone(), item.descendant_of.clone(), item.session.clone())) {
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
    let fields = Fields::of(node, list.item(), out)?;
    let warns = list.lets_through().filter(|_| fields.get("reason").is_none());
    let reason = fields.text("reason", out);
    let descendant_of = fields.get("descendant_of");
    let session = fields.get("session");
    let warns = warns.filter(|_| session.is_none());
    let own = executable(&fields, warns.filter(|_| descendant_of.is_none()), out);
    let descendant_of = descendant_of.map(|node| ancestor(node, warns, out));
    if descendant_of.is_none() && session.is_none() && own.as_ref().is_some_and(Executable::is_any) {
        let help = Some(format!("give {}", suggest::list(&SUBJECT_KEYS)));
        out.error(Code::ForEverybody, fields.head(), list.for_everybody(), help);
        return None;
    }
    // What could not be read must not make the item wider.
    let descendant_of = match descendant_of {
        Some(ancestor) => Some(ancestor?),
        None => None,
    };
    let session = match session {
        Some(node) => Some(session::condition(node, list.takes_claims(), out)?),
        None => None,
    };
    Some(SubjectItem { own: own?, descendant_of, session, reason, span: node.span })
}

/// What is said of an item that is likely for more than is meant.
type Warning = (&'static str, &'static str);

/// The value of `descendant_of`.
fn ancestor(node: &Node, warns: Option<Warning>, out: &mut Diagnostics) -> Option<Executable> {
    if let Value::Scalar { .. } = node.value {
        let help = Some("write `descendant_of: {executable: /usr/bin/git}`".into());
        let message = format!("`descendant_of` has to be a mapping, not {}", node.describe());
        out.error(Code::WrongType, node.span, message, help);
        return None;
    }
    let fields = Fields::of(node, &ANCESTOR, out)?;
    let ancestor = executable(&fields, warns, out)?;
    if ancestor.is_any() {
        let help = Some(format!("give {}", suggest::list(&["executable", "sha256"])));
        out.error(Code::ForEverybody, fields.head(), "everybody is a descendant of something", help);
        return None;
    }
    Some(ancestor)
}

/// The keys `executable` and `sha256` of a mapping; none when one of them could not be read.
fn executable(fields: &Fields<'_>, warns: Option<Warning>, out: &mut Diagnostics) -> Option<Executable> {
    let glob = fields.get("executable").map(|node| (node.span, scalar::glob(node, out)));
    let digest = fields.get("sha256").map(|node| scalar::sha256(node, out));
    if let (Some((span, Some(glob))), None, Some((does, instead))) = (&glob, &digest, warns)
        && let Some(warning) = too_wide(glob, does)
    {
        let help = format!("{instead} the program that has the need, add its `sha256`, or give a `reason`");
        out.warning(Code::WideException, *span, warning, Some(help));
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
