//! A learned policy as its author reads it.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use treeline_event::PathBytes;

use super::{
    Kind, Options,
    left::Left,
    pattern::{Pattern, What},
    seen::{Facts, READ, Thing},
    told::Told,
};
use crate::{
    policy::{FileOperation, PortRange},
    render::printable,
};

/// Characters of a path in a comment.
const SHOWN_CHARS: usize = 64;
/// Programs that a comment names.
const PROGRAMS_SHOWN: usize = 3;
/// Characters of a program's name in the id of a rule.
const ID_CHARS: usize = 20;

/// Where the system's libraries are.
const LIBRARIES: [&str; 9] = [
    "/lib/**/*.so",
    "/lib/**/ld-*",
    "/lib/**/lib*",
    "/usr/lib/**/*.so",
    "/usr/lib/**/ld-*",
    "/usr/lib/**/lib*",
    "/usr/lib64/**/*.so",
    "/usr/lib64/**/ld-*",
    "/usr/lib64/**/lib*",
];

/// Patterns that are in one rule: of one kind, with the same operations or ports, for the same program.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    kind: Kind,
    operations: u32,
    ports: Vec<PortRange>,
    only: Option<Arc<[u8]>>,
}

/// Everything that is written down.
pub(super) struct Writing<'w> {
    pub(super) options: &'w Options,
    pub(super) told: &'w Told,
    pub(super) left: &'w Left,
    /// It had to be generalised more than was asked for.
    pub(super) is_widened: bool,
}

impl Writing<'_> {
    /// The policy, not yet in canonical form.
    pub(super) fn write(&self, patterns: &[Pattern]) -> String {
        let mut out = String::new();
        self.head(&mut out);
        let _ = write!(out, "version: 1\nname: {}\n", quoted(&self.options.name));
        let _ = writeln!(out, "description: {}", quoted("What recorded sessions did, and nothing else."));
        self.defaults(&mut out);
        let mut groups: BTreeMap<Group, Vec<&Pattern>> = BTreeMap::new();
        for pattern in patterns {
            groups.entry(group(pattern)).or_default().push(pattern);
        }
        if groups.is_empty() && !self.options.kinds.contains(&Kind::Exec) {
            out.push_str("rules: []\n");
        } else {
            out.push_str("rules:\n");
        }
        let mut ids = BTreeMap::new();
        for (group, members) in &groups {
            rule(group, members, &mut ids, &mut out);
        }
        if self.options.kinds.contains(&Kind::Exec) {
            libraries(&mut out);
        }
        self.left.write(&mut out);
        out
    }

    fn head(&self, out: &mut String) {
        let told = self.told;
        let (entries, sessions) = (told.entries, told.sessions.count());
        comment(
            out,
            0,
            &format!(
                "Learned from {entries} entries of {sessions} sessions by `treeline learn`. Read it before you use it."
            ),
        );
        comment(out, 0, "");
        let trial = match self.options.enforces {
            true => "What is not listed is refused (`deny` below).",
            false => {
                "A trial: what is not listed is recorded and goes on. Run more sessions under it, learn again from their log, \
                 and write `deny` for `record` when nothing new is recorded. Until then it refuses nothing, what the baseline \
                 protects included: add the rules of policies/baseline.yaml to it."
            }
        };
        comment(out, 0, trial);
        let forms = format!(
            "Paths were generalised: homes to `~/`, so it holds for every user; numbers, hashes, versions and random letters in \
             a name to `*`; {} entries of a directory or more to the directory. Several addresses of a /24 (/64) are the block.",
            self.options.siblings
        );
        comment(out, 0, &forms);
        comment(
            out,
            0,
            "A rule has `only` where a single program did what it allows and only root can write that program; whoever can \
             replace a program has what it is allowed, so there is none for others.",
        );
        if self.is_widened {
            comment(
                out,
                0,
                "WIDENED: the kernel's tables did not hold this at the generality that was asked for, so directories stand for fewer \
                 entries, and `*` for names. Fewer sessions or `--kinds` give tighter rules.",
            );
        }
        told.write(&self.options.kinds, out);
        comment(out, 0, "");
    }

    fn defaults(&self, out: &mut String) {
        if self.options.kinds.is_empty() {
            return;
        }
        out.push_str("defaults:\n");
        let action = if self.options.enforces { "deny" } else { "record" };
        for kind in &self.options.kinds {
            let reason =
                format!("No recorded session {} this. Ask the developer before you go on.", kind.verb());
            let _ = writeln!(out, "  {}: {{action: {action}, reason: {}}}", kind.name(), quoted(&reason));
        }
    }
}

fn group(pattern: &Pattern) -> Group {
    let ports = match &pattern.what {
        What::Addresses(block) => block.ports.clone(),
        What::Path(_) | What::Abstract(_) => Vec::new(),
    };
    Group { kind: pattern.kind, operations: pattern.facts.operations, ports, only: pattern.only.clone() }
}

fn rule(group: &Group, members: &[&Pattern], ids: &mut BTreeMap<String, u32>, out: &mut String) {
    let id = id(group);
    let number = ids.entry(id.clone()).and_modify(|number| *number += 1).or_insert(1);
    let id = if *number == 1 { id } else { format!("{id}-{number}") };
    let (kind, key) = match group.kind {
        Kind::Read | Kind::Write => ("file", "paths"),
        Kind::Exec => ("exec", "paths"),
        Kind::Connect => ("connect", "to"),
        Kind::Unix => ("connect", "unix"),
    };
    let _ = write!(out, "\n  - id: {id}\n    kind: {kind}\n    action: allow\n    {key}:\n");
    let mut lines: Vec<(String, &Facts)> =
        members.iter().map(|member| (member.text(), &member.facts)).collect();
    lines.sort_by(|one, other| one.0.cmp(&other.0));
    for (text, facts) in lines {
        comment(out, 6, &said(&text, facts, group.only.is_some()));
        let _ = writeln!(out, "      - {}", quoted(&text));
    }
    if group.operations != 0 {
        let words: Vec<&str> = operations(group.operations).collect();
        let _ = writeln!(out, "    operations: [{}]", words.join(", "));
    }
    if !group.ports.is_empty() && group.ports != [PortRange::ALL] {
        let ports: Vec<String> = group.ports.iter().map(ToString::to_string).collect();
        let _ = writeln!(out, "    ports: [{}]", ports.join(", "));
    }
    if let Some(only) = &group.only {
        let path = String::from_utf8_lossy(only);
        let _ = writeln!(
            out,
            "    only:\n      - executable: {}\n        reason: It alone did this.",
            quoted(&path)
        );
    }
    let _ = writeln!(out, "    reason: Recorded sessions did this.");
}

/// What was seen of a pattern.
fn said(text: &str, facts: &Facts, names_program: bool) -> String {
    let plural = |count: &str| if count == "1" { "" } else { "s" };
    let (times, sessions) = (facts.times.to_string(), facts.sessions.count());
    let mut said = format!("{times} time{} in {sessions} session{}", plural(&times), plural(&sessions));
    if !names_program {
        let shown: Vec<String> =
            facts.programs.iter().take(PROGRAMS_SHOWN).map(|path| brief(&path_text(path))).collect();
        let count = facts.programs.count();
        match (shown.is_empty(), facts.programs.iter().len() > PROGRAMS_SHOWN) {
            (true, _) => said.push_str(", by programs that are not surely known"),
            (false, true) => {
                let _ = write!(said, ", by {} and others, {count} programs", shown.join(", "));
            }
            (false, false) => {
                let _ = write!(said, ", by {}", shown.join(", "));
            }
        }
    }
    if let Some(example) = facts.example.as_ref().map(Thing::text).filter(|example| example != text) {
        let of = if facts.things > 1 { "such as" } else { "it was" };
        let _ = write!(said, "; {of} {}", brief(&example));
    }
    said
}

/// An id for a rule: what it allows, and to whom.
fn id(group: &Group) -> String {
    let base = match group.kind {
        Kind::Write => operations(group.operations).collect::<Vec<_>>().join("-"),
        kind => kind.name().to_owned(),
    };
    let Some(only) = &group.only else { return base };
    let name = only.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let kebab: String = name
        .iter()
        .map(|byte| char::from(byte.to_ascii_lowercase()))
        .map(|c| match c {
            c if c.is_ascii_alphanumeric() => c,
            _ => '-',
        })
        .take(ID_CHARS)
        .collect();
    let parts: Vec<&str> = kebab.split('-').filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { base } else { format!("{base}-by-{}", parts.join("-")) }
}

fn operations(bits: u32) -> impl Iterator<Item = &'static str> {
    debug_assert!(bits == READ || bits & READ == 0, "reads have a default of their own");
    FileOperation::WORDS
        .into_iter()
        .filter(move |(_, one)| bits & 1 << *one as u32 != 0)
        .map(|(word, _)| word)
}

fn libraries(out: &mut String) {
    out.push('\n');
    comment(
        out,
        2,
        "Not learned: rules about execs are also about libraries, and a log has only those mappings that a rule matched. Run \
         the trial, and learn again: the log then has them, also those outside of these directories.",
    );
    let _ = write!(out, "  - id: system-libraries\n    kind: exec\n    action: allow\n    paths:\n");
    for path in LIBRARIES {
        let _ = writeln!(out, "      - {path}");
    }
    out.push_str("    reason: Programs are made of these.\n");
}

/// Lines of a comment, none longer than a policy's lines.
pub(super) fn comment(out: &mut String, indent: usize, text: &str) {
    const COLUMNS: usize = 116;
    let begin = format!("{}#", " ".repeat(indent));
    let mut line = begin.clone();
    for word in printable(text).split_whitespace() {
        if line.len() > begin.len() && line.chars().count() + 1 + word.chars().count() > COLUMNS {
            out.push_str(&line);
            out.push('\n');
            line.clone_from(&begin);
        }
        line.push(' ');
        line.push_str(word);
    }
    out.push_str(&line);
    out.push('\n');
}

pub(super) fn path_text(path: &[u8]) -> String {
    PathBytes::from(path).to_string()
}

/// A path that is not longer than a comment has room for: its end says more than its beginning.
pub(super) fn brief(path: &str) -> String {
    let path: String = printable(path).split_whitespace().collect::<Vec<_>>().join(" ");
    let count = path.chars().count();
    if count <= SHOWN_CHARS {
        return path;
    }
    std::iter::once('…').chain(path.chars().skip(count + 1 - SHOWN_CHARS)).collect()
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
