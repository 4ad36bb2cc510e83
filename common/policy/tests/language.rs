//! What the language accepts, and what it says of what it does not.

use proptest::prelude::*;
use treeline_policy::{
    Alone, Code, Moment,
    brokers::BROKERS,
    diagnostic::Level,
    parse, parse_with,
    policy::{Adoption, Kind, Mode, Severity},
    source::{Source, TEXT_LEN_MAX},
};

const VALID: &str = r#"version: 1
name: example
description: |
  What it is for.
  On two lines.
owner: security@acme.example
revision: 42
mode: monitor
lists:
  paths:
    sockets: [/run/docker.sock, $more]
    more: [~/.docker/run/docker.sock]
  addresses: {cloud: [169.254.169.254, "fd00:ec2::/64"]}
rules:
  - id: ssh-keys
    kind: file
    mode: enforce
    severity: critical
    paths: [~/.ssh/**, "/etc/ssh/*_key"]
    operations: [read, write]
    reason: 'Keys: ask a human'
    except:
      - executable: /usr/bin/ssh
      - executable: ~/.cargo/bin/*
        sha256: 0000000000000000000000000000000000000000000000000000000000000001
      - {sha256: "ABCDEF0000000000000000000000000000000000000000000000000000000000"}
  - id: tools
    kind: exec
    paths: [/usr/bin/nc]
    sha256: [1111111111111111111111111111111111111111111111111111111111111111]
    reason: no
      tunnels
  - {id: metadata, kind: connect, to: [$cloud], ports: [80, "8000-8999"], reason: cloud, expires: 2027-03-01T12:00:00Z}
  - {id: docker, kind: connect, unix: [$sockets], reason: root, remedy: ask, link: "https://wiki.acme.example/", controls: [A-1]}
  - {id: others, kind: broker, brokers: [cron, ptrace, tmux], mode: enforce, severity: high, reason: elsewhere, except: [{executable: /usr/bin/tmux}]}
"#;

#[test]
fn a_valid_policy() {
    let policy = parse("valid.yaml", VALID).unwrap_or_else(|diagnostics| panic!("{diagnostics}"));
    assert!(policy.warnings.is_empty(), "{}", policy.warnings);
    let ids: Vec<&str> = policy.rules.iter().map(|rule| rule.id.as_str()).collect();
    assert_eq!(
        ids,
        ["docker", "metadata", "others/cron-files", "others/ptrace", "others/tmux", "ssh-keys", "tools"]
    );
    assert_eq!(policy.rule("tools").map(|rule| rule.reason.as_str()), Some("no tunnels"));
    assert!(
        matches!(policy.rule("metadata").map(|rule| &rule.kind), Some(Kind::Connect { ports, .. }) if ports.len() == 2)
    );
    assert_eq!(policy.rule("missing"), None);
}

/// Checks every diagnostic of a text: `line:column message` and, after ` | `, a part of the help, and after ` ~ `, the
/// other places.
#[track_caller]
fn check(text: &str, expect: &[&str]) {
    let diagnostics = parse("p", text).expect_err("an invalid policy");
    let reports: Vec<_> = diagnostics.reports().filter(|report| report.level == Level::Error).collect();
    let shown = || {
        reports
            .iter()
            .map(|r| format!("{}:{} {} | {:?}\n", r.position.line, r.position.column, r.message, r.help))
            .collect::<String>()
    };
    assert_eq!(reports.len(), expect.len(), "{}", shown());
    for (report, expect) in reports.iter().zip(expect) {
        let (place, expect) = expect.split_once(' ').expect("a place and a message");
        let (expect, related) = expect.split_once(" ~ ").unwrap_or((expect, ""));
        let (message, help) = expect.split_once(" | ").unwrap_or((expect, ""));
        let places = report.related.iter().map(|at| format!("{}:{}", at.position.line, at.position.column));
        assert_eq!(places.collect::<Vec<_>>().join(" "), related, "{}", shown());
        assert_eq!(format!("{}:{}", report.position.line, report.position.column), place, "{}", shown());
        assert!(report.message.contains(message), "{message}: {}", shown());
        assert!(report.help.as_deref().unwrap_or("").contains(help), "{help}: {}", shown());
    }
}

/// A policy with one rule, which begins on line 4 in column 5.
fn rule(lines: &str) -> String {
    format!("version: 1\nname: t\nrules:\n  - {}\n", lines.replace('\n', "\n    "))
}

#[test]
fn the_head() {
    check(
        "x: 1\n",
        &[
            "1:1 has no `version`",
            "1:1 has no `name`",
            "1:1 has no `rules`",
            "1:1 unknown key `x` | its keys are",
        ],
    );
    check("version: 2\nname: t\nrules: []\n", &["1:10 version 2 | upgrade"]);
    check("version: one\nname: t\nrules: []\n", &["1:10 has to be a number"]);
    check("version: 1\nname: 7\nrules: []\n", &["2:7 not a number | \"7\""]);
    check("version: 1\nname: \"a\\x1b[0m\"\nrules: []\n", &["2:7 U+001B"]);
    check("version: 1\nname: t\nmode: enfroce\nrules: []\n", &["3:7 unknown mode `enfroce` | `enforce`?"]);
    check("version: 1\nname: t\nrules: {}\n", &["3:8 has to be a list, not a mapping"]);
    check("version: 1\nname: t\nname: u\nrules: []\n", &["3:1 given twice ~ 2:1"]);
    check("- 1\n", &["1:1 has to be a mapping, not a list"]);
    check(&format!("version: 1\nname: t\nrules: [{}]\n", "1,".repeat(1025)), &["3:8 1025 rules"]);
    check(
        &" ".repeat(TEXT_LEN_MAX + 1),
        &["1:1 more than the 1048576 bytes that a policy can have | fewer rules"],
    );
}

#[test]
fn every_error_is_reported() {
    check(
        &rule(
            "id: Bad_Id\nkind: file\npathes: [/x]\npaths: [x, \"/a/[b]\"]\noperations: [raed, read, read]\nreason: ''\nexcept: [{}]",
        ),
        &[
            "4:9 not an id | `bad-id`",
            "6:5 unknown key `pathes` | `paths`?",
            "7:13 not absolute | begin with",
            "7:16 `[` cannot be used | a component is",
            "8:18 unknown operation `raed` | `read`?",
            "8:30 twice ~ 8:24",
            "9:13 cannot be empty",
            "10:14 lifts the rule for everybody",
        ],
    );
}

#[test]
fn rules() {
    check(&rule("id: a\nreason: r"), &["4:5 has no `kind`"]);
    check(&rule("id: a\nkind: fiel\nreason: r\nports: [1]"), &["5:11 unknown kind `fiel` | `file`?"]);
    check(&rule("id: a\nkind: file\nreason: r"), &["4:5 has no `paths`"]);
    check(
        &rule("id: a\nkind: file\nreason: r\npaths: /x"),
        &["7:12 has to be a list, not a string | brackets"],
    );
    check(&rule("id: a\nkind: file\nreason: r\npaths: []"), &["7:12 cannot be empty"]);
    check(&rule("id: a\nkind: file\nreason: r\npaths: [~]"), &["7:13 not nothing | \"~\""]);
    check(&rule("id: a\nkind: file\nreason: r\npaths: [/x, /x]"), &["7:17 twice ~ 7:13"]);
    check(
        &rule("id: a\nkind: file\nreason: r\npaths: [/x]\nports: [1]"),
        &["8:5 unknown key `ports` in a rule of kind `file`"],
    );
    check(&rule("id: a\nkind: exec\nreason: r"), &["4:5 needs `paths` or `sha256`"]);
    check(
        &rule("id: a\nkind: exec\nreason: r\nsha256: [abc, xyz]"),
        &["7:14 not 3 | sha256sum", "7:19 not hexadecimal"],
    );
    check(&rule("id: a\nkind: connect\nreason: r"), &["4:5 needs `to` or `unix`"]);
    check(&rule("id: a\nkind: connect\nreason: r\nunix: [/x]\nports: [1]"), &["8:12 without `to`"]);
    check(
        &rule(
            "id: a\nkind: connect\nreason: r\nto: [10.0.0.1/8, example.com, 1.2.3.4/33, \"::ffff:1.2.3.4\"]",
        ),
        &[
            "7:10 beyond its prefix | `10.0.0.0/8`",
            "7:22 not an address | host names",
            "7:35 not an address",
            "7:47 IPv4-mapped | `1.2.3.4/32`",
        ],
    );
    check(
        &rule("id: a\nkind: connect\nreason: r\nto: [::/0]\nports: [65536, 9-8, +1, x]"),
        &["8:13 not a port", "8:20 ends before | `8-9`", "8:25 not a port", "8:29 not a port"],
    );
    check(
        &rule("id: a\nkind: connect\nreason: r\nto: [0.0.0.0, \"::\"]\nhosts: [example.com]"),
        &["7:10 is loopback | `127.0.0.1`", "7:19 is loopback | `::1`", "8:12 host names cannot | a proxy"],
    );
    check(
        &rule("id: a\nkind: connect\nreason: r\nto: [10.0.0.1]\nzzz: 1"),
        &["8:5 unknown key `zzz` | `to`, `ports`, `except_to`, `unix`, `except_unix`, `expires`"],
    );
    check(
        &rule("id: a\nkind: connect\nreason: r\nunix: [/x]\nexcept_to: [{ports: [1]}, {to: [x], port: [1]}]"),
        &["8:16 without `to`", "8:17 no `to`", "8:37 not an address", "8:41 unknown key `port` | `ports`?"],
    );
    check(
        &rule("id: a\nkind: connect\nreason: r\nunix: [\"@\", \"@a**\", \"@x\", \"@x\"]"),
        &["7:12 cannot be empty | `@*`", "7:17 more than one", "7:31 twice ~ 7:25"],
    );
    check(
        "version: 1\nname: t\nrules:\n  - {id: a, kind: file, reason: r, paths: [/x]}\n  - {id: a, kind: file, reason: r, paths: [/x]}\n",
        &["5:10 id of two rules | unique ~ 4:10"],
    );
}

#[test]
fn a_rule_about_brokers_is_one_for_each_way_to_them() {
    let policy = parse("p", VALID).expect("a valid policy");
    let whole = policy.rule("docker").expect("a rule that is not taken apart");
    let parts =
        ["others/cron-files", "others/ptrace", "others/tmux"].map(|id| policy.rule(id).expect("a part"));
    for part in parts {
        assert_eq!((part.mode, part.severity), (Mode::Enforce, Severity::High));
        assert_eq!((part.reason.as_str(), part.exceptions.len()), ("elsewhere", 1));
        assert!(part.span > whole.span);
    }
    assert_eq!(parts.map(|part| part.kind.name()), ["file", "trace", "connect"]);
    let text = |brokers: &str| rule(&format!("id: a\nkind: broker\nreason: r\nbrokers: {brokers}"));
    for broker in BROKERS {
        let policy = parse("p", &text(&format!("[{}]", broker.name))).expect("a valid policy");
        assert!(policy.rules.iter().all(|rule| rule.id.starts_with(&format!("a/{}", broker.name))));
    }
    check(&text("[dokcer, cron, cron]"), &["7:15 unknown broker `dokcer` | `docker`?", "7:29 twice ~ 7:23"]);
    check(&text("[]"), &["7:14 cannot be empty"]);
    check(&rule("id: a\nkind: broker\nreason: r"), &["4:5 has no `brokers`"]);
    check(
        &rule("id: a\nkind: broker\nreason: r\nbrokers: [at]\nunix: [/x]"),
        &["8:5 unknown key `unix` in a rule of kind `broker`"],
    );
    check(
        "version: 1\nname: t\nrules:\n  - {id: a, kind: broker, reason: r, brokers: [at]}\n  - {id: a, kind: broker, reason: r, brokers: [cron]}\n",
        &["5:10 id of two rules | unique ~ 4:10"],
    );
}

#[test]
fn a_rule_about_brokers_denies_records_or_adopts() {
    let text = |more: &str| rule(&format!("id: a\nkind: broker\nreason: r\n{more}"));
    let rules = |more: &str| parse("p", &text(more)).expect("a valid policy").rules;
    for (action, mode) in [("deny", Mode::Enforce), ("record", Mode::Monitor)] {
        for rule in rules(&format!("brokers: [docker, ssh, ptrace, at]\naction: {action}")) {
            assert_eq!((rule.mode, rule.adopts), (mode, None), "{}", rule.id);
        }
    }
    let adopts = rules("action: adopt\nbrokers: [ssh, ptrace, at]");
    let adopts: Vec<_> = adopts.iter().map(|rule| (rule.id.as_str(), rule.mode, rule.adopts)).collect();
    let expect = [
        ("a/at-files", Mode::Monitor, Some(Adoption::Job)),
        ("a/ptrace", Mode::Monitor, Some(Adoption::Trace)),
        ("a/ssh", Mode::Monitor, Some(Adoption::Connection)),
        ("a/ssh-files", Mode::Monitor, None),
        ("a/ssh-sockets", Mode::Monitor, None),
    ];
    assert_eq!(adopts, expect);
    for broker in BROKERS.iter().filter(|broker| !["at", "ptrace", "ssh"].contains(&broker.name)) {
        let words = format!("7:15 `{}` starts cannot be adopted | `at`", broker.name);
        check(&text(&format!("brokers: [{}]\naction: adopt", broker.name)), &[&words]);
    }
    check(&text("brokers: [ssh]\naction: adpot"), &["8:13 unknown action `adpot` | `adopt`?"]);
    check(
        &text("brokers: [ssh]\naction: deny\nmode: enforce"),
        &["9:11 says it twice | remove `mode` ~ 8:13"],
    );
    check(
        &text("brokers: [ssh]\naction: adopt\nexcept: [{executable: /usr/bin/ssh}]"),
        &["9:13 has no exceptions | remove `except` ~ 8:13"],
    );
    check(
        &rule("id: a\nkind: posture\nreason: r\nrequire: {secure_boot: true}\naction: deny"),
        &["8:5 unknown key `action` in a rule of kind `posture`"],
    );
}

#[test]
fn parts_count_as_rules() {
    let rules: String = (0..200)
        .map(|n| format!("  - {{id: r{n}, kind: broker, reason: r, brokers: [systemd, ssh, at, cron]}}\n"))
        .collect();
    check(
        &format!("version: 1\nname: t\nrules:\n{rules}"),
        &["4:3 1400 rules with the parts | name each broker once"],
    );
}

#[test]
fn what_is_said_for_people() {
    let head = |more: &str| format!("version: 1\nname: t\n{more}\nrules: []\n");
    let policy = parse("p", &head("owner: security@acme.example\nrevision: 42")).expect("a valid policy");
    assert_eq!((policy.owner.as_deref(), policy.revision), (Some("security@acme.example"), Some(42)));
    for bad in ["\"42\"", "[1]", "x"] {
        check(&head(&format!("revision: {bad}")), &["3:11 has to be a number | from 1 to"]);
    }
    for bad in ["0", "-1", "+1", "1.5", "0x2A", "9007199254740992", "99999999999999999999"] {
        check(&head(&format!("revision: {bad}")), &["3:11 cannot be the number of a revision | from 1 to"]);
    }
    check(&head("owner: 7"), &["3:8 not a number"]);
    // As YAML 1.2 has it.
    check(&head("owner: 0x1F"), &["3:8 not a number"]);
    assert_eq!(parse("p", &head("owner: nan")).expect("a word").owner.as_deref(), Some("nan"));

    let with = |more: &str| rule(&format!("id: a\nkind: file\nreason: r\npaths: [/x]\n{more}"));
    let text = with("remedy: ask\nlink: https://wiki.acme.example/a?b#c\ncontrols: [SOC2-CC6.1, A.8.2]");
    let about = &parse("p", &text).expect("a valid policy").rules[0].about;
    assert_eq!(about.remedy.as_deref(), Some("ask"));
    assert_eq!(about.link.as_deref(), Some("https://wiki.acme.example/a?b#c"));
    assert_eq!(about.controls, ["SOC2-CC6.1", "A.8.2"]);
    for bad in
        ["http://x", "https://", "https:///x", "x", "https://a b", "https://ключ", "https://good@evil/"]
    {
        check(&with(&format!("link: \"{bad}\"")), &["8:11 not an https address | write `https://`"]);
    }
    check(&with("controls: [A, A]"), &["8:19 twice ~ 8:16"]);
    check(&with("controls: A"), &["8:15 has to be a list"]);
    let many: String = (0..33).map(|number| format!("C{number},")).collect();
    check(&with(&format!("controls: [{many}]")), &["8:15 33 controls"]);
    check(
        &with("remedy: [ask]\nlinks: x"),
        &["8:13 has to be a string", "9:5 unknown key `links` | `link`?"],
    );
}

#[test]
fn rules_for_a_time() {
    let text = "version: 1\nname: t\nrules:\n  - {id: a, kind: file, reason: r, paths: [/a]}\n  \
                - {id: b, kind: broker, reason: r, brokers: [ssh], expires: 2027-03-01}\n  \
                - {id: c, kind: file, reason: r, paths: [/c], expires: 2027-03-01T12:00:00Z}\n";
    let day: Moment = "2027-03-01".parse().expect("a date");
    let in_force = |now: u64| {
        let policy = parse_with(&Alone, Source::new("p", text), Some(Moment(now))).expect("a valid policy");
        let warned: Vec<_> = policy.warnings.items().iter().map(|item| (item.code, item.span)).collect();
        let expiry = policy.next_expiry();
        let of = |id: &str| policy.rule(id).and_then(|rule| rule.expires.as_ref()).expect("it expires").span;
        let spans = [of("b/ssh"), of("c")];
        let policy = policy.at(Moment(now));
        let ids: Vec<String> = policy.rules.iter().map(|rule| rule.id.clone()).collect();
        assert_eq!(expiry, Some(day));
        assert!(
            warned.iter().zip(spans).all(|(warned, span)| *warned == (Code::Expired, span)),
            "{warned:?}"
        );
        (ids.join(" "), warned.len(), policy.next_expiry())
    };
    let noon = Moment(day.0 + 12 * 3600);
    let all = "a b/ssh b/ssh-files b/ssh-sockets c".to_owned();
    assert_eq!(in_force(day.0 - 1), (all, 0, Some(day)));
    assert_eq!(in_force(day.0), ("a c".to_owned(), 1, Some(noon)));
    assert_eq!(in_force(noon.0 - 1), ("a c".to_owned(), 1, Some(noon)));
    assert_eq!(in_force(noon.0), ("a".to_owned(), 2, None));
    assert!(parse("p", text).expect("a valid policy").warnings.is_empty());

    let with =
        |expires: &str| rule(&format!("id: a\nkind: file\nreason: r\npaths: [/x]\nexpires: {expires}"));
    for bad in ["tomorrow", "2027-02-29", "20270301", "2027-03-01T12:00:00+01:00"] {
        check(&with(bad), &["8:14 neither a date nor | `2027-03-01`"]);
    }
    check(&with("[2027-03-01]"), &["8:14 has to be a string, not a list"]);
}

#[test]
fn sessions() {
    let with = |lists: &str| rule(&format!("id: a\nkind: file\nreason: r\npaths: [/x]\n{lists}"));
    let asked = |lists: &str| {
        let policy = parse("p", &with(lists)).unwrap_or_else(|diagnostics| panic!("{diagnostics}"));
        assert!(policy.warnings.is_empty(), "{}", policy.warnings);
        let item = policy.rules[0].items().next().expect("an item").clone();
        item.session.expect("it asks for a session").to_string()
    };
    let all = "only: [{session: {users: [bob, ada, 1000, \"7\"], groups: [\"domain users\"], agents: [claude-code], \
               entry_points: [cli], repositories: [github.com/acme/*, h/r]}}]";
    assert_eq!(
        asked(all),
        "session of users 1000 or \"7\" or ada or bob and groups domain users and agents claude-code and entry_points cli \
         and repositories h/r or github.com/acme/*"
    );
    // An interpreter alone would be warned of.
    assert_eq!(asked("except: [{executable: /usr/bin/bash, session: {groups: [0]}}]"), "session of groups 0");
    check(
        &with("only: [{session: {}}, {session: ada}, {session: {user: ada}}, {session: {users: []}}]"),
        &[
            "8:22 every session is meant | give `users`, `groups`, `agents`, `entry_points` or `repositories`",
            "8:37 has to be a mapping | write `session: {groups: [contractors]}`",
            "8:53 every session is meant",
            "8:54 unknown key `user` | `users`?",
            "8:85 `users` cannot be empty",
        ],
    );
    check(
        &with(
            "only: [{session: {users: [-1, 4294967295, 1.5, ada, ada], repositories: [GitHub.com/a, github.com]}}]",
        ),
        &[
            "8:31 no id | 0 to 4294967294",
            "8:35 no id",
            "8:47 no id",
            "8:57 twice ~ 8:52",
            "8:78 no repository | lower case",
            "8:92 no repository | `github.com/acme/app`",
        ],
    );
    let claim = "is what a session says of itself, which can let nothing through | claims count in `only` of rules that refuse, record or adopt";
    check(
        &with(
            "except: [{session: {users: [ada], agents: [x]}}, {session: {entry_points: [x], repositories: [h/r]}}]",
        ),
        &[
            &format!("8:47 `agents` {claim}"),
            &format!("8:79 `entry_points` {claim}"),
            &format!("8:98 `repositories` {claim}"),
        ]
        .map(String::as_str),
    );
    let allows =
        "action: allow\nonly: [{executable: /x, session: {agents: [x]}}]\nexcept: [{session: {agents: [y]}}]";
    check(&with(allows), &["9:47 `agents`", "10:33 `agents`"]);
}

#[test]
fn subjects() {
    let with = |lists: &str| rule(&format!("id: a\nkind: file\nreason: r\npaths: [/x]\n{lists}"));
    let text = with(
        "except: [{executable: /a, descendant_of: {executable: /b}}]\nonly: [{sha256: \"11111111111111111111111111111111\
         11111111111111111111111111111111\"}, {descendant_of: {executable: ~/c}, reason: because}]",
    );
    let policy = parse("p", &text).unwrap_or_else(|diagnostics| panic!("{diagnostics}"));
    assert!(policy.warnings.is_empty(), "{}", policy.warnings);
    let rule = policy.rule("a").expect("the rule");
    let [except] = rule.exceptions.as_slice() else { panic!("{:?}", rule.exceptions) };
    let path = |wanted: &treeline_policy::policy::Executable| wanted.path.as_ref().map(ToString::to_string);
    assert_eq!(path(&except.own).as_deref(), Some("/a"));
    assert_eq!(except.descendant_of.as_ref().and_then(path).as_deref(), Some("/b"));
    let [by_content, below] = rule.only.as_slice() else { panic!("{:?}", rule.only) };
    assert!(by_content.own.sha256.is_some() && by_content.descendant_of.is_none());
    assert!(below.own.is_any() && below.reason.as_deref() == Some("because"));
    check(
        &with(
            "only: [{reason: r}, {descendant_of: {}}, {descendant_of: /x}, {descendant_off: {executable: /x}}]",
        ),
        &[
            "8:12 this is everybody | give `executable`, `sha256`, `descendant_of` or `session`",
            "8:41 everybody is a descendant | give `executable` or `sha256`",
            "8:62 has to be a mapping | write `descendant_of: {executable: /usr/bin/git}`",
            "8:67 this is everybody",
            "8:68 unknown key `descendant_off` | `descendant_of`?",
        ],
    );
    check(
        &with("only: {executable: /x}\nexcept: [{descendant_of: {executable: /x, path: /y}}]"),
        &["8:11 `only` has to be a list", "9:47 unknown key `path` in `descendant_of`"],
    );
    check(
        &with("only: [{descendant_of: {executable: /x}}, {descendant_of: {executable: /x}}]"),
        &["8:47 this is in `only` twice ~ 8:12"],
    );
    let text = with(
        "except: [{descendant_of: {executable: /usr/bin/bash}}]\nonly: [{descendant_of: {executable: /usr/bin/bash}}]",
    );
    let messages: Vec<String> =
        parse("p", &text).expect("warnings only").warnings.reports().map(|report| report.message).collect();
    assert_eq!(messages.len(), 1, "{messages:?}");
}

#[test]
fn wide_exceptions_are_warned_of() {
    let text = rule(
        "id: a\nkind: file\nreason: r\npaths: [/x]\nexcept: [{executable: /usr/bin/python3}, {executable: /**}]",
    );
    let policy = parse("p", &text).expect("warnings only");
    let messages: Vec<String> = policy.warnings.reports().map(|report| report.message).collect();
    assert_eq!(messages.len(), 2, "{messages:?}");
    assert!(messages[0].contains("runs whatever it is told") && messages[1].contains("every program"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_answered(text in "\\PC*|[-a-z0-9:,{}\\[\\]\"'|>&*!?#~/ \n\t\r\u{0}\u{feff}]*") {
        if let Err(diagnostics) = parse("p", &text) {
            prop_assert!(diagnostics.has_errors());
            prop_assert!(!diagnostics.to_string().is_empty());
        }
    }

    /// Cuts, doublings and replacements of a valid policy reach deeper than arbitrary text.
    #[test]
    fn mutated_policies_are_answered(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0..40_usize, "[-a-z0-9:,{}\\[\\]\"'|>&*!?~/ \n\t\r]{0,6}|\\PC{0,4}"), 1..6),
    ) {
        let mut text: Vec<char> = VALID.chars().collect();
        for (index, len, replacement) in cuts {
            let start = index.index(text.len());
            let end = (start + len).min(text.len());
            text.splice(start..end, replacement.chars());
            if text.is_empty() {
                text.push('x');
            }
        }
        let text: String = text.into_iter().collect();
        if let Err(diagnostics) = parse("p", &text) {
            prop_assert!(diagnostics.has_errors());
            prop_assert!(diagnostics.to_string().len() < 200_000);
        }
    }
}

#[test]
fn other_files_are_said_to_be_what_they_are() {
    let part = "this file has no `name`: it is a part of policies that include it | check one of those";
    check(
        "version: 1\nrules: [{id: a, kind: file, paths: [$elsewhere], reason: r}]\n",
        &[&format!("1:1 {part}")],
    );
    check("version: 1\nlists: {}\n", &[&format!("1:1 {part}")]);
    check(
        "policy: p.yaml\ntests: []\n",
        &["1:1 this is a file with the tests of a policy | `treeline policy test FILE`"],
    );
    // A policy whose name was forgotten.
    check("version: 1\nmode: monitor\nrules: []\n", &["1:1 a policy has no `name`"]);
}
