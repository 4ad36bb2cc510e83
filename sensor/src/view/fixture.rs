//! Entries for the tests of the views.

use std::sync::Arc;

use treeline_event::{
    Action, Ancestry, Digest, Entry, EntryBody, Image, Notice, Origin, Process, ProcessKey, Program,
    SessionId, Timestamp, Verdict,
};

pub(crate) fn key(pid: u32) -> ProcessKey {
    ProcessKey { pid, start_ticks: 1 }
}

pub(crate) fn process(pid: u32, parent: Option<u32>) -> Arc<Process> {
    let image = Image { path: "/usr/bin/cat".into(), digest: Digest::Pending, ..Image::default() };
    let program = Arc::new(Program { image, argv: vec!["cat".into(), "x".into()], ..Program::default() });
    let parent = parent.map(key);
    Arc::new(Process {
        key: key(pid),
        parent,
        uid: 1000,
        euid: 1000,
        gid: 1000,
        user: None,
        tty: None,
        program,
        started_ns: 0,
    })
}

fn entry(session: Option<SessionId>, body: EntryBody) -> Entry {
    Entry {
        origin: Origin::default(),
        index: 0,
        generation: 0,
        time: Timestamp::default(),
        session,
        body,
        cut: None,
    }
}

pub(crate) fn act(
    session: SessionId,
    pid: u32,
    parent: Option<u32>,
    action: Action,
    verdict: Verdict,
) -> Entry {
    let ancestry = Ancestry::Full(parent.map(|pid| process(pid, None)).into_iter().collect());
    entry(
        Some(session),
        EntryBody::Act { process: process(pid, parent), ancestry, action, verdict, rule: None },
    )
}

pub(crate) fn notice(notice: Notice) -> Entry {
    entry(None, EntryBody::Notice(notice))
}
