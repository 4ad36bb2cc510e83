//! The policy that we ship: secrets are closed, and what a developer does all day goes on.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use treeline_tests::sensor::{Ran, Scene, binary, is_permitted};

/// Root's home while a sensor runs in a mount namespace of its own.
const HOME: &str = "/root";

/// What must be refused, by the rule that refuses it.
const REFUSED: &[(&str, &str)] = &[
    ("ssh-keys", "cat ~/.ssh/id_ed25519"),
    ("aws-credentials", "cat ~/.aws/credentials"),
    ("gpg-keys", "cat ~/.gnupg/private-keys-v1.d/key"),
    ("kubernetes-credentials", "cat ~/.kube/config"),
    ("netrc", "cat ~/.netrc"),
    ("npm-token", "cat ~/.npmrc"),
    ("cargo-token", "cat ~/.cargo/credentials.toml"),
    ("browser-profiles", "cat ~/.mozilla/firefox/p/logins.json"),
    ("password-databases", "cat ~/Documents/work/passwords.kdbx"),
    ("shell-startup", "echo evil >> ~/.bashrc"),
];

fn home(scene: &Scene) {
    let files = REFUSED.iter().filter_map(|(_, attempt)| attempt.rsplit("~/").next());
    for name in files {
        let path = scene.path("home").join(name);
        fs::create_dir_all(path.parent().expect("it is in a directory")).expect("directories");
        fs::write(path, "SECRET\n").expect("a file");
    }
    fs::write(scene.path("home/.ssh/config"), "Host work\n  HostName work.invalid\n").expect("a file");
    fs::write(scene.path("home/.npmrc"), "registry=http://npm.invalid/\n").expect("a file");
    fs::write(scene.path("home/.gitconfig"), "[user]\n  name = D\n  email = d@example.invalid\n")
        .expect("a file");
}

/// Runs a script under the shipped policy, with the scene's home as root's.
fn run(scene: &Scene, script: &str) -> Ran {
    // Wherever the binary is: it must not be below the home that is covered.
    let sensor = scene.path("treeline");
    fs::copy(binary(), &sensor).expect("room for a copy");
    let policy = scene.path("baseline.yaml");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies/baseline.yaml");
    fs::copy(shipped, &policy).expect("the shipped policy");
    let inner = format!(
        "mount --bind '{home}' {HOME} && cd {HOME} && exec '{sensor}' run --standalone --mode fallback --unenforceable observe \
         --policy '{policy}' --log '{log}' --state '{state}' -- /bin/bash -c \"$1\"",
        home = scene.path("home").display(),
        sensor = sensor.display(),
        policy = policy.display(),
        log = scene.path("log").display(),
        state = scene.path("state").display(),
    );
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "/bin/sh", "-c", &inner, "sh", script])
        .env("HOME", HOME)
        .env_remove("LD_LIBRARY_PATH")
        .stdin(Stdio::null())
        .output()
        .expect("unshare runs");
    Ran { output, entries: scene.entries() }
}

#[test]
fn the_baseline_closes_secrets() {
    if !is_permitted("the_baseline_closes_secrets") {
        return;
    }
    let scene = Scene::new();
    home(&scene);
    let attempts: Vec<_> = REFUSED.iter().map(|(_, attempt)| format!("({attempt}); echo $?")).collect();
    let ran = run(&scene, &attempts.join("\n"));
    let lines: Vec<_> = REFUSED.iter().map(|_| "1").collect();
    assert_eq!(ran.stdout().lines().collect::<Vec<_>>(), lines, "{}", ran.stderr());
    let rules: BTreeSet<_> = ran.denials().iter().map(|(_, rule)| rule.rule.clone()).collect();
    assert_eq!(rules, REFUSED.iter().map(|(rule, _)| (*rule).to_owned()).collect());
}

#[test]
fn the_baseline_lets_a_developer_work() {
    if !is_permitted("the_baseline_lets_a_developer_work") {
        return;
    }
    let scene = Scene::new();
    home(&scene);
    let tool = scene.path("home/build.sh");
    fs::write(&tool, "#!/bin/sh\necho built\n").expect("a file");
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).expect("our file");
    let works = [
        (
            "git",
            "git init -q p && cd p && echo a > a && git add a && git commit -qm m && git log --format=%an",
        ),
        ("ssh", "ssh -F ~/.ssh/config -G work | grep '^hostname'"),
        ("npm", "npm config get registry"),
        ("sh", "./build.sh && tail -1 ~/.bashrc"),
        ("python3", "python3 -c 'import ssl, json; print(1)'"),
    ];
    let (there, missing): (Vec<_>, Vec<_>) = works.iter().partition(|(program, _)| {
        Command::new("sh")
            .args(["-c", &format!("command -v {program} >&2")])
            .output()
            .is_ok_and(|o| o.status.success())
    });
    for (program, _) in missing {
        eprintln!("skipped: the_baseline_lets_a_developer_work/{program}: not installed");
    }
    let script: Vec<_> = there.iter().map(|(_, work)| format!("({work}) || echo FAILED: '{work}'")).collect();
    let ran = run(&scene, &script.join("\n"));
    assert!(!ran.stdout().contains("FAILED"), "{}\n{}", ran.stdout(), ran.stderr());
    let says = |program: &str, text: &str| {
        let wanted = there.iter().any(|(name, _)| *name == program);
        assert!(!wanted || ran.stdout().contains(text), "{program}: {}\n{}", ran.stdout(), ran.stderr());
    };
    says("git", "D\n");
    says("ssh", "hostname work.invalid");
    says("npm", "http://npm.invalid/");
    says("sh", "built\nSECRET\n");
    assert!(ran.denials().is_empty(), "{:#?}", ran.denials());
}
