//! The examples of docs/events.md are what the views write.

use serde_json::Value;
use treeline_event::{
    Action, Body, Digest, Entry, EntryBody, Event, FileId, FileRef, Image, Meta, Notice, OpenFlags, Outcome,
    Process, Program, SessionId, Timestamp, Verdict, encode,
};

use super::{
    AncestrySearch, SessionSearch, Sessions, TreeSearch, Wanted,
    fixture::{self, act, hit, notice, session_started},
};

const DOCUMENT: &str = include_str!("../../../docs/events.md");

/// The example below a heading.
fn example(heading: &str) -> Value {
    let (_, section) = DOCUMENT.split_once(&format!("\n### {heading}\n")).expect("the heading is there");
    let (_, code) = section.split_once("```json\n").expect("an example");
    let (code, _) = code.split_once("```").expect("its end");
    serde_json::from_str(code).unwrap_or_else(|error| panic!("the example of `{heading}`: {error}\n{code}"))
}

#[track_caller]
fn check(heading: &str, said: Value) {
    let said_text = serde_json::to_string_pretty(&said).expect("JSON");
    assert_eq!(example(heading), said, "`{heading}` writes\n{said_text}");
}

const SESSION: SessionId = SessionId(0x5b42_809d_3306_317a);

fn process(pid: u32, parent: Option<u32>) -> Process {
    let digest = Digest::Sha256([0xab; 32]);
    let file = FileId {
        major: 254,
        minor: 0,
        inode: 12,
        size: 43_888,
        mtime_ns: 1_000_000_000,
        ctime_ns: 2_000_000_000,
    };
    let image = Image {
        path: "/usr/bin/cat".into(),
        file,
        digest,
        build_id: Some("c0ffee".into()),
        seen_by_kernel: true,
        ..Image::default()
    };
    let argv = vec!["cat".into(), ".ssh/id".into()];
    let program = Program {
        image,
        name_given: "/usr/bin/cat".into(),
        argv,
        cwd: "/home/u".into(),
        exec_ns: 1_000_000_000,
        ..Program::default()
    };
    let mut process = (*fixture::process(pid, parent)).clone();
    (process.user, process.tty) = (Some("u".into()), Some("pts/3".into()));
    (process.program, process.started_ns) = (program.into(), 1_000_000_000);
    process
}

/// A session of two processes, the second of which is refused a key.
fn entries() -> Vec<Entry> {
    let (file, flags) =
        (FileRef { path: "/home/u/.ssh/id".into(), ..FileRef::default() }, OpenFlags(0o2_000_000));
    let open = Action::Open { file, flags, outcome: Outcome::Errno(1), count: 1 };
    let ended = Action::Exit { code: Some(1), signal: None };
    let policy = Notice::PolicyApplied {
        generation: 1,
        name: "p".into(),
        sha256: "cd".repeat(32),
        revision: None,
        signed_by: None,
        parts: vec![],
        rules: vec![],
    };
    let (kind, site) = ("open".to_owned(), "ring".to_owned());
    let lost = Notice::Lost { kind, site, count: 3, first_ns: 0, last_ns: 0 };
    let mut entries = vec![
        fixture::started(),
        notice(policy),
        session_started(SESSION, 5),
        act(SESSION, 5, None, Action::Exec, Verdict::Allow),
        act(SESSION, 6, Some(5), open, Verdict::Deny),
        act(SESSION, 6, Some(5), ended, Verdict::Allow),
        notice(lost),
    ];
    for (index, entry) in (0u64..).zip(&mut entries) {
        (entry.index, entry.time) =
            (index, Timestamp { boot_ns: 2_000_000_000, wall_ms: 1_795_417_002_076 + index });
        if let EntryBody::Act { process: subject, ancestry, verdict, rule, .. } = &mut entry.body {
            *subject = process(subject.key.pid, subject.parent.map(|parent| parent.pid)).into();
            *ancestry = treeline_event::Ancestry::Full(
                subject.parent.iter().map(|parent| process(parent.pid, None).into()).collect(),
            );
            *rule = (*verdict == Verdict::Deny).then(|| hit("keys"));
        }
    }
    entries
}

#[test]
fn events() {
    let event = Event {
        time: Timestamp { boot_ns: 2_000_000_000, wall_ms: 1_795_417_002_076 },
        session: Some(SESSION),
        body: Body::Notice(Notice::SessionEnded { session: SESSION }),
    };
    let origin = treeline_event::Origin {
        device: "9f1c0f5e".into(),
        epoch: 1,
        boot_id: "d1b2".into(),
        hostname: "host".into(),
        os_name: "Debian GNU/Linux".into(),
        os_version: "12".into(),
        kernel: "6.18".into(),
        version: "0.1.0".into(),
    };
    let mut entry = Vec::new();
    encode(&event, &Meta { origin: &origin, index: 7, generation: 1 }, &mut entry);
    check("`events --json`", serde_json::from_slice(&entry).expect("JSON"));
}

#[test]
fn session_ls() {
    let mut sessions = Sessions::default();
    entries().iter().for_each(|entry| sessions.add(entry));
    check("`session ls --json`", serde_json::to_value(sessions.finish()).expect("JSON"));
}

#[test]
fn session_show() {
    let mut search = SessionSearch::new("5b".parse().expect("a prefix"));
    entries().iter().for_each(|entry| search.add(entry));
    check("`session show --json`", serde_json::to_value(search.finish().expect("the one")).expect("JSON"));
}

#[test]
fn tree() {
    let mut search = TreeSearch::new("5b".parse().expect("a prefix"));
    entries().iter().for_each(|entry| search.add(entry));
    let mut view = serde_json::to_value(search.finish().expect("the one")).expect("JSON");
    // The process is the same object as everywhere.
    let mut process = |pointer: &str| {
        view.pointer_mut(pointer).map(|process| {
            *process = serde_json::json!({ "key": process["key"] });
        })
    };
    process("/roots/0/process").expect("a root");
    process("/roots/0/children/0/process").expect("a child");
    check("`tree --json`", view);
}

#[test]
fn ancestry() {
    let mut search = AncestrySearch::new(Wanted::Index(4));
    entries().iter().for_each(|entry| search.add(entry));
    let mut view = serde_json::to_value(search.finish().expect("a chain")).expect("JSON");
    let steps = view["steps"].as_array_mut().expect("steps");
    assert_eq!(steps.len(), 2);
    steps.truncate(1);
    check("`ancestry --json`", view);
}

#[test]
fn status() {
    check("`status --json`", serde_json::to_value(fixture::status()).expect("JSON"));
}
