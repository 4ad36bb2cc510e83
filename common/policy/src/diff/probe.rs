//! Objects and subjects that stand for what policies name.

use std::collections::BTreeMap;

use crate::{
    abstract_name::AbstractGlob,
    explain::hex,
    glob::{Anchor, Component, Glob},
    host::{Home, Host},
    policy::{Executable, FileOperation, Kind, Policy, Rule},
    request::{Executed, Object},
};

/// What is asked about, and where a policy names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Probe<'p> {
    /// What is done.
    pub(super) operation: &'static str,
    /// To what, as the policy has it.
    pub(super) text: String,
    pub(super) named: Named<'p>,
    pub(super) object: Object,
}

/// How a policy names an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named<'p> {
    /// By a pattern for paths.
    Path(&'p Glob),
    /// By one for abstract names.
    Abstract(&'p AbstractGlob),
    /// It is the only one of its name.
    Alone,
}

/// What stands for what wildcards match: names, contents and depths that the two policies do not name.
pub(super) struct Filler {
    /// A name that no pattern with a wildcard in a name matches.
    name: Vec<u8>,
    /// Names for `**`, one after the other.
    depths: Vec<usize>,
    /// The first one is of somebody whom neither knows.
    homes: Vec<Vec<u8>>,
}

/// The content of what no policy names.
const OTHER_CONTENT: [u8; 32] = [0x5a; 32];

impl Filler {
    pub(super) fn of(policies: [&Policy; 2], host: &Host) -> Self {
        let rules = || policies.into_iter().flat_map(|policy| &policy.rules);
        let items = || rules().flat_map(Rule::items);
        let executables = items().flat_map(|item| item.descendant_of.iter().chain([&item.own]));
        let executables = executables.filter_map(|wanted| wanted.path.as_ref());
        let globs = rules().flat_map(|rule| rule.kind.globs().iter().chain(&rule.spares.paths));
        let globs = globs.map(|glob| &glob.value);
        let globs: Vec<&Glob> = globs.chain(executables).collect();
        let is_named = |name: &[u8]| {
            globs.iter().flat_map(|glob| &glob.components).any(|component| match component {
                Component::Literal(literal) => literal == name,
                Component::Wild(wild) => wild.matches(name),
                Component::Any | Component::Globstar => false,
            })
        };
        let names = (b'a'..=b'z').flat_map(|first| {
            [3, 9, 17, 29].map(|len| [&[first][..], &vec![b'q'; len - 1][..], b"~"].concat())
        });
        let mut names = names.into_iter().filter(|name| !is_named(name));
        let name = names.next().unwrap_or_else(|| b"any-name~".to_vec());
        // Of another name than what stands for a `*`: what is in it is in nobody's home here.
        let somebody = names.next().unwrap_or_else(|| b"any-body~".to_vec());
        let longest = globs.iter().map(|glob| glob.components.len()).max().unwrap_or(0);
        let mut depths = vec![0, 1, 2, longest + 1];
        depths.dedup();
        let mut homes: Vec<Vec<u8>> = vec![[b"/home/", somebody.as_slice()].concat()];
        homes.extend(host.homes.iter().map(|home| home.path.clone()));
        Self { name, depths, homes }
    }

    /// The machine on which the two are compared: with somebody whom neither knows.
    pub(super) fn host(&self) -> Host {
        let home = |(uid, path): (usize, &Vec<u8>)| Home { uid: uid as u32, path: path.clone() };
        Host { homes: self.homes.iter().enumerate().map(home).collect() }
    }

    /// What a path is below the home of the one whom neither knows, as a policy would have it; none if it is not in it.
    pub(super) fn below_other_home(&self, path: &[u8]) -> Option<Vec<u8>> {
        let rest = path.strip_prefix(self.homes.first()?.as_slice())?;
        (rest.is_empty() || rest.starts_with(b"/")).then(|| [b"~", rest].concat())
    }

    /// A program that neither policy names.
    pub(super) fn nobody(&self) -> Executed {
        let path = [b"/", self.name.as_slice(), b"/", self.name.as_slice()].concat();
        Executed { path, sha256: Some(OTHER_CONTENT), loads_code: false }
    }

    /// What an item of `except` or `only` is for.
    pub(super) fn executed(&self, wanted: &Executable) -> Executed {
        let path = wanted.path.as_ref().and_then(|glob| self.paths(glob).pop());
        let nobody = self.nobody();
        Executed {
            path: path.unwrap_or(nobody.path),
            sha256: wanted.sha256.or(nobody.sha256),
            loads_code: false,
        }
    }

    /// Paths that a glob matches: for `**` several numbers of names, for a `*` in a name a short and a long text, for `~` each home.
    fn paths(&self, glob: &Glob) -> Vec<Vec<u8>> {
        let none = [Vec::new()];
        let homes: &[Vec<u8>] = if glob.anchor == Anchor::Home { &self.homes } else { &none };
        let has = |wanted: fn(&Component) -> bool| glob.components.iter().any(wanted);
        let depths = if has(|one| matches!(one, Component::Globstar)) { &self.depths[..] } else { &[0] };
        let is_long: &[bool] =
            if has(|one| matches!(one, Component::Wild(_))) { &[false, true] } else { &[false] };
        let all = homes.iter().flat_map(|home| depths.iter().map(move |depth| (home, *depth)));
        let all = all.flat_map(|(home, depth)| is_long.iter().map(move |long| (home, depth, *long)));
        all.map(|(home, depth, long)| {
            let gap = if long { self.name.as_slice() } else { b"" };
            path_of(glob, home, &self.name, depth, gap)
        })
        .collect()
    }
}

/// All that two policies name, but addresses.
pub(super) fn probes<'p>(policies: [&'p Policy; 2], filler: &Filler) -> Vec<Probe<'p>> {
    // An object that two rules name alike is asked about once.
    let mut probes: BTreeMap<(String, &'static str, String), Probe<'p>> = BTreeMap::new();
    for rule in policies.into_iter().flat_map(|policy| &policy.rules) {
        for probe in objects(rule, filler) {
            let key = (probe.text.clone(), probe.operation, probe.object.to_string());
            probes.entry(key).or_insert(probe);
        }
    }
    probes.into_values().collect()
}

/// What a rule names.
fn objects<'p>(rule: &'p Rule, filler: &Filler) -> Vec<Probe<'p>> {
    let globs = rule.kind.globs().iter().chain(&rule.spares.paths);
    let globs =
        globs.flat_map(|glob| filler.paths(&glob.value).into_iter().map(move |path| (&glob.value, path)));
    let by_path = |operation, glob: &'p Glob, object| Probe {
        operation,
        text: glob.to_string(),
        named: Named::Path(glob),
        object,
    };
    let alone = |operation, text: String, object| Probe { operation, text, named: Named::Alone, object };
    match &rule.kind {
        Kind::File { operations, .. } => globs
            .flat_map(|(glob, path)| {
                let file = move |operation: FileOperation| {
                    by_path(operation.name(), glob, Object::File { path: path.clone(), operation })
                };
                operations.iter().map(file)
            })
            .collect(),
        Kind::Exec { sha256, .. } => {
            let path =
                |(glob, path)| by_path("exec", glob, Object::Exec { path, sha256: Some(OTHER_CONTENT) });
            let content = |digest: &[u8; 32]| {
                let object = Object::Exec { path: filler.nobody().path, sha256: Some(*digest) };
                alone("exec", format!("SHA-256 {}", hex(digest)), object)
            };
            globs.map(path).chain(sha256.iter().map(|digest| content(&digest.value))).collect()
        }
        Kind::Connect { to, abstracts, .. } => {
            let names = abstracts.iter().chain(&rule.spares.abstracts).flat_map(|glob| {
                let gaps: &[&[u8]] = if glob.value.suffix.is_some() { &[b"", &filler.name] } else { &[b""] };
                let suffix = glob.value.suffix.as_deref().unwrap_or_default();
                let name = |gap: &&[u8]| [&glob.value.prefix, *gap, suffix].concat();
                let named = |name| Probe {
                    operation: "connect",
                    text: glob.value.to_string(),
                    named: Named::Abstract(&glob.value),
                    object: Object::ConnectAbstract { name },
                };
                gaps.iter().map(name).map(named).collect::<Vec<_>>()
            });
            let raw = alone("make", "raw sockets".to_owned(), Object::RawSocket);
            globs
                .map(|(glob, path)| by_path("connect", glob, Object::ConnectUnix { path }))
                .chain(names)
                .chain((!to.is_empty()).then_some(raw))
                .collect()
        }
        Kind::Trace => vec![alone("trace", "processes outside of the session".to_owned(), Object::Trace)],
        // What an agent could call with what has no ends to be tried: see `Diff::unexplained`.
        Kind::Tool { .. } | Kind::Mcp { .. } | Kind::Posture { .. } => Vec::new(),
    }
}

/// A path that a glob matches, with so many of the name for each `**`, and with this text for a `*` within a name; below the
/// home, if it begins with `~`.
#[must_use]
pub fn path_of(glob: &Glob, home: &[u8], name: &[u8], depth: usize, gap: &[u8]) -> Vec<u8> {
    let mut path = if glob.anchor == Anchor::Home { home.to_vec() } else { Vec::new() };
    for component in &glob.components {
        let names = match component {
            Component::Literal(name) => vec![name.clone()],
            Component::Any => vec![name.to_vec()],
            Component::Wild(wild) => vec![wild.example_with(gap)],
            Component::Globstar => vec![name.to_vec(); depth],
        };
        for name in names {
            path.push(b'/');
            path.extend(name);
        }
    }
    if path.is_empty() { b"/".to_vec() } else { path }
}
