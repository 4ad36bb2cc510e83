//! Rules that allow, defaults, and what a rule does not mean: each answer by the definition and by the kernel's tables.

use treeline_policy::{Code, parse, parse_tests, source::Source, testing::run};

#[track_caller]
fn check(policy: &str, tests: &str) {
    let text = format!(
        "policy: p.yaml\nmachine: {{homes: {{ada: /home/ada}}, mounts: [/, /home, /tmp, /run]}}\ntests:\n{tests}"
    );
    let file = parse_tests(Source::new("p.test.yaml", &text)).unwrap_or_else(|found| panic!("{found}"));
    let policy = format!("version: 1\nname: t\n{policy}");
    let policy = parse("p.yaml", &policy).unwrap_or_else(|found| panic!("{found}"));
    let results = run(&file, &policy, None).unwrap_or_else(|found| panic!("{found}"));
    assert_eq!(results.failed(), 0, "{}", results.failures());
}

#[test]
fn what_a_rule_does_not_mean() {
    check(
        "rules:
  - id: project-only
    kind: file
    paths: [/**]
    operations: [write, create, delete, rename, link]
    except_paths: [~/work/**, /tmp/**, /dev/null]
    reason: r
  - {id: kept, kind: file, paths: [~/work/*/.git/hooks/**], operations: [write], reason: r}
  - {id: programs, kind: exec, paths: [/opt/**], except_paths: [/opt/tools/*], reason: r}
  - {id: sockets, kind: connect, unix: [/run/**, \"@*\"], except_unix: [/run/ok, \"@ok*\"], reason: r}
",
        "
  - {do: write /home/ada/work/x, expect: allow}
  - {do: write /home/ada/work, expect: allow}
  - {do: rename /tmp/x, expect: allow}
  - {do: write /dev/null, expect: allow}
  - {do: write /dev/nulls, expect: deny project-only}
  - {do: read /etc/passwd, expect: allow}
  - {do: write /home/ada/worker/x, expect: deny project-only}
  - {do: write /home/ada/work/x/.git/hooks/pre-commit, expect: deny kept}
  - {do: exec /opt/tools/a, expect: allow}
  - {do: exec /opt/tools/a/b, expect: deny programs}
  - {do: exec /opt/a, expect: deny programs}
  - {do: unix /run/ok, expect: allow}
  - {do: unix /run/other, expect: deny sockets}
  - {do: unix @okay, expect: allow}
  - {do: unix @other, expect: deny sockets}
",
    );
}

#[test]
fn what_allows_has_a_higher_priority_and_is_certain() {
    let hash = "7".repeat(64);
    check(
        &format!(
            "rules:
  - {{id: keys, kind: file, paths: [~/.ssh/**], reason: r}}
  - {{id: deploy, kind: file, action: allow, priority: 10, paths: [~/.ssh/deploy], operations: [read], only: [{{executable: /usr/bin/rsync}}], except: [{{descendant_of: {{executable: /usr/bin/node}}}}], reason: r}}
  - {{id: level, kind: file, action: allow, paths: [~/.ssh/config], reason: r}}
  - {{id: above, kind: file, mode: monitor, priority: 20, paths: [~/.ssh/deploy], reason: r}}
  - {{id: content, kind: exec, paths: [/bad/**], sha256: [{hash}], reason: r}}
  - {{id: good, kind: exec, action: allow, priority: 1, paths: [/bad/good/**], reason: r}}
"
        ),
        &format!(
            "
  - {{do: read /home/ada/.ssh/deploy, by: /usr/bin/rsync, below: [/usr/bin/sh], expect: record above}}
  - {{do: read /home/ada/.ssh/deploy, by: /usr/bin/cat, below: [], expect: deny keys}}
  - {{do: write /home/ada/.ssh/deploy, by: /usr/bin/rsync, below: [], expect: deny keys}}
  - {{do: read /home/ada/.ssh/deploy, by: {{executable: /usr/bin/rsync, loads_code: true}}, below: [], expect: deny keys}}
  - {{do: read /home/ada/.ssh/deploy, by: /usr/bin/rsync, below: [/usr/bin/node], expect: deny keys}}
  # Of what it is below is not known.
  - {{do: read /home/ada/.ssh/deploy, by: /usr/bin/rsync, expect: deny keys}}
  - {{do: read /home/ada/.ssh/config, by: /usr/bin/rsync, below: [], expect: deny keys}}
  - {{do: exec /bad/good/x, expect: allow}}
  - {{do: exec /bad/x, expect: deny content}}
  - {{do: exec /bad/good/x, sha256: {hash}, expect: deny content}}
"
        ),
    );
}

#[test]
fn defaults_are_below_all() {
    check(
        "defaults:
  connect: {action: deny, reason: r}
  unix: {action: deny, reason: r}
  write: {action: deny, reason: r}
  exec: {action: record, reason: r}
rules:
  - {id: z-private, kind: connect, to: [10.0.0.0/8], reason: r}
  - {id: mirror, kind: connect, action: allow, to: [93.184.216.0/24, 10.1.1.1], ports: [443], reason: r}
  - {id: git, kind: connect, action: allow, to: [140.82.112.0/20], ports: [22], only: [{executable: /usr/bin/ssh}], reason: r}
  - {id: loopback, kind: connect, action: allow, to: [\"::1\"], reason: r}
  - {id: bus, kind: connect, action: allow, unix: [/run/bus, \"@bus\"], reason: r}
  - {id: work, kind: file, action: allow, paths: [~/work/**], reason: r}
  - {id: system, kind: exec, action: allow, paths: [/usr/bin/**], reason: r}
  - {id: others, kind: broker, action: adopt, brokers: [ssh], reason: r}
",
        "
  - {do: \"connect 93.184.216.34:443\", expect: allow}
  - {do: \"connect 93.184.216.34:80\", expect: deny default/connect}
  - {do: \"connect 1.1.1.1:443\", expect: deny default/connect}
  - {do: \"connect 10.1.1.1:443\", expect: deny z-private}
  - {do: \"connect 140.82.112.3:22\", by: /usr/bin/ssh, expect: allow}
  - {do: \"connect 140.82.112.3:22\", by: /usr/bin/nc, expect: deny default/connect}
  - {do: \"connect [::1]:1\", expect: allow}
  # It is 127.0.0.1, too.
  - {do: \"connect [::]:1\", expect: deny default/connect}
  - {do: \"connect 127.0.0.1:1\", expect: deny default/connect}
  - {do: raw-socket, expect: deny z-private}
  - {do: unix /run/bus, expect: allow}
  - {do: unix @bus, expect: allow}
  - {do: unix @other, expect: deny default/unix}
  - {do: unix /run/other, expect: deny default/unix}
  - {do: write /home/ada/work/x, expect: allow}
  - {do: write /etc/x, expect: deny default/write}
  - {do: read /etc/x, expect: allow}
  - {do: exec /usr/bin/x, expect: allow}
  - {do: exec /tmp/x, expect: record default/exec}
",
    );
}

#[test]
fn nothing_is_allowed_against_a_rule_that_adopts() {
    check(
        "rules:
  - {id: others, kind: broker, action: adopt, brokers: [ssh], reason: r}
  - {id: all, kind: connect, action: allow, priority: 1000, to: [0.0.0.0/0, \"::/0\"], unix: [/**, \"@*\"], reason: r}
",
        "  - {do: \"connect 127.0.0.1:22\", expect: adopt others/ssh}\n",
    );
}

#[test]
fn what_is_wrong_is_named() {
    let check = |rule: &str, code: Code, words: &str| {
        let text = format!("version: 1\nname: t\nrules: [{{id: a, reason: r, {rule}}}]\n");
        let found = parse("t", &text).expect_err(rule);
        let item = found.items().iter().find(|item| item.code == code);
        let item = item.unwrap_or_else(|| panic!("{rule}: {found}"));
        let help = item.help.as_deref().unwrap_or_default();
        assert!(format!("{}{help}", item.message).contains(words), "{rule}: {found}");
    };
    let hash = "1".repeat(64);
    let allows = "action: allow";
    check(
        &format!("kind: file, paths: [/x], {allows}, except_paths: [/x/y]"),
        Code::ConflictingKeys,
        "higher `priority`",
    );
    check(&format!("kind: exec, sha256: [\"{hash}\"], {allows}"), Code::ConflictingKeys, "`except`");
    check(
        &format!("kind: connect, unix: [/x], {allows}, except_unix: [/x]"),
        Code::ConflictingKeys,
        "`except_unix`",
    );
    check(&format!("kind: exec, sha256: [\"{hash}\"], except_paths: [/x]"), Code::IdleKey, "without `paths`");
    check("kind: connect, to: [1.1.1.1], except_unix: [/x]", Code::IdleKey, "without `unix`");
    check("kind: connect, unix: [/x], except_paths: [/x]", Code::UnknownKey, "`except_paths`");
    check("kind: file, paths: [/x], action: adopt", Code::UnknownWord, "`allow`");
    check("kind: file, paths: [/x], action: deny, mode: enforce", Code::ConflictingKeys, "twice");
    check("kind: broker, brokers: [ssh], action: allow", Code::UnknownWord, "`adopt`");
    check("kind: broker, brokers: [ssh], priority: 2000", Code::BadNumber, "1000");
    check("kind: posture, require: {secure_boot: true}, action: allow", Code::UnknownKey, "`action`");
}
