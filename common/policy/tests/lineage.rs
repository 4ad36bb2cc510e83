//! Rules that ask for a subject's lineage: what they mean, and that numbers of conditions go on to mean the same.

use treeline_abi::{
    paths::Operation,
    subject::{Facts, Lineage as Label, Subjects},
};
use treeline_event::Verdict;
use treeline_policy::{
    Before, Executed, Host, Lineage, Located, Matcher, MountTable, Object, Policy, Request, Subject, Tables,
    Target, compile_after, eval, parse, policy::FileOperation,
};

fn read(rules: &str) -> Policy {
    let text = format!("version: 1\nname: t\nrules:\n{rules}");
    parse("t", &text).unwrap_or_else(|diagnostics| panic!("{diagnostics}"))
}

fn build(policy: &Policy, before: &Subjects, now_ns: u64) -> Tables {
    let target = Target { seed: 3, generation: 1, slot: 0 };
    let before = Before { subjects: before, now_ns };
    compile_after(policy, &Host::default(), &MountTable::single(1), target, before)
        .unwrap_or_else(|diagnostics| panic!("{diagnostics}"))
}

fn rule(id: &str, items: &str) -> String {
    format!("  - {{id: {id}, kind: file, reason: r, paths: [/secret/{id}], {items}}}\n")
}

fn below(id: &str) -> String {
    rule(id, &format!("only: [{{descendant_of: {{executable: /bin/{id}}}}}]"))
}

fn number(tables: &Tables, path: &str) -> u32 {
    let is_it = |(number, wanted): &(u32, treeline_policy::policy::Executable)| {
        (wanted.path.as_ref()?.to_string() == path).then_some(*number)
    };
    tables.lineage.iter().find_map(is_it).unwrap_or_else(|| panic!("no condition `{path}`"))
}

const ONE: [u8; 32] = [0x11; 32];
const TWO: [u8; 32] = [0x22; 32];

fn image(path: &str, sha256: Option<[u8; 32]>) -> Executed {
    Executed { path: path.into(), sha256, loads_code: false }
}

#[test]
fn what_is_unknown_never_allows_anything() {
    let by_both = format!("descendant_of: {{executable: /bin/a, sha256: \"{}\"}}", "11".repeat(32));
    let rules = [
        rule("except", "except: [{descendant_of: {executable: /bin/a}}]"),
        rule("only", "only: [{descendant_of: {executable: /bin/a}}]"),
        rule("except-both", &format!("except: [{{{by_both}}}]")),
        rule("only-both", &format!("only: [{{{by_both}}}]")),
        rule("except-and-own", "except: [{executable: /bin/c, descendant_of: {executable: /bin/a}}]"),
        rule("lifted", "only: [{descendant_of: {executable: /bin/a}}], except: [{executable: /bin/c}]"),
    ];
    let policy = read(&rules.concat());
    let tables = build(&policy, &Subjects::NONE, 1);
    let matcher = Matcher::new(&tables);
    let preloaded = |path: &str| Executed { loads_code: true, ..image(path, None) };
    let check = |before: &[Executed], own: Executed, complete: bool, denied: &[&str]| {
        let images = before.iter().cloned().chain([own.clone()]).collect();
        let subject = Subject {
            executable: own.path,
            sha256: own.sha256,
            uid: 0,
            loads_code: own.loads_code,
            lineage: Lineage::Images { images, complete },
            ..Subject::default()
        };
        let locate = |path: &[u8]| Located { device: 1, inner: path.to_vec() };
        let sets = matcher.sets_of(&subject, &locate);
        let mut found = Vec::new();
        for rule in &policy.rules {
            let path = format!("/secret/{}", rule.id).into_bytes();
            let by_tables = matcher.decide_path(sets, &locate(&path), Operation::READ, None);
            let object = Object::File { path, operation: FileOperation::Read };
            let decision = eval(&policy, &Host::default(), &Request { subject: subject.clone(), object });
            assert_eq!(by_tables, decision, "{} {subject:?}", rule.id);
            if decision.verdict == Verdict::Deny {
                found.push(rule.id.as_str());
            }
        }
        let mut denied = denied.to_vec();
        denied.sort_unstable();
        assert_eq!(found, denied, "{subject:?}");
    };
    let b = || image("/bin/b", Some(TWO));
    let c = || image("/bin/c", None);
    check(&[], b(), true, &["except", "except-both", "except-and-own"]);
    check(&[image("/bin/a", Some(ONE))], b(), true, &["only", "only-both", "except-and-own", "lifted"]);
    check(&[image("/bin/a", Some(TWO))], b(), true, &["only", "except-both", "except-and-own", "lifted"]);
    // The content of the one before is not known.
    let both = ["except-both", "only-both"];
    check(&[image("/bin/a", None)], b(), true, &[&both[..], &["only", "except-and-own", "lifted"]].concat());
    check(&[image("/bin/a", None)], c(), true, &[&both[..], &["only"]].concat());
    check(&[image("/bin/d", None)], b(), true, &["except", "except-both", "except-and-own"]);
    // Its own image counts, and nobody is below what was started with other code in it.
    check(&[], image("/bin/a", Some(ONE)), true, &["only", "only-both", "except-and-own", "lifted"]);
    let all = ["except", "except-both", "except-and-own", "only", "only-both", "lifted"];
    check(&[preloaded("/bin/a")], b(), true, &all);
    check(&[image("/bin/a", Some(ONE))], preloaded("/bin/c"), true, &all);
    // Nothing is known of what was before.
    check(&[], b(), false, &all);
    check(&[], c(), false, &["except", "except-both", "except-and-own", "only", "only-both"]);
    check(&[image("/bin/a", Some(ONE))], c(), false, &["only", "only-both"]);
}

#[test]
fn conditions_keep_their_numbers() {
    let first = build(&read(&[below("m"), below("n")].concat()), &Subjects::NONE, 10);
    let one = first.table.subjects;
    assert_eq!((one.since, one.lineages), (10, 0b11));
    // One that comes first in every order takes none of theirs.
    let second = build(&read(&[below("a"), below("m"), below("n")].concat()), &one, 20);
    let two = second.table.subjects;
    for path in ["/bin/m", "/bin/n"] {
        assert_eq!(number(&first, path), number(&second, path));
        assert_eq!(two.born[number(&second, path) as usize], 10);
    }
    assert_eq!((number(&second, "/bin/a"), two.since, two.lineages), (2, 20, 0b111));
    // What is gone makes room, for a condition that is born then.
    let third = build(&read(&[below("n"), below("z")].concat()), &two, 30);
    let three = third.table.subjects;
    assert_eq!(number(&third, "/bin/n"), number(&first, "/bin/n"));
    assert_eq!(number(&third, "/bin/z"), number(&first, "/bin/m"));
    // A label of the first policy has it for the other condition, which means nothing now.
    let label = Label { facts: Facts { sure: 0b11, possible: 0b11 }, since: 10 };
    let known = 1 << number(&third, "/bin/n");
    assert_eq!(three.of_label(&label), Facts { sure: known, possible: 0b11 });
    // What comes back was not asked for meanwhile.
    let fourth = build(&read(&below("m")), &three, 40);
    assert_eq!(fourth.table.subjects.born[number(&fourth, "/bin/m") as usize], 40);
    // Without any condition the moments are kept.
    let none = build(&read(&rule("none", "severity: low")), &fourth.table.subjects, 50);
    assert_eq!((none.table.subjects.since, none.table.subjects.lineages), (40, 0));
}

#[test]
fn contents_are_known_for_the_numbers_that_they_were_looked_up_for() {
    let hash = "11".repeat(32);
    let by_content = |id: &str| rule(id, &format!("only: [{{descendant_of: {{sha256: \"{hash}\"}}}}]"));
    let first = build(&read(&by_content("m")), &Subjects::NONE, 10);
    let same = build(&read(&by_content("m")), &first.table.subjects, 20);
    let other = build(&read(&[by_content("m"), below("a")].concat()), &Subjects::NONE, 30);
    let fingerprint = |tables: &Tables| tables.image_rules(&ONE, None).subject.fingerprint;
    assert_eq!(fingerprint(&first), fingerprint(&same));
    assert_ne!(fingerprint(&first), fingerprint(&other));
    assert!(first.asks_for_content() && !build(&read(&below("a")), &Subjects::NONE, 1).asks_for_content());
    assert_eq!(first.image_rules(&ONE, None).subject.lineage, 1);
    assert_eq!(first.image_rules(&TWO, None).subject.lineage, 0);
}
