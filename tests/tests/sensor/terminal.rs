//! What a person at a terminal has: Ctrl-C, Ctrl-Z, `fg`, `nohup`, and the exit status, as without Treeline.

use std::{
    fs,
    process::{Command, Stdio},
    sync::mpsc::sync_channel,
    time::{Duration, Instant},
};

use treeline_tests::{
    sensor::{Scene, binary, is_permitted, notices},
    terminal::Terminal,
};

const KEYS: &str =
    "  - id: keys\n    kind: file\n    paths: [\"@/.ssh/**\"]\n    reason: Keys are not for agents.\n";

const INTERRUPT: &str = "\u{3}";
const SUSPEND: &str = "\u{1a}";

/// How `run` is called for a sensor of its own.
fn standalone(scene: &Scene) -> String {
    let path = |name| scene.path(name).display().to_string();
    let (policy, log, state) = (path("policy.yaml"), path("log"), path("state"));
    let treeline = binary().display().to_string();
    format!("{treeline} run --standalone --mode fallback --policy {policy} --log {log} --state {state} --")
}

/// What has to hold for every way to launch. The quotes keep the typed words from looking like the printed ones.
fn check_jobs(terminal: &mut Terminal, run: &str, while_stopped: impl FnOnce()) {
    terminal.press(&format!("{run} bash -c 'echo run\"\"ning; sleep 100'\n"));
    terminal.expect("running");
    terminal.press(INTERRUPT);
    // An interrupt also ends a list of commands, so this is one of its own.
    terminal.press("echo co\"\"de:$?\n");
    terminal.expect("code:130");

    terminal.press(&format!("{run} bash -c 'echo run\"\"ning; read line; echo go\"\"t:$line; exit 7'\n"));
    terminal.expect("running");
    terminal.press(SUSPEND);
    terminal.expect("Stopped");
    while_stopped();
    terminal.press("fg; echo co\"\"de:$?\n");
    terminal.press("word\n");
    terminal.expect("got:word");
    terminal.expect("code:7");

    // A command that stops itself, as full-screen programs do after they have put the terminal in order.
    terminal.press(&format!("{run} bash -c 'trap \"\" TSTP; echo run\"\"ning; kill -STOP $$; exit 8'\n"));
    terminal.expect("running");
    terminal.expect("Stopped");
    terminal.press("fg; echo co\"\"de:$?\n");
    terminal.expect("code:8");

    // One that does not want to be stopped, and is killed as a job.
    terminal.press(&format!(
        "{run} bash -c 'trap \"\" TSTP; echo run\"\"ning; read line; exit 9'; echo co\"\"de:$?\n"
    ));
    terminal.expect("running");
    terminal.press(SUSPEND);
    terminal.press("word\n");
    terminal.expect("code:9");
    terminal.press(&format!("{run} bash -c 'echo run\"\"ning; sleep 100'\n"));
    terminal.expect("running");
    terminal.press(SUSPEND);
    terminal.expect("Stopped");
    terminal.press("kill %1; while [ -n \"$(jobs -rp; jobs -sp)\" ]; do sleep 0.1; done\n");
    terminal.expect("Terminated");
}

#[test]
fn jobs_through_the_daemon() {
    if !is_permitted("jobs_through_the_daemon") {
        return;
    }
    let scene = Scene::new();
    scene.policy(KEYS);
    let daemon = scene.daemon("");
    let config = scene.path("treeline.toml");
    let mut terminal = Terminal::new(&scene.path("home"), &[("TREELINE_CONFIG", config.as_path())]);
    check_jobs(&mut terminal, &format!("{} run --", binary().display()), || {});
    drop(terminal);
    drop(daemon);
}

#[test]
fn jobs_with_a_sensor_of_their_own() {
    if !is_permitted("jobs_with_a_sensor_of_their_own") {
        return;
    }
    let scene = Scene::new();
    scene.policy(KEYS);
    let mut terminal = Terminal::new(&scene.path("home"), &[]);
    let key = scene.path("home/.ssh/id");
    check_jobs(&mut terminal, &standalone(&scene), || {
        // Everybody else on the machine: the sensor has to answer although the job is stopped.
        let (read, done) = sync_channel(1);
        std::thread::spawn(move || read.send(fs::read_to_string(key)));
        let words = done.recv_timeout(Duration::from_secs(20)).expect("the sensor answers");
        assert_eq!(words.expect("it is not for them"), "KEY\n");
    });
    drop(terminal);
    assert!(scene.ask(&["log", "verify"]).status.success());
}

fn wait_for(what: &str, done: &dyn Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_command_that_somebody_continues_takes_its_launcher_along() {
    if !is_permitted("a_command_that_somebody_continues_takes_its_launcher_along") {
        return;
    }
    let scene = Scene::new();
    scene.policy(KEYS);
    let file = scene.path("home/pid");
    let script = format!("echo $$ > {0}.new; mv {0}.new {0}; kill -STOP $$; exit 5", file.display());
    let mut launcher = Command::new("sh")
        .args(["-c", &format!("exec {} bash -c \"$0\"", standalone(&scene)), &script])
        .stdin(Stdio::null())
        .env_remove("LD_LIBRARY_PATH")
        .spawn()
        .expect("a shell");
    let is_stopped = |pid: &str| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    };
    wait_for("the command starts", &|| file.exists());
    let command = fs::read_to_string(&file).expect("its pid");
    let (command, id) = (command.trim(), launcher.id().to_string());
    wait_for("both stop", &|| is_stopped(command) && is_stopped(&id));
    let pid = command.parse().ok().and_then(rustix::process::Pid::from_raw).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).expect("it is stopped");
    wait_for("the launcher goes on", &|| !is_stopped(&id));
    assert_eq!(launcher.wait().expect("it ends").code(), Some(5));
}

#[test]
fn without_its_launcher_the_sensor_stays_until_the_command_has_ended() {
    if !is_permitted("without_its_launcher_the_sensor_stays_until_the_command_has_ended") {
        return;
    }
    let scene = Scene::new();
    scene.policy(KEYS);
    let (started, go) = (scene.path("home/started"), scene.path("home/go"));
    let script = format!(
        "touch {0}/started; while [ ! -e {0}/go ]; do sleep 0.05; done; cat {0}/.ssh/id 2>{0}/err",
        scene.path("home").display()
    );
    let mut launcher = Command::new("sh")
        .args(["-c", &format!("exec {} bash -c \"$0\"", standalone(&scene)), &script])
        .stdin(Stdio::null())
        .env_remove("LD_LIBRARY_PATH")
        .spawn()
        .expect("a shell");
    wait_for("the command starts", &|| started.exists());
    launcher.kill().and_then(|()| launcher.wait()).expect("it is ours");
    fs::write(&go, "").expect("a file");
    let stopped = || {
        let entries = scene.entries();
        notices(&entries).any(|notice| matches!(notice, treeline_event::Notice::Stopped { .. }))
    };
    wait_for("the sensor ends in order", &stopped);
    let words = fs::read_to_string(scene.path("home/err")).expect("what cat said");
    assert!(words.contains("not permitted"), "it was enforced until the end: {words}");
    assert!(scene.ask(&["log", "verify"]).status.success());
}

#[test]
fn ignored_signals_stay_ignored() {
    if !is_permitted("ignored_signals_stay_ignored") {
        return;
    }
    let scene = Scene::new();
    scene.policy(KEYS);
    let read = "grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status";
    let dispositions = |script: &str| {
        let output = Command::new("sh")
            .args(["-c", &format!("exec env {script}")])
            .env_remove("LD_LIBRARY_PATH")
            .output()
            .expect("`env` of coreutils");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let run = standalone(&scene);
    for before in [
        "",
        "--ignore-signal=HUP,INT,QUIT,TERM,USR1,USR2,TSTP,TTIN,CHLD,PIPE",
        "--ignore-signal=HUP --block-signal=USR2,TERM",
    ] {
        let without = dispositions(&format!("{before} {read}"));
        assert_eq!(dispositions(&format!("{before} {run} {read}")), without, "{before}");
    }
}
