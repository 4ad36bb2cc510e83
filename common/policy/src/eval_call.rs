//! What rules about calls mean. What cannot be told is unknown; it counts for a rule that refuses or records, and not for one that
//! allows.
//!
//! A call can have several commands, files and hosts. A rule that refuses is about a call with **one** that it asks for; a rule that
//! allows, about one of which **each** is what it asks for: `git status && rm -r x` is not allowed because `git` is. So for one that
//! allows all of them have to be known, and there has to be one.

use crate::{
    call::{CommandPattern, Files, HostPattern, Names, Requirement, ServerPattern, When},
    eval::{executable_holds, glob_matches},
    glob::{Anchor, Component, Glob, split},
    host::Host,
    mcp::{Fact, FileIdentity, McpCall, McpServer},
    policy::Executable,
    posture::Posture,
    request::Holds,
    tool::{Command, Features, Peer, Place, ToolCall},
};

/// How many of several things have to be what is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    /// One.
    Any,
    /// Each of them.
    Each,
}

impl Of {
    /// Whether enough of them are. What could not be followed may have others.
    fn hold(self, holds: impl Iterator<Item = Holds>, may_be_others: bool) -> Holds {
        match self {
            Self::Any => {
                holds.max().unwrap_or(Holds::No).max(if may_be_others { Holds::Unknown } else { Holds::No })
            }
            Self::Each => {
                holds.min().unwrap_or(Holds::Yes).min(if may_be_others { Holds::Unknown } else { Holds::Yes })
            }
        }
    }
}

fn of(holds: bool) -> Holds {
    if holds { Holds::Yes } else { Holds::No }
}

fn not(holds: Holds) -> Holds {
    match holds {
        Holds::Yes => Holds::No,
        Holds::Unknown => Holds::Unknown,
        Holds::No => Holds::Yes,
    }
}

/// Whether a call of a tool is one that is asked for.
pub(crate) fn tool(tools: &Names, when: &When, host: &Host, call: &ToolCall, count: Of) -> Holds {
    let features = &call.features;
    // A call that has nothing of what is asked for is not allowed for it.
    if count == Of::Each && features.opaque.is_empty() && has_nothing(when, features) {
        return Holds::No;
    }
    let conditions = conditions(when, host, features, count);
    let asked = conditions.into_iter().flatten().map(|(_, holds)| holds).min().unwrap_or(Holds::Yes);
    of(tools.contains(&call.tool)).min(asked)
}

/// Something that a rule about tools asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// `programs`, `words` and `flags`, of one command.
    Command,
    Reads,
    Writes,
    Hosts,
    Secrets,
    Opaque,
}

/// Each thing that is asked for, and whether it holds.
pub(crate) fn conditions(
    when: &When,
    host: &Host,
    features: &Features,
    count: Of,
) -> [Option<(Condition, Holds)>; 6] {
    let files = |wanted: &Option<Files>, found: &[Place]| {
        wanted.as_ref().map(|wanted| files(wanted, found, features, host, count))
    };
    let hidden = || features.opaque.iter().any(|opaque| opaque.hides_others());
    let holds = [
        (Condition::Command, when.command.as_ref().map(|wanted| commands(wanted, features, count))),
        (Condition::Reads, files(&when.reads, &features.reads)),
        (Condition::Writes, files(&when.writes, &features.writes)),
        (Condition::Hosts, when.hosts.as_ref().map(|wanted| hosts(wanted, features, count))),
        (
            Condition::Secrets,
            when.secrets.as_ref().map(|wanted| kinds(wanted, &features.secrets, !features.is_scanned)),
        ),
        (Condition::Opaque, when.opaque.as_ref().map(|wanted| kinds(wanted, &features.opaque, hidden()))),
    ];
    holds.map(|(condition, holds)| holds.map(|holds| (condition, holds)))
}

/// Whether a call has nothing of all that is asked for: it runs nothing, where commands are; otherwise it names no file and no host of
/// those that are.
pub(crate) fn has_nothing(when: &When, features: &Features) -> bool {
    let asked = match when.command {
        Some(_) => vec![features.commands.is_empty()],
        None => [
            when.reads.as_ref().map(|_| features.reads.is_empty()),
            when.writes.as_ref().map(|_| features.writes.is_empty()),
            when.hosts.as_ref().map(|_| features.hosts.is_empty()),
        ]
        .into_iter()
        .flatten()
        .collect(),
    };
    !asked.is_empty() && asked.into_iter().all(|is_empty| is_empty)
}

/// Whether one of some kinds was found; what hides others may hide these.
fn kinds<T: PartialEq>(wanted: &[T], found: &[T], may_be_others: bool) -> Holds {
    Of::Any.hold(found.iter().map(|kind| of(wanted.contains(kind))), may_be_others)
}

fn commands(wanted: &CommandPattern, features: &Features, count: Of) -> Holds {
    let one = |found: &Command| command(wanted, found, count);
    count.hold(features.commands.iter().map(one), !features.opaque.is_empty())
}

/// Whether one command is what is asked for.
fn command(wanted: &CommandPattern, found: &Command, count: Of) -> Holds {
    let parts = parts_of_command(wanted, found, count).into_iter().flatten();
    parts.min().unwrap_or(Holds::Yes)
}

/// Whether `programs`, `words` and `flags` hold of one command, where they are asked for.
pub(crate) fn parts_of_command(wanted: &CommandPattern, found: &Command, count: Of) -> [Option<Holds>; 3] {
    let missing = if found.is_vague { Holds::Unknown } else { Holds::No };
    let has = |there: bool| if there { Holds::Yes } else { missing };
    let flag = |wanted: &String| match found.flags.iter().any(|flag| is_short_for(flag, wanted)) {
        false => has(found.flags.contains(wanted)),
        // Most programs take it for the whole.
        true => has(found.flags.contains(wanted)).max(Holds::Unknown),
    };
    let programs = wanted.programs.iter().map(|name| program(name, found, count)).max();
    let words = wanted.words.iter().map(|word| has(found.words.contains(word))).min();
    let flags = wanted.flags.iter().map(flag).max();
    [programs, words, flags]
}

/// Whether the program of a command is one by a name or a path.
fn program(wanted: &str, found: &Command, count: Of) -> Holds {
    let (is_path, name) = (wanted.starts_with('/'), wanted.rsplit('/').next().unwrap_or(wanted));
    match &found.path {
        _ if name != found.program => Holds::No,
        Some(Place::At(path)) if is_path => of(wanted == path),
        None if !is_path => Holds::Yes,
        // A name stands for what is found by it; `./git` is another program that is called so, or the same.
        Some(_) if !is_path && count == Of::Any => Holds::Yes,
        // A name is looked for in the directories of a variable.
        _ => Holds::Unknown,
    }
}

/// Whether a flag is a beginning of a long one.
fn is_short_for(flag: &str, wanted: &str) -> bool {
    flag.len() > "--".len() && flag.starts_with("--") && flag != wanted && wanted.starts_with(flag)
}

fn files(wanted: &Files, found: &[Place], features: &Features, host: &Host, count: Of) -> Holds {
    let one = |place: &Place| file(wanted, place, features, host);
    let touched = features.touches.iter().map(|place| one(place).min(Holds::Unknown));
    count.hold(found.iter().map(one).chain(touched), may_use_others(features, count))
}

/// Whether one file is what is asked for.
pub(crate) fn file(wanted: &Files, place: &Place, features: &Features, host: &Host) -> Holds {
    match wanted {
        Files::InsideRepository => is_inside(features.repository.as_deref(), place),
        Files::OutsideRepository => not(is_inside(features.repository.as_deref(), place)),
        Files::Globs(globs) => {
            globs.iter().map(|glob| glob_holds(&glob.value, host, place)).max().unwrap_or(Holds::No)
        }
    }
}

/// Whether a call may use files or hosts that were not found. Only a rule that allows asks that of a command which was followed: what
/// it names was found, and few programs could be called if all that they might do besides were refused.
fn may_use_others(features: &Features, count: Of) -> bool {
    let is_incomplete = || features.commands.iter().any(|command| !command.is_complete);
    !features.opaque.is_empty() || count == Of::Each && is_incomplete()
}

/// Whether a place is in the repository.
fn is_inside(repository: Option<&str>, place: &Place) -> Holds {
    let (Some(root), Place::At(path) | Place::Below(path)) = (repository, place) else {
        return Holds::Unknown;
    };
    let is_below = |path: &str, above: &str| {
        let mut names = split(path.as_bytes());
        split(above.as_bytes()).all(|name| names.next() == Some(name))
    };
    match place {
        _ if is_below(path, root) => Holds::Yes,
        Place::Below(directory) if is_below(root, directory) => Holds::Unknown,
        _ => Holds::No,
    }
}

/// Whether a pattern matches a place.
fn glob_holds(glob: &Glob, host: &Host, place: &Place) -> Holds {
    match place {
        Place::At(path) => of(glob_matches(glob, host, path.as_bytes())),
        Place::Below(directory) => below_holds(glob, host, directory.as_bytes()),
        Place::Unknown => Holds::Unknown,
    }
}

/// Whether a pattern matches what is somewhere below a directory.
fn below_holds(glob: &Glob, host: &Host, directory: &[u8]) -> Holds {
    // What ends with `**` and matches a directory matches everything in it.
    if glob.components.last() == Some(&Component::Globstar) && glob_matches(glob, host, directory) {
        return Holds::Yes;
    }
    let names: Vec<&[u8]> = split(directory).collect();
    let can_be_below = |base: &[u8]| {
        let base: Vec<&[u8]> = split(base).collect();
        let literals = glob.components.iter().map_while(|component| match component {
            Component::Literal(name) => Some(name.as_slice()),
            _ => None,
        });
        let literals: Vec<&[u8]> = base.into_iter().chain(literals).collect();
        literals.iter().zip(&names).all(|(literal, name)| literal == name)
    };
    let can_be = match glob.anchor {
        Anchor::Root => can_be_below(b"/"),
        Anchor::Home => host.home_paths().any(can_be_below),
    };
    if can_be { Holds::Unknown } else { Holds::No }
}

fn hosts(wanted: &[HostPattern], features: &Features, count: Of) -> Holds {
    count.hold(features.hosts.iter().map(|found| peer(wanted, found)), may_use_others(features, count))
}

/// Whether one host is what is asked for.
pub(crate) fn peer(wanted: &[HostPattern], found: &Peer) -> Holds {
    match found {
        Peer::Named(host) => of(wanted.iter().any(|pattern| pattern.matches(host))),
        Peer::Unknown => Holds::Unknown,
    }
}

/// Whether a call of a server is one that is asked for.
pub(crate) fn mcp(servers: &[ServerPattern], tools: &Names, host: &Host, call: &McpCall) -> Holds {
    let servers = servers.iter().map(|wanted| server(wanted, host, &call.server)).max().unwrap_or(Holds::Yes);
    of(tools.contains(&call.tool)).min(servers)
}

/// Whether all that is asked for holds of a server.
fn server(wanted: &ServerPattern, host: &Host, found: &McpServer) -> Holds {
    let conditions = parts_of_server(wanted, host, found).into_iter().flatten();
    conditions.map(|(_, holds)| holds).min().unwrap_or(Holds::Yes)
}

/// Each thing that is asked for of a server, by its key, and whether it holds.
pub(crate) fn parts_of_server(
    wanted: &ServerPattern,
    host: &Host,
    found: &McpServer,
) -> [Option<(&'static str, Holds)>; 5] {
    let (interpreter, script, package, url) = match found {
        McpServer::Process { interpreter, script, package } => (interpreter, script, package, &Fact::None),
        McpServer::Remote { url } => (&Fact::None, &Fact::None, &Fact::None, url),
        McpServer::Unknown => (&Fact::Unknown, &Fact::Unknown, &Fact::Unknown, &Fact::Unknown),
    };
    let holds = [
        wanted.interpreter.as_ref().map(|glob| fact(interpreter, |file| path_holds(glob, host, file))),
        wanted
            .interpreter_sha256
            .as_ref()
            .map(|hashes| fact(interpreter, |file| content_holds(hashes, file))),
        wanted.script_sha256.as_ref().map(|hashes| fact(script, |file| content_holds(hashes, file))),
        wanted.url.as_ref().map(|wanted| fact(url, |url| of(wanted.covers(url)))),
        wanted.package.as_ref().map(|wanted| {
            fact(package, |package| {
                let is_it = package.is_called(wanted.registry, &wanted.name);
                let version = match (&wanted.version, &package.version) {
                    (None, _) => Holds::Yes,
                    (Some(_), None) => Holds::Unknown,
                    (Some(wanted), Some(version)) => of(wanted == version),
                };
                of(is_it).min(version)
            })
        }),
    ];
    let keys = ["interpreter", "interpreter_sha256", "script_sha256", "url", "package"];
    let mut keyed = keys.into_iter().zip(holds).map(|(key, holds)| holds.map(|holds| (key, holds)));
    std::array::from_fn(|_| keyed.next().flatten())
}

fn fact<T>(fact: &Fact<T>, holds: impl FnOnce(&T) -> Holds) -> Holds {
    match fact {
        Fact::Unknown => Holds::Unknown,
        Fact::None => Holds::No,
        Fact::Is(one) => holds(one),
    }
}

fn path_holds(glob: &Glob, host: &Host, file: &FileIdentity) -> Holds {
    let wanted = Executable { path: Some(glob.clone()), sha256: None };
    executable_holds(&wanted, host, file.path.as_bytes(), None)
}

fn content_holds(hashes: &[[u8; 32]], file: &FileIdentity) -> Holds {
    file.sha256.map_or(Holds::Unknown, |content| of(hashes.contains(&content)))
}

/// Whether a machine falls short of what is required.
pub(crate) fn posture(require: &[Requirement], unknown_counts: bool, found: &Posture) -> Holds {
    require
        .iter()
        .map(|requirement| falls_short(requirement, unknown_counts, found))
        .max()
        .unwrap_or(Holds::No)
}

/// Whether it falls short of one requirement.
pub(crate) fn falls_short(requirement: &Requirement, unknown_counts: bool, found: &Posture) -> Holds {
    match found.has(requirement.of) {
        Some(has) => of(has != requirement.has),
        None => of(unknown_counts).min(Holds::Unknown),
    }
}
