//! Entries for the tests of the views.

use std::sync::Arc;

use treeline_event::{
    Action, Ancestry, AttachMode, Digest, Entry, EntryBody, HookState, HookStatus, Image, Mode, Notice,
    Origin, Process, ProcessKey, Program, RuleHit, SessionId, Timestamp, Verdict,
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

/// A rule that refuses.
pub(crate) fn hit(rule: &str) -> RuleHit {
    RuleHit {
        rule: rule.to_owned(),
        reason: "Because.".to_owned(),
        mode: Mode::Enforce,
        policy: "p".to_owned(),
        generation: 1,
    }
}

pub(crate) fn notice(notice: Notice) -> Entry {
    entry(None, EntryBody::Notice(notice))
}

/// A session of user 1000.
pub(crate) fn session_started(session: SessionId, root: u32) -> Entry {
    let (origin, command) = ("run".to_owned(), vec!["cat".to_owned(), "x".to_owned()]);
    let mut entry = notice(Notice::SessionStarted { session, root: key(root), uid: 1000, origin, command });
    entry.session = Some(session);
    entry
}

/// The sensor starts.
pub(crate) fn started() -> Entry {
    notice(Notice::Started {
        version: "1.2.3".to_owned(),
        mode: AttachMode::Fallback,
        kernel: "6.18".to_owned(),
        hooks: vec![HookStatus { hook: "a".to_owned(), state: HookState::Attached }],
        recovery: None,
    })
}
