//! Entries for the tests of the views.

use std::sync::Arc;

use treeline_event::{
    Action, Ancestry, AttachMode, Digest, Entry, EntryBody, HookState, HookStatus, Image, Mode, Notice,
    Origin, Process, ProcessKey, Program, RuleHit, RuleState, RuleStatus, SessionAttributes, SessionId,
    Timestamp, Verdict,
};

use crate::daemon::status::{
    LogStatus, LossCount, PolicyStatus, ProgramRunCount, RecordCount, SessionStatus, Status,
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
        origin: Origin::default().into(),
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
pub(crate) fn hit(rule: &str) -> Arc<RuleHit> {
    Arc::new(RuleHit {
        rule: rule.to_owned(),
        reason: "Because.".to_owned(),
        mode: Mode::Enforce,
        policy: "p".to_owned(),
        generation: 1,
        remedy: None,
        link: None,
        approvable_s: None,
        approved: false,
    })
}

pub(crate) fn notice(notice: Notice) -> Entry {
    entry(None, EntryBody::Notice(notice))
}

/// A session of user 1000.
pub(crate) fn session_started(session: SessionId, root: u32) -> Entry {
    let (origin, command) = ("run".to_owned(), vec!["cat".to_owned(), "x".to_owned()]);
    let mut entry = notice(Notice::SessionStarted {
        session,
        root: key(root),
        uid: 1000,
        origin,
        command,
        attributes: SessionAttributes::default(),
    });
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

/// What `treeline status` may have to show.
pub(crate) fn status() -> Status {
    let hook = |hook: &str, state| HookStatus { hook: hook.to_owned(), state };
    Status {
        version: "1.2.3".to_owned(),
        pid: 7,
        mode: AttachMode::Fallback,
        kernel: "6.18".to_owned(),
        hooks: vec![
            hook("tp_btf/sched_process_fork", HookState::Attached),
            hook("fanotify/open_perm", HookState::Failed { error: "EPERM".to_owned() }),
            hook("lsm/file_open", HookState::Unsupported { reason: "too old".to_owned() }),
        ],
        policy: Some(PolicyStatus {
            generation: 3,
            name: "p".to_owned(),
            sha256: "ab".to_owned(),
            revision: None,
            signed_by: None,
            parts: vec![],
            rules: vec![RuleStatus {
                rule: "keys".to_owned(),
                state: RuleState::Partly,
                enforced: vec!["read".to_owned()],
                observed: vec!["rename".to_owned()],
                unseen: vec![],
                reason: Some("no hook".to_owned()),
                policy: None,
            }],
        }),
        policy_refused: None,
        sessions: vec![SessionStatus {
            session: SessionId(0x5b42_809d_3306_317a),
            uid: 1000,
            origin: "run".to_owned(),
            command: vec!["cat".to_owned(), "x".to_owned()],
            root: key(5),
            live: 2,
        }],
        log: LogStatus { dir: "/l".to_owned(), size: 5, signed_size: 4, waiting: 1, trouble: None },
        denied: 2,
        loss: vec![LossCount { site: "ring".to_owned(), kind: "open".to_owned(), count: 9 }],
        queued: 0,
        records: vec![RecordCount { kind: "open".to_owned(), created: 12, read: 3, lost: 9 }],
        programs: vec![ProgramRunCount {
            hook: "lsm/file_open".to_owned(),
            runs: 100,
            run_ns: 41_000,
            left_out: 0,
        }],
    }
}
