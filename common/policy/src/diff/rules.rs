//! What rules say, as texts that can be compared.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use treeline_event::Mode;

use crate::{
    call::{CommandPattern, Files, Names, Requirement, ServerPattern, When},
    explain::{describe, hex},
    policy::{
        AddressException, DEFAULT_PRIORITY, Executable, Kind, Level, Policy, PortRange, Rule, SubjectItem,
    },
};

/// A rule that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleChange {
    /// Its id.
    pub rule: String,
    /// What is other than before; all of it for a rule that was added or removed.
    pub keys: Vec<KeyChange>,
    /// It was not there before.
    pub is_added: bool,
    /// It is no longer there.
    pub is_removed: bool,
}

/// A key of a rule that says something else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyChange {
    /// The key, as a policy has it.
    pub key: &'static str,
    /// What it no longer says.
    pub removed: Vec<String>,
    /// What it says now.
    pub added: Vec<String>,
}

/// Keys by which nothing is decided.
const SAID: [&str; 7] = ["severity", "reason", "remedy", "link", "controls", "silence", "expires"];

impl RuleChange {
    /// Whether a decision can be another one by it. That a rule is to expire changes none yet.
    pub(super) fn may_decide(&self) -> bool {
        self.keys.iter().any(|change| !SAID.contains(&change.key))
    }
}

/// What the policies say of themselves, where that differs.
pub(super) fn about(before: &Policy, after: &Policy) -> Vec<KeyChange> {
    let says = |policy: &Policy| {
        let Policy { name, description, owner, revision, .. } = policy;
        let texts = [
            ("name", Some(name.clone())),
            ("description", description.clone()),
            ("owner", owner.clone()),
            ("revision", revision.map(|number| number.to_string())),
        ];
        let said = texts.into_iter().filter_map(|(key, text)| Some((key, BTreeSet::from([text?]))));
        said.collect::<Says>()
    };
    differences(&says(before), &says(after))
}

/// Rules that are not as they were, by id.
pub(super) fn changes(before: &Policy, after: &Policy) -> Vec<RuleChange> {
    let by_id = |policy: &Policy| -> BTreeMap<String, Says> {
        policy.rules.iter().map(|rule| (rule.id.clone(), says(rule))).collect()
    };
    let (before, after) = (by_id(before), by_id(after));
    let ids: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let nothing = Says::new();
    let change = |id: &String| {
        let (old, new) = (before.get(id), after.get(id));
        let keys = differences(old.unwrap_or(&nothing), new.unwrap_or(&nothing));
        let change =
            RuleChange { rule: id.clone(), keys, is_added: old.is_none(), is_removed: new.is_none() };
        (!change.keys.is_empty()).then_some(change)
    };
    ids.into_iter().filter_map(change).collect()
}

type Says = BTreeMap<&'static str, BTreeSet<String>>;

fn differences(old: &Says, new: &Says) -> Vec<KeyChange> {
    let nothing = BTreeSet::new();
    let keys: BTreeSet<&'static str> = old.keys().chain(new.keys()).copied().collect();
    let change = |key: &'static str| {
        let (old, new) = (old.get(key).unwrap_or(&nothing), new.get(key).unwrap_or(&nothing));
        let left = |from: &BTreeSet<String>, without: &BTreeSet<String>| {
            from.difference(without).cloned().collect::<Vec<_>>()
        };
        let change = KeyChange { key, removed: left(old, new), added: left(new, old) };
        (!change.removed.is_empty() || !change.added.is_empty()).then_some(change)
    };
    keys.into_iter().filter_map(change).collect()
}

/// What a rule says by its keys. The order of lists has no meaning.
fn says(rule: &Rule) -> Says {
    let mut says = Says::new();
    let mut put = |key: &'static str, values: Vec<String>| {
        if !values.is_empty() {
            says.insert(key, values.into_iter().collect());
        }
    };
    put("kind", vec![rule.kind.name().to_owned()]);
    let mode = if rule.mode == Mode::Enforce { "enforce" } else { "monitor" };
    // What allows refuses and records nothing, in whatever mode.
    put(
        if rule.allows { "action" } else { "mode" },
        vec![if rule.allows { "allow" } else { mode }.to_owned()],
    );
    // That of a default is nothing that anybody has written.
    let priority = Some(rule.priority).filter(|priority| ![0, DEFAULT_PRIORITY].contains(priority));
    put("priority", priority.iter().map(ToString::to_string).collect());
    put("loosened_by", rule.loosened_by.iter().map(|level| level.value.name().to_owned()).collect());
    // Of a policy that is alone nothing is said; who puts it below another one changes what it can do.
    put(
        "level",
        Some(rule.level)
            .filter(|level| *level != Level::default())
            .iter()
            .map(|level| level.name().to_owned())
            .collect(),
    );
    put("adopts", rule.adopts.iter().map(|adoption| format!("{adoption:?}").to_lowercase()).collect());
    put("severity", vec![rule.severity.name().to_owned()]);
    put("reason", vec![rule.reason.clone()]);
    put("remedy", rule.about.remedy.iter().cloned().collect());
    put("link", rule.about.link.iter().cloned().collect());
    put("controls", rule.about.controls.clone());
    put("expires", rule.expires.iter().map(|expires| expires.value.to_string()).collect());
    put("only", rule.only.iter().map(subject).collect());
    put("except", rule.exceptions.iter().map(subject).collect());
    let silenced = rule.silences.0.iter().map(|(code, reason)| format!("{}: {}", code.name(), reason.value));
    put("silence", silenced.collect());
    let spared = [texts(&rule.spares.paths), texts(&rule.spares.abstracts)].concat();
    let is_of_sockets = matches!(rule.kind, Kind::Connect { .. });
    put(if is_of_sockets { "except_unix" } else { "except_paths" }, spared);
    matched(&rule.kind, &mut put);
    says
}

/// All that a rule says, in one order: two rules that differ in anything differ in this.
#[must_use]
pub fn statement(rule: &Rule) -> String {
    format!("{} {:?}", rule.policy, says(rule))
}

/// Whether two kinds match the same, by what they say.
pub(crate) fn are_alike(one: &Kind, other: &Kind) -> bool {
    let says = |kind: &Kind| {
        let mut says = Says::new();
        matched(kind, &mut |key, values| _ = says.insert(key, values.into_iter().collect()));
        says
    };
    one.name() == other.name() && says(one) == says(other)
}

/// What a kind matches, by its keys.
fn matched(kind: &Kind, put: &mut impl FnMut(&'static str, Vec<String>)) {
    match kind {
        Kind::File { paths, operations } => {
            put("paths", texts(paths));
            put("operations", operations.iter().map(|operation| operation.name().to_owned()).collect());
        }
        Kind::Exec { paths, sha256 } => {
            put("paths", texts(paths));
            put("sha256", sha256.iter().map(|digest| hex(&digest.value)).collect());
        }
        Kind::Connect { to, ports: of, except_to, unix, abstracts } => {
            put("to", texts(to));
            // Without an address there is none that they are about.
            put("ports", if to.is_empty() { Vec::new() } else { ports(of) });
            put("except_to", except_to.iter().map(exception).collect());
            put("unix", [texts(unix), texts(abstracts)].concat());
        }
        Kind::Trace => {}
        Kind::Tool { tools, when } => {
            put("tools", names(tools));
            conditions(when, put);
        }
        Kind::Mcp { servers, tools } => {
            put("servers", servers.iter().map(server).collect());
            put("tools", names(tools));
        }
        Kind::Posture { require, unknown_counts } => {
            let required = |Requirement { of, has }: &Requirement| format!("{}: {has}", of.name());
            put("require", require.iter().map(required).collect());
            put("on_unknown", vec![if *unknown_counts { "deny" } else { "allow" }.to_owned()]);
        }
    }
}

/// What the arguments of a call have to say.
fn conditions(when: &When, put: &mut impl FnMut(&'static str, Vec<String>)) {
    let When { command, reads, writes, hosts, secrets, opaque } = when;
    if let Some(CommandPattern { programs, words, flags }) = command {
        put("programs", programs.clone());
        put("words", words.clone());
        put("flags", flags.clone());
    }
    put("reads", reads.as_ref().map(files).unwrap_or_default());
    put("writes", writes.as_ref().map(files).unwrap_or_default());
    put("hosts", hosts.iter().flatten().map(ToString::to_string).collect());
    put("secrets", secrets.iter().flatten().map(ToString::to_string).collect());
    put("opaque", opaque.iter().flatten().map(ToString::to_string).collect());
}

fn names(names: &Names) -> Vec<String> {
    match names {
        Names::Any => vec!["*".to_owned()],
        Names::Of(names) => names.clone(),
    }
}

fn files(files: &Files) -> Vec<String> {
    let word = |is_inside: bool| {
        let words = Files::WORDS.into_iter().filter(move |(_, means)| *means == is_inside);
        words.map(|(word, _)| word.to_owned()).collect()
    };
    match files {
        Files::InsideRepository => word(true),
        Files::OutsideRepository => word(false),
        Files::Globs(globs) => texts(globs),
    }
}

/// An item of `servers` as a policy has it, in one order and with quotes, so that what differs looks different.
pub(crate) fn server(server: &ServerPattern) -> String {
    let ServerPattern { package, interpreter, interpreter_sha256, script_sha256, url } = server;
    let quoted = |text: String| format!("{text:?}");
    let package = package.as_ref().map(|package| {
        let version = package.version.as_ref().map(|version| ("version", quoted(version.clone())));
        mapping([Some((package.registry.name(), quoted(package.name.clone()))), version])
    });
    let hashes = |hashes: &Option<Vec<[u8; 32]>>| {
        let mut hashes: Vec<String> = hashes.as_ref()?.iter().map(hex).collect();
        hashes.sort();
        Some(format!("[{}]", hashes.join(", ")))
    };
    mapping([
        package.map(|package| ("package", package)),
        interpreter.as_ref().map(|glob| ("interpreter", quoted(glob.to_string()))),
        hashes(interpreter_sha256).map(|hashes| ("interpreter_sha256", hashes)),
        hashes(script_sha256).map(|hashes| ("script_sha256", hashes)),
        url.as_ref().map(|url| ("url", quoted(url.to_string()))),
    ])
}

fn mapping<const N: usize>(entries: [Option<(&str, String)>; N]) -> String {
    let entries = entries.into_iter().flatten().map(|(key, value)| format!("{key}: {value}"));
    format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
}

fn texts<T: ToString>(values: &[crate::source::Spanned<T>]) -> Vec<String> {
    values.iter().map(|value| value.value.to_string()).collect()
}

fn ports(ranges: &[PortRange]) -> Vec<String> {
    ranges.iter().map(ToString::to_string).collect()
}

/// An item of `except` or `only`; with keys and quotes where words of a path could be taken for more than the path.
fn subject(item: &SubjectItem) -> String {
    let SubjectItem { own, descendant_of, session, reason, span: _ } = item;
    let paths = [Some(own), descendant_of.as_ref()].map(|of| of.and_then(|of| of.path.as_ref()));
    let asked = session.as_ref().map(|session| session.parts()).unwrap_or_default();
    let has_space = |text: &String| text.contains(' ');
    if paths.into_iter().flatten().any(|path| has_space(&path.to_string()))
        || asked.iter().flat_map(|(_, texts)| texts).any(has_space)
    {
        let executable = |of: &Executable| {
            let path = of.path.as_ref().map(|path| ("executable", format!("{:?}", path.to_string())));
            [path, of.sha256.as_ref().map(|digest| ("sha256", hex(digest)))]
        };
        let [path, sha256] = executable(own);
        let before = descendant_of.as_ref().map(|of| ("descendant_of", mapping(executable(of))));
        let reason = reason.as_ref().map(|reason| ("reason", format!("{reason:?}")));
        let asked: Vec<String> = asked.iter().map(|(key, texts)| format!("{key}: {texts:?}")).collect();
        let session = (!asked.is_empty()).then(|| ("session", format!("{{{}}}", asked.join(", "))));
        return mapping([path, sha256, before, session, reason]);
    }
    let reason = item.reason.as_ref().map_or_else(String::new, |reason| format!(" ({reason})"));
    describe(item) + &reason
}

fn exception(except: &AddressException) -> String {
    let mut to = texts(&except.to);
    to.sort();
    format!("{} ports {}", to.join(", "), ports(&except.ports).join(", "))
}
