//! The examples of `docs/policy.md` are valid, its messages are those that are printed, and it lists every code.

use treeline_policy::{
    Code, Loader, NotLoaded, lint, parse, parse_tests, parse_tests_with, parse_with,
    source::Source,
    testing::{self, Results, TestFile, Untested},
};

const TEXT: &str = include_str!("../../../docs/policy.md");

/// The blocks of a language, each with the line before which it begins.
fn blocks(language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    TEXT.split(&fence)
        .skip(1)
        .filter_map(|rest| rest.split_once("\n```").map(|(block, _)| format!("{block}\n")))
        .collect()
}

#[test]
fn examples_are_valid() {
    let examples = blocks("yaml");
    assert!(examples.len() >= 5, "the examples have been found");
    for example in examples.iter().filter(|example| example.contains("\nname: ")) {
        let policy = parse_with(&Examples, Source::new("docs/policy.md", example), None)
            .unwrap_or_else(|diagnostics| panic!("{diagnostics}\n{example}"));
        let found = lint(&policy, None).finish().found;
        assert!(found.is_empty(), "{found}\n{example}");
    }
}

/// The examples of files that others include: each begins with its path in a comment.
struct Examples;

impl Loader for Examples {
    fn load(&self, path: &str) -> Result<Source, NotLoaded> {
        let named = |example: &String| example.starts_with(&format!("# {path}\n"));
        let found = blocks("yaml").into_iter().find(named);
        let missing = || NotLoaded { why: "it is not in the documentation".to_owned(), help: None };
        found.map(|text| Source::new(path, &text)).ok_or_else(missing)
    }
}

#[test]
fn messages_are_as_shown() {
    let check = |text: &str| {
        let diagnostics = parse("policy.yaml", text).expect_err("an error");
        assert!(blocks("text").contains(&format!("{diagnostics}\n")), "{diagnostics}");
    };
    check(
        "version: 1\nname: example\nrules:\n  - id: ssh-keys\n    kind: file\n    pathes: [~/.ssh/**]\n    paths: [/x]\n    reason: keys\n",
    );
    check(
        "version: 1\nname: example\nrules:\n  - id: ssh-keys\n    kind: file\n    paths: [~/.ssh/**]\n    reason: keys\n  - id: ssh-keys\n    kind: file\n    paths: [/etc/ssh/**]\n    reason: keys\n",
    );
}

#[test]
fn examples_of_tests_pass() {
    let examples: Vec<String> =
        blocks("yaml").into_iter().filter(|block| block.contains("\ntests:\n")).collect();
    assert!(!examples.is_empty(), "the examples have been found");
    for example in examples {
        let file = parse_tests_with(Source::new("docs/policy.md", &example), &mut treeline_shell::Here)
            .unwrap_or_else(|found| panic!("{found}"));
        let results = tested(&file);
        assert_eq!(results.failed(), 0, "{}", results.failures());
        assert_eq!(results.untested, Untested::default());
    }
}

/// What comes of tests of a policy of the documentation.
fn tested(file: &TestFile) -> Results {
    let text = Examples.load(&file.policy.value).unwrap_or_else(|error| panic!("{error}"));
    let policy = parse(&file.policy.value, text.text()).unwrap_or_else(|found| panic!("{found}"));
    testing::run(file, &policy, None).unwrap_or_else(|found| panic!("{found}"))
}

#[test]
fn a_failure_is_as_shown() {
    let homes = "machine: {homes: {ada: /home/ada}}";
    let test = "tests: [{do: read /home/ada/.ssh/id, by: /usr/bin/ssh, expect: deny ssh-keys}]";
    let text = format!("policy: ssh.yaml\n{homes}\n{test}\n");
    let file = parse_tests(Source::new("ssh.test.yaml", &text)).expect("valid tests");
    let failures = tested(&file).failures();
    assert!(blocks("text").contains(&format!("{failures}\n")), "{failures}");
}

#[test]
fn every_code_is_listed() {
    let (_, table) = TEXT.split_once("| code | what it is |\n|---|---|\n").expect("the table of codes");
    let rows = table.lines().map_while(|line| line.strip_prefix("| `")?.split_once("` | "));
    let listed: Vec<&str> = rows.map(|(code, _)| code).collect();
    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.name()).collect();
    assert_eq!(listed, codes);
}
