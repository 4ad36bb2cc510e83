//! `treeline doctor`, with a daemon, without one, and for a user who may do nothing.

use std::{
    os::unix::process::CommandExt as _,
    process::{Command, Output},
};

use serde_json::Value;
use treeline_tests::sensor::{Scene, binary, is_permitted};

const RULES: &str = "  - id: keys\n    kind: file\n    paths: [\"@/.ssh/**\"]\n    reason: Keys are not for agents.\n  - id: \
                     names\n    kind: file\n    operations: [rename]\n    paths: [\"@/.ssh/**\"]\n    reason: Names.\n";

fn doctor(scene: &Scene, more: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.arg("--config").arg(scene.path("treeline.toml")).args(["doctor", "--json"]).args(more);
    command.env_remove("TREELINE_SOCKET").current_dir("/");
    command
}

fn report(output: &Output) -> Value {
    let words = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {words}"))
}

fn check<'r>(report: &'r Value, name: &str) -> &'r Value {
    let checks = report["checks"].as_array().expect("there are checks");
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no `{name}` in {report:#}"))
}

fn states(report: &Value) -> Vec<(&str, &str)> {
    let rules = report["attachment"]["rules"].as_array().expect("there are rules");
    let text = |rule: &'_ Value, key: &str| rule[key].as_str().map(str::len).is_some();
    assert!(rules.iter().all(|rule| text(rule, "rule") && text(rule, "state")), "{report:#}");
    rules.iter().filter_map(|rule| Some((rule["rule"].as_str()?, rule["state"].as_str()?))).collect()
}

#[test]
fn doctor_says_what_is_attached_and_what_each_rule_amounts_to() {
    if !is_permitted("doctor_says_what_is_attached_and_what_each_rule_amounts_to") {
        return;
    }
    let scene = Scene::new();
    scene.policy(RULES);
    scene.config("");
    let tried = doctor(&scene, &[]).output().expect("the binary runs");
    let report_of_trial = report(&tried);
    let attachment = &report_of_trial["attachment"];
    assert_eq!((&attachment["source"], &attachment["mode"]), (&"trial".into(), &"fallback".into()));
    assert_eq!(states(&report_of_trial), [("keys", "partly"), ("names", "observed")]);
    assert_eq!(tried.status.code(), Some(1), "the daemon would refuse `names`");
    assert_eq!(check(&report_of_trial, "rules")["state"], "bad");
    let hooks = attachment["hooks"].as_array().expect("there are hooks");
    assert!(hooks.iter().any(|hook| hook["hook"] == "tp_btf/sys_exit"), "{hooks:?}");
    assert!(!scene.path("log").exists() && !scene.path("socket").exists(), "a look leaves nothing behind");

    let daemon = scene.daemon("unenforceable = \"observe\"");
    let asked = report(&doctor(&scene, &[]).output().expect("the binary runs"));
    assert_eq!(asked["attachment"]["source"], "daemon");
    let rules = states(&asked);
    let own = [("treeline/self", "partly"), ("treeline/self-locks", "enforced")];
    assert_eq!(rules, [own, [("keys", "partly"), ("names", "observed")]].concat());
    assert_eq!(check(&asked, "rules")["state"], "note", "it is in force");
    let other = scene.path("other.yaml");
    let text = "version: 1\nname: other\nmode: enforce\nrules:\n  - id: one\n    kind: file\n    operations: [read]\n    \
                paths: [\"/nonexistent/**\"]\n    reason: One.\n";
    std::fs::write(&other, text).expect("a policy");
    let weighed = doctor(&scene, &["--policy", other.to_str().expect("UTF-8")]).output().expect("it runs");
    assert_eq!(states(&report(&weighed)), [("one", "enforced")]);
    drop(daemon);
}

#[test]
fn doctor_says_what_it_could_not_look_at() {
    if !is_permitted("doctor_says_what_it_could_not_look_at") {
        return;
    }
    let scene = Scene::new();
    std::fs::set_permissions(scene.path(""), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("readable");
    scene.policy(RULES);
    scene.config("");
    let output = doctor(&scene, &[]).uid(65534).gid(65534).output().expect("the binary runs");
    let report = report(&output);
    assert_eq!(report["attachment"], Value::Null);
    let check = check(&report, "attach mode");
    assert!(check["found"].as_str().is_some_and(|found| found.starts_with("not looked at")), "{check}");
    assert!(
        check["advice"].as_str().is_some_and(|advice| advice.contains("sudo treeline doctor")),
        "{check}"
    );
}
