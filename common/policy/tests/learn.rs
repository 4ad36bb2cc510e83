//! What was learned from sessions lets them pass, nothing without which they would pass, and nothing that is protected.

use std::{collections::BTreeSet, sync::Arc};

use proptest::prelude::*;
use treeline_event::{
    Action, Ancestry, Destination, Entry, EntryBody, FileRef, Image, Mode, OpenFlags, Origin, Outcome,
    PathBytes, Process, ProcessKey, Program, RuleHit, SessionId, Timestamp, Verdict,
};
use treeline_policy::{
    Home, Host, Policy,
    learn::{Kind, Learned, Learner, NotLearned, Options, Why},
    parse,
    policy::Kind as RuleKind,
    replay::{Replay, Report},
    syntax::format,
};

const PROTECTED: &str = "
version: 1
name: protected
rules:
  - {id: keys, kind: file, paths: [~/.ssh/**, /etc/shadow], reason: r, except: [{executable: /usr/bin/ssh}, {executable: /usr/bin/git}, {executable: ~/bin/*}]}
  - {id: tunnels, kind: exec, paths: [/usr/bin/nc], reason: r}
  - {id: metadata, kind: connect, to: [169.254.169.254], ports: [80], reason: r}
  - {id: docker, kind: connect, unix: [/run/docker.sock], reason: r}
";

fn host() -> Host {
    let home = |uid, path: &str| Home { uid, path: path.into() };
    Host { homes: vec![home(0, "/root"), home(1000, "/home/ada")] }
}

fn options(enforces: bool) -> Options {
    Options { name: "learned".into(), enforces, kinds: Kind::ALL.into_iter().collect(), siblings: 4 }
}

/// Who acts, by the number of the process.
const PROGRAMS: [&str; 4] = ["/usr/bin/git", "/usr/bin/ssh", "/home/ada/bin/tool", ""];

/// What a process did.
#[derive(Clone, Debug)]
struct Did {
    by: usize,
    session: u64,
    action: Action,
    verdict: Verdict,
}

fn file(path: &[u8]) -> FileRef {
    FileRef { path: PathBytes::from(path), mode: Some(0o100_644), ..FileRef::default() }
}

fn open(path: &[u8], flags: u32) -> Action {
    Action::Open { file: file(path), flags: OpenFlags(flags), outcome: Outcome::Ok, count: 2 }
}

fn connect(address: [u8; 4], port: u16) -> Action {
    Action::Connect { to: Destination::V4(address.into(), port), outcome: Outcome::Ok }
}

fn unix(path: &[u8]) -> Action {
    Action::Connect { to: Destination::Unix(path.into()), outcome: Outcome::Ok }
}

fn entry(index: usize, did: &Did) -> Entry {
    let image = Image { path: PROGRAMS[did.by].into(), seen_by_kernel: true, ..Image::default() };
    let program = Program { image, ..Program::default() };
    let key = ProcessKey { pid: did.by as u32 + 1, start_ticks: 1 };
    let process = Arc::new(Process { key, uid: 1000, program: Arc::new(program), ..Process::default() });
    let (ancestry, action, verdict) = (Ancestry::Links([].into()), did.action.clone(), did.verdict);
    Entry {
        origin: Origin::default().into(),
        index: index as u64,
        generation: 1,
        time: Timestamp { boot_ns: 0, wall_ms: 1 },
        session: Some(SessionId(did.session)),
        body: EntryBody::Act { process, ancestry, action, verdict, rule: None },
        cut: None,
    }
}

fn hit() -> RuleHit {
    RuleHit {
        rule: String::new(),
        reason: String::new(),
        mode: Mode::Enforce,
        policy: String::new(),
        generation: 1,
        remedy: None,
        link: None,
        approvable_s: None,
        approved: false,
    }
}

fn did(by: usize, action: Action) -> Did {
    Did { by, session: 1, action, verdict: Verdict::Allow }
}

fn learn(dids: &[Did], options: &Options) -> Result<Learned, NotLearned> {
    let protected = parse("protected", PROTECTED).expect("valid");
    let host = host();
    let mut learner = Learner::new(options, &protected, &host);
    dids.iter().enumerate().for_each(|(index, did)| learner.take(&entry(index, did)));
    let many = (0..11).map(|uid| Home { uid, path: format!("/home/user-{uid}").into_bytes() });
    learner.finish(&[Host { homes: many.collect() }], &|path| path.starts_with(b"/usr/"))
}

fn policy(learned: &Learned) -> Policy {
    match parse("learned", &learned.text) {
        Ok(policy) => policy,
        Err(found) => panic!("{}\n{}", found.render(false), learned.text),
    }
}

fn replay(policy: &Policy, dids: &[Did]) -> Report {
    let host = host();
    let mut replay = Replay::new(policy, &host);
    dids.iter().enumerate().for_each(|(index, did)| replay.take(&entry(index, did)));
    replay.finish()
}

/// The rules that allow, as `kind [only]: patterns`, sorted.
fn allowed(policy: &Policy) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for rule in policy.rules.iter().filter(|rule| rule.allows && rule.id != "system-libraries") {
        let only: Vec<String> = rule
            .only
            .iter()
            .filter_map(|item| item.own.path.as_ref())
            .map(|path| format!(" only {path}"))
            .collect();
        let operations = rule.kind.operation_names().join(",");
        let mut patterns: Vec<String> = rule.kind.globs().iter().map(|glob| glob.value.to_string()).collect();
        if let RuleKind::Connect { to, ports, abstracts, .. } = &rule.kind {
            let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
            patterns.extend(to.iter().map(|net| format!("{} {}", net.value, ports.join(","))));
            patterns.extend(
                abstracts.iter().map(|glob| format!("@{}", String::from_utf8_lossy(&glob.value.prefix))),
            );
        }
        found.extend(patterns.into_iter().map(|pattern| format!("{operations} {pattern}{}", only.concat())));
    }
    found
}

#[track_caller]
fn check(dids: &[Did], expect: &[&str], left: &[(Why, usize)]) {
    let learned = learn(dids, &options(true)).expect("learned");
    let found = allowed(&policy(&learned));
    assert_eq!(found, expect.iter().map(|text| (*text).to_owned()).collect(), "{}", learned.text);
    assert_eq!(learned.left.into_iter().collect::<Vec<_>>(), left);
}

#[test]
fn what_was_done_is_generalised() {
    let numbered = |number: u32| format!("/home/ada/work/app/src/file-{number}a.rs").into_bytes();
    let files: Vec<Did> = (0..3).map(|number| did(0, open(&numbered(number), 1))).collect();
    check(&files, &["write ~/work/app/src/file-*a.rs only /usr/bin/git"], &[]);
    let entries = |names: &[&str], flags| -> Vec<Did> {
        names.iter().map(|name| did(2, open(format!("/srv/data/{name}").as_bytes(), flags))).collect()
    };
    check(&entries(&["a", "b", "c"], 0), &["read /srv/data/a", "read /srv/data/b", "read /srv/data/c"], &[]);
    check(&entries(&["a", "b", "c", "d"], 0), &["read /srv/data/*"], &[]);
    check(&entries(&["a/x", "b/y", "c", "d"], 0), &["read /srv/data/**"], &[]);
    check(&[did(2, open(b"/tmp/tmp.aB3dE9fG1h/x", 2))], &["read /tmp/tmp.*/x", "write /tmp/tmp.*/x"], &[]);
    check(
        &[did(3, connect([10, 0, 0, 1], 443)), did(3, unix(b"/run/user/1000/bus"))],
        &["connect 10.0.0.1/32 443", "connect-unix /run/user/*/bus"],
        &[],
    );
    check(
        &[did(0, Action::ExecDenied { file: file(b"/usr/bin/make") })],
        &["exec /usr/bin/make only /usr/bin/git"],
        &[],
    );
}

#[test]
fn who_did_it_counts_where_nobody_else_can_be_it() {
    let write = |by| did(by, open(b"/srv/x", 1));
    check(&[write(0)], &["write /srv/x only /usr/bin/git"], &[]);
    check(&[write(0), write(1)], &["write /srv/x"], &[]);
    check(&[write(2)], &["write /srv/x"], &[]);
    check(&[write(0), write(3)], &["write /srv/x"], &[]);
}

#[test]
fn what_is_protected_is_told_and_not_allowed() {
    let keys = || Why::Protected("keys".into());
    let some = did(0, open(b"/srv/x", 0));
    let key = open(b"/home/ada/.ssh/id", 0);
    // Each of those who have an exception is named, but for the one that its user can replace.
    let all = [some.clone(), did(0, key.clone()), did(1, key.clone()), did(2, key)];
    let expect = [
        "read /srv/x only /usr/bin/git",
        "read ~/.ssh/id only /usr/bin/git",
        "read ~/.ssh/id only /usr/bin/ssh",
    ];
    check(&all, &expect, &[(keys(), 1)]);
    // A directory with something protected in it stands for nothing, whatever was done there.
    let in_home: Vec<Did> =
        (b'a'..b'i').map(|name| did(2, open(&[b"/home/ada/.", &[name][..], b"/x"].concat(), 0))).collect();
    let learned = learn(&in_home, &options(true)).expect("learned");
    let is_apart = |pattern: &String| pattern.starts_with("read ~/.") && !pattern.contains('*');
    assert!(allowed(&policy(&learned)).iter().all(is_apart), "{}", learned.text);
    let others = [
        some,
        did(0, Action::ExecDenied { file: file(b"/usr/bin/nc") }),
        did(0, connect([169, 254, 169, 254], 80)),
        did(0, unix(b"/run/docker.sock")),
    ];
    let why = |rule: &str| (Why::Protected(rule.to_owned()), 1);
    check(&others, &["read /srv/x only /usr/bin/git"], &[why("docker"), why("metadata"), why("tunnels")]);
    let refused = Did { verdict: Verdict::Deny, ..did(0, open(b"/srv/y", 0)) };
    check(&[did(2, open(b"/srv/x", 0)), refused], &["read /srv/x"], &[(Why::Refused(String::new()), 1)]);
    let mut approved = entry(1, &did(0, open(b"/srv/y", 0)));
    if let EntryBody::Act { verdict, rule, .. } = &mut approved.body {
        let hit = RuleHit { rule: "team".into(), approved: true, ..hit() };
        (*verdict, *rule) = (Verdict::Audit, Some(Arc::new(hit)));
    }
    let (protected, host, options) = (parse("protected", PROTECTED).expect("valid"), host(), options(true));
    let mut learner = Learner::new(&options, &protected, &host);
    [entry(0, &did(2, open(b"/srv/x", 0))), approved].iter().for_each(|entry| learner.take(entry));
    let learned = learner.finish(&[Host::default()], &|_| true).expect("learned");
    assert_eq!(learned.left, [(Why::Approved("team".into()), 1)].into());
    assert!(learned.text.contains("approved of it, against the rule `team`:"), "{}", learned.text);
    check(&[did(2, open(b"/", 0)), did(2, open(b"/a", 0))], &["read /a"], &[(Why::Unnameable, 1)]);
}

#[test]
fn the_text_says_what_it_stands_on() {
    let dids = [
        did(0, open(b"/srv/x", 0)),
        did(1, open(b"/home/ada/.ssh/id", 1)),
        did(2, open(b"/root/.ssh/id", 0)),
    ];
    let learned = learn(&dids, &options(false)).expect("learned");
    let parts = [
        "# Learned from 3 entries of 1 sessions",
        "# A trial",
        "action: record",
        "# 2 times in 1 session",
        "It alone did this.",
        "# protected by the rule `keys` of the baseline:",
        "# read /root/.ssh/id: 2 times, by /home/ada/bin/tool",
        "# - libraries and other executable mappings",
    ];
    for part in parts {
        assert!(learned.text.contains(part), "{part}\n{}", learned.text);
    }
    assert!(!learned.text.contains("action: deny"), "{}", learned.text);
    assert!(policy(&learned).warnings.is_empty(), "{}", policy(&learned).warnings.render(false));
}

#[test]
fn without_anything_done_nothing_is_learned() {
    assert_eq!(learn(&[], &options(true)), Err(NotLearned::Nothing));
    let only_exec = Options { kinds: BTreeSet::from([Kind::Exec]), ..options(true) };
    assert_eq!(learn(&[did(0, open(b"/a", 0))], &only_exec), Err(NotLearned::Nothing));
}

#[test]
fn what_has_no_room_is_widened_until_it_has() {
    let names =
        |number: u32| format!("/srv/d{number}/{}-{number:04}.sock", char::from(b'a' + (number % 26) as u8));
    let dids: Vec<Did> = (0..300).map(|number| did(2, open(names(number).as_bytes(), 1))).collect();
    let learned = learn(&dids, &Options { siblings: 1000, ..options(true) }).expect("learned");
    assert!(replay(&policy(&learned), &dids).would_deny.is_none());
    // A hundred names with a `*` each, all different, in directories that have nothing in common.
    let word = |number: u32| -> String {
        (0..4).map(|at| char::from(b'a' + (number >> (2 * at) & 3) as u8)).collect()
    };
    let dids: Vec<Did> = (0..100)
        .map(|number| did(2, open(format!("/srv/{}/{}-12345", word(number + 7), word(number)).as_bytes(), 1)))
        .collect();
    let learned = learn(&dids, &Options { siblings: 1000, ..options(true) }).expect("learned");
    assert!(learned.is_widened && learned.text.contains("# WIDENED"), "{}", learned.text);
    assert!(replay(&policy(&learned), &dids).would_deny.is_none());
}

#[test]
fn what_would_be_too_long_a_text_is_widened_or_too_much() {
    let letters = |number: u32| (0..8).map(move |at| char::from(b'g' + (number >> (2 * at) & 3) as u8));
    let name = |number: u32| letters(number).collect::<String>() + &"z".repeat(240);
    let used = |dir: &str| -> Vec<Did> {
        (0..4200).map(|number| did(2, open(format!("{dir}/{}", name(number)).as_bytes(), 0))).collect()
    };
    let options = Options { siblings: 100_000, ..options(false) };
    let learned = learn(&used("/srv/d"), &options).expect("learned");
    assert!(learned.is_widened && learned.text.contains("- /srv/d/*"), "{}", learned.text);
    // Entries of /etc have little to do with each other, however many they are.
    let Err(NotLearned::NoRoom(why)) = learn(&used("/etc"), &options) else { panic!("it has room") };
    assert!(why.contains(" bytes"), "{why}");
}

const NAMES: &[&str] = &["a", "b", "c", "lib-1.so", "lib-2.so", "lib-3.so", "1234", ".ssh", "x86"];
const ROOTS: &[&str] = &["", "/home/ada", "/root", "/usr/lib", "/proc", "/tmp", "/etc"];

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => prop::sample::select(NAMES).prop_map(|name| name.as_bytes().to_vec()),
        2 => prop::collection::vec(any::<u8>(), 1..40),
        1 => "[a-z0-9]{1,12}".prop_map(String::into_bytes),
    ]
    .prop_map(|mut name| {
        name.retain(|byte| *byte != b'/' && *byte != 0);
        if name.is_empty() || name == b"." || name == b".." { b"n".to_vec() } else { name }
    })
}

fn path() -> impl Strategy<Value = Vec<u8>> {
    (prop::sample::select(ROOTS), prop::collection::vec(name(), 1..5)).prop_map(|(root, names)| {
        names.into_iter().fold(root.as_bytes().to_vec(), |path, name| [path.as_slice(), b"/", &name].concat())
    })
}

fn action() -> impl Strategy<Value = Action> {
    let ok = Outcome::Ok;
    prop_oneof![
        (path(), 0..3_u32).prop_map(|(path, flags)| open(&path, flags)),
        path().prop_map(move |path| Action::Create { file: file(&path), target: None, outcome: ok }),
        path().prop_map(move |path| Action::Delete { file: file(&path), outcome: ok }),
        (path(), path()).prop_map(move |(from, to)| Action::Rename {
            from: file(&from),
            to: file(&to),
            outcome: ok
        }),
        path().prop_map(|path| Action::ExecDenied { file: file(&path) }),
        (0..3_u8, 0..6_u8, prop::sample::select(&[22_u16, 80, 443, 8080][..]))
            .prop_map(|(block, last, port)| connect([10, 0, block, last], port)),
        path().prop_map(|path| unix(&path)),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(move |name| Action::Connect {
            to: Destination::Abstract(name.as_slice().into()),
            outcome: ok
        }),
    ]
}

fn dids() -> impl Strategy<Value = Vec<Did>> {
    let did = (0..PROGRAMS.len(), 1..4_u64, action());
    prop::collection::vec(
        did.prop_map(|(by, session, action)| Did { by, session, action, verdict: Verdict::Allow }),
        1..60,
    )
}

/// The policy without one of the patterns of its rules that allow.
fn without_each(policy: &Policy) -> Vec<Policy> {
    let mut fewer = Vec::new();
    for (at, rule) in policy.rules.iter().enumerate() {
        if !rule.allows || rule.id == "system-libraries" {
            continue;
        }
        let mut without = |remove: &dyn Fn(&mut RuleKind)| {
            let mut policy = policy.clone();
            remove(&mut policy.rules[at].kind);
            fewer.push(policy);
        };
        match &rule.kind {
            RuleKind::File { paths, .. } | RuleKind::Exec { paths, .. } => {
                for one in 0..paths.len() {
                    without(&|kind| match kind {
                        RuleKind::File { paths, .. } | RuleKind::Exec { paths, .. } => {
                            drop(paths.remove(one));
                        }
                        _ => {}
                    });
                }
            }
            RuleKind::Connect { to, unix, abstracts, .. } => {
                for one in 0..to.len() + unix.len() + abstracts.len() {
                    let (to_len, unix_len) = (to.len(), unix.len());
                    without(&|kind| {
                        if let RuleKind::Connect { to, unix, abstracts, .. } = kind {
                            match one {
                                _ if one < to_len => drop(to.remove(one)),
                                _ if one < to_len + unix_len => drop(unix.remove(one - to_len)),
                                _ => drop(abstracts.remove(one - to_len - unix_len)),
                            }
                        }
                    });
                }
            }
            _ => {}
        }
    }
    fewer
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_learned_lets_pass_what_was_done_and_nothing_of_it_is_idle(dids in dids(), siblings in 2..6_usize) {
        let options = Options { siblings, ..options(true) };
        let learned = match learn(&dids, &options) {
            Err(NotLearned::Nothing) => return Ok(()),
            learned => learned.expect("learned"),
        };
        let mut policy = policy(&learned);
        // It is for what no log has, so the rest has to do without it.
        policy.rules.retain(|rule| rule.id != "system-libraries");
        let source = treeline_policy::source::Source::new("learned", &learned.text);
        prop_assert_eq!(&format(&source).expect("formatted"), &learned.text);
        // What was left out is refused, and nothing else.
        let passed: Vec<Did> = dids
            .iter()
            .filter(|did| {
                let one = learn(std::slice::from_ref(did), &options);
                one.is_ok_and(|one| one.left.is_empty())
            })
            .cloned()
            .collect();
        let report = replay(&policy, &passed);
        prop_assert!(report.would_deny.is_none(), "{:#?}\n{}", report.rules, learned.text);
        let denied = replay(&policy, &dids).would_deny.entries;
        for fewer in without_each(&policy) {
            prop_assert!(replay(&fewer, &dids).would_deny.entries > denied || more_objects(&fewer, &policy, &dids), "{}", learned.text);
        }
    }

    #[test]
    fn the_order_in_which_things_were_done_does_not_matter(dids in dids(), rotate in 0..60_usize) {
        let mut others = dids.clone();
        others.rotate_left(rotate % dids.len());
        others.reverse();
        prop_assert_eq!(learn(&dids, &options(true)), learn(&others, &options(true)));
    }

    #[test]
    fn what_is_protected_is_refused_as_before(dids in dids(), name in path()) {
        let learned = match learn(&dids, &options(true)) {
            Err(NotLearned::Nothing) => return Ok(()),
            learned => learned.expect("learned"),
        };
        let policy = policy(&learned);
        let inside = [b"/home/ada/.ssh".as_slice(), &name].concat();
        let key = [did(2, open(&inside, 2)), did(2, open(b"/etc/shadow", 0)), did(0, connect([169, 254, 169, 254], 80))];
        for did in key {
            let report = replay(&policy, std::slice::from_ref(&did));
            prop_assert_eq!(report.would_deny.entries, 1, "{:?}\n{}", did, learned.text);
        }
    }
}

/// An action asks about several objects, and one that is refused is enough: so each object is asked about alone.
fn more_objects(fewer: &Policy, policy: &Policy, dids: &[Did]) -> bool {
    let single = |did: &Did| -> Vec<Did> {
        let with = |action| Did { action, ..did.clone() };
        match &did.action {
            Action::Open { file, flags: OpenFlags(2), .. } => {
                vec![with(open(file.path.as_bytes(), 0)), with(open(file.path.as_bytes(), 1))]
            }
            Action::Rename { from, to, outcome } => {
                let same = |file: &FileRef| Action::Rename {
                    from: file.clone(),
                    to: file.clone(),
                    outcome: *outcome,
                };
                vec![with(same(from)), with(same(to))]
            }
            _ => vec![did.clone()],
        }
    };
    let dids: Vec<Did> = dids.iter().flat_map(single).collect();
    replay(fewer, &dids).would_deny.entries > replay(policy, &dids).would_deny.entries
}
