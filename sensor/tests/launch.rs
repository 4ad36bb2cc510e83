//! `treeline run` as its users have it, as far as no kernel programs are needed.

use std::{
    fs,
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{Command, Output},
};

fn treeline(config: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_treeline"))
        .args(["--config", config.to_str().expect("a UTF-8 path")])
        .args(arguments)
        .env_remove("TREELINE_SOCKET")
        .output()
        .expect("treeline can be executed")
}

fn config(dir: &Path, when_unavailable: &str) -> std::path::PathBuf {
    let path = dir.join("treeline.toml");
    let text =
        format!("socket = \"{}/none.sock\"\nwhen_unavailable = \"{when_unavailable}\"\n", dir.display());
    fs::write(&path, text).expect("a configuration");
    path
}

#[test]
fn without_a_daemon_nothing_runs_and_the_error_says_what_to_do() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let output = treeline(&config(dir.path(), "refuse"), &["run", "--", "echo", "ran"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(2), &b""[..]), "{stderr}");
    assert!(stderr.starts_with("treeline: error: ") && stderr.contains("none.sock"), "{stderr}");
    assert!(stderr.contains("\nhint: start the daemon (`systemctl start treeline`)"), "{stderr}");
}

#[test]
fn when_the_administrator_allows_it_the_command_runs_unobserved() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let config = config(dir.path(), "run_unobserved");
    let check = |script: &str, code: Option<i32>, signal: Option<i32>, stdout: &str| {
        let output = treeline(&config, &["run", "--", "sh", "-c", script]);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), output.status.signal()), (code, signal), "{stderr}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), stdout);
        assert!(stderr.contains("runs unobserved"), "{stderr}");
    };
    check("echo out; exit 7", Some(7), None, "out\n");
    check("kill -TERM $$", None, Some(15), "");
    check("kill -PIPE $$", None, Some(13), "");
    // Nothing but what it would inherit without Treeline.
    let count = "ls /proc/self/fd | wc -l";
    let without = Command::new("sh").args(["-c", count]).output().expect("a shell");
    check(count, Some(0), None, &String::from_utf8_lossy(&without.stdout));
    check("echo ${TREELINE_SESSION-none}", Some(0), None, "none\n");
}

#[test]
fn a_daemon_that_fails_is_not_a_daemon_that_is_not_there() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let config = config(dir.path(), "run_unobserved");
    let listener = std::os::unix::net::UnixListener::bind(dir.path().join("none.sock")).expect("a socket");
    let daemon = std::thread::spawn(move || drop(listener.accept().expect("a connection")));
    let output = treeline(&config, &["run", "--", "echo", "ran"]);
    daemon.join().expect("it was called");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(2), &b""[..]), "{stderr}");
    // The listener is closed: now nobody serves the socket that is still there.
    let output = treeline(&config, &["run", "--", "echo", "ran"]);
    assert_eq!(output.stdout, b"ran\n", "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn signals_are_handled_as_without_treeline() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let config = config(dir.path(), "run_unobserved");
    let run = [env!("CARGO_BIN_EXE_treeline"), "--config", config.to_str().expect("UTF-8"), "run", "--"];
    let read = ["grep", "-E", "^Sig(Blk|Ign|Cgt)", "/proc/self/status"];
    let dispositions = |before: &[&str], command: &[&str]| {
        let output = Command::new("env").args(before).args(command).output().expect("`env` of coreutils");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    for before in [
        &[][..],
        &["--ignore-signal=PIPE"],
        &["--ignore-signal=HUP,INT,QUIT,TERM,USR1,CHLD,TSTP"],
        &["--ignore-signal=PIPE,HUP", "--block-signal=USR2,TERM"],
    ] {
        let without = dispositions(before, &read);
        assert_eq!(dispositions(before, &[&run[..], &read].concat()), without, "{before:?}");
    }
}

#[test]
fn commands_that_cannot_be_executed_end_as_in_a_shell() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let config = config(dir.path(), "run_unobserved");
    let plain = dir.path().join("plain");
    fs::write(&plain, "no program").expect("a file");
    for (command, code) in
        [("/nonexistent/x", 127), ("no-such-command-at-all", 127), (plain.to_str().expect("UTF-8"), 126)]
    {
        let output = treeline(&config, &["run", "--", command]);
        assert_eq!(output.status.code(), Some(code), "{command}");
    }
}

#[test]
fn configuration_errors_have_a_place() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("treeline.toml");
    fs::write(&path, "\nsokcet = 1\n").expect("a configuration");
    let output = treeline(&path, &["run", "true"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr.contains("treeline.toml:2:1: unknown field `sokcet`"), "{stderr}");
}
