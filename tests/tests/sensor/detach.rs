//! `treeline daemon --detach-all`: from inside of a session it is refused, whether a daemon runs or not, and the log says
//! who asked.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use rustix::process::Signal;
use treeline_event::{Action, Entry, Notice, SELF_RULE, Verdict};
use treeline_tests::sensor::{Scene, actions, binary, is_permitted, notices, with_verdict};

const POLICY: &str =
    "  - id: keys\n    kind: file\n    paths: [\"@/.ssh/**\"]\n    reason: Keys are not for agents.\n";

/// A bpffs of the test's own. What is pinned in it goes with it.
struct Bpffs(PathBuf);

impl Bpffs {
    fn mount(at: PathBuf) -> Option<Self> {
        fs::create_dir(&at).expect("a directory");
        let mounted = Command::new("mount").args(["-t", "bpf", "bpf"]).arg(&at).status();
        mounted.is_ok_and(|status| status.success()).then_some(Self(at))
    }

    fn pins(&self) -> PathBuf {
        self.0.join("pins")
    }

    fn sets(&self) -> usize {
        fs::read_dir(self.pins()).map_or(0, Iterator::count)
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_session_cannot_detach_what_guards_it() {
    let test = "a_session_cannot_detach_what_guards_it";
    if !is_permitted(test) {
        return;
    }
    let scene = Scene::new();
    let Some(bpffs) = Bpffs::mount(scene.path("bpf")) else {
        eprintln!("skipped: {test}: no bpffs can be mounted");
        return;
    };
    scene.policy(POLICY);
    let pins = format!("pin_dir = \"{}\"", bpffs.pins().display());
    let mut daemon = scene.daemon(&pins);
    let treeline = binary().display().to_string();
    check_refusal(&daemon.ask(&["run", "--", &treeline, "daemon", "--detach-all"]));
    assert_eq!(bpffs.sets(), 1, "nothing was removed");

    // Marks go with the daemon; who is in a session does not.
    let (ready, go) = (scene.path("ready"), scene.path("go"));
    let script = format!(
        "touch {}; until [ -e {} ]; do sleep 0.1; done; exec {treeline} daemon --detach-all",
        ready.display(),
        go.display()
    );
    let mut session = daemon.command(&["run", "--", "/bin/bash", "-c", &script]);
    let session = session.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a session");
    wait_for(&ready);
    // What it has read is in the log by then.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    daemon.signal(Signal::KILL);
    daemon.wait().expect("it ends");
    fs::write(&go, "").expect("a file");
    check_refusal(&session.wait_with_output().expect("it ends"));
    assert_eq!(bpffs.sets(), 1, "nothing was removed");

    let detached = daemon.ask(&["daemon", "--detach-all"]);
    assert!(detached.status.success(), "{}", String::from_utf8_lossy(&detached.stderr));
    assert_eq!(bpffs.sets(), 0);
    check_log(&scene.entries());
    let verified = scene.ask(&["log", "verify"]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
}

fn check_refusal(ran: &Output) {
    let words = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert_eq!(ran.status.code(), Some(2), "{words}");
    assert!(words.contains("a session cannot take away what it is guarded by"), "{words}");
    assert!(words.contains("outside of every session"), "the next step: {words}");
}

fn check_log(entries: &[Entry]) {
    let denied = with_verdict(entries, Verdict::Deny);
    let by_itself: Vec<&Action> =
        denied.iter().filter(|(_, rule)| rule.rule == SELF_RULE).map(|(action, _)| *action).collect();
    assert!(
        matches!(by_itself[..], [Action::Open { .. }, Action::Tamper { .. }]),
        "once by the daemon and once without it: {by_itself:?}"
    );
    for action in by_itself {
        let by = actions(entries).find(|(_, one)| *one == action).map(|(process, _)| process);
        let words =
            by.map(|process| process.program.argv.iter().map(ToString::to_string).collect::<Vec<_>>());
        let asked = words.as_ref().and_then(|words| words.last());
        assert_eq!(asked.map(String::as_str), Some("--detach-all"), "{words:?}");
    }
    let said = notices(entries).any(|notice| {
        matches!(notice, Notice::Stopped { reason }
            if reason.starts_with("--detach-all") && reason.contains("asked for by process"))
    });
    assert!(said, "the removal is in the log");
}

fn wait_for(path: &Path) {
    for _ in 0..600 {
        if path.exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("{} does not appear", path.display());
}
