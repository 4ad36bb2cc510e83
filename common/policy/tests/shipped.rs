//! The policies that are shipped: their tests pass, and leave nothing of them out, and they are written as `fmt` writes them,
//! beside schemas of the language as it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use treeline_abi::paths::WORDS;
use treeline_policy::{
    Loader, MountTable, NotLoaded, Policy, Target, compile, lint, parse_tests, parse_with,
    policy::{Kind, Mode, PortRange, Rule},
    source::Source,
    syntax::{Document, format, schema},
    testing::{Untested, run},
};

/// Each policy with its tests: their names and texts.
fn shipped() -> Vec<[(String, String); 2]> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies");
    let entries = fs::read_dir(&folder).expect("policies are shipped");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"));
    let tests = names.filter_map(|name| name.strip_suffix(".test.yaml").map(str::to_owned));
    let text = |name: String| {
        let text = fs::read_to_string(folder.join(&name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        (name, text)
    };
    tests.map(|stem| [text(format!("{stem}.yaml")), text(format!("{stem}.test.yaml"))]).collect()
}

/// The text of a file beside them.
fn beside(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Reads what they include.
struct Folder;

impl Loader for Folder {
    fn load(&self, path: &str) -> Result<Source, NotLoaded> {
        Ok(Source::new(path, &beside(path)))
    }
}

fn policy((name, text): &(String, String)) -> Policy {
    parse_with(&Folder, Source::new(name, text), None).unwrap_or_else(|diagnostics| panic!("{diagnostics}"))
}

/// What the rules of a kind name, those in `monitor` and those that allow left out.
fn named(policy: &Policy, kind: &str) -> BTreeSet<String> {
    let rules = policy.rules.iter().filter(|rule| rule.mode == Mode::Enforce && rule.kind.name() == kind);
    rules.flat_map(|rule| rule.kind.globs()).map(|glob| glob.value.to_string()).collect()
}

#[test]
fn what_the_baseline_protects_is_in_the_lists_of_the_others() {
    let policies: BTreeMap<String, Policy> =
        shipped().iter().map(|[written, _]| (written.0.clone(), policy(written))).collect();
    let (baseline, ci) = (&policies["baseline.yaml"], &policies["ci.yaml"]);
    for kind in ["file", "connect"] {
        let missing: Vec<String> = named(baseline, kind).difference(&named(ci, kind)).cloned().collect();
        // A part of `~/.ssh/**`, which is in the list.
        let missing: Vec<&String> = missing.iter().filter(|glob| !glob.starts_with("~/.ssh/")).collect();
        assert!(missing.is_empty(), "not in policies/parts/lists.yaml: {missing:?}");
    }
    let part = beside("parts/lists.yaml");
    assert_eq!(
        format(&Source::new("parts/lists.yaml", &part)).expect("a part"),
        part,
        "run `treeline policy fmt`"
    );
}

#[test]
fn tests_pass_and_leave_nothing_out() {
    let shipped = shipped();
    assert!(!shipped.is_empty(), "the policies have been found");
    for [written, (name, text)] in &shipped {
        let file = parse_tests(Source::new(name, text)).unwrap_or_else(|diagnostics| panic!("{diagnostics}"));
        assert_eq!(file.policy.value, written.0);
        let results =
            run(&file, &policy(written), None).unwrap_or_else(|diagnostics| panic!("{diagnostics}"));
        assert_eq!(results.failed(), 0, "{}", results.failures());
        assert_eq!(results.untested, Untested::default(), "{name}: add a test of each");
    }
}

/// The policy with one thing less, or one that is wider, in one of its rules; each with what was changed. What the kernel is
/// asked is what tests are for: who is excepted, and from where, they name rule by rule.
fn mutants(policy: &Policy) -> Vec<(String, Policy)> {
    let mut mutants = Vec::new();
    let is_own = |rule: &Rule| !rule.id.contains('/') || rule.id.starts_with("default/");
    for (index, rule) in policy.rules.iter().enumerate().filter(|(_, rule)| is_own(rule)) {
        let mut with = |what: String, kind: Kind| {
            let mut mutant = policy.clone();
            mutant.rules[index].kind = kind;
            mutants.push((format!("{}: without {what}", rule.id), mutant));
        };
        match &rule.kind {
            Kind::File { paths, operations } => {
                for (less, glob) in less_one(paths) {
                    with(glob.value.to_string(), Kind::File { paths: less, operations: *operations });
                }
            }
            Kind::Exec { paths, sha256 } => {
                for (less, glob) in less_one(paths) {
                    with(glob.value.to_string(), Kind::Exec { paths: less, sha256: sha256.clone() });
                }
            }
            Kind::Connect { to, ports, except_to, unix, abstracts } => {
                let connect = |to: &[_], ports: &[_], unix: &[_], abstracts: &[_]| Kind::Connect {
                    to: to.to_vec(),
                    ports: ports.to_vec(),
                    except_to: except_to.clone(),
                    unix: unix.to_vec(),
                    abstracts: abstracts.to_vec(),
                };
                for (less, net) in less_one(to) {
                    with(net.value.to_string(), connect(&less, ports, unix, abstracts));
                }
                for (less, glob) in less_one(unix) {
                    with(glob.value.to_string(), connect(to, ports, &less, abstracts));
                }
                for (less, name) in less_one(abstracts) {
                    with(format!("{:?}", name.value), connect(to, ports, unix, &less));
                }
                let all = PortRange { first: 0, last: u16::MAX };
                if *ports != [all] {
                    with("limits to its ports".to_owned(), connect(to, &[all], unix, abstracts));
                }
            }
            _ => {}
        }
    }
    mutants
}

/// A list less each of its items, where others are left.
fn less_one<T: Clone>(items: &[T]) -> impl Iterator<Item = (Vec<T>, &T)> {
    let items_left = move |at: usize| [&items[..at], &items[at + 1..]].concat();
    items.iter().enumerate().filter(|_| items.len() > 1).map(move |(at, item)| (items_left(at), item))
}

/// That the others have what the baseline names is a test of its own, and so is what a broker's parts are.
#[test]
fn whatever_is_taken_out_a_test_fails() {
    let mut unnoticed = Vec::new();
    let shipped = shipped();
    let baseline = shipped.iter().find(|[written, _]| written.0 == "baseline.yaml").expect("shipped");
    let of_baseline = ["file", "connect"]
        .map(|kind| named(&policy(&baseline[0]), kind))
        .into_iter()
        .flatten()
        .collect::<BTreeSet<String>>();
    for [written, (name, text)] in &shipped {
        let (file, policy) = (parse_tests(Source::new(name, text)).expect("valid tests"), policy(written));
        for (what, mutant) in mutants(&policy) {
            if written.0 != "baseline.yaml"
                && of_baseline.iter().any(|one| what.ends_with(&format!(" {one}")))
            {
                continue;
            }
            if run(&file, &mutant, None).is_ok_and(|results| results.failed() == 0) {
                unnoticed.push(format!("{name}: {what}"));
            }
        }
    }
    assert!(unnoticed.is_empty(), "{} times no test fails:\n{}", unnoticed.len(), unnoticed.join("\n"));
}

#[test]
fn they_fit_and_have_no_warnings() {
    for [written, (name, text)] in &shipped() {
        let (file, policy) = (parse_tests(Source::new(name, text)).expect("valid tests"), policy(written));
        let found = lint(&policy, None).finish().found;
        assert!(found.is_empty(), "{found}");
        let target = Target { seed: 1, generation: 1, slot: 0 };
        for mounts in [&MountTable::single(1), &file.machine.mounts] {
            let usage = compile(&policy, &file.machine.host, mounts, target).expect("it fits").usage();
            assert!(usage.words <= WORDS * 3 / 4, "room is left for local rules: {usage:?}");
        }
    }
}

#[test]
fn they_are_in_canonical_form_and_name_their_schema() {
    for (name, text) in shipped().iter().flatten() {
        let printed = format(&Source::new(name, text)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(&printed, text, "run `treeline policy fmt policies/{name}`");
        let schema = if name.ends_with(".test.yaml") { "test" } else { "policy" };
        let line = format!("# yaml-language-server: $schema={schema}.schema.json\n");
        assert!(text.starts_with(&line), "{name} begins with `{line}`");
    }
}

#[test]
fn schemas_are_those_of_the_language() {
    for (of, name) in Document::ALL.into_iter().zip(["policy", "part", "test"]) {
        let made = serde_json::to_string_pretty(&schema(of)).expect("JSON");
        let file = format!("{name}.schema.json");
        let again = format!("run `treeline policy schema {name} > policies/{file}`");
        assert_eq!(beside(&file), format!("{made}\n"), "{again}");
    }
}
