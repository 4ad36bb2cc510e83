//! The compiled tables, walked as the kernel walks them, decide as the oracle does.

use std::{net::IpAddr, sync::Arc};

use proptest::prelude::*;
use treeline_abi::{
    lift::{LIFT, LIFTS_MAX},
    name,
    paths::{AncestorKey, Operation},
};
use treeline_policy::{
    Decision, Executed, Home, Host, Known, Lineage, Located, Matcher, Mount, MountTable, Object, Policy,
    Request, Resolver, Session, Subject, Tables, Target, compile, compose, eval, parse,
    policy::{FileOperation, Level, Mode},
};

/// A machine with homes in three places and mounts on the way of many patterns; each filesystem is mounted once.
///
/// `@1` and `@2` lead to parts of filesystems that are mounted. No glob spells them: a glob that holds everywhere sees
/// them, while paths as text do not have them.
fn machine() -> (Host, MountTable) {
    let home = |uid, path: &str| Home { uid, path: path.into() };
    let mount = |point: &str, device, inner: &str| Mount {
        point: point.into(),
        root: Located { device, inner: inner.into() },
    };
    let host = Host {
        homes: vec![home(0, "/r"), home(1, "/h/a"), home(2, "/h/b"), home(3, "/h/c"), home(4, "/s/x/a")],
    };
    let mounts = vec![
        mount("/", 1, "/"),
        mount("/h", 2, "/"),
        mount("/h/b", 3, "/@1"),
        mount("/s/x", 4, "/"),
        mount("/a/b", 5, "/@1/@2"),
        mount("/a/b/c", 6, "/"),
    ];
    (host, MountTable { mounts })
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => prop::sample::select(vec!["a", "b", "c", "h", "r", "s", "x"]).prop_map(str::to_owned),
        1 => "[abc][abc.]{0,2}",
    ]
}

fn component() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => name(),
        2 => Just("*".to_owned()),
        2 => Just("**".to_owned()),
        1 => prop::sample::select(vec!["a*", "*b", "b*c", "c*", "*.a", "ab*ba", "?", "a?", "?b*", "*?c", "b?.", "???"]).prop_map(str::to_owned),
    ]
}

fn glob() -> impl Strategy<Value = String> {
    let anchor = prop::sample::select(vec!["/", "/", "/", "~/", "/**/", "/h/", "/a/b/"]);
    (anchor, prop::collection::vec(component(), 1..5)).prop_map(|(anchor, rest)| {
        let mut glob = format!("{anchor}{}", rest.join("/"));
        // They mean the same, and the same pattern twice in a list is an error.
        while glob.contains("**/**") {
            glob = glob.replace("**/**", "**");
        }
        glob
    })
}

fn path() -> impl Strategy<Value = String> {
    let anchor = prop::sample::select(vec!["", "", "/h/a", "/h/b", "/r", "/a/b", "/s/x", "/h/c"]);
    (anchor, prop::collection::vec(name(), 0..5))
        .prop_map(|(anchor, rest)| rest.iter().fold(anchor.to_owned(), |path, name| format!("{path}/{name}")))
        .prop_map(|path| if path.is_empty() { "/".to_owned() } else { path })
}

fn digest(number: u8) -> [u8; 32] {
    [number; 32]
}

fn hex(number: u8) -> String {
    format!("{number:02x}").repeat(32)
}

/// A list of the language, each item once.
fn list(items: Vec<String>) -> String {
    let unique: std::collections::BTreeSet<String> =
        items.into_iter().map(|item| format!("\"{item}\"")).collect();
    format!("[{}]", unique.into_iter().collect::<Vec<_>>().join(", "))
}

/// Some of these as a list.
fn some_of(items: &[&'static str]) -> impl Strategy<Value = String> + use<> {
    prop::sample::subsequence(items.to_vec(), 1..4)
        .prop_map(|items| list(items.into_iter().map(str::to_owned).collect()))
}

/// `to` and `ports`, with this in front of each line but the first.
fn addresses(indent: &'static str) -> impl Strategy<Value = String> {
    let nets = [
        "0.0.0.0/0",
        "10.0.0.0/8",
        "10.1.0.0/16",
        "10.1.2.3",
        "127.0.0.0/8",
        "::/0",
        "::1",
        "fd00::/8",
        "fd00:ec2::254",
    ];
    let ports = prop::sample::select(vec!["", "ports: [80]\n", "ports: [80, 79-90, \"1000-2000\"]\n"]);
    (some_of(&nets), ports).prop_map(move |(to, ports)| {
        let indent = if ports.is_empty() { "" } else { indent };
        format!("to: {to}\n{indent}{ports}")
    })
}

fn by_address() -> impl Strategy<Value = String> {
    let except_to = prop::collection::vec(addresses("        "), 0..3).prop_map(|items| {
        let key = if items.is_empty() { "" } else { "    except_to:\n" };
        let items = items.iter().map(|item| format!("      - {item}"));
        format!("{key}{}", items.collect::<String>())
    });
    (addresses("    "), except_to)
        .prop_map(|(addresses, except)| format!("kind: connect\n    {addresses}{except}"))
}

fn abstracts() -> impl Strategy<Value = String> {
    some_of(&[
        "@a",
        "@ab",
        "@*",
        "@a*",
        "@*b",
        "@a*b",
        "@a/b",
        "@/h/*",
        "@ab*ba",
        "@aaaaaaaaa*",
        "@*bbbbbbbbb",
    ])
}

/// One rule's lines without its id.
fn rule() -> impl Strategy<Value = String> {
    let globs = move || prop::collection::vec(glob(), 1..4).prop_map(list);
    let operations =
        prop::sample::subsequence(vec!["read", "write", "create", "delete", "rename", "link"], 1..4)
            .prop_map(move |operations| list(operations.into_iter().map(str::to_owned).collect()));
    let contents = prop::sample::select(vec!["", "", "    sha256: [$one]\n"]);
    // What a rule is about, and what of it is not meant.
    let body = prop_oneof![
        4 => (globs(), operations, spared("except_paths", globs())).prop_map(|(paths, operations, spared)| (format!("kind: file\n    paths: {paths}\n    operations: {operations}\n"), spared)),
        1 => (globs(), spared("except_paths", globs())).prop_map(|(paths, spared)| (format!("kind: file\n    paths: {paths}\n"), spared)),
        2 => (globs(), contents, spared("except_paths", globs())).prop_map(|(paths, contents, spared)| (format!("kind: exec\n    paths: {paths}\n"), format!("{contents}{spared}"))),
        3 => by_address().prop_map(|body| (body, String::new())),
        1 => (abstracts(), spared("except_unix", abstracts())).prop_map(|(unix, spared)| (format!("kind: connect\n    unix: {unix}\n"), spared)),
        1 => (globs(), spared("except_unix", globs())).prop_map(|(unix, spared)| (format!("kind: connect\n    unix: {unix}\n"), spared)),
    ];
    let mode = prop_oneof![
        6 => prop::sample::select(vec!["", "    mode: monitor\n", "    mode: enforce\n", "    action: deny\n"]),
        2 => Just("    action: allow\n"),
    ];
    let priority = prop::sample::select(vec!["", "", "    priority: 1\n", "    priority: -1\n"]);
    (body, mode, priority, subjects("except"), subjects("only")).prop_map(
        |((body, spared), mode, priority, except, only)| {
            // One that allows means all that it names.
            let spared = if mode.contains("allow") { "" } else { spared.as_str() };
            format!("{body}{spared}{mode}{priority}    reason: because\n{except}{only}")
        },
    )
}

/// What a rule is not about, or nothing.
fn spared(key: &'static str, items: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    prop::option::weighted(0.3, items)
        .prop_map(move |items| items.map_or_else(String::new, |items| format!("    {key}: {items}\n")))
}

/// What holds where no rule does.
fn defaults() -> impl Strategy<Value = String> {
    let kinds = vec!["read", "write", "exec", "connect", "unix"];
    (prop::sample::subsequence(kinds, 0..3), prop::sample::select(vec!["deny", "record"])).prop_map(
        |(kinds, action)| {
            let defaults =
                kinds.iter().map(|kind| format!("  {kind}: {{action: {action}, reason: because}}\n"));
            let defaults: String = defaults.collect();
            if defaults.is_empty() { defaults } else { format!("defaults:\n{defaults}") }
        },
    )
}

/// A list of subjects, or nothing.
fn subjects(key: &'static str) -> impl Strategy<Value = String> {
    let item = prop_oneof![
        3 => executables(),
        2 => executables().prop_map(|ancestor| format!("descendant_of: {{{ancestor}}}")),
        1 => (executables(), executables()).prop_map(|(own, ancestor)| format!("{own}, descendant_of: {{{ancestor}}}")),
        2 => sessions().prop_map(|session| format!("session: {{{session}}}")),
        1 => (executables(), sessions()).prop_map(|(own, session)| format!("{own}, session: {{{session}}}")),
        1 => (executables(), sessions())
            .prop_map(|(ancestor, session)| format!("descendant_of: {{{ancestor}}}, session: {{{session}}}")),
    ];
    prop::collection::btree_set(item, 0..3).prop_map(move |items| {
        let items: Vec<String> = items.into_iter().map(|item| format!("      - {{{item}}}\n")).collect();
        if items.is_empty() { String::new() } else { format!("    {key}:\n{}", items.concat()) }
    })
}

/// The keys of a session that can stand everywhere.
fn sessions() -> impl Strategy<Value = &'static str> {
    let users = ["users: [ada]", "users: [1001, bob]", "groups: [staff]", "groups: [50, ops]"];
    prop::sample::select([&users[..], &["users: [ada], groups: [ops]"]].concat())
}

/// What is known of a session.
fn known_session() -> impl Strategy<Value = Session> {
    let known = || {
        let id = prop::option::weighted(0.8, prop::sample::select(vec![50, 51, 1000, 1001]));
        let name = prop::option::weighted(0.8, prop::sample::select(vec!["ada", "bob", "staff", "ops"]));
        (id, name).prop_map(|(id, name)| Known { id, name: name.map(str::to_owned) })
    };
    let groups = prop::option::weighted(0.8, prop::collection::vec(known(), 0..3));
    (prop::option::weighted(0.8, known()), groups).prop_map(|(user, groups)| Session {
        user,
        groups,
        ..Session::default()
    })
}

/// The keys of an executable.
fn executables() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => glob().prop_map(|glob| format!("executable: \"{glob}\"")),
        1 => (1..4_u8).prop_map(|number| format!("sha256: \"{}\"", hex(number))),
        1 => (glob(), 1..4_u8)
            .prop_map(|(glob, number)| format!("executable: \"{glob}\", sha256: \"{}\"", hex(number))),
    ]
}

/// Images that a lineage consists of, the last one the subject's own.
fn images() -> impl Strategy<Value = Vec<Executed>> {
    let image = (path(), prop::option::of((1..5_u8).prop_map(digest)), prop::bool::weighted(0.1));
    let image =
        image.prop_map(|(path, sha256, loads_code)| Executed { path: path.into_bytes(), sha256, loads_code });
    prop::collection::vec(image, 1..4)
}

fn text(rules: &[String]) -> String {
    with_defaults("", rules)
}

fn with_defaults(defaults: &str, rules: &[String]) -> String {
    let rules: String = rules.iter().map(|rule| format!("  - {rule}")).collect();
    let rules = if rules.is_empty() { " []\n".to_owned() } else { format!("\n{rules}") };
    format!("version: 1\nname: random\n{defaults}rules:{rules}")
}

fn policy() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(rule(), 1..7).prop_map(|rules| {
        // A content can be in one rule only.
        let own = |index: usize, rule: String| rule.replace("$one", &hex(index as u8 + 1));
        let rules = rules.into_iter().enumerate();
        rules.map(|(index, rule)| format!("id: r-{index}\n    {}", own(index, rule))).collect()
    })
}

/// The same rules in two orders, those of kinds that have no patterns of their own among them.
fn in_two_orders() -> impl Strategy<Value = (Vec<String>, Vec<String>)> {
    let others = vec![
        "id: brokers\n    kind: broker\n    brokers: [cron, ssh]\n    reason: r\n",
        "id: jobs\n    kind: broker\n    brokers: [at]\n    action: adopt\n    reason: r\n",
        "id: posture\n    kind: posture\n    require: {disk_encryption: true}\n    reason: r\n",
        "id: calls\n    kind: tool\n    tools: [Bash]\n    mode: monitor\n    reason: r\n",
    ];
    let others = prop::sample::subsequence(others, 0..=4);
    (policy(), others).prop_flat_map(|(rules, others)| {
        let all: Vec<String> = rules.into_iter().chain(others.into_iter().map(str::to_owned)).collect();
        (Just(all.clone()), Just(all).prop_shuffle())
    })
}

/// Rules whose patterns have beginnings in common, and differ before or behind them.
fn with_common_ways() -> impl Strategy<Value = Vec<String>> {
    let globs = some_of(&[
        "/a/*/b/c",
        "/b/*/b/c",
        "/a/*/b/x",
        "/a/*/x",
        "/b/*/x",
        "~/*/b/**",
        "/h/*/*/b/**",
        "/**/a/b/c",
        "/**/x/b/c",
        "/a/**/c/x",
        "/b/**/c/x",
        "/a/*/*/c",
        "/x*/b/c",
    ]);
    let operations = prop::sample::select(vec!["[rename, read]", "[rename, write]", "[read]"]);
    let mode = prop::sample::select(vec!["monitor", "enforce", "enforce"]);
    let rule = (globs, operations, mode).prop_map(|(globs, operations, mode)| {
        format!("kind: file\n    paths: {globs}\n    operations: {operations}\n    mode: {mode}\n    reason: because\n")
    });
    prop::collection::vec(rule, 1..5).prop_map(|rules| {
        rules.into_iter().enumerate().map(|(index, rule)| format!("id: r-{index}\n    {rule}")).collect()
    })
}

/// An organisation's policy, a team's and a local one. What is local allows nothing.
fn of_levels(loosened_by: &'static str) -> impl Strategy<Value = [(Level, String); 3]> {
    (defaults(), policy(), prop::collection::vec((0..3_usize, any::<bool>()), 7)).prop_map(
        move |(defaults, rules, places)| {
            let mut levels = [Vec::new(), Vec::new(), Vec::new()];
            for (rule, (level, is_loosened)) in rules.into_iter().zip(places) {
                let allows = rule.contains("action: allow");
                let key = if level == 0 && is_loosened && !allows { loosened_by } else { "" };
                levels[if allows { level.min(1) } else { level }].push(format!("{rule}{key}"));
            }
            let [organisation, team, local] = levels.map(|rules| with_defaults(&defaults, &rules));
            let named = |text: String, name: &str| text.replace("name: random", &format!("name: {name}"));
            [
                (Level::Organisation, organisation),
                (Level::Team, named(team, "team")),
                (Level::Local, named(local, "local")),
            ]
        },
    )
}

fn composed(levels: &[(Level, String)]) -> Policy {
    let policies = levels.iter().map(|(level, text)| (*level, read(text))).collect();
    compose(policies).unwrap_or_else(|diagnostics| panic!("{diagnostics}\n{levels:?}"))
}

fn request() -> impl Strategy<Value = Request> {
    let subject = (images(), prop::bool::weighted(0.9), known_session());
    let subject = subject.prop_map(|(images, complete, session)| {
        let Executed { path, sha256, loads_code } = images.last().cloned().unwrap_or_default();
        let lineage = Lineage::Images { images, complete };
        Subject { executable: path, sha256, uid: 1000, loads_code, lineage, session: Arc::new(session) }
    });
    let operation = prop::sample::select(FileOperation::WORDS.map(|(_, operation)| operation).to_vec());
    let addresses = [
        "10.1.2.3",
        "10.1.9.9",
        "10.9.9.9",
        "1.2.3.4",
        "127.0.0.1",
        "0.0.0.0",
        "::1",
        "::",
        "fd00::1",
        "fd00:ec2::254",
        "::ffff:10.1.2.3",
        "::ffff:0.0.0.0",
    ];
    let address = prop::sample::select(addresses.map(|a| a.parse::<IpAddr>().expect("an address")).to_vec());
    let object = prop_oneof![
        4 => (path(), operation).prop_map(|(path, operation)| Object::File { path: path.into_bytes(), operation }),
        2 => (path(), prop::option::of((1..5_u8).prop_map(digest)))
            .prop_map(|(path, sha256)| Object::Exec { path: path.into_bytes(), sha256 }),
        2 => (address, prop::sample::select(vec![80, 90, 91, 1500, 65535]))
            .prop_map(|(address, port)| Object::Connect { address, port }),
        1 => path().prop_map(|path| Object::ConnectUnix { path: path.into_bytes() }),
        1 => abstract_name().prop_map(|name| Object::ConnectAbstract { name }),
        1 => Just(Object::RawSocket),
        1 => Just(Object::Trace),
    ];
    (subject, object).prop_map(|(subject, object)| Request { subject, object })
}

/// Short names of the letters that patterns have, long ones around the bounds of words, and arbitrary bytes.
fn abstract_name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => "[ab/]{0,4}".prop_map(String::into_bytes),
        2 => "a{0,20}b{0,20}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..=107),
    ]
}

fn read(text: &str) -> Policy {
    parse("random", text).unwrap_or_else(|diagnostics| panic!("{diagnostics}\n{text}"))
}

fn build(policy: &Policy, seed: u64) -> Tables {
    let (host, resolver) = machine();
    let target = Target { seed, generation: 1, slot: 1 };
    compile(policy, &host, &resolver, target).unwrap_or_else(|diagnostics| panic!("{diagnostics}"))
}

fn located(path: &[u8]) -> Located {
    machine().1.locate(path).remove(0)
}

/// What the kernel would do.
fn decide(tables: &Tables, request: &Request) -> Decision {
    Matcher::new(tables).decide(request, &located)
}

/// The rules in `enforce` that a file falls under, whoever asks. Of those that let files be renamed nothing is promised.
fn holding(
    (policy, tables): (&Policy, &Tables),
    matcher: &Matcher<'_>,
    file: &Located,
    operation: FileOperation,
) -> Vec<u32> {
    let accepted = matcher.accepted(file, operation as u32).expect("few components");
    let counts = |index: &u32| {
        let rule = &policy.rules[*index as usize];
        rule.mode == Mode::Enforce && rule.kind.operations() & 1 << Operation::RENAME != 0
    };
    let (lifts, accepted): (Vec<u32>, Vec<u32>) = accepted.into_iter().partition(|index| index & LIFT != 0);
    // Somebody is allowed what only some are.
    let lifted = |index: &u32| {
        let mut lifts = lifts.iter().map(|lift| &tables.lifts[(lift & (LIFTS_MAX - 1)) as usize]);
        lifts.any(|lift| lift.rules[*index as usize / 64] >> (index % 64) & 1 != 0)
    };
    let mut rules: Vec<u32> = accepted.into_iter().filter(counts).filter(|index| !lifted(index)).collect();
    rules.sort_unstable();
    rules.dedup();
    rules
}

/// Whether a session may move a directory here or away, as far as only this place is looked at.
fn may_move(policy: &Policy, tables: &Tables, matcher: &Matcher<'_>, directory: &Located) -> bool {
    let names: Vec<&[u8]> =
        directory.inner.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).collect();
    let fold = |state, name: &&[u8]| name::mix(state, name::hash(tables.table.seed, name));
    let names = names.iter().rev().fold(0, fold);
    let key = AncestorKey { slot: tables.slot, device: directory.device, names };
    let above = tables.ancestors.iter().find(|(above, _)| *above == key);
    let is_refused = above.is_some_and(|(_, rule)| policy.rules[*rule as usize - 1].mode == Mode::Enforce);
    !is_refused && holding((policy, tables), matcher, directory, FileOperation::Rename).is_empty()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: std::env::var("ORACLE_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(128), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn tables_decide_as_the_oracle(rules in policy(), defaults in defaults(), requests in prop::collection::vec(request(), 32), seed: u64) {
        let text = with_defaults(&defaults, &rules);
        let policy = read(&text);
        let tables = build(&policy, seed);
        let host = machine().0;
        for request in requests {
            prop_assert_eq!(decide(&tables, &request), eval(&policy, &host, &request), "{:?}\n{}", request, text);
        }
    }

    #[test]
    fn an_allowed_rename_takes_nothing_out_of_a_rule(
        rules in prop_oneof![policy(), with_common_ways()],
        moves in prop::collection::vec((path(), path(), prop::collection::vec(name(), 1..4)), 64),
        seed: u64,
    ) {
        let text = text(&rules);
        let policy = read(&text);
        let tables = build(&policy, seed);
        let matcher = Matcher::new(&tables);
        for (from, to, below) in moves {
            let at = |path: &str| Located { device: 1, inner: path.as_bytes().to_vec() };
            let ways = |path: &str| matcher.ways(&at(path), Mode::Enforce);
            let may = |path: &str| may_move(&policy, &tables, &matcher, &at(path));
            if !may(&from) || !may(&to) || ways(&from) != ways(&to) {
                continue;
            }
            let file = |path: &str| at(&below.iter().fold(path.trim_end_matches('/').to_owned(), |path, name| format!("{path}/{name}")));
            for (_, operation) in FileOperation::WORDS {
                let [before, after] = [&from, &to].map(|path| holding((&policy, &tables), &matcher, &file(path), operation));
                prop_assert_eq!(before, after, "{} -> {}, {:?}\n{}", from, to, below, text);
            }
        }
    }

    #[test]
    fn order_never_matters((rules, permuted) in in_two_orders(), seed: u64) {
        let [one, other] = [&rules, &permuted].map(|rules| read(&text(rules)));
        let as_asked = |policy: &Policy| policy.rules.iter().map(|rule| rule.id.clone()).collect::<Vec<_>>();
        prop_assert_eq!(as_asked(&one), as_asked(&other));
        prop_assert_eq!(build(&one, seed), build(&other, seed));
    }

    #[test]
    fn one_more_deny_never_allows_more(rules in policy().prop_filter("two rules", |rules| rules.len() > 1), requests in prop::collection::vec(request(), 16)) {
        let host = machine().0;
        let fewer = read(&text(&rules[1..]));
        let more = read(&text(&rules));
        let allows = rules[0].contains("action: allow");
        for request in requests {
            let [more, fewer] = [&more, &fewer].map(|policy| eval(policy, &host, &request).verdict);
            // And one more rule that allows never refuses more.
            prop_assert!(if allows { more <= fewer } else { more >= fewer }, "{:?}\n{}", request, text(&rules));
        }
    }

    #[test]
    fn nothing_is_allowed_against_a_rule_of_the_same_priority(rules in policy(), requests in prop::collection::vec(request(), 16)) {
        let host = machine().0;
        let level: Vec<String> = rules.iter().map(|rule| rule.replace("priority: -1", "priority: 0").replace("priority: 1", "priority: 0")).collect();
        let without: Vec<String> = level.iter().filter(|rule| !rule.contains("action: allow")).cloned().collect();
        let [level, without] = [level, without].map(|rules| read(&text(&rules)));
        for request in requests {
            let [level, without] = [&level, &without].map(|policy| {
                let decision = eval(policy, &host, &request);
                (decision.verdict, decision.rule.map(|rule| policy.rules[rule].id.clone()))
            });
            prop_assert_eq!(level, without);
        }
    }

    #[test]
    fn tables_of_several_policies_decide_as_the_oracle(
        levels in of_levels("    loosened_by: [team]\n"),
        requests in prop::collection::vec(request(), 32),
        seed: u64,
    ) {
        let policy = composed(&levels);
        let tables = build(&policy, seed);
        let host = machine().0;
        for request in requests {
            prop_assert_eq!(decide(&tables, &request), eval(&policy, &host, &request), "{:?}\n{:?}", request, levels);
        }
        let [organisation, team, local] = levels;
        prop_assert_eq!(&composed(&[local, organisation, team]), &policy, "their order never matters");
    }

    #[test]
    fn a_lower_level_never_allows_more(
        levels in of_levels(""),
        with_team: bool,
        requests in prop::collection::vec(request(), 32),
    ) {
        // Neither a team's, where no rule says that it may loosen it, nor what is local.
        let below = if with_team { 2 } else { 1 };
        let [fewer, more] = [&levels[..below], &levels[..=below]].map(composed);
        let host = machine().0;
        for request in requests {
            let [fewer, more] = [&fewer, &more].map(|policy| eval(policy, &host, &request).verdict);
            prop_assert!(more >= fewer, "{:?}\n{:?}", request, levels);
        }
    }

    #[test]
    fn what_is_local_never_allows_more(
        levels in of_levels("    loosened_by: [team]\n"),
        requests in prop::collection::vec(request(), 32),
    ) {
        let [fewer, more] = [&levels[..2], &levels[..]].map(composed);
        let host = machine().0;
        for request in requests {
            let [fewer, more] = [&fewer, &more].map(|policy| eval(policy, &host, &request).verdict);
            prop_assert!(more >= fewer, "{:?}\n{:?}", request, levels);
        }
    }
}
