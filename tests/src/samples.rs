//! One event of every kind, as a sensor would see them.

use std::sync::Arc;

use treeline_event::{
    Action, AdoptedBy, Approval, Asker, AttachMode, Body, Claims, Destination, Digest, Event, FileId,
    FileRef, Group, HookState, HookStatus, Image, Level, Meta, Mode, Notice, OpenFlags, Origin, Outcome,
    PathBytes, PolicyPart, Process, ProcessKey, Program, RuleHit, RuleState, RuleStatus, SessionAttributes,
    SessionId, Subject, Tampering, Timestamp, Verdict, encode,
};

fn image(path: &str) -> Image {
    let file = FileId { major: 8, minor: 1, inode: 42, size: 1000, mtime_ns: 5, ctime_ns: 6 };
    let build_id = Some("00112233445566778899aabbccddeeff00112233".into());
    Image {
        path: path.into(),
        file,
        digest: Digest::Sha256([0xab; 32]),
        build_id,
        unlinked: false,
        seen_by_kernel: true,
    }
}

fn process(pid: u32, parent: Option<u32>, path: &str) -> Arc<Process> {
    let key = |pid| ProcessKey { pid, start_ticks: u64::from(pid) * 10 };
    let argv = vec![path.into(), "-c".into(), "it's".into()];
    let program = Program {
        image: image(path),
        argv,
        cwd: "/home/dev".into(),
        script: Some(image("/usr/bin/s")),
        ..Program::default()
    };
    Arc::new(Process {
        key: key(pid),
        parent: parent.map(key),
        uid: 1000,
        euid: 1000,
        gid: 1000,
        user: Some("dev".into()),
        tty: Some("pts/0".into()),
        program: Arc::new(program),
        started_ns: 1_000_000,
    })
}

fn file(path: &str) -> FileRef {
    FileRef { path: path.into(), id: Some(FileId::default()), mode: Some(0o100_644), ..FileRef::default() }
}

/// One action of every kind.
#[must_use]
pub fn actions() -> Vec<Action> {
    let (outcome, refused) = (Outcome::Ok, Outcome::Errno(111));
    vec![
        Action::Fork { creator: ProcessKey { pid: 9, start_ticks: 90 } },
        Action::Exec,
        Action::ExecDenied { file: file("/tmp/tool") },
        Action::Map { file: file("/tmp/lib.so"), outcome: Outcome::Errno(1) },
        Action::Exit { code: Some(3), signal: None },
        Action::Exit { code: None, signal: Some(9) },
        Action::Open { file: file("/home/dev/a"), flags: OpenFlags(0o101), outcome, count: 3 },
        Action::Open { file: FileRef::default(), flags: OpenFlags(0), outcome: Outcome::Unknown, count: 1 },
        Action::Create { file: file("/home/dev/l"), target: Some("/etc".into()), outcome },
        Action::Delete { file: file("/home/dev/a"), outcome },
        Action::Rename { from: file("/home/dev/a"), to: file("/home/dev/b"), outcome },
        Action::Link { from: file("/home/dev/a"), to: file("/home/dev/b"), outcome },
        Action::Modify { file: file("/home/dev/a"), outcome },
        Action::Mount { at: file("/home/dev/m"), source: "tmpfs".into(), outcome },
        Action::Receive { file: file("/home/dev/a"), flags: OpenFlags(2), outcome },
        Action::Tamper {
            what: Tampering::Signal,
            target: Some(ProcessKey { pid: 7, start_ticks: 1 }),
            number: 9,
        },
        Action::Tamper { what: Tampering::Map, target: None, number: 12 },
        Action::Trace { target: ProcessKey { pid: 7, start_ticks: 1 }, mode: 18, outcome: Outcome::Unknown },
        Action::Adopt {
            link: AdoptedBy::Connection,
            by: ProcessKey { pid: 7, start_ticks: 1 },
            client: Some(Destination::V4([127, 0, 0, 1].into(), 40_000)),
            file: None,
        },
        Action::Adopt {
            link: AdoptedBy::Job,
            by: ProcessKey { pid: 7, start_ticks: 1 },
            client: None,
            file: Some(file("/var/spool/cron/atjobs/a0000101b2c3d4")),
        },
        Action::Adopt {
            link: AdoptedBy::Trace,
            by: ProcessKey { pid: 7, start_ticks: 1 },
            client: None,
            file: None,
        },
        Action::Connect { to: Destination::V4([127, 0, 0, 1].into(), 443), outcome: refused },
        Action::Connect { to: Destination::V6([0; 16].into(), 443), outcome: Outcome::Errno(115) },
        Action::Connect { to: Destination::Unix("/run/docker.sock".into()), outcome },
        Action::Connect { to: Destination::Abstract(PathBytes::from(&b"x\0y"[..])), outcome },
    ]
}

fn asker() -> Asker {
    Asker { uid: 1000, user: Some("dev".into()), process: ProcessKey { pid: 7, start_ticks: 1 } }
}

fn attributes(session: SessionId) -> SessionAttributes {
    let text = || Some("text".to_owned());
    SessionAttributes {
        within: Some(session),
        uid: Some(1000),
        user: text(),
        groups: Some(vec![Group { gid: 5, name: text() }, Group { gid: 6, name: None }]),
        claims: Claims { agent: text(), entry_point: text(), repositories: text().map(|text| vec![text]) },
    }
}

/// One notice of every kind.
#[must_use]
pub fn notices() -> Vec<Notice> {
    let (session, text) = (SessionId(7), || "text".to_owned());
    let hook = HookStatus { hook: "lsm/file_open".into(), state: HookState::Failed { error: text() } };
    let (enforced, observed) = (vec!["read".into()], vec!["link".into()]);
    let rule = RuleStatus {
        rule: text(),
        state: RuleState::Partly,
        enforced,
        observed,
        unseen: vec![],
        reason: None,
        policy: Some(text()),
    };
    vec![
        Notice::Started {
            version: text(),
            mode: AttachMode::Lsm,
            kernel: text(),
            hooks: vec![hook],
            recovery: None,
        },
        Notice::Stopped { reason: text() },
        Notice::PolicyApplied {
            generation: 1,
            name: text(),
            sha256: "ab".repeat(32),
            revision: Some(7),
            signed_by: Some(text()),
            parts: vec![PolicyPart {
                name: text(),
                level: Level::Team,
                sha256: "ab".repeat(32),
                revision: Some(7),
                signed_by: Some(text()),
            }],
            rules: vec![rule],
        },
        Notice::PolicyRejected { sha256: "ab".repeat(32), error: text() },
        Notice::Lost { kind: text(), site: text(), count: 5, first_ns: 1, last_ns: 2 },
        Notice::SessionStarted {
            session,
            root: ProcessKey::default(),
            uid: 1000,
            origin: text(),
            command: vec![text()],
            attributes: attributes(session),
        },
        Notice::SessionEnded { session },
        Notice::ImageHashed { image: image("/usr/bin/s") },
        Notice::Malformed { what: text(), error: text() },
        Notice::Approved {
            approval: Approval {
                denial: 5,
                session,
                executable: "/usr/bin/cat".into(),
                rules: vec![text()],
                operations: vec!["read".into()],
                object: "/home/dev/a".into(),
                for_s: 900,
                until_ns: 7,
            },
            by: asker(),
        },
        Notice::ApprovalEnded { denial: 5, session, reason: text() },
        Notice::ApprovalRefused { denial: 5, session: Some(session), by: asker(), reason: text() },
    ]
}

/// Every action under every verdict, and every notice, as the log has them: one entry each.
#[must_use]
pub fn entries() -> Vec<Vec<u8>> {
    let subject = Subject {
        process: process(10, Some(9), "/usr/bin/cat"),
        ancestry: vec![process(9, Some(1), "/usr/bin/node"), process(1, None, "/usr/lib/systemd/systemd")],
    };
    let hit = RuleHit {
        rule: "ssh-keys".into(),
        reason: "Private keys stay private.".into(),
        mode: Mode::Enforce,
        policy: "baseline".into(),
        generation: 3,
        remedy: Some("Use the agent's own key.".into()),
        link: Some("https://wiki.example/keys".into()),
        approvable_s: Some(900),
        approved: false,
    };
    let mut bodies = Vec::new();
    for verdict in [Verdict::Allow, Verdict::Audit, Verdict::Deny] {
        let rule = (verdict != Verdict::Allow).then(|| Arc::new(hit.clone()));
        bodies.extend(actions().into_iter().map(|action| Body::Act {
            subject: subject.clone(),
            action,
            verdict,
            rule: rule.clone(),
        }));
    }
    bodies.extend(notices().into_iter().map(Body::Notice));
    let origin = Origin {
        device: "d3v1c3".into(),
        epoch: 1,
        boot_id: "5f0c7b1e-3f63-4b8c-9d7a-2f2c9c1f0f11".into(),
        hostname: "laptop".into(),
        os_name: "Debian GNU/Linux".into(),
        os_version: "13".into(),
        kernel: "6.12.0".into(),
        version: "0.1.0".into(),
    };
    let entry = |(index, body): (u64, Body)| {
        let time = Timestamp { boot_ns: 5_000_000, wall_ms: 1_790_000_000_000 };
        let session = matches!(body, Body::Act { .. }).then_some(SessionId(7));
        let mut bytes = Vec::new();
        encode(&Event { time, session, body }, &Meta { origin: &origin, index, generation: 3 }, &mut bytes);
        bytes
    };
    (0..).zip(bodies).map(entry).collect()
}
