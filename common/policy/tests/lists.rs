//! Named lists mean what their items would mean where they are used, and what is wrong with them is said where it is.

use treeline_policy::{
    Code, Policy, parse,
    policy::{Kind, Rule},
};

const HASH: &str = "1111111111111111111111111111111111111111111111111111111111111111";

/// A policy whose lists begin on line 4, in column 3.
fn text(lists: &str, rules: &str) -> String {
    format!("version: 1\nname: t\nlists:\n  {}\nrules: [{rules}]\n", lists.replace('\n', "\n  "))
}

fn read(lists: &str, rules: &str) -> Policy {
    parse("p", &text(lists, rules)).unwrap_or_else(|diagnostics| panic!("{diagnostics}"))
}

/// Every error: `line:column code`, and after ` ~ ` the other places, each with its words.
#[track_caller]
fn check(lists: &str, rules: &str, expect: &[&str]) {
    let found = parse("p", &text(lists, rules)).expect_err("an invalid policy");
    let shown: Vec<String> = found
        .reports()
        .map(|report| {
            let related: Vec<String> = report
                .related
                .iter()
                .map(|at| format!("{}:{} {}", at.position.line, at.position.column, at.message))
                .collect();
            let places =
                if related.is_empty() { String::new() } else { format!(" ~ {}", related.join(", ")) };
            format!("{}:{} {}{places}", report.position.line, report.position.column, report.code.name())
        })
        .collect();
    assert_eq!(shown, expect, "{found}");
}

fn file(paths: &str) -> String {
    format!("{{id: a, kind: file, reason: r, paths: [{paths}]}}")
}

fn paths(rule: &Rule) -> Vec<String> {
    rule.kind.globs().iter().map(|glob| glob.value.to_string()).collect()
}

#[test]
fn lists_that_stand_for_too_many_items_are_one_finding() {
    let items: String = (0..700).map(|number| format!("/{number}, ")).collect();
    let rule = |number: usize| format!("  - {{id: r-{number}, kind: file, paths: [$all], reason: r}}\n");
    let rules: String = (0..100).map(rule).collect();
    let text = format!("version: 1\nname: t\nlists: {{paths: {{all: [{items}]}}}}\nrules:\n{rules}");
    let found = parse("t", &text).expect_err("too many items");
    let codes: Vec<Code> = found.items().iter().map(|item| item.code).collect();
    assert_eq!(codes, [Code::TooLong], "{found}");
}

#[test]
fn a_name_stands_for_the_items() {
    let lists = "paths: {cloud: [~/.aws/**, $kube], kube: [~/.kube/**, ~/.helm/**]}\n\
                 addresses: {internal: [10.0.0.0/8, \"fd00::/8\"], own: [127.0.0.0/8]}\n\
                 hashes: {ssh: [\"1111111111111111111111111111111111111111111111111111111111111111\"]}";
    let rules = "{id: a, kind: file, reason: r, paths: [/x, $cloud, $kube, ~/.aws/**]}, \
                 {id: b, kind: exec, reason: r, paths: [$kube], sha256: [$ssh]}, \
                 {id: c, kind: connect, reason: r, to: [$internal, 1.2.3.4], except_to: [{to: [$own]}], unix: [$kube, \"@x\"]}";
    let policy = read(lists, rules);
    assert!(policy.warnings.is_empty(), "{}", policy.warnings);
    let rule = |id: &str| policy.rule(id).expect("the rule");
    // An item that comes from several places counts once.
    assert_eq!(paths(rule("a")), ["/x", "~/.aws/**", "~/.kube/**", "~/.helm/**"]);
    let Kind::Exec { sha256, .. } = &rule("b").kind else { panic!("an exec rule") };
    assert_eq!((sha256.len(), paths(rule("b")).len()), (1, 2));
    let Kind::Connect { to, except_to, unix, abstracts, .. } = &rule("c").kind else {
        panic!("a connect rule")
    };
    assert_eq!((to.len(), except_to[0].to.len(), unix.len(), abstracts.len()), (3, 1, 2, 1));
    let glob = &rule("a").kind.globs()[2];
    let defined = policy.sources.position(glob.span);
    assert_eq!((defined.line, defined.column), (4, 45), "an item is where it is written");
}

#[test]
fn what_cannot_be_resolved() {
    let own = "paths: {own: [/x]}";
    check(own, &file("$onw, $zzz"), &["5:48 unknown-list", "5:54 unknown-list"]);
    check(own, &file("$own, $own"), &["5:54 duplicate-item ~ 5:48 the first one is here"]);
    check("addresses: {net: [10.0.0.0/8]}", &file("$net"), &["5:48 wrong-list ~ 4:15 it is defined here"]);
    check(
        "paths: {a: [/x], b: [$c]}\nhashes: {c: [$a]}",
        &file("$a, $b"),
        &["4:24 wrong-list ~ 5:12 it is defined here", "5:16 wrong-list ~ 4:11 it is defined here"],
    );
    check("paths: {a: [$a, /x]}", &file("$a"), &["4:15 list-cycle"]);
    check(
        "paths: {a: [$b], b: [/x, $c], c: [$a], d: [$a]}",
        &file("$d"),
        &["4:37 list-cycle ~ 4:15 `$a` has `$b`, 4:28 `$b` has `$c`"],
    );
    check(
        "paths: {a: [/x]}\naddresses: {a: [1.2.3.4]}",
        &file("$a"),
        &["5:15 duplicate-list ~ 4:11 the first one is here"],
    );
    check("paths: {A_b: [/x]}", &file("/x"), &["4:11 bad-id"]);
    check("paths: [/x]\nports: {a: [1]}", &file("/x"), &["4:10 wrong-type", "5:3 unknown-key"]);
    check(
        "paths: {a: /x, b: [], c: [x, 7]}",
        &file("/x"),
        &["4:14 wrong-type", "4:21 empty", "4:29 bad-pattern", "4:32 bad-pattern"],
    );
}

#[test]
fn a_list_stands_for_no_single_value() {
    let subject =
        |item: &str| format!("{{id: a, kind: file, reason: r, paths: [$own], except: [{{{item}}}]}}");
    let lists = "paths: {own: [/x]}";
    check(lists, &subject("executable: $own"), &["5:77 wrong-list"]);
    check(lists, &subject("sha256: $own"), &["5:73 wrong-list"]);
    check(lists, "{id: a, kind: connect, reason: r, to: [1.2.3.4], ports: [$own]}", &["5:66 wrong-list"]);
}

#[test]
fn lists_that_no_rule_has_are_warned_of() {
    let check = |lists: &str, expect: &[usize]| {
        let policy = read(lists, &file("$a"));
        let found: Vec<(Code, usize)> =
            policy.warnings.reports().map(|report| (report.code, report.position.column)).collect();
        let expect: Vec<(Code, usize)> = expect.iter().map(|column| (Code::UnusedList, *column)).collect();
        assert_eq!(found, expect, "{lists}");
    };
    check("paths: {a: [$b], b: [/x]}", &[]);
    check("paths: {a: [/x], b: [/y]}", &[20]);
    // What only they have is in no rule either.
    check("paths: {a: [/x], b: [$c], c: [$a, /y]}", &[20, 29]);
}

#[test]
fn bounds() {
    let many: String = (0..257).map(|number| format!("l{number}: [/x],")).collect();
    check(&format!("paths: {{{many}}}"), &file("$l1"), &["4:2717 too-many-lists"]);
    // A list in each before it: 256 calls within each other, and then 32 640 items.
    let nested: String = (0..256)
        .map(|number| {
            format!(
                "l{number}: [/x{number}{}],",
                if number == 255 { String::new() } else { format!(", $l{}", number + 1) }
            )
        })
        .collect();
    let policy = read(&format!("paths: {{{nested}}}"), &file("$l0"));
    assert_eq!(policy.rules[0].kind.globs().len(), 256);
    // Each twice as large as the one before would take as long as the next twenty.
    let doubled: String = (0..40)
        .map(|number| {
            format!(
                "l{number}: [{}],",
                (0..2000).map(|item| format!("/{number}-{item}, ")).collect::<String>()
                    + &if number == 39 { String::new() } else { format!("$l{}", number + 1) }
            )
        })
        .collect();
    let found =
        parse("p", &text(&format!("paths: {{{doubled}}}"), &file("$l0"))).expect_err("too many items");
    assert!(found.reports().all(|report| report.code == Code::TooLong), "{found}");
    let hashes = format!("hashes: {{h: [\"{HASH}\"]}}");
    assert_eq!(read(&hashes, "{id: a, kind: exec, reason: r, sha256: [$h]}").rules.len(), 1);
}
