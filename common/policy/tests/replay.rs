//! What is recorded under a policy is what a replay of that policy says.

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;
use treeline_event::{
    Action, Ancestry, AttachMode, Destination, Digest, Entry, EntryBody, FileId, FileRef, Group, Image, Mode,
    Notice, OpenFlags, Origin, Outcome, Process, ProcessKey, Program, RuleHit, SessionAttributes, SessionId,
    Timestamp, Verdict,
};
use treeline_policy::{
    Executed, Host, Lineage, Object, Policy, Request, Session, Subject, eval, parse,
    policy::FileOperation,
    replay::{Doubt, Replay, Report, RuleReport},
};

/// A session as a machine with a perfect sensor records it.
struct Recorder<'p> {
    policy: &'p Policy,
    entries: Vec<Entry>,
    running: BTreeMap<u32, (String, Vec<String>)>,
}

const SESSION: SessionId = SessionId(7);

fn key(pid: u32) -> ProcessKey {
    ProcessKey { pid, start_ticks: 1 }
}

fn attributes() -> SessionAttributes {
    let groups = vec![Group { gid: 50, name: Some("ops".into()) }];
    SessionAttributes {
        uid: Some(1000),
        user: Some("ada".into()),
        groups: Some(groups),
        ..Default::default()
    }
}

fn image(path: &str) -> Image {
    let inode = path.bytes().fold(7, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    Image {
        path: path.into(),
        file: FileId { inode, ..FileId::default() },
        digest: Digest::Sha256([path.len() as u8; 32]),
        seen_by_kernel: true,
        ..Image::default()
    }
}

fn process(pid: u32, path: &str) -> Arc<Process> {
    let program = Program { image: image(path), ..Program::default() };
    Arc::new(Process { key: key(pid), uid: 1000, program: Arc::new(program), ..Process::default() })
}

fn file(path: &str) -> FileRef {
    FileRef { path: path.into(), mode: Some(0o100_644), ..FileRef::default() }
}

impl<'p> Recorder<'p> {
    fn new(policy: &'p Policy) -> Self {
        let mut new = Self { policy, entries: Vec::new(), running: BTreeMap::new() };
        new.notice(Notice::Started {
            version: String::new(),
            mode: AttachMode::Lsm,
            kernel: String::new(),
            hooks: vec![],
            recovery: None,
        });
        let (origin, command) = ("run".to_owned(), vec![]);
        new.notice(Notice::SessionStarted {
            session: SESSION,
            root: key(1),
            uid: 1000,
            origin,
            command,
            attributes: attributes(),
        });
        new.running.insert(1, ("/bin/sh".into(), vec!["/bin/sh".into()]));
        new
    }

    fn push(&mut self, body: EntryBody) {
        let index = self.entries.len() as u64;
        let time = Timestamp { boot_ns: index, wall_ms: 1000 + index };
        let (origin, session) = (Origin::default(), Some(SESSION));
        self.entries.push(Entry {
            origin: origin.into(),
            index,
            generation: 1,
            time,
            session,
            body,
            cut: None,
        });
    }

    fn notice(&mut self, notice: Notice) {
        self.push(EntryBody::Notice(notice));
    }

    /// What a process asks is what the policy of the machine decides, and so it is recorded.
    fn act(&mut self, pid: u32, action: Action, objects: &[Object]) -> Verdict {
        let (path, lineage) = self.running[&pid].clone();
        let executed = |path: &String| Executed {
            path: path.clone().into_bytes(),
            sha256: Some([path.len() as u8; 32]),
            loads_code: false,
        };
        let images = lineage.iter().map(executed).collect();
        let subject = Subject {
            executable: path.clone().into_bytes(),
            sha256: Some([path.len() as u8; 32]),
            uid: 1000,
            loads_code: false,
            lineage: Lineage::Images { images, complete: true },
            session: Arc::new(Session::new(&attributes())),
        };
        let decide = |object: &Object| {
            let request = Request { subject: subject.clone(), object: object.clone() };
            eval(self.policy, &Host::default(), &request)
        };
        let order = |verdict| std::cmp::Reverse(verdict);
        let decision = objects.iter().map(decide).min_by_key(|found| (order(found.verdict), found.rule));
        let decision = decision.unwrap_or(treeline_policy::Decision::ALLOW);
        let rule = decision.rule.map(|rule| &self.policy.rules[rule]).map(|rule| RuleHit {
            rule: rule.id.clone(),
            reason: rule.reason.clone(),
            mode: rule.mode,
            policy: self.policy.name.clone(),
            generation: 1,
            remedy: None,
            link: None,
            approvable_s: None,
            approved: false,
        });
        let (ancestry, verdict) = (Ancestry::Links([].into()), decision.verdict);
        let process = process(pid, &path);
        self.push(EntryBody::Act { process, ancestry, action, verdict, rule: rule.map(Arc::new) });
        verdict
    }

    fn fork(&mut self, creator: u32, child: u32) {
        let state = self.running[&creator].clone();
        self.running.insert(child, state);
        self.act(child, Action::Fork { creator: key(creator) }, &[]);
    }

    fn exec(&mut self, pid: u32, path: &str) {
        let object = Object::Exec { path: path.into(), sha256: Some([path.len() as u8; 32]) };
        // The sensor reads what is executed, and says what it holds.
        self.notice(Notice::ImageHashed { image: image(path) });
        let id = Some(image(path).file);
        let denied = Action::ExecDenied { file: FileRef { id, ..file(path) } };
        // The kernel judges who executes, and records an exec under what is executed.
        match self.act(pid, denied, std::slice::from_ref(&object)) {
            Verdict::Deny => return,
            Verdict::Audit => {}
            Verdict::Allow => drop(self.entries.pop()),
        }
        let (own, lineage) = self.running.get_mut(&pid).expect("it runs");
        *own = path.to_owned();
        lineage.push(path.to_owned());
        self.act(pid, Action::Exec, &[]);
    }

    fn open(&mut self, pid: u32, path: &str, flags: u32, count: u64) {
        let way = |operation| Object::File { path: path.into(), operation };
        let objects = match flags {
            0 => vec![way(FileOperation::Read)],
            1 => vec![way(FileOperation::Write)],
            _ => vec![way(FileOperation::Read), way(FileOperation::Write)],
        };
        let (file, flags) = (file(path), OpenFlags(flags));
        self.act(pid, Action::Open { file, flags, outcome: Outcome::Ok, count }, &objects);
    }

    fn rename(&mut self, pid: u32, from: &str, to: &str) {
        let name = |path: &str| Object::File { path: path.into(), operation: FileOperation::Rename };
        let objects = [name(from), name(to)];
        self.act(pid, Action::Rename { from: file(from), to: file(to), outcome: Outcome::Ok }, &objects);
    }

    fn connect(&mut self, pid: u32, host: u8, port: u16) {
        let object = Object::Connect { address: [10, 0, 0, host].into(), port };
        let to = Destination::V4([10, 0, 0, host].into(), port);
        self.act(pid, Action::Connect { to, outcome: Outcome::Unknown }, &[object]);
    }
}

fn policy(rules: &[&str]) -> Policy {
    let rules: String = rules.iter().map(|rule| format!("  - {{{rule}, reason: r}}\n")).collect();
    let text = if rules.is_empty() { " []\n".to_owned() } else { format!("\n{rules}") };
    parse("t", &format!("version: 1\nname: t\nrules:{text}")).expect("a valid policy")
}

fn replayed(policy: &Policy, entries: &[Entry]) -> Report {
    let host = Host::default();
    let mut replay = Replay::new(policy, &host);
    entries.iter().for_each(|entry| replay.take(entry));
    replay.finish()
}

fn of<'r>(report: &'r Report, rule: &str) -> &'r RuleReport {
    report.rules.iter().find(|one| one.rule == rule).expect("a rule of the policy")
}

const RULES: [&str; 11] = [
    "id: a, kind: file, paths: [/d/**]",
    "id: b, kind: file, mode: monitor, paths: [\"/**/k\"], operations: [read]",
    "id: c, kind: file, paths: [/e/k], only: [{executable: /bin/cat}]",
    "id: d, kind: file, paths: [/e/**], except: [{descendant_of: {executable: /bin/git}}]",
    "id: e, kind: exec, paths: [/bin/nc], only: [{executable: /bin/sh}]",
    "id: f, kind: exec, mode: monitor, paths: [/bin/cat, /bin/git]",
    "id: g, kind: connect, to: [10.0.0.1], ports: [1, 2]",
    "id: h, kind: connect, mode: monitor, to: [10.0.0.0/8], except: [{executable: /bin/git}]",
    "id: i, kind: exec, sha256: [0808080808080808080808080808080808080808080808080808080808080808]",
    "id: k, kind: file, paths: [/d/s, /e/s], only: [{session: {users: [ada]}}], except: [{executable: /bin/git, session: {groups: [ops]}}]",
    "id: l, kind: file, paths: [/d/k], only: [{session: {groups: [dev, 51]}}]",
];

/// An action by one of four processes.
fn step() -> impl Strategy<Value = (u8, u32, usize, usize)> {
    (0..6_u8, 1..5_u32, 0..6_usize, 0..6_usize)
}

fn recorded(policy: &Policy, steps: &[(u8, u32, usize, usize)]) -> Vec<Entry> {
    const PATHS: [&str; 6] = ["/d/k", "/d/e/x", "/e/k", "/e/x", "/f/k", "/g"];
    const PROGRAMS: [&str; 6] = ["/bin/sh", "/bin/cat", "/bin/git", "/bin/nc", "/bin/ls", "/bin/python"];
    let mut recorder = Recorder::new(policy);
    for (what, pid, one, other) in steps {
        let pid = if recorder.running.contains_key(pid) { *pid } else { 1 };
        match what {
            0 => {
                let child = recorder.running.len() as u32 + 1;
                recorder.fork(pid, child);
            }
            1 => recorder.exec(pid, PROGRAMS[*one]),
            2 | 3 => recorder.open(pid, PATHS[*one], *other as u32 % 3, *other as u64 + 1),
            4 => recorder.rename(pid, PATHS[*one], PATHS[*other]),
            _ => recorder.connect(pid, *one as u8, *other as u16),
        }
    }
    recorder.entries
}

/// How often each rule decided, by what was recorded.
fn decided(entries: &[Entry]) -> BTreeMap<&str, u64> {
    let mut decided = BTreeMap::new();
    for entry in entries {
        if let EntryBody::Act { rule: Some(hit), action, .. } = &entry.body {
            let times = if let Action::Open { count, .. } = action { *count } else { 1 };
            *decided.entry(hit.rule.as_str()).or_default() += times;
        }
    }
    decided
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_policy_that_was_in_force_says_what_was_recorded(
        chosen in prop::sample::subsequence(RULES.to_vec(), 0..=RULES.len()),
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let policy = policy(&chosen);
        let entries = recorded(&policy, &steps);
        let report = replayed(&policy, &entries);
        let counts = report.rules.iter().filter(|rule| rule.sum.times > 0);
        let counts: BTreeMap<&str, u64> = counts.map(|rule| (rule.rule.as_str(), rule.sum.times)).collect();
        prop_assert_eq!(counts, decided(&entries));
        prop_assert_eq!((report.new_denials.times, report.records_to_denials.times), (0, 0));
        prop_assert_eq!(&report.vanished, &[]);
        prop_assert_eq!(report.lineage_unseen.times, 0);
        for rule in &report.rules {
            prop_assert_eq!(rule.then.allowed.times + rule.then.not_refused.times, 0);
        }
    }

    #[test]
    fn one_more_rule_in_enforce_only_adds_denials(
        chosen in prop::sample::subsequence(RULES.to_vec(), 0..=RULES.len()),
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let before = policy(&chosen);
        let entries = recorded(&before, &steps);
        let more = [&chosen[..], &["id: zz, kind: file, paths: [/**]"]].concat();
        let (old, new) = (replayed(&before, &entries), replayed(&policy(&more), &entries));
        prop_assert_eq!(new.vanished_denials.entries, 0);
        let added = new.new_denials.times + new.records_to_denials.times;
        prop_assert_eq!(new.would_deny.times, old.would_deny.times + added);
        prop_assert_eq!(of(&new, "zz").then.denied.times, 0, "a denial keeps its rule: the first by id");
    }

    #[test]
    fn what_a_rule_denied_vanishes_with_it(
        removed in 0..RULES.len(),
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let entries = recorded(&policy(&RULES), &steps);
        let id = &RULES[removed][4..5];
        let rest: Vec<&str> = RULES.iter().enumerate().filter(|(at, _)| *at != removed).map(|(_, rule)| *rule).collect();
        let report = replayed(&policy(&rest), &entries);
        prop_assert!(report.vanished.iter().all(|gone| gone.rule == id && !gone.is_there));
        let taken_over: u64 = report.rules.iter().map(|rule| rule.sum.times).sum();
        let gone: u64 = report.vanished.iter().map(|gone| gone.allowed.times).sum();
        prop_assert_eq!(taken_over + gone, decided(&entries).values().sum::<u64>());
        prop_assert_eq!(report.new_denials.times, 0);
    }
}

/// A session of a shell that reads a key, in a log without its beginning.
#[test]
fn what_the_log_does_not_have_is_counted() {
    let none = policy(&[]);
    let mut recorder = Recorder::new(&none);
    recorder.open(1, "/e/x", 0, 5);
    let lost =
        |count| Notice::Lost { kind: "exec".into(), site: "ring".into(), count, first_ns: 0, last_ns: 0 };
    recorder.notice(lost(3));
    recorder.notice(lost(4));
    let entries = &recorder.entries[2..];
    let report = replayed(&policy(&[RULES[3], RULES[0], RULES[4]]), entries);
    assert_eq!((report.asked.times, report.lineage_unseen.times), (5, 5));
    let rule = of(&report, "d");
    assert_eq!((rule.sum.times, rule.certainty.by_unknown), (5, 5), "git may be in its lineage");
    assert_eq!((report.lost.len(), report.lost[0].count), (1, 7));
    assert!(of(&report, "e").certainty.mappings_unseen && !of(&report, "a").certainty.mappings_unseen);
}

#[test]
fn names_and_directories_are_doubted_by_rule() {
    let none = policy(&[]);
    let mut recorder = Recorder::new(&none);
    let named = |path: &str| FileRef { as_named: true, ..file(path) };
    let delete = |file: FileRef| Action::Delete { file, outcome: Outcome::Ok };
    recorder.act(1, delete(named("/d/k")), &[]);
    recorder.act(1, delete(named("/home/../d/k")), &[]);
    recorder.act(1, delete(named("/link/k")), &[]);
    recorder.act(1, delete(FileRef { unresolved: true, ..file("/x") }), &[]);
    let directory = FileRef { mode: Some(0o040_755), ..file("/f") };
    recorder.act(1, Action::Rename { from: directory, to: file("/g"), outcome: Outcome::Ok }, &[]);
    let failed = Outcome::Errno(2);
    recorder.act(1, Action::Delete { file: named("/d/k"), outcome: failed }, &[]);
    let report = replayed(&policy(&[RULES[0], RULES[1]]), &recorder.entries);
    let rule = of(&report, "a");
    assert_eq!((rule.sum.times, &rule.certainty.doubted), (2, &[(Doubt::AsNamed, 2)].into()));
    let untold = [(Doubt::AsNamed, 1), (Doubt::Unresolved, 1), (Doubt::Above, 2)].into();
    assert_eq!(rule.certainty.untold, untold);
    assert_eq!(of(&report, "b").certainty.untold, BTreeMap::new(), "it is about reading");
    assert_eq!((report.failed.times, report.asked.times), (1, 5));
}

#[test]
fn a_content_may_become_known_later() {
    let none = policy(&[]);
    let mut recorder = Recorder::new(&none);
    let pending = Image { digest: Digest::Pending, ..image("/tmp/tool") };
    let mut ran = Process::clone(&process(1, "/tmp/tool"));
    ran.program = Arc::new(Program { image: pending.clone(), ..Program::default() });
    let (ancestry, verdict) = (Ancestry::Full(vec![]), Verdict::Allow);
    recorder.push(EntryBody::Act {
        process: Arc::new(ran),
        ancestry,
        action: Action::Exec,
        verdict,
        rule: None,
    });
    let by_content = policy(&[RULES[8]]);
    let check = |entries: &[Entry], times, untold: &[(Doubt, u64)]| {
        let report = replayed(&by_content, entries);
        let rule = of(&report, "i");
        assert_eq!(rule.sum.times, times);
        assert_eq!(rule.certainty.untold, untold.iter().copied().collect());
    };
    check(&recorder.entries, 0, &[(Doubt::Content, 1)]);
    for (digest, times, untold) in [
        (Digest::Sha256([8; 32]), 1, &[][..]),
        (Digest::Sha256([9; 32]), 0, &[]),
        (Digest::Gone, 0, &[(Doubt::Content, 1)]),
    ] {
        let mut entries = recorder.entries.clone();
        let image = Image { digest, ..pending.clone() };
        let body = EntryBody::Notice(Notice::ImageHashed { image });
        entries.push(Entry { body, ..entries[0].clone() });
        check(&entries, times, untold);
    }
}

#[test]
fn what_a_machine_could_not_refuse_was_no_record_by_intent() {
    let before = policy(&[RULES[0]]);
    let mut recorder = Recorder::new(&before);
    recorder.open(1, "/d/k", 0, 1);
    let mut entries = recorder.entries;
    if let Some(Entry { body: EntryBody::Act { verdict, .. }, .. }) = entries.last_mut() {
        *verdict = Verdict::Audit;
    }
    let report = replayed(&before, &entries);
    assert_eq!(of(&report, "a").then.not_refused.times, 1);
    assert_eq!((report.records_to_denials.times, report.would_deny.times), (0, 1));
    let monitor = policy(&["id: a, kind: file, mode: monitor, paths: [/d/**]"]);
    let recorded = {
        let mut recorder = Recorder::new(&monitor);
        recorder.open(1, "/d/k", 0, 3);
        recorder.entries
    };
    let report = replayed(&before, &recorded);
    assert_eq!((report.records_to_denials.times, of(&report, "a").then.recorded.times), (3, 3));
    let report = replayed(&monitor, &entries[..0]);
    assert_eq!((report.entries, report.first_ms), (0, None));
    assert_eq!(of(&report, "a").mode, Some(Mode::Monitor));
}

#[test]
fn what_was_approved_of_is_neither_refused_nor_a_failure_to_refuse() {
    let before = policy(&[RULES[0]]);
    let mut recorder = Recorder::new(&before);
    recorder.open(1, "/d/k", 0, 1);
    recorder.open(1, "/d/k", 0, 2);
    let mut entries = recorder.entries;
    if let Some(Entry { body: EntryBody::Act { verdict, rule: Some(hit), .. }, .. }) = entries.last_mut() {
        *verdict = Verdict::Audit;
        Arc::make_mut(hit).approved = true;
    }
    let report = replayed(&before, &entries);
    let then = of(&report, "a").then;
    assert_eq!((then.approved.times, then.denied.times, then.not_refused.times), (2, 1, 0));
    assert_eq!((report.records_to_denials.times, report.would_deny.times), (0, 3));
}

/// A rule that allows is counted by what it let through; what no log has is not said to be idle.
#[test]
fn rules_that_allow_are_counted() {
    let text = "version: 1\nname: n\ndefaults: {read: {action: deny, reason: r}}\nrules:\n  \
        - {id: used, kind: file, action: allow, operations: [read], paths: [/d/**], reason: r}\n  \
        - {id: idle, kind: file, action: allow, operations: [read], paths: [/e/**], reason: r}\n  \
        - {id: call, kind: tool, action: allow, tools: [Bash], reason: r}\n";
    let policy = parse("n", text).expect("valid");
    let mut recorder = Recorder::new(&policy);
    recorder.open(1, "/d/k", 0, 3);
    recorder.open(1, "/f", 0, 1);
    let report = replayed(&policy, &recorder.entries);
    let counts = |rule: &str| (of(&report, rule).sum.times, of(&report, rule).certainty.calls_unseen);
    assert_eq!(counts("used"), (3, false));
    assert_eq!(counts("idle"), (0, false));
    assert_eq!(counts("call"), (0, true));
    assert_eq!(counts("default/read"), (1, false));
    let used = of(&report, "used");
    assert_eq!((used.mode, used.allows, used.sessions.as_slice()), (None, true, &[SESSION][..]));
    assert_eq!(used.objects.iter().map(|place| place.times).sum::<u64>(), 3);
    let json = serde_json::to_value(used).expect("JSON");
    assert_eq!((&json["action"], json.get("mode")), (&"allow".into(), None));
}
