//! What the running kernel decides, and how long it takes: `treeline parity` on the host.

use std::process::Command;

use treeline_tests::sensor::{binary, expect, is_permitted};

fn parity(arguments: &[&str]) -> std::process::Output {
    Command::new(binary()).arg("parity").args(arguments).output().expect("the binary runs")
}

#[test]
fn the_kernel_decides_random_cases_as_the_policy_says() {
    if !is_permitted("the_kernel_decides_random_cases_as_the_policy_says") {
        return;
    }
    expect(parity(&["--cases", "1500", "--seed", "7"]), 0, &["1500 cases of 2 policies"]);
}

#[test]
fn decisions_are_timed_one_by_one() {
    if !is_permitted("decisions_are_timed_one_by_one") {
        return;
    }
    let output = parity(&["--time", "2", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let kinds: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    let of = |rules: u64| kinds.iter().filter(move |kind| kind["rules"] == rules);
    assert_eq!((of(1).count(), of(300).count(), kinds.len()), (5, 5, 10));
    for kind in &kinds {
        // Two rounds of 64 paths, and nothing else runs this program.
        assert_eq!(kind["runs"], 128, "{kind}");
        assert!(kind["ns"].as_f64().is_some_and(|ns| ns > 0.0), "{kind}");
        let near = kind["paths"].as_str().is_some_and(|paths| !paths.starts_with("no rule is near"));
        assert_eq!(kind["is_denied"], near && kind["rules"] == 300, "{kind}");
    }
    expect(parity(&["--time", "2", "--cases", "5"]), 2, &["cannot be used with"]);
}
