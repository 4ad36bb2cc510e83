//! Rules about calls of tools and servers and about the machine: what they mean.

use proptest::prelude::*;
use treeline_event::Verdict;
use treeline_policy::{
    Code, Decision, Executed, Features, Home, Host, Lineage, MountTable, Object, Policy, Request, Subject,
    Target, ToolCall, compile, eval, explain,
    mcp::{Fact, FileIdentity, McpCall, McpServer, Package, Registry},
    parse, parse_server,
    policy::{DEFAULT_PRIORITY, Mode},
    posture::{Posture, Trait},
    source::Source,
    tool::{Command, Opaque, Peer, Place, Secret},
    url::Url,
};

fn host() -> Host {
    Host { homes: vec![Home { uid: 1, path: b"/home/ada".to_vec() }] }
}

fn read(rules: &str) -> Policy {
    let text = format!("version: 1\nname: t\n{rules}");
    parse("t", &text).unwrap_or_else(|found| panic!("{found}\n{text}"))
}

fn answer(policy: &Policy, object: Object) -> (Verdict, Option<&str>) {
    let request = Request { subject: Subject::default(), object };
    let Decision { verdict, rule } = eval(policy, &host(), &request);
    assert_eq!(explain(policy, &host(), &request).verdict, verdict);
    (verdict, rule.map(|rule| policy.rules[rule].id.as_str()))
}

fn command(text: &str) -> Command {
    let mut parts = text.split(' ').map(str::to_owned);
    let program = parts.next().expect("a program");
    let mut command = Command { program, is_complete: true, ..Command::default() };
    for part in parts {
        match part.as_str() {
            "..." => (command.is_vague, command.is_complete) = (true, false),
            "?" => command.is_complete = false,
            _ if part.starts_with('-') => command.flags.push(part),
            _ => command.words.push(part),
        }
    }
    command
}

/// A call of `Bash` that runs these: `...` are arguments that are not known, `?` says that it may use other files and hosts.
fn bash(commands: &[&str]) -> Features {
    Features {
        commands: commands.iter().map(|text| command(text)).collect(),
        repository: Some("/w/p".into()),
        is_scanned: true,
        ..Features::default()
    }
}

fn opaque(features: Features) -> Features {
    Features { opaque: vec![Opaque::Eval], ..features }
}

/// Whether a rule in `enforce` with this `when` refuses, and whether one that allows lets through what is refused otherwise.
#[track_caller]
fn check(when: &str, features: &Features, refuses: bool, allows: bool) {
    let call = || Object::Tool(ToolCall { tool: "Bash".into(), features: features.clone() });
    let deny = read(&format!("rules: [{{id: r, kind: tool, tools: [Bash], when: {when}, reason: r}}]\n"));
    let expect = if refuses { (Verdict::Deny, Some("r")) } else { (Verdict::Allow, None) };
    assert_eq!(answer(&deny, call()), expect, "refuses {when}: {features:?}");
    let allow = read(&format!(
        "defaults: {{tool: {{action: deny, reason: d}}}}\nrules: [{{id: r, kind: tool, action: allow, tools: [Bash], when: {when}, reason: r}}]\n"
    ));
    let expect = if allows { (Verdict::Allow, None) } else { (Verdict::Deny, Some("default/tool")) };
    assert_eq!(answer(&allow, call()), expect, "allows {when}: {features:?}");
}

#[test]
fn commands() {
    let push = "{programs: [git], words: [push], flags: [--force, -f]}";
    check(push, &bash(&["git push -f"]), true, true);
    check(push, &bash(&["git push"]), false, false);
    check(push, &bash(&["git push ..."]), true, false);
    check(push, &bash(&["git ..."]), true, false);
    // All of it has to be of one command.
    check(push, &bash(&["git push", "rm -f"]), false, false);
    check(push, &bash(&["git push -f", "ls"]), true, false);
    check(push, &bash(&["ls"]), false, false);
    check(push, &opaque(bash(&["ls"])), true, false);
    check(push, &opaque(bash(&[])), true, false);
    check(push, &opaque(bash(&["git push -f"])), true, false);
    check("{programs: [git, ls]}", &bash(&["git x", "ls ..."]), true, true);
    check("{programs: [git, ls]}", &bash(&[]), false, false);
    check("{flags: [-f]}", &bash(&["x -f"]), true, true);
}

#[test]
fn programs() {
    let at = |path: Option<Place>| Features {
        commands: vec![Command { program: "git".into(), path, ..Command::default() }],
        ..Features::default()
    };
    let of = |path: &str| at(Some(Place::At(path.into())));
    check("{programs: [/usr/bin/git]}", &of("/usr/bin/git"), true, true);
    check("{programs: [/usr/bin/git]}", &of("/tmp/git"), false, false);
    check("{programs: [/usr/bin/git]}", &at(Some(Place::Unknown)), true, false);
    check("{programs: [/usr/bin/git]}", &at(None), true, false);
    check("{programs: [/usr/bin/ls]}", &at(None), false, false);
    check("{programs: [/usr/bin/ls]}", &at(Some(Place::Unknown)), false, false);
    // Whatever is called so counts for a rule that refuses; one that allows means what is found by the name.
    check("{programs: [git]}", &at(None), true, true);
    check("{programs: [git]}", &of("/tmp/git"), true, false);
    check("{programs: [git]}", &at(Some(Place::Unknown)), true, false);
    check("{programs: [git, /tmp/git]}", &of("/tmp/git"), true, true);
}

/// Programs take the beginning of a long option for the whole.
#[test]
fn flags_that_are_cut_short() {
    let hard = "{programs: [git], flags: [--hard]}";
    check(hard, &bash(&["git reset --hard"]), true, true);
    check(hard, &bash(&["git reset --har"]), true, false);
    check(hard, &bash(&["git reset --h"]), true, false);
    check(hard, &bash(&["git reset --"]), false, false);
    check(hard, &bash(&["git reset -h"]), false, false);
    check(hard, &bash(&["git reset --harder"]), false, false);
    check(hard, &bash(&["git reset --soft"]), false, false);
    check("{flags: [-f, --force]}", &bash(&["git push -f --fo"]), true, true);
}

#[test]
fn files() {
    let writes = |places: &[Place]| Features { writes: places.to_vec(), ..bash(&["x"]) };
    let at = |path: &str| Place::At(path.into());
    let below = |path: &str| Place::Below(path.into());
    let outside = "{writes: outside_repository}";
    let inside = "{writes: inside_repository}";
    check(outside, &writes(&[at("/w/p/x")]), false, false);
    check(outside, &writes(&[at("/w/p"), at("/w/px")]), true, false);
    check(inside, &writes(&[at("/w/p/x"), below("/w/p/y")]), true, true);
    check(inside, &writes(&[at("/w/p/x"), at("/x")]), true, false);
    check(inside, &writes(&[]), false, false);
    check(inside, &opaque(writes(&[at("/w/p/x")])), true, false);
    check(outside, &opaque(writes(&[])), true, false);
    check(outside, &writes(&[below("/w")]), true, false);
    check(outside, &writes(&[Place::Unknown]), true, false);
    let nowhere = Features { repository: None, ..writes(&[at("/w/p/x")]) };
    check(outside, &nowhere, true, false);
    check(inside, &nowhere, true, false);
    let globs = "{writes: [~/.ssh/**, /etc/*.conf]}";
    check(globs, &writes(&[at("/home/ada/.ssh/id")]), true, true);
    check(globs, &writes(&[at("/etc/x.conf"), at("/home/ada/x")]), true, false);
    check(globs, &writes(&[at("/home/ada/x")]), false, false);
    check(globs, &writes(&[below("/home/ada/.ssh")]), true, true);
    check(globs, &writes(&[below("/home/ada")]), true, false);
    check(globs, &writes(&[below("/w/p")]), false, false);
    check("{writes: [\"**/.env\"]}", &writes(&[below("/w/p")]), true, false);
    let reads = Features { reads: vec![at("/etc/x.conf")], ..bash(&["x"]) };
    check("{reads: [/etc/**]}", &reads, true, true);
    check("{writes: [/etc/**]}", &reads, false, false);
    check("{programs: [x], writes: [/etc/**]}", &reads, false, true);
    check("{reads: [/etc/**], writes: [/etc/**]}", &reads, false, true);
}

/// What may use more than was found is not allowed for what was found; what is named and may be written is refused.
#[test]
fn files_and_hosts_that_are_not_known() {
    let inside = "{programs: [git, foo], writes: inside_repository}";
    let outside = "{writes: outside_repository}";
    let touches =
        |command: &str, path: &str| Features { touches: vec![Place::At(path.into())], ..bash(&[command]) };
    check(inside, &bash(&["git"]), false, true);
    check(inside, &bash(&["git ..."]), false, false);
    check(inside, &bash(&["git", "foo ?"]), false, false);
    check("{programs: [foo], reads: [/x]}", &bash(&["foo ?"]), false, false);
    check("{programs: [foo], hosts: [a.com]}", &bash(&["foo ?"]), false, false);
    check("{programs: [foo]}", &bash(&["foo ?"]), true, true);
    check(inside, &touches("git ?", "/etc/x"), false, false);
    check(inside, &touches("git", "/w/p/x"), true, false);
    check(outside, &touches("foo ?", "/etc/x"), true, false);
    check(outside, &touches("foo ?", "/w/p/x"), false, false);
    check("{reads: [/etc/*]}", &touches("foo ?", "/etc/x"), true, false);
    check("{reads: [/etc/*]}", &touches("foo ?", "/usr/x"), false, false);
    // Nothing is named.
    check(outside, &bash(&["foo -x y --help ?"]), false, false);
    check(outside, &bash(&["foo ..."]), false, false);
}

#[test]
fn hosts() {
    let reaches = |hosts: &[Peer]| Features { hosts: hosts.to_vec(), ..bash(&["curl"]) };
    let named = |host: &str| Peer::Named(host.into());
    let hosts = "{hosts: [example.com, \"*.example.org\"]}";
    check(hosts, &reaches(&[named("example.com"), named("a.example.org")]), true, true);
    check(hosts, &reaches(&[named("example.com"), named("evil.com")]), true, false);
    check(hosts, &reaches(&[named("x.example.com")]), false, false);
    check(hosts, &reaches(&[Peer::Unknown]), true, false);
    check("{hosts: [\"::1\"]}", &reaches(&[named("::1")]), true, true);
    check(hosts, &reaches(&[]), false, false);
    check("{programs: [curl], hosts: [example.com]}", &reaches(&[]), false, true);
    check("{hosts: [example.com], writes: [/x]}", &reaches(&[named("example.com")]), false, true);
    check(hosts, &opaque(reaches(&[])), true, false);
}

#[test]
fn secrets_and_what_cannot_be_told() {
    let check = |when: &str, features: &Features, refuses: bool| {
        let policy =
            read(&format!("rules: [{{id: r, kind: tool, tools: [\"*\"], when: {when}, reason: r}}]\n"));
        let call = Object::Tool(ToolCall { tool: "X".into(), features: features.clone() });
        assert_eq!(answer(&policy, call).0 == Verdict::Deny, refuses, "{when}");
    };
    let secret = Features { secrets: vec![Secret::Github], ..bash(&["x"]) };
    check("{secrets: any}", &secret, true);
    check("{secrets: [github-token]}", &secret, true);
    check("{secrets: [aws-key]}", &secret, false);
    check("{opaque: any}", &opaque(bash(&[])), true);
    check("{opaque: [eval, source]}", &opaque(bash(&[])), true);
    check("{opaque: [source]}", &opaque(bash(&[])), false);
    check("{opaque: any}", &bash(&["x"]), false);
    // What was not read can have it in it.
    for why in [Opaque::Syntax, Opaque::Bounds, Opaque::Parser, Opaque::Input] {
        let unread = Features { is_scanned: true, ..Features::unknown(why) };
        check("{opaque: [eval]}", &unread, true);
        check("{secrets: any}", &unread, false);
        check("{secrets: any}", &Features::unknown(why), true);
    }
    check("{opaque: [syntax]}", &opaque(bash(&[])), false);
    // Both have to hold.
    check("{opaque: any, programs: [rm]}", &bash(&["rm x"]), false);
    check("{opaque: any, programs: [rm]}", &opaque(bash(&[])), true);
}

#[test]
fn priorities() {
    let policy = read(
        "defaults:\n  tool: {action: deny, reason: d}\nrules:\n\
         \x20 - {id: a, kind: tool, tools: [Read, Bash], action: allow, reason: r}\n\
         \x20 - {id: b, kind: tool, tools: [Bash], when: {programs: [rm]}, reason: r}\n\
         \x20 - {id: c, kind: tool, tools: [Bash], when: {programs: [rm], words: [tmp]}, action: allow, priority: 1, reason: r}\n\
         \x20 - {id: d, kind: tool, tools: [Bash], when: {programs: [dd]}, priority: 5, action: record, reason: r}\n\
         \x20 - {id: e, kind: tool, tools: [\"*\"], when: {programs: [dd]}, priority: 4, action: allow, reason: r}\n",
    );
    let check = |tool: &str, features: Features, expect: (Verdict, Option<&str>)| {
        assert_eq!(answer(&policy, Object::Tool(ToolCall { tool: tool.into(), features })), expect, "{tool}");
    };
    check("Read", Features::default(), (Verdict::Allow, None));
    check("Write", Features::default(), (Verdict::Deny, Some("default/tool")));
    check("Bash", bash(&["rm x"]), (Verdict::Deny, Some("b")));
    check("Bash", bash(&["rm tmp"]), (Verdict::Allow, None));
    check("Bash", bash(&["rm tmp", "rm x"]), (Verdict::Deny, Some("b")));
    // Recorded above what allows.
    check("Bash", bash(&["dd"]), (Verdict::Audit, Some("d")));
    // A rule that allows is not one of another kind.
    let mcp = Object::Mcp(McpCall { server: McpServer::Remote { url: Fact::Unknown }, tool: "x".into() });
    assert_eq!(answer(&policy, mcp), (Verdict::Allow, None));
    let default = policy.rule("default/tool").expect("a rule");
    assert_eq!((default.priority, default.mode), (DEFAULT_PRIORITY, Mode::Enforce));
}

/// Who is not known to be the one that a rule allows is not allowed.
#[test]
fn subjects_of_what_allows() {
    let policy = read(
        "defaults: {tool: {action: deny, reason: d}}\nrules: [{id: a, kind: tool, tools: [Read], action: allow, reason: r, only: [{executable: /usr/bin/claude}], \
         except: [{descendant_of: {executable: /usr/bin/ci}}]}]\n",
    );
    let check = |executable: &str, images: &[&str], complete: bool, loads_code: bool, allowed: bool| {
        let image = |path: &&str| Executed { path: path.as_bytes().to_vec(), ..Executed::default() };
        let subject = Subject {
            executable: executable.into(),
            loads_code,
            lineage: Lineage::Images { images: images.iter().map(image).collect(), complete },
            ..Subject::default()
        };
        let object = Object::Tool(ToolCall { tool: "Read".into(), ..ToolCall::default() });
        let decision = eval(&policy, &host(), &Request { subject, object });
        assert_eq!(decision.verdict == Verdict::Allow, allowed, "{executable} {images:?}");
    };
    check("/usr/bin/claude", &["/bin/sh"], true, false, true);
    check("/usr/bin/claude", &["/bin/sh"], true, true, false);
    check("/usr/bin/claude", &["/bin/sh"], false, false, false);
    check("/usr/bin/claude", &["/usr/bin/ci"], true, false, false);
    check("", &[], true, false, false);
    check("/usr/bin/x", &[], true, false, false);
}

#[test]
fn servers() {
    let hash = |byte: u8| format!("\"{}\"", format!("{byte:02x}").repeat(32));
    let file = |path: &str, sha256| Fact::Is(FileIdentity { path: path.into(), sha256 });
    let package = |version: Option<&str>| {
        Fact::Is(Package {
            registry: Registry::Npm,
            name: "@acme/x".into(),
            version: version.map(str::to_owned),
        })
    };
    let process = |sha256, version| McpServer::Process {
        interpreter: file("/usr/bin/node", None),
        script: file("/x.js", sha256),
        package: package(version),
    };
    let remote = |url: &str| McpServer::Remote { url: Fact::Is(Url::parse(url).expect("a URL")) };
    let check = |servers: &str, server: McpServer, refuses: bool, allows: bool| {
        let call = || Object::Mcp(McpCall { server: server.clone(), tool: "search".into() });
        let rule = |more: &str| {
            format!("rules: [{{id: r, kind: mcp, servers: {servers}, tools: [search], reason: r{more}}}]\n")
        };
        assert_eq!(answer(&read(&rule("")), call()).0 == Verdict::Deny, refuses, "{servers} {server:?}");
        let defaults = format!("defaults: {{mcp: {{action: deny, reason: d}}}}\n{}", rule(", action: allow"));
        let policy = read(&defaults);
        assert_eq!(answer(&policy, call()).0 == Verdict::Allow, allows, "{servers} {server:?}");
        let other = Object::Mcp(McpCall { server, tool: "delete".into() });
        assert_eq!(answer(&policy, other), (Verdict::Deny, Some("default/mcp")));
    };
    let by_script = format!("[{{script_sha256: [{}], interpreter: /usr/bin/node}}]", hash(1));
    check(&by_script, process(Some([1; 32]), None), true, true);
    check(&by_script, process(Some([2; 32]), None), false, false);
    check(&by_script, process(None, None), true, false);
    check(&by_script, remote("https://a/"), false, false);
    let by_package = "[{package: {npm: \"@acme/x\", version: \"2.1.0\"}}]";
    check(by_package, process(None, Some("2.1.0")), true, true);
    check(by_package, process(None, Some("2.1.1")), false, false);
    check(by_package, process(None, None), true, false);
    check("[{package: {pypi: x}}]", process(None, None), false, false);
    let of_pypi = McpServer::Process {
        interpreter: Fact::None,
        script: Fact::None,
        package: Fact::Is(Package { registry: Registry::Pypi, name: "Mcp_X".into(), version: None }),
    };
    check("[{package: {pypi: mcp.x}}]", of_pypi.clone(), true, true);
    check("[{package: {pypi: mcpx}}]", of_pypi, false, false);
    check("[{url: \"https://mcp.example.com/v1\"}]", remote("https://mcp.example.com/v1/x"), true, true);
    check("[{url: \"https://mcp.example.com/v1\"}]", remote("https://mcp.example.com/v2"), false, false);
    check("[{url: \"https://mcp.example.com/v1\"}]", McpServer::Remote { url: Fact::Unknown }, true, false);
    check(&format!("[{{interpreter_sha256: [{}]}}]", hash(1)), process(None, None), true, false);
    // What is not known at all can be either.
    check("[{url: \"https://mcp.example.com/v1\"}]", McpServer::Unknown, true, false);
    check("[{interpreter: /usr/bin/node}]", McpServer::Unknown, true, false);
    check(by_package, McpServer::Unknown, true, false);
}

/// What tests and `explain` say of a server.
#[test]
fn servers_that_are_written() {
    let file = |path: &str, sha256| Fact::Is(FileIdentity { path: path.into(), sha256 });
    let hash = "01".repeat(32);
    let check = |text: &str, expect: McpServer| {
        let server = parse_server(Source::new("s", text)).unwrap_or_else(|found| panic!("{found}"));
        assert_eq!(server, expect, "{text}");
    };
    let process = |interpreter, script, package| McpServer::Process { interpreter, script, package };
    let node = || file("/usr/bin/node", None);
    check("{interpreter: /usr/bin/node}", process(node(), Fact::None, Fact::None));
    check("{\"interpreter\": \"/usr/bin/node\"}", process(node(), Fact::None, Fact::None));
    check(
        "{interpreter: /usr/bin/node, interpreter_sha256: unknown, script: unknown}",
        process(node(), Fact::Unknown, Fact::None),
    );
    check(
        &format!("{{script: unknown, script_sha256: \"{hash}\", package: unknown}}"),
        process(Fact::None, file("", Some([1; 32])), Fact::Unknown),
    );
    let url = Url::parse("https://a/b").expect("a URL");
    check("{url: \"https://a/b\"}", McpServer::Remote { url: Fact::Is(url) });
    check("{url: unknown}", McpServer::Remote { url: Fact::Unknown });
    for (text, words) in [
        ("{interpreter: node}", "not absolute"),
        ("{url: \"x\"}", "no URL"),
        ("{name: x}", "unknown key `name`"),
        ("[]", "has to be a mapping"),
        ("{", ""),
    ] {
        let found = parse_server(Source::new("s", text)).expect_err(text);
        assert!(found.to_string().contains(words), "{text}: {found}");
    }
}

#[test]
fn machines() {
    let check = |rule: &str, known: &[(Trait, bool)], refuses: bool| {
        let policy = read(&format!("rules: [{{id: r, kind: posture, {rule}, reason: r}}]\n"));
        let mut posture = Posture::default();
        known.iter().for_each(|(of, has)| posture.set(*of, *has));
        assert_eq!(answer(&policy, Object::Posture(posture)).0 == Verdict::Deny, refuses, "{rule} {known:?}");
    };
    let disk = "require: {disk_encryption: true}";
    check(disk, &[(Trait::DiskEncryption, true)], false);
    check(disk, &[(Trait::DiskEncryption, false)], true);
    check(disk, &[], true);
    check(&format!("{disk}, on_unknown: allow"), &[], false);
    check(&format!("{disk}, on_unknown: deny"), &[], true);
    check(
        "require: {disk_encryption: true, secure_boot: false}",
        &[(Trait::DiskEncryption, true), (Trait::SecureBoot, true)],
        true,
    );
}

/// The kernel's tables have a place for every rule, and defaults are rules.
#[test]
fn defaults_count_as_rules() {
    let check = |count: usize, words: Option<&str>| {
        let rules: String = (0..count)
            .map(|number| format!("  - {{id: r-{number}, kind: tool, tools: [X], reason: r}}\n"))
            .collect();
        let defaults = "defaults: {tool: {action: deny, reason: d}, mcp: {action: deny, reason: d}}\n";
        match (parse("t", &format!("version: 1\nname: t\n{defaults}rules:\n{rules}")), words) {
            (Ok(policy), None) => assert_eq!(policy.rules.len(), count + 2),
            (Err(found), Some(words)) => {
                assert!(found.items().iter().all(|item| item.code == Code::TooManyRules), "{found}");
                assert!(found.items().len() == 1 && found.to_string().contains(words), "{found}");
            }
            (read, _) => panic!("{count}: {:?}", read.err()),
        }
    };
    check(1020, None);
    check(1021, Some("1023 rules with the defaults"));
    check(1022, Some("1024 rules with the defaults"));
    check(1023, Some("1023 rules; a policy has at most 1022"));
}

/// Checks that a finding in the lines of a policy has this code, and these words in its message or help.
#[track_caller]
fn finds(text: &str, code: Code, words: &str) {
    let found = parse("t", &format!("version: 1\nname: t\n{text}\n")).expect_err(text);
    let item = found.items().iter().find(|item| item.code == code);
    let item = item.unwrap_or_else(|| panic!("{text}: {found}"));
    let help = item.help.as_deref().unwrap_or_default();
    assert!(format!("{}{help}", item.message).contains(words), "{text}: {found}");
}

/// One rule, by its keys besides its id and reason.
fn one_rule(more: &str) -> String {
    format!("rules: [{{id: a, reason: r, {more}}}]")
}

#[test]
fn what_is_wrong_is_named() {
    let check = finds;
    let rule = one_rule;
    let tool = |more: &str| rule(&format!("kind: tool, tools: [Bash], {more}"));
    check(&rule("kind: tool"), Code::MissingKey, "`tools`");
    check(&rule("kind: tool, tools: []"), Code::Empty, "`tools`");
    check(&rule("kind: tool, tools: [\"a b\"]"), Code::BadPattern, "no name of a tool");
    check(&rule("kind: tool, tools: [\"*\", Bash]"), Code::ConflictingKeys, "every tool");
    check(&rule("kind: tool, tools: [mcp__github__search]"), Code::ServerName, "kind `mcp`");
    check(&tool("when: {}"), Code::Empty, "`when`");
    check(&tool("when: {program: [git]}"), Code::UnknownKey, "did you mean `programs`?");
    check(&tool("when: {programs: [usr/bin/git]}"), Code::BadPath, "no name of a program");
    check(&tool("when: {flags: [force]}"), Code::BadPattern, "begins with `-`");
    check(&tool("when: {writes: outside}"), Code::UnknownWord, "outside_repository");
    check(&tool("when: {hosts: [\"https://x/\"]}"), Code::BadHost, "no host");
    check(&tool("when: {hosts: [Example.com]}"), Code::BadHost, "lower case");
    check(&tool("when: {hosts: [\"[::1]\"]}"), Code::BadHost, "no host");
    check(&tool("when: {hosts: [\"0::1\"]}"), Code::BadHost, "no host");
    check(&tool("when: {hosts: [\"*.::1\"]}"), Code::BadHost, "no host");
    check(&tool("when: {flags: [-9]}"), Code::WrongType, "write \"-9\"");
    check(&tool("when: {words: [\"a\\u0007\"]}"), Code::ControlCharacter, "U+0007");
    check(&tool("when: {words: [\" \"]}"), Code::Empty, "a word");
    check(&tool("when: {secrets: [password]}"), Code::UnknownWord, "unknown secret");
    check(
        &tool("when: {opaque: frobnicate}"),
        Code::UnknownWord,
        "write `any`, or a list of `syntax`, `bounds`",
    );
    check(&tool("when: {opaque: evil}"), Code::UnknownWord, "did you mean `[eval]`?");
    check(&tool("when: {opaque: eval}"), Code::UnknownWord, "did you mean `[eval]`?");
    check(&tool("when: {secrets: anny}"), Code::UnknownWord, "did you mean `any`?");
    check(&tool("action: allow, when: {opaque: any}"), Code::ConflictingKeys, "never allowed");
    check(&tool("action: adopt"), Code::UnknownWord, "`deny`, `record` or `allow`");
    check(&tool("action: allow, mode: enforce"), Code::ConflictingKeys, "says it twice");
    check(&tool("priority: 1001"), Code::BadNumber, "-1000 to 1000");
    check(&tool("priority: +1"), Code::BadNumber, "-1000 to 1000");
    check(&tool("priority: 0.5"), Code::BadNumber, "-1000 to 1000");
    check(&tool("priority: \"1\""), Code::WrongType, "has to be a number");
}

#[test]
fn what_is_wrong_with_servers_and_machines_is_named() {
    let check = finds;
    let rule = one_rule;
    check(&rule("kind: mcp, servers: [{}]"), Code::Empty, "every server");
    check(&rule("kind: mcp, servers: [{name: github}]"), Code::UnknownKey, "`name`");
    check(&rule("kind: mcp, servers: [{url: \"http://u@x/\"}]"), Code::BadUrl, "without a user");
    check(&rule("kind: mcp, servers: [{url: \"https://a/*\"}]"), Code::BadUrl, "all that is below it");
    check(&rule("kind: mcp, servers: [{url: \"https://a/?b\"}]"), Code::BadUrl, "behind a `?`");
    check(&rule("kind: mcp, servers: [{url: \"https://a//b\"}]"), Code::BadUrl, "empty names");
    check(&rule("kind: mcp, servers: [{package: {npm: \"a b\"}}]"), Code::BadPackage, "lower-case letters");
    check(&rule("kind: mcp, servers: [{package: {pypi: \"@a/b\"}}]"), Code::BadPackage, "package of `pypi`");
    check(
        &rule("kind: mcp, servers: [{package: {npm: 1}}]"),
        Code::WrongType,
        "the name of a package of `npm`",
    );
    check(
        &rule("kind: mcp, servers: [{package: {npm: a, version: 2.1}}]"),
        Code::WrongType,
        "a version has to be",
    );
    check(&rule("kind: mcp, servers: [{package: {npm: a, version: \"^2\"}}]"), Code::BadPackage, "ranges");
    check(&rule("kind: mcp, servers: [{package: {version: \"1\"}}]"), Code::MissingKey, "no name");
    check(&rule("kind: mcp, servers: [{package: {npm: a, pypi: b}}]"), Code::ConflictingKeys, "one registry");
    check(&rule("kind: posture, require: {}"), Code::Empty, "`require`");
    check(&rule("kind: posture, require: {disk: true}"), Code::UnknownKey, "disk_encryption");
    check(&rule("kind: posture, require: {secure_boot: yes}"), Code::WrongType, "`true` or `false`");
    check(&rule("kind: posture, require: {secure_boot: \"true\"}"), Code::WrongType, "without quotes");
    check("defaults: {file: {action: deny, reason: r}}\nrules: []", Code::UnknownKey, "`tool` and `mcp`");
    check("defaults: {tool: {action: allow, reason: r}}\nrules: []", Code::UnknownWord, "`deny` or `record`");
    check("defaults: {tool: {action: deny}}\nrules: []", Code::MissingKey, "`reason`");
}

/// Of a list the item is shown that is wrong.
#[test]
fn places_of_names() {
    let text =
        "version: 1\nname: t\nrules: [{id: a, kind: tool, reason: r, tools: [Bash, mcp__x__y, mcp__z]}]\n";
    let found = parse("t", text).expect_err("names of servers");
    let shown: Vec<&str> = found.items().iter().map(|item| &text[item.span.start..item.span.end]).collect();
    assert_eq!(shown, ["mcp__x__y", "mcp__z"], "{found}");
}

fn some_of(items: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::sample::subsequence(items.to_vec(), 1..=items.len().min(2))
        .prop_map(|items| format!("[{}]", items.join(", ")))
}

fn when(allows: bool) -> impl Strategy<Value = String> {
    let condition = prop_oneof![
        3 => some_of(&["a", "b", "/bin/a"]).prop_map(|programs| format!("programs: {programs}")),
        2 => some_of(&["x", "y"]).prop_map(|words| format!("words: {words}")),
        2 => some_of(&["-f", "-r", "--recursive"]).prop_map(|flags| format!("flags: {flags}")),
        1 => prop::sample::select(vec!["reads: [/w/**]", "reads: outside_repository"]).prop_map(str::to_owned),
        2 => prop::sample::select(vec!["writes: [/w/**, ~/**]", "writes: outside_repository", "writes: inside_repository"]).prop_map(str::to_owned),
        2 => some_of(&["a.com", "\"*.b.com\""]).prop_map(|hosts| format!("hosts: {hosts}")),
        u32::from(!allows) => prop::sample::select(vec!["opaque: any", "secrets: any", "opaque: [eval]"]).prop_map(str::to_owned),
    ];
    prop::collection::vec(condition, 0..3).prop_map(|conditions| {
        let mut keys = std::collections::BTreeMap::new();
        for condition in conditions {
            let key = condition.split(':').next().unwrap_or_default().to_owned();
            keys.entry(key).or_insert(condition);
        }
        let all: Vec<String> = keys.into_values().collect();
        if all.is_empty() { String::new() } else { format!(", when: {{{}}}", all.join(", ")) }
    })
}

/// One rule without its id, and whether it allows.
fn rule() -> impl Strategy<Value = (String, bool)> {
    let only = prop::sample::select(vec!["", ", only: [{executable: /x}]", ", except: [{executable: /x}]"]);
    let tools = prop::sample::select(vec!["[Bash]", "[\"*\"]", "[Read, Bash]"]);
    prop::sample::select(vec!["deny", "record", "allow"]).prop_flat_map(move |action| {
        (when(action == "allow"), tools.clone(), -2..3_i32, only.clone()).prop_map(move |(when, tools, priority, only)| {
            let text = format!("kind: tool, tools: {tools}, action: {action}, priority: {priority}, reason: r{when}{only}");
            (text, action == "allow")
        })
    })
}

fn policy_of(rules: &[(usize, String)], default: bool) -> Policy {
    let rules: String = rules.iter().map(|(id, rule)| format!("  - {{id: r-{id}, {rule}}}\n")).collect();
    let default = if default { "defaults: {tool: {action: deny, reason: d}}\n" } else { "" };
    let rules = if rules.is_empty() { " []\n".to_owned() } else { format!("\n{rules}") };
    read(&format!("{default}rules:{rules}"))
}

type Numbered = Vec<(usize, String)>;

/// The same rules in two orders.
fn in_two_orders() -> impl Strategy<Value = (Numbered, Numbered)> {
    prop::collection::vec(rule(), 1..7).prop_flat_map(|rules| {
        let rules: Numbered = rules.into_iter().map(|(rule, _)| rule).enumerate().collect();
        (Just(rules.clone()), Just(rules).prop_shuffle())
    })
}

fn call() -> impl Strategy<Value = Request> {
    let command = (
        prop::sample::select(vec!["a", "b", "c"]),
        prop::sample::subsequence(vec!["x", "y", "-f", "-r", "--recursive", "--rec", "?", "..."], 0..4),
    )
        .prop_map(|(program, rest)| command(&[&[program], rest.as_slice()].concat().join(" ")));
    let place = prop::sample::select(vec![
        Place::At("/w/p/x".into()),
        Place::At("/w/y".into()),
        Place::At("/home/ada/z".into()),
        Place::Below("/w".into()),
        Place::Unknown,
    ]);
    let peer = prop::sample::select(vec![
        Peer::Named("a.com".into()),
        Peer::Named("x.b.com".into()),
        Peer::Named("c.com".into()),
        Peer::Unknown,
    ]);
    let features = (
        prop::collection::vec(command, 0..3),
        prop::collection::vec(place.clone(), 0..2),
        prop::collection::vec(place, 0..3),
        prop::collection::vec(peer, 0..2),
        prop::sample::subsequence(vec![Opaque::Eval, Opaque::Source], 0..2),
    );
    let executable = prop::sample::select(vec!["", "/x", "/y"]);
    (features, prop::sample::select(vec!["Bash", "Read", "Write"]), executable).prop_map(
        |((commands, reads, writes, hosts, opaque), tool, executable)| {
            let repository = Some("/w/p".to_owned());
            let features =
                Features { commands, reads, writes, hosts, opaque, repository, ..Features::default() };
            let object = Object::Tool(ToolCall { tool: tool.into(), features });
            Request { subject: Subject { executable: executable.into(), ..Subject::default() }, object }
        },
    )
}

fn verdict(policy: &Policy, request: &Request) -> Verdict {
    eval(policy, &host(), request).verdict
}

/// The same call with less known of it.
fn less_known(request: &Request, part: usize) -> Request {
    let Object::Tool(mut call) = request.object.clone() else { return request.clone() };
    let features = &mut call.features;
    match part {
        0 => features.opaque.push(Opaque::Wrapper),
        1 => features.commands.iter_mut().for_each(|command| command.is_vague = true),
        5 => features.commands.iter_mut().for_each(|command| command.is_complete = false),
        6 => features.touches = std::mem::take(&mut features.writes),
        7 => features.is_scanned = false,
        8 => features.commands.iter_mut().for_each(|command| command.path = Some(Place::Unknown)),
        2 => features.writes.iter_mut().for_each(|place| *place = Place::Unknown),
        3 => features.hosts.iter_mut().for_each(|peer| *peer = Peer::Unknown),
        4 => features.reads.iter_mut().for_each(|place| *place = Place::Unknown),
        // A command that could not be followed is not there.
        _ => {
            features.commands.clear();
            features.opaque.push(Opaque::Wrapper);
        }
    }
    let mut subject = request.subject.clone();
    if part == 0 {
        subject.executable.clear();
    }
    Request { subject, object: Object::Tool(call) }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn order_never_matters((rules, permuted) in in_two_orders(), default: bool, requests in prop::collection::vec(call(), 16)) {
        let (policy, other) = (policy_of(&rules, default), policy_of(&permuted, default));
        for request in requests {
            prop_assert_eq!(eval(&policy, &host(), &request), eval(&other, &host(), &request));
            prop_assert_eq!(explain(&policy, &host(), &request).verdict, verdict(&policy, &request));
        }
    }

    /// Another rule that refuses or records never allows more; leaving out one that allows neither.
    #[test]
    fn more_rules_never_allow_more(rules in prop::collection::vec(rule(), 1..7), default: bool, at in any::<prop::sample::Index>(), requests in prop::collection::vec(call(), 16)) {
        let at = at.index(rules.len());
        let all: Vec<_> = rules.iter().map(|(rule, _)| rule.clone()).enumerate().collect();
        let fewer: Vec<_> = all.iter().filter(|(id, _)| *id != at).cloned().collect();
        let (all, fewer) = (policy_of(&all, default), policy_of(&fewer, default));
        for request in requests {
            let (with, without) = (verdict(&all, &request), verdict(&fewer, &request));
            prop_assert!(if rules[at].1 { with <= without } else { with >= without }, "{request:?}");
        }
    }

    /// A rule that allows changes nothing of those with its own priority or a higher one.
    #[test]
    fn what_allows_is_below(rules in prop::collection::vec(rule(), 1..6), requests in prop::collection::vec(call(), 16)) {
        let highest = |rule: &String| rule.replace("priority: ", "priority: 99");
        let denies: Vec<_> = rules.iter().filter(|(_, allows)| !allows).map(|(rule, _)| highest(rule).replace("99-", "99")).enumerate().collect();
        let allows = rules.iter().filter(|(_, allows)| *allows).map(|(rule, _)| rule.clone());
        let both: Vec<_> = denies.iter().map(|(_, rule)| rule.clone()).chain(allows).enumerate().collect();
        let (denies, both) = (policy_of(&denies, false), policy_of(&both, false));
        for request in requests {
            prop_assert_eq!(verdict(&denies, &request), verdict(&both, &request));
        }
    }

    /// What is not known never allows.
    #[test]
    fn the_less_is_known_the_less_is_allowed(rules in prop::collection::vec(rule(), 1..7), default: bool, request in call(), part in 0..10_usize) {
        // An exception of a rule that refuses needs to be known as well; so does `only` of one that allows.
        let numbered: Vec<_> = rules.into_iter().map(|(rule, _)| rule).enumerate().collect();
        let policy = policy_of(&numbered, default);
        let less = less_known(&request, part);
        prop_assert!(verdict(&policy, &less) >= verdict(&policy, &request), "{request:?}\n{less:?}");
    }

    /// No kernel program is asked about any of it, and every policy of such rules can be put in force.
    #[test]
    fn there_are_no_tables(rules in prop::collection::vec(rule(), 1..7), default: bool) {
        let numbered: Vec<_> = rules.into_iter().map(|(rule, _)| rule).enumerate().collect();
        let target = Target { seed: 1, generation: 1, slot: 0 };
        let tables = compile(&policy_of(&numbered, default), &host(), &MountTable::single(1), target).expect("room");
        prop_assert_eq!((tables.table.enforcing, tables.accepts.len(), tables.lists.len()), (0, 0, 0));
    }
}

/// What is said of the rule.
#[track_caller]
fn explained(rules: &str, object: Object, expect: &str) {
    let policy = read(&format!("rules:\n  - {{id: r, {rules}, reason: r}}\n"));
    let request = Request { subject: Subject::default(), object };
    let text = explain(&policy, &host(), &request).to_string();
    let line = text.lines().find(|line| line.starts_with("  r  ")).expect("the rule");
    assert!(line.ends_with(&format!("  {expect}")), "{line}");
}

/// What is said of a rule: which of what it asks for decided, for and against.
#[test]
fn explanations_name_what_decided() {
    let called = |features: Features| Object::Tool(ToolCall { tool: "Bash".into(), features });
    let bash = |rules: &str, features: Features, expect: &str| {
        explained(&format!("kind: tool, tools: [Bash], {rules}"), called(features), expect);
    };
    let runs = |commands: &[&str]| self::bash(commands);
    let push = "when: {programs: [git], words: [push], flags: [--force, -f]}";
    bash(push, runs(&["ls", "git push -f"]), "matches `programs git, words push, flags -f`");
    bash(push, runs(&["ls", "git push"]), "- `git` has none of `flags`");
    bash(push, runs(&["ls", "git -f"]), "- `git` has not each of `words`");
    bash(push, runs(&["ls -f"]), "- `ls` is none of `programs`, and `ls` has not each of `words`");
    bash(push, runs(&[]), "- it runs no command");
    bash(
        push,
        runs(&["git ..."]),
        "matches `programs git, words push, flags --force or -f, which cannot be told and counts`",
    );
    bash(
        push,
        opaque(runs(&["ls"])),
        "matches `a command behind what cannot be followed (eval), which cannot be told and counts`",
    );
    let writes = |path: &str| Features { writes: vec![Place::At(path.into())], ..runs(&["x"]) };
    bash("when: {writes: outside_repository}", writes("/etc/x"), "matches `writes /etc/x`");
    bash("when: {writes: outside_repository}", writes("/w/p/x"), "- it has nothing of `writes`");
    let leaks = Features { secrets: vec![Secret::Github], ..runs(&["x"]) };
    bash("when: {secrets: any}", leaks, &format!("matches `secrets {}`", Secret::Github));
    bash("when: {secrets: any}", runs(&["x"]), "- it has nothing of `secrets`");
    explained("kind: tool, tools: [Read, Write]", called(runs(&["x"])), "- is for Read, Write");
    explained("kind: tool, tools: [Bash]", called(runs(&["x"])), "matches `tools Bash`");
    let allow = "action: allow, when: {programs: [git]}";
    bash(allow, runs(&["git x", "rm x"]), "- `rm` is none of `programs`");
    let mut other = runs(&["git status"]);
    other.commands[0].path = Some(Place::At("/w/p/git".into()));
    bash(allow, other, "- whether it is programs /w/p/git cannot be told, and that allows nothing");
}

#[test]
fn explanations_name_what_decided_about_servers_and_machines() {
    let server = |package: Fact<Package>| {
        let server = McpServer::Process { interpreter: Fact::None, script: Fact::None, package };
        Object::Mcp(McpCall { tool: "search".into(), server })
    };
    let package = |version: &str| {
        Fact::Is(Package { registry: Registry::Npm, name: "p".into(), version: Some(version.into()) })
    };
    let mcp = "kind: mcp, servers: [{package: {npm: p, version: \"1\"}}]";
    let text = "{package: {npm: \"p\", version: \"1\"}}";
    explained(mcp, server(package("1")), &format!("matches `the server {text}`"));
    explained(mcp, server(package("2")), &format!("- `package` of the server `{text}` is not this one's"));
    explained(
        mcp,
        server(Fact::Unknown),
        &format!("matches `package of the server {text}, which cannot be told and counts`"),
    );
    explained(&format!("{mcp}, tools: [x]"), server(package("1")), "- is for x");
    let machine = |has: Option<bool>| {
        let mut found = Posture::default();
        has.into_iter().for_each(|has| found.set(Trait::DiskEncryption, has));
        Object::Posture(found)
    };
    let disk = "kind: posture, require: {disk_encryption: true}";
    explained(disk, machine(Some(false)), "matches `disk_encryption is false`");
    explained(disk, machine(Some(true)), "- `disk_encryption` is true, as required");
    explained(disk, machine(None), "matches `disk_encryption, which cannot be told and counts`");
    let lenient = format!("{disk}, on_unknown: allow");
    explained(&lenient, machine(None), "- `disk_encryption` cannot be told, and that does not count");
}
