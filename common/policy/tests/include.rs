//! A policy of several files means what it would mean as one, and what is wrong with it is said where it is.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use proptest::prelude::*;
use treeline_policy::{
    Diagnostics, Home, Host, Loader, MountTable, NotLoaded, Policy, Target, compile,
    diagnostic::DIAGNOSTICS_MAX,
    parse, parse_with,
    policy::Mode,
    source::{FILES_MAX, Source},
};

/// Files by path.
struct Files(BTreeMap<String, String>);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        Self(files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect())
    }

    /// Reads the policy `p`.
    fn read(&self) -> Result<Policy, Diagnostics> {
        parse_with(self, Source::new("dir/p", &self.0["p"]), None)
    }
}

impl Loader for Files {
    fn load(&self, path: &str) -> Result<Source, NotLoaded> {
        let missing = || NotLoaded { why: "there is no such file".to_owned(), help: None };
        let text = self.0.get(path).ok_or_else(missing)?;
        Ok(Source::new(&format!("dir/{path}"), text))
    }
}

/// Counts how often it is asked for a file that is not there.
struct Missing<'c>(&'c Cell<usize>);

impl Loader for Missing<'_> {
    fn load(&self, _: &str) -> Result<Source, NotLoaded> {
        self.0.set(self.0.get() + 1);
        Err(NotLoaded { why: "there is no such file".to_owned(), help: None })
    }
}

fn file(id: &str, paths: &str) -> String {
    format!("rules: [{{id: {id}, kind: file, reason: r, paths: [{paths}]}}]\n")
}

fn root(more: &str) -> String {
    format!("version: 1\nname: t\n{more}")
}

fn fragment(more: &str) -> String {
    format!("version: 1\n{more}")
}

/// Every error: `file:line:column code`, and after ` ~ ` the other places, each with its words.
#[track_caller]
fn check(files: &[(&str, &str)], expect: &[&str]) {
    let found = Files::new(files).read().expect_err("an invalid policy");
    let shown: Vec<String> = found
        .reports()
        .map(|report| {
            let related: Vec<String> = report
                .related
                .iter()
                .map(|at| format!("{}:{}:{} {}", at.file, at.position.line, at.position.column, at.message))
                .collect();
            let places =
                if related.is_empty() { String::new() } else { format!(" ~ {}", related.join(", ")) };
            format!(
                "{}:{}:{} {}{places}",
                report.file,
                report.position.line,
                report.position.column,
                report.code.name()
            )
        })
        .collect();
    assert_eq!(shown, expect, "{found}");
}

#[test]
fn files_are_one_policy() {
    let files = [
        ("p", root(&format!("mode: monitor\ninclude: [common/a, b]\n{}", file("own", "$keys, $cloud")))),
        ("common/a", fragment("include: [more/c]\nlists: {paths: {keys: [~/.ssh/**, $cloud]}}\n")),
        ("common/more/c", fragment(&file("c", "/c"))),
        ("b", fragment(&format!("lists: {{paths: {{cloud: [~/.aws/**]}}}}\n{}", file("b", "$keys")))),
    ];
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
    let policy = Files::new(&files).read().unwrap_or_else(|diagnostics| panic!("{diagnostics}"));
    assert!(policy.warnings.is_empty(), "{}", policy.warnings);
    let rules: Vec<_> =
        policy.rules.iter().map(|rule| (rule.id.as_str(), rule.mode, rule.kind.globs().len())).collect();
    assert_eq!(rules, [("b", Mode::Monitor, 2), ("c", Mode::Monitor, 1), ("own", Mode::Monitor, 2)]);
    let names: Vec<&str> = policy.sources.files().iter().map(Source::name).collect();
    assert_eq!(names, ["dir/p", "dir/common/a", "dir/common/more/c", "dir/b"]);
    let of = |id: &str| policy.sources.file(policy.rule(id).expect("the rule").span.file).name();
    assert_eq!((of("own"), of("c")), ("dir/p", "dir/common/more/c"));
}

#[test]
fn what_is_wrong_with_an_included_file() {
    let p = root("include: [a]\nrules: []\n");
    let with = |a: &str, expect: &[&str]| check(&[("p", &p), ("a", a)], expect);
    with("rules: [\n", &["dir/a:2:1 not-yaml"]);
    with("", &["dir/a:1:1 empty-policy"]);
    with("version: 2\n", &["dir/a:1:10 unknown-version"]);
    with("rules: []\n", &["dir/a:1:1 missing-key"]);
    with("version: 1\nname: a\nmode: monitor\n", &["dir/a:2:1 unknown-key", "dir/a:3:1 unknown-key"]);
    with(&fragment(&file("a", "x, $y")), &["dir/a:2:48 bad-pattern", "dir/a:2:51 unknown-list"]);
    let p = root(&format!("include: [a]\nlists: {{paths: {{x: [/x]}}}}\n{}", file("r", "$x")));
    let a = fragment(&format!("lists: {{hashes: {{x: [\"{}\"]}}}}\n{}", "1".repeat(64), file("r", "/y")));
    check(
        &[("p", &p), ("a", &a)],
        &[
            "dir/a:2:18 duplicate-list ~ dir/p:4:17 the first one is here",
            "dir/a:3:14 duplicate-id ~ dir/p:5:14 the first one is here",
        ],
    );
}

#[test]
fn what_cannot_be_included() {
    let paths = "/etc/x, ../x, a/../b, ./a, a//b, a/, ~/x, 7, \"\"";
    check(
        &[("p", &root(&format!("include: [{paths}]\n")))],
        &[
            "dir/p:3:11 bad-include",
            "dir/p:3:19 bad-include",
            "dir/p:3:25 bad-include",
            "dir/p:3:33 bad-include",
            "dir/p:3:38 bad-include",
            "dir/p:3:44 bad-include",
            "dir/p:3:48 bad-include",
            "dir/p:3:53 wrong-type",
            "dir/p:3:56 empty",
        ],
    );
    check(
        &[("p", &root("include: [a, a]\n")), ("a", "version: 1\n")],
        &["dir/p:3:14 duplicate-item ~ dir/p:3:11 the first one is here"],
    );
    check(&[("p", &root("include: a\n"))], &["dir/p:3:10 wrong-type"]);
    check(
        &[("p", &root("include: [a]\n")), ("a", &fragment("include: [b]\n"))],
        &["dir/a:2:11 cannot-include ~ dir/p:3:11 `p` includes `a`"],
    );
    // What a file that is missing may define is not called unknown.
    let p = root(&format!("include: [a]\n{}", file("a", "$x, y")));
    check(&[("p", &p)], &["dir/p:3:11 cannot-include", "dir/p:4:52 bad-pattern"]);
    check(&[("p", &p), ("a", "version: [")], &["dir/p:4:52 bad-pattern", "dir/a:1:11 not-yaml"]);
    check(&[("p", &root("include: [p]\n"))], &["dir/p:3:11 include-cycle"]);
    let (a, b) = (fragment("include: [a/b]\n"), fragment("include: [c]\n"));
    let around = |c: &str| {
        vec![("p", root("include: [a]\n")), ("a", a.clone()), ("a/b", b.clone()), ("a/c", fragment(c))]
    };
    let check_all = |files: &[(&str, String)], expect: &[&str]| {
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
        check(&files, expect);
    };
    check_all(&around("include: [b]\n"), &["dir/a/c:2:11 include-cycle ~ dir/a/b:2:11 `a/b` includes `a/c`"]);
    let mut twice = around("");
    twice[0].1 = root("include: [a, a/c]\n");
    check_all(&twice, &["dir/p:3:14 duplicate-include ~ dir/a/b:2:11 the first one is here"]);
    let chain: Vec<(String, String)> = (0..9)
        .map(|number| (format!("f{number}"), fragment(&format!("include: [f{}]\n", number + 1))))
        .collect();
    let mut files = vec![("p", root("include: [f0]\n"))];
    files.extend(chain.iter().map(|(path, text)| (path.as_str(), text.clone())));
    let way: Vec<String> =
        (0..7).map(|number| format!("dir/f{number}:2:11 `f{number}` includes `f{}`", number + 1)).collect();
    check_all(
        &files,
        &[&format!("dir/f7:2:11 include-too-deep ~ dir/p:3:11 `p` includes `f0`, {}", way.join(", "))],
    );
}

#[test]
fn bounds_of_all_files_together() {
    let many: Vec<(String, String)> =
        (0..64).map(|number| (format!("f{number}"), "version: 1\n".to_owned())).collect();
    let paths: String = many.iter().map(|(path, _)| format!("{path}, ")).collect();
    let p = root(&format!("include: [{paths}]\n"));
    let mut files: Vec<(&str, &str)> =
        many.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    files.push(("p", &p));
    check(&files, &["dir/p:3:316 too-many-files"]);
    // Nor is looked for more files than there can be.
    let missing: String = (0..1000).map(|number| format!("m{number}, ")).collect();
    let asked = Cell::new(0);
    let found =
        parse_with(&Missing(&asked), Source::new("p", &root(&format!("include: [{missing}]\n"))), None);
    assert_eq!(
        (found.expect_err("nothing is there").items().len(), asked.get()),
        (DIAGNOSTICS_MAX, FILES_MAX - 1)
    );
    let half = format!("version: 1\n{}", "#".repeat(1 << 19));
    check(&[("p", &root("include: [a, b]\n")), ("a", &half), ("b", &half)], &["dir/p:3:14 too-long"]);
    let rules = |first: usize| {
        let rules: String = (first..first + 600)
            .map(|n| format!("{{id: r{n}, kind: file, reason: r, paths: [/a]}},"))
            .collect();
        format!("rules: [{rules}]\n")
    };
    check(
        &[("p", &root(&format!("include: [a]\n{}", rules(0)))), ("a", &fragment(&rules(600)))],
        &["dir/a:2:8 too-many-rules"],
    );
}

#[test]
fn a_policy_that_is_alone_includes_nothing() {
    let found = parse("p", &root("include: [a]\n")).expect_err("nothing is read");
    let report = found.reports().next().expect("an error");
    assert_eq!(report.message, "`a` cannot be included: only this file is read");
}

/// A rule of each kind by number.
fn rule(number: usize, paths: &[String], list: Option<usize>) -> String {
    let paths = paths.join(", ") + &list.map_or(String::new(), |list| format!(", $l{list}"));
    match number % 3 {
        0 => format!(
            "  - {{id: r{number}, kind: file, reason: r, paths: [{paths}], except: [{{executable: /e{number}}}]}}\n"
        ),
        1 => format!("  - {{id: r{number}, kind: exec, mode: monitor, reason: r, paths: [{paths}]}}\n"),
        _ => format!(
            "  - {{id: r{number}, kind: connect, reason: r, unix: [{paths}], to: [10.0.0.{number}]}}\n"
        ),
    }
}

fn paths() -> impl Strategy<Value = Vec<String>> {
    let path = "(/|~/)[abc](/[ab*]){0,3}";
    prop::collection::btree_set(path, 1..4)
        .prop_map(|paths| paths.into_iter().map(|path| format!("\"{path}\"")).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    /// Rules and lists are dealt out to files, each of which is included by one before it; in the whole, every item is
    /// written where it is used.
    #[test]
    fn a_policy_in_parts_is_the_policy(
        rules in prop::collection::vec((paths(), prop::option::of(0..3_usize), 0..6_usize), 0..12),
        lists in prop::collection::vec((paths(), 0..6_usize), 3),
        parents in prop::collection::vec(any::<prop::sample::Index>(), 5),
    ) {
        let mut whole_rules = String::new();
        let mut part_rules = vec![String::new(); 6];
        let mut part_lists = vec![String::new(); 6];
        for (number, (paths, list, part)) in rules.iter().enumerate() {
            let listed = match list {
                None => Vec::new(),
                Some(0) => [lists[0].0.as_slice(), &lists[1].0].concat(),
                Some(list) => lists[*list].0.clone(),
            };
            let mut written = paths.clone();
            written.extend(listed);
            let mut seen = BTreeSet::new();
            written.retain(|path| seen.insert(path.clone()));
            whole_rules += &rule(number, &written, None);
            part_rules[*part] += &rule(number, paths, *list);
        }
        for (number, (paths, part)) in lists.iter().enumerate() {
            // One has another in it.
            let other = if number == 0 { ", $l1" } else { "" };
            let list = format!("    l{number}: [{}{other}]\n", paths.join(", "));
            part_lists[*part] += &list;
        }
        let mut includes = vec![String::new(); 6];
        for (child, parent) in parents.iter().enumerate() {
            let _ = write!(includes[parent.index(child + 1)], "f{}, ", child + 1);
        }
        let text = |head: &str, includes: &str, lists: &str, rules: &str| {
            let key = |key: &str, value: &str| if value.is_empty() { String::new() } else { format!("{key}{value}") };
            let include = if includes.is_empty() { String::new() } else { format!("include: [{includes}]\n") };
            let rules = if rules.is_empty() { "rules: []\n".to_owned() } else { format!("rules:\n{rules}") };
            format!("version: 1\n{head}{include}{}{rules}", key("lists:\n  paths:\n", lists))
        };
        let head = "name: t\n";
        let whole = parse("p", &text(head, "", "", &whole_rules)).unwrap_or_else(|found| panic!("{found}"));
        let parts = (0..6).map(|part| {
            let (name, head) = if part == 0 { ("p".to_owned(), head) } else { (format!("f{part}"), "") };
            (name, text(head, &includes[part], &part_lists[part], &part_rules[part]))
        });
        let parts = Files(parts.collect()).read().unwrap_or_else(|found| panic!("{found}"));
        let host = Host { homes: vec![Home { uid: 1, path: b"/h".to_vec() }] };
        let tables = |policy: &Policy| {
            let target = Target { seed: 7, generation: 1, slot: 0 };
            compile(policy, &host, &MountTable::single(1), target).unwrap_or_else(|found| panic!("{found}"))
        };
        prop_assert_eq!(tables(&parts), tables(&whole));
    }
}
