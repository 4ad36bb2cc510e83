//! What the arguments of a tool say, as Claude Code's tools take them.

use serde_json::{Map, Value};
use treeline_policy::tool::{Features, Opaque, Peer, Place, Secret, ToolReader, Workplace};

use crate::{directories::normal, operands::peer_of_url, secrets};

/// Who takes shell commands apart.
pub trait Shell {
    /// What a command does; what is unknown of it, if nobody answers in time.
    fn command(&mut self, command: &str, place: &Workplace) -> Features;
}

/// Takes shell commands apart where it is: for commands that nobody has sent.
#[derive(Clone, Copy, Debug)]
pub struct Here;

impl Shell for Here {
    fn command(&mut self, command: &str, place: &Workplace) -> Features {
        crate::features(command, place)
    }
}

impl ToolReader for Here {
    fn features(&mut self, tool: &str, input: &Value, place: &Workplace) -> Features {
        of_call(tool, input, place, self)
    }
}

/// What an argument is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Argument {
    /// A command for a shell.
    Command,
    /// A file that is read.
    Read,
    /// A directory below which is read; without it, the working directory.
    Below,
    /// A file that is written.
    Write,
    /// An address.
    Url,
}

/// The tools whose arguments are known, with those of them that a rule can be about. What a tool of these has besides is text.
const TOOLS: [(&str, &[(&str, Argument)]); 19] = [
    ("Bash", &[("command", Argument::Command)]),
    ("Read", &[("file_path", Argument::Read)]),
    ("Write", &[("file_path", Argument::Write)]),
    ("Edit", &[("file_path", Argument::Write)]),
    ("MultiEdit", &[("file_path", Argument::Write)]),
    ("NotebookEdit", &[("notebook_path", Argument::Write)]),
    ("NotebookRead", &[("notebook_path", Argument::Read)]),
    ("Glob", &[("path", Argument::Below)]),
    ("Grep", &[("path", Argument::Below)]),
    ("LS", &[("path", Argument::Below)]),
    ("WebFetch", &[("url", Argument::Url)]),
    // The provider of the model searches, not this machine.
    ("WebSearch", &[]),
    // What a subagent does comes as calls of its own.
    ("Agent", &[]),
    ("Task", &[]),
    ("TodoWrite", &[]),
    ("AskUserQuestion", &[]),
    ("ExitPlanMode", &[]),
    ("BashOutput", &[]),
    ("KillShell", &[]),
];

/// What a call says. A tool that is not known can do anything.
pub fn of_call(tool: &str, input: &Value, context: &Workplace, shell: &mut dyn Shell) -> Features {
    let mut features = match (TOOLS.iter().find(|(name, _)| *name == tool), input) {
        (Some((_, arguments)), Value::Object(input)) => of_arguments(arguments, input, context, shell),
        _ => Features::unknown(Opaque::Input),
    };
    features.secrets.extend(secrets_in(input));
    features.is_scanned = true;
    features.repository.clone_from(&context.repository);
    features.sorted()
}

fn of_arguments(
    arguments: &[(&str, Argument)],
    input: &Map<String, Value>,
    context: &Workplace,
    shell: &mut dyn Shell,
) -> Features {
    let mut features = Features::default();
    for (name, argument) in arguments {
        let text = match (input.get(*name), argument) {
            (Some(Value::String(text)), _) => text.as_str(),
            (None | Some(Value::Null), Argument::Below) => ".",
            _ => {
                features.opaque.push(Opaque::Input);
                continue;
            }
        };
        match argument {
            Argument::Command => features = shell.command(text, context),
            Argument::Read => features.reads.push(place(text, context, Place::At)),
            Argument::Below => {
                // The directory's own name counts, too.
                features.reads.push(place(text, context, Place::At));
                features.reads.push(place(text, context, Place::Below));
            }
            Argument::Write => features.writes.push(place(text, context, Place::At)),
            Argument::Url => features.hosts.push(peer_of_url(text).unwrap_or(Peer::Unknown)),
        }
    }
    features
}

/// The file of a path, seen from the working directory.
fn place(text: &str, context: &Workplace, kind: fn(String) -> Place) -> Place {
    let home = |rest: &str| normal("", &format!("{}/{rest}", context.home.as_deref()?));
    let path = match text.split_once('/') {
        _ if text.contains('\0') => None,
        Some(("~", rest)) => home(rest),
        None if text == "~" => home(""),
        _ => normal(context.cwd.as_deref().unwrap_or_default(), text),
    };
    path.map_or(Place::Unknown, kind)
}

/// Kinds of secrets in every text of a value. How deep values are nested is bounded by who read them.
fn secrets_in(value: &Value) -> Vec<Secret> {
    match value {
        Value::String(text) => secrets::kinds(text),
        Value::Array(items) => items.iter().flat_map(secrets_in).collect(),
        Value::Object(entries) => entries
            .iter()
            .flat_map(|(key, value)| [secrets::kinds(key), secrets_in(value)].concat())
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(tool: &str, input: &Value) -> Features {
        let at = |path: &str| Some(path.to_owned());
        let context = Workplace { cwd: at("/ws/p/src"), home: at("/home/ada"), repository: at("/ws/p") };
        of_call(tool, input, &context, &mut Here)
    }

    #[test]
    fn files_and_hosts() {
        let check = |tool: &str, input: Value, reads: &[&str], writes: &[&str], hosts: &[&str]| {
            let found = of(tool, &input);
            let words = |places: &[Place]| places.iter().map(Place::to_string).collect::<Vec<_>>();
            assert_eq!(
                (words(&found.reads).as_slice(), words(&found.writes).as_slice()),
                (owned(reads).as_slice(), owned(writes).as_slice()),
                "{tool} {input}"
            );
            let found_hosts: Vec<_> = found.hosts.iter().map(Peer::to_string).collect();
            assert_eq!((found_hosts, found.opaque.len()), (owned(hosts), 0), "{tool} {input}");
            assert_eq!(found.repository.as_deref(), Some("/ws/p"));
        };
        fn owned(words: &[&str]) -> Vec<String> {
            words.iter().map(|word| (*word).to_owned()).collect()
        }
        check("Read", json!({"file_path": "/etc/../etc/passwd"}), &["/etc/passwd"], &[], &[]);
        check("Read", json!({"file_path": "~/.ssh/id", "limit": 3}), &["/home/ada/.ssh/id"], &[], &[]);
        check("Write", json!({"file_path": "../../q/x", "content": "y"}), &[], &["/ws/q/x"], &[]);
        check(
            "Edit",
            json!({"file_path": "x", "old_string": "a", "new_string": "b"}),
            &[],
            &["/ws/p/src/x"],
            &[],
        );
        check("NotebookEdit", json!({"notebook_path": "/n.ipynb"}), &[], &["/n.ipynb"], &[]);
        check("Grep", json!({"pattern": "x"}), &["/ws/p/src", "/ws/p/src/..."], &[], &[]);
        check("Glob", json!({"pattern": "x", "path": "/"}), &["/", "/..."], &[], &[]);
        check(
            "WebFetch",
            json!({"url": "https://Docs.example.com/x", "prompt": "y"}),
            &[],
            &[],
            &["docs.example.com"],
        );
        check(
            "WebFetch",
            json!({"url": "https://a.example\\@b.example/"}),
            &[],
            &[],
            &["a host that cannot be told"],
        );
        check("TodoWrite", json!({"todos": []}), &[], &[], &[]);
        check(
            "Bash",
            json!({"command": "cat x > y", "description": "z"}),
            &["/ws/p/src/x"],
            &["/ws/p/src/y"],
            &[],
        );
    }

    #[test]
    fn what_a_tool_does_not_take_can_be_anything() {
        for (tool, input) in [
            ("Bash", json!({"cmd": "ls"})),
            ("Bash", json!({"command": ["ls"]})),
            ("Read", json!({"file_path": 1})),
            ("Glob", json!({"path": 1})),
            ("Read", json!("x")),
            ("Frobnicate", json!({})),
            ("mcp__x__y", json!({})),
        ] {
            assert_eq!(of(tool, &input).opaque, [Opaque::Input], "{tool} {input}");
        }
        assert_eq!(of("Write", &json!({"file_path": "a\0b"})).writes, [Place::Unknown]);
    }

    #[test]
    fn secrets_wherever_they_stand() {
        let token = format!("ghp_{}", "a1B2".repeat(9));
        let check =
            |tool: &str, input: Value| assert_eq!(of(tool, &input).secrets, [Secret::Github], "{input}");
        check("Write", json!({"file_path": "x", "content": format!("token = {token}\n")}));
        check("MultiEdit", json!({"file_path": "x", "edits": [{"new_string": token}]}));
        check("mcp__x__y", json!({"a": {"b": [token]}}));
        check("Bash", json!({"command": format!("curl -H 'x: {token}' h")}));
    }
}
