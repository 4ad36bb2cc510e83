//! Policies that have to be signed, and none that is older than what was in force.

use std::fs;

use treeline_event::Notice;
use treeline_tests::sensor::{Daemon, Scene, binary, expect, is_permitted, notices};

fn policy(scene: &Scene, revision: u64, directory: &str) {
    let text = format!(
        "version: 1\nname: e2e\nrevision: {revision}\nrules:\n  - {{id: keys, kind: file, paths: [\"{}/{directory}/**\"], reason: r}}\n",
        scene.path("home").display()
    );
    fs::write(scene.path("policy.yaml"), text).expect("a policy");
}

/// Runs `treeline policy` in the scene.
fn run(scene: &Scene, arguments: &[&str]) -> std::process::Output {
    let mut command = std::process::Command::new(binary());
    command.current_dir(scene.path("")).arg("policy").args(arguments).output().expect("the binary runs")
}

fn sign(scene: &Scene) {
    expect(run(scene, &["sign", "policy.yaml", "--key", "key", "--force"]), 0, &["signed as revision "]);
}

/// A key of the scene, and the setting that trusts it.
fn key(scene: &Scene) -> String {
    let made = run(scene, &["key", "key", "--name", "acme.example/policies"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let public = String::from_utf8(made.stdout).expect("text");
    format!("policy_keys = [\"{}\"]", public.trim())
}

fn reads(daemon: &Daemon, scene: &Scene) -> bool {
    let file = scene.path("home/.ssh/id").display().to_string();
    daemon.ask(&["run", "--", "/bin/cat", &file]).status.success()
}

/// A daemon that does not start.
#[track_caller]
fn fails(scene: &Scene, settings: &str, words: &str) {
    let config = scene.config(settings).display().to_string();
    let mut command = std::process::Command::new(binary());
    expect(command.args(["daemon", "--config", &config]).output().expect("the binary runs"), 2, &[words]);
}

#[test]
fn a_policy_is_signed_and_verified() {
    let scene = Scene::new();
    policy(&scene, 3, ".ssh");
    let trusted = key(&scene);
    let public = trusted.split('"').nth(1).expect("the key");
    let verify = |code: i32, words: &[&str]| {
        expect(run(&scene, &["verify", "policy.yaml", "--key", public]), code, words);
    };
    verify(
        1,
        &["it is not signed: there is no `policy.yaml.note`", "treeline policy sign --key FILE policy.yaml"],
    );
    sign(&scene);
    verify(0, &["`policy.yaml`: `e2e`, revision 3, signed by acme.example/policies+"]);
    // Whoever else signs the same text is in the note, too, once.
    expect(run(&scene, &["key", "second", "--name", "acme.example/second"]), 0, &[]);
    for _ in 0..2 {
        expect(run(&scene, &["sign", "policy.yaml", "--key", "second"]), 0, &["acme.example/second+"]);
    }
    verify(0, &["signed by acme.example/policies+"]);
    let note = fs::read_to_string(scene.path("policy.yaml.note")).expect("a note");
    let printed = run(&scene, &["sign", "policy.yaml", "--print"]);
    let printed = String::from_utf8(printed.stdout).expect("text");
    assert!(note.starts_with(&format!("{printed}\n\u{2014} ")), "{printed}");
    assert_eq!(note.lines().filter(|line| line.starts_with('\u{2014}')).count(), 2, "{note}");
    policy(&scene, 3, "elsewhere");
    verify(1, &["its text is not the one that was signed, of revision 3"]);
    let json = run(&scene, &["verify", "policy.yaml", "--json", "--key", public]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert!(json["signed_by"].is_null() && json["error"].is_string(), "{json}");
    let other = ["is about another text, of revision 3: raise `revision`", "--force"];
    expect(run(&scene, &["sign", "policy.yaml", "--key", "key"]), 2, &other);
    sign(&scene);
    let json = run(&scene, &["verify", "policy.yaml", "--json", "--key", public]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!((&json["revision"], &json["error"]), (&3.into(), &serde_json::Value::Null), "{json}");
    // A key is never written over, and others cannot read it.
    expect(run(&scene, &["key", "key", "--name", "x"]), 2, &["cannot write"]);
    expect(run(&scene, &["key", "new", "--name", "two words"]), 2, &["has no space"]);
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(scene.path("key")).expect("a key").permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn only_signed_policies_come_into_force_and_none_comes_back() {
    if !is_permitted("only_signed_policies_come_into_force_and_none_comes_back") {
        return;
    }
    let scene = Scene::new();
    let trusted = key(&scene);
    policy(&scene, 3, ".ssh");
    sign(&scene);
    let daemon = scene.daemon(&trusted);
    assert!(!reads(&daemon, &scene), "what is signed is in force");
    let status = daemon.ask(&["status"]);
    expect(status, 0, &["policy e2e, revision 3, ", ", signed by acme.example/policies+"]);
    let note = scene.path("policy.yaml.note").display().to_string();
    let write = daemon.ask(&["run", "--", "/bin/sh", "-c", &format!("echo > {note}")]);
    assert!(!write.status.success(), "a session does not change the note");
    let refused = |words: &str| {
        expect(daemon.ask(&["reload"]), 1, &[words]);
        expect(daemon.ask(&["status"]), 1, &[words]);
        assert!(!reads(&daemon, &scene), "the policy before stays");
    };
    policy(&scene, 4, "elsewhere");
    refused("its text is not the one that was signed, of revision 3");
    fs::rename(&note, scene.path("aside")).expect("it was there");
    refused("it is not signed: there is no `");
    policy(&scene, 2, "elsewhere");
    sign(&scene);
    refused("its revision 2 is older than 3, which was in force here");
    policy(&scene, 3, "elsewhere");
    sign(&scene);
    refused("another text was in force here as revision 3");
    drop(daemon);
    // The next start knows as much.
    policy(&scene, 2, "elsewhere");
    sign(&scene);
    let daemon = scene.daemon(&trusted);
    assert!(!reads(&daemon, &scene), "the last good policy is in force");
    expect(daemon.ask(&["status"]), 1, &["its revision 2 is older than 3"]);
    policy(&scene, 4, "elsewhere");
    sign(&scene);
    expect(daemon.ask(&["reload"]), 0, &[]);
    assert!(reads(&daemon, &scene), "a newer one may say less");
    drop(daemon);
    // With another key the number still counts, which the copy of the policy no longer says.
    fs::remove_file(scene.path("key")).and_then(|()| fs::remove_file(scene.path("key.pub"))).expect("a key");
    let another = key(&scene);
    policy(&scene, 3, ".ssh");
    sign(&scene);
    fails(&scene, &another, "its revision 3 is older than 4");
    // Nor does it start without what it is to guard by, or without the keys.
    fs::remove_file(scene.path("policy.yaml")).expect("it was there");
    fails(&scene, &another, "cannot be used");
    fs::remove_file(scene.path("state/policy.last-good.json")).expect("a copy");
    fails(&scene, &another, "cannot read the policy");
    policy(&scene, 5, ".ssh");
    fails(&scene, "", "policies had to be signed here (revision 4 was in force)");
    fs::write(scene.path("state/policy.revision.json"), "").expect("a file");
    fails(&scene, &another, "cannot tell which revision was in force");
    let entries = scene.entries();
    let revisions: Vec<_> = notices(&entries)
        .filter_map(|notice| match notice {
            Notice::PolicyApplied { revision, signed_by, .. } => Some((*revision, signed_by.is_some())),
            _ => None,
        })
        .collect();
    assert_eq!((revisions.first(), revisions.last()), (Some(&(Some(3), true)), Some(&(Some(4), true))));
    assert!(notices(&entries).filter(|notice| matches!(notice, Notice::PolicyRejected { .. })).count() >= 5);
}
