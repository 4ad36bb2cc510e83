//! The file of a policy's tests.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    fields::{Fields, clip},
    include, scalar, session, test_call as calls,
};
use crate::{
    code::Code,
    diagnostic::{Diagnostic, Diagnostics},
    host::{Home, Host, Located, Mount, MountTable},
    object::{ObjectError, own_path},
    request::{Executed, Lineage, Object, Request, Subject},
    session::Session,
    source::{FileId, Source, Sources, Span, Spanned},
    suggest,
    syntax::{
        scalars::USER,
        test_shape::{BELOW_MAX, EXECUTABLE, MACHINE, PLACES_MAX, TEST, TESTS},
    },
    testing::{Answer, Machine, Test, TestFile},
    tool::{ToolReader, Unread, Workplace},
    yaml::{self, Node, Value},
};

/// Reads the tests of a policy. What the policy is, is not looked at: see [`testing::run`](crate::testing::run).
///
/// # Errors
/// Every error in the text.
pub fn parse_tests(source: Source) -> Result<TestFile, Diagnostics> {
    parse_tests_with(source, &mut Unread)
}

/// Reads the tests of a policy; `tools` says what the arguments of tools say. What the policy is, is not looked at: see [`testing::run`](crate::testing::run).
///
/// # Errors
/// Every error in the text.
pub fn parse_tests_with(source: Source, tools: &mut dyn ToolReader) -> Result<TestFile, Diagnostics> {
    let (sources, full) = Sources::new(source);
    let mut out = Diagnostics::new(sources.clone());
    if full.is_some() {
        let message = format!("a test file has at most {} bytes", crate::source::TEXT_LEN_MAX);
        out.error(Code::TooLong, Span::default(), message, Some("write several".into()));
        return Err(out);
    }
    match test_file(sources, tools, &mut out) {
        Some(file) if !out.has_errors() => Ok(file),
        _ => Err(out),
    }
}

fn test_file(sources: Sources, tools: &mut dyn ToolReader, out: &mut Diagnostics) -> Option<TestFile> {
    let root = yaml::parse(FileId::default(), out)?;
    let fields = Fields::of(&root, &TESTS, out)?;
    let policy = fields.get("policy").and_then(|node| {
        let value = include::path(node, out)?;
        Some(Spanned { value, span: node.span })
    });
    let machine = match fields.get("machine") {
        Some(node) => machine(node, out),
        None => {
            let (host, mounts) = (default_host(), MountTable::single(1));
            let place = workplace(&host, None, None);
            Some(Machine { host, mounts, now: None, place })
        }
    };
    let place = machine.as_ref().map(|machine| machine.place.clone()).unwrap_or_default();
    let tests = fields.get("tests").and_then(|node| {
        let read = |item: &Node, out: &mut Diagnostics| test(item, &place, tools, out);
        items(node, "`tests`", "write `tests:` and below it `- {do: read /x, expect: allow}`", out, read)
    });
    Some(TestFile { policy: policy?, machine: machine?, tests: tests?, sources })
}

/// What every item of a list is; none if the node is no list or an empty one.
fn items<T>(
    node: &Node,
    what: &str,
    help: &str,
    out: &mut Diagnostics,
    mut read: impl FnMut(&Node, &mut Diagnostics) -> Option<T>,
) -> Option<Vec<T>> {
    match &node.value {
        Value::Sequence(items) if items.is_empty() => {
            out.error(Code::Empty, node.span, format!("{what} cannot be empty"), Some(help.to_owned()));
            None
        }
        Value::Sequence(items) => Some(items.iter().filter_map(|item| read(item, out)).collect()),
        _ => {
            let message = format!("{what} has to be a list, not {}", node.describe());
            out.error(Code::WrongType, node.span, message, Some(help.to_owned()));
            None
        }
    }
}

fn default_host() -> Host {
    Host { homes: vec![Home { uid: 0, path: b"/root".to_vec() }] }
}

fn machine(node: &Node, out: &mut Diagnostics) -> Option<Machine> {
    let fields = Fields::of(node, &MACHINE, out)?;
    let host = fields.get("homes").map_or_else(default_host, |node| homes(node, out));
    let mounts = fields.get("mounts").map(|node| scalar::list(node, "`mounts`", out, path));
    let mounts = mounts.unwrap_or_default();
    too_many(mounts.len(), fields.get("mounts"), "mounts", out);
    // What is not on another filesystem is on that of `/`.
    let points = mounts.into_iter().map(|mount| mount.value).filter(|point| point != b"/");
    let mounts = [b"/".to_vec()].into_iter().chain(points).zip(1..);
    let mount = |(point, device)| Mount { point, root: Located { device, inner: b"/".to_vec() } };
    let mounts = MountTable { mounts: mounts.map(mount).collect() };
    let now = fields.get("now").and_then(|node| scalar::moment(node, out)).map(|moment| moment.value);
    let mut at = |key: &str| {
        let path = fields.get(key).and_then(|node| path(node, out))?;
        String::from_utf8(path).ok()
    };
    let (cwd, repository) = (at("cwd"), at("repository"));
    let place = workplace(&host, cwd, repository);
    Some(Machine { host, mounts, now, place })
}

/// Where tools are called: by the first of those who have a home.
fn workplace(host: &Host, cwd: Option<String>, repository: Option<String>) -> Workplace {
    let home = host.homes.first().and_then(|home| String::from_utf8(home.path.clone()).ok());
    Workplace { cwd: cwd.or_else(|| repository.clone()), home, repository }
}

fn too_many(count: usize, node: Option<&Node>, what: &str, out: &mut Diagnostics) {
    if let Some(node) = node.filter(|_| count > PLACES_MAX) {
        let message = format!("{count} {what}; a machine of tests has at most {PLACES_MAX}");
        out.error(Code::TooLong, node.span.head(), message, None);
    }
}

/// A mapping from names of users to paths.
fn homes(node: &Node, out: &mut Diagnostics) -> Host {
    let Value::Mapping(pairs) = &node.value else {
        let help = Some("write `homes: {root: /root, ada: /home/ada}`".to_owned());
        let message = format!("`homes` has to be a mapping, not {}", node.describe());
        out.error(Code::WrongType, node.span, message, help);
        return Host::default();
    };
    too_many(pairs.len(), Some(node), "homes", out);
    let mut seen: BTreeMap<&str, Span> = BTreeMap::new();
    let mut homes = Vec::new();
    for ((name, node), uid) in pairs.iter().zip(0..) {
        if let Some(first) = seen.insert(&name.value, name.span) {
            let message = format!("`{}` is given twice in `homes`", clip(&name.value));
            let twice = Diagnostic::error(Code::DuplicateKey, name.span, message);
            out.push(twice.help("remove one of them").label(first, "the first one is here"));
        }
        user(name, out);
        homes.extend(path(node, out).map(|path| Home { uid, path }));
    }
    Host { homes }
}

/// Reports what cannot be the name of a user.
fn user(name: &Spanned<String>, out: &mut Diagnostics) {
    let value = Value::Scalar { text: name.value.clone(), plain: false };
    scalar::text(&Node { value, span: name.span, in_brackets: false }, "the name of a user", &USER, out);
}

/// A part of a scalar that an error is about: all of it where quotes and folded lines shift offsets.
fn part(node: &Node, text: &str, error: &ObjectError) -> Span {
    let verbatim = node.span.end - node.span.start == text.len();
    if verbatim { node.span.within(error.range.0, error.range.1) } else { node.span }
}

/// The path of a file.
pub(super) fn path(node: &Node, out: &mut Diagnostics) -> Option<Vec<u8>> {
    let text = scalar::raw(node, "a path", out)?;
    match own_path(text.as_bytes()) {
        Ok(path) => Some(path),
        Err(error) => {
            out.error(Code::BadPath, part(node, text, &error), error.message, error.help);
            None
        }
    }
}

fn test(node: &Node, place: &Workplace, tools: &mut dyn ToolReader, out: &mut Diagnostics) -> Option<Test> {
    let fields = Fields::of(node, &TEST, out)?;
    let done = fields.get("do");
    let span = done.map_or(fields.head(), |node| node.span);
    let object = done.and_then(|node| object(node, out));
    let object = object.and_then(|object| calls::with_input(object, span, &fields, (place, tools), out));
    let content = fields.get("sha256").map(|node| (node.span, scalar::sha256(node, out)));
    let object = object.zip(Some(content)).and_then(|(object, content)| with_content(object, content, out));
    let by = match fields.get("by") {
        Some(node) => executed(node, out),
        None => Some(Executed::default()),
    };
    let below = match fields.get("below") {
        Some(node) => below(node, out).map(Some),
        None => Some(None),
    };
    let session = match fields.get("session") {
        Some(node) => session::session(node, out),
        None => Some(Session::default()),
    };
    let expect = fields.get("expect").and_then(|node| {
        let value = answer(node, out)?;
        Some(Spanned { value, span: node.span })
    });
    let (object, own, below, session, expect) = (object?, by?, below?, session?, expect?);
    let complete = below.is_some();
    let images = below.unwrap_or_default().into_iter().chain([own.clone()]).collect();
    let subject = Subject {
        executable: own.path,
        sha256: own.sha256,
        uid: 0,
        loads_code: own.loads_code,
        lineage: Lineage::Images { images, complete },
        session: Arc::new(session),
    };
    Some(Test { request: Request { subject, object }, expect, span })
}

fn object(node: &Node, out: &mut Diagnostics) -> Option<Object> {
    let text = scalar::raw(node, "what is done", out)?;
    match text.parse() {
        Ok(object) => Some(object),
        Err(error) => {
            out.error(Code::BadObject, part(node, text, &error), error.message, error.help);
            None
        }
    }
}

/// With the SHA-256 of what is executed, if it is given.
fn with_content(
    object: Object,
    content: Option<(Span, Option<[u8; 32]>)>,
    out: &mut Diagnostics,
) -> Option<Object> {
    match (object, content) {
        (object, None) => Some(object),
        (Object::Exec { path, .. }, Some((_, digest))) => Some(Object::Exec { path, sha256: Some(digest?) }),
        (_, Some((span, _))) => {
            let help = "that of the executable that acts is `by: {executable: /usr/bin/ssh, sha256: ...}`";
            let message = "`sha256` is that of a file that is executed; nothing is executed here";
            out.error(Code::IdleKey, span, message, Some(help.into()));
            None
        }
    }
}

/// An executable: its path, or a mapping.
fn executed(node: &Node, out: &mut Diagnostics) -> Option<Executed> {
    if let Value::Scalar { .. } = node.value {
        return Some(Executed { path: path(node, out)?, ..Executed::default() });
    }
    let fields = Fields::of(node, &EXECUTABLE, out)?;
    let path = fields.get("executable").and_then(|node| path(node, out));
    let sha256 = match fields.get("sha256") {
        Some(node) => scalar::sha256(node, out).map(Some),
        None => Some(None),
    };
    let loads_code = match fields.get("loads_code") {
        Some(node) => scalar::boolean(node, "`loads_code`", out),
        None => Some(false),
    };
    Some(Executed { path: path?, sha256: sha256?, loads_code: loads_code? })
}

/// What was executed before; an empty list says that there was nothing.
fn below(node: &Node, out: &mut Diagnostics) -> Option<Vec<Executed>> {
    if matches!(&node.value, Value::Sequence(items) if items.is_empty()) {
        return Some(Vec::new());
    }
    let help = "write `below: [/usr/bin/git]`, or `[]` for the session's root";
    let before = items(node, "`below`", help, out, executed)?;
    if before.len() > BELOW_MAX {
        let message = format!("{} executables; a test has at most {BELOW_MAX}", before.len());
        out.error(Code::TooLong, node.span.head(), message, None);
    }
    Some(before)
}

/// What the policy is to say.
fn answer(node: &Node, out: &mut Diagnostics) -> Option<Answer> {
    const WORDS: [&str; 4] = ["allow", "deny", "record", "adopt"];
    let text = scalar::raw(node, "an expectation", out)?;
    let mut words = text.split_ascii_whitespace();
    let (word, rule, more) = (words.next().unwrap_or_default(), words.next(), words.next());
    let wrong = |out: &mut Diagnostics, message: String, help: &str| {
        out.error(Code::BadExpectation, node.span, message, Some(help.to_owned()));
        None
    };
    if !WORDS.contains(&word) {
        // So `policy explain` and the events call what is only recorded.
        let near = if word == "audit" { Some("record") } else { suggest::nearest(word, WORDS) };
        let help = near.map_or_else(
            || format!("write {}", suggest::list(&WORDS)),
            |near| format!("did you mean `{near}`?"),
        );
        out.error(Code::UnknownWord, node.span, format!("unknown expectation `{}`", clip(word)), Some(help));
        return None;
    }
    match (word, rule, more) {
        (_, _, Some(_)) => {
            wrong(out, format!("`{}` is more than one rule", clip(text)), "name the one that decides")
        }
        ("allow", None, _) => Some(Answer::Allow),
        ("allow", Some(_), _) => {
            wrong(out, "`allow` names no rule".to_owned(), "write `allow` alone, whatever allows it")
        }
        (word, None, _) => wrong(
            out,
            format!("`{word}` by which rule?"),
            &format!("write `{word} RULE`, with the rule's id"),
        ),
        ("deny", Some(rule), _) => Some(Answer::Deny(rule.to_owned())),
        ("record", Some(rule), _) => Some(Answer::Record(rule.to_owned())),
        (_, Some(rule), _) => Some(Answer::Adopt(rule.to_owned())),
    }
}
