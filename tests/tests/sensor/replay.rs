//! A policy over a session that was recorded.

use treeline_event::{Action, EntryBody, Verdict};
use treeline_tests::sensor::{Scene, is_permitted};

const KEYS: &str = "  - id: keys\n    kind: file\n    paths: [\"@/.ssh/**\"]\n    reason: Keys are not for agents.\n    \
                    except:\n      - executable: /usr/bin/head\n";
const NOTES: &str =
    "  - id: notes\n    kind: file\n    paths: [\"@/notes\"]\n    operations: [read]\n    reason: Notes.\n";

fn json(output: &std::process::Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn a_recorded_session_is_judged_as_it_was_and_as_it_would_be() {
    if !is_permitted("a_recorded_session_is_judged_as_it_was_and_as_it_would_be") {
        return;
    }
    let scene = Scene::new();
    std::fs::write(scene.path("home/notes"), "NOTES\n").expect("a file");
    let ran = scene.standalone(&scene.policy(KEYS), "cat .ssh/id; head -1 .ssh/id; cat notes; cat notes");
    let denials = ran.denials().len() as u64;
    assert_eq!(denials, 1, "{}", ran.stderr());

    let replay = |rules: &str| {
        let policy = scene.policy(rules).display().to_string();
        let output = scene.ask(&["policy", "replay", &policy, "--json"]);
        (output.status.code(), json(&output))
    };
    let (code, same) = replay(KEYS);
    assert_eq!(code, Some(1));
    assert_eq!(same["would_deny"]["times"], denials, "{same:#}");
    assert_eq!((&same["new_denials"]["times"], &same["vanished_denials"]["times"]), (&0.into(), &0.into()));
    assert_eq!(same["rules"][0]["then"]["denied"]["times"], denials);
    assert_eq!(same["lineage_unseen"]["times"], 0, "the log has the session from its beginning on");

    let (code, stricter) = replay(&format!("{KEYS}{NOTES}"));
    assert_eq!(code, Some(1));
    assert_eq!(stricter["vanished_denials"]["times"], 0);
    assert_eq!(stricter["rules"][1]["rule"], "notes");
    assert_eq!(stricter["rules"][1]["then"]["allowed"]["times"], 2, "{stricter:#}");

    let (_, without) = replay(NOTES);
    assert_eq!(without["vanished"][0]["rule"], "keys");
    assert_eq!(without["vanished"][0]["allowed"]["times"], denials);

    let denied = ran.entries.iter().find(|entry| {
        matches!(&entry.body, EntryBody::Act { verdict: Verdict::Deny, action: Action::Open { .. }, .. })
    });
    let index = denied.expect("the denial").index.to_string();
    let policy = scene.policy(KEYS).display().to_string();
    let explained = scene.ask(&["policy", "explain", &policy, "--event", &index, "--json"]);
    assert_eq!(explained.status.code(), Some(1));
    let explained = json(&explained);
    assert_eq!(explained["then"]["rule"]["rule"], "keys");
    assert_eq!(explained["asked"][0]["rule"], "keys");
}
