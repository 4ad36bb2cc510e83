//! Whatever is wrong is named, with its place and what to do; what was recorded stays.

use std::{fs, process::Command};

use treeline_tests::{
    namespace,
    sensor::{Scene, binary, expect, is_permitted},
};

#[track_caller]
fn check(arguments: &[&str], code: i32, words: &[&str]) {
    let output = Command::new(binary()).args(arguments).output().expect("the binary runs");
    expect(output, code, words);
}

#[test]
fn policies() {
    let scene = Scene::new();
    let path = scene.path("bad.yaml");
    let name = path.display().to_string();
    fs::write(&path, "version: 1\nname: x\nmode: enforced\nrules: []\n").expect("a file");
    check(&["policy", "check", &name], 1, &["bad.yaml:3:7", "enforce"]);
    fs::write(&path, b"version: 1\n\xff").expect("a file");
    check(&["policy", "check", &name], 2, &["bad.yaml", "UTF-8", "byte 11"]);
    check(&["policy", "check", "/nonexistent.yaml"], 2, &["/nonexistent.yaml"]);
    check(&["policy", "chekc"], 2, &["check"]);
}

#[test]
fn shipped_policies_are_valid() {
    let policies = concat!(env!("CARGO_MANIFEST_DIR"), "/../policies");
    for entry in fs::read_dir(policies).expect("policies are shipped") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with(".yaml") && !name.ends_with(".test.yaml") {
            check(&["policy", "check", &path.display().to_string()], 0, &[]);
        }
    }
}

#[test]
fn configuration() {
    if !is_permitted("configuration") {
        return;
    }
    let scene = Scene::new();
    scene.policy("  - id: a\n    kind: file\n    paths: [\"@/x\"]\n    reason: r\n");
    let config = scene.config("sokcet_group = \"x\"");
    check(&["daemon", "--config", &config.display().to_string()], 2, &["treeline.toml", "sokcet_group"]);
}

#[test]
fn logs() {
    let scene = Scene::new();
    let log = scene.path("nothing").display().to_string();
    check(&["log", "verify", "--log", &log], 2, &["nothing"]);
    check(&["events", "--log", &log], 2, &["nothing"]);
}

#[test]
fn a_rule_that_cannot_be_enforced_is_an_error() {
    if !is_permitted("a_rule_that_cannot_be_enforced_is_an_error") {
        return;
    }
    let scene = Scene::new();
    let policy =
        scene.policy("  - id: everywhere\n    kind: file\n    paths: [\"/**/.env\"]\n    reason: r\n");
    let ran = scene.standalone(&policy, "echo ran");
    assert_eq!(ran.output.status.code(), Some(2));
    assert_eq!(ran.stdout(), "", "the command does not run");
    assert!(ran.stderr().contains("everywhere") && ran.stderr().contains("monitor"), "{}", ran.stderr());
}

#[test]
fn a_full_disk_says_so_and_loses_nothing_that_was_recorded() {
    namespace::inside("bad_input::a_full_disk_says_so_and_loses_nothing_that_was_recorded", || {
        let scene = Scene::new();
        let log = scene.path("log");
        fs::create_dir(&log).expect("a directory");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=512k,mode=0700", "none"])
            .arg(&log)
            .status();
        assert!(mounted.expect("mount runs").success());
        let policy =
            scene.policy("  - id: keys\n    kind: file\n    paths: [\"@/.ssh/**\"]\n    reason: Keys.\n");
        let ran = scene.standalone(&policy, "for i in $(seq 400); do /bin/true; done; echo ran");
        assert!(ran.stdout().contains("ran"), "the command is not harmed: {}", ran.stderr());
        assert!(ran.stderr().contains("No space left") || ran.stderr().contains("full"), "{}", ran.stderr());
        let verified = scene.ask(&["log", "verify"]);
        let words = String::from_utf8_lossy(&verified.stdout).into_owned();
        assert!(verified.status.success(), "{words}{}", String::from_utf8_lossy(&verified.stderr));
        assert!(ran.entries.len() > 50, "what was recorded is there: {}", ran.entries.len());
    });
}
