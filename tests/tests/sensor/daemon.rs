//! The daemon as a process: launching, adopting, replacing the policy, ending.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, net::UnixDatagram, process::CommandExt as _},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use treeline_event::{Action, Digest, Notice};
use treeline_tests::{
    claude,
    sensor::{Daemon, Scene, actions, binary, is_permitted, notices, with_verdict},
};

const KEYS: &str =
    "  - id: keys\n    kind: file\n    paths: [\"@/.ssh/**\"]\n    reason: Keys are not for agents.\n";

#[test]
fn a_session_through_the_daemon() {
    if !is_permitted("a_session_through_the_daemon") {
        return;
    }
    let scene = Scene::new();
    scene.policy(KEYS);
    let mut daemon = scene.daemon("");
    let key = scene.path("home/.ssh/id").display().to_string();
    let ran =
        daemon.ask(&["run", "--", "/bin/bash", "-c", &format!("cat {key}; echo out; echo err >&2; exit 42")]);
    assert_eq!(ran.status.code(), Some(42));
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "out\n");
    assert!(String::from_utf8_lossy(&ran.stderr).contains("Operation not permitted"));
    let killed = daemon.ask(&["run", "--", "/bin/bash", "-c", "kill -TERM $$"]);
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&killed.status),
        Some(15),
        "signals as without Treeline"
    );
    let missing = daemon.ask(&["run", "--", "/nonexistent/program"]);
    assert_eq!(missing.status.code(), Some(127));
    daemon.signal(Signal::TERM);
    assert!(daemon.wait().expect("it ends").success(), "SIGTERM is an orderly end");
    let entries = scene.entries();
    assert_eq!(with_verdict(&entries, treeline_event::Verdict::Deny).len(), 1);
    assert!(matches!(notices(&entries).last(), Some(Notice::Stopped { reason }) if reason.contains("TERM")));
    let verified = scene.ask(&["log", "verify"]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
}

#[test]
fn claude_code_is_found_and_its_session_says_so() {
    let test = "claude_code_is_found_and_its_session_says_so";
    if !is_permitted(test) {
        return;
    }
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(claude::INSTALL_DIR);
    let program = claude::binary(&installed);
    if !program.is_file() {
        eprintln!("skipped: {test}: Claude Code is not installed; `cargo xtask demo` installs it");
        return;
    }
    let scene = Scene::new();
    scene.policy(KEYS);
    let path = scene.path("bin");
    fs::create_dir(&path).expect("a directory");
    std::os::unix::fs::symlink(&program, path.join("claude")).expect("a link");
    let mut daemon = scene.daemon("");
    let run = |daemon: &Daemon| {
        let mut command = daemon.command(&["claude", "--version"]);
        // Nothing of whoever runs the test reaches it.
        command
            .env_clear()
            .env("TREELINE_CONFIG", scene.path("treeline.toml"))
            .env("HOME", scene.path("home"));
        command.env("PATH", format!("{}:/usr/bin:/bin", path.display()));
        let ran = command.output().expect("the binary runs");
        let words = String::from_utf8_lossy(&ran.stdout).into_owned();
        let errors = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(ran.status.success() && words.contains("Claude Code"), "{words}{errors}");
    };
    run(&daemon);
    // Its 381 MB are being hashed now; nobody waited for that.
    let hashed = || {
        let entries = scene.entries();
        let of_claude = notices(&entries).filter(
            |notice| matches!(notice, Notice::ImageHashed { image } if hex(&image.digest) == claude::SHA256),
        );
        of_claude.count()
    };
    for _ in 0..300 {
        if hashed() > 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    daemon.signal(Signal::TERM);
    assert!(daemon.wait().expect("it ends").success());
    let mut daemon = scene.daemon("");
    run(&daemon);
    daemon.signal(Signal::TERM);
    assert!(daemon.wait().expect("it ends").success());
    let entries = scene.entries();
    let origins: Vec<_> = notices(&entries)
        .filter_map(|notice| match notice {
            Notice::SessionStarted { origin, command, .. } => Some((origin.as_str(), command.len())),
            _ => None,
        })
        .collect();
    assert_eq!(origins, [("claude", 2), ("claude", 2)]);
    assert_eq!(hashed(), 1, "it is hashed once, whatever restarts");
    let known: Vec<_> = actions(&entries)
        .filter(|(_, action)| **action == Action::Exec)
        .map(|(process, _)| hex(&process.program.image.digest))
        .filter(|digest| digest == claude::SHA256)
        .collect();
    assert_eq!(known.len(), 1, "the second start knows it at once");
}

fn hex(digest: &Digest) -> String {
    digest.to_string()
}

#[test]
fn a_terminal_is_passed_on() {
    if !is_permitted("a_terminal_is_passed_on") {
        return;
    }
    if Command::new("script").arg("--version").output().is_err() {
        eprintln!("skipped: a_terminal_is_passed_on: `script` of bsdutils is not installed");
        return;
    }
    let scene = Scene::new();
    scene.policy(KEYS);
    let daemon = scene.daemon("");
    let inner = "tty; ps -o stat= -p $$; stty size";
    let under = |prefix: &str| {
        let command = format!("{prefix}/bin/bash -c \"{inner}\"");
        let output = Command::new("script")
            .args(["-qec", &command, "/dev/null"])
            .env("TREELINE_CONFIG", scene.path("treeline.toml"))
            .stdin(std::process::Stdio::null())
            .output()
            .expect("script runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        // The terminal has another number each time.
        text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    let with = under(&format!("{} run -- ", binary().display()));
    assert_eq!(with, under(""), "foreground, session leadership and window size");
    drop(daemon);
}

#[test]
fn a_user_runs_sees_own_sessions_and_no_others() {
    if !is_permitted("a_user_runs_sees_own_sessions_and_no_others") {
        return;
    }
    let scene = Scene::new();
    fs::set_permissions(scene.path(""), fs::Permissions::from_mode(0o755)).expect("readable");
    scene.policy(KEYS);
    // The group of `nobody`, so that the user of the test may talk to the daemon.
    let daemon = scene.daemon("socket_group = \"nogroup\"");
    let socket = scene.path("socket");
    let as_nobody = |arguments: &[&str]| {
        let mut command = daemon.command(arguments);
        command.env("TREELINE_SOCKET", &socket).current_dir("/").uid(65534).gid(65534);
        command.output().expect("the binary runs")
    };
    let ran = as_nobody(&["run", "--", "/bin/echo", "theirs"]);
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "theirs\n", "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(daemon.ask(&["run", "--", "/bin/echo", "ours"]).status.success());
    std::thread::sleep(Duration::from_millis(1500));
    let seen = as_nobody(&["events", "--json"]);
    let text = String::from_utf8_lossy(&seen.stdout).into_owned();
    assert!(
        text.contains("theirs") && !text.contains("ours"),
        "{text}{}",
        String::from_utf8_lossy(&seen.stderr)
    );
    let all = daemon.ask(&["events", "--json"]);
    let text = String::from_utf8_lossy(&all.stdout).into_owned();
    assert!(text.contains("theirs") && text.contains("ours"), "root sees all");
    let adopted = as_nobody(&["adopt", "1"]);
    assert_eq!(adopted.status.code(), Some(2), "nobody may not adopt what belongs to others");
}

#[test]
fn a_running_process_is_adopted_with_its_children() {
    if !is_permitted("a_running_process_is_adopted_with_its_children") {
        return;
    }
    let scene = Scene::new();
    scene.policy(KEYS);
    let daemon = scene.daemon("");
    let home = scene.path("home").display().to_string();
    let script = format!(
        "(while [ ! -e {home}/go ]; do sleep 0.05; done; cat {home}/.ssh/id 2>{home}/err; /bin/true CHILD) & wait"
    );
    let mut agent = Command::new("/bin/bash").args(["-c", &script]).spawn().expect("a shell");
    std::thread::sleep(Duration::from_millis(300));
    let adopted = daemon.ask(&["adopt", &agent.id().to_string()]);
    assert!(adopted.status.success(), "{}", String::from_utf8_lossy(&adopted.stderr));
    fs::write(scene.path("home/go"), "").expect("a file");
    agent.wait().expect("it ends");
    let words = fs::read_to_string(scene.path("home/err")).expect("what cat said");
    assert!(words.contains("not permitted"), "{words}");
    assert!(records_child(&scene), "what an adopted process's children do is recorded");
}

/// Whether the exec of the program that was marked `CHILD` comes into the log, which takes a while on a busy machine.
fn records_child(scene: &Scene) -> bool {
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(20) {
        let found = actions(&scene.entries()).any(|(process, action)| {
            *action == Action::Exec
                && process.program.argv.iter().any(|argument| argument.to_string() == "CHILD")
        });
        if found {
            return true;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    false
}

/// A process whose second thread replaces the image, while the first one sleeps or has ended. The thread makes no
/// system call between the adoption and the exec: it waits in memory that it shares with the test.
const THREADS: &str = r#"
import ctypes, mmap, os, sys, threading, time
home, leader = sys.argv[1:]
flag = mmap.mmap(os.open(home + "/flag", os.O_RDWR), 1)
def execute():
    while flag[0] == 0: pass
    os.execv("/bin/sh", ["sh", "-c", f"cat {home}/.ssh/id >{home}/out 2>&1; /bin/true CHILD"])
threading.Thread(target=execute).start()
open(home + "/ready", "w").close()
if leader == "ends": ctypes.CDLL(None).syscall(60, 0)
time.sleep(60)
"#;

#[test]
fn a_thread_of_an_adopted_process_that_executes() {
    if !is_permitted("a_thread_of_an_adopted_process_that_executes") {
        return;
    }
    for leader in ["sleeps", "ends"] {
        let scene = Scene::new();
        scene.policy(KEYS);
        let daemon = scene.daemon("");
        fs::write(scene.path("home/flag"), [0]).expect("a file");
        let mut agent = Command::new("python3")
            .args(["-c", THREADS])
            .args([scene.path("home").as_os_str(), leader.as_ref()])
            .spawn()
            .expect("python3 runs");
        while !scene.path("home/ready").exists() {
            assert!(matches!(agent.try_wait(), Ok(None)), "it waits to be adopted");
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(Duration::from_millis(200));
        let adopted = daemon.ask(&["adopt", &agent.id().to_string()]);
        assert!(adopted.status.success(), "{}", String::from_utf8_lossy(&adopted.stderr));
        // Not truncated first: the page is shared.
        let flag = fs::OpenOptions::new().write(true).open(scene.path("home/flag")).expect("the file");
        std::os::unix::fs::FileExt::write_all_at(&flag, &[1], 0).expect("a byte");
        agent.wait().expect("it ends");
        let out = fs::read_to_string(scene.path("home/out")).expect("what cat said");
        assert!(out.contains("not permitted"), "the first thread {leader}: {out}");
        assert!(records_child(&scene), "the first thread {leader}: what the new image starts is recorded");
    }
}

#[test]
fn the_policy_is_replaced_whole_or_not_at_all() {
    if !is_permitted("the_policy_is_replaced_whole_or_not_at_all") {
        return;
    }
    let scene = Scene::new();
    let path = scene.policy(KEYS);
    let daemon = scene.daemon("");
    let key = scene.path("home/.ssh/id").display().to_string();
    let reads = || daemon.ask(&["run", "--", "/bin/cat", &key]).status.success();
    assert!(!reads(), "the first policy refuses");
    fs::write(&path, "version: 1\nname: broken\nrules:\n  - id: x\n    knid: file\n").expect("a file");
    let reloaded = daemon.ask(&["reload"]);
    let words = String::from_utf8_lossy(&reloaded.stderr).into_owned();
    assert_eq!(reloaded.status.code(), Some(1), "{words}");
    assert!(words.contains("policy.yaml:5:5") && words.contains("kind"), "place and suggestion: {words}");
    assert!(!reads(), "the last good policy stays");
    scene.policy("  - id: other\n    kind: file\n    paths: [\"@/other\"]\n    reason: Other.\n");
    assert!(daemon.ask(&["reload"]).status.success());
    assert!(reads(), "the new policy lets it");
    scene.policy(KEYS);
    daemon.signal(Signal::HUP);
    let refused = (0..50).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        !reads()
    });
    assert!(refused, "SIGHUP reads the policy again");
}

/// The capabilities that the unit leaves the daemon, as setpriv names them.
fn capabilities_of_the_unit() -> String {
    let unit = include_str!("../../../packaging/systemd/treeline.service");
    let line =
        unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).expect("a bounding set");
    let kept: Vec<_> = line.split(' ').map(|name| name.replace("CAP_", "+").to_lowercase()).collect();
    format!("-all,{}", kept.join(","))
}

#[test]
fn systemd_hears_of_it_and_its_unit_leaves_enough_rights() {
    if !is_permitted("systemd_hears_of_it_and_its_unit_leaves_enough_rights") {
        return;
    }
    let scene = Scene::new();
    scene.policy(KEYS);
    let socket = scene.path("notify");
    let systemd = UnixDatagram::bind(&socket).expect("a socket");
    systemd.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    let mut command = Command::new("setpriv");
    command.args(["--no-new-privs", "--bounding-set", &capabilities_of_the_unit()]).arg(binary());
    command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "30000000");
    let mut daemon = scene.daemon_under("", &mut command);
    let next = || {
        let mut message = [0; 4096];
        let len = systemd.recv(&mut message).expect("a message within half a minute");
        String::from_utf8_lossy(&message[..len]).into_owned()
    };
    let heard = |wanted: &str| (0..1000).map(|_| next()).find(|message| message.contains(wanted));
    heard("READY=1").expect("it says that it is ready");
    heard("WATCHDOG=1").expect("it feeds the watchdog");
    heard("STATUS=").expect("it has a status line");
    let key = scene.path("home/.ssh/id").display().to_string();
    let ran = daemon.ask(&["run", "--", "/bin/bash", "-c", &format!("cat {key}; /bin/true MARK")]);
    assert!(String::from_utf8_lossy(&ran.stderr).contains("not permitted"), "it enforces with those rights");
    daemon.signal(Signal::TERM);
    heard("STOPPING=1").expect("it says that it stops");
    assert!(daemon.wait().expect("it ends").success());
    assert!(!scene.path("socket").exists(), "nobody can find a socket that nobody serves");
    let entries = scene.entries();
    let hashed = notices(&entries).any(|notice| {
        matches!(notice, Notice::ImageHashed { image } if matches!(image.digest, treeline_event::Digest::Sha256(_)))
    });
    assert!(hashed, "it may read what was executed");
}

#[test]
fn a_moved_key_stays_protected_when_the_policy_is_read_again() {
    if !is_permitted("a_moved_key_stays_protected_when_the_policy_is_read_again") {
        return;
    }
    let scene = Scene::new();
    scene.policy(KEYS);
    let daemon = scene.daemon("");
    let home = scene.path("home").display().to_string();
    let script = format!(
        "cd {home}; mv .ssh/id moved; cat moved; touch ready; for n in $(seq 200); do [ -e go ] && break; sleep 0.1; done; cat \
         moved"
    );
    let mut session = daemon.command(&["run", "--", "/bin/bash", "-c", &script]);
    let session = session.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a session");
    for _ in 0..200 {
        if scene.path("home/ready").exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(daemon.ask(&["reload"]).status.success());
    fs::write(scene.path("home/go"), "").expect("a file");
    let ran = session.wait_with_output().expect("it ends");
    let words = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "", "{words}");
    assert_eq!(words.matches("not permitted").count(), 2, "{words}");
}

#[test]
fn every_refusal_is_recorded_or_counted_while_the_policy_is_replaced() {
    if !is_permitted("every_refusal_is_recorded_or_counted_while_the_policy_is_replaced") {
        return;
    }
    let scene = Scene::new();
    scene.policy(KEYS);
    let mut daemon = scene.daemon("");
    let key = scene.path("home/.ssh/id").display().to_string();
    let script = format!(
        "import time\nend, refused = time.time() + 4, 0\nwhile time.time() < end:\n  try: open('{key}')\n  except \
         PermissionError: refused += 1\nprint(refused)"
    );
    let mut session = daemon.command(&["run", "--", "python3", "-c", &script]);
    let session = session.stdout(Stdio::piped()).spawn().expect("a session");
    for _ in 0..10 {
        assert!(daemon.ask(&["reload"]).status.success());
        std::thread::sleep(Duration::from_millis(200));
    }
    let ran = session.wait_with_output().expect("it ends");
    let refused: u64 = String::from_utf8_lossy(&ran.stdout).trim().parse().expect("a number");
    daemon.signal(Signal::TERM);
    assert!(daemon.wait().expect("it ends").success());
    let entries = scene.entries();
    // A slow daemon (without optimisation, or on a machine under load) falls behind such a flood and says by how much.
    let lost: u64 = notices(&entries)
        .filter_map(|notice| match notice {
            Notice::Lost { kind, count, .. } if kind == "open" => Some(*count),
            _ => None,
        })
        .sum();
    let recorded = with_verdict(&entries, treeline_event::Verdict::Deny).len() as u64;
    assert_eq!(recorded + lost, refused, "{recorded} recorded, {lost} counted as lost");
    assert!(recorded > 0);
    let let_through = entries.iter().filter(|entry| {
        let text = format!("{:?}", entry.body);
        text.contains("Errno(1)") && text.contains("verdict: Allow")
    });
    assert_eq!(let_through.count(), 0, "no refusal is called allowed");
}

#[test]
fn a_second_daemon_and_a_killed_one() {
    if !is_permitted("a_second_daemon_and_a_killed_one") {
        return;
    }
    let scene = Scene::new();
    scene.policy(KEYS);
    let mut daemon = scene.daemon("");
    let second = daemon.ask(&["daemon"]);
    let words = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(2), "{words}");
    assert!(words.contains(&daemon.pid().to_string()), "the first one is named: {words}");
    assert!(daemon.ask(&["run", "--", "/bin/true", "BEFORE"]).status.success());
    std::thread::sleep(Duration::from_millis(1500));
    daemon.signal(Signal::KILL);
    daemon.wait().expect("it ends");
    let gone = daemon.ask(&["run", "--", "/bin/true"]);
    assert_eq!(gone.status.code(), Some(2), "without a daemon nothing runs");
    let words = String::from_utf8_lossy(&gone.stderr).into_owned();
    assert!(words.contains("hint"), "{words}");
    let daemon = scene.daemon("");
    assert!(daemon.ask(&["run", "--", "/bin/true", "AFTER"]).status.success());
    std::thread::sleep(Duration::from_millis(300));
    drop(daemon);
    let entries = scene.entries();
    for mark in ["BEFORE", "AFTER"] {
        let seen = actions(&entries)
            .any(|(process, _)| process.program.argv.iter().any(|argument| argument.to_string() == mark));
        assert!(seen, "{mark} is in the log");
    }
    let verified = scene.ask(&["log", "verify"]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
}
