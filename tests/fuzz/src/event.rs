//! Entries of the log: JSON that may come from another machine, or from whoever tampered with it.

use std::{
    mem::discriminant,
    sync::{Arc, LazyLock},
};

use treeline_event::{
    Ancestry, Body, Decoder, Entry, EntryBody, Event, Link, Meta, Origin, Process, Program, Subject, decode,
    encode,
};
use treeline_policy::{Host, Policy, replay::Replay};

/// Longest text of an [`Origin`]; with longer ones an entry need not fit.
const ORIGIN_TEXT_LEN_MAX: usize = 255;

/// A rule of each kind that matches whatever it can.
static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    let rules = [
        "{id: files, kind: file, paths: [/**], reason: r, only: [{descendant_of: {executable: /x}}]}",
        "{id: programs, kind: exec, mode: monitor, paths: [/**], sha256: [$hash], reason: r}",
        "{id: places, kind: connect, to: [0.0.0.0/0, \"::/0\"], unix: [/**, \"@*\"], reason: r}",
        "{id: others, kind: broker, brokers: [ptrace], reason: r}",
    ];
    let rules = rules.join(", ").replace("$hash", &"1".repeat(64));
    treeline_policy::parse("fuzz", &format!("version: 1\nname: fuzz\nrules: [{rules}]\n")).expect("valid")
});

/// What is accepted is written and read again as the same, and a policy can be asked about it.
pub fn run(bytes: &[u8]) -> bool {
    let entry = decode(bytes);
    decoded(bytes, entry.as_ref().ok());
    let Ok(entry) = entry else { return false };
    replayed(&entry);
    if !is_bounded(&entry.origin) {
        return true;
    }
    let event = Event { time: entry.time, session: entry.session, body: body(&entry) };
    let meta = Meta { origin: &entry.origin, index: entry.index, generation: entry.generation };
    let mut written = Vec::new();
    encode(&event, &meta, &mut written);
    let again = decode(&written).expect("our own bytes are read");
    if again.cut.is_some() {
        return true;
    }
    let expect = Entry::of(&event, &meta);
    assert_eq!(again, expect);
    // A foreign writer may have given the ancestry in full where we give links, or the reverse.
    if is_same_form(&expect.body, &entry.body) {
        assert_eq!(again, Entry { cut: None, ..entry });
    }
    true
}

/// What keeps what it has read says the same, the first time and when it knows the parts.
fn decoded(bytes: &[u8], expect: Option<&Entry>) {
    let mut decoder = Decoder::default();
    assert_eq!(decoder.decode(bytes).ok().as_ref(), expect);
    assert_eq!(decoder.decode(bytes).ok().as_ref(), expect);
}

/// What would be denied or recorded is counted by exactly one rule.
fn replayed(entry: &Entry) {
    let host = Host::default();
    let mut replay = Replay::new(&POLICY, &host);
    // Twice: what it says of processes holds for what comes after it.
    replay.take(entry);
    replay.take(entry);
    let report = replay.finish();
    let decided: u64 = report.rules.iter().map(|rule| rule.sum.entries).sum();
    assert_eq!(decided, report.would_deny.entries + report.would_record.entries);
}

fn is_bounded(origin: &Origin) -> bool {
    let Origin { device, boot_id, hostname, os_name, os_version, kernel, version, epoch: _ } = origin;
    [device, boot_id, hostname, os_name, os_version, kernel, version]
        .iter()
        .all(|text| text.len() <= ORIGIN_TEXT_LEN_MAX)
}

fn is_same_form(one: &EntryBody, other: &EntryBody) -> bool {
    match (one, other) {
        (EntryBody::Act { ancestry: one, .. }, EntryBody::Act { ancestry: other, .. }) => {
            discriminant(one) == discriminant(other)
        }
        _ => true,
    }
}

fn body(entry: &Entry) -> Body {
    match &entry.body {
        EntryBody::Notice(notice) => Body::Notice(notice.clone()),
        EntryBody::Act { process, ancestry, action, verdict, rule } => {
            let ancestry = match ancestry {
                Ancestry::Full(steps) => steps.clone(),
                Ancestry::Links(links) => links.iter().map(|link| Arc::new(step(link))).collect(),
            };
            Body::Act {
                subject: Subject { process: Arc::clone(process), ancestry },
                action: action.clone(),
                verdict: *verdict,
                rule: rule.clone(),
            }
        }
    }
}

/// A process that has this link.
fn step(link: &Link) -> Process {
    let mut program = Program::default();
    program.image.digest = link.sha256;
    program.script =
        link.script.map(|script| treeline_event::Image { digest: script.0, ..Default::default() });
    Process { key: link.key, program: Arc::new(program), ..Process::default() }
}

/// An entry of every kind.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    treeline_tests::samples::entries()
}
