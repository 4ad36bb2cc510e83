//! What test files say of policies: who is right, what is wrong with the file, and what is not tested.

use treeline_policy::{
    Features, Moment, parse, parse_tests, parse_tests_with,
    source::Source,
    testing::{Results, UntestedException, run},
    tool::{Command, ToolReader, Workplace},
};

const POLICY: &str = "\
version: 1
name: t
rules:
  - {id: keys, kind: file, paths: [~/.ssh/**], reason: r, except: [{executable: /usr/bin/ssh}, {executable: /usr/bin/x}]}
  - {id: makes, kind: exec, paths: [/usr/bin/gcc], reason: r, except: [{descendant_of: {executable: /usr/bin/make}}]}
  - {id: old, kind: file, paths: [/old], reason: r, expires: 2001-01-01}
  - {id: others, kind: broker, action: adopt, brokers: [at, ptrace, ssh], reason: r}
  - {id: seen, kind: exec, mode: monitor, sha256: [\"1111111111111111111111111111111111111111111111111111111111111111\"], reason: r}
  - {id: web, kind: connect, to: [10.0.0.0/8], unix: [\"@bus*\", /run/x/**], reason: r}
";

fn results(tests: &str) -> Results {
    let text = format!(
        "policy: p.yaml\nmachine: {{homes: {{ada: /home/ada}}, mounts: [/home, /run]}}\ntests:\n{tests}"
    );
    let file = parse_tests(Source::new("p.test.yaml", &text)).unwrap_or_else(|found| panic!("{found}"));
    let policy = parse("p.yaml", POLICY).unwrap_or_else(|found| panic!("{found}"));
    run(&file, &policy, None).unwrap_or_else(|found| panic!("{found}"))
}

#[test]
fn what_the_policy_says_passes() {
    let hash = "1".repeat(64);
    let results = results(&format!(
        "  - {{do: read /home/ada/.ssh/id, expect: deny keys}}
  - {{do: read /home/ada/.ssh/id, by: /usr/bin/ssh, expect: allow}}
  - {{do: read /home/ada/.ssh/id, by: {{executable: /usr/bin/ssh, loads_code: true}}, expect: deny keys}}
  - {{do: read /root/.ssh/id, expect: allow}}
  - {{do: exec /usr/bin/gcc, below: [/usr/bin/make, {{executable: /bin/sh, sha256: {hash}}}], expect: allow}}
  - {{do: exec /usr/bin/gcc, below: [], expect: deny makes}}
  - {{do: exec /usr/bin/gcc, expect: deny makes}}
  - {{do: exec /bin/x, sha256: {hash}, expect: record seen}}
  - {{do: exec /bin/x, expect: allow}}
  - {{do: trace, expect: adopt others/ptrace}}
  - {{do: \"connect [::ffff:10.1.2.3]:1\", expect: deny web}}
  - {{do: connect 11.1.2.3:1, expect: allow}}
  - {{do: unix @bus/1, expect: deny web}}
  - {{do: unix /run/x/y, expect: deny web}}
  - {{do: raw-socket, expect: deny web}}
  - {{do: read /old, expect: deny old}}
"
    ));
    assert_eq!(results.failed(), 0, "{}", results.failures());
    assert_eq!(results.outcomes.len(), 16);
    // `at` is not tried here, and `ssh` connects to loopback.
    assert_eq!(
        results.untested.rules,
        ["others/at-files", "others/ssh", "others/ssh-files", "others/ssh-sockets"]
    );
    let exception = UntestedException { rule: "keys".into(), exception: "/usr/bin/x".into() };
    assert_eq!(results.untested.exceptions, [exception]);
}

#[test]
fn what_decides_instead_is_shown() {
    let check = |test: &str, words: &[&str]| {
        let results = results(&format!("  - {test}\n"));
        assert_eq!(results.failed(), 1, "{test}");
        let text = results.failures().to_string();
        for word in words {
            assert!(text.contains(word), "{word}: {text}");
        }
    };
    let key = "read /home/ada/.ssh/id";
    check(
        &format!("{{do: {key}, by: /usr/bin/cat, expect: allow}}"),
        &[
            "error[test-failed]: read /home/ada/.ssh/id by /usr/bin/cat: expected is `allow`, and the policy says `deny keys`",
            "p.test.yaml:4:60",
            "p.yaml:4:10",
            "this rule decides: matches `~/.ssh/**`",
        ],
    );
    check(
        &format!("{{do: {key}, by: /usr/bin/ssh, expect: deny keys}}"),
        &[
            "the policy says `allow`",
            "this rule was to decide: matches `~/.ssh/**`, lifted for `/usr/bin/ssh`",
        ],
    );
    check(
        &format!("{{do: {key}, expect: deny web}}"),
        &["this rule decides", "was to decide: is a rule of kind `connect`"],
    );
    // Of one rule it is said once what came of it.
    check(
        &format!("{{do: {key}, expect: record keys}}"),
        &["expected is `record keys`", "this rule decides"],
    );
    check(
        "{do: read /x, expect: deny kyes}",
        &["error[unknown-rule]", "no rule `kyes`", "did you mean `keys`?"],
    );
    check("{do: read /x, expect: deny zzzzzz}", &["no rule `zzzzzz`", "policy check -v"]);
    check("{do: trace, expect: adopt others}", &["no rule `others`", "taken apart into `others/at-files`"]);
}

#[test]
fn the_time_of_the_machine() {
    let text = |machine: &str| format!("policy: p\n{machine}tests: [{{do: read /old, expect: deny old}}]\n");
    let policy = parse("p", POLICY).expect("a valid policy");
    let check = |machine: &str, clock: Option<u64>, expect: Option<&str>| {
        let file = parse_tests(Source::new("t", &text(machine))).expect("a valid file");
        let results = run(&file, &policy, clock.map(Moment)).expect("it fits");
        let found = results.failures().to_string();
        match expect {
            None => assert_eq!(results.failed(), 0, "{found}"),
            Some(words) => assert!(found.contains(words), "{found}"),
        }
    };
    let (before, after) = (946_684_800, 1_000_000_000);
    check("", None, None);
    check("", Some(before), None);
    check("", Some(after), Some("`old` has expired"));
    check("machine: {now: 2000-01-01}\n", Some(after), None);
    check("machine: {now: 2001-01-01}\n", Some(before), Some("`old` has expired"));
}

#[test]
fn what_is_wrong_with_a_file_is_named() {
    let check = |text: &str, place: &str, words: &[&str]| {
        let found = parse_tests(Source::new("t", text)).expect_err(text).to_string();
        for word in [&[place][..], words].concat() {
            assert!(found.contains(word), "{word}: {found}");
        }
    };
    let test = |test: &str| format!("policy: p\ntests:\n  - {{{test}}}\n");
    check("", "t:1:1", &["error[empty-policy]"]);
    check("policy: p\ntests: []\n", "t:2:8", &["error[empty]", "write `tests:`"]);
    check("tests: [{do: trace, expect: allow}]\n", "t:1:1", &["has no `policy`"]);
    check("policy: ../p\ntests: [{do: trace, expect: allow}]\n", "t:1:9", &["error[bad-include]"]);
    check("policy: p\ntest: []\n", "t:2:1", &["did you mean `tests`?"]);
    check(&test("do: trace"), "t:3:5", &["a test has no `expect`"]);
    check(&test("do: tool Bash, expect: allow"), "t:3:10", &["error[missing-key]", "add `input: {...}`"]);
    check(&test("do: tool a b, expect: allow"), "t:3:15", &["error[bad-object]", "no name of a tool"]);
    check(
        &test("do: trace, input: {}, expect: allow"),
        "t:3:24",
        &["error[idle-key]", "`input` is that of `tool`"],
    );
    check(&test("do: mcp x, server: {url: x}, expect: allow"), "t:3:31", &["error[bad-url]"]);
    check(&test("do: mcp x, server: {name: x}, expect: allow"), "t:3:26", &["unknown key `name`"]);
    check(&test("do: posture, machine: {disk: true}, expect: allow"), "t:3:29", &["error[unknown-key]"]);
    check(&test("do: raed /x, expect: allow"), "t:3:10", &["error[bad-object]", "did you mean `read`?"]);
    check(&test("do: read x, expect: allow"), "t:3:15", &["error[bad-object]", "`x` is not absolute"]);
    check(&test("do: [read], expect: allow"), "t:3:10", &["error[wrong-type]"]);
    check(&test("do: trace, expect: audit x"), "t:3:25", &["unknown expectation", "did you mean `record`?"]);
    check(&test("do: trace, expect: deny"), "t:3:25", &["error[bad-expectation]", "write `deny RULE`"]);
    check(&test("do: trace, expect: allow x"), "t:3:25", &["`allow` names no rule"]);
    check(&test("do: trace, expect: deny x y"), "t:3:25", &["more than one rule"]);
    check(
        &test("do: trace, by: cat, expect: allow"),
        "t:3:21",
        &["error[bad-path]", "`cat` is not absolute"],
    );
    check(
        &test("do: trace, by: {path: /x}, expect: allow"),
        "t:3:22",
        &["unknown key `path` in an executable"],
    );
    check(
        &test("do: trace, by: {executable: /x, loads_code: 1}, expect: allow"),
        "t:3:50",
        &["write `true` or `false`"],
    );
    check(&test("do: trace, below: /x, expect: allow"), "t:3:24", &["has to be a list"]);
    let digest = "1".repeat(64);
    check(
        &test(&format!("do: read /x, sha256: \"{digest}\", expect: allow")),
        "t:3:27",
        &["error[idle-key]", "nothing is executed"],
    );
    let machine =
        |machine: &str| format!("policy: p\nmachine: {{{machine}}}\ntests: [{{do: trace, expect: allow}}]\n");
    check(&machine("homes: {a: /a, a: /b}"), "t:2:26", &["`a` is given twice", "the first one is here"]);
    check(&machine("homes: [/a]"), "t:2:18", &["has to be a mapping"]);
    check(&machine("homes: {a: b}"), "t:2:22", &["error[bad-path]"]);
    check(&machine("mounts: [/a, /a]"), "t:2:24", &["error[duplicate-item]"]);
    check(&machine("now: today"), "t:2:16", &["error[bad-date]"]);
    let many: String = (0..65).map(|number| format!("/{number},")).collect();
    check(&machine(&format!("mounts: [{many}]")), "t:2:19", &["65 mounts"]);
    check(&" ".repeat((1 << 20) + 1), "t:1:1", &["error[too-long]"]);
}

/// What is given to a tool comes to who reads it as JSON has it, with where it is called.
#[test]
fn calls_in_tests() {
    struct Noting(Vec<(String, String, Workplace)>);
    impl ToolReader for Noting {
        fn features(&mut self, tool: &str, input: &serde_json::Value, place: &Workplace) -> Features {
            self.0.push((tool.to_owned(), input.to_string(), place.clone()));
            Features {
                commands: vec![Command { program: "rm".into(), ..Command::default() }],
                ..Features::default()
            }
        }
    }
    let text = "policy: p\nmachine: {homes: {ada: /home/ada}, repository: /w}\ntests:\n\
        \x20 - {do: tool Bash, input: {command: rm x, n: 1, yes: true, no: ~, list: [a, \"2\"]}, expect: deny a}\n\
        \x20 - {do: mcp x, server: {package: {npm: p, version: \"1\"}}, expect: allow}\n\
        \x20 - {do: mcp x, server: {package: {npm: q}}, expect: deny b}\n\
        \x20 - {do: mcp x, expect: deny b}\n\
        \x20 - {do: mcp x, server: {package: unknown}, expect: deny b}\n\
        \x20 - {do: mcp x, server: {url: unknown}, expect: deny b}\n\
        \x20 - {do: posture, machine: {secure_boot: true}, expect: allow}\n\
        \x20 - {do: posture, expect: record c}\n";
    let mut noting = Noting(Vec::new());
    let file =
        parse_tests_with(Source::new("t", text), &mut noting).unwrap_or_else(|found| panic!("{found}"));
    let [(tool, input, place)] = noting.0.as_slice() else { panic!("one call") };
    assert_eq!(
        (tool.as_str(), place.home.as_deref(), place.cwd.as_deref()),
        ("Bash", Some("/home/ada"), Some("/w"))
    );
    assert_eq!(input, r#"{"command":"rm x","list":["a","2"],"n":1,"no":null,"yes":true}"#);
    let policy = parse(
        "p",
        "version: 1\nname: t\ndefaults: {mcp: {action: deny, reason: d}}\nrules:\n\
         \x20 - {id: a, kind: tool, tools: [Bash], when: {programs: [rm]}, reason: r}\n\
         \x20 - {id: b, kind: mcp, action: deny, priority: -1, reason: r}\n\
         \x20 - {id: b-allow, kind: mcp, action: allow, servers: [{package: {npm: p}}], reason: r}\n\
         \x20 - {id: c, kind: posture, mode: monitor, require: {secure_boot: true}, reason: r}\n",
    );
    let policy = policy.unwrap_or_else(|found| panic!("{found}"));
    let results = run(&file, &policy, None).expect("room");
    assert_eq!(results.failed(), 0, "{}", results.failures());
    assert_eq!(results.untested.rules, ["default/mcp"]);
}

/// A rule that allows is shown by a test in which there is something to allow against.
#[test]
fn what_allows_and_lifts_nothing_is_not_tested() {
    let check = |rules: &str, server: &str, expect: &[&str]| {
        let text = format!(
            "version: 1\nname: t\nrules:\n  - {{id: a, kind: mcp, action: allow, reason: r, servers: [{{package: {{npm: p}}}}]}}\n{rules}"
        );
        let policy = parse("p", &text).unwrap_or_else(|found| panic!("{found}"));
        let test = format!("policy: p\ntests: [{{do: mcp x, server: {server}, expect: allow}}]\n");
        let file = parse_tests(Source::new("t", &test)).unwrap_or_else(|found| panic!("{found}"));
        assert_eq!(run(&file, &policy, None).expect("room").untested.rules, expect, "{text}");
    };
    let p = "{package: {npm: p}}";
    let deny = |more: &str| format!("  - {{id: b, kind: mcp, reason: r{more}}}\n");
    check("", p, &["a"]);
    check(&deny(", priority: -1"), p, &["b"]);
    check(&deny(", priority: -1, tools: [y]"), p, &["a", "b"]);
    check(&deny(", priority: -1, servers: [{package: {npm: q}}]"), p, &["a", "b"]);
}
