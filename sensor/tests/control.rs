//! The daemon and its socket, in this process, over a backend that replays. No root is needed.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use treeline::{
    backend::{Delivery, LossReport, Observation, ReplayBackend, Seen, replay::ReplayHandle},
    config::Unenforceable,
    control::{
        client::{Client, ClientError},
        peer,
        proto::{self, EntriesRequest, ErrorKind, Request, Response},
        server::Server,
    },
    daemon::{
        itself::OwnFiles,
        policy::{set::PolicyFiles, signature::Trust},
        sensor::{Registration, SensorError},
        start::{Running, Settings},
    },
};
use treeline_event::{Claims, EntryBody, Notice, ProcessKey, SessionAttributes, SessionId, Verdict, decode};

const POLICY: &str = "version: 1\nname: test\nmode: enforce\nrules:\n  - id: keys\n    kind: file\n    \
                      paths: [\"/keys/**\"]\n    reason: Private keys.\n";

struct Daemon {
    dir: tempfile::TempDir,
    running: Arc<Running>,
    backend: ReplayHandle,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

fn settings(dir: &Path) -> Settings {
    Settings {
        trust: Trust::default(),
        log_dir: dir.join("log"),
        state_dir: dir.join("state"),
        policies: PolicyFiles::alone(dir.join("policy.yaml")),
        policy_required: false,
        unenforceable: Unenforceable::Refuse,
        own: OwnFiles::default(),
    }
}

fn start(dir: &Path) -> anyhow::Result<(Running, ReplayHandle)> {
    let (backend, handle) = ReplayBackend::new();
    Ok((Running::start(settings(dir), || Ok(Box::new(backend)))?, handle))
}

impl Daemon {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join("policy.yaml"), POLICY).expect("a policy");
        let (running, backend) = start(dir.path()).expect("it starts");
        let running = Arc::new(running);
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (bound, is_bound) = std::sync::mpsc::sync_channel(1);
        let (path, served) = (dir.path().join("sock"), Arc::clone(&running));
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let server = Server::bind(&path, None, served).expect("a socket");
                bound.send(()).expect("the test waits");
                tokio::select! { () = server.serve() => {}, _ = stopped => {} }
            });
            runtime.shutdown_timeout(Duration::from_secs(1));
        });
        is_bound.recv().expect("a socket");
        Self { dir, running, backend, stop: Some(stop), thread: Some(thread) }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("sock")
    }

    fn client(&self) -> Client {
        Client::connect(&self.socket()).expect("the daemon answers")
    }

    /// A session of this user or, as only a test can, of another one.
    fn session_of(&self, uid: u32) -> SessionId {
        self.try_session_of(uid).expect("it is registered")
    }

    fn try_session_of(&self, uid: u32) -> Result<SessionId, SensorError> {
        let opened = peer::open_pid(std::process::id()).expect("we live");
        let registration = Registration {
            pidfd: opened.pidfd,
            root: opened.key,
            uid,
            origin: "run",
            command: vec!["x".to_owned()],
            adopt: false,
            claims: Claims::default(),
        };
        self.running.sensor.register(registration)
    }

    fn notices(&self) -> Vec<Notice> {
        self.running.sensor.drain().expect("it runs");
        let mut notices = Vec::new();
        let reader = treeline::log::LogReader::open(&self.dir.path().join("log"));
        let mut cursor = reader.entries(0, treeline::log::Extent::Signed);
        while let Some((index, entry)) = cursor.next_entry().expect("the log can be read") {
            let entry = decode(entry).expect("an entry is readable");
            assert_eq!(entry.index, index);
            if let EntryBody::Notice(notice) = entry.body {
                notices.push(notice);
            }
        }
        notices
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server did not panic");
        }
        drop(self.running.sensor.stop("test"));
    }
}

fn exit(session: SessionId, pid: u32) -> Delivery {
    Delivery::Observation(Box::new(Observation {
        time_ns: 1,
        session,
        subject: ProcessKey { pid, start_ticks: 1 },
        subject_start_ns: 10_000_000,
        tid: pid,
        verdict: Verdict::Allow,
        rule: None,
        approved: false,
        generation: 1,
        seen: Seen::Exit { wait_status: 0 },
    }))
}

#[test]
fn a_launcher_becomes_the_root_of_a_session() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    client.ping().expect("it answers");
    let session = client
        .register("claude", vec!["claude".to_owned(), "-p".to_owned()], Claims::default())
        .expect("it registers");
    assert_eq!(daemon.backend.tracked(), [(session, std::process::id())]);
    let status = client.status().expect("it answers");
    assert_eq!((status.sessions[0].session, status.sessions[0].origin.as_str()), (session, "claude"));
    assert_eq!(status.policy.as_ref().map(|policy| policy.generation), Some(1));

    let notices = daemon.notices();
    assert!(matches!(notices[0], Notice::Started { .. }), "{notices:?}");
    let uid = rustix::process::getuid().as_raw();
    let started = notices.iter().any(|notice| {
        matches!(notice, Notice::SessionStarted { session: s, uid: u, command, .. }
            if *s == session && *u == uid && command.len() == 2)
    });
    assert!(started, "{notices:?}");
}

/// What is known of each session that began, by its first entry.
fn attributes(daemon: &Daemon) -> Vec<(SessionId, SessionAttributes)> {
    let started = |notice| match notice {
        Notice::SessionStarted { session, attributes, .. } => Some((session, attributes)),
        _ => None,
    };
    daemon.notices().into_iter().filter_map(started).collect()
}

#[test]
fn what_a_session_is_is_in_its_first_entry() {
    let daemon = Daemon::start();
    let claims = Claims {
        agent: Some("claude-code".to_owned()),
        entry_point: Some("cli".to_owned()),
        repositories: Some(vec!["github.com/acme/app".to_owned()]),
    };
    let register =
        |claims: &Claims| daemon.client().register("claude", vec!["claude".to_owned()], claims.clone());
    let first = register(&claims).expect("it registers");
    let known = attributes(&daemon).remove(0);
    assert_eq!((known.0, &known.1.claims, known.1.within), (first, &claims, None));
    let uid = rustix::process::getuid().as_raw();
    assert_eq!(known.1.uid, Some(uid));
    assert!(known.1.user.is_some() && known.1.groups.is_some_and(|groups| !groups.is_empty()));

    let bad = Claims { agent: Some("two\nlines".to_owned()), ..Claims::default() };
    let error = register(&bad).expect_err("it cannot be kept");
    assert!(error.to_string().contains("control characters"), "{error}");
}

#[test]
fn who_begins_within_a_session_becomes_nobody_else() {
    let daemon = Daemon::start();
    let outer = daemon.session_of(1234);
    daemon.backend.be_within(Some(outer));
    let claims = Claims { agent: Some("other".to_owned()), ..Claims::default() };
    let inner = daemon.client().register("run", vec!["x".to_owned()], claims).expect("it registers");
    // Of a session that is not known nothing is known of those within.
    daemon.backend.be_within(Some(SessionId(7)));
    let lost = daemon.session_of(1234);
    let all = attributes(&daemon);
    let [(_, of_outer), (second, of_inner), (third, of_lost)] = &all[..] else { panic!("{all:?}") };
    assert_eq!((*second, *third), (inner, lost));
    assert_eq!(of_outer.uid, Some(1234));
    assert_eq!(*of_inner, SessionAttributes { within: Some(outer), ..of_outer.clone() });
    assert_eq!(*of_lost, SessionAttributes { within: Some(SessionId(7)), ..SessionAttributes::default() });
}

#[test]
fn a_process_that_is_gone_gets_no_session() {
    let daemon = Daemon::start();
    daemon.backend.refuse_tracking(true);
    let error =
        daemon.client().register("run", vec!["x".to_owned()], Claims::default()).expect_err("it is gone");
    assert!(error.to_string().contains("ended before it could be tracked"), "{error}");
    assert!(daemon.notices().iter().any(|notice| matches!(notice, Notice::SessionEnded { .. })));
    assert!(daemon.client().adopt(u32::MAX - 1).is_err());
}

#[test]
fn policies_are_replaced_or_refused_whole() {
    let daemon = Daemon::start();
    let file = daemon.dir.path().join("policy.yaml");
    let generation = |daemon: &Daemon| daemon.running.sensor.status().policy.map(|policy| policy.generation);

    fs::write(&file, POLICY.replace("keys", "others")).expect("a policy");
    daemon.running.reload().expect("it is good");
    assert_eq!((generation(&daemon), daemon.backend.installed()), (Some(2), vec![1, 2]));

    fs::write(&file, "version: 1\nname: test\nrulse: []\n").expect("a policy");
    let error = format!("{:#}", daemon.running.reload().expect_err("it is bad"));
    assert!(error.contains("rulse") && error.contains('3'), "{error}");
    assert_eq!((generation(&daemon), daemon.backend.installed()), (Some(2), vec![1, 2]));
    assert!(daemon.running.sensor.status().policy_refused.is_some());

    fs::write(&file, POLICY).expect("a policy");
    daemon.backend.refuse_policies(Some("no hook for it"));
    assert!(format!("{:#}", daemon.running.reload().expect_err("refused")).contains("no hook for it"));
    assert_eq!(generation(&daemon), Some(2));
    daemon.backend.refuse_policies(None);
    daemon.running.reload().expect("it is good");
    assert!(daemon.running.sensor.status().policy_refused.is_none());

    let notices = daemon.notices();
    let count = |test: fn(&Notice) -> bool| notices.iter().filter(|notice| test(notice)).count();
    assert_eq!(count(|notice| matches!(notice, Notice::PolicyApplied { .. })), 3);
    assert_eq!(count(|notice| matches!(notice, Notice::PolicyRejected { .. })), 2);
}

#[test]
fn a_broken_policy_file_at_start_falls_back_to_the_last_good_one() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    fs::write(dir.path().join("policy.yaml"), POLICY).expect("a policy");
    let (running, _) = start(dir.path()).expect("it starts");
    running.sensor.stop("test").expect("it stops");
    drop(running);

    fs::write(dir.path().join("policy.yaml"), "rules: [").expect("a policy");
    let (running, _) = start(dir.path()).expect("it starts all the same");
    assert_eq!(running.sensor.status().policy.map(|policy| policy.name), Some("test".to_owned()));
    running.sensor.stop("test").expect("it stops");

    let empty = tempfile::tempdir().expect("a temporary directory");
    fs::write(empty.path().join("policy.yaml"), "rules: [").expect("a policy");
    let error = format!("{:#}", start(empty.path()).expect_err("there is no good one"));
    assert!(error.contains("policy.yaml"), "{error}");
}

#[test]
fn a_second_daemon_is_told_about_the_first() {
    let daemon = Daemon::start();
    let error = format!("{:#}", start(daemon.dir.path()).expect_err("there is one"));
    assert!(error.contains(&format!("another sensor (pid {})", std::process::id())), "{error}");
    daemon.client().ping().expect("the first is unharmed");
}

#[test]
fn a_daemon_with_another_state_directory_leaves_the_socket_alone() {
    let daemon = Daemon::start();
    let other = tempfile::tempdir().expect("a temporary directory");
    let (running, _) = start(other.path()).expect("its state is its own");
    let running = Arc::new(running);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let bound = runtime.block_on(async { Server::bind(&daemon.socket(), None, Arc::clone(&running)) });
    let error = bound.map(drop).expect_err("the first serves it").to_string();
    let expected = format!("another sensor (pid {}) uses the socket `", std::process::id());
    assert!(error.starts_with(&expected), "{error}");
    running.sensor.stop("test").expect("it stops");
    daemon.client().ping().expect("the first is unharmed");
}

#[test]
fn what_somebody_else_put_at_the_sockets_path_stays() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (running, _) = start(dir.path()).expect("it starts");
    let running = Arc::new(running);
    let path = dir.path().join("sock");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let bind = || runtime.block_on(async { Server::bind(&path, None, Arc::clone(&running)) });
    drop(bind().expect("nobody serves it"));
    assert!(!path.exists(), "nobody can find a socket that nobody serves");
    let server = bind().expect("nobody serves it any more");
    fs::rename(&path, dir.path().join("moved")).expect("it can be moved");
    fs::write(&path, "somebody else's").expect("a file");
    drop(server);
    assert!(path.exists());
    running.sensor.stop("test").expect("it stops");
}

#[test]
fn a_users_home_is_learnt_only_with_the_rules_for_it() {
    let daemon = Daemon::start();
    // `nobody` is in no list of people, and has an entry in /etc/passwd.
    let nobody = 65_534;
    daemon.backend.refuse_policies(Some("no hook for it"));
    for attempt in ["the first", "the second"] {
        let error = daemon.try_session_of(nobody).expect_err(attempt).to_string();
        assert!(error.contains("no hook for it"), "{attempt}: {error}");
    }
    assert_eq!((daemon.backend.installed(), daemon.backend.tracked()), (vec![1], vec![]));
    daemon.backend.refuse_policies(None);
    daemon.session_of(nobody);
    daemon.session_of(nobody);
    assert_eq!(daemon.backend.installed().len(), 2, "once, when the user came");
}

#[test]
fn users_see_their_own_sessions_only() {
    // The socket cannot be used as somebody else without being root, so the other user's session is made from inside.
    let daemon = Daemon::start();
    let me = rustix::process::getuid().as_raw();
    let (mine, theirs) = (daemon.session_of(me), daemon.session_of(me + 1));
    for session in [mine, theirs] {
        daemon.backend.play(exit(session, 4_000_000));
    }
    daemon.notices();
    let mut sessions = Vec::new();
    let request = EntriesRequest::default();
    let next = daemon
        .client()
        .entries(request.clone(), |_, bytes| {
            sessions.push(decode(bytes).expect("an entry is readable").session);
            true
        })
        .expect("entries come");
    assert_eq!(next, daemon.running.sensor.status().log.signed_size);
    assert!(sessions.contains(&None) && sessions.contains(&Some(mine)), "{sessions:?}");
    assert_eq!(sessions.contains(&Some(theirs)), me == 0, "{sessions:?}");

    let mut count = 0;
    let one = EntriesRequest { session: Some(mine), max: Some(1), ..request };
    daemon
        .client()
        .entries(one, |_, _| {
            count += 1;
            true
        })
        .expect("entries come");
    assert_eq!(count, 1);
}

#[test]
fn a_follower_sees_what_comes() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    let socket = daemon.socket();
    let register = std::thread::spawn(move || {
        Client::connect(&socket)
            .and_then(|mut client| client.register("run", vec!["x".to_owned()], Claims::default()))
            .expect("a session")
    });
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut seen = None;
    let request = EntriesRequest { follow: true, ..EntriesRequest::default() };
    client
        .entries(request, |_, bytes| {
            let entry = decode(bytes).expect("an entry is readable");
            seen = entry.session;
            seen.is_none() && Instant::now() < deadline
        })
        .expect("entries come");
    assert_eq!(seen, Some(register.join().expect("it registered")));
}

#[test]
fn loss_is_an_entry() {
    let daemon = Daemon::start();
    let loss = LossReport { kind: "open", site: "ring", count: 7, first_ns: 1, last_ns: 2 };
    daemon.backend.play(Delivery::Loss(loss));
    daemon.backend.play(Delivery::Malformed { what: "ring record", error: "a short record".to_owned() });
    let notices = daemon.notices();
    assert!(notices.iter().any(|n| matches!(n, Notice::Lost { kind, count: 7, .. } if kind == "open")));
    assert!(notices.iter().any(|n| matches!(n, Notice::Malformed { .. })));
    assert_eq!(daemon.running.sensor.status().loss[0].count, 7);
}

#[test]
fn a_broken_backend_ends_the_sensor_with_everything_signed() {
    for panic in [false, true] {
        let daemon = Daemon::start();
        daemon.session_of(0);
        if panic {
            daemon.backend.panic();
        } else {
            daemon.backend.fail("the ring is gone");
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        while !daemon.running.sensor.has_ended() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        let error = daemon.running.sensor.stop("test").expect_err("it broke").to_string();
        let expected = if panic { "panic: the script asked for a panic" } else { "the ring is gone" };
        assert!(error.contains(expected), "{error}");
        let status = daemon.running.sensor.status();
        assert_eq!(status.log.size, status.log.signed_size);
        assert!(status.log.size >= 3, "{status:?}");
    }
}

/// Sends bytes and returns the answer; none when the connection just ends.
fn answer_to(socket: &Path, bytes: &[u8]) -> Option<Response> {
    let mut stream = UnixStream::connect(socket).expect("the daemon listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
    stream.write_all(bytes).expect("the bytes are taken");
    stream.shutdown(std::net::Shutdown::Write).expect("our side ends");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the daemon ends the connection");
    let head = answer.get(..4)?.try_into().expect("four bytes");
    let len = proto::frame_len(head).expect("a short answer");
    Some(proto::decode(&answer[4..4 + len]).expect("an answer"))
}

#[test]
fn malformed_messages_are_answered_and_harm_nobody() {
    let daemon = Daemon::start();
    let socket = daemon.socket();
    let frame = |body: &[u8]| [&u32::try_from(body.len()).expect("short").to_le_bytes(), body].concat();
    let refused = |bytes: &[u8], kind: ErrorKind, words: &str| match answer_to(&socket, bytes) {
        Some(Response::Error { kind: k, message }) => {
            assert_eq!(k, kind);
            assert!(message.contains(words), "`{message}` for {bytes:?}");
        }
        other => panic!("{other:?} for {bytes:?}"),
    };
    refused(&[0xff; 64], ErrorKind::Malformed, "the bound is 1048576");
    refused(&frame(&[0xee; 8]), ErrorKind::Malformed, "not a message");
    refused(&frame(&[]), ErrorKind::Malformed, "not a message");
    refused(&frame(&[0, 1, 0]), ErrorKind::Malformed, "1 bytes too many");
    refused(&proto::encode(&Request::Hello { version: 99 }).expect("short"), ErrorKind::Version, "version 2");
    refused(&proto::encode(&Request::Ping).expect("short"), ErrorKind::Malformed, "has to be `Hello`");
    for half in [&[][..], &[1], &[8, 0, 0, 0], &[8, 0, 0, 0, 1, 2]] {
        assert_eq!(answer_to(&socket, half), None, "{half:?}");
    }
    daemon.client().ping().expect("the daemon is unharmed");
}

#[test]
fn one_user_cannot_take_all_connections() {
    let daemon = Daemon::start();
    let mut clients: Vec<Client> = (0..32).map(|_| daemon.client()).collect();
    match Client::connect(&daemon.socket()) {
        Err(ClientError::Refused { kind: ErrorKind::Busy, .. }) => {}
        other => panic!("{other:?}"),
    }
    clients.iter_mut().for_each(|client| client.ping().expect("those who are in stay in"));
    drop(clients);
    let deadline = Instant::now() + Duration::from_secs(20);
    while Client::connect(&daemon.socket()).is_err() {
        assert!(Instant::now() < deadline, "places do not come back");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_is_no_denial_is_not_approved() {
    let daemon = Daemon::start();
    for denial in [0, 999_999] {
        let refused = daemon.client().approve(denial, "15m".parse().expect("a period"));
        match refused {
            Err(ClientError::Refused { kind: ErrorKind::Forbidden, message }) => {
                assert!(message.contains(&format!("entry {denial} is no denial")), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }
    let own = rustix::process::getuid().as_raw();
    let refused: Vec<u64> = daemon
        .notices()
        .into_iter()
        .filter_map(|notice| match notice {
            Notice::ApprovalRefused { denial, session: None, by, .. } if by.uid == own => Some(denial),
            _ => None,
        })
        .collect();
    // What this user may read and is no denial is a slip; the first entry may be signed by now.
    assert!(refused.ends_with(&[999_999]), "{refused:?}");
}
