//! Every code is that of some policy or of some tests.

use std::collections::BTreeSet;

use treeline_policy::{
    Code, Home, Host, Loader, Moment, MountTable, NotLoaded, Target, compile, lint, parse_tests, parse_with,
    source::{Source, TEXT_LEN_MAX},
    testing,
};

/// 2001-09-09.
const NOW: Moment = Moment(1_000_000_000);

/// The codes of what is found in a text, and in the policy that it is when it is compiled for a machine with one home.
fn codes(text: &str, mounts: &MountTable) -> BTreeSet<Code> {
    let host = Host { homes: vec![Home { uid: 0, path: b"/root".to_vec() }] };
    let target = Target { seed: 1, generation: 1, slot: 0 };
    let found = parse_with(&Files, Source::new("p", text), Some(NOW)).and_then(|policy| {
        compile(&policy, &host, mounts, target)?;
        Ok(lint(&policy, Some(NOW)).finish().found)
    });
    let found = found.unwrap_or_else(|found| found);
    found.items().iter().map(|item| item.code).collect()
}

/// Files that include nothing, the one without a number behind it, or the one with the next number.
struct Files;

impl Loader for Files {
    fn load(&self, path: &str) -> Result<Source, NotLoaded> {
        let text = match path.strip_prefix("deep-").and_then(|number| number.parse::<u32>().ok()) {
            Some(number) => format!("version: 1\ninclude: [deep-{}]\n", number + 1),
            None if path == "missing" => {
                return Err(NotLoaded { why: "it is missing".to_owned(), help: None });
            }
            None if path == "second" => "version: 1\ninclude: [first]\n".to_owned(),
            None => "version: 1\n".to_owned(),
        };
        Ok(Source::new(path, &text))
    }
}

fn including(paths: &str) -> String {
    format!("version: 1\nname: t\ninclude: [{paths}]\n")
}

fn rules(rules: &str) -> String {
    format!("version: 1\nname: t\nrules: [{rules}]\n")
}

fn rule(more: &str) -> String {
    rules(&format!("{{id: a, reason: r, {more}}}"))
}

/// A policy for each code, but for [`Code::NoFilesystem`], which is one of the machine, those of several policies, and those of `treeline policy check`,
/// which makes [`Code::OpenWay`] of what the compiler left out, knows [`Code::Unenforceable`] and looks at files. What would be
/// [`Code::NotCompared`] takes a second.
fn examples() -> Vec<(Code, String)> {
    let hash = "1".repeat(64);
    vec![
        (Code::BadDuration, approval("a", "1d")),
        (Code::UnknownRule, approval("b", "1h")),
        (Code::BadAddress, rule("kind: connect, to: [1.2.3.4/33]")),
        (Code::BadDate, rule("kind: file, paths: [/x], expires: 2027-02-30")),
        (Code::BadHash, rule("kind: exec, sha256: [12]")),
        (Code::BadHost, rule("kind: tool, tools: [Bash], when: {hosts: [\"http://x/\"]}")),
        (Code::BadId, rules("{id: A, kind: file, paths: [/x], reason: r}")),
        (Code::BadInclude, including("../x")),
        (Code::BadLink, rule("kind: file, paths: [/x], link: \"http://example.com\"")),
        (Code::BadNumber, "version: 1\nname: t\nrevision: 0\nrules: []\n".to_owned()),
        (Code::BadPackage, rule("kind: mcp, servers: [{package: {npm: A}}]")),
        (Code::BadPattern, rule("kind: file, paths: [x]")),
        (Code::BadPort, rule("kind: connect, to: [1.2.3.4], ports: [70000]")),
        (Code::BadUrl, rule("kind: mcp, servers: [{url: x}]")),
        (Code::CannotAdopt, rule("kind: broker, brokers: [cron], action: adopt")),
        (Code::CannotInclude, including("missing")),
        (Code::ConflictingKeys, rule("kind: broker, brokers: [cron], action: deny, mode: enforce")),
        (Code::ControlCharacter, "version: 1\nname: \"a\\x1b\"\nrules: []\n".to_owned()),
        (
            Code::DuplicateContent,
            rules(&format!(
                "{{id: a, kind: exec, sha256: [\"{hash}\"], reason: r}}, {{id: b, kind: exec, sha256: [\"{hash}\"], reason: r}}"
            )),
        ),
        (
            Code::DuplicateId,
            rules("{id: a, kind: file, paths: [/x], reason: r}, {id: a, kind: file, paths: [/y], reason: r}"),
        ),
        (Code::Claim, rule("kind: file, paths: [/x], except: [{session: {agents: [a]}}]")),
        (Code::DuplicateInclude, including("first, second")),
        (Code::DuplicateItem, rule("kind: file, paths: [/x, /x]")),
        (Code::DuplicateKey, "version: 1\nname: t\nname: u\nrules: []\n".to_owned()),
        (Code::Empty, rule("kind: file, paths: []")),
        (Code::DuplicateList, lists("paths: {a: [/x]}, hashes: {a: [$a]}")),
        (Code::EmptyPolicy, "# nothing\n".to_owned()),
        (Code::Expired, rule("kind: file, paths: [/x], expires: 1999-12-31")),
        (Code::ForEverybody, rule("kind: file, paths: [/x], except: [{}]")),
        (Code::HostName, rule("kind: connect, hosts: [example.com]")),
        (Code::IdleKey, rule("kind: connect, unix: [/x], ports: [1]")),
        (Code::IncludeCycle, including("p")),
        (Code::IncludeTooDeep, including("deep-0")),
        (Code::ListCycle, lists("paths: {a: [$a]}")),
        (Code::MissingKey, rule("kind: file")),
        (Code::NestedTooDeeply, "[".repeat(40)),
        (Code::NoRoom, rule(&format!("kind: file, paths: [{}]", names(4097)))),
        (Code::NotAPolicy, "version: 1\nrules: []\n".to_owned()),
        (Code::NotYaml, "a: [1\nb: 2\n".to_owned()),
        (Code::ServerName, rule("kind: tool, tools: [mcp__x__y]")),
        (Code::TooDeep, rule(&format!("kind: file, paths: [\"~{}\"]", "/a".repeat(63)))),
        (Code::TooLong, " ".repeat(TEXT_LEN_MAX + 1)),
        (Code::TooManyFiles, including(&(0..64).map(|number| format!("f{number},")).collect::<String>())),
        (
            Code::TooManyLists,
            lists(&format!("paths: {{{}}}", (0..257).map(|n| format!("l{n}: [/x],")).collect::<String>())),
        ),
        (Code::TooManyRules, rules(&"1,".repeat(1025))),
        (Code::UnknownKey, rule("kind: file, paths: [/x], zzz: 1")),
        (Code::UnknownList, rule("kind: file, paths: [$x]")),
        (Code::UnknownVersion, "version: 2\nname: t\nrules: []\n".to_owned()),
        (Code::UnknownWord, rule("kind: fiel")),
        (Code::UnusedList, lists("paths: {a: [/x]}")),
        (Code::WideException, rule("kind: file, paths: [/x], except: [{executable: /bin/sh}]")),
        (Code::WrongList, lists("paths: {a: [/x], b: [$c]}, hashes: {c: [$a]}")),
        (Code::WrongType, rules("1")),
        (Code::YamlFeature, "a: &x 1\n".to_owned()),
    ]
}

/// A policy for each lint that does not depend on the machine.
fn examples_of_lints() -> [(Code, String); 11] {
    [
        (
            Code::IdleApproval,
            rule_of_approvals(
                "{rules: [a], by: {users: [u]}, for_at_most: 1h}",
                "kind: file, paths: [/x], mode: monitor",
            ),
        ),
        (
            Code::Contradictory,
            rules(
                "{id: a, kind: file, paths: [/x], reason: r}, {id: b, kind: file, paths: [/x], mode: monitor, reason: r}",
            ),
        ),
        (Code::ExceptedItem, rule("kind: connect, to: [10.0.0.1, 10.0.0.2], except_to: [{to: [10.0.0.1]}]")),
        (Code::ExpiresSoon, rule("kind: file, paths: [/x], expires: 2001-09-20")),
        (Code::IdleAllow, rule("kind: tool, tools: [Bash], action: allow")),
        (Code::WeakServer, rule("kind: mcp, servers: [{package: {npm: a}}], action: allow")),
        (Code::IdleException, rule("kind: connect, to: [10.0.0.1], except_to: [{to: [10.0.0.2]}]")),
        (Code::IdleSilence, rule("kind: file, paths: [/x], silence: {shadowed: why}")),
        (Code::RenamedAway, rule("kind: file, operations: [read], paths: [/x]")),
        (
            Code::Shadowed,
            rules(
                "{id: a, kind: file, paths: [/x/**], reason: r}, {id: b, kind: file, paths: [/x/y], reason: r}",
            ),
        ),
        (Code::Unreachable, rule("kind: connect, to: [10.0.0.1], except_to: [{to: [10.0.0.0/8]}]")),
    ]
}

fn approval(rule: &str, time: &str) -> String {
    let approval = format!("{{rules: [{rule}], by: {{users: [u]}}, for_at_most: {time}}}");
    rule_of_approvals(&approval, "kind: file, paths: [/x]")
}

fn rule_of_approvals(approval: &str, more: &str) -> String {
    format!("version: 1\nname: t\napprovals: [{approval}]\nrules: [{{id: a, reason: r, {more}}}]\n")
}

fn lists(lists: &str) -> String {
    format!("version: 1\nname: t\nlists: {{{lists}}}\nrules: []\n")
}

fn names(count: usize) -> String {
    (0..count).map(|number| format!("\"**/n{number}\",")).collect()
}

#[test]
fn every_code_is_that_of_some_policy() {
    let mounts = MountTable::single(1);
    let mut left: BTreeSet<Code> = Code::ALL.iter().copied().collect();
    for (code, text) in examples().into_iter().chain(examples_of_lints()) {
        let found = codes(&text, &mounts);
        assert!(found.contains(&code), "{code:?}: {found:?}");
        left.remove(&code);
    }
    let nowhere = codes(&rule("kind: file, paths: [/x]"), &MountTable::default());
    assert_eq!(nowhere, BTreeSet::from([Code::NoFilesystem]));
    for (code, tests) in examples_of_tests() {
        let found = codes_of_tests(&tests);
        assert!(found.contains(&code), "{code:?}: {found:?}");
        left.remove(&code);
    }
    // That tables decide otherwise than the policy would be an error of the compiler. Of several policies there are tests of
    // their own.
    let others = [
        Code::DuplicatePolicy,
        Code::NoFilesystem,
        Code::NoHome,
        Code::NotCompared,
        Code::OpenWay,
        Code::OtherContent,
        Code::TablesDiffer,
        Code::ThroughLink,
        Code::Unenforceable,
        Code::WritableExecutable,
        Code::WrongLevel,
    ];
    assert_eq!(left, BTreeSet::from(others));
}

/// The codes of what is found in the tests of a policy.
fn codes_of_tests(test: &str) -> BTreeSet<Code> {
    let text = format!("policy: p\ntests: [{{{test}}}]\n");
    let policy = parse_with(&Files, Source::new("p", &rule("kind: file, paths: [/x]")), None);
    let found = parse_tests(Source::new("t", &text))
        .and_then(|file| testing::run(&file, &policy.expect("a valid policy"), None))
        .map_or_else(|found| found, |results| results.failures());
    found.items().iter().map(|item| item.code).collect()
}

fn examples_of_tests() -> [(Code, String); 5] {
    [
        (Code::BadExpectation, "do: read /x, expect: deny".to_owned()),
        (Code::BadObject, "do: raed /x, expect: allow".to_owned()),
        (Code::BadPath, "do: read /x, by: x, expect: allow".to_owned()),
        (Code::TestFailed, "do: read /x, expect: allow".to_owned()),
        (Code::UnknownRule, "do: read /x, expect: deny b".to_owned()),
    ]
}
