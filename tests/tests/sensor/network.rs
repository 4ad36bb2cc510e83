//! What is sent without a connect, by other calls, by addresses that stand for others, and by sockets that do not say
//! where they lead; allow-lists; abstract names.

use treeline_event::{Action, Destination, Entry, Notice, Outcome, RuleState, RuleStatus, Verdict};
use treeline_tests::sensor::{Ran, Scene, actions, is_permitted, notices, with_verdict};

const ADDRESS: &str = "  - id: net\n    kind: connect\n    to: [127.0.0.9, \"::1\"]\n    reason: No.\n";
/// The ways that Python's library has no words for; guests use the same.
const WAYS: &str = include_str!("../../../vm-tests/src/suite/cases/network.py");
/// Prints what became of each attempt: `ok`, or the name of the error.
const ATTEMPT: &str = r#"
import errno, socket
def attempt(name, act):
    try: act(); print(name, "ok")
    except OSError as error: print(name, errno.errorcode[error.errno])
def socket_of(*kind): return socket.socket(*kind)
udp, udp6 = socket_of(2, 2), socket_of(10, 2)
"#;

fn python(scene: &Scene, policy: &str, script: &str) -> Ran {
    scene.standalone(&scene.policy(policy), &format!("python3 - <<'X'\n{ATTEMPT}{script}\nX"))
}

/// Where entries with this verdict lead to addresses or by sockets, in their order.
fn destinations(entries: &[Entry], wanted: Verdict) -> Vec<String> {
    let found = entries.iter().filter_map(|entry| match &entry.body {
        treeline_event::EntryBody::Act { verdict, action, .. } if *verdict == wanted => match action {
            Action::Connect { to: Destination::V4(ip, port), .. } => Some(format!("{ip}:{port}")),
            Action::Connect { to: Destination::V6(ip, port), .. } => Some(format!("[{ip}]:{port}")),
            Action::Connect { to: Destination::Socket(kind), .. } => Some(kind.to_string()),
            _ => None,
        },
        _ => None,
    });
    found.collect()
}

/// What a rule of the policy in force amounts to.
fn status(entries: &[Entry], rule: &str) -> RuleStatus {
    let installed = notices(entries).find_map(|notice| match notice {
        Notice::PolicyApplied { rules, .. } => rules.iter().find(|status| status.rule == rule).cloned(),
        _ => None,
    });
    installed.expect("a policy was put in force")
}

#[test]
fn datagrams_are_judged_without_a_connect() {
    if !is_permitted("datagrams_are_judged_without_a_connect") {
        return;
    }
    let script = r#"
for port in range(3): attempt("sendto", lambda: udp.sendto(b"x", ("127.0.0.9", 9)))
attempt("sendmsg", lambda: udp.sendmsg([b"x"], [], 0, ("127.0.0.9", 9)))
attempt("mapped", lambda: udp6.sendto(b"x", ("::ffff:127.0.0.9", 9)))
attempt("six", lambda: udp6.sendto(b"x", ("::1", 9)))
attempt("unspecified", lambda: udp6.sendto(b"x", ("::", 9)))
for _ in range(100): udp.sendto(b"x", ("127.0.0.1", 9))
udp.sendto(b"x", ("127.0.0.1", 10))
"#;
    let scene = Scene::new();
    let ran = python(&scene, ADDRESS, script);
    let expect = [
        "sendto EPERM",
        "sendto EPERM",
        "sendto EPERM",
        "sendmsg EPERM",
        "mapped EPERM",
        "six EPERM",
        "unspecified EPERM",
    ];
    assert_eq!(ran.stdout().lines().collect::<Vec<_>>(), expect, "{}", ran.stderr());
    // Each refusal is an entry; of what goes on, the first to each place.
    assert_eq!(ran.denials().len(), 7, "{:?}", ran.denials());
    let allowed = destinations(&ran.entries, Verdict::Allow);
    let count = |to: &str| allowed.iter().filter(|other| *other == to).count();
    assert_eq!((count("127.0.0.1:9"), count("127.0.0.1:10")), (1, 1), "{allowed:?}");
}

#[test]
fn other_calls_are_judged_as_connects_are() {
    if !is_permitted("other_calls_are_judged_as_connects_are") {
        return;
    }
    let scene = Scene::new();
    std::fs::write(scene.path("home/network.py"), WAYS).expect("a script");
    let script = r#"
for way in without-family fast-open ring-connect ring-connect-polled ring-send ring-send-polled; do
  echo $way $(python3 network.py $way 127.0.0.9 9 2>&1 | grep -c "Operation not permitted")
done"#;
    let ran = scene.standalone(&scene.policy(ADDRESS), script);
    let refused = ran.stdout();
    let expect = [
        "without-family 1",
        "fast-open 1",
        "ring-connect 1",
        "ring-connect-polled 1",
        "ring-send 1",
        "ring-send-polled 1",
    ];
    assert_eq!(refused.lines().collect::<Vec<_>>(), expect, "{}", ran.stderr());
    let denied = destinations(&ran.entries, Verdict::Deny);
    assert_eq!(denied, ["127.0.0.9:9"; 6]);
}

#[test]
fn sockets_that_hide_where_they_lead() {
    if !is_permitted("sockets_that_hide_where_they_lead") {
        return;
    }
    let script = r#"
attempt("raw", lambda: socket_of(2, 3, 1))
attempt("raw-six", lambda: socket_of(10, 3, 58))
attempt("packet", lambda: socket_of(17, 3, 0))
attempt("netlink", lambda: socket_of(16, 3, 0))
"#;
    let scene = Scene::new();
    let ran = python(&scene, ADDRESS, script);
    // No cgroup program is asked for packet sockets, which coverage says.
    let expect = ["raw EPERM", "raw-six EPERM", "packet ok", "netlink ok"];
    assert_eq!(ran.stdout().lines().collect::<Vec<_>>(), expect, "{}", ran.stderr());
    assert_eq!(destinations(&ran.entries, Verdict::Deny), ["inet/raw/1", "inet6/raw/58"]);
    let status = status(&ran.entries, "net");
    assert_eq!(status.state, RuleState::Partly);
    assert_eq!(status.enforced, ["connect", "datagrams", "raw sockets"]);
    assert_eq!(status.unseen, ["packet sockets"]);

    let scene = Scene::new();
    let ran = python(&scene, "  - {id: other, kind: file, paths: [\"@/x\"], reason: No.}\n", script);
    assert_eq!(ran.stdout().lines().next(), Some("raw ok"), "{}", ran.stderr());
    assert_eq!(destinations(&ran.entries, Verdict::Allow), ["inet/raw/1", "inet6/raw/58"]);
}

#[test]
fn an_allow_list_of_addresses() {
    if !is_permitted("an_allow_list_of_addresses") {
        return;
    }
    let policy = "  - id: egress\n    kind: connect\n    to: [0.0.0.0/0, \"::/0\"]\n    except_to:\n      - to: [127.0.0.8/30]\n        \
                  ports: [9]\n      - to: [127.0.0.16]\n    reason: Only these.\n";
    let script = r#"
for address, port in [("127.0.0.9", 9), ("127.0.0.9", 10), ("127.0.0.12", 9), ("127.0.0.16", 10), ("0.0.0.0", 9), ("1.1.1.1", 443)]:
    attempt(address, lambda: socket_of(2, 1).connect((address, port)))
    attempt(address, lambda: udp.sendto(b"x", (address, port)))
for address in ["::ffff:127.0.0.9", "::1"]:
    attempt(address, lambda: udp6.sendto(b"x", (address, 9)))
"#;
    let scene = Scene::new();
    let ran = python(&scene, policy, script);
    let expect = [
        "127.0.0.9 ECONNREFUSED",
        "127.0.0.9 ok",
        "127.0.0.9 EPERM",
        "127.0.0.9 EPERM",
        "127.0.0.12 EPERM",
        "127.0.0.12 EPERM",
        "127.0.0.16 ECONNREFUSED",
        "127.0.0.16 ok",
        "0.0.0.0 EPERM",
        "0.0.0.0 EPERM",
        "1.1.1.1 EPERM",
        "1.1.1.1 EPERM",
        "::ffff:127.0.0.9 ok",
        "::1 EPERM",
    ];
    assert_eq!(ran.stdout().lines().collect::<Vec<_>>(), expect, "{}", ran.stderr());
}

#[test]
fn abstract_names_are_recorded_with_their_rule() {
    if !is_permitted("abstract_names_are_recorded_with_their_rule") {
        return;
    }
    // `@` stands for the home in a scene's policy.
    let rule = |mode: &str| {
        format!(
            "  - id: names\n    kind: connect\n    mode: {mode}\n    unix: [\"\\x40treeline-names/*\"]\n    reason: Watched.\n"
        )
    };
    let script = r#"
for name in ["\0treeline-names/\xff\0", "\0treeline-other"]:
    server = socket_of(1); server.bind(name.encode("latin-1")); server.listen()
    attempt("connect", lambda: socket_of(1).connect(name.encode("latin-1")))
"#;
    let scene = Scene::new();
    let ran = python(&scene, &rule("monitor"), script);
    assert_eq!(ran.stdout(), "connect ok\nconnect ok\n", "{}", ran.stderr());
    let audits = with_verdict(&ran.entries, Verdict::Audit);
    assert_eq!(audits.len(), 1, "{audits:?}");
    let Action::Connect { to: Destination::Abstract(name), outcome: Outcome::Ok } = audits[0].0 else {
        panic!("{audits:?}")
    };
    assert_eq!(name.as_bytes(), b"treeline-names/\xff\0");
    let others = actions(&ran.entries).filter(|(_, action)| {
        matches!(action, Action::Connect { to: Destination::Abstract(name), .. } if name.as_bytes() == b"treeline-other")
    });
    assert_eq!(others.count(), 1);

    // It can only be recorded in this mode: in `enforce` the policy is refused, and says which rule.
    let scene = Scene::new();
    let ran = python(&scene, &rule("enforce"), script);
    assert!(ran.stderr().contains("cannot enforce the rules names"), "{}", ran.stderr());
    assert_eq!(ran.stdout(), "");
}

#[test]
fn exceptions_by_executable_hold_for_addresses() {
    if !is_permitted("exceptions_by_executable_hold_for_addresses") {
        return;
    }
    let rule = |id: &str, port: u16, except: &str| {
        format!(
            "  - id: {id}\n    kind: connect\n    to: [127.0.0.9]\n    ports: [{port}]\n    reason: No.\n{except}"
        )
    };
    let policy = rule("one", 9, "    except: [{executable: /usr/bin/bash}]\n") + &rule("two", 10, "");
    let script = r#"
for to in tcp/127.0.0.9/9 udp/127.0.0.9/9 tcp/127.0.0.9/10; do
  said=$( (echo x > /dev/$to) 2>&1 | grep -oE "Connection refused|Operation not permitted" | head -n 1)
  echo ${said:-sent}
done
python3 -c 'import socket; socket.socket(2, 2).sendto(b"x", ("127.0.0.9", 9))' 2>&1 | grep -o "Operation not permitted"
"#;
    let scene = Scene::new();
    let ran = scene.standalone(&scene.policy(&policy), script);
    let expect = ["Connection refused", "sent", "Operation not permitted", "Operation not permitted"];
    assert_eq!(ran.stdout().lines().collect::<Vec<_>>(), expect, "{}", ran.stderr());
    let rules: Vec<&str> = ran.denials().iter().map(|(_, rule)| rule.rule.as_str()).collect();
    assert_eq!(rules, ["two", "one"]);
}
