use std::{
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use treeline_event::{Digest, FileRef, OpenFlags, Outcome};

use super::*;
use crate::{
    backend::FileSeen,
    enrich::{hash::identity, table::is_unknown},
};

const SESSION: SessionId = SessionId(7);

#[derive(Clone)]
struct FakeClock(Arc<AtomicU64>);

impl Clock for FakeClock {
    fn boot_ns(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn wall_ns(&self) -> u64 {
        self.boot_ns() + 5_000_000_000
    }
}

struct Bench {
    enricher: Enricher,
    now: Arc<AtomicU64>,
    events: Vec<Event>,
}

impl Bench {
    fn new() -> Self {
        let now = Arc::new(AtomicU64::new(1_000_000_000));
        let config = Config { live: false, ..Config::default() };
        let enricher = Enricher::new(&config, Box::new(FakeClock(Arc::clone(&now)))).expect("threads");
        Self { enricher, now, events: Vec::new() }
    }

    fn see(&mut self, subject: ProcessKey, seen: Seen) -> Vec<Event> {
        let observation = Observation {
            time_ns: self.now.load(Ordering::Relaxed),
            session: SESSION,
            subject,
            subject_start_ns: 0,
            tid: subject.pid,
            verdict: Verdict::Allow,
            rule: None,
            approved: false,
            generation: 0,
            seen,
        };
        self.enricher.observe(observation, &mut self.events);
        std::mem::take(&mut self.events)
    }

    fn tick(&mut self, later_ns: u64) -> Vec<Event> {
        self.now.fetch_add(later_ns, Ordering::Relaxed);
        self.enricher.tick(&mut self.events);
        std::mem::take(&mut self.events)
    }

    fn hashed(&mut self) -> Vec<Event> {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut events = Vec::new();
        while self.enricher.look.hasher.waiting() > 0 && Instant::now() < deadline {
            events.extend(self.tick(0));
            thread::sleep(Duration::from_millis(2));
        }
        events
    }
}

fn subject(event: &Event) -> &Subject {
    match &event.body {
        Body::Act { subject, .. } => subject,
        Body::Notice(notice) => panic!("{notice:?}"),
    }
}

/// Pids that no process of the machine can have.
fn key(pid: u32) -> ProcessKey {
    ProcessKey { pid: pid + 1_000_000_000, start_ticks: 1 }
}

fn fork(child: ProcessKey) -> Seen {
    Seen::Fork { child, child_start_ns: 10_000_000 }
}

fn exec(path: &str) -> Seen {
    let image = FileSeen { path: path.into(), ..FileSeen::default() };
    Seen::Exec(Box::new(ExecSeen {
        image,
        name_given: path.into(),
        interpreter_name: path.into(),
        ..ExecSeen::default()
    }))
}

fn open(path: &str) -> Seen {
    let file = FileRef { path: path.into(), ..FileRef::default() };
    Seen::Act(Box::new(Action::Open { file, flags: OpenFlags(0), outcome: Outcome::Ok, count: 1 }))
}

fn sleeper() -> (Child, ProcessKey) {
    let mut command = Command::new("sleep");
    command.arg0("sleeper").arg("60").stdin(Stdio::null());
    let child = command.spawn().expect("sleep starts");
    // Until the exec is over /proc shows this test's own program.
    let proc = ProcFs::new("/proc");
    while proc.argv(child.id()).is_ok_and(|(argv, _)| argv.first() != Some(&"sleeper".into())) {
        thread::sleep(Duration::from_millis(1));
    }
    let key = proc.stat(child.id()).expect("alive").key;
    (child, key)
}

#[test]
fn ancestry_is_what_was_true_then() {
    let mut bench = Bench::new();
    bench.see(key(1), exec("/bin/a"));
    bench.see(key(1), fork(key(2)));
    let before = bench.see(key(2), exec("/bin/b"));
    bench.see(key(1), exec("/bin/c"));
    let after = bench.see(key(2), open("/x"));
    let names = |events: &[Event]| -> Vec<String> {
        let chain = subject(&events[0]).ancestry.iter();
        chain.map(|process| process.program.image.path.to_string()).collect()
    };
    assert_eq!(names(&before)[0], "/bin/a");
    assert_eq!(names(&after)[0], "/bin/c");
    assert_eq!(subject(&after[0]).process.program.image.path, "/bin/b".into());
    assert_eq!(after[0].time.wall_ms, 6_000);
}

#[test]
fn fork_names_child_and_creator_and_shares_the_program() {
    let mut bench = Bench::new();
    bench.see(key(1), exec("/bin/a"));
    let events = bench.see(key(1), fork(key(2)));
    let subject = subject(&events[0]);
    assert_eq!((subject.process.key, subject.ancestry[0].key), (key(2), key(1)));
    assert!(Arc::ptr_eq(&subject.process.program, &subject.ancestry[0].program));
}

#[test]
fn a_lost_fork_is_a_gap() {
    let mut bench = Bench::new();
    let events = bench.see(key(9), open("/x"));
    assert!(is_unknown(&subject(&events[0]).process));
    assert!(subject(&events[0]).ancestry.is_empty());
}

#[test]
fn session_ends_once_with_its_last_member() {
    let mut bench = Bench::new();
    bench.enricher.session_started(SESSION, key(1), &[]);
    bench.see(key(1), fork(key(2)));
    bench.see(key(1), Seen::Exit { wait_status: 0 });
    assert!(bench.tick(SESSION_LINGER_NS).is_empty());
    let events = bench.see(key(2), Seen::Exit { wait_status: 9 });
    let Body::Act { action, .. } = &events[0].body else { panic!("{events:?}") };
    assert_eq!(*action, Action::Exit { code: None, signal: Some(9) });
    bench.tick(0);
    let ended = bench.tick(SESSION_LINGER_NS);
    assert_eq!(ended.len(), 1);
    assert_eq!(ended[0].body, Body::Notice(Notice::SessionEnded { session: SESSION }));
    bench.see(key(2), open("/late"));
    bench.tick(0);
    assert!(bench.tick(SESSION_LINGER_NS).iter().all(|event| event.body != ended[0].body));
}

#[test]
fn a_stop_ends_the_sessions_without_members_and_no_others() {
    let mut bench = Bench::new();
    bench.enricher.session_started(SESSION, key(1), &[]);
    bench.enricher.session_started(SessionId(8), key(2), &[]);
    bench.see(key(1), open("/folded"));
    bench.see(key(1), open("/folded"));
    bench.see(key(1), Seen::Exit { wait_status: 0 });
    bench.enricher.finish(&mut bench.events);
    let ended: Vec<_> = bench
        .events
        .iter()
        .filter(|event| matches!(event.body, Body::Notice(Notice::SessionEnded { .. })))
        .map(|event| event.session)
        .collect();
    assert_eq!(ended, [Some(SESSION)]);
}

#[test]
fn allowed_opens_fold_and_denied_ones_do_not() {
    let mut bench = Bench::new();
    for _ in 0..3 {
        bench.see(key(1), open("/x"));
    }
    let events = bench.see(key(1), Seen::Exit { wait_status: 0x300 });
    let Body::Act { action: Action::Open { count, .. }, .. } = &events[0].body else { panic!("{events:?}") };
    assert_eq!((*count, events.len()), (2, 2));
    for _ in 0..2 {
        let observation = Observation {
            time_ns: 1,
            session: SESSION,
            subject: key(1),
            subject_start_ns: 0,
            tid: 0,
            verdict: Verdict::Deny,
            rule: Some(3),
            approved: false,
            generation: 2,
            seen: open("/x"),
        };
        bench.enricher.observe(observation, &mut bench.events);
        let Body::Act { rule: Some(rule), .. } = &bench.events[0].body else { panic!("{:?}", bench.events) };
        assert_eq!(rule.rule, "#3");
        bench.events.clear();
    }
}

#[test]
fn live_processes_are_hashed_back_to_pid_1() {
    let mut bench = Bench::new();
    let (mut child, key) = sleeper();
    bench.enricher.session_started(SESSION, key, &[]);
    let early = bench.enricher.subject(key).expect("seeded");
    let hashed = bench.hashed();
    assert!(hashed.iter().any(|event| matches!(event.body, Body::Notice(Notice::ImageHashed { .. }))));
    let late = bench.enricher.subject(key).expect("still there");
    child.kill().expect("own child");
    child.wait().expect("own child");
    assert_eq!(early.process.program.image.digest, Digest::Pending);
    assert!(matches!(late.process.program.image.digest, Digest::Sha256(_)));
    assert_eq!(late.process.program.argv, ["sleeper".into(), "60".into()]);
    assert!(late.ancestry.iter().any(|process| process.key.pid == std::process::id()));
    let own = &late.ancestry[0].program.image;
    assert_eq!(own.path.to_string(), std::env::current_exe().expect("own").to_string_lossy());
    assert!(late.ancestry.iter().all(|process| process.program.image.digest != Digest::Pending));
}

#[test]
fn a_reused_pid_is_another_process() {
    let mut bench = Bench::new();
    let (mut child, key) = sleeper();
    let other = ProcessKey { start_ticks: key.start_ticks - 1, ..key };
    bench.enricher.session_started(SESSION, other, &[]);
    assert!(is_unknown(&bench.enricher.subject(other).expect("seeded").process));
    child.kill().expect("own child");
    child.wait().expect("own child");
}

#[test]
fn a_script_is_looked_up_when_the_kernel_only_named_it() {
    let dir = tempfile::tempdir().expect("directory");
    std::fs::write(dir.path().join("run"), "#!/bin/sh\n").expect("written");
    let cwd = dir.path().to_string_lossy().into_owned();
    let mut bench = Bench::new();
    let seen = ExecSeen {
        name_given: "./run".into(),
        interpreter_name: "/bin/sh".into(),
        cwd: cwd.as_str().into(),
        ..ExecSeen::default()
    };
    bench.see(key(1), Seen::Exec(Box::new(seen.clone())));
    bench.hashed();
    let found =
        bench.enricher.subject(key(1)).expect("known").process.program.script.clone().expect("a script");
    assert!(!found.seen_by_kernel && matches!(found.digest, Digest::Sha256(_)), "{found:?}");
    let gone = ExecSeen { name_given: "./other".into(), ..seen };
    let events = bench.see(key(1), Seen::Exec(Box::new(gone)));
    let script = subject(&events[0]).process.program.script.clone().expect("a script");
    assert_eq!(script.digest, Digest::Gone);
}

#[test]
fn an_executable_that_changes_before_its_hash_says_so() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("tool");
    std::fs::write(&path, "one").expect("written");
    let id = identity(std::fs::File::open(&path).expect("opened")).expect("identity");
    std::fs::write(&path, "two").expect("written");
    let image = FileSeen { path: path.to_string_lossy().as_ref().into(), id, unlinked: false };
    let mut bench = Bench::new();
    bench.see(key(1), Seen::Exec(Box::new(ExecSeen { image, ..ExecSeen::default() })));
    bench.hashed();
    let process = bench.enricher.subject(key(1)).expect("known").process;
    assert_eq!(process.program.image.digest, Digest::Changed);
}
