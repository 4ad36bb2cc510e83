//! Several policies that hold together: who may loosen what, and what is wrong with them.

use treeline_policy::{
    Code, Diagnostics, Host, MountTable, Object, Policy, Request, Subject, Target, compile, compose, explain,
    lint, parse, parse_tests, parse_with,
    policy::{FileOperation, Level},
    source::{FILES_MAX, Source},
    testing::run,
};

const ORGANISATION: &str = "
defaults: {connect: {action: deny, reason: r, loosened_by: [team]}, read: {action: record, reason: r}}
rules:
  - {id: keys, kind: file, paths: [/keys/**], reason: r}
  - {id: cloud, kind: file, paths: [/cloud/**], reason: r, loosened_by: [team]}
  - {id: seen, kind: file, mode: monitor, paths: [/seen/**], reason: r}
  - {id: own, kind: file, action: allow, priority: 1, paths: [/keys/own], reason: r}
";
const TEAM: &str = "
defaults: {exec: {action: deny, reason: r}}
rules:
  - {id: build, kind: file, paths: [/build/**], reason: r}
  - {id: strict, kind: file, priority: 2, paths: [/open/x], reason: r}
  - {id: open, kind: file, action: allow, priority: 1, paths: [/keys/a, /cloud/a, /seen/a, /build/a, /open/**, /local/a], reason: r}
  - {id: level, kind: file, action: allow, paths: [/cloud/b], reason: r}
  - {id: mirror, kind: connect, action: allow, to: [10.0.0.0/8], reason: r}
";
const LOCAL: &str = "
mode: monitor
defaults: {exec: {action: record, reason: r}, connect: {action: deny, reason: r}}
rules:
  - {id: mine, kind: file, action: deny, paths: [/local/**], except: [{executable: /usr/bin/vi}], reason: r}
  - {id: noted, kind: file, paths: [/noted/**], reason: r}
";

fn read(name: &str, text: &str) -> Policy {
    parse(&format!("{name}.yaml"), &format!("version: 1\nname: {name}{text}"))
        .unwrap_or_else(|found| panic!("{found}"))
}

fn levels(parts: &[(Level, &str)]) -> Result<Policy, Diagnostics> {
    compose(parts.iter().map(|(level, text)| (*level, read(level.name(), text))).collect())
}

const ALL: [(Level, &str); 3] =
    [(Level::Organisation, ORGANISATION), (Level::Team, TEAM), (Level::Local, LOCAL)];

#[track_caller]
fn check(policy: &Policy, tests: &str) {
    let text =
        format!("policy: p.yaml\nmachine: {{homes: {{ada: /home/ada}}, mounts: [/]}}\ntests:\n{tests}");
    let file = parse_tests(Source::new("p.test.yaml", &text)).unwrap_or_else(|found| panic!("{found}"));
    let results = run(&file, policy, None).unwrap_or_else(|found| panic!("{found}"));
    assert_eq!(results.failed(), 0, "{}", results.failures());
}

#[test]
fn who_may_loosen_what() {
    let policy = levels(&ALL).unwrap_or_else(|found| panic!("{found}"));
    check(
        &policy,
        "
  - {do: write /keys/x, expect: deny keys}
  # The organisation itself may, a team may not, and only where it is named.
  - {do: write /keys/own, expect: allow}
  - {do: write /keys/a, expect: deny keys}
  - {do: write /cloud/a, expect: allow}
  - {do: write /cloud/b, expect: deny cloud}
  - {do: write /seen/a, expect: record seen}
  # Its own rules, and those of the machine, by priority.
  - {do: write /build/a, expect: allow}
  - {do: write /build/b, expect: deny build}
  - {do: write /open/x, expect: deny strict}
  - {do: write /local/a, by: /usr/bin/cat, expect: allow}
  - {do: write /local/b, by: /usr/bin/cat, expect: deny mine}
  - {do: write /local/b, by: /usr/bin/vi, expect: allow}
  - {do: write /noted/x, expect: record noted}
  # Of what holds where no rule does, each is one of its own.
  - {do: read /etc/x, expect: record default/read}
  - {do: exec /x, expect: deny default/exec/team}
  - {do: \"connect 10.1.1.1:1\", expect: allow}
  - {do: \"connect 1.1.1.1:1\", expect: deny default/connect}
",
    );
    let of = |id: &str| policy.rule(id).map(|rule| (rule.level, rule.policy.to_string()));
    assert_eq!(of("keys"), Some((Level::Organisation, "organisation".to_owned())));
    assert_eq!(of("default/exec/local"), Some((Level::Local, "local".to_owned())));
    assert_eq!(policy.name, "organisation");
}

#[test]
fn what_was_one_policy_is_the_same() {
    let alone = read("organisation", ORGANISATION);
    assert_eq!(levels(&ALL[..1]).as_ref(), Ok(&alone));
    assert!(!alone.is_composed());
}

#[test]
fn a_level_that_cannot_loosen_is_explained() {
    let policy = levels(&ALL).unwrap_or_else(|found| panic!("{found}"));
    let said = |path: &str| {
        let object = Object::File { path: path.into(), operation: FileOperation::Write };
        explain(&policy, &Host::default(), &Request { subject: Subject::default(), object }).to_string()
    };
    let text = said("/keys/a");
    for line in [
        "deny by `keys` of policy `organisation`",
        "organisation  enforce  matches `/keys/**`; `open` may not loosen it",
        "team          allow    - `/keys/a` matches, but no rule with a lower priority holds that it could lift, and may",
    ] {
        assert!(text.contains(line), "`{line}` is not in:\n{text}");
    }
    assert!(said("/build/b").starts_with("deny by `build` of policy `team`"), "{}", said("/build/b"));
}

#[track_caller]
fn refused(parts: &[(Level, &str)], code: Code, place: &str, words: &str) {
    let found = levels(parts).expect_err(words);
    let report = found.reports().find(|report| report.code == code);
    let report = report.unwrap_or_else(|| panic!("no {code:?} in:\n{found}"));
    let at = format!("{}:{}:{}", report.file, report.position.line, report.position.column);
    assert_eq!(at, place, "{found}");
    assert!(found.to_string().contains(words), "{found}");
    assert_eq!(found.reports().count(), 1, "{found}");
}

#[test]
fn what_a_level_cannot_have_is_named_with_its_place() {
    let of = |more: &str| format!("\nrules: [{{id: a, kind: file, paths: [/x], reason: r{more}}}]\n");
    let organisation = (Level::Organisation, "\nrules: []\n");
    let local = |text: &str, words: &str| {
        refused(&[organisation, (Level::Local, text)], Code::WrongLevel, "local.yaml:3:14", words);
    };
    local(&of(", action: allow"), "`a` allows, and a local policy only refuses and records");
    let adopts = "\nrules: [{id: a, kind: broker, brokers: [ssh], action: adopt, reason: r}]\n";
    refused(&[organisation, (Level::Local, adopts)], Code::WrongLevel, "local.yaml:3:14", "`a` adopts");
    let loosened = of(", loosened_by: [team]");
    for level in [Level::Team, Level::Local] {
        let place = format!("{}.yaml:3:67", level.name());
        refused(&[organisation, (level, &loosened)], Code::WrongLevel, &place, "is not below");
    }
    assert!(
        levels(&[(Level::Organisation, &loosened), (Level::Local, &of("").replace("id: a", "id: b"))])
            .is_ok()
    );
}

#[test]
fn what_two_have_is_named_with_both_places() {
    let rules = "\nrules: [{id: a, kind: file, paths: [/x], reason: r}]\n";
    let brokers = "\nrules: [{id: a, kind: broker, brokers: [ssh, docker], reason: r}]\n";
    for (first, second) in [(rules, rules), (rules, brokers), (brokers, rules), (brokers, brokers)] {
        let parts = [(Level::Organisation, first), (Level::Team, second)];
        refused(&parts, Code::DuplicateId, "team.yaml:3:14", "organisation.yaml:3:14");
    }
    let named = |_: usize| (Level::Team, read("one", "\nrules: []\n"));
    let found = compose((0..2).map(named).collect()).expect_err("one name");
    assert!(found.items().iter().any(|item| item.code == Code::DuplicatePolicy), "{found}");
    assert_eq!(
        compose(Vec::new()).expect_err("none").items().first().map(|item| item.code),
        Some(Code::EmptyPolicy)
    );
}

#[test]
fn a_content_is_in_one_rule_of_all() {
    let of =
        |id: &str| format!("\nrules: [{{id: {id}, kind: exec, sha256: [{}], reason: r}}]\n", "ab".repeat(32));
    let [first, second] = ["a", "b"].map(of);
    let policy = levels(&[(Level::Organisation, &first), (Level::Local, &second)]).expect("two rules");
    let target = Target { seed: 1, generation: 1, slot: 0 };
    let found = compile(&policy, &Host::default(), &MountTable::single(1), target).expect_err("one content");
    let text = found.to_string();
    assert!(found.items().iter().all(|item| item.code == Code::DuplicateContent), "{text}");
    assert!(text.contains("organisation.yaml:3:") && text.contains("local.yaml:3:"), "{text}");
}

#[test]
fn bounds_hold_for_all_together() {
    let many = |from: usize, to: usize| {
        let rule = |index| format!("  - {{id: r-{index}, kind: file, paths: [/x], reason: r}}\n");
        format!("\nrules:\n{}", (from..to).map(rule).collect::<String>())
    };
    let [first, second] = [many(0, 600), many(600, 1200)];
    let parts = [(Level::Organisation, first.as_str()), (Level::Team, second.as_str())];
    refused(&parts, Code::TooManyRules, "organisation.yaml:1:1", "1200 rules in all policies together");
    let team = |index: usize| (Level::Team, read(&format!("t-{index:02}"), "\nrules: []\n"));
    assert!(compose((0..FILES_MAX).map(team).collect()).is_ok());
    let found = compose((0..=FILES_MAX).map(team).collect()).expect_err("one too many");
    let words = "`t-64.yaml` cannot be added to the other policies: more than 64 files";
    assert!(found.to_string().contains(words), "{found}");
}

#[test]
fn places_are_those_of_the_files() {
    let organisation = read("organisation", "\nrules: [{id: a, kind: file, paths: [/x], reason: r}]\n");
    let text = "version: 1\nname: team\nsilence: {shadowed: s}\nlists: {paths: {none: [/y]}}
rules:
  - {id: b, kind: file, paths: [/x/y], reason: r, except: [{executable: /bin/sh}]}
  - {id: c, kind: file, mode: monitor, operations: [read], paths: [/z], reason: r, silence: {renamed-away: s}}
  - {id: d, kind: file, mode: monitor, operations: [read], paths: [/w], reason: r}
";
    let team = parse_with(&treeline_policy::Alone, Source::new("team.yaml", text), None);
    let team = team.unwrap_or_else(|found| panic!("{found}"));
    let policy = compose(vec![(Level::Organisation, organisation), (Level::Team, team)]);
    let policy = policy.unwrap_or_else(|found| panic!("{found}"));
    let linted = lint(&policy, None).finish();
    let mut found: Vec<String> = linted
        .found
        .reports()
        .map(|report| format!("{} {}:{}", report.code.name(), report.file, report.position.line))
        .collect();
    found.sort();
    let expect = ["renamed-away team.yaml:8", "unused-list team.yaml:4", "wide-exception team.yaml:6"];
    assert_eq!(found, expect, "{}", linted.found);
    let silenced: Vec<&str> = linted.silenced.iter().map(|one| one.code.name()).collect();
    assert_eq!(silenced, ["renamed-away"], "that of rule `c`");
}
