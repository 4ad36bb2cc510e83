//! Policies of an organisation, of a team and of the machine that hold together.

use std::fs;

use treeline_event::{EntryBody, Level, Notice, Verdict};
use treeline_tests::sensor::{Daemon, Scene, binary, expect, is_permitted, notices};

const LEVELS: [&str; 3] = ["organisation", "team", "local"];

/// Writes a policy with these rules; `@` is the scene's home.
fn write(scene: &Scene, name: &str, head: &str, rules: &str) {
    let rules = rules.replace('@', &scene.path("home").display().to_string());
    let text = format!("version: 1\nname: {name}\n{head}rules:\n{rules}");
    fs::write(scene.path(&format!("{name}.yaml")), text).expect("a policy");
}

fn rule(id: &str, path: &str, more: &str) -> String {
    format!("  - {{id: {id}, kind: file, paths: [\"@/{path}\"], reason: r{more}}}\n")
}

/// An organisation that lets teams loosen one of its two rules, a team that tries to loosen both, and a local rule.
fn scene() -> Scene {
    let scene = Scene::new();
    for name in ["kept", "open", "mine"] {
        fs::write(scene.path(&format!("home/{name}")), name).expect("a file");
    }
    let organisation = rule("kept", "kept", "") + &rule("open", "open", ", loosened_by: [team]");
    write(&scene, "organisation", "", &organisation);
    let allows = ", action: allow, priority: 1";
    write(&scene, "team", "", &(rule("a-kept", "kept", allows) + &rule("a-open", "open", allows)));
    write(&scene, "local", "", &rule("mine", "mine", ""));
    scene
}

/// The settings for them.
fn settings(scene: &Scene) -> String {
    let [organisation, team, local] =
        LEVELS.map(|name| scene.path(&format!("{name}.yaml")).display().to_string());
    format!("[policies]\norganisation = \"{organisation}\"\nteam = [\"{team}\"]\nlocal = [\"{local}\"]")
}

fn reads(daemon: &Daemon, scene: &Scene, name: &str) -> bool {
    let file = scene.path(&format!("home/{name}")).display().to_string();
    daemon.ask(&["run", "--", "/bin/cat", &file]).status.success()
}

#[track_caller]
fn holds(daemon: &Daemon, scene: &Scene, expect: [bool; 3]) {
    assert_eq!(["kept", "open", "mine"].map(|name| reads(daemon, scene, name)), expect);
}

#[test]
fn three_levels_are_in_force_together_or_not_at_all() {
    if !is_permitted("three_levels_are_in_force_together_or_not_at_all") {
        return;
    }
    let scene = scene();
    let local = scene.path("local.yaml");
    let text = fs::read_to_string(&local).expect("a policy");
    fs::remove_file(&local).expect("it was there");
    let daemon = scene.daemon(&settings(&scene));
    holds(&daemon, &scene, [false, true, true]);
    fs::write(&local, &text).expect("a policy");
    for name in LEVELS {
        let echo = format!("echo '# x' >> {}", scene.path(&format!("{name}.yaml")).display());
        let wrote = daemon.ask(&["run", "--", "/bin/sh", "-c", &echo]).status.success();
        assert!(!wrote, "a session changes no policy, not even one that came later: {name}");
    }
    assert!(daemon.ask(&["reload"]).status.success());
    holds(&daemon, &scene, [false, true, false]);
    expect(
        daemon.ask(&["status"]),
        0,
        &["policy organisation, ", "  team team, sha256 ", "  local local, sha256 ", "; of local"],
    );

    // One that is wrong keeps all as they were.
    write(&scene, "local", "", &rule("mine", "mine", ", action: allow"));
    write(&scene, "organisation", "", "  []\n");
    let refused = ["local.yaml:4:10", "`mine` allows, and a local policy only refuses and records"];
    expect(daemon.ask(&["reload"]), 1, &refused);
    expect(daemon.ask(&["status"]), 1, &refused);
    holds(&daemon, &scene, [false, true, false]);
    drop(daemon);
    let daemon = scene.daemon(&settings(&scene));
    holds(&daemon, &scene, [false, true, false]);
    expect(daemon.ask(&["status"]), 1, &refused);
    fs::remove_file(scene.path("team.yaml")).expect("it was there");
    fs::write(&local, &text).expect("a policy");
    expect(daemon.ask(&["reload"]), 1, &["cannot read the policy `", "/team.yaml`"]);
    write(&scene, "team", "", "  []\n");
    expect(daemon.ask(&["reload"]), 0, &[]);
    holds(&daemon, &scene, [true, true, false]);
    drop(daemon);

    let entries = scene.entries();
    let parts = notices(&entries).filter_map(|notice| match notice {
        Notice::PolicyApplied { parts, .. } => Some(parts.iter().map(|part| part.level).collect::<Vec<_>>()),
        _ => None,
    });
    let parts: Vec<Vec<Level>> = parts.collect();
    let all = vec![Level::Organisation, Level::Team, Level::Local];
    assert_eq!((parts.first(), parts.last()), (Some(&all[..2].to_vec()), Some(&all)));
    assert!(notices(&entries).any(|notice| matches!(notice, Notice::PolicyRejected { .. })));
    let denied: Vec<(&str, &str)> = entries
        .iter()
        .filter_map(|entry| match &entry.body {
            EntryBody::Act { verdict: Verdict::Deny, rule: Some(hit), .. } => {
                Some((&*hit.rule, &*hit.policy))
            }
            _ => None,
        })
        .collect();
    for hit in [("kept", "organisation"), ("mine", "local")] {
        assert!(denied.contains(&hit), "{denied:?}");
    }
}

#[test]
fn a_run_without_a_daemon_has_them_too() {
    if !is_permitted("a_run_without_a_daemon_has_them_too") {
        return;
    }
    let scene = scene();
    let config = scene.config(&settings(&scene)).display().to_string();
    for (name, code) in [("kept", 1), ("open", 0), ("mine", 1)] {
        let file = scene.path(&format!("home/{name}")).display().to_string();
        let mut command = std::process::Command::new(binary());
        command.args(["--config", &config, "run", "--standalone", "--", "/bin/cat", &file]);
        expect(command.output().expect("the binary runs"), code, &[]);
    }
}

/// Runs `treeline policy` in the scene.
fn run(scene: &Scene, arguments: &[&str]) -> std::process::Output {
    let mut command = std::process::Command::new(binary());
    command.current_dir(scene.path("")).arg("policy").args(arguments).output().expect("the binary runs")
}

#[test]
fn what_can_loosen_is_signed_and_what_is_local_need_not_be() {
    if !is_permitted("what_can_loosen_is_signed_and_what_is_local_need_not_be") {
        return;
    }
    let scene = scene();
    let made = run(&scene, &["key", "key", "--name", "acme.example/policies"]);
    let public = String::from_utf8(made.stdout).expect("text");
    let settings = format!("policy_keys = [\"{}\"]\n{}", public.trim(), settings(&scene));
    let sign = |name: &str, level: &str| {
        let file = format!("{name}.yaml");
        let arguments = ["sign", &file, "--key", "key", "--force", "--level", level];
        expect(run(&scene, &arguments), 0, &["signed as revision "]);
    };
    write(&scene, "organisation", "revision: 9\n", &rule("kept", "kept", ""));
    write(&scene, "team", "revision: 3\n", &rule("open", "open", ""));
    sign("organisation", "organisation");
    let config = scene.config(&settings).display().to_string();
    let mut start = std::process::Command::new(binary());
    let words = ["/team.yaml` is refused", "it is not signed: there is no `"];
    expect(start.args(["daemon", "--config", &config]).output().expect("the binary runs"), 2, &words);
    sign("team", "team");
    let daemon = scene.daemon(&settings);
    holds(&daemon, &scene, [false; 3]);
    let signed =
        ["organisation organisation, revision 9, ", "team team, revision 3, ", ", signed by acme.example/"];
    expect(daemon.ask(&["status"]), 0, &signed);
    // What was signed for a team does not take the organisation's place.
    let place = |name: &str, as_name: &str| {
        for end in ["yaml", "yaml.note"] {
            fs::copy(scene.path(&format!("{name}.{end}")), scene.path(&format!("{as_name}.{end}")))
                .expect("a file");
        }
    };
    place("organisation", "aside");
    write(&scene, "newer", "revision: 10\n", "  []\n");
    sign("newer", "team");
    place("newer", "organisation");
    expect(
        daemon.ask(&["reload"]),
        1,
        &["its note is about a policy of level `team`, and here it is one of `organisation`"],
    );
    place("aside", "organisation");
    // The numbers of a team are its own, and count.
    write(&scene, "team", "revision: 2\n", "  []\n");
    sign("team", "team");
    expect(daemon.ask(&["reload"]), 1, &["/team.yaml` is refused", "its revision 2 is older than 3"]);
    write(&scene, "team", "revision: 4\n", "  []\n");
    sign("team", "team");
    write(&scene, "local", "", "  []\n");
    expect(daemon.ask(&["reload"]), 0, &[]);
    holds(&daemon, &scene, [false, true, true]);
}

#[test]
fn policies_are_checked_as_they_hold_together() {
    let scene = scene();
    let lower = ["--team", "team.yaml", "--local", "local.yaml"];
    let with = |arguments: &[&str]| run(&scene, &[arguments, &lower].concat());
    expect(
        with(&["check", "-v", "organisation.yaml"]),
        0,
        &[
            "policy `organisation`, 5 rules (3 enforce, 0 monitor, 2 allow)",
            "  local local\n",
            "mine    local         enforce",
        ],
    );
    let json = with(&["check", "--json", "organisation.yaml"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    let levels: Vec<&str> = json[0]["parts"]
        .as_array()
        .expect("parts")
        .iter()
        .filter_map(|part| part["level"].as_str())
        .collect();
    assert_eq!(levels, LEVELS);
    assert_eq!(json[0]["rules"][0]["policy"], "team", "{json}");
    let kept = scene.path("home/kept").display().to_string();
    let words = ["deny by `kept` of policy `organisation`", "; `a-kept` may not loosen it"];
    expect(with(&["explain", "organisation.yaml", "--read", &kept]), 1, &words);
    let test = format!(
        "policy: organisation.yaml\ntests:\n  - {{do: read {kept}, expect: deny kept}}\n  - {{do: read {}, expect: allow}}\n",
        scene.path("home/open").display()
    );
    fs::write(scene.path("organisation.test.yaml"), test).expect("a file");
    expect(with(&["test", "organisation.yaml"]), 0, &["2 passed"]);
    expect(run(&scene, &["test", "organisation.yaml"]), 1, &["1 failed"]);
    expect(with(&["compile", "organisation.yaml"]), 0, &["organisation"]);
    expect(with(&["diff", "organisation.yaml", "organisation.yaml"]), 0, &[]);
    expect(with(&["check", "organisation.yaml", "team.yaml"]), 2, &["name one FILE"]);
    write(&scene, "local", "", &rule("kept", "mine", ""));
    expect(
        with(&["check", "organisation.yaml"]),
        1,
        &["duplicate-id", "local.yaml:4:10", "organisation.yaml:4:10"],
    );
}
