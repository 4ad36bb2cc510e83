//! Rules that ask what a session is.

use std::{fs, process::Command};

use treeline_event::{Action, EntryBody, Notice, SessionAttributes};
use treeline_tests::sensor::{Scene, is_permitted, notices};

const RULES: &str = r#"
  - {id: by-user, kind: file, paths: ["@/.ssh/**"], reason: Of root., only: [{session: {users: [root]}}]}
  - {id: by-other-user, kind: file, paths: ["@/a"], reason: Of another., only: [{session: {users: [nobody-has-this-name]}}]}
  - {id: but-for-group, kind: file, paths: ["@/b"], reason: Not of roots., except: [{session: {groups: [0]}}]}
  - {id: but-for-other, kind: file, paths: ["@/c"], reason: Not of others., except: [{session: {groups: [nobody-has-this-name]}}]}
  - {id: by-claim, kind: file, paths: ["@/d"], reason: Unattended., only: [{session: {entry_points: [sdk-cli]}}]}
  - {id: by-repository, kind: file, paths: ["@/e"], reason: There., only: [{session: {repositories: [git.example/acme/*]}}]}
  - {id: by-other-repository, kind: file, paths: ["@/f"], reason: Elsewhere., only: [{session: {repositories: [git.example/b]}}]}
"#;

fn scene() -> Scene {
    let scene = Scene::new();
    for name in ["a", "b", "c", "d", "e", "f"] {
        fs::write(scene.path("home").join(name), "text\n").expect("a file");
    }
    fs::create_dir(scene.path("home/.git")).expect("a directory");
    let config = "[remote \"origin\"]\n\turl = git@git.example:Acme/app.git\n";
    fs::write(scene.path("home/.git/config"), config).expect("a file");
    scene
}

/// What is known of the sessions of a scene, in the order in which they began.
fn attributes(scene: &Scene) -> Vec<SessionAttributes> {
    let entries = scene.entries();
    let started = notices(&entries).filter_map(|notice| match notice {
        Notice::SessionStarted { attributes, .. } => Some(attributes.clone()),
        _ => None,
    });
    started.collect()
}

/// Which of the files can be read, by a command that runs bash in the scene's home.
fn read(scene: &Scene, command: &mut Command) -> String {
    let script =
        "for file in .ssh/id a b c d e f; do cat $file >/dev/null 2>&1 && echo -n r || echo -n d; done";
    let command = command.args(["--", "/bin/bash", "-c", script]).current_dir(scene.path("home"));
    let output = command.env_remove("LD_LIBRARY_PATH").output().expect("the binary runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn rules_are_for_sessions_of_users_and_groups() {
    if !is_permitted("rules_are_for_sessions_of_users_and_groups") {
        return;
    }
    let scene = scene();
    scene.policy(RULES);
    let daemon = scene.daemon("");
    let run = |entry_point: &str| {
        let mut command = daemon.command(&["run"]);
        read(&scene, command.env("CLAUDE_CODE_ENTRYPOINT", entry_point))
    };
    assert_eq!(run("sdk-cli"), "drrdddr");
    assert_eq!(run("cli"), "drrdrdr");
    // Of what a launcher does not say, nothing is known.
    let mut unsaid = daemon.command(&["run"]);
    assert_eq!(read(&scene, unsaid.env_remove("CLAUDE_CODE_ENTRYPOINT")), "drrdddr");

    let known = attributes(&scene);
    assert_eq!((known[0].uid, known[0].user.as_deref(), known[0].within), (Some(0), Some("root"), None));
    assert!(known[0].groups.iter().flatten().any(|group| group.gid == 0));
    assert_eq!(known[0].claims.entry_point.as_deref(), Some("sdk-cli"));
    assert_eq!(known[0].claims.repositories.as_deref(), Some(&["git.example/acme/app".to_owned()][..]));
    let sessions = daemon.ask(&["session", "ls", "--json"]);
    let sessions: serde_json::Value = serde_json::from_slice(&sessions.stdout).expect("JSON");
    let id = sessions[0]["session"].as_str().expect("an id");
    let shown = daemon.ask(&["session", "show", id]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("claims      entry point sdk-cli, repository git.example/acme/app"), "{shown}");
}

#[test]
fn a_session_within_another_is_what_that_one_is() {
    if !is_permitted("a_session_within_another_is_what_that_one_is") {
        return;
    }
    let scene = scene();
    scene.policy(RULES);
    let daemon = scene.daemon("");
    let mut command = daemon.command(&["run", "--", "/usr/bin/env", "CLAUDE_CODE_ENTRYPOINT=cli"]);
    let treeline = treeline_tests::sensor::binary();
    let found = read(&scene, command.env("CLAUDE_CODE_ENTRYPOINT", "sdk-cli").arg(treeline).arg("run"));
    assert_eq!(found, "drrdddr", "whatever the inner launcher says");
    let known = attributes(&scene);
    let [outer, inner] = &known[..] else { panic!("{known:?}") };
    assert!(inner.within.is_some());
    assert_eq!(SessionAttributes { within: None, ..inner.clone() }, *outer);
}

#[test]
fn who_is_in_a_session_is_not_adopted_from_it() {
    if !is_permitted("who_is_in_a_session_is_not_adopted_from_it") {
        return;
    }
    let scene = scene();
    scene.policy(RULES);
    let daemon = scene.daemon("");
    // A shell outside, of which a child is in a session, and another one in none.
    let treeline = treeline_tests::sensor::binary().display().to_string();
    let script = "test -e go || sleep 0.1; until test -e go; do sleep 0.1; done; cat a >/dev/null; touch done-$0; \
                  until test -e stop; do sleep 0.1; done";
    let outside =
        format!("{treeline} run -- /bin/bash -c '{script}' inside & /bin/bash -c '{script}' beside & wait");
    let mut shell = Command::new("/bin/bash");
    shell
        .args(["-c", &outside])
        .current_dir(scene.path("home"))
        .env("TREELINE_CONFIG", scene.path("treeline.toml"));
    shell.env_remove("LD_LIBRARY_PATH").stdin(std::process::Stdio::null());
    let mut shell = shell.spawn().expect("a shell");
    let until = |is: &dyn Fn() -> bool| {
        let started = std::time::Instant::now();
        while !is() {
            assert!(started.elapsed().as_secs() < 60, "it does not come");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    };
    until(&|| !attributes(&scene).is_empty());
    // Its root has begun to execute what runs in it by then.
    std::thread::sleep(std::time::Duration::from_secs(1));
    let adopted = daemon.ask(&["adopt", &shell.id().to_string()]);
    assert!(adopted.status.success(), "{}", String::from_utf8_lossy(&adopted.stderr));
    fs::write(scene.path("home/go"), "").expect("a file");
    until(&|| {
        ["inside", "beside"].iter().all(|name| scene.path("home").join(format!("done-{name}")).exists())
    });
    fs::write(scene.path("home/stop"), "").expect("a file");
    shell.wait().expect("it ends");
    drop(daemon);
    let entries = scene.entries();
    let sessions: Vec<_> = notices(&entries)
        .filter_map(|notice| match notice {
            Notice::SessionStarted { session, origin, .. } => Some((origin.as_str(), *session)),
            _ => None,
        })
        .collect();
    let [("run", inside), ("adopt", beside)] = sessions[..] else { panic!("{sessions:?}") };
    let made = entries.iter().filter_map(|entry| match &entry.body {
        EntryBody::Act { action: Action::Open { file, .. } | Action::Create { file, .. }, .. } => {
            let path = String::from_utf8_lossy(file.path.as_bytes()).into_owned();
            path.rsplit_once("done-").map(|(_, name)| (name.to_owned(), entry.session))
        }
        _ => None,
    });
    let made: std::collections::BTreeSet<_> = made.collect();
    let expect = [("beside".to_owned(), Some(beside)), ("inside".to_owned(), Some(inside))];
    assert_eq!(made.into_iter().collect::<Vec<_>>(), expect);
}

#[test]
fn what_a_session_is_is_replayed_and_explained() {
    if !is_permitted("what_a_session_is_is_replayed_and_explained") {
        return;
    }
    let scene = scene();
    let policy = scene.policy(RULES);
    let ran = scene.standalone(&policy, "cat .ssh/id a b c e f");
    let denied: Vec<&str> = ran.denials().iter().map(|(_, rule)| rule.rule.as_str()).collect();
    assert_eq!(denied, ["by-user", "but-for-other", "by-repository"], "{}", ran.stderr());
    let policy = policy.display().to_string();
    let output = scene.ask(&["policy", "replay", &policy, "--json"]);
    let replayed: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(replayed["would_deny"]["times"], 3, "{replayed:#}");
    assert_eq!(
        (&replayed["new_denials"]["times"], &replayed["vanished_denials"]["times"]),
        (&0.into(), &0.into())
    );
    let other = scene.policy(&RULES.replace("users: [root]", "users: [ada]")).display().to_string();
    let output = scene.ask(&["policy", "replay", &other, "--json"]);
    let replayed: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(replayed["vanished_denials"]["times"], 1, "{replayed:#}");
}
