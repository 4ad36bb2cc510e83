//! Why a rule about a call or about the machine holds, or does not: which of what it asks for.

use treeline_event::PathBytes;

use crate::{
    call::{CommandPattern, Files, Names, Requirement, ServerPattern, When},
    diff::rules::server as server_text,
    eval::match_holds,
    eval_call::{self, Condition, Of, falls_short, parts_of_command, parts_of_server},
    host::Host,
    mcp::McpCall,
    policy::{Kind, Rule},
    posture::Posture,
    request::{Holds, Object},
    tool::{Command, Features, Place, ToolCall},
};

/// Something that a rule asks for.
struct Part {
    holds: Holds,
    /// What it is, where it holds or may.
    what: String,
    /// Why it does not.
    against: String,
}

/// The part of a rule that matches a call or the machine, and how certain that is, or why none does.
pub(super) fn match_by(rule: &Rule, host: &Host, object: &Object) -> Result<String, String> {
    let parts = match (&rule.kind, object) {
        (Kind::Tool { tools, when }, Object::Tool(call)) => tool(tools, when, host, call, rule.allows),
        (Kind::Mcp { servers, tools }, Object::Mcp(call)) => mcp(servers, tools, host, call),
        (Kind::Posture { require, unknown_counts }, Object::Posture(found)) => {
            posture(require, *unknown_counts, found)
        }
        _ => Vec::new(),
    };
    let of = |wanted: Holds| parts.iter().filter(move |part| part.holds == wanted);
    let whats = |parts: &mut dyn Iterator<Item = &Part>| {
        parts.map(|part| part.what.as_str()).collect::<Vec<_>>().join(", ")
    };
    match (match_holds(rule, host, object), rule.allows) {
        (Holds::Yes, _) => Ok(whats(&mut of(Holds::Yes))),
        (Holds::Unknown, false) => {
            let known = whats(&mut of(Holds::Yes));
            let unknown = format!("{}, which cannot be told and counts", whats(&mut of(Holds::Unknown)));
            Ok(if known.is_empty() { unknown } else { format!("{known}, {unknown}") })
        }
        (Holds::Unknown, true) => {
            let unknown = whats(&mut of(Holds::Unknown));
            Err(format!("whether it is {unknown} cannot be told, and that allows nothing"))
        }
        (Holds::No, _) => {
            let against: Vec<&str> = of(Holds::No).map(|part| part.against.as_str()).collect();
            Err(against.join(", and "))
        }
    }
}

/// That the name of a tool is one of those that are asked for; only told where nothing else is.
fn named(tools: &Names, name: &str, others: &mut Vec<Part>) {
    let holds = if tools.contains(name) { Holds::Yes } else { Holds::No };
    if holds == Holds::No || others.is_empty() {
        let against = match tools {
            Names::Any => String::new(),
            Names::Of(names) => format!("is for {}", names.join(", ")),
        };
        others.insert(0, Part { holds, what: format!("tools {name}"), against });
    }
}

fn tool(tools: &Names, when: &When, host: &Host, call: &ToolCall, allows: bool) -> Vec<Part> {
    let count = if allows { Of::Each } else { Of::Any };
    let features = &call.features;
    let mut parts = Vec::new();
    let found = eval_call::conditions(when, host, features, count).into_iter().flatten();
    for (condition, holds) in found {
        let asking = Asking { when, host, features, count, holds };
        match (condition, &when.command) {
            (Condition::Command, Some(wanted)) => parts.extend(asking.command(wanted)),
            _ => parts.push(asking.other(condition)),
        }
    }
    if count == Of::Each && features.opaque.is_empty() && eval_call::has_nothing(when, features) {
        let against = "it has nothing of what is asked for".to_owned();
        parts.push(Part { holds: Holds::No, what: String::new(), against });
    }
    named(tools, &call.tool, &mut parts);
    parts
}

/// A condition of a rule about tools, and whether it holds.
struct Asking<'r> {
    when: &'r When,
    host: &'r Host,
    features: &'r Features,
    count: Of,
    holds: Holds,
}

impl Asking<'_> {
    /// What is asked for of one command, of the one that is nearest to it; of each, for a rule that allows, of the one that is farthest.
    fn command(&self, wanted: &CommandPattern) -> Vec<Part> {
        let parts_of = |found: &Command| parts_of_command(wanted, found, self.count);
        let commands = self.features.commands.iter();
        let decides = match self.count {
            Of::Any => commands.rev().max_by_key(|found| {
                let parts = parts_of(found);
                let holds = |least: Holds| parts.iter().flatten().filter(|holds| **holds >= least).count();
                (parts.into_iter().flatten().min(), holds(Holds::Unknown), holds(Holds::Yes))
            }),
            Of::Each => commands.min_by_key(|found| parts_of(found).into_iter().flatten().min()),
        };
        let holds = |found: &Command| parts_of(found).into_iter().flatten().min().unwrap_or(Holds::Yes);
        match decides {
            Some(found) if holds(found) == self.holds => self.parts(wanted, found),
            // What decides is what could not be followed.
            _ if self.holds == Holds::Unknown => {
                vec![Part { holds: Holds::Unknown, what: self.hidden("a command"), against: String::new() }]
            }
            _ => {
                let against = "it runs no command".to_owned();
                vec![Part { holds: self.holds, what: "no command".to_owned(), against }]
            }
        }
    }

    fn parts(&self, wanted: &CommandPattern, found: &Command) -> Vec<Part> {
        let name = shown(match &found.path {
            Some(Place::At(path)) => path,
            _ => &found.program,
        });
        let CommandPattern { programs, words, flags } = wanted;
        let texts = [
            (format!("programs {name}"), format!("`{name}` is none of `programs`")),
            (format!("words {}", words.join(" ")), format!("`{name}` has not each of `words`")),
            (format!("flags {}", had(flags, found)), format!("`{name}` has none of `flags`")),
        ];
        let is_asked = [!programs.is_empty(), !words.is_empty(), !flags.is_empty()];
        let parts = parts_of_command(wanted, found, self.count).into_iter().zip(texts).zip(is_asked);
        let parts = parts.filter(|(_, is_asked)| *is_asked);
        parts
            .filter_map(|((holds, (what, against)), _)| Some(Part { holds: holds?, what, against }))
            .collect()
    }

    fn other(&self, condition: Condition) -> Part {
        let Self { when, features, .. } = self;
        let words = |kinds: &mut dyn Iterator<Item = String>| kinds.collect::<Vec<_>>().join(", ");
        let (key, decides) = match condition {
            Condition::Reads => ("reads", self.file(when.reads.as_ref(), &features.reads)),
            Condition::Writes => ("writes", self.file(when.writes.as_ref(), &features.writes)),
            Condition::Hosts => {
                let one = |found: &&crate::tool::Peer| {
                    eval_call::peer(when.hosts.as_deref().unwrap_or_default(), found) == self.holds
                };
                ("hosts", features.hosts.iter().find(one).map(|found| shown(&found.to_string())))
            }
            Condition::Secrets => {
                let wanted = when.secrets.as_deref().unwrap_or_default();
                let found = features.secrets.iter().filter(|kind| wanted.contains(kind));
                ("secrets", Some(words(&mut found.map(ToString::to_string))))
            }
            Condition::Opaque => {
                let wanted = when.opaque.as_deref().unwrap_or_default();
                let found = features.opaque.iter().filter(|kind| wanted.contains(kind));
                ("opaque", Some(words(&mut found.map(ToString::to_string))))
            }
            Condition::Command => ("programs", None),
        };
        let decides = decides.filter(|decides| !decides.is_empty());
        let what = match (&decides, self.holds) {
            (Some(decides), _) => format!("{key} {decides}"),
            (None, Holds::Unknown) => self.hidden(key),
            (None, _) => key.to_owned(),
        };
        let against = match (decides, self.count) {
            (Some(decides), Of::Each) => format!("`{decides}` is not of `{key}`"),
            _ => format!("it has nothing of `{key}`"),
        };
        Part { holds: self.holds, what, against }
    }

    /// The file that decides.
    fn file(&self, wanted: Option<&Files>, found: &[Place]) -> Option<String> {
        let one = |place: &&Place| Some(eval_call::file(wanted?, place, self.features, self.host));
        let is_it = |place: &&Place| one(place) == Some(self.holds);
        let touched = self.features.touches.iter().filter(|_| self.holds == Holds::Unknown);
        let place = found
            .iter()
            .find(is_it)
            .or_else(|| touched.into_iter().find(|place| one(place) > Some(Holds::No)));
        place.map(|place| shown(&place.to_string()))
    }

    /// What is not known because something could not be followed.
    fn hidden(&self, what: &str) -> String {
        match self.features.opaque.is_empty() {
            true => format!("{what} beside those that were found"),
            false => {
                let kinds: Vec<String> = self.features.opaque.iter().map(ToString::to_string).collect();
                format!("{what} behind what cannot be followed ({})", kinds.join(", "))
            }
        }
    }
}

/// Of these flags those that a command has; all, where it has none for certain.
fn had(wanted: &[String], found: &Command) -> String {
    let had: Vec<&str> =
        wanted.iter().filter(|flag| found.flags.contains(flag)).map(String::as_str).collect();
    match had.is_empty() {
        true => wanted.join(" or "),
        false => had.join(" "),
    }
}

/// What is the agent's, without what would act on a terminal.
fn shown(text: &str) -> String {
    PathBytes::from(text).to_string()
}

fn mcp(servers: &[ServerPattern], tools: &Names, host: &Host, call: &McpCall) -> Vec<Part> {
    let conditions =
        |wanted: &ServerPattern| parts_of_server(wanted, host, &call.server).into_iter().flatten();
    let nearest = servers.iter().rev().max_by_key(|wanted| {
        let least = conditions(wanted).map(|(_, holds)| holds).min();
        (least, conditions(wanted).filter(|(_, holds)| *holds > Holds::No).count())
    });
    let mut parts = Vec::new();
    if let Some(wanted) = nearest {
        let least = conditions(wanted).map(|(_, holds)| holds).min().unwrap_or(Holds::Yes);
        let keys = |is: Holds| {
            let keys = conditions(wanted).filter(move |(_, holds)| *holds == is).map(|(key, _)| key);
            keys.collect::<Vec<_>>().join(", ")
        };
        let what = match least {
            Holds::Unknown => format!("{} of the server {}", keys(Holds::Unknown), server_text(wanted)),
            _ => format!("the server {}", server_text(wanted)),
        };
        let others = if servers.len() > 1 { ", and so it is with the others" } else { "" };
        let against = format!(
            "`{}` of the server `{}` is not this one's{others}",
            keys(Holds::No),
            server_text(wanted)
        );
        parts.push(Part { holds: least, what, against });
    }
    named(tools, &call.tool, &mut parts);
    parts
}

fn posture(require: &[Requirement], unknown_counts: bool, found: &Posture) -> Vec<Part> {
    let holds = |requirement: &Requirement| falls_short(requirement, unknown_counts, found);
    let most = require.iter().map(holds).max().unwrap_or(Holds::No);
    let part = |requirement: &Requirement| {
        let Requirement { of, has } = requirement;
        let name = of.name();
        let (what, against) = match found.has(*of) {
            Some(is) => (format!("{name} is {is}"), format!("`{name}` is {has}, as required")),
            None => (name.to_owned(), format!("`{name}` cannot be told, and that does not count")),
        };
        Part { holds: holds(requirement), what, against }
    };
    require.iter().map(part).filter(|part| part.holds == most).collect()
}
