//! A policy that is learned from a session lets it pass, and nothing else.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Output,
};

use treeline_tests::sensor::{Scene, is_permitted};

/// Everything goes on.
const NOTHING: &str =
    "  - id: nothing\n    kind: file\n    mode: monitor\n    paths: [\"@/nothing\"]\n    reason: Nothing.\n";

fn port(listener: &TcpListener) -> u16 {
    listener.local_addr().expect("an address").port()
}

/// Learns from the scene's log.
fn learn(scene: &Scene, arguments: &[&str]) -> (PathBuf, Output) {
    let home = scene.path("home").display().to_string();
    let all: Vec<&str> = ["learn", "--home", &home].into_iter().chain(arguments.iter().copied()).collect();
    let output = scene.ask(&all);
    let path = scene.path("learned.yaml");
    fs::write(&path, &output.stdout).expect("a file");
    (path, output)
}

/// How often a policy would refuse or record what the scene's log has.
fn findings(scene: &Scene, policy: &Path) -> u64 {
    let (home, policy) = (scene.path("home").display().to_string(), policy.display().to_string());
    let output = scene.ask(&["policy", "replay", &policy, "--json", "--home", &home]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let count = |what: &str| report[what]["times"].as_u64().expect("a number");
    count("would_deny") + count("would_record")
}

#[test]
fn what_was_learned_lets_the_session_pass_and_nothing_else() {
    if !is_permitted("what_was_learned_lets_the_session_pass_and_nothing_else") {
        return;
    }
    let listen = || TcpListener::bind("127.0.0.1:0").expect("a port");
    let (known, other) = (listen(), listen());
    let scene = Scene::new();
    let connect = |port: u16| format!("exec 3<>/dev/tcp/127.0.0.1/{port} && echo connected");
    let ran =
        scene.standalone(&scene.policy(NOTHING), &format!("{}; cat .ssh/id > copy", connect(port(&known))));
    assert_eq!(ran.stdout(), "connected\n", "{}", ran.stderr());

    // In this attach mode a default for connects is enforced, and one for files is not.
    let (policy, output) = learn(&scene, &["--kinds", "connect", "--mode", "enforce"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(findings(&scene, &policy), 0);
    let again = scene.standalone(&policy, &connect(port(&known)));
    assert_eq!(again.stdout(), "connected\n", "{}", again.stderr());
    let refused = scene.standalone(&policy, &connect(port(&other)));
    assert!(refused.stdout().is_empty(), "{}", refused.stdout());
    assert!(refused.stderr().contains("Operation not permitted"), "{}", refused.stderr());
    assert_eq!(refused.denials().len(), 1, "{:?}", refused.denials());
}

#[test]
fn a_trial_of_everything_is_valid_and_keeps_secrets_out() {
    if !is_permitted("a_trial_of_everything_is_valid_and_keeps_secrets_out") {
        return;
    }
    let scene = Scene::new();
    let work =
        "mkdir -p work; for n in 1 2 3; do echo $n > work/file-$n; done; cat work/file-1; rm work/file-2";
    let ran = scene.standalone(&scene.policy(NOTHING), &format!("{work}; cat .ssh/id"));
    assert!(ran.stdout().ends_with("KEY\n"), "{}", ran.stderr());
    let (policy, output) = learn(&scene, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("- ~/work/file-*") && text.contains("action: record"), "{text}");
    let secret = text.lines().filter(|line| line.contains(".ssh/id")).collect::<Vec<_>>();
    assert!(secret.len() == 1 && secret[0].starts_with("# read "), "{secret:?}");
    let name = policy.display().to_string();
    for verb in [&["policy", "check"][..], &["policy", "fmt", "--check"]] {
        let output =
            std::process::Command::new(treeline_tests::sensor::binary()).args(verb).arg(&name).output();
        let output = output.expect("the binary runs");
        assert!(output.status.success(), "{verb:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    // The key is recorded, and nothing else.
    assert_eq!(findings(&scene, &policy), 1);
}

#[test]
fn a_log_that_tells_nothing_is_said_to() {
    if !is_permitted("a_log_that_tells_nothing_is_said_to") {
        return;
    }
    let scene = Scene::new();
    let _ = scene.standalone(&scene.policy(NOTHING), "true");
    let (_, output) = learn(&scene, &["--since", "2999-01-01T00:00:00Z"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(words.contains("nothing was learned"), "{words}");
}
