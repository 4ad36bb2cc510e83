//! The stored form gives everything back, is bounded and deterministic.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{collections::BTreeMap, sync::Arc};

use proptest::{collection::vec, option, prelude::*};
use treeline_event::{
    Action, AdoptedBy, Approval, Asker, AttachMode, Body, Claims, DecodeError, Decoder, Destination, Digest,
    ENTRY_BYTES_MAX, Entry, Event, FileId, FileRef, Group, HookState, HookStatus, Image, Level, Meta, Mode,
    Notice, OpenFlags, Origin, Outcome, PathBytes, PolicyPart, Process, ProcessKey, Program, RuleHit,
    RuleState, RuleStatus, SessionAttributes, SessionId, SocketKind, Subject, Tampering, Timestamp, Verdict,
    decode, encode,
};

fn path() -> impl Strategy<Value = PathBytes> {
    prop_oneof![
        "/[a-z/.]{0,20}".prop_map(|text| PathBytes::from(&*text)),
        vec(any::<u8>(), 0..20).prop_map(Into::into)
    ]
}

fn id() -> impl Strategy<Value = FileId> {
    any::<(u32, u32, u64, u64, u64, u64)>().prop_map(|(major, minor, inode, size, mtime_ns, ctime_ns)| {
        FileId { major, minor, inode, size, mtime_ns, ctime_ns }
    })
}

fn digest() -> impl Strategy<Value = Digest> {
    prop_oneof![
        any::<[u8; 32]>().prop_map(Digest::Sha256),
        Just(Digest::Pending),
        Just(Digest::Changed),
        Just(Digest::Gone),
        Just(Digest::Unreadable),
    ]
}

fn image() -> impl Strategy<Value = Image> {
    (path(), id(), digest(), option::of("[0-9a-f]{40}"), any::<bool>(), any::<bool>()).prop_map(
        |(path, file, digest, build_id, unlinked, seen_by_kernel)| Image {
            path,
            file,
            digest,
            build_id,
            unlinked,
            seen_by_kernel,
        },
    )
}

fn program() -> impl Strategy<Value = Program> {
    let env = proptest::collection::btree_map("[A-Z]{1,4}", ".{0,6}", 0..3);
    let texts = (path(), vec(path(), 0..4), path(), env);
    (image(), option::of(image()), texts, any::<(bool, bool, u64)>()).prop_map(
        |(image, script, (name_given, argv, cwd, env), (argv_cut, loader_env, exec_ns))| Program {
            image,
            script,
            name_given,
            argv,
            argv_cut,
            cwd,
            env,
            loader_env,
            exec_ns,
        },
    )
}

fn key() -> impl Strategy<Value = ProcessKey> {
    any::<(u32, u64)>().prop_map(|(pid, start_ticks)| ProcessKey { pid, start_ticks })
}

fn process() -> impl Strategy<Value = Arc<Process>> {
    let texts = (option::of(".{0,6}"), option::of("pts/[0-9]"));
    (key(), option::of(key()), any::<(u32, u32, u32, u64)>(), texts, program()).prop_map(
        |(key, parent, (uid, euid, gid, started_ns), (user, tty), program)| {
            let program = Arc::new(program);
            Arc::new(Process { key, parent, uid, euid, gid, user, tty, program, started_ns })
        },
    )
}

fn file() -> impl Strategy<Value = FileRef> {
    (path(), option::of(id()), any::<(Option<u32>, bool, bool, bool, bool)>()).prop_map(
        |(path, id, (mode, as_named, unresolved, unlinked, content_unknown))| FileRef {
            path,
            id,
            mode,
            as_named,
            unresolved,
            unlinked,
            content_unknown,
        },
    )
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![Just(Outcome::Ok), any::<i32>().prop_map(Outcome::Errno), Just(Outcome::Unknown)]
}

fn destination() -> impl Strategy<Value = Destination> {
    prop_oneof![
        any::<([u8; 4], u16)>().prop_map(|(ip, port)| Destination::V4(ip.into(), port)),
        any::<([u8; 16], u16)>().prop_map(|(ip, port)| Destination::V6(ip.into(), port)),
        path().prop_map(Destination::Unix),
        path().prop_map(Destination::Abstract),
        any::<[u16; 3]>().prop_map(|[family, kind, protocol]| {
            Destination::Socket(SocketKind { family, kind, protocol })
        }),
    ]
}

fn attributes() -> impl Strategy<Value = SessionAttributes> {
    let text = || ".{0,8}";
    let group = (any::<u32>(), option::of(text())).prop_map(|(gid, name)| Group { gid, name });
    let claims = (option::of(text()), option::of(text()), option::of(vec(text(), 0..3)))
        .prop_map(|(agent, entry_point, repositories)| Claims { agent, entry_point, repositories });
    let user = (option::of(session()), any::<Option<u32>>(), option::of(text()));
    (user, option::of(vec(group, 0..3)), claims).prop_map(|((within, uid, user), groups, claims)| {
        SessionAttributes { within, uid, user, groups, claims }
    })
}

fn tampering() -> impl Strategy<Value = Tampering> {
    prop_oneof![
        Just(Tampering::Signal),
        Just(Tampering::Trace),
        Just(Tampering::ProcFile),
        Just(Tampering::Map)
    ]
}

fn action() -> impl Strategy<Value = Action> {
    let files = || (file(), file(), outcome());
    prop_oneof![
        key().prop_map(|creator| Action::Fork { creator }),
        Just(Action::Exec),
        file().prop_map(|file| Action::ExecDenied { file }),
        (file(), outcome()).prop_map(|(file, outcome)| Action::Map { file, outcome }),
        any::<(Option<i32>, Option<i32>)>().prop_map(|(code, signal)| Action::Exit { code, signal }),
        (file(), any::<(u32, u64)>(), outcome()).prop_map(|(file, (flags, count), outcome)| {
            Action::Open { file, flags: OpenFlags(flags), outcome, count }
        }),
        (file(), option::of(path()), outcome()).prop_map(|(file, target, outcome)| Action::Create {
            file,
            target,
            outcome
        }),
        (file(), outcome()).prop_map(|(file, outcome)| Action::Delete { file, outcome }),
        files().prop_map(|(from, to, outcome)| Action::Rename { from, to, outcome }),
        files().prop_map(|(from, to, outcome)| Action::Link { from, to, outcome }),
        (file(), outcome()).prop_map(|(file, outcome)| Action::Modify { file, outcome }),
        (file(), path(), outcome()).prop_map(|(at, source, outcome)| Action::Mount { at, source, outcome }),
        (file(), any::<u32>(), outcome()).prop_map(|(file, flags, outcome)| Action::Receive {
            file,
            flags: OpenFlags(flags),
            outcome
        }),
        (destination(), outcome()).prop_map(|(to, outcome)| Action::Connect { to, outcome }),
        (tampering(), option::of(key()), any::<u32>()).prop_map(|(what, target, number)| Action::Tamper {
            what,
            target,
            number
        }),
        (link(), key(), option::of(destination()), option::of(file()))
            .prop_map(|(link, by, client, file)| Action::Adopt { link, by, client, file }),
        (key(), any::<u32>(), outcome()).prop_map(|(target, mode, outcome)| Action::Trace {
            target,
            mode,
            outcome
        }),
    ]
}

fn link() -> impl Strategy<Value = AdoptedBy> {
    prop_oneof![Just(AdoptedBy::Connection), Just(AdoptedBy::Job), Just(AdoptedBy::Trace)]
}

fn part() -> impl Strategy<Value = PolicyPart> {
    let level = proptest::sample::select(Level::WORDS.map(|(_, level)| level).to_vec());
    (".{0,6}", level, ".{0,6}", option::of(any::<u64>()), option::of(".{0,6}")).prop_map(
        |(name, level, sha256, revision, signed_by)| PolicyPart { name, level, sha256, revision, signed_by },
    )
}

fn rule_status() -> impl Strategy<Value = RuleStatus> {
    let list = || vec(".{0,6}", 0..3);
    (".{0,6}", list(), list(), list(), option::of(".{0,6}"), option::of(".{0,6}")).prop_map(
        |(rule, enforced, observed, unseen, reason, policy)| RuleStatus {
            rule,
            state: RuleState::Partly,
            enforced,
            observed,
            unseen,
            reason,
            policy,
        },
    )
}

fn hook() -> impl Strategy<Value = HookStatus> {
    let state = prop_oneof![
        Just(HookState::Attached),
        ".{0,6}".prop_map(|error| HookState::Failed { error }),
        ".{0,6}".prop_map(|reason| HookState::Unsupported { reason }),
    ];
    (".{0,6}", state).prop_map(|(hook, state)| HookStatus { hook, state })
}

fn session() -> impl Strategy<Value = SessionId> {
    (1..=u64::MAX).prop_map(SessionId)
}

fn asker() -> impl Strategy<Value = Asker> {
    (any::<u32>(), option::of(".{0,8}"), key()).prop_map(|(uid, user, process)| Asker { uid, user, process })
}

fn approval() -> impl Strategy<Value = Approval> {
    let texts = || vec(".{0,6}", 0..3);
    (any::<u64>(), session(), path(), texts(), texts(), ".{0,6}", any::<u32>(), any::<u64>()).prop_map(
        |(denial, session, executable, rules, operations, object, for_s, until_ns)| Approval {
            denial,
            session,
            executable,
            rules,
            operations,
            object,
            for_s,
            until_ns,
        },
    )
}

fn notice() -> impl Strategy<Value = Notice> {
    let text = || ".{0,8}";
    prop_oneof![
        (text(), text(), vec(hook(), 0..3), option::of(text())).prop_map(
            |(version, kernel, hooks, recovery)| {
                Notice::Started { version, mode: AttachMode::FmodRet, kernel, hooks, recovery }
            }
        ),
        text().prop_map(|reason| Notice::Stopped { reason }),
        (
            any::<u64>(),
            text(),
            text(),
            option::of(any::<u64>()),
            option::of(text()),
            vec(part(), 0..3),
            vec(rule_status(), 0..3)
        )
            .prop_map(|(generation, name, sha256, revision, signed_by, parts, rules)| {
                Notice::PolicyApplied { generation, name, sha256, revision, signed_by, parts, rules }
            }),
        (text(), text()).prop_map(|(sha256, error)| Notice::PolicyRejected { sha256, error }),
        (text(), text(), any::<(u64, u64, u64)>()).prop_map(|(kind, site, (count, first_ns, last_ns))| {
            Notice::Lost { kind, site, count, first_ns, last_ns }
        }),
        (session(), key(), any::<u32>(), text(), vec(text(), 0..3), attributes()).prop_map(
            |(session, root, uid, origin, command, attributes)| {
                Notice::SessionStarted { session, root, uid, origin, command, attributes }
            }
        ),
        session().prop_map(|session| Notice::SessionEnded { session }),
        image().prop_map(|image| Notice::ImageHashed { image }),
        (text(), text()).prop_map(|(what, error)| Notice::Malformed { what, error }),
        (approval(), asker()).prop_map(|(approval, by)| Notice::Approved { approval, by }),
        (any::<u64>(), session(), text())
            .prop_map(|(denial, session, reason)| { Notice::ApprovalEnded { denial, session, reason } }),
        (any::<u64>(), option::of(session()), asker(), text()).prop_map(|(denial, session, by, reason)| {
            Notice::ApprovalRefused { denial, session, by, reason }
        }),
    ]
}

fn rule() -> impl Strategy<Value = Arc<RuleHit>> {
    let texts = (".{0,6}", ".{0,6}", ".{0,6}", option::of(".{0,6}"), option::of(".{0,6}"));
    let flags = (option::of(any::<u32>()), any::<bool>());
    (texts, any::<u64>(), flags).prop_map(
        |((rule, reason, policy, remedy, link), generation, (approvable_s, approved))| {
            let mode = Mode::Enforce;
            Arc::new(RuleHit { rule, reason, mode, policy, generation, remedy, link, approvable_s, approved })
        },
    )
}

fn body() -> impl Strategy<Value = Body> {
    let verdict = prop_oneof![Just(Verdict::Allow), Just(Verdict::Audit), Just(Verdict::Deny)];
    let act = (process(), vec(process(), 0..3), action(), verdict, option::of(rule()));
    prop_oneof![
        3 => act.prop_map(|(process, ancestry, action, verdict, rule)| Body::Act {
            subject: Subject { process, ancestry },
            action,
            verdict,
            rule,
        }),
        1 => notice().prop_map(Body::Notice),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    (any::<(u64, u64)>(), option::of(session()), body()).prop_map(|((boot_ns, wall_ms), session, body)| {
        Event { time: Timestamp { boot_ns, wall_ms }, session, body }
    })
}

fn origin() -> Origin {
    Origin {
        device: "d3v1c3".into(),
        epoch: 1,
        boot_id: "5f0c7b1e-3f63-4b8c-9d7a-2f2c9c1f0f11".into(),
        hostname: "host \"quoted\"".into(),
        os_name: "Debian GNU/Linux".into(),
        os_version: "13".into(),
        kernel: "6.12.0".into(),
        version: "0.1.0".into(),
    }
}

fn bytes(event: &Event, index: u64) -> Vec<u8> {
    let mut out = Vec::new();
    encode(event, &Meta { origin: &origin(), index, generation: 7 }, &mut out);
    out
}

/// What may have happened to the bytes of an entry.
#[derive(Clone, Debug)]
enum Damage {
    /// These are in the place of the bytes there.
    Written(prop::sample::Index, &'static [u8]),
    /// These are between the bytes there.
    Inserted(prop::sample::Index, &'static [u8]),
    /// Nothing is behind this.
    Cut(prop::sample::Index),
    /// A name is another one.
    Renamed(&'static str, &'static str),
}

/// Bytes that are put anywhere.
const PIECES: &[&[u8]] = &[
    b" ",
    b"\"",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\\",
    b"1",
    b"-",
    b".",
    b"\xff",
    b"null",
    b"{}",
    b"[]",
    b"\"v\":1,",
    b"\"x\":{\"y\":[\"z\"]},",
    b"\n",
    b"\\u0061",
    b"e",
];

/// Names that are made others.
const RENAMED: &[(&str, &str)] = &[
    ("\"process\"", "\"ancestry\""),
    ("\"links\"", "\"ancestry\""),
    ("\"ancestry\"", "\"links\""),
    ("\"action\"", "\"notice\""),
    ("\"user\"", "\"uid\""),
    ("\"actor\"", "\"device\""),
    ("\"v\":1", "\"v\":2"),
    ("\"time\"", "\"\\u0074ime\""),
    ("\"device\":{", "\"device\":{\"new\":{},"),
];

fn damage() -> impl Strategy<Value = Damage> {
    let place = any::<prop::sample::Index>();
    let piece = prop::sample::select(PIECES);
    prop_oneof![
        (place.clone(), piece.clone()).prop_map(|(at, piece)| Damage::Written(at, piece)),
        (place.clone(), piece).prop_map(|(at, piece)| Damage::Inserted(at, piece)),
        place.prop_map(Damage::Cut),
        prop::sample::select(RENAMED).prop_map(|(from, to)| Damage::Renamed(from, to)),
    ]
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Written(at, piece) => {
                let at = at.index(bytes.len());
                let end = bytes.len().min(at + piece.len());
                bytes.splice(at..end, piece.iter().copied());
            }
            Self::Inserted(at, piece) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, piece.iter().copied());
            }
            Self::Cut(at) => bytes.truncate(at.index(bytes.len())),
            Self::Renamed(from, to) => {
                *bytes = String::from_utf8_lossy(bytes).replacen(from, to, 1).into_bytes();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn decode_gives_back_what_was_encoded(event in event(), index: u64) {
        let stored = bytes(&event, index);
        let expected = Entry::of(&event, &Meta { origin: &origin(), index, generation: 7 });
        prop_assert_eq!(decode(&stored).unwrap(), expected);
        prop_assert!(!stored.contains(&b'\n'));
    }

    /// Entries one after the other, some of them again and some damaged, are read by what keeps what it has read as by what
    /// does not.
    #[test]
    fn a_decoder_reads_what_decode_reads(
        events in vec(event(), 1..6),
        reads in vec((any::<prop::sample::Index>(), option::of(damage())), 1..40),
    ) {
        let mut decoder = Decoder::default();
        for (which, damage) in reads {
            let index = which.index(events.len());
            let mut stored = bytes(&events[index], index as u64);
            if let Some(damage) = damage {
                damage.apply(&mut stored);
            }
            let (found, expect) = (decoder.decode(&stored), decode(&stored));
            let said = |error: DecodeError| format!("{error:?}");
            prop_assert_eq!(found.map_err(said), expect.map_err(said), "{}", String::from_utf8_lossy(&stored));
        }
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(bytes: Vec<u8>) {
        prop_assert!(decode(&bytes).is_err());
    }
}

/// As bad as it gets: every text of `length` bytes that each become six in JSON, `steps` of ancestry.
fn huge(length: usize, steps: usize) -> (Subject, FileRef, Arc<RuleHit>) {
    let text = "\u{1}".repeat(length);
    let path = PathBytes::from(&*text);
    let image = Image {
        path: path.clone(),
        build_id: Some(text.clone()),
        digest: Digest::Sha256([7; 32]),
        ..Image::default()
    };
    let program = Arc::new(Program {
        image: image.clone(),
        script: Some(image),
        name_given: path.clone(),
        argv: vec![path.clone(); 50],
        cwd: path.clone(),
        env: (0..50).map(|at| (format!("{at}{text}"), text.clone())).collect::<BTreeMap<_, _>>(),
        ..Program::default()
    });
    let process = Arc::new(Process {
        key: ProcessKey { pid: u32::MAX, start_ticks: u64::MAX },
        parent: Some(ProcessKey { pid: u32::MAX, start_ticks: u64::MAX }),
        uid: u32::MAX,
        euid: u32::MAX,
        gid: u32::MAX,
        user: Some(text.clone()),
        tty: Some(text.clone()),
        program,
        started_ns: u64::MAX,
    });
    let rule = RuleHit {
        rule: text.clone(),
        reason: text.clone(),
        mode: Mode::Enforce,
        policy: text.clone(),
        generation: 1,
        remedy: Some(text.clone()),
        link: Some(text),
        approvable_s: Some(u32::MAX),
        approved: true,
    };
    let file = FileRef { path, ..FileRef::default() };
    (Subject { ancestry: vec![Arc::clone(&process); steps], process }, file, Arc::new(rule))
}

#[test]
fn the_largest_event_fits_and_says_what_was_cut() {
    let (subject, file, rule) = huge(4096, 500);
    let outcome = Outcome::Errno(i32::MIN);
    let action = Action::Rename { from: file.clone(), to: file, outcome };
    for verdict in [Verdict::Allow, Verdict::Deny] {
        let body = Body::Act {
            subject: subject.clone(),
            action: action.clone(),
            verdict,
            rule: Some(Arc::clone(&rule)),
        };
        let event = Event { time: Timestamp::default(), session: Some(SessionId(1)), body };
        let stored = bytes(&event, u64::MAX);
        assert!(stored.len() <= ENTRY_BYTES_MAX, "{}", stored.len());
        let cut = decode(&stored).unwrap().cut.expect("marked");
        assert_eq!(cut.steps_dropped, 500 - cut.steps);
        assert_eq!(stored, bytes(&event, u64::MAX), "deterministic");
    }
}

#[test]
fn the_largest_notices_fit() {
    let text = "\u{1}".repeat(70_000);
    let hook = HookStatus { hook: text.clone(), state: HookState::Failed { error: text.clone() } };
    let list = vec![text.clone(); 100];
    let rule = RuleStatus {
        rule: text.clone(),
        state: RuleState::Impossible,
        enforced: list.clone(),
        observed: list.clone(),
        unseen: list.clone(),
        reason: Some(text.clone()),
        policy: Some(text.clone()),
    };
    let part = PolicyPart {
        name: text.clone(),
        level: Level::Organisation,
        sha256: text.clone(),
        revision: Some(u64::MAX),
        signed_by: Some(text.clone()),
    };
    let key = ProcessKey::default();
    let image = Image { path: PathBytes::from(&*text), ..Image::default() };
    for notice in [
        Notice::Started {
            version: text.clone(),
            mode: AttachMode::Lsm,
            kernel: text.clone(),
            hooks: vec![hook; 100],
            recovery: Some(text.clone()),
        },
        Notice::Stopped { reason: text.clone() },
        Notice::PolicyApplied {
            generation: 1,
            name: text.clone(),
            sha256: text.clone(),
            revision: Some(1),
            signed_by: Some(text.clone()),
            parts: vec![part; 64],
            rules: vec![rule; 20],
        },
        Notice::PolicyRejected { sha256: text.clone(), error: text.clone() },
        Notice::Lost { kind: text.clone(), site: text.clone(), count: 1, first_ns: 0, last_ns: 0 },
        Notice::SessionStarted {
            session: SessionId(1),
            root: key,
            uid: 0,
            origin: text.clone(),
            command: list.clone(),
            attributes: SessionAttributes {
                user: Some(text.clone()),
                groups: Some(vec![Group { gid: 1, name: Some(text.clone()) }; 1024]),
                claims: Claims {
                    agent: Some(text.clone()),
                    entry_point: Some(text.clone()),
                    repositories: Some(list),
                },
                ..SessionAttributes::default()
            },
        },
        Notice::ImageHashed { image },
        Notice::Malformed { what: text.clone(), error: text.clone() },
    ] {
        let kind = notice.kind();
        let stored =
            bytes(&Event { time: Timestamp::default(), session: None, body: Body::Notice(notice) }, u64::MAX);
        assert!(stored.len() <= ENTRY_BYTES_MAX, "{kind}: {}", stored.len());
        assert!(decode(&stored).unwrap().cut.is_some(), "{kind}");
    }
}

#[test]
fn entries_that_contradict_themselves_are_refused() {
    let body = Body::Notice(Notice::SessionEnded { session: SessionId(1) });
    let good =
        String::from_utf8(bytes(&Event { time: Timestamp::default(), session: None, body }, 5)).unwrap();
    assert!(decode(good.as_bytes()).is_ok());
    for (from, to, says) in [
        ("\"sequence\":5", "\"sequence\":6", "contradicts"),
        ("\"kind\":\"session_ended\"", "\"kind\":\"exec\"", "contradicts"),
        ("\"v\":1", "\"v\":2", "version 2"),
        ("\"notice\"", "\"notices\"", "contradicts"),
        ("\"boot_ns\"", "\"boot_nz\"", "cannot read"),
    ] {
        assert!(good.contains(from), "{from}");
        let error = decode(good.replace(from, to).as_bytes()).unwrap_err().to_string();
        assert!(error.contains(says), "{from}: {error}");
    }
}
