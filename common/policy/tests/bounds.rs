//! What does not fit into the kernel's tables is refused, by rule and with the bound; nothing takes long.

use treeline_policy::{Home, Host, MountTable, Policy, Target, compile, diagnostic::Report, parse};

fn read(rules: &str) -> Policy {
    let text = format!("version: 1\nname: t\nrules:\n{rules}");
    parse("t", &text).unwrap_or_else(|diagnostics| panic!("{diagnostics}"))
}

/// Compiles for one filesystem and one home, and checks a part of the one error.
#[track_caller]
fn check_refused(rules: &str, message: &str) -> Report {
    let host = Host { homes: vec![Home { uid: 0, path: b"/root".to_vec() }] };
    let target = Target { seed: 1, generation: 1, slot: 0 };
    let refused = compile(&read(rules), &host, &MountTable::single(1), target).map(|tables| tables.usage());
    let diagnostics = refused.expect_err("more than fits");
    let mut reports: Vec<_> = diagnostics.reports().collect();
    assert_eq!(reports.len(), 1, "{diagnostics}");
    assert!(reports[0].message.contains(message), "{diagnostics}");
    reports.remove(0)
}

fn list(count: usize, item: impl Fn(usize) -> String) -> String {
    (0..count).map(|index| format!("\"{}\"", item(index))).collect::<Vec<_>>().join(", ")
}

fn file(id: &str, paths: &str) -> String {
    format!("  - {{id: {id}, kind: file, reason: r, paths: [{paths}]}}\n")
}

#[test]
fn bounds() {
    let no_merge = |index: usize| format!("/a{index}/**/b{index}/c/**");
    check_refused(&file("big", &list(300, no_merge)), "1024 positions");
    check_refused(&file("names", &list(4097, |index| format!("**/n{index}"))), "4097 different names");
    check_refused(&file("wilds", &list(65, |index| format!("/a/{index}*"))), "65 different names with `*`");
    check_refused(&file("tree", &list(40_000, |index| format!("/n{index}"))), "more than 32768 entries");
    // What each of two names at each of fifteen depths leads to is a state of its own.
    let halves = |index: usize| {
        let name = |depth: usize| if depth == index { "/x" } else { "/*" };
        (0..15).map(name).chain([format!("/e{index}").as_str()]).collect::<String>()
    };
    check_refused(&file("states", &list(15, halves)), "more than 32768 entries");
    check_refused(&file("deep", &format!("\"~{}\"", "/a".repeat(63))), "`deep` has 64 components");

    let except = |index: usize| {
        format!(
            "  - {{id: r-{index}, kind: file, reason: r, paths: [/a], except: [{{executable: /e{index}}}]}}\n"
        )
    };
    check_refused(&(0..65).map(except).collect::<String>(), "64 that the kernel knows");

    let below = |index: usize| format!("{{descendant_of: {{executable: /e{index}}}}}");
    let only = |count: usize| {
        let items: Vec<String> = (0..count).map(below).collect();
        format!("  - {{id: below, kind: file, reason: r, paths: [/a], only: [{}]}}\n", items.join(", "))
    };
    check_refused(&only(65), "64 that the kernel knows");
    let hash = "1".repeat(64);
    let by_hash = |id: &str| format!("  - {{id: {id}, kind: exec, reason: r, sha256: [\"{hash}\"]}}\n");
    check_refused(&(by_hash("one") + &by_hash("two")), "in `one` as well as in `two`");
    let twice = check_refused(&(by_hash("two") + &by_hash("one")), "in `one` as well as in `two`");
    assert_eq!((twice.position.line, twice.related[0].position.line), (4, 5));

    let connect = |to: &str, ports: &str| {
        format!("  - {{id: net, kind: connect, reason: r, to: [{to}], ports: [{ports}]}}\n")
    };
    let address = |index: usize| format!("10.0.{}.{}", index / 256, index % 256);
    check_refused(&connect(&list(1025, address), "80"), "1025 IPv4 blocks");
    let names = |count| {
        format!(
            "  - {{id: names, kind: connect, reason: r, unix: [{}]}}\n",
            list(count, |index| format!("@{index}"))
        )
    };
    check_refused(&names(65), "65 abstract names");
    check_refused(&connect("10.0.0.0/8", &list(17, |index| format!("{}", index * 2))), "17 port ranges");
}

#[test]
fn what_fits_exactly() {
    let host = Host::default();
    let target = Target { seed: 1, generation: 7, slot: 1 };
    let fits = |rules: &str| {
        compile(&read(rules), &host, &MountTable::single(1), target)
            .unwrap_or_else(|diagnostics| panic!("{diagnostics}"))
    };
    let tables = fits(&file("names", &list(4096, |index| format!("**/n{index}"))));
    assert_eq!((tables.usage().names, tables.usage().words, tables.usage().lists), (4096, 0, 1));
    assert_eq!(fits(&file("tree", &list(32_768, |index| format!("/n{index}")))).usage().edges, 32_768);
    assert_eq!((tables.table.generation, tables.table.enforcing), (7, 1));
    let connect = "  - {id: net, kind: connect, reason: r, to: [10.0.0.1]}\n";
    assert_eq!(fits(connect).table.enforcing, 1);
    assert_eq!(fits(&file("wilds", &list(64, |index| format!("/a/{index}*")))).usage().wilds, 64);
    let below: Vec<String> = (0..64).map(|n| format!("{{descendant_of: {{executable: /e{n}}}}}")).collect();
    let below = below.join(", ");
    let only = format!(
        "  - {{id: below, kind: file, reason: r, paths: [/a], only: [{below}], except: [{below}]}}\n"
    );
    assert_eq!(fits(&only).usage().lineages, 64);
    assert_eq!(fits("  []\n").usage(), Default::default());
}

#[test]
fn what_is_unresolved_is_denied_by_a_rule_that_could_be_about_it() {
    let rule = |id: &str, what: &str| format!("  - {{id: {id}, reason: r, {what}}}\n");
    let file = |id| rule(id, "kind: file, paths: [/a]");
    let exec = |id| rule(id, "kind: exec, paths: [/a]");
    let by_hash = rule("a", &format!("kind: exec, sha256: [\"{}\"]", "1".repeat(64)));
    let socket = |id| rule(id, "kind: connect, unix: [/a]");
    let elsewhere = rule("a", "kind: connect, to: [10.0.0.1], unix: [\"@name\"]");
    let monitor = rule("a", "kind: exec, paths: [/a], mode: monitor");
    let check = |rules: String, expect: [u32; 4]| {
        let target = Target { seed: 1, generation: 1, slot: 0 };
        let table = compile(&read(&rules), &Host::default(), &MountTable::single(1), target)
            .unwrap_or_else(|diagnostics| panic!("{diagnostics}"))
            .table;
        let by = [table.unresolved_files, table.unresolved_exec, table.unresolved_connect];
        assert_eq!([by[0], by[1], by[2], table.foreign_ring], expect, "{rules}");
    };
    check(file("a"), [1, 1, 1, 1]);
    check(exec("a"), [0, 1, 0, 0]);
    check(socket("a"), [0, 0, 1, 1]);
    check(exec("a") + &file("b") + &socket("c"), [2, 1, 2, 2]);
    check(exec("b") + &socket("a"), [0, 2, 1, 1]);
    check(by_hash, [0; 4]);
    check(elsewhere, [0, 0, 0, 1]);
    check(monitor, [0; 4]);
}

#[test]
fn five_hundred_rules_for_ten_users() {
    let homes =
        (0..10).map(|user| Home { uid: 1000 + user, path: format!("/home/user-{user}").into_bytes() });
    let host = Host { homes: homes.chain([Home { uid: 0, path: b"/root".to_vec() }]).collect() };
    let rule = |index: usize| {
        let paths = format!("\"~/.tool-{index}/**\", \"~/work/*/secret-{index}/**\", \"**/.env-{index}\"");
        file(&format!("r-{index}"), &paths)
    };
    let policy = read(&(0..500).map(rule).collect::<String>());
    let target = Target { seed: 1, generation: 1, slot: 0 };
    let usage = compile(&policy, &host, &MountTable::single(1), target)
        .unwrap_or_else(|diagnostics| panic!("{diagnostics}"))
        .usage();
    // All homes' projects are on one way, whose names are those of the homes and of what is above them.
    assert_eq!((usage.rules, usage.words, usage.patterns, usage.names), (500, 1, 2, 513));
    // The homes share what is below them.
    assert!(usage.edges < 2_000 && usage.lists <= 1_500, "{usage:?}");
}

#[test]
fn ways_for_which_there_is_no_room_are_left_out_by_name() {
    let rule = |index: usize| file(&format!("r-{index:03}"), &format!("/a-{index}/*/b/**"));
    let left_out = |rules: usize| {
        let policy = read(&(0..rules).map(rule).collect::<String>());
        let target = Target { seed: 1, generation: 1, slot: 0 };
        let tables = compile(&policy, &Host::default(), &MountTable::single(1), target)
            .unwrap_or_else(|diagnostics| panic!("{diagnostics}"));
        (tables.usage().words, tables.ways_left_out.len())
    };
    // Three positions each, 21 in a word.
    assert_eq!(left_out(16 * 21), (16, 0));
    assert_eq!(left_out(16 * 21 + 4), (16, 4));
}

#[test]
fn a_path_on_no_filesystem_is_refused() {
    let nowhere = MountTable::default();
    let target = Target { seed: 1, generation: 1, slot: 0 };
    let refused = compile(&read(&file("lost", "/etc/x")), &Host::default(), &nowhere, target)
        .map(|tables| tables.usage());
    assert!(refused.expect_err("no place").to_string().contains("on no filesystem"));
}

#[test]
fn large_texts_are_read_in_time() {
    // Each would take long if items were compared with every other.
    let long = list(20_000, |index| format!("/{index}"));
    assert!(parse("t", &format!("version: 1\nname: t\nrules:\n{}", file("a", &long))).is_ok());
    let blocks = list(20_000, |index| format!("10.{}.{}.0/24", index / 256, index % 256));
    check_refused(&format!("  - {{id: n, kind: connect, reason: r, to: [{blocks}]}}\n"), "20000 IPv4 blocks");
}

#[test]
fn as_many_lifts_as_fit() {
    let rule = |n: usize| {
        format!("  - {{id: r-{n:03}, kind: file, paths: [/a/{n}/**], except_paths: [/a/{n}/b], reason: r}}\n")
    };
    let rules = |count: usize| (0..count).map(rule).collect::<String>();
    let fits = read(&rules(256));
    let tables =
        compile(&fits, &Host::default(), &MountTable::single(1), Target { seed: 1, generation: 1, slot: 0 });
    assert_eq!(tables.expect("it fits").usage().lifts, 256);
    let refused = check_refused(&rules(257), "`r-256` is one more rule that allows");
    assert_eq!(refused.code, treeline_policy::Code::NoRoom);
}
