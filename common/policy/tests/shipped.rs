//! The policies that are shipped: their tests pass, and leave nothing of them out.

use std::{fs, path::Path};

use treeline_abi::paths::WORDS;
use treeline_policy::{
    MountTable, Policy, Target, compile, lint, parse, parse_tests,
    source::Source,
    testing::{Untested, run},
};

/// Each policy with its tests: their names and texts.
fn shipped() -> Vec<[(String, String); 2]> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies");
    let entries = fs::read_dir(&folder).expect("policies are shipped");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"));
    let tests = names.filter_map(|name| name.strip_suffix(".test.yaml").map(str::to_owned));
    let text = |name: String| {
        let text = fs::read_to_string(folder.join(&name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        (name, text)
    };
    tests.map(|stem| [text(format!("{stem}.yaml")), text(format!("{stem}.test.yaml"))]).collect()
}

fn policy((name, text): &(String, String)) -> Policy {
    parse(name, text).unwrap_or_else(|diagnostics| panic!("{diagnostics}"))
}

#[test]
fn tests_pass_and_leave_nothing_out() {
    let shipped = shipped();
    assert!(!shipped.is_empty(), "the policies have been found");
    for [written, (name, text)] in &shipped {
        let file = parse_tests(Source::new(name, text)).unwrap_or_else(|diagnostics| panic!("{diagnostics}"));
        assert_eq!(file.policy.value, written.0);
        let results =
            run(&file, &policy(written), None).unwrap_or_else(|diagnostics| panic!("{diagnostics}"));
        assert_eq!(results.failed(), 0, "{}", results.failures());
        assert_eq!(results.untested, Untested::default(), "{name}: add a test of each");
    }
}

#[test]
fn they_fit_and_have_no_warnings() {
    for [written, (name, text)] in &shipped() {
        let (file, policy) = (parse_tests(Source::new(name, text)).expect("valid tests"), policy(written));
        let found = lint(&policy, None).finish().found;
        assert!(found.is_empty(), "{found}");
        let target = Target { seed: 1, generation: 1, slot: 0 };
        for mounts in [&MountTable::single(1), &file.machine.mounts] {
            let usage = compile(&policy, &file.machine.host, mounts, target).expect("it fits").usage();
            assert!(usage.words <= WORDS * 3 / 4, "room is left for local rules: {usage:?}");
        }
    }
}
