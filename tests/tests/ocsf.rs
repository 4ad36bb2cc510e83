//! Entries are what the published OCSF 1.8.0 schema says they are.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use treeline_event::{KINDS, decode};
use treeline_tests::{samples, venv::python};

/// The validator's findings, empty when there are none.
fn findings(entries: &[Vec<u8>]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("ocsf/validate.py");
    let mut child = Command::new(python())
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the validator starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    for entry in entries {
        stdin.write_all(entry).and_then(|()| stdin.write_all(b"\n")).expect("the validator reads");
    }
    drop(stdin);
    let output = child.wait_with_output().expect("the validator ends");
    let findings = String::from_utf8(output.stdout).expect("UTF-8");
    let code = if findings.is_empty() { Some(0) } else { Some(1) };
    assert_eq!(output.status.code(), code, "the validator itself failed: {findings}");
    findings
}

#[test]
fn every_kind_validates() {
    let entries = samples::entries();
    let kinds: Vec<_> = entries.iter().map(|entry| decode(entry).expect("an entry").body.kind()).collect();
    for kind in KINDS {
        assert!(kinds.contains(&kind), "no sample of `{kind}`");
    }
    assert_eq!(findings(&entries), "");
}

#[test]
fn broken_entries_are_found() {
    let entries = samples::entries();
    let deny =
        entries.iter().find(|entry| decode(entry).expect("an entry").body.kind() == "open").expect("an open");
    let deny = String::from_utf8(deny.clone()).expect("UTF-8");
    for (from, to, says) in [
        ("\"severity_id\":1", "\"severity_id\":77", "severity_id"),
        ("\"status_id\"", "\"no_such_attribute\"", "no_such_attribute"),
        ("\"hostname\"", "\"hostnaem\"", "hostnaem"),
        ("\"actor\"", "\"src_url\"", "actor"),
    ] {
        assert!(deny.contains(from), "{from}");
        let found = findings(&[deny.replacen(from, to, 1).into_bytes()]);
        assert!(found.contains(says), "{from} -> {to}: `{found}`");
    }
}
