//! The schemas of policies are JSON Schemas, and the shipped files are what they describe, to a reader of YAML and a validator
//! that are not ours.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use treeline_tests::venv::python;

fn policies() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies")
}

/// The validator's findings, empty when there are none.
fn findings(schema: &str, files: &[PathBuf]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/validate.py");
    let output = Command::new(python())
        .arg(script)
        .arg(policies().join(schema))
        .args(files)
        .output()
        .expect("the validator starts");
    let findings = String::from_utf8(output.stdout).expect("UTF-8");
    let code = if findings.is_empty() { Some(0) } else { Some(1) };
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), code, "the validator itself failed: {findings}{errors}");
    findings
}

/// The shipped files whose names say that they are tests, or that they are not.
fn shipped(are_tests: bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(policies()).expect("policies are shipped");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .filter(|path| path.to_string_lossy().ends_with(".test.yaml") == are_tests)
        .collect()
}

#[test]
fn shipped_files_validate() {
    assert!(!shipped(false).is_empty() && !shipped(true).is_empty(), "they have been found");
    assert_eq!(findings("policy.schema.json", &shipped(false)), "");
    assert_eq!(findings("test.schema.json", &shipped(true)), "");
}

#[test]
fn a_policy_in_parts_validates_and_broken_ones_do_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let check = |schema: &str, text: &str, expect: &str| {
        let file = dir.path().join("file.yaml");
        fs::write(&file, text).expect("a file");
        let found = findings(schema, &[file]);
        assert!(
            if expect.is_empty() { found.is_empty() } else { found.contains(expect) },
            "{text}: `{found}`"
        );
    };
    let head = "version: 1\nname: t\n";
    check("policy.schema.json", &format!("{head}include: [common/part.yaml]\n"), "");
    check("policy.schema.json", head, "is not valid under any of the given schemas");
    check("part.schema.json", "version: 1\nlists:\n  paths: {keys: [~/.ssh/**, $more]}\n", "");
    check("part.schema.json", head, "'name' was unexpected");
    let rule = |rule: &str, expect: &str| {
        let text = format!("{head}rules:\n  - {{id: a, reason: r, {rule}}}\n");
        check("policy.schema.json", &text, expect);
    };
    rule("kind: file, paths: [~/.ssh/**], expires: 2099-01-02", "");
    rule("kind: connect, to: [10.0.0.0/8], ports: [443, 8000-8999]", "");
    rule("kind: file, pathes: [/x]", "'pathes' was unexpected");
    rule("kind: file, paths: [/x], ports: [1]", "'ports' was unexpected");
    rule("kind: exec", "is not valid under any of the given schemas");
    rule("kind: connect, unix: [/x], ports: [1]", "'to' is a dependency of 'ports'");
    rule("kind: broker, brokers: [ssh], action: deny, mode: enforce", "should not be valid under");
    check("test.schema.json", "policy: p.yaml\ntests: [{do: raed /x, expect: allow}]\n", "raed");
}
