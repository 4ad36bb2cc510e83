//! Whose refusals can be approved of, by whom and for how long; and who can say so.

use treeline_policy::{
    Approver, Code, Diagnostics, Host, Object, Period, Policy, Request, Subject, approval::refusing, compose,
    diff, diff::Effect, eval, lint, parse, policy::Level,
};

const RULES: &str = "rules:
  - {id: keys, kind: file, paths: [/keys/**], reason: r}
  - {id: renames, kind: file, operations: [rename, link], paths: [/r/**], reason: r}
  - {id: seen, kind: file, mode: monitor, paths: [/seen], reason: r}
  - {id: open, kind: file, action: allow, priority: 1, paths: [/keys/open], reason: r}
  - {id: content, kind: exec, sha256: ['1111111111111111111111111111111111111111111111111111111111111111'], reason: r}
  - {id: brokers, kind: broker, brokers: [docker, ptrace], reason: r}
  - {id: tool, kind: tool, tools: [Bash], reason: r}
";

fn text(name: &str, approvals: &str) -> String {
    format!(
        "version: 1\nname: {name}\ndefaults: {{connect: {{action: deny, reason: r}}}}\napprovals: {approvals}\n{RULES}"
    )
}

fn read(name: &str, approvals: &str) -> Result<Policy, Diagnostics> {
    parse(&format!("{name}.yaml"), &text(name, approvals))
}

fn policy(approvals: &str) -> Policy {
    read("t", approvals).unwrap_or_else(|found| panic!("{found}"))
}

fn user(name: &str) -> Approver {
    Approver { user: (1000, Some(name.to_owned())), groups: vec![(100, Some("users".to_owned()))] }
}

#[test]
fn what_is_wrong() {
    let check = |approvals: &str, code: Code, words: &str| {
        let found = read("t", approvals).expect_err(approvals).to_string();
        assert!(found.contains(code.name()) && found.contains(words), "{approvals}: {found}");
    };
    let one =
        |rules: &str, by: &str, time: &str| format!("[{{rules: {rules}, by: {by}, for_at_most: {time}}}]");
    check("{}", Code::WrongType, "has to be a list");
    check("[]", Code::Empty, "cannot be empty");
    check("[{}]", Code::MissingKey, "has no `rules`");
    check("[{rules: [keys], by: {users: [a]}}]", Code::MissingKey, "has no `for_at_most`");
    check("[{rules: [keys], for_at_most: 1m}]", Code::MissingKey, "has no `by`");
    check(&one("[keys]", "{}", "1m"), Code::MissingKey, "names nobody");
    check(&one("[]", "{users: [a]}", "1m"), Code::Empty, "`rules` cannot be empty");
    check(&one("[kyes]", "{users: [a]}", "1m"), Code::UnknownRule, "did you mean `keys`?");
    check(&one("[treeline/self]", "{users: [a]}", "1m"), Code::BadId, "ids are of lower-case letters");
    check(&one("[default/tool]", "{users: [a]}", "1m"), Code::BadId, "a default is");
    check(&one("[default/read]", "{users: [a]}", "1m"), Code::UnknownRule, "no rule `default/read`");
    check(&one("[keys, keys]", "{users: [a]}", "1m"), Code::DuplicateItem, "twice");
    check(&one("[keys]", "{users: [a b]}", "1m"), Code::BadId, "is not a user");
    check(&one("[keys]", "{users: [1000]}", "1m"), Code::WrongType, "has to be a string");
    check(&one("[keys]", "{groups: [':x']}", "1m"), Code::BadId, "is not a group");
    check(&one("[keys]", "{user: [a]}", "1m"), Code::UnknownKey, "did you mean `users`?");
    for time in ["25h", "0m", "1d", "15", "'15 m'", "soon"] {
        check(&one("[keys]", "{users: [a]}", time), Code::BadDuration, "no length of time");
    }
    let many = format!("[{}]", "{rules: [keys], by: {users: [a]}, for_at_most: 1m},".repeat(65));
    check(&many, Code::TooLong, "at most 64");
    let names: String = (0..65).map(|number| format!("u{number},")).collect();
    check(&one("[keys]", &format!("{{users: [{names}]}}"), "1m"), Code::TooLong, "at most 64");
}

#[test]
fn whose_and_for_how_long() {
    let policy = policy(
        "[{rules: [keys, default/connect, brokers, seen, open, content, renames, tool], by: {users: [ada]}, for_at_most: 30m},
          {rules: [keys], by: {users: [ada], groups: [users]}, for_at_most: 2h}]",
    );
    let check = |rule: &str, who: &str, expect: Option<&str>| {
        let rule = policy.rule(rule).expect("a rule");
        let longest = policy.approvable_by(rule, &user(who)).map(|period| period.to_string());
        assert_eq!(longest.as_deref(), expect, "{}", rule.id);
    };
    check("keys", "ada", Some("2h"));
    check("keys", "bob", Some("2h"));
    check("default/connect", "ada", Some("30m"));
    check("default/connect", "bob", None);
    check("brokers/docker", "ada", Some("30m"));
    // A process is no object that stays.
    for never in ["brokers/ptrace", "seen", "open", "content", "renames", "tool"] {
        if policy.rule(never).is_some() {
            check(never, "ada", None);
        }
    }
}

#[test]
fn approvals_of_what_can_never_be_approved_of_are_warned_of() {
    let policy = policy(
        "[{rules: [keys, default/connect, brokers, seen, open, content, renames, tool], by: {users: [ada]}, for_at_most: 30m}]",
    );
    let found = lint(&policy, None).finish().found;
    let idle: Vec<&str> = found
        .items()
        .iter()
        .filter(|item| item.code == Code::IdleApproval)
        .map(|item| item.message.split('`').nth(1).expect("a rule"))
        .collect();
    assert_eq!(idle, ["seen", "open", "content", "renames", "tool"], "{found}");
}

#[test]
fn all_that_refuse_are_known() {
    let rules = "rules:
  - {id: a, kind: file, paths: [/x/**], reason: r}
  - {id: b, kind: file, paths: [/x/y], except: [{descendant_of: {executable: /usr/bin/git}}], reason: r}
  - {id: c, kind: file, paths: [/x/y], except: [{executable: /usr/bin/cat}], reason: r}
  - {id: d, kind: file, paths: [/x/y], except: [{executable: /usr/bin/cat, sha256: '1111111111111111111111111111111111111111111111111111111111111111'}], reason: r}
  - {id: e, kind: file, mode: monitor, paths: [/x/y], reason: r}
  - {id: f, kind: file, action: allow, priority: 1, paths: [/x/z], reason: r}
";
    let policy =
        parse("t", &format!("version: 1\nname: t\n{rules}")).unwrap_or_else(|found| panic!("{found}"));
    let check = |path: &str, expect: &[&str]| {
        let subject = Subject { executable: b"/usr/bin/cat".to_vec(), ..Subject::default() };
        let object: Object = format!("read {path}").parse().expect("an object");
        let request = Request { subject, object };
        let found = refusing(&policy, &Host::default(), &request);
        let ids: Vec<&str> = found.iter().map(|index| policy.rules[*index].id.as_str()).collect();
        assert_eq!(ids, expect, "{path}");
        // The one that is named is the first of them.
        let decision = eval(&policy, &Host::default(), &request);
        let named = decision.rule.filter(|_| !expect.is_empty()).map(|index| policy.rules[index].id.as_str());
        assert_eq!(named, expect.first().copied());
    };
    check("/x/y", &["a", "b", "d"]);
    check("/x/w", &["a"]);
    check("/x/z", &[]);
    check("/y", &[]);
}

#[test]
fn nobody_lets_approve_of_what_another_policy_refuses() {
    let organisation =
        parse("o.yaml", "version: 1\nname: o\nrules: [{id: theirs, kind: file, paths: [/a], reason: r}]\n");
    let local = parse(
        "l.yaml",
        "version: 1\nname: l\napprovals: [{rules: [mine], by: {users: [ada]}, for_at_most: 1h}]\nrules: [{id: mine, kind: file, paths: [/a], reason: r}]\n",
    );
    let (organisation, local) = (organisation.expect("a policy"), local.expect("a policy"));
    let whole = compose(vec![(Level::Organisation, organisation), (Level::Local, local)])
        .unwrap_or_else(|found| panic!("{found}"));
    let of = |id: &str| whole.approvable_by(whole.rule(id).expect("a rule"), &user("ada"));
    assert_eq!((of("theirs"), of("mine")), (None, Period::of_seconds(3600)));
    // By name it is no use either.
    let named = "version: 1\nname: l\napprovals: [{rules: [theirs], by: {users: [ada]}, for_at_most: 1h}]\nrules: []\n";
    let error = parse("l.yaml", named).expect_err("of another policy").to_string();
    assert!(error.contains("what another policy refuses is for that one"), "{error}");
}

#[test]
fn a_default_of_a_lower_policy_keeps_its_approval() {
    let one = |name: &str, key: &str| {
        let text = format!(
            "version: 1\nname: {name}\ndefaults: {{connect: {{action: deny, reason: r}}}}\n{key}rules: []\n"
        );
        parse(name, &text).unwrap_or_else(|found| panic!("{found}"))
    };
    let approvals = "approvals: [{rules: [default/connect], by: {users: [ada]}, for_at_most: 1h}]\n";
    let whole = compose(vec![(Level::Organisation, one("o", "")), (Level::Team, one("t", approvals))])
        .unwrap_or_else(|found| panic!("{found}"));
    let of = |id: &str| whole.approvable_by(whole.rule(id).expect("a rule"), &user("ada")).is_some();
    assert_eq!((of("default/connect"), of("default/connect/t")), (false, true));
}

#[test]
fn what_can_be_approved_of_is_told_as_a_change() {
    let of = |approvals: &str| policy(&format!("[{approvals}]"));
    let item = |by: &str, time: &str| format!("{{rules: [keys], by: {{{by}}}, for_at_most: {time}}}");
    let check = |before: &str, after: &str, expect: &[&str]| {
        let found = diff(&of(before), &of(after), &Host::default());
        let lines: Vec<String> = found.to_string().lines().map(str::to_owned).collect();
        for line in expect {
            assert!(lines.iter().any(|found| found == line), "{line}: {lines:#?}");
        }
        assert_eq!(found.approvals.len(), expect.len(), "{lines:#?}");
        let loosens = expect.iter().filter(|line| line.starts_with("loosens")).count();
        assert_eq!(found.count(Effect::Loosens), loosens);
    };
    let ada = item("users: [ada]", "30m");
    check(&ada, &ada, &[]);
    check(
        &ada,
        &item("users: [ada], groups: [leads]", "1h"),
        &[
            "loosens     what `keys` refuses can be approved by user ada: for 30m -> for 1h",
            "loosens     what `keys` refuses can be approved by group leads: not at all -> for 1h",
        ],
    );
    check(
        &ada,
        &item("users: [ada]", "1m"),
        &["tightens    what `keys` refuses can be approved by user ada: for 30m -> for 1m"],
    );
    // The longest counts, and what can never be approved of does not.
    check(&ada, &format!("{ada}, {}", item("users: [ada]", "5m")), &[]);
    check(&ada, &format!("{ada}, {{rules: [seen], by: {{users: [ada]}}, for_at_most: 1h}}"), &[]);
}
