//! Objects and subjects that stand for what policies name.

use std::{collections::BTreeMap, net::IpAddr};

use crate::{
    explain::describe,
    glob::{Anchor, Component, Glob},
    host::Host,
    policy::{Executable, FileOperation, Kind, Policy, PortRange, Rule},
    request::{Executed, Lineage, Object, Subject},
};

/// A name that no policy has, for what a wildcard stands for.
const ANY: &[u8] = b"any-name";

/// What is asked about, and where a policy names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Probe {
    /// What is done.
    pub(super) operation: &'static str,
    /// To what, as the policy has it.
    pub(super) text: String,
    pub(super) object: Object,
    /// Programs that the rule names, as places in the list of subjects.
    pub(super) subjects: Vec<usize>,
}

/// Somebody who asks. The first one is in no exception, nor in `only`, as far as programs have to be named for that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asker {
    pub(super) text: String,
    pub(super) subject: Subject,
}

/// All that two policies name.
pub(super) fn probes(policies: [&Policy; 2], host: &Host) -> (Vec<Probe>, Vec<Asker>) {
    let mut askers = vec![Asker { text: String::new(), subject: subject(vec![other()]) }];
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    let mut probes: BTreeMap<(String, &'static str, String), Probe> = BTreeMap::new();
    for rule in policies.into_iter().flat_map(|policy| &policy.rules) {
        let mut named = Vec::new();
        for item in rule.exceptions.iter().chain(&rule.only) {
            let text = describe(item);
            let index = *known.entry(text.clone()).or_insert_with(|| {
                let images = item.descendant_of.iter().chain([&item.own]);
                let images = images.map(|wanted| executed(wanted, host)).collect();
                askers.push(Asker { text, subject: subject(images) });
                askers.len() - 1
            });
            named.push(index);
        }
        for (operation, text, object) in objects(rule, host) {
            // An object that two rules name is asked about once, under each of the names.
            let key = (text.clone(), operation, object.to_string());
            let probe = probes.entry(key).or_insert(Probe { operation, text, object, subjects: Vec::new() });
            probe.subjects.extend(&named);
        }
    }
    (probes.into_values().collect(), askers)
}

fn other() -> Executed {
    Executed { path: b"/usr/bin/any-program".to_vec(), ..Executed::default() }
}

fn executed(wanted: &Executable, host: &Host) -> Executed {
    let path = wanted.path.as_ref().and_then(|glob| paths(glob, host).pop());
    Executed { path: path.unwrap_or_else(|| other().path), sha256: wanted.sha256, loads_code: false }
}

/// Who has executed these images, the last one now.
fn subject(images: Vec<Executed>) -> Subject {
    let Executed { path, sha256, loads_code } = images.last().cloned().unwrap_or_default();
    let lineage = Lineage::Images { images, complete: true };
    Subject { executable: path, sha256, uid: 0, loads_code, lineage }
}

/// What a rule names: what is done, to what as the policy has it, and an object.
fn objects(rule: &Rule, host: &Host) -> Vec<(&'static str, String, Object)> {
    let globs = rule.kind.globs().iter();
    let globs = globs.flat_map(|glob| {
        let text = glob.value.to_string();
        paths(&glob.value, host).into_iter().map(move |path| (text.clone(), path))
    });
    match &rule.kind {
        Kind::File { operations, .. } => globs
            .flat_map(|(text, path)| {
                let file = move |operation: FileOperation| {
                    (operation.name(), text.clone(), Object::File { path: path.clone(), operation })
                };
                operations.iter().map(file)
            })
            .collect(),
        Kind::Exec { sha256, .. } => {
            let path = |(text, path)| ("exec", text, Object::Exec { path, sha256: None });
            let content = |digest: &[u8; 32]| {
                let text =
                    format!("SHA-256 {}", digest.iter().map(|b| format!("{b:02x}")).collect::<String>());
                ("exec", text, Object::Exec { path: other().path, sha256: Some(*digest) })
            };
            globs.map(path).chain(sha256.iter().map(|digest| content(&digest.value))).collect()
        }
        Kind::Connect { to, abstracts, .. } => {
            let names = abstracts.iter().map(|glob| {
                let suffix = glob.value.suffix.as_deref().unwrap_or_default();
                let name = [&glob.value.prefix, suffix].concat();
                ("connect", glob.value.to_string(), Object::ConnectAbstract { name })
            });
            let raw = ("make", "raw sockets".to_owned(), Object::RawSocket);
            globs
                .map(|(text, path)| ("connect", text, Object::ConnectUnix { path }))
                .chain(names)
                .chain((!to.is_empty()).then_some(raw))
                .chain(addresses(&rule.kind))
                .collect()
        }
        Kind::Trace => vec![("trace", "processes outside of the session".to_owned(), Object::Trace)],
    }
}

/// The ends of each block, on the ends of each range of ports and on what is next to it.
fn addresses(kind: &Kind) -> Vec<(&'static str, String, Object)> {
    let Kind::Connect { to, ports, except_to, .. } = kind else { return Vec::new() };
    let own = to.iter().map(|net| (net, ports));
    let excepted = except_to.iter().flat_map(|except| except.to.iter().map(|net| (net, &except.ports)));
    let mut found = Vec::new();
    for (net, ports) in own.chain(excepted) {
        for (address, port) in ends(net.value.network(), net.value.broadcast(), ports) {
            found.push(("connect", net.value.to_string(), Object::Connect { address, port }));
        }
    }
    found
}

fn ends(first: IpAddr, last: IpAddr, ports: &[PortRange]) -> impl Iterator<Item = (IpAddr, u16)> {
    let ports = ports.iter().flat_map(|range| [range.first, range.last, range.last.wrapping_add(1)]);
    ports.flat_map(move |port| [(first, port), (last, port)])
}

/// Paths that a glob matches: with nothing, with one name and with two where it has `**`.
fn paths(glob: &Glob, host: &Host) -> Vec<Vec<u8>> {
    let home = match glob.anchor {
        Anchor::Root => Vec::new(),
        // Without anybody's home no path matches.
        Anchor::Home => match host.homes.first() {
            Some(home) => home.path.clone(),
            None => return Vec::new(),
        },
    };
    let depths = if glob.components.contains(&Component::Globstar) { 3 } else { 1 };
    (0..depths).map(|depth| path_of(glob, &home, depth)).collect()
}

/// A path that a glob matches, with so many names for each `**`, below a home, if it begins with `~`.
#[must_use]
pub fn path_of(glob: &Glob, home: &[u8], depth: usize) -> Vec<u8> {
    let mut path = if glob.anchor == Anchor::Home { home.to_vec() } else { Vec::new() };
    for component in &glob.components {
        let names = match component {
            Component::Literal(name) => vec![name.clone()],
            Component::Any => vec![ANY.to_vec()],
            Component::Wild(wild) => vec![wild.example()],
            Component::Globstar => vec![ANY.to_vec(); depth],
        };
        for name in names {
            path.push(b'/');
            path.extend(name);
        }
    }
    if path.is_empty() { b"/".to_vec() } else { path }
}
