//! What is told of two policies: tables, and that each change told is one by the definition of the language.

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;
use proptest::prelude::*;
use treeline_event::Verdict;
use treeline_policy::{
    Diff, Executed, Home, Host, Known, Lineage, Object, Policy, Request, Session, Subject, diff,
    diff::{Change, Effect, Subjects},
    eval, parse,
    policy::FileOperation,
};

fn host() -> Host {
    Host { homes: vec![Home { uid: 1000, path: b"/home/u".to_vec() }] }
}

/// The machine on which an example is asked about: where it is below somebody else's home, one with that home.
fn machine(change: &Change) -> (Host, Object) {
    let mut host = host();
    let mut example = change.example.clone();
    if change.in_other_home {
        host.homes.push(Home { uid: 1001, path: b"/home/zzz".to_vec() });
        example = example.replacen(" ~", " /home/zzz", 1);
    }
    let mut object = example.parse().expect("what is done");
    if let (Object::Exec { sha256, .. }, Some(content)) = (&mut object, &change.example_sha256) {
        let mut digest = [0; 32];
        for (byte, at) in digest.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(&content[at..at + 2], 16).expect("digits");
        }
        *sha256 = Some(digest);
    }
    (host, object)
}

fn policy(rules: &str) -> Policy {
    let lines: String = rules.lines().map(|line| format!("  - {{{line}, reason: r}}\n")).collect();
    let rules = if lines.is_empty() { "rules: []\n".to_owned() } else { format!("rules:\n{lines}") };
    parse("t", &format!("version: 1\nname: t\n{rules}")).unwrap_or_else(|error| panic!("{rules}: {error}"))
}

fn between(before: &str, after: &str) -> Diff {
    diff(&policy(before), &policy(after), &host())
}

/// Decisions that differ, and nothing of the examples.
#[track_caller]
fn check(before: &str, after: &str, expect: &[&str]) {
    let found = between(before, after).to_string();
    let lines: Vec<&str> = found
        .lines()
        .filter(|line| ["loosens", "tightens", "other rule"].iter().any(|word| line.starts_with(word)))
        .collect();
    assert_eq!(lines, expect, "{found}");
}

const KEYS: &str = "id: keys, kind: file, operations: [read], paths: [\"~/.ssh/**\"]";

#[test]
fn decisions_that_differ() {
    check(KEYS, KEYS, &[]);
    check("", KEYS, &["tightens    read ~/.ssh/**: allow -> deny by `keys`, for everybody"]);
    check(KEYS, "", &["loosens     read ~/.ssh/**: deny by `keys` -> allow, for everybody"]);
    check(
        KEYS,
        &format!("{KEYS}, mode: monitor"),
        &["loosens     read ~/.ssh/**: deny by `keys` -> audit by `keys`, for everybody"],
    );
    // Narrower: what is still refused is not told.
    check(
        KEYS,
        "id: keys, kind: file, operations: [read], paths: [\"~/.ssh/id_*\"]",
        &["loosens     read ~/.ssh/**, in part: deny by `keys` -> allow, for everybody"],
    );
    check(
        KEYS,
        "id: keys, kind: file, operations: [read], paths: [\"~/.ssh/*\"]",
        &["loosens     read ~/.ssh/**, in part: deny by `keys` -> allow, for everybody"],
    );
    check(
        "id: names, kind: connect, unix: [\"@a*\"]",
        "id: names, kind: connect, unix: [\"@ab*\"]",
        &["loosens     connect @a*, in part: deny by `names` -> allow, for everybody"],
    );
    check(
        KEYS,
        "id: keys, kind: file, operations: [read, write], paths: [\"~/.ssh/**\"]",
        &["tightens    write ~/.ssh/**: allow -> deny by `keys`, for everybody"],
    );
    check(
        &KEYS.replace("keys", "a"),
        &KEYS.replace("keys", "b"),
        &["other rule  read ~/.ssh/**: deny by `a` -> deny by `b`, for everybody"],
    );
}

#[test]
fn programs_for_whom_it_differs() {
    let except = format!("{KEYS}, except: [{{executable: /usr/bin/ssh}}]");
    check(KEYS, &except, &["loosens     read ~/.ssh/**: deny by `keys` -> allow, for `/usr/bin/ssh`"]);
    check(
        "",
        &except,
        &["tightens    read ~/.ssh/**: allow -> deny by `keys`, for everybody but `/usr/bin/ssh`"],
    );
    let only = format!("{KEYS}, only: [{{descendant_of: {{executable: /usr/bin/npm}}}}]");
    check(
        KEYS,
        &only,
        &[
            "loosens     read ~/.ssh/**: deny by `keys` -> allow, for everybody but `descendant of /usr/bin/npm`",
        ],
    );
    let only = format!("{KEYS}, only: [{{session: {{groups: [contractors]}}}}]");
    check(
        KEYS,
        &only,
        &[
            "loosens     read ~/.ssh/**: deny by `keys` -> allow, for everybody but `session of groups contractors`",
        ],
    );
    let except = format!("{KEYS}, except: [{{executable: /bin/gh, session: {{users: [ada, 7]}}}}]");
    check(
        KEYS,
        &except,
        &[
            "loosens     read ~/.ssh/**: deny by `keys` -> allow, for `/bin/gh, session of users 7`, `/bin/gh, session of users ada`",
        ],
    );
    // One more in a list, with a path more.
    let wider = except.replace("[ada, 7]", "[ada, 7, bob]").replace("paths: [", "paths: [/new, ");
    assert_ne!(wider, except.replace("[ada, 7]", "[ada, 7, bob]"));
    let found = between(&except, &wider);
    assert_eq!((found.count(Effect::Loosens), found.count(Effect::Tightens)), (1, 1), "{found}");
    let only = |groups: &str| format!("{KEYS}, only: [{{session: {{groups: [{groups}]}}}}]");
    let found =
        between(&only("contractors, interns"), &only("contractors").replace("paths: [", "paths: [/new, "));
    assert_eq!((found.count(Effect::Loosens), found.count(Effect::Tightens)), (1, 1), "{found}");
    // By another rule's exception, about the same file.
    let other = format!(
        "{KEYS}\nid: z, kind: file, operations: [read], paths: [\"~/**\"], except: [{{executable: /bin/z}}]"
    );
    check(
        &other,
        KEYS,
        &["loosens     read ~/**, in part: deny by `z` -> allow, for everybody but `/bin/z`"],
    );
}

#[test]
fn other_kinds() {
    let web = "id: web, kind: connect, to: [10.0.0.0/8]";
    check(
        web,
        &format!("{web}, ports: [443]"),
        &["loosens     connect 10.0.0.0/8 ports 0-442, 444-65535: deny by `web` -> allow, for everybody"],
    );
    check(
        web,
        "id: web, kind: connect, to: [10.0.0.0/9]",
        &["loosens     connect 10.128.0.0/9: deny by `web` -> allow, for everybody"],
    );
    check(
        web,
        "id: web, kind: connect, to: [10.0.0.0/7]",
        &["tightens    connect 11.0.0.0/8: allow -> deny by `web`, for everybody"],
    );
    check(
        "id: web, kind: connect, to: [10.0.0.0/8], except_to: [{to: [10.1.0.0/16]}]",
        "id: web, kind: connect, to: [10.1.0.0/16]",
        &[
            "loosens     connect 10.0.0.0/16: deny by `web` -> allow, for everybody",
            "loosens     connect 10.2.0.0-10.255.255.255: deny by `web` -> allow, for everybody",
            "tightens    connect 10.1.0.0/16: allow -> deny by `web`, for everybody",
        ],
    );
    check(
        "id: web, kind: connect, to: [\"::/0\", 0.0.0.0/0]",
        "id: web, kind: connect, to: [\"8000::/1\", 128.0.0.0/1]",
        &[
            "loosens     connect 0.0.0.1-127.255.255.255: deny by `web` -> allow, for everybody",
            "loosens     connect ::1-7fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff: deny by `web` -> allow, for everybody",
        ],
    );
    check(
        web,
        &format!("{web}, except_to: [{{to: [10.1.0.0/16]}}]"),
        &["loosens     connect 10.1.0.0/16: deny by `web` -> allow, for everybody"],
    );
    check(
        "",
        "id: web, kind: connect, unix: [\"/run/x.sock\", \"@a*\"]",
        &[
            "tightens    connect /run/x.sock: allow -> deny by `web`, for everybody",
            "tightens    connect @a*: allow -> deny by `web`, for everybody",
        ],
    );
    let digest = "ab".repeat(32);
    check(
        "",
        &format!("id: x, kind: exec, paths: [/bin/x], sha256: [\"{digest}\"]"),
        &[
            "tightens    exec /bin/x: allow -> deny by `x`, for everybody",
            &format!("tightens    exec SHA-256 {digest}: allow -> deny by `x`, for everybody"),
        ],
    );
    check(
        "",
        web,
        &[
            "tightens    connect 10.0.0.0/8: allow -> deny by `web`, for everybody",
            "tightens    make raw sockets: allow -> deny by `web`, for everybody",
        ],
    );
    check(
        "",
        "id: p, kind: broker, brokers: [ptrace]",
        &["tightens    trace processes outside of the session: allow -> deny by `p/ptrace`, for everybody"],
    );
}

/// What is easily overlooked: each of these lets something pass that was refused.
#[test]
fn what_is_loosened_is_found() {
    let check = |before: &str, after: &str| {
        let found = between(before, after);
        assert!(found.count(Effect::Loosens) > 0, "{before} -> {after}: {found}");
    };
    let keys = |more: &str| format!("id: k, kind: file, paths: [/k/**]{more}");
    check("id: k, kind: file, paths: [\"~/.ssh/**\"]", "id: k, kind: file, paths: [\"/home/u/.ssh/**\"]");
    check(&keys(""), &keys(", only: [{executable: \"/usr/bin/*\"}]"));
    check(&keys(", except: [{executable: \"/usr/**\"}]"), "");
    check(&keys(""), &keys(&format!(", only: [{{sha256: \"{}\"}}]", "ab".repeat(32))));
    check("id: w, kind: connect, to: [10.0.0.0/8]", "id: w, kind: connect, to: [10.0.0.0/9, 10.192.0.0/10]");
    let web = "id: w, kind: connect, to: [10.0.0.0/8], ports: [443]";
    check(web, &format!("{web}, except_to: [{{to: [10.1.0.0/16]}}]"));
    check("id: k, kind: file, paths: [\"/data/*\"]", "id: k, kind: file, paths: [\"/data/a*\"]");
    check("id: k, kind: file, paths: [\"/k/id_*\"]", "id: k, kind: file, paths: [\"/k/id_?\"]");
    check("id: k, kind: file, paths: [\"/s/**\"]", "id: k, kind: file, paths: [/s, \"/s/*\", \"/s/*/*\"]");
    check("id: k, kind: connect, unix: [\"@a*\"]", "id: k, kind: connect, unix: [\"@a\"]");
    let two = |a: &str, b: &str| {
        format!("id: a, kind: file, paths: [/k]{a}\nid: b, kind: file, paths: [\"/k/**\"]{b}")
    };
    check(
        &two("", ""),
        &two(", except: [{executable: /bin/ssh}]", ", except: [{descendant_of: {executable: /bin/npm}}]"),
    );
    // What is not found is not passed over.
    let found = between(&two("", ""), "id: b, kind: file, paths: [\"/k/**\"]");
    assert_eq!(
        (found.count(Effect::Loosens), found.unexplained.len()),
        (0, 0),
        "another rule decides: {found}"
    );
    let found = between(&two("", ", mode: monitor"), &two("", "").lines().take(1).collect::<String>());
    assert!(found.count(Effect::Loosens) > 0, "{found}");
    let both = "id: a, kind: file, paths: [/k]\nid: b, kind: file, paths: [/k]";
    let found = between(both, "id: a, kind: file, paths: [/k]");
    assert_eq!((found.decisions.len(), found.unexplained.as_slice()), (0, &["b".to_owned()][..]), "{found}");
}

/// No call is asked about, so every rule about one that may decide otherwise is said to be looked at.
#[test]
fn rules_about_calls_are_told_by_what_they_say() {
    let check = |before: &str, after: &str, lines: &[&str], unexplained: &[&str]| {
        let found = between(before, after);
        let text = found.to_string();
        for line in lines {
            assert!(text.lines().any(|told| told.trim() == *line), "{line}\n{text}");
        }
        assert_eq!(
            (found.decisions.len(), found.unexplained.as_slice()),
            (0, &unexplained.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>()[..]),
            "{text}"
        );
    };
    let push =
        "id: t, kind: tool, tools: [Bash], when: {programs: [git], flags: [-f], writes: outside_repository}";
    check(
        "",
        push,
        &["+ programs: git", "+ flags: -f", "+ writes: outside_repository", "+ mode: enforce"],
        &["t"],
    );
    check(push, "", &["- tools: Bash"], &["t"]);
    check(push, &push.replace("-f", "--force"), &["- flags: -f", "+ flags: --force"], &["t"]);
    let allow = push.replace("tools: [Bash]", "tools: [\"*\"], action: allow, priority: -3");
    check(push, &allow, &["+ action: allow", "- mode: enforce", "+ priority: -3", "+ tools: *"], &["t"]);
    check(&allow, &allow.replace("-3", "3"), &["- priority: -3", "+ priority: 3"], &["t"]);
    // By what only people read nothing is decided.
    check(push, &format!("{push}, severity: high"), &["+ severity: high"], &[]);
    let kinds = "id: t, kind: tool, tools: [Bash], when: {secrets: [jwt], opaque: [eval], hosts: [\"*.a.b\"], words: [x], reads: [/x]}";
    let lines = ["+ secrets: jwt", "+ opaque: eval", "+ hosts: *.a.b", "+ words: x", "+ reads: /x"];
    check("", kinds, &lines, &["t"]);
    let mcp = "id: m, kind: mcp, servers: [{package: {npm: p, version: \"1\"}, interpreter: /usr/bin/node}, {url: \"https://a/b\"}], tools: [x]";
    let lines = [
        "+ servers: {package: {npm: \"p\", version: \"1\"}, interpreter: \"/usr/bin/node\"}",
        "+ servers: {url: \"https://a/b\"}",
        "+ tools: x",
    ];
    check("", mcp, &lines, &["m"]);
    check(
        mcp,
        &mcp.replace("\"1\"", "\"2\""),
        &["+ servers: {package: {npm: \"p\", version: \"2\"}, interpreter: \"/usr/bin/node\"}"],
        &["m"],
    );
    let disk = "id: d, kind: posture, require: {disk_encryption: true, secure_boot: false}";
    check(
        "",
        disk,
        &["+ require: disk_encryption: true", "+ require: secure_boot: false", "+ on_unknown: deny"],
        &["d"],
    );
    check(
        disk,
        &format!("{disk}, on_unknown: allow"),
        &["- on_unknown: deny", "+ on_unknown: allow"],
        &["d"],
    );
    // What it was before is told; what it is now is not asked about.
    let found = between("id: x, kind: file, paths: [/k]", "id: x, kind: tool, tools: [Bash], action: allow");
    assert_eq!(
        (found.count(Effect::Loosens) > 0, found.unexplained.as_slice()),
        (true, &["x".to_owned()][..]),
        "{found}"
    );
}

/// A default has no priority that anybody wrote, and nothing is asked about calls.
#[test]
fn defaults_are_told() {
    let defaults = |action: &str| {
        let text =
            format!("version: 1\nname: t\ndefaults: {{tool: {{action: {action}, reason: r}}}}\nrules: []\n");
        parse("t", &text).expect("valid")
    };
    let found = diff(&defaults("deny"), &defaults("record"), &host());
    assert_eq!(found.unexplained, ["default/tool"], "{found}");
    let text = found.to_string();
    assert!(found.is_partial && !text.contains("priority"), "{text}");
    assert!(text.contains("by all that the two name; about calls and machines nothing was asked"), "{text}");
    let none = parse("t", "version: 1\nname: t\nrules: []\n").expect("valid");
    let text = diff(&defaults("deny"), &none, &host()).to_string();
    assert!(text.contains("rule `default/tool` is removed") && !text.contains("priority"), "{text}");
    let others = between(KEYS, &format!("{KEYS}, severity: high")).to_string();
    assert!(others.ends_with("by all that the two name\n"), "{others}");
}

/// What means something else looks different.
#[test]
fn keys_and_quotes_tell_apart() {
    let check = |before: &str, after: &str, lines: &str| {
        let server = |server: &str| format!("id: a, kind: mcp, servers: [{server}]");
        let text = between(&server(before), &server(after)).to_string();
        assert!(text.contains(lines), "{text}");
    };
    check(
        "{package: {npm: a, version: \"1.0\"}}",
        "{package: {npm: a}, interpreter: \"/x, y\"}",
        "  - servers: {package: {npm: \"a\", version: \"1.0\"}}\n  + servers: {package: {npm: \"a\"}, interpreter: \"/x, y\"}\n",
    );
    check(
        "{interpreter: \"/x, url: y\"}",
        "{interpreter: /x, url: \"https://a/\"}",
        "  - servers: {interpreter: \"/x, url: y\"}\n  + servers: {interpreter: \"/x\", url: \"https://a/\"}\n",
    );
    let found = between(
        &format!("{KEYS}, except: [{{executable: \"/a, descendant of /b\"}}]"),
        &format!("{KEYS}, except: [{{executable: /a, descendant_of: {{executable: /b}}}}]"),
    );
    let lines = "  - except: {executable: \"/a, descendant of /b\"}\n  + except: /a, descendant of /b\n";
    assert!(found.to_string().contains(lines), "{found}");
}

#[test]
fn what_is_told_of_a_pattern_of_programs() {
    let keys = "id: k, kind: file, operations: [read], paths: [/k]";
    check(
        keys,
        &format!("{keys}, except: [{{executable: \"/usr/bin/*\"}}]"),
        &["loosens     read /k: deny by `k` -> allow, for `/usr/bin/*`"],
    );
}

#[test]
fn what_policies_say_of_themselves() {
    let head = |more: &str| parse("t", &format!("version: 1\nname: t\n{more}rules: []\n")).expect("valid");
    let found = diff(&head("revision: 1\n"), &head("revision: 2\nowner: a@b\n"), &host());
    let text = found.to_string();
    assert!(!found.is_empty() && text.starts_with("+ owner: a@b\n- revision: 1\n+ revision: 2\n"), "{text}");
}

#[test]
fn rules_that_say_something_else() {
    let found = between(
        &format!("{KEYS}\nid: gone, kind: file, paths: [/gone]"),
        "id: keys, kind: file, operations: [read], severity: high, paths: [\"~/.ssh/**\", /new]",
    );
    let text = found.to_string();
    let expect = "rule `gone` is removed\n  - kind: file\n  - mode: enforce\n  - operations: create\n  - operations: delete\n";
    assert!(text.starts_with(expect), "{text}");
    assert!(
        text.contains("rule `keys` is changed\n  + paths: /new\n  - severity: medium\n  + severity: high\n"),
        "{text}"
    );
    let order = between(
        "id: k, kind: file, paths: [/a, /b], operations: [read, write]",
        "id: k, kind: file, paths: [/b, /a], operations: [write, read]",
    );
    assert!(order.is_empty(), "the order of lists means nothing: {order}");
}

fn glob() -> impl Strategy<Value = String> {
    let names = prop::sample::select(vec!["a", "b", "*", "**", "a*"]);
    (prop::sample::select(vec!["/", "~/", "**/"]), prop::collection::vec(names, 1..4)).prop_filter_map(
        "a pattern",
        |(anchor, names)| {
            let glob = format!("{anchor}{}", names.join("/"));
            (!glob.contains("**/**")).then_some(glob)
        },
    )
}

/// Programs.
const PROGRAMS: [&str; 3] = ["", "executable: /bin/p", "executable: /bin/q"];
/// Those, and sessions.
const SUBJECTS: [&str; 6] = [
    "",
    "executable: /bin/p",
    "session: {users: [ada]}",
    "session: {groups: [ops]}",
    "session: {groups: [ops, staff]}",
    "executable: /bin/q, session: {users: [ada, bob]}",
];

fn rule(subjects: &'static [&'static str]) -> impl Strategy<Value = String> {
    let program = || prop::sample::select(subjects);
    let modes =
        prop::sample::select(vec!["mode: monitor", "mode: enforce", "mode: enforce", "action: allow"]);
    let priorities = prop::sample::select(vec!["", "", ", priority: 1"]);
    let spared = prop::option::weighted(0.3, glob());
    let operations = prop::sample::select(vec!["[read]", "[read, write]", "[write, create]"]);
    let modes = (modes, priorities, spared);
    (glob(), modes, operations, program(), program()).prop_map(|(glob, (mode, priority, spared), operations, only, except)| {
        let spared = spared.filter(|_| !mode.contains("allow"));
        let spared = spared.map_or_else(String::new, |glob| format!(", except_paths: [\"{glob}\"]"));
        let list = |key: &str, item: &str| {
            if item.is_empty() { String::new() } else { format!(", {key}: [{{{item}}}]") }
        };
        let (only, except) = (list("only", only), list("except", except));
        format!("kind: file, paths: [\"{glob}\"], operations: {operations}{spared}, {mode}{priority}{only}{except}")
    })
}

fn rules() -> impl Strategy<Value = String> {
    rules_for(&PROGRAMS)
}

fn rules_for(subjects: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::collection::vec(rule(subjects), 0..5).prop_map(|rules| {
        let lines = rules.iter().enumerate().map(|(number, rule)| format!("id: r-{number}, {rule}"));
        lines.collect::<Vec<_>>().join("\n")
    })
}

/// Blocks that lie in one another, and apart.
const NETS: [&str; 9] = [
    "10.0.0.0/8",
    "10.0.0.0/9",
    "10.0.0.0/7",
    "10.1.0.0/16",
    "10.1.2.3",
    "0.0.0.0/0",
    "\"::/0\"",
    "\"fd00::/8\"",
    "\"8000::/1\"",
];

/// Addresses in them, at their ends and beside them.
fn address() -> impl Strategy<Value = IpAddr> {
    let texts = [
        "10.0.0.0",
        "10.127.255.255",
        "10.128.0.0",
        "10.255.255.255",
        "11.0.0.0",
        "12.0.0.0",
        "9.255.255.255",
        "10.1.0.0",
        "10.1.2.3",
        "10.1.2.4",
        "10.2.0.0",
        "0.0.0.1",
        "255.255.255.255",
        "::1",
        "fd00::",
        "fcff::",
        "fe00::",
        "8000::",
        "7fff::",
    ];
    prop::sample::select(texts.map(|text| text.parse().expect("an address")).to_vec())
}

fn rule_of_addresses() -> impl Strategy<Value = String> {
    let nets = |least| prop::sample::subsequence(NETS.to_vec(), least..4);
    let ports =
        || prop::sample::select(vec!["", ", ports: [80]", ", ports: [\"22-443\"]", ", ports: [0, 65535]"]);
    let modes = prop::sample::select(vec!["mode: monitor", "mode: enforce", "action: allow, priority: 1"]);
    (nets(1), ports(), nets(0), ports(), modes).prop_map(|(to, ports, except, except_ports, mode)| {
        let except = match except.is_empty() {
            true => String::new(),
            false => format!(", except_to: [{{to: [{}]{except_ports}}}]", except.join(", ")),
        };
        format!("kind: connect, to: [{}]{ports}{except}, {mode}", to.join(", "))
    })
}

fn numbered(rules: &[String]) -> String {
    let lines = rules.iter().enumerate().map(|(number, rule)| format!("id: r-{number}, {rule}"));
    lines.collect::<Vec<_>>().join("\n")
}

fn rules_of_addresses() -> impl Strategy<Value = String> {
    prop::collection::vec(rule_of_addresses(), 0..4).prop_map(|rules| numbered(&rules))
}

fn rules_of_kinds() -> impl Strategy<Value = String> {
    let names = prop::sample::select(vec!["/run/a", "/run/*", "~/s", "\"@a*\"", "\"@ab\""]);
    let unix = names.prop_map(|name| format!("kind: connect, unix: [{name}]"));
    let digests =
        prop::sample::select(vec!["ab", "cd"]).prop_map(|byte| format!("sha256: [\"{}\"]", byte.repeat(32)));
    let exec = prop_oneof![digests, glob().prop_map(|glob| format!("paths: [\"{glob}\"]"))];
    let exec = exec.prop_map(|what| format!("kind: exec, {what}"));
    let one = prop_oneof![rule(&[""]), unix, exec, rule_of_addresses()];
    prop::collection::vec(one, 0..5).prop_map(|rules| numbered(&rules))
}

/// Whether an address and a port are of what is told.
fn is_in(told: &str, address: IpAddr, port: u16) -> bool {
    let mut words = told.split(' ');
    let addresses = words.next().expect("addresses");
    let has_address = match addresses.split_once('-') {
        Some((first, last)) => {
            let ends = [first, last].map(|text| text.parse::<IpAddr>().expect("an address"));
            ends[0].is_ipv6() == address.is_ipv6() && (ends[0]..=ends[1]).contains(&address)
        }
        None => addresses.parse::<IpNet>().expect("a block").contains(&address),
    };
    let ports = words.skip(1).map(|range| {
        let range = range.trim_end_matches(',');
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        first.parse().expect("a port")..=last.parse::<u16>().expect("a port")
    });
    let ports: Vec<_> = ports.collect();
    has_address && (ports.is_empty() || ports.iter().any(|range| range.contains(&port)))
}

/// Who executes this program.
fn subject(path: &str) -> Subject {
    let executable = path.as_bytes().to_vec();
    let images = vec![Executed { path: executable.clone(), ..Executed::default() }];
    Subject {
        executable,
        sha256: None,
        uid: 0,
        loads_code: false,
        lineage: Lineage::Images { images, complete: true },
        session: Arc::default(),
    }
}

/// A session of a user, in these groups.
fn session(user: &str, groups: &[&str]) -> Session {
    let known = |name: &str| Known { id: Some(name.len() as u32), name: Some(name.to_owned()) };
    let groups = Some(groups.iter().map(|name| known(name)).collect());
    Session { user: Some(known(user)), groups, ..Session::default() }
}

/// A verdict with the id of the rule.
fn decide(policy: &Policy, subject: &Subject, object: &Object) -> (Verdict, Option<String>) {
    decide_on(policy, &host(), subject, object)
}

fn decide_on(policy: &Policy, host: &Host, subject: &Subject, object: &Object) -> (Verdict, Option<String>) {
    let decision = eval(policy, host, &Request { subject: subject.clone(), object: object.clone() });
    (decision.verdict, decision.rule.map(|rule| policy.rules[rule].id.clone()))
}

proptest! {
    #[test]
    fn what_is_told_is_so(before in rules(), after in rules()) {
        let (before, after) = (policy(&before), policy(&after));
        for change in diff(&before, &after, &host()).decisions {
            let (host, object) = machine(&change);
            let told = [&change.before, &change.after].map(|decided| (decided.verdict, decided.rule.clone()));
            let is_so = |program: &str| {
                let subject = subject(program);
                [&before, &after].map(|policy| decide_on(policy, &host, &subject, &object)) == told
            };
            match &change.subjects {
                Subjects::EverybodyBut(others) => {
                    prop_assert!(is_so("/bin/other"), "{:?}", change);
                    prop_assert!(!others.iter().any(|other| is_so(other)), "{:?}", change);
                }
                Subjects::Only(names) => prop_assert!(names.iter().all(|name| is_so(name)), "{:?}", change),
            }
        }
    }

    /// Of whatever kind: an example is decided as is told, by both, and is what is told.
    #[test]
    fn examples_are_so(before in rules_of_kinds(), after in rules_of_kinds()) {
        let (before, after) = (policy(&before), policy(&after));
        for change in diff(&before, &after, &host()).decisions {
            let (host, object) = machine(&change);
            let told = [&change.before, &change.after].map(|decided| (decided.verdict, decided.rule.clone()));
            let so = [&before, &after].map(|policy| decide_on(policy, &host, &subject("/bin/other"), &object));
            prop_assert_eq!(&so, &told, "{:?}", change);
            if let Object::Connect { address, port } = object {
                prop_assert!(is_in(&change.object, address, port), "{:?}", change);
            }
        }
    }

    /// What differs of addresses is what is told, all of it and nothing else.
    #[test]
    fn addresses_are_told_exactly(
        before in rules_of_addresses(),
        after in rules_of_addresses(),
        asked in prop::collection::vec((address(), prop::sample::select(vec![0, 22, 79, 80, 81, 443, 65535])), 8),
    ) {
        let (before, after) = (policy(&before), policy(&after));
        let told = diff(&before, &after, &host()).decisions;
        for (address, port) in asked {
            let object = Object::Connect { address, port };
            let so = [&before, &after].map(|policy| decide(policy, &subject("/bin/other"), &object));
            let of = |change: &&Change| change.operations == ["connect"] && is_in(&change.object, address, port);
            let changes: Vec<&Change> = told.iter().filter(of).collect();
            let is_told = |change: &&Change| {
                [&change.before, &change.after].map(|decided| (decided.verdict, decided.rule.clone())) == so
            };
            prop_assert_eq!(changes.len(), usize::from(so[0] != so[1]), "{} {:?}", object, told);
            prop_assert!(changes.iter().all(is_told), "{} {:?} {:?}", object, so, told);
        }
    }

    #[test]
    fn the_other_way_round_it_is_the_reverse(before in rules(), after in rules()) {
        let (before, after) = (policy(&before), policy(&after));
        let (there, back) = (diff(&before, &after, &host()), diff(&after, &before, &host()));
        prop_assert_eq!(there.count(Effect::Loosens), back.count(Effect::Tightens));
        prop_assert_eq!(there.count(Effect::OtherRule), back.count(Effect::OtherRule));
        prop_assert_eq!(there.rules.len(), back.rules.len());
        prop_assert!(diff(&before, &before, &host()).is_empty());
    }

    /// A rule in `enforce` more never loosens anything, and what it refuses alone is told.
    #[test]
    fn another_deny_only_tightens(before in rules(), more in glob()) {
        let after = format!("{before}\nid: zz, kind: file, operations: [read], paths: [\"{more}\"]");
        let found = diff(&policy(&before), &policy(after.trim_start()), &host());
        prop_assert_eq!(found.count(Effect::Loosens), 0);
        prop_assert_eq!(found.rules.len(), 1);
    }

    /// Whatever differs, something is told.
    #[test]
    fn what_differs_is_not_passed_over(
        before in rules_for(&SUBJECTS),
        after in rules_for(&SUBJECTS),
        names in prop::collection::vec(prop::sample::select(vec!["a", "b", "ab", "c", "d"]), 1..5),
        anchor in prop::sample::select(vec!["", "/home/u"]),
        program in prop::sample::select(vec!["/bin/p", "/bin/q", "/bin/z"]),
        user in prop::sample::select(vec!["ada", "bob", "eve"]),
        groups in prop::sample::subsequence(vec!["ops", "staff"], 0..3),
    ) {
        let (before, after) = (policy(&before), policy(&after));
        let path = format!("{anchor}/{}", names.join("/")).into_bytes();
        let subject = Subject { session: Arc::new(session(user, &groups)), ..subject(program) };
        for (_, operation) in FileOperation::WORDS {
            let object = Object::File { path: path.clone(), operation };
            let both = [&before, &after].map(|policy| decide(policy, &subject, &object).0);
            let found = diff(&before, &after, &host());
            prop_assert!(both[0] == both[1] || !found.decisions.is_empty() || !found.unexplained.is_empty(), "{}", found);
            let loosens = found.count(Effect::Loosens) > 0 || !found.unexplained.is_empty();
            prop_assert!(both[0] <= both[1] || loosens, "{}", found);
        }
    }
}
