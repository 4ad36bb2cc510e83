//! What is found in policies that are valid, and that what is found is so.

use std::{collections::BTreeSet, sync::Arc};

use proptest::prelude::*;
use treeline_policy::{
    Code, Home, Host, Known, Lineage, Loader, Moment, NotLoaded, Object, Policy, Request, Session, Subject,
    diagnostic::Diagnostic,
    eval, lint,
    lint::Linted,
    parse, parse_with,
    policy::{FileOperation, Kind, Mode, Rule},
    source::Source,
};

fn linted(rules: &str) -> (Policy, Linted) {
    let text = format!("version: 1\nname: t\nrules:\n{rules}");
    let policy = parse("t", &text).unwrap_or_else(|found| panic!("{found}\n{text}"));
    let linted = lint(&policy, Some("2027-01-01".parse().expect("a date"))).finish();
    (policy, linted)
}

/// Each finding as its code, the line of the first rule being 1, and those of other places.
fn shown(linted: &Linted) -> Vec<String> {
    let of = |report: treeline_policy::diagnostic::Report| {
        let related = report.related.iter().map(|at| format!(" ~{}", at.position.line - 3));
        format!("{} {}{}", report.code.name(), report.position.line - 3, related.collect::<String>())
    };
    linted.found.reports().map(of).collect()
}

/// Checks what is found in rules, one a line, each in flow style without its braces and its reason.
#[track_caller]
fn check(rules: &[&str], expect: &[&str]) {
    let text: String = rules.iter().map(|rule| format!("  - {{{rule}, reason: r}}\n")).collect();
    let (_, linted) = linted(&text);
    assert_eq!(shown(&linted), expect, "{}\n{text}", linted.found);
}

#[test]
fn exceptions_for_objects() {
    let file = |paths: &str, out: &str| format!("id: a, kind: file, paths: [{paths}], except_paths: [{out}]");
    check(&[&file("/a/**", "/a/b/**")], &[]);
    check(&[&file("/a/b/**, /a/c", "/a/**")], &["unreachable 1 ~1"]);
    check(&[&file("/a/b/**, /c", "/a/**")], &[]);
    check(&[&file("/a/**", "/b/**")], &["idle-exception 1"]);
    check(&[&file("/a/**, ~/x/**", "/b/**")], &[]);
    check(&[&file("~/a/**", "~/b/**, ~/a/x")], &[]);
    check(&[&file("/a/*.pem", "/a/x*")], &[]);
    check(&[&file("/a/*.pem", "/a/x.key")], &["idle-exception 1"]);
    check(&[&file("/**", "/**/x")], &[]);
    let hash = "1".repeat(64);
    let exec = |more: &str| format!("id: a, kind: exec, paths: [/a/b], except_paths: [/a/**]{more}");
    check(&[&exec("")], &["unreachable 1 ~1"]);
    check(&[&exec(&format!(", sha256: [\"{hash}\"]"))], &[]);
    let names = |unix: &str| format!("id: a, kind: connect, unix: [{unix}], except_unix: [\"@a*\", /run/**]");
    check(&[&names("\"@ab\", /run/x")], &["unreachable 1 ~1 ~1"]);
    check(&[&names("\"@b\", /run/x")], &[]);
}

#[test]
fn what_spares_or_yields_more_is_not_wider() {
    let narrow = "id: b, kind: file, paths: [/a/b/**]";
    check(&["id: a, kind: file, paths: [/a/**]", narrow], &["shadowed 2 ~1"]);
    check(&["id: a, kind: file, paths: [/a/**], except_paths: [/a/b/c]", narrow], &[]);
    let exec =
        |id: &str, path: &str| format!("id: {id}, kind: exec, paths: [{path}], except_paths: [/a/b/c]");
    check(&[&exec("a", "/a/**"), &exec("b", "/a/b/**")], &["shadowed 2 ~1"]);
    let allows = "id: c, kind: file, paths: [/a/b/c], action: allow, priority: 1";
    check(&["id: a, kind: file, paths: [/a/**]", narrow, allows], &["shadowed 2 ~1"]);
    check(&["id: a, kind: file, paths: [/a/**]", &format!("{narrow}, priority: 1"), allows], &[]);
    check(&["id: a, kind: file, paths: [/a/**], action: allow, priority: 1", narrow], &[]);
}

#[test]
fn rules_that_allow() {
    let allow = "id: a, kind: tool, tools: [Bash], action: allow";
    let deny = "id: b, kind: tool, tools: [Bash]";
    check(&[allow], &["idle-allow 1"]);
    check(&[allow, deny], &["idle-allow 1"]);
    check(&[allow, &format!("{deny}, priority: -1")], &[]);
    check(&[allow, &format!("{deny}, action: record, priority: -1")], &[]);
    check(&[&format!("{allow}, priority: 1"), deny], &[]);
    check(&[allow, "id: b, kind: mcp, priority: -1"], &["idle-allow 1"]);
    check(
        &[allow, "id: b, kind: tool, tools: [Bash], action: allow, priority: -1"],
        &["idle-allow 1", "idle-allow 2"],
    );
    check(&[&format!("{allow}, silence: {{idle-allow: soon}}")], &[]);
    let servers =
        |servers: &str| format!("id: a, kind: mcp, action: allow, priority: 1, servers: [{servers}]");
    let weak = |item: &str, expect: &[&str]| check(&[&servers(item), "id: b, kind: mcp"], expect);
    let hash = "1".repeat(64);
    weak("{interpreter: /usr/bin/node}", &["weak-server 1"]);
    weak("{package: {npm: a}, interpreter: /usr/bin/node}", &["weak-server 1"]);
    weak("{package: {npm: a}}, {interpreter: /x}", &["weak-server 1", "weak-server 1"]);
    weak(&format!("{{package: {{npm: a}}, script_sha256: [\"{hash}\"]}}"), &[]);
    weak(&format!("{{interpreter_sha256: [\"{hash}\"]}}"), &[]);
    weak("{url: \"https://a/\"}", &[]);
    check(&["id: a, kind: mcp, servers: [{package: {npm: a}}]"], &[]);
    let only = |item: &str| format!("{allow}, priority: 1, only: [{{{item}}}]");
    let wide = |item: &str, expect: &[&str]| check(&[&only(item), deny], expect);
    wide("executable: /usr/bin/bash", &["wide-exception 1"]);
    wide("executable: /usr/bin/bash, reason: meant", &[]);
    wide("executable: \"/**\"", &["wide-exception 1"]);
    wide("descendant_of: {executable: /usr/bin/node}", &["wide-exception 1"]);
    wide("executable: /usr/bin/claude", &[]);
    check(&["id: b, kind: tool, tools: [Bash], only: [{executable: /usr/bin/bash}]"], &[]);
}

#[test]
fn rules_about_calls_that_say_the_same() {
    let deny = "kind: tool, tools: [Bash, Write], when: {writes: [/x, /y], flags: [-f]}";
    let alike = "kind: tool, tools: [Write, Bash], when: {flags: [-f], writes: [/y, /x]}";
    let check_two = |one: &str, other: &str, expect: &[&str]| {
        check(&[&format!("id: a, {one}"), &format!("id: b, {other}")], expect);
    };
    check_two(deny, alike, &["shadowed 2 ~1"]);
    check_two(deny, &format!("{alike}, action: record"), &["contradictory 2 ~1"]);
    check_two(deny, &format!("{alike}, priority: 1"), &["shadowed 1 ~2"]);
    check_two(deny, &format!("{alike}, only: [{{executable: /x}}]"), &["shadowed 2 ~1"]);
    check_two(&format!("{deny}, only: [{{executable: /x}}]"), alike, &[]);
    check_two(deny, "kind: tool, tools: [Bash]", &[]);
    check_two("kind: mcp, servers: [{package: {npm: a}}]", "kind: mcp, servers: [{package: {npm: b}}]", &[]);
    check_two("kind: mcp, tools: [x]", "kind: mcp, tools: [x]", &["shadowed 2 ~1"]);
    let posture = "kind: posture, require: {secure_boot: true}";
    check_two(posture, posture, &["shadowed 2 ~1"]);
    check_two(posture, &format!("{posture}, on_unknown: allow"), &[]);
}

#[test]
fn shadowed_rules() {
    let wide = "id: a, kind: file, paths: [~/.aws/**]";
    check(&[wide, "id: b, kind: file, paths: [~/.azure/**]"], &[]);
    check(&[wide, "id: b, kind: file, paths: [~/.aws/credentials, ~/.aws/sso/**]"], &["shadowed 2 ~1"]);
    // Named for its part of it.
    check(&["id: b, kind: file, paths: [~/.aws/**]", "id: a, kind: file, paths: [~/.aws/credentials]"], &[]);
    check(&[wide, "id: b, kind: file, paths: [~/.aws/credentials, ~/.azure/**]"], &[]);
    check(&[wide, "id: b, kind: exec, paths: [~/.aws/x]"], &[]);
    check(
        &[
            "id: a, kind: file, operations: [write, rename], paths: [~/.aws/**]",
            "id: b, kind: file, paths: [~/.aws/x]",
        ],
        &[],
    );
    check(&[wide, "id: b, kind: file, mode: monitor, paths: [~/.aws/x]"], &["shadowed 2 ~1"]);
    check(
        &["id: a, kind: file, mode: monitor, paths: [~/.aws/**]", "id: b, kind: file, paths: [~/.aws/x]"],
        &[],
    );
    check(
        &["id: b, kind: file, paths: [~/.aws/**]", "id: a, kind: file, mode: monitor, paths: [~/.aws/x]"],
        &["shadowed 2 ~1"],
    );
    check(&[wide, "id: b, kind: file, paths: [/home/ada/.aws/**]"], &[]);
    check(
        &["id: a, kind: file, paths: [\"/**/.env\"]", "id: b, kind: file, paths: [~/.env]"],
        &["shadowed 2 ~1"],
    );
    check(
        &["id: a, kind: exec, paths: [/usr/bin/nc*]", "id: b, kind: exec, paths: [/usr/bin/ncat]"],
        &["shadowed 2 ~1"],
    );
    check(
        &["id: a, kind: connect, to: [10.0.0.0/8]", "id: b, kind: connect, to: [10.1.2.3], ports: [80]"],
        &["shadowed 2 ~1"],
    );
    check(
        &["id: a, kind: connect, to: [10.0.0.0/8]", "id: b, kind: connect, to: [10.1.2.3], unix: [/x]"],
        &[],
    );
    check(
        &["id: a, kind: connect, unix: [\"@*\", /run/**]", "id: b, kind: connect, unix: [\"@x*\", /run/x]"],
        &["shadowed 2 ~1"],
    );
}

#[test]
fn shadowed_rules_and_subjects() {
    let git = "{executable: /usr/bin/git}";
    let rule = |id: &str, more: &str| format!("id: {id}, kind: file, paths: [/x]{more}");
    let check = |a: &str, b: &str, expect: &[&str]| check(&[&rule("a", a), &rule("b", b)], expect);
    check("", &format!(", only: [{git}]"), &["shadowed 2 ~1"]);
    check(&format!(", only: [{git}]"), "", &[]);
    check(&format!(", only: [{git}]"), &format!(", only: [{git}]"), &["shadowed 2 ~1"]);
    check(", only: [{executable: /usr/bin/*}]", &format!(", only: [{git}]"), &["shadowed 2 ~1"]);
    check(&format!(", except: [{git}]"), &format!(", except: [{git}]"), &["shadowed 2 ~1"]);
    check(&format!(", except: [{git}]"), "", &["idle-exception 1 ~2"]);
    check("", &format!(", except: [{git}]"), &["shadowed 2 ~1"]);
    check(&format!(", except: [{git}]"), ", only: [{executable: /usr/bin/ssh}]", &["shadowed 2 ~1"]);
    let below = ", only: [{descendant_of: {executable: /usr/bin/make}}]";
    check(below, below, &["shadowed 2 ~1"]);
    // The kernel may know the one and not the other.
    check(", only: [{descendant_of: {executable: /usr/bin/*}}]", below, &[]);
}

#[test]
fn renames_keep_a_rule_from_being_shadowed() {
    let read = "operations: [read], paths: [~/.aws/x/**]";
    let rules = |wide: &str| [format!("id: a, kind: file, {wide}"), format!("id: b, kind: file, {read}")];
    let check = |wide: &str, expect: &[&str]| check(&rules(wide).each_ref().map(String::as_str), expect);
    // `~/.aws/x` can be renamed by the first one alone.
    check("operations: [read], paths: [~/.aws/**]", &["renamed-away 1 ~1", "renamed-away 2 ~2"]);
    check(
        "operations: [read], paths: [~/.aws/x/**]",
        &["renamed-away 1 ~1", "shadowed 2 ~1", "renamed-away 2 ~2"],
    );
    check("operations: [read, rename], paths: [~/.aws/**]", &["shadowed 2 ~1"]);
}

#[test]
fn twins() {
    let rule = |id: &str, mode: &str| format!("id: {id}, kind: file, mode: {mode}, paths: [/x, /y]");
    for (first, second, expect) in [("a", "b", "contradictory 1 ~2"), ("b", "a", "contradictory 1 ~2")] {
        check(&[&rule(first, "monitor"), &rule(second, "enforce")], &[expect]);
    }
    let brokers =
        |id: &str, action: &str| format!("id: {id}, kind: broker, brokers: [cron, ptrace], action: {action}");
    check(&[&brokers("a", "record"), &brokers("b", "deny")], &["contradictory 1 ~2"]);
    check(&[&brokers("a", "deny"), "id: b, kind: broker, brokers: [cron], action: deny"], &["shadowed 2 ~1"]);
    check(&["id: a, kind: broker, brokers: [cron], action: deny", &brokers("b", "deny")], &[]);
    let adopts = "id: b, kind: broker, brokers: [ptrace], action: adopt";
    check(&["id: a, kind: broker, brokers: [ptrace], action: record", adopts], &[]);
    check(&["id: a, kind: broker, brokers: [ptrace], action: deny", adopts], &["contradictory 2 ~1"]);
    let two = "id: a, kind: broker, brokers: [cron, docker]";
    check(&[two, "id: b, kind: broker, brokers: [cron], action: record"], &["shadowed 2 ~1"]);
}

#[test]
fn unreachable_rules() {
    let (git, any) = ("{executable: /opt/x/git}", "{executable: /opt/x/*}");
    let rule = |more: &str| format!("id: a, kind: file, paths: [/x], {more}");
    check(&[&rule(&format!("only: [{git}], except: [{any}]"))], &["unreachable 1 ~1"]);
    check(&[&rule(&format!("only: [{any}], except: [{git}]"))], &[]);
    check(
        &[&rule(&format!("only: [{git}, {{executable: /opt/x}}], except: [{any}]"))],
        &["excepted-item 1 ~1"],
    );
    for everywhere in ["/**/*", "/*/**", "/**/?*", "**"] {
        check(
            &[&rule(&format!("except: [{{executable: \"{everywhere}\", reason: r}}]"))],
            &["unreachable 1 ~1"],
        );
    }
    check(&[&rule("except: [{executable: \"/usr/**\", reason: r}]")], &[]);
    let connect = |more: &str| format!("id: a, kind: connect, {more}");
    check(&[&connect("to: [10.1.0.0/16], except_to: [{to: [10.0.0.0/8]}]")], &["unreachable 1 ~1"]);
    check(
        &[&connect("to: [10.1.0.0/16, 1.2.3.4], except_to: [{to: [10.0.0.0/8]}]")],
        &["excepted-item 1 ~1"],
    );
    check(
        &[&connect("to: [10.1.0.0/16], unix: [/x], except_to: [{to: [10.0.0.0/8]}]")],
        &["excepted-item 1 ~1"],
    );
    let halves =
        "except_to: [{to: [10.0.0.0/8], ports: [\"0-79\"]}, {to: [10.1.0.0/16], ports: [\"80-65535\"]}]";
    check(&[&connect(&format!("to: [10.1.0.0/16], {halves}"))], &["unreachable 1 ~1 ~1"]);
    check(&[&connect(&format!("to: [10.2.0.0/16], {halves}"))], &["idle-exception 1"]);
    check(
        &[&connect("to: [10.0.0.0/8], ports: [80], except_to: [{to: [10.1.0.0/16], ports: [443]}]")],
        &["idle-exception 1"],
    );
}

#[test]
fn exceptions_that_another_rule_voids() {
    let keys = "id: keys, kind: file, paths: [~/.ssh/id], except: [{executable: /usr/bin/ssh}, {executable: /usr/bin/scp}]";
    let all = |more: &str| format!("id: z, kind: file, paths: [~/.ssh/**]{more}");
    check(&[keys, &all("")], &["idle-exception 1 ~2", "idle-exception 1 ~2"]);
    check(&[keys, &all(", except: [{executable: /usr/bin/ssh}]")], &["idle-exception 1 ~2"]);
    check(&[keys, &all(", except: [{executable: /usr/bin/*, reason: r}]")], &[]);
    check(&[keys, &all(", only: [{executable: /usr/bin/scp}]")], &["idle-exception 1 ~2"]);
    check(&[keys, &all(", mode: monitor")], &[]);
    check(&[keys, "id: z, kind: file, operations: [write, rename], paths: [~/.ssh/**]"], &[]);
}

/// What ends covers nothing for longer.
#[test]
fn rules_for_a_time_cover_others_for_that_time() {
    let freeze = |more: &str| format!("id: a, kind: exec, paths: [/usr/bin/**]{more}");
    let tools = |more: &str| format!("id: b, kind: exec, paths: [/usr/bin/nc]{more}");
    let check = |first: &str, second: &str, expect: &[&str]| check(&[&freeze(first), &tools(second)], expect);
    check("", "", &["shadowed 2 ~1"]);
    check(", expires: 2099-01-15", "", &[]);
    check(", expires: 2099-01-15", ", expires: 2099-01-15", &["shadowed 2 ~1"]);
    check(", expires: 2099-01-15", ", expires: 2099-01-16", &[]);
    check("", ", expires: 2099-01-15", &["shadowed 2 ~1"]);
    check(", expires: 2099-01-15", ", mode: monitor", &[]);
    check(", expires: 2099-01-15", ", except: [{executable: /usr/bin/git}]", &[]);
}

#[test]
fn what_refuses_a_rule_is_named_before_what_is_named_for_it() {
    let rule =
        |id: &str, mode: &str, path: &str| format!("id: {id}, kind: file, mode: {mode}, paths: [{path}]");
    let rules =
        [rule("a", "monitor", "/a/**"), rule("b", "enforce", "/a/b/**"), rule("c", "monitor", "/a/b/c")];
    check(&rules.each_ref().map(String::as_str), &["shadowed 3 ~2"]);
}

#[test]
fn files_that_can_be_renamed_away() {
    let read = "id: a, kind: file, operations: [read], paths: [~/.ssh/**]";
    check(&[read], &["renamed-away 1 ~1"]);
    check(&["id: a, kind: file, operations: [delete], paths: [/x]"], &[]);
    check(&["id: a, kind: file, operations: [read, rename], paths: [/x]"], &[]);
    check(&["id: a, kind: file, operations: [write], paths: [/x]"], &["renamed-away 1 ~1"]);
    let other = |more: &str| format!("id: b, kind: file, operations: [rename], {more}");
    check(&[read, &other("paths: [~/.ssh/**]")], &[]);
    check(&[read, &other("paths: [~/.ssh/x]")], &["renamed-away 1 ~1"]);
    check(&[read, &other("mode: monitor, paths: [~/.ssh/**]")], &["renamed-away 1 ~1"]);
    check(
        &[read, &other("paths: [~/.ssh/**], except: [{executable: /usr/bin/ssh}]")],
        &["renamed-away 1 ~1"],
    );
    check(&["id: a, kind: file, operations: [read], paths: [\"/proc/*/environ\", \"/sys/kernel/**\"]"], &[]);
    check(&[read, &other("paths: [~/.ssh/**], expires: 2099-01-01")], &["renamed-away 1 ~1"]);
    let two = "id: a, kind: file, operations: [read], paths: [/x, /y]";
    check(&[two, &other("paths: [/x]"), "id: c, kind: file, operations: [rename], paths: [/y]"], &[]);
}

#[test]
fn rules_that_expire_soon() {
    let rule = |date: &str| format!("id: a, kind: file, paths: [/x], expires: {date}");
    check(&[&rule("2027-01-15")], &["expires-soon 1"]);
    check(&[&rule("2027-01-15T00:00:01Z")], &[]);
    check(&[&rule("2027-01-01T00:00:01Z")], &["expires-soon 1"]);
    check(&["id: a, kind: broker, brokers: [cron, ptrace], expires: 2027-01-02"], &["expires-soon 1"]);
    let (_, linted) = linted("  - {id: a, kind: file, paths: [/x], reason: r, expires: 2027-01-02}\n");
    assert!(linted.found.to_string().contains("`a` expires soon: from 2027-01-02 on it is not in force"));
}

/// Rules that allow are compared with none; and what expires of them allows no more.
#[test]
fn rules_about_calls() {
    let tool = |id: &str, more: &str| format!("id: {id}, kind: tool, tools: [Bash]{more}");
    let above = ", action: allow, priority: 1";
    check(&[&tool("a", above), &tool("b", ", action: record, when: {programs: [git]}")], &[]);
    check(&[&tool("a", above), &tool("b", above), &tool("c", "")], &[]);
    check(
        &["id: a, kind: mcp", "id: b, kind: mcp, action: allow, priority: 1", "id: c, kind: mcp, tools: [x]"],
        &[],
    );
    let help = |more: &str| {
        let rule = format!("  - {{{}, reason: r}}\n", tool("a", more));
        let found = linted(&rule).1.found;
        let item = found.items().iter().find(|item| item.code != Code::IdleAllow);
        let item = item.unwrap_or_else(|| panic!("{found}"));
        (item.code, item.help.clone().unwrap_or_default())
    };
    let helps = |more: &str, code: Code, words: &str| {
        let (found, help) = help(more);
        assert!(found == code && help.ends_with(words), "{more}: {help}");
    };
    helps(", expires: 2027-01-02", Code::ExpiresSoon, "what it refuses is allowed");
    helps(", expires: 2027-01-02, action: allow", Code::ExpiresSoon, "what it allows can be refused");
    let nobody = ", only: [{executable: /opt/x/git}], except: [{executable: /opt/x/*}]";
    helps(nobody, Code::Unreachable, "of whom it cannot be told");
    helps(&format!("{nobody}, action: allow"), Code::Unreachable, "it allows nobody anything");
    // An exception of a rule that allows gives nothing away.
    let wide = ", except: [{executable: /usr/bin/python3}]";
    helps(wide, Code::WideException, "or give a `reason`");
    check(&[&tool("a", &format!("{above}{wide}")), &tool("b", "")], &[]);
}

#[test]
fn silences() {
    let read = |silence: &str| format!("id: a, kind: file, operations: [read], paths: [/x]{silence}");
    check(&[&read(", silence: {renamed-away: it may be moved}")], &[]);
    check(&[&read(", silence: {shadowed: why}")], &["renamed-away 1 ~1", "idle-silence 1"]);
    // It depends on the time, or on the machine.
    check(
        &["id: a, kind: file, paths: [/x], silence: {expires-soon: it is known, no-home: for containers}"],
        &[],
    );
    let (_, linted) =
        linted(&format!("  - {{{}, reason: r}}\n", read(", silence: {renamed-away: it may be moved}")));
    let silenced: Vec<_> =
        linted.silenced.iter().map(|one| (one.rule.as_deref(), one.code, one.reason.as_str())).collect();
    assert_eq!(silenced, [(Some("a"), Code::RenamedAway, "it may be moved")]);
    let refused = |silence: &str, code: Code| {
        let text = format!("version: 1\nname: t\nrules: [{{{}, reason: r}}]\n", read(silence));
        let found = parse("t", &text).expect_err("an error");
        assert_eq!(found.items().iter().map(|item| item.code).collect::<Vec<_>>(), [code], "{found}");
    };
    refused(", silence: {shadwoed: why}", Code::UnknownKey);
    refused(", silence: {unknown-key: why}", Code::UnknownKey);
    refused(", silence: {shadowed: \"\"}", Code::Empty);
    refused(", silence: [shadowed]", Code::WrongType);
}

struct Fragment(&'static str);

impl Loader for Fragment {
    fn load(&self, path: &str) -> Result<Source, NotLoaded> {
        Ok(Source::new(path, self.0))
    }
}

#[test]
fn a_file_silences_what_is_in_it_alone() {
    let own = "  - {id: a, kind: file, operations: [read], paths: [/x], reason: r}\n";
    let check = |silence: &str, fragment: &'static str, expect: &[(&str, Code)]| {
        let text = format!("version: 1\nname: t\n{silence}include: [f]\nrules:\n{own}");
        let policy = parse_with(&Fragment(fragment), Source::new("t", &text), None)
            .unwrap_or_else(|found| panic!("{found}"));
        let linted = lint(&policy, None).finish();
        let found: Vec<_> = linted.found.reports().map(|report| (report.file, report.code)).collect();
        let expect: Vec<_> = expect.iter().map(|(file, code)| ((*file).to_owned(), *code)).collect();
        assert_eq!(found, expect, "{}", linted.found);
    };
    let loose = "version: 1\nlists: {paths: {l: [/l]}}\nrules: [{id: b, kind: file, operations: [read], paths: [/y], reason: r}]\n";
    let (away, unused) = (Code::RenamedAway, Code::UnusedList);
    check("", loose, &[("t", away), ("f", unused), ("f", away)]);
    check("silence: {renamed-away: all of it}\n", loose, &[("f", unused), ("f", away)]);
    check(
        "silence: {unused-list: there is none}\n",
        loose,
        &[("t", Code::IdleSilence), ("t", away), ("f", unused), ("f", away)],
    );
    let quiet = "version: 1\nsilence: {unused-list: others have it, renamed-away: so it is}\nlists: {paths: {l: [/l]}}\nrules: [{id: b, kind: file, operations: [read], paths: [/y], reason: r}]\n";
    check("", quiet, &[("t", away)]);
}

// ---- What is found is so ----

/// Some of these, in a list.
fn some(of: &[&'static str], least: usize) -> impl Strategy<Value = String> + use<> {
    prop::sample::subsequence(of.to_vec(), least..=3).prop_map(|items| items.join(", "))
}

fn items(key: &'static str) -> impl Strategy<Value = String> {
    let subjects = [
        "{executable: /e/a}",
        "{executable: /e/*}",
        "{executable: /e/b, sha256: 1111111111111111111111111111111111111111111111111111111111111111}",
        "{sha256: 1111111111111111111111111111111111111111111111111111111111111111}",
        "{executable: /e/a, descendant_of: {executable: /e/b}}",
        "{descendant_of: {executable: /e/b}}",
        "{session: {users: [ada]}}",
        "{session: {users: [ada, bob]}}",
        "{executable: /e/a, session: {users: [ada], groups: [ops]}}",
    ];
    some(&subjects, 0)
        .prop_map(move |items| if items.is_empty() { items } else { format!(", {key}: [{items}]") })
}

fn about() -> impl Strategy<Value = String> {
    let paths = || some(&["/p/a", "/p/*", "/p/**", "/**/a", "/p/a*", "~/a", "~/**"], 1);
    let operations = some(&["read", "write", "rename"], 1);
    let sockets = some(&["/p/a", "/p/*", "/p/**", "\"@a\"", "\"@a*\""], 1);
    let to = some(&["10.0.0.0/8", "10.1.0.0/16", "10.1.0.1"], 1);
    let ports = prop::sample::select(vec!["", ", ports: [80]", ", ports: [\"80-443\"]"]);
    let except = prop::sample::select(vec![
        "",
        ", except_to: [{to: [10.1.0.0/16]}]",
        ", except_to: [{to: [10.0.0.0/8], ports: [80]}]",
        ", except_to: [{to: [10.1.0.1], ports: [443]}, {to: [10.1.0.0/16], ports: [80]}]",
    ]);
    let spared = |key: &'static str| {
        let items = some(&["/p/a", "/p/*", "/**/a", "/x", "~/a"], 1);
        prop::option::weighted(0.3, items)
            .prop_map(move |items| items.map_or_else(String::new, |items| format!(", {key}: [{items}]")))
    };
    prop_oneof![
        3 => (paths(), operations, spared("except_paths")).prop_map(|(paths, operations, spared)| format!("kind: file, paths: [{paths}], operations: [{operations}]{spared}")),
        1 => (paths(), spared("except_paths")).prop_map(|(paths, spared)| format!("kind: exec, paths: [{paths}]{spared}")),
        1 => (sockets, spared("except_unix")).prop_map(|(sockets, spared)| format!("kind: connect, unix: [{sockets}]{spared}")),
        2 => (to, ports, except).prop_map(|(to, ports, except)| format!("kind: connect, to: [{to}]{ports}{except}")),
    ]
}

fn without_spared(about: &str) -> String {
    let end = ["except_paths", "except_unix"].iter().find_map(|key| about.find(&format!(", {key}")));
    about[..end.unwrap_or(about.len())].to_owned()
}

fn rules() -> impl Strategy<Value = String> {
    let mode = prop::sample::select(vec!["mode: monitor", "mode: enforce", "mode: enforce", "action: allow"]);
    let mode = (mode, prop::sample::select(vec!["", "", "", ", priority: 1"]));
    let rule = (about(), mode, items("except"), items("only"));
    prop::collection::vec(rule, 1..5).prop_map(|rules| {
        let rule = |(number, rule)| {
            let (about, (mode, priority), except, only): (String, (&str, &str), String, String) = rule;
            // What allows spares nothing.
            let about = match mode {
                "action: allow" => without_spared(&about),
                _ => about,
            };
            format!("  - {{id: r-{number}, reason: r, {mode}{priority}, {about}{except}{only}}}\n")
        };
        rules.into_iter().enumerate().map(rule).collect()
    })
}

fn host() -> Host {
    Host { homes: vec![Home { uid: 1, path: b"/p".to_vec() }, Home { uid: 2, path: b"/h".to_vec() }] }
}

fn objects() -> Vec<Object> {
    let paths = ["/p", "/p/a", "/p/ab", "/p/a/a", "/h/a", "/h/b", "/x"].map(|path| path.as_bytes().to_vec());
    let operations = [FileOperation::Read, FileOperation::Write, FileOperation::Rename];
    let files = paths
        .iter()
        .flat_map(|path| operations.map(|operation| Object::File { path: path.clone(), operation }));
    let execs = paths.iter().map(|path| Object::Exec { path: path.clone(), sha256: None });
    let unix = paths.iter().map(|path| Object::ConnectUnix { path: path.clone() });
    let names = ["a", "ab", "b"].map(|name| Object::ConnectAbstract { name: name.as_bytes().to_vec() });
    let addresses = ["10.0.0.1", "10.1.0.1", "10.1.0.2", "::ffff:10.1.0.1", "11.0.0.1"];
    let connects = addresses.iter().flat_map(|address| {
        [80, 81, 443, 1].map(|port| Object::Connect { address: address.parse().expect("an address"), port })
    });
    files
        .chain(execs)
        .chain(unix)
        .chain(names)
        .chain(connects)
        .chain([Object::RawSocket, Object::Trace])
        .collect()
}

/// One of which nothing is known, one of which not all is, and two that are known.
fn sessions() -> [Arc<Session>; 4] {
    let known = |name: &str| Known { id: None, name: Some(name.to_owned()) };
    let of = |user: &str, groups: Option<&[&str]>| Session {
        user: Some(known(user)),
        groups: groups.map(|groups| groups.iter().map(|name| known(name)).collect()),
        ..Session::default()
    };
    [Session::default(), of("ada", None), of("ada", Some(&["ops"])), of("bob", Some(&[]))].map(Arc::new)
}

fn subjects() -> Vec<Subject> {
    let contents = [None, Some([0x11; 32]), Some([2; 32])];
    let images =
        |path: &str, sha256| treeline_policy::Executed { path: path.into(), sha256, loads_code: false };
    let mut subjects = Vec::new();
    for path in ["", "/e/a", "/e/b", "/x"] {
        for sha256 in contents {
            for (below, complete) in [(None, true), (None, false), (Some("/e/b"), true)] {
                for loads_code in [false, true] {
                    let own = images(path, sha256);
                    let before = below.map(|below| images(below, None));
                    let images = before.into_iter().chain([own]).collect();
                    let lineage = Lineage::Images { images, complete };
                    let subject = Subject {
                        executable: path.into(),
                        sha256,
                        loads_code,
                        lineage,
                        ..Subject::default()
                    };
                    subjects.extend(sessions().map(|session| Subject { session, ..subject.clone() }));
                }
            }
        }
    }
    subjects
}

fn requests() -> impl Iterator<Item = Request> {
    let subjects = subjects();
    objects().into_iter().flat_map(move |object| {
        subjects.clone().into_iter().map(move |subject| Request { subject, object: object.clone() })
    })
}

/// The rule that a finding is about: the place is its id, or in it.
fn rule_of(policy: &Policy, finding: &Diagnostic) -> usize {
    let before = |rule: &&(usize, &Rule)| rule.1.span.start <= finding.span.start;
    let rules = policy.rules.iter().enumerate();
    rules.filter(|rule| before(&rule)).max_by_key(|(_, rule)| rule.span.start).expect("a rule").0
}

/// Whether two policies give the same answers to what `asks`.
fn assert_alike(policy: &Policy, other: &Policy, asks: impl Fn(&Request) -> bool) {
    for request in requests().filter(asks) {
        let [one, two] = [policy, other].map(|policy| eval(policy, &host(), &request).verdict);
        assert_eq!(one, two, "{request:?}");
    }
}

/// Nothing that is not known of it counts, and exceptions hold for it.
fn is_known(request: &Request) -> bool {
    let Subject { executable, sha256, loads_code, lineage, session, uid: _ } = &request.subject;
    let whole = matches!(lineage, Lineage::Images { complete: true, images } if images.iter().all(|image| image.sha256.is_some() || image.path == b"/e/b"));
    let whole = whole && session.user.is_some() && session.groups.is_some();
    !executable.is_empty() && sha256.is_some() && !loads_code && whole && request.object != Object::RawSocket
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn what_is_found_changes_nothing_if_removed(text in rules()) {
        let (policy, linted) = linted(&text);
        for finding in linted.found.items() {
            let index = rule_of(&policy, finding);
            let mut other = policy.clone();
            match finding.code {
                Code::Shadowed | Code::Contradictory | Code::IdleAllow => {
                    other.rules.remove(index);
                    assert_alike(&policy, &other, |_| true);
                }
                Code::Unreachable => {
                    other.rules.remove(index);
                    assert_alike(&policy, &other, is_known);
                }
                Code::ExceptedItem => {
                    let rule = &mut other.rules[index];
                    let items = rule.only.len();
                    rule.only.retain(|item| item.span != finding.span);
                    if let Kind::Connect { to, .. } = &mut rule.kind && items == rule.only.len() {
                        to.retain(|item| item.span != finding.span);
                    }
                    prop_assert_ne!(&policy, &other);
                    assert_alike(&policy, &other, is_known);
                }
                Code::IdleException => {
                    let rule = &mut other.rules[index];
                    rule.exceptions.retain(|item| item.span != finding.span);
                    rule.spares.paths.retain(|item| item.span != finding.span);
                    if let Kind::Connect { except_to, .. } = &mut rule.kind {
                        except_to.retain(|item| item.to[0].span != finding.span);
                    }
                    prop_assert_ne!(&policy, &other);
                    assert_alike(&policy, &other, |_| true);
                }
                Code::RenamedAway => {}
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }

    #[test]
    fn what_is_not_found_keeps_its_files(text in rules()) {
        let (policy, linted) = linted(&text);
        let of = |finding: &&Diagnostic| finding.code == Code::RenamedAway;
        let loose: BTreeSet<usize> = linted.found.items().iter().filter(of).map(|finding| rule_of(&policy, finding)).collect();
        for (index, rule) in policy.rules.iter().enumerate() {
            let opens = matches!(&rule.kind, Kind::File { operations, .. } if operations.contains(FileOperation::Read));
            if !opens || loose.contains(&index) {
                continue;
            }
            // With what is allowed against it.
            let rules = policy.rules.iter().filter(|other| other.allows || other.id == rule.id);
            let alone = Policy { rules: rules.cloned().collect(), ..policy.clone() };
            for request in requests() {
                let Object::File { path, operation: FileOperation::Read } = &request.object else { continue };
                if eval(&alone, &host(), &request).rule.is_none() {
                    continue;
                }
                let object = Object::File { path: path.clone(), operation: FileOperation::Rename };
                let verdict = eval(&policy, &host(), &Request { object, ..request.clone() }).verdict;
                let least = if rule.mode == Mode::Enforce { treeline_event::Verdict::Deny } else { treeline_event::Verdict::Audit };
                prop_assert!(verdict == least || verdict == treeline_event::Verdict::Deny, "{:?}", request);
            }
        }
    }
}

#[test]
fn a_moment_is_not_needed() {
    let policy = parse(
        "t",
        "version: 1\nname: t\nrules: [{id: a, kind: file, paths: [/x], reason: r, expires: 2027-01-02}]\n",
    );
    let policy = policy.expect("a valid policy");
    assert!(lint(&policy, None).finish().found.is_empty());
    let codes = |now: &str| lint(&policy, now.parse::<Moment>().ok()).finish().found.items().len();
    assert_eq!((codes("2026-12-01"), codes("2026-12-31")), (0, 1));
}
