//! Rules that are for descendants of a program, or not for them.

use std::process::Command;

use treeline_tests::sensor::{Scene, is_permitted, with_verdict};

/// A copy of the shell in the home directory.
fn copy(scene: &Scene, name: &str) {
    std::fs::copy("/bin/sh", scene.path("home").join(name)).expect("a copy of the shell");
}

#[test]
fn rules_are_for_descendants() {
    if !is_permitted("rules_are_for_descendants") {
        return;
    }
    let scene = Scene::new();
    for name in ["installer", "builder"] {
        copy(&scene, name);
    }
    let policy = scene.policy(
        "  - id: below\n    kind: file\n    paths: [\"@/.ssh/**\"]\n    reason: Not below an installer.\n    only:\n      - \
         descendant_of: {executable: \"@/installer\"}\n    except:\n      - descendant_of: {executable: \
         \"@/builder\"}\n  - id: seen\n    kind: exec\n    mode: monitor\n    paths: [/usr/bin/head]\n    reason: Seen.\n    \
         only:\n      - descendant_of: {executable: \"@/installer\"}\n",
    );
    let orphan = "setsid -f sh -c 'sleep 1; cat .ssh/id && echo read' >out 2>&1; sleep 2; cat out";
    let cases = [
        ("sh -c 'cat .ssh/id'", true),
        ("./installer -c 'cat .ssh/id'", false),
        ("./installer -c 'sh -c \"cat .ssh/id\"'", false),
        (&format!("./installer -c \"{orphan}; grep -q read out\""), false),
        ("./builder -c './installer -c \"cat .ssh/id\"'", true),
        ("./installer -c './builder -c \"cat .ssh/id\"'", true),
        ("LD_PRELOAD=/nonexistent ./builder -c 'unset LD_PRELOAD; ./installer -c \"cat .ssh/id\"'", false),
        ("./installer -c true; cat .ssh/id", true),
        ("./installer -c 'head -c 0 /dev/null'", true),
        ("head -c 0 /dev/null; sleep 2", true),
    ];
    let script: String = cases.iter().map(|(case, _)| format!("({case}) >&2; echo $?\n")).collect();
    let ran = scene.standalone(&policy, &script);
    let statuses: Vec<bool> = ran.stdout().lines().map(|status| status == "0").collect();
    let expect: Vec<bool> = cases.iter().map(|(_, is_read)| *is_read).collect();
    assert_eq!(statuses, expect, "{}", ran.stderr());
    assert!(ran.denials().iter().all(|(_, rule)| rule.rule == "below"));
}

#[test]
fn a_lineage_by_content_is_unknown_until_the_content_is_known() {
    if !is_permitted("a_lineage_by_content_is_unknown_until_the_content_is_known") {
        return;
    }
    let scene = Scene::new();
    copy(&scene, "builder");
    let output =
        Command::new("sha256sum").arg(scene.path("home").join("builder")).output().expect("sha256sum");
    let text = String::from_utf8(output.stdout).expect("a digest");
    let digest = text.split_whitespace().next().expect("a digest");
    let policy = scene.policy(&format!(
        "  - id: except\n    kind: file\n    paths: [\"@/.ssh/**\"]\n    reason: Only below the builder.\n    except:\n      - \
         descendant_of: {{executable: \"@/builder\", sha256: {digest}}}\n"
    ));
    let read = "./builder -c 'cat .ssh/id' >&2; echo $?\n";
    // The first exec is before its hash is known; of the second, the content is known when it begins.
    let ran = scene.standalone(&policy, &format!("{read}sleep 3\n{read}cat .ssh/id >&2; echo $?"));
    assert_eq!(ran.stdout(), "1\n0\n1\n", "{}", ran.stderr());
    let denied = with_verdict(&scene.entries(), treeline_event::Verdict::Deny).len();
    assert_eq!(denied, 2);
}
