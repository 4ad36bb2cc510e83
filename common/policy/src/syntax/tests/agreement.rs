//! The schema and the reader agree.

use std::{collections::BTreeSet, sync::LazyLock};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    evaluator::findings,
    instance::{Tape, mutate, of_record},
};
use crate::{
    Code, Diagnostics,
    diagnostic::Level,
    parse, parse_tests,
    source::Source,
    syntax::{Document, schema},
};

static SCHEMAS: LazyLock<[Value; 3]> =
    LazyLock::new(|| Document::ALL.map(|of| serde_json::to_value(schema(of)).expect("JSON")));

fn schema_of(of: Document) -> &'static Value {
    &SCHEMAS[of as usize]
}

/// What the reader finds to be wrong. Only policies and tests are read by themselves.
fn read(of: Document, text: &str) -> Option<Diagnostics> {
    match of {
        Document::Tests => parse_tests(Source::new("t", text)).err(),
        _ => parse("p", text).err(),
    }
}

/// What a schema cannot know: what is written in patterns, dates and addresses, and what names mean.
const BEYOND: [Code; 28] = [
    Code::BadAddress,
    Code::BadDate,
    Code::BadDuration,
    Code::BadHash,
    Code::BadHost,
    Code::BadNumber,
    Code::BadObject,
    Code::BadPath,
    Code::BadPattern,
    Code::BadPort,
    Code::BadUrl,
    Code::CannotAdopt,
    Code::CannotInclude,
    Code::Claim,
    Code::DuplicateContent,
    Code::DuplicateId,
    Code::DuplicateInclude,
    Code::DuplicateItem,
    Code::DuplicateKey,
    Code::DuplicateList,
    Code::IdleKey,
    Code::IncludeCycle,
    Code::ServerName,
    Code::TooDeep,
    Code::UnknownList,
    Code::UnknownRule,
    Code::UnknownVersion,
    Code::WrongList,
];

/// Compares the two on one file, given as JSON, which is YAML as well.
#[track_caller]
fn compare(of: Document, file: &Value) -> (Vec<String>, BTreeSet<Code>) {
    let text = file.to_string();
    let by_schema = findings(schema_of(of), file);
    let read = read(of, &text);
    let errors = read.iter().flat_map(|found| found.items()).filter(|item| item.level == Level::Error);
    let codes: BTreeSet<Code> = errors.map(|item| item.code).collect();
    let shown = read.map(|found| found.to_string()).unwrap_or_default();
    if codes.is_empty() {
        assert!(by_schema.is_empty(), "the reader takes what the schema does not: {by_schema:?}\n{text}");
    } else if by_schema.is_empty() {
        let beyond = BTreeSet::from(BEYOND);
        assert!(codes.is_subset(&beyond), "the schema takes what the reader does not: {shown}\n{text}");
    }
    (by_schema, codes)
}

fn document() -> impl Strategy<Value = Document> {
    prop::sample::select(vec![Document::Policy, Document::Tests])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_schema_and_the_reader_agree(of in document(), tape in prop::collection::vec(any::<u16>(), 0..200)) {
        let file = of_record(of.record(), None, &mut Tape(&tape));
        compare(of, &file);
    }

    #[test]
    fn they_agree_after_a_change(
        of in document(),
        tape in prop::collection::vec(any::<u16>(), 0..120),
        change in prop::collection::vec(any::<u16>(), 4),
    ) {
        let mut file = of_record(of.record(), None, &mut Tape(&tape));
        mutate(&mut file, &mut Tape(&change));
        compare(of, &file);
    }
}

/// A policy with one rule.
fn with_rule(rule: Value) -> Value {
    json!({"version": 1, "name": "t", "rules": [rule]})
}

/// A rule, with some keys changed; null takes one out.
fn changed(mut value: Value, changes: Value) -> Value {
    let members = value.as_object_mut().expect("an object");
    for (key, change) in changes.as_object().expect("an object") {
        if change.is_null() {
            members.remove(key);
        } else {
            members.insert(key.clone(), change.clone());
        }
    }
    value
}

/// Checks that both take a policy, or that both refuse it, the reader for one reason.
#[track_caller]
fn check(file: Value, code: Option<Code>) {
    let (by_schema, codes) = compare(Document::Policy, &file);
    assert_eq!(by_schema.is_empty(), code.is_none(), "{by_schema:?} {file}");
    assert_eq!(codes, code.into_iter().collect(), "{file}");
}

/// The same of a policy with one rule, some keys of which are changed.
#[track_caller]
fn check_rule(rule: Value, changes: Value, code: Option<Code>) {
    check(with_rule(changed(rule, changes)), code);
}

#[test]
fn what_both_refuse_and_take() {
    let file = || json!({"id": "a", "kind": "file", "paths": ["/x"], "reason": "r"});
    let connect = || json!({"id": "a", "kind": "connect", "to": ["10.0.0.1"], "reason": "r"});
    let broker = || json!({"id": "a", "kind": "broker", "brokers": ["ssh"], "reason": "r"});
    check_rule(file(), json!({}), None);
    check_rule(file(), json!({"pathes": ["/x"]}), Some(Code::UnknownKey));
    check_rule(file(), json!({"ports": [1]}), Some(Code::UnknownKey));
    check_rule(file(), json!({"paths": null}), Some(Code::MissingKey));
    check_rule(file(), json!({"kind": null}), Some(Code::MissingKey));
    check_rule(file(), json!({"kind": "fiel"}), Some(Code::UnknownWord));
    check_rule(file(), json!({"reason": 7}), Some(Code::WrongType));
    check_rule(file(), json!({"reason": "  "}), Some(Code::Empty));
    check_rule(file(), json!({"reason": "a\u{7}"}), Some(Code::ControlCharacter));
    check_rule(file(), json!({"reason": "x".repeat(1024)}), None);
    check_rule(file(), json!({"reason": "x".repeat(1025)}), Some(Code::TooLong));
    check_rule(file(), json!({"id": "A"}), Some(Code::BadId));
    check_rule(file(), json!({"severity": "hihg"}), Some(Code::UnknownWord));
    check_rule(file(), json!({"link": "http://x"}), Some(Code::BadLink));
    check_rule(
        file(),
        json!({"controls": (0..33).map(|n| format!("c{n}")).collect::<Vec<_>>()}),
        Some(Code::TooLong),
    );
    check_rule(file(), json!({"except": [{"reason": "r"}]}), Some(Code::ForEverybody));
    check_rule(file(), json!({"only": [{"descendant_of": {}}]}), Some(Code::ForEverybody));
    check_rule(connect(), json!({"to": null}), Some(Code::MissingKey));
    check_rule(connect(), json!({"to": null, "unix": ["@x"], "ports": [1]}), Some(Code::IdleKey));
    check_rule(connect(), json!({"hosts": ["example.com"]}), Some(Code::HostName));
    check_rule(connect(), json!({"ports": [443, "80-90"]}), None);
    let exec = || json!({"id": "a", "kind": "exec", "paths": ["/x"], "reason": "r"});
    let hash = json!(["1".repeat(64)]);
    check_rule(file(), json!({"action": "allow", "priority": 1000}), None);
    check_rule(file(), json!({"action": "allow", "mode": "enforce"}), Some(Code::ConflictingKeys));
    check_rule(file(), json!({"except_paths": ["/x/y"]}), None);
    check_rule(file(), json!({"except_paths": ["/x/y"], "action": "allow"}), Some(Code::ConflictingKeys));
    check_rule(exec(), json!({"except_paths": ["/x/y"], "sha256": hash}), None);
    check_rule(exec(), json!({"except_paths": ["/x/y"], "sha256": hash, "paths": null}), Some(Code::IdleKey));
    check_rule(exec(), json!({"action": "allow", "sha256": hash}), Some(Code::ConflictingKeys));
    check_rule(connect(), json!({"except_unix": ["@x"]}), Some(Code::IdleKey));
    check_rule(connect(), json!({"unix": ["@*"], "except_unix": ["@x"]}), None);
    check_rule(
        connect(),
        json!({"unix": ["@*"], "except_unix": ["@x"], "action": "allow"}),
        Some(Code::ConflictingKeys),
    );
    check_rule(broker(), json!({"priority": -1000}), None);
    check_rule(broker(), json!({"action": "adopt"}), None);
    check_rule(broker(), json!({"action": "deny", "mode": "enforce"}), Some(Code::ConflictingKeys));
    let except = json!([{"executable": "/x"}]);
    check_rule(broker(), json!({"action": "adopt", "except": except}), Some(Code::ConflictingKeys));
    check_rule(broker(), json!({"action": "deny", "except": except}), None);
    check(json!({"version": 1, "name": "t"}), Some(Code::MissingKey));
    check(json!({"version": "1", "name": "t", "rules": []}), Some(Code::WrongType));
    check(json!({"version": 2, "name": "t", "rules": []}), Some(Code::UnknownVersion));
    check(json!({"version": 1, "name": "t", "rules": [], "revision": 0}), Some(Code::BadNumber));
    check(
        json!({"version": 1, "name": "t", "rules": [], "lists": {"paths": {"A": ["/x"]}}}),
        Some(Code::BadId),
    );
    check(json!([]), Some(Code::WrongType));
}

#[test]
fn what_the_reader_only_warns_of_is_nothing_to_agree_on() {
    let file = json!({"version": 1, "name": "t", "rules": [], "lists": {"paths": {"unused": ["/x"]}},
        "approvals": [{"rules": ["b"], "by": {"groups": ["g"]}, "for_at_most": "15m"}]});
    let (by_schema, codes) = compare(Document::Policy, &file);
    assert_eq!((by_schema, codes), (vec![], BTreeSet::from([Code::UnknownRule])));
}

#[test]
fn what_both_refuse_and_take_of_tools() {
    let tool =
        || json!({"id": "a", "kind": "tool", "tools": ["Bash"], "when": {"words": ["x"]}, "reason": "r"});
    check_rule(tool(), json!({"when": null}), None);
    check_rule(tool(), json!({"tools": ["*"], "priority": -1000, "action": "allow"}), None);
    check_rule(tool(), json!({"tools": ["*", "Bash"]}), Some(Code::ConflictingKeys));
    check_rule(tool(), json!({"tools": ["a b"]}), Some(Code::BadPattern));
    check_rule(tool(), json!({"tools": ["x".repeat(128)]}), None);
    check_rule(tool(), json!({"tools": ["x".repeat(129)]}), Some(Code::TooLong));
    check_rule(tool(), json!({"tools": [true]}), Some(Code::WrongType));
    check_rule(tool(), json!({"priority": 1001}), Some(Code::BadNumber));
    check_rule(tool(), json!({"priority": "1"}), Some(Code::WrongType));
    check_rule(tool(), json!({"action": "adopt"}), Some(Code::UnknownWord));
    check_rule(tool(), json!({"action": "deny", "mode": "enforce"}), Some(Code::ConflictingKeys));
    check_rule(tool(), json!({"action": "deny", "when": {"secrets": "any", "opaque": ["eval"]}}), None);
    check_rule(tool(), json!({"action": "allow", "when": {"secrets": "any"}}), Some(Code::ConflictingKeys));
    check_rule(tool(), json!({"action": "allow", "when": {"opaque": ["eval"]}}), Some(Code::ConflictingKeys));
    check_rule(tool(), json!({"when": {}}), Some(Code::Empty));
    check_rule(tool(), json!({"when": {"opaque": "all"}}), Some(Code::UnknownWord));
    check_rule(tool(), json!({"when": {"writes": "inside_repository", "reads": ["~/x/**"]}}), None);
    check_rule(tool(), json!({"when": {"writes": "inside"}}), Some(Code::UnknownWord));
    check_rule(tool(), json!({"when": {"programs": ["/usr/bin/git", "git"]}}), None);
    check_rule(tool(), json!({"when": {"programs": ["bin/git"]}}), Some(Code::BadPath));
    check_rule(tool(), json!({"when": {"flags": ["-f", "--force"]}}), None);
    check_rule(tool(), json!({"when": {"flags": ["--to=x"]}}), Some(Code::BadPattern));
    check_rule(tool(), json!({"when": {"words": ["a\u{7}"]}}), Some(Code::ControlCharacter));
    check_rule(tool(), json!({"when": {"words": [7]}}), Some(Code::WrongType));
    check_rule(tool(), json!({"when": {"hosts": ["*.a.b", "::1", "10.0.0.1"]}}), None);
    check_rule(tool(), json!({"when": {"hosts": ["A.b"]}}), Some(Code::BadHost));
}

#[test]
fn what_both_refuse_and_take_of_servers_and_machines() {
    let mcp = || json!({"id": "a", "kind": "mcp", "reason": "r"});
    let server = |server: Value, code| check_rule(mcp(), json!({"servers": [server]}), code);
    check_rule(mcp(), json!({}), None);
    check_rule(mcp(), json!({"servers": []}), Some(Code::Empty));
    check_rule(mcp(), json!({"when": {"words": ["x"]}}), Some(Code::UnknownKey));
    server(json!({}), Some(Code::Empty));
    server(json!({"url": "HTTPS://a/b"}), None);
    server(json!({"url": "ftp://a/b"}), Some(Code::BadUrl));
    server(json!({"package": {"npm": "@a/b", "version": "1"}, "interpreter": "/usr/bin/*"}), None);
    server(json!({"package": {"npm": "a", "pypi": "b"}}), Some(Code::ConflictingKeys));
    server(json!({"package": {"version": "1"}}), Some(Code::MissingKey));
    server(json!({"package": {"npm": "a", "version": 1}}), Some(Code::WrongType));
    let posture = || json!({"id": "a", "kind": "posture", "require": {"secure_boot": true}, "reason": "r"});
    check_rule(posture(), json!({"on_unknown": "allow"}), None);
    check_rule(posture(), json!({"require": {}}), Some(Code::Empty));
    check_rule(posture(), json!({"require": {"secure_boot": "true"}}), Some(Code::WrongType));
    check_rule(posture(), json!({"action": "deny"}), Some(Code::UnknownKey));
    let defaults =
        |value: Value, code| check(json!({"version": 1, "name": "t", "rules": [], "defaults": value}), code);
    defaults(
        json!({"tool": {"action": "deny", "reason": "r"}, "mcp": {"action": "record", "reason": "r", "severity": "low"}}),
        None,
    );
    defaults(json!({"tool": {"action": "allow", "reason": "r"}}), Some(Code::UnknownWord));
    defaults(json!({"tool": {"action": "deny"}}), Some(Code::MissingKey));
    defaults(json!({"file": {"action": "deny", "reason": "r"}}), Some(Code::UnknownKey));
    let every = ["read", "write", "exec", "connect", "unix"];
    let every = every.map(|key| (key.to_owned(), json!({"action": "deny", "reason": "r"})));
    defaults(Value::Object(every.into_iter().collect()), None);
}

#[test]
fn what_both_refuse_and_take_of_tests() {
    let check = |test: Value, code: Option<Code>| {
        let file = json!({"policy": "p", "tests": [changed(json!({"expect": "allow"}), test)]});
        let (by_schema, codes) = compare(Document::Tests, &file);
        assert_eq!(by_schema.is_empty(), code.is_none(), "{by_schema:?} {file}");
        assert_eq!(codes, code.into_iter().collect(), "{file}");
    };
    check(json!({"do": "tool Bash", "input": {"command": "ls", "timeout": 7, "x": [null, {}]}}), None);
    check(json!({"do": "tool Bash", "input": null}), Some(Code::MissingKey));
    check(json!({"do": "mcp x"}), None);
    check(json!({"do": "mcp x", "server": {}}), None);
    check(json!({"do": "mcp x", "server": {"script": "x.js"}}), Some(Code::BadPath));
    check(
        json!({"do": "mcp x", "server": {"url": "https://a/", "script": "/x.js"}}),
        Some(Code::ConflictingKeys),
    );
    check(
        json!({"do": "mcp x", "server": {"package": {"pypi": "a"}, "interpreter_sha256": "a".repeat(64)}}),
        None,
    );
    check(
        json!({"do": "mcp x", "server": {"package": {"npm": "a", "pypi": "b"}}}),
        Some(Code::ConflictingKeys),
    );
    check(json!({"do": "posture", "machine": {"secure_boot": false}}), None);
    check(json!({"do": "posture", "machine": {"secure_boot": 1}}), Some(Code::WrongType));
    check(json!({"do": "posture", "machine": {"secure": true}}), Some(Code::UnknownKey));
}

#[test]
fn examples_are_what_they_are_examples_of() {
    for of in Document::ALL {
        let schema = schema_of(of);
        for (name, definition) in schema["$defs"].as_object().expect("definitions") {
            let reference = json!({"$ref": format!("#/$defs/{name}"), "$defs": schema["$defs"]});
            for example in definition.get("examples").and_then(Value::as_array).into_iter().flatten() {
                assert_eq!(findings(&reference, example), Vec::<String>::new(), "{name}");
            }
        }
    }
}
