//! A label follows a process wherever it goes.

use treeline_event::Action;
use treeline_tests::sensor::{Ran, Scene, actions, is_permitted};

const NONE: &str = "  - id: keys\n    kind: file\n    paths: [\"@/.ssh/**\"]\n    reason: Keys.\n";

/// Whether the marked program (`true MARK`) was seen in the one session of the log.
fn saw(ran: &Ran, mark: &str) -> bool {
    let sessions: std::collections::BTreeSet<_> =
        ran.entries.iter().filter_map(|entry| entry.session).collect();
    assert_eq!(sessions.len(), 1, "one run is one session");
    actions(&ran.entries).any(|(process, action)| {
        *action == Action::Exec && process.program.argv.iter().any(|argument| argument.to_string() == mark)
    })
}

#[track_caller]
fn check(test: &str, script: &str) {
    if !is_permitted(test) {
        return;
    }
    let scene = Scene::new();
    let policy = scene.policy(NONE);
    let ran = scene.standalone(&policy, &format!("{script}\nsleep 0.7"));
    assert!(saw(&ran, "MARK"), "the process is still in its session\n{}", ran.stderr());
    let denied = ran.denials();
    assert!(!denied.is_empty(), "and still under the policy");
    let stdout = ran.stdout();
    assert!(!stdout.contains("KEY"), "{stdout}");
}

#[test]
fn double_fork_setsid_and_closed_stdin() {
    let script = "( ( setsid sh -c 'sleep 0.2; /bin/true MARK; cat .ssh/id' <&- >/dev/null 2>&1 & ) & )";
    check("double_fork_setsid_and_closed_stdin", script);
}

#[test]
fn reparenting_to_init() {
    let script = "python3 -c '
import os, time
if os.fork() == 0:
    if os.fork() == 0:
        while os.getppid() == os.getpgrp(): time.sleep(0.01)
        time.sleep(0.2)
        os.system(\"/bin/true MARK; cat .ssh/id\")
    os._exit(0)
'";
    check("reparenting_to_init", script);
}

#[test]
fn unshared_namespaces() {
    check(
        "unshared_namespaces",
        "unshare --user --map-root-user --mount --pid --fork sh -c '/bin/true MARK; cat .ssh/id'",
    );
}

#[test]
fn a_cgroup_move() {
    if !is_permitted("a_cgroup_move") {
        return;
    }
    let Some(root) = cgroup2() else {
        eprintln!("skipped: a_cgroup_move: cgroup2 is not mounted");
        return;
    };
    let group = format!("{root}/treeline-e2e-{}", std::process::id());
    let script = format!(
        "mkdir {group} && sh -c 'echo $$ > {group}/cgroup.procs; /bin/true MARK; cat .ssh/id'; sleep 0.1; rmdir {group}"
    );
    check("a_cgroup_move", &script);
    assert!(!std::path::Path::new(&group).exists(), "the test cleans up");
}

fn cgroup2() -> Option<String> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .find(|fields| fields[2] == "cgroup2")
        .map(|fields| fields[1].to_owned())
}

#[test]
fn a_thread_that_executes() {
    let script = "python3 -c '
import threading, os
t = threading.Thread(target=lambda: os.execv(\"/bin/sh\", [\"sh\", \"-c\", \"/bin/true MARK; cat .ssh/id\"]))
t.start(); t.join()
'";
    check("a_thread_that_executes", script);
}
