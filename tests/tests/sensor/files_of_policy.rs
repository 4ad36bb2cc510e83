//! A policy in several files, and rules that end by themselves.

use std::{
    fs,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use treeline_event::Notice;
use treeline_policy::Moment;
use treeline_tests::sensor::{Daemon, Scene, is_permitted, notices};

const ROOT: &str = "version: 1\nname: e2e\ninclude: [common/keys.yaml]\n";

/// What `common/keys.yaml` has.
fn include(scene: &Scene, directory: &str) {
    let text = format!(
        "version: 1\nrules:\n  - id: keys\n    kind: file\n    paths: [\"{}/{directory}/**\"]\n    reason: r\n",
        scene.path("home").display()
    );
    fs::write(scene.path("common/keys.yaml"), text).expect("a file");
}

fn scene() -> Scene {
    let scene = Scene::new();
    fs::create_dir(scene.path("common")).expect("a directory");
    fs::write(scene.path("policy.yaml"), ROOT).expect("a policy");
    include(&scene, ".ssh");
    scene
}

/// Whether a session can read the key.
fn reads(daemon: &Daemon, scene: &Scene) -> bool {
    let key = scene.path("home/.ssh/id").display().to_string();
    daemon.ask(&["run", "--", "/bin/cat", &key]).status.success()
}

#[test]
fn a_policy_in_several_files_is_replaced_whole_or_not_at_all() {
    if !is_permitted("a_policy_in_several_files_is_replaced_whole_or_not_at_all") {
        return;
    }
    let scene = scene();
    let daemon = scene.daemon("");
    assert!(!reads(&daemon, &scene), "what is included is in force");
    let file = scene.path("common/keys.yaml").display().to_string();
    let write = daemon.ask(&["run", "--", "/bin/sh", "-c", &format!("echo '# x' >> {file}")]);
    assert!(!write.status.success(), "a session does not change what is included");
    include(&scene, "elsewhere");
    assert!(daemon.ask(&["reload"]).status.success());
    assert!(reads(&daemon, &scene), "another text of the same file is another policy");
    include(&scene, ".ssh");
    assert!(daemon.ask(&["reload"]).status.success());
    fs::write(&file, "version: 1\nrules:\n  - id: x\n    knid: file\n").expect("a file");
    let reloaded = daemon.ask(&["reload"]);
    let words = String::from_utf8_lossy(&reloaded.stderr).into_owned();
    assert_eq!(reloaded.status.code(), Some(1), "{words}");
    assert!(words.contains("common/keys.yaml:4:5"), "the place in the file: {words}");
    assert!(!reads(&daemon, &scene), "the last good policy stays");
    drop(daemon);
    fs::remove_file(&file).expect("it was there");
    let daemon = scene.daemon("");
    assert!(!reads(&daemon, &scene), "the copy has all files");
    let status = daemon.ask(&["status"]);
    let words = String::from_utf8_lossy(&status.stdout).into_owned();
    assert_eq!(status.status.code(), Some(1), "{words}");
    assert!(words.contains("common/keys.yaml"), "it is not what the files say, and why: {words}");
    include(&scene, ".ssh");
    assert!(daemon.ask(&["reload"]).status.success());
    assert!(daemon.ask(&["status"]).status.success(), "the files are in force");
}

#[test]
fn a_rule_ends_by_itself() {
    if !is_permitted("a_rule_ends_by_itself") {
        return;
    }
    let scene = Scene::new();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let (past, soon) = (Moment(now - 86_400), Moment(now + 8));
    let rule = |id: &str, path: &str, expires: Moment| {
        format!("  - {{id: {id}, kind: file, paths: [\"@/{path}\"], reason: r, expires: {expires}}}\n")
    };
    fs::write(scene.path("home/free"), "free").expect("a file");
    scene.policy(&(rule("ended", "free", past) + &rule("keys", ".ssh/**", soon)));
    let daemon = scene.daemon("");
    let free = scene.path("home/free").display().to_string();
    assert!(daemon.ask(&["run", "--", "/bin/cat", &free]).status.success(), "it has ended before");
    assert!(!reads(&daemon, &scene), "it has not ended yet");
    let started = Instant::now();
    while !reads(&daemon, &scene) {
        assert!(started.elapsed() < Duration::from_secs(60), "it ends");
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() >= soon.0);
    drop(daemon);
    let entries = scene.entries();
    let applied: Vec<_> = notices(&entries)
        .filter_map(|notice| match notice {
            Notice::PolicyApplied { sha256, rules, .. } => {
                Some((sha256, rules.iter().filter(|rule| !rule.rule.contains('/')).count()))
            }
            _ => None,
        })
        .collect();
    let rules: Vec<usize> = applied.iter().map(|(_, rules)| *rules).collect();
    assert_eq!((rules.first(), rules.last()), (Some(&1), Some(&0)), "{rules:?}");
    assert!(applied.iter().all(|(sha256, _)| *sha256 == applied[0].0), "of the same texts");
}
