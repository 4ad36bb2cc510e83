//! Denials that somebody approves of: exactly that subject and that object, for a while, on the record.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use treeline_event::{Action, Destination, Entry, Notice, Verdict};
use treeline_tests::sensor::{Daemon, Scene, binary, expect, is_permitted, notices, with_verdict};

const PATIENCE: Duration = Duration::from_secs(60);

const POLICY: &str = "version: 1
name: e2e
approvals:
  - {rules: [keys, net], by: {users: [root]}, for_at_most: 30m}
  - {rules: [theirs], by: {users: ['54321'], groups: [nobody-is-in-this]}, for_at_most: 30m}
rules:
  - {id: keys, kind: file, paths: [\"@/.ssh/**\"], reason: Keys., remedy: Ask., link: \"https://wiki.example/keys\"}
  - {id: net, kind: connect, to: [127.0.0.9], reason: Not there.}
  - {id: theirs, kind: file, paths: [\"@/theirs\"], reason: Of others.}
  - {id: nobodys, kind: file, paths: [\"@/nobodys\"], reason: Of nobody.}
";

/// A shell in a session that does what it is told, one command after the other.
struct Session {
    shell: Child,
    dir: std::path::PathBuf,
    count: u32,
    /// Its id.
    id: String,
}

impl Session {
    fn start(daemon: &Daemon, dir: &Path) -> Self {
        fs::create_dir_all(dir).expect("a directory");
        // Without a process for each round: a log of forks would take long to be read.
        let script = "exec 9<>wait; while test ! -e stop; do for go in *.go; do step=${go%.go}; \
                      if test -e $go && test ! -e $step.said; then . ./$go >$step.out 2>&1; \
                      echo $? >$step.tmp; mv $step.tmp $step.said; fi; done; read -t 0.1 -u 9; done";
        let made = Command::new("mkfifo").arg(dir.join("wait")).status().expect("there is `mkfifo`");
        assert!(made.success(), "a pipe to wait at");
        let mut command = daemon.command(&["run", "--", "/bin/bash", "-c", script]);
        let shell = command.current_dir(dir).stderr(Stdio::null()).spawn().expect("the binary runs");
        let mut session = Self { shell, dir: dir.to_owned(), count: 0, id: String::new() };
        assert!(session.does("echo $TREELINE_SESSION"));
        session.id = session.said().trim().to_owned();
        session
    }

    /// Has it do something, and says whether that went well.
    fn does(&mut self, command: &str) -> bool {
        self.count += 1;
        let at = |end: &str| self.dir.join(format!("{}.{end}", self.count));
        fs::write(at("new"), command).expect("a file");
        fs::rename(at("new"), at("go")).expect("a name");
        let started = Instant::now();
        while !at("said").exists() {
            assert!(started.elapsed() < PATIENCE, "no answer to `{command}`");
            thread::sleep(Duration::from_millis(20));
        }
        fs::read_to_string(at("said")).expect("an answer").trim() == "0"
    }

    /// What it printed last.
    fn said(&self) -> String {
        fs::read_to_string(self.dir.join(format!("{}.out", self.count))).expect("an output")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = fs::write(self.dir.join("stop"), "");
        let _ = self.shell.wait();
    }
}

fn scene() -> Scene {
    let scene = Scene::new();
    let home = scene.path("home");
    for name in [".ssh/other", "theirs", "nobodys"] {
        fs::write(home.join(name), "x\n").expect("a file");
    }
    fs::write(scene.path("policy.yaml"), POLICY.replace('@', &home.display().to_string())).expect("a policy");
    scene
}

/// The index of a session's latest denial, which is about something, once that is signed.
fn denial_of(daemon: &Daemon, session: &str, what: &str, after: u64) -> String {
    let started = Instant::now();
    loop {
        let output = daemon.ask(&["denials", "--json", "--session", session]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let denials: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON");
        // One before may have been of the same.
        let is_it = |last: &&Value| {
            last["action"].to_string().contains(what) && last["index"].as_u64().is_some_and(|at| at > after)
        };
        if let Some(last) = denials.last().filter(is_it) {
            return last["index"].to_string();
        }
        assert!(started.elapsed() < PATIENCE, "`{what}` was not refused: {denials:#?}");
        thread::sleep(Duration::from_millis(50));
    }
}

fn approve(daemon: &Daemon, denial: &str, time: &str) -> Output {
    daemon.ask(&["approve", denial, "--for", time])
}

/// From inside of a session nobody approves.
fn refuses_from_inside(scene: &Scene, daemon: &Daemon, session: &mut Session, read: &str) {
    let denial = denial_of(daemon, &session.id, ".ssh/id", 0);
    let command = format!(
        "TREELINE_CONFIG={} {} approve {denial} --for 1m",
        scene.path("treeline.toml").display(),
        binary().display()
    );
    assert!(!session.does(&command));
    assert!(session.said().contains("only somebody outside of every session"), "{}", session.said());
    assert!(!session.does(read));
}

#[test]
fn exactly_what_was_refused_goes_through_for_a_while() {
    if !is_permitted("exactly_what_was_refused_goes_through_for_a_while") {
        return;
    }
    let scene = scene();
    let daemon = scene.daemon("");
    let home = scene.path("home").display().to_string();
    let mut session = Session::start(&daemon, &scene.path("home/one"));
    let mut other = Session::start(&daemon, &scene.path("home/two"));
    let read = format!("cat {home}/.ssh/id");
    assert!(!other.does(&read));
    assert!(!session.does(&read));
    let denial = denial_of(&daemon, &session.id, ".ssh/id", 0);
    let shown = [
        "refused by `keys`: Keys.",
        "instead: Ask.",
        "more: https://wiki.example/keys",
        &format!("treeline approve {denial} --for 30m"),
    ];
    expect(daemon.ask(&["denials"]), 0, &shown);
    expect(approve(&daemon, &denial, "31m"), 1, &["30m at the most"]);
    expect(approve(&daemon, "999999", "1m"), 1, &["entry 999999 is no denial"]);
    expect(approve(&daemon, "0", "1m"), 1, &["entry 0 is no denial"]);
    expect(approve(&daemon, &denial, "1d"), 2, &["from `1s` to `24h`"]);
    assert!(!session.does(&read), "nothing was approved yet");

    let started = Instant::now();
    expect(approve(&daemon, &denial, "6s"), 0, &["approved for 6s", "may read", "it ends by itself"]);
    assert!(session.does(&read), "{}", session.said());
    assert_eq!(session.said(), "KEY\n");
    for (what, command) in [
        ("another program", format!("head -1 {home}/.ssh/id")),
        ("another file", format!("cat {home}/.ssh/other")),
        ("the directory", format!("ls {home}/.ssh")),
        ("other code in the program", format!("env LD_PRELOAD=/nonexistent.so {read}")),
        ("another operation", format!("cat <>{home}/.ssh/id")),
    ] {
        assert!(!session.does(&command), "{what} stays refused");
    }
    assert!(!other.does(&read), "another session stays refused");
    assert!(started.elapsed() < Duration::from_secs(6), "it took too long to be a test");
    thread::sleep(Duration::from_secs(7).saturating_sub(started.elapsed()));
    assert!(!session.does(&read), "its time has come");

    refuses_from_inside(&scene, &daemon, &mut session, &read);
    thread::sleep(Duration::from_secs(1));
    drop((session, other));
    drop(daemon);
    let entries = scene.entries();
    says_all_of_it(&entries);
}

/// What the log has to say of the first test.
fn says_all_of_it(entries: &[Entry]) {
    let approved: Vec<_> =
        with_verdict(entries, Verdict::Audit).into_iter().filter(|(_, rule)| rule.approved).collect();
    assert_eq!(approved.len(), 1, "{approved:#?}");
    assert!(matches!(approved[0].0, Action::Open { file, .. } if file.path.to_string().ends_with(".ssh/id")));
    let said: Vec<&Notice> = notices(entries).filter(|notice| notice.kind().starts_with("appro")).collect();
    let kinds: Vec<&str> = said.iter().map(|notice| notice.kind()).collect();
    let expect = ["approval_refused", "approval_refused", "approved", "approval_ended", "approval_refused"];
    assert_eq!(kinds, expect, "{said:#?}");
    assert!(matches!(said[4], Notice::ApprovalRefused { session: Some(_), .. }), "{:?}", said[4]);
    let Notice::Approved { approval, by } = said[2] else { panic!("an approval") };
    assert_eq!((by.uid, approval.for_s, approval.rules.as_slice()), (0, 6, &["keys".to_owned()][..]));
    assert!(matches!(said[3], Notice::ApprovalEnded { reason, .. } if reason == "its time has come"));
}

#[test]
fn only_who_the_policy_names_and_only_what_it_lets() {
    if !is_permitted("only_who_the_policy_names_and_only_what_it_lets") {
        return;
    }
    let scene = scene();
    let daemon = scene.daemon("");
    let home = scene.path("home");
    let mut session = Session::start(&daemon, &home.join("one"));
    let mut after = 0;
    let mut refused = |name: &str| {
        assert!(!session.does(&format!("cat {}/{name}", home.display())), "{name}");
        let denial = denial_of(&daemon, &session.id, name, after);
        after = denial.parse().expect("an index");
        denial
    };
    // Root is nobody special.
    expect(
        approve(&daemon, &refused("theirs"), "1m"),
        1,
        &["lets others than this user approve", "`theirs`"],
    );
    expect(approve(&daemon, &refused("nobodys"), "1m"), 1, &["lets nobody approve", "`nobodys`"]);

    let denial = refused(".ssh/id");
    fs::write(home.join("fresh"), "FRESH\n").expect("a file");
    fs::rename(home.join("fresh"), home.join(".ssh/id")).expect("another file in its place");
    expect(approve(&daemon, &denial, "1m"), 1, &["another file is in its place"]);
    let denial = refused(".ssh/id");
    fs::hard_link(home.join(".ssh/id"), home.join("second")).expect("another name");
    expect(approve(&daemon, &denial, "1m"), 1, &["several names"]);
    fs::remove_file(home.join("second")).expect("it was there");
    fs::remove_file(home.join(".ssh/id")).expect("it was there");
    expect(approve(&daemon, &denial, "1m"), 1, &["no longer there"]);

    fs::write(home.join(".ssh/id"), "NEW\n").expect("a file");
    let denial = refused(".ssh/id");
    drop(session);
    let started = Instant::now();
    loop {
        let output = approve(&daemon, &denial, "1m");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.code() == Some(1) && text.contains("has ended") {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{text}");
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn an_address_and_another_policy() {
    if !is_permitted("an_address_and_another_policy") {
        return;
    }
    let scene = scene();
    let daemon = scene.daemon("");
    let mut session = Session::start(&daemon, &scene.path("home/one"));
    // Nobody listens: what the policy lets through is refused by the peer.
    let connect =
        |port: u16| format!("said=$( (exec 3<>/dev/tcp/127.0.0.9/{port}) 2>&1 ); [[ $said == *refused* ]]");
    assert!(!session.does(&connect(4)));
    let denial = denial_of(&daemon, &session.id, "127.0.0.9", 0);
    expect(approve(&daemon, &denial, "20m"), 0, &["may connect 127.0.0.9:4"]);
    assert!(session.does(&connect(4)));
    assert!(!session.does(&connect(5)), "another port stays refused");
    assert!(!session.does("said=$(python3 -c 'import socket; socket.create_connection((\"127.0.0.9\", 4))' 2>&1); [[ $said == *refused* ]]"));

    // Kept over a reload, and over another daemon.
    expect(daemon.ask(&["reload"]), 0, &[]);
    assert!(session.does(&connect(4)));
    let text = fs::read_to_string(scene.path("policy.yaml")).expect("a policy");
    fs::write(scene.path("policy.yaml"), text.replace("reason: Of nobody.", "reason: Of none."))
        .expect("a policy");
    expect(daemon.ask(&["reload"]), 0, &[]);
    assert!(session.does(&connect(4)), "another rule was changed");
    fs::write(scene.path("policy.yaml"), text.replace("rules: [keys, net]", "rules: [keys]"))
        .expect("a policy");
    expect(daemon.ask(&["reload"]), 0, &[]);
    assert!(!session.does(&connect(4)), "nobody can approve of it any more");

    fs::write(scene.path("policy.yaml"), text).expect("a policy");
    expect(daemon.ask(&["reload"]), 0, &[]);
    assert!(!session.does(&connect(4)), "what has ended does not come back");
    drop(session);
    drop(daemon);
    let entries = scene.entries();
    let ended = notices(&entries).filter(
        |notice| matches!(notice, Notice::ApprovalEnded { reason, .. } if reason == "the policy has changed"),
    );
    assert_eq!(ended.count(), 1);
    let to = with_verdict(&entries, Verdict::Audit);
    let to = to.iter().filter(|(action, rule)| {
        rule.approved && matches!(action, Action::Connect { to: Destination::V4(_, 4), .. })
    });
    assert_eq!(to.count(), 3);
}
