//! What a rule refuses, by whatever name it is reached.

use treeline_event::{Action, Destination, Notice, Outcome};
use treeline_tests::sensor::{Scene, is_permitted, notices, with_verdict};

const KEYS: &str = "  - id: keys\n    kind: file\n    paths: [\"@/.ssh/**\"]\n    reason: Keys are not for agents.\n    \
                    except:\n      - executable: /usr/bin/head\n";

#[test]
fn a_protected_file_is_refused_by_every_name() {
    if !is_permitted("a_protected_file_is_refused_by_every_name") {
        return;
    }
    let scene = Scene::new();
    let home = scene.path("home");
    std::fs::hard_link(home.join(".ssh/id"), home.join("hard")).expect("a hard link");
    std::os::unix::fs::symlink(".ssh/id", home.join("soft")).expect("a link");
    std::os::unix::fs::symlink(".ssh", home.join("dir")).expect("a link");
    std::fs::create_dir(home.join("bind")).expect("a mount point");
    let policy = scene.policy(KEYS);
    let attempts = [
        "cat .ssh/id",
        "cat hard",
        "cat soft",
        "cat dir/id",
        "cat ./.ssh/../.ssh/id",
        "cat /proc/self/root$PWD/.ssh/id",
        "cat /proc/self/cwd/.ssh/id",
        "python3 -c 'open(\".ssh/id\")'",
        "cp .ssh/id copy",
        "ls .ssh",
        "sh -c 'echo x >> .ssh/id'",
        "sh -c 'echo x > .ssh/new'",
        "unshare -m sh -c 'mount --bind .ssh bind && cat bind/id'",
        "python3 -c 'import os; f = os.open(\".ssh/id\", os.O_PATH); open(f\"/proc/self/fd/{f}\")'",
        "LD_PRELOAD=/nonexistent.so head -1 .ssh/id",
    ];
    let script: Vec<String> = attempts
        .iter()
        .enumerate()
        .map(|(number, attempt)| format!("{attempt} >out{number} 2>err{number}; echo $?"))
        .collect();
    let ran = scene.standalone(&policy, &(script.join("\n") + "\nhead -1 .ssh/id"));
    let lines: Vec<String> = ran.stdout().lines().map(str::to_owned).collect();
    assert_eq!(lines.last().map(String::as_str), Some("KEY"), "the exception holds: {}", ran.stderr());
    for (number, attempt) in attempts.iter().enumerate() {
        assert_ne!(lines[number], "0", "`{attempt}` is refused");
        let read =
            |kind: &str| std::fs::read_to_string(home.join(format!("{kind}{number}"))).unwrap_or_default();
        assert!(!read("out").contains("KEY"), "`{attempt}` shows nothing");
        assert!(read("err").contains("not permitted"), "`{attempt}` ends with EPERM: {}", read("err"));
    }
    let denials = ran.denials();
    assert_eq!(denials.len(), attempts.len(), "one entry for each refusal: {denials:#?}");
    assert!(denials.iter().all(|(_, rule)| rule.rule == "keys" && rule.reason == "Keys are not for agents."));
    assert!(!home.join("copy").exists() || std::fs::read(home.join("copy")).expect("a file").is_empty());
    assert_eq!(
        std::fs::read_to_string(home.join(".ssh/id")).expect("the key"),
        "KEY\n",
        "it was not written to"
    );
}

#[test]
fn variables_that_load_code_take_an_exception_away() {
    if !is_permitted("variables_that_load_code_take_an_exception_away") {
        return;
    }
    let scene = Scene::new();
    let policy = scene.policy(KEYS);
    let names = [
        ("LD_PRELOAD", false),
        ("LD_AUDIT", false),
        ("LD_DEBUG_OUTPUT", false),
        ("OPENSSL_CONF", false),
        ("OPENSSL_ENGINES", false),
        ("OPENSSL_MODULES", false),
        ("GCONV_PATH", false),
        ("KRB5_CONFIG", false),
        ("GSS_MECH_CONFIG", false),
        ("SASL_PATH", false),
        ("PKCS11_MODULE_PATH", false),
        ("PKCS11_PROVIDER_MODULE", false),
        // These do not, or only for interpreters, whose exceptions are for every script anyway.
        ("LDFLAGS", true),
        ("OPENSSL_DIR", true),
        ("OPENSSL_CON", true),
        ("MY_OPENSSL_CONF", true),
        ("KRB5CCNAME", true),
        ("SASL_PASSWORD", true),
        ("GLIBC_TUNABLES", true),
        ("LOCPATH", true),
        ("NODE_OPTIONS", true),
        ("GIT_EXEC_PATH", true),
    ];
    let script: String = names
        .iter()
        .map(|(name, _)| format!("env {name}=/nonexistent head -1 .ssh/id >&2; echo {name} $?\n"))
        .collect();
    let ran = scene.standalone(&policy, &script);
    let expect: String =
        names.iter().map(|(name, is_kept)| format!("{name} {}\n", i32::from(!is_kept))).collect();
    assert_eq!(ran.stdout(), expect, "{}", ran.stderr());
}

#[test]
fn what_appears_later_is_protected() {
    if !is_permitted("what_appears_later_is_protected") {
        return;
    }
    let scene = Scene::new();
    std::fs::remove_dir_all(scene.path("home/.ssh")).expect("no keys yet");
    let policy = scene.policy(&format!(
        "{KEYS}  - id: netrc\n    kind: file\n    paths: [\"@/.netrc\"]\n    reason: Passwords.\n  - id: tokens\n    \
         kind: file\n    paths: [\"@/cfg/*.token\"]\n    reason: Tokens.\n"
    ));
    // Made by a process of the tree itself; the guard sees names, whoever makes them.
    let ran = scene.standalone(
        &policy,
        "mkdir -p .ssh cfg; sleep 0.3; mkdir .ssh/deep; echo A > .netrc; echo B > cfg/x.token; echo C > cfg/plain
         sleep 0.3; touch .ssh/deep/key; sleep 0.3; cat .netrc; cat cfg/x.token; cat .ssh/deep/key; cat cfg/plain",
    );
    assert_eq!(ran.stdout(), "C\n", "{}", ran.stderr());
    let rules: Vec<&str> = ran.denials().iter().map(|(_, rule)| rule.rule.as_str()).collect();
    for rule in ["keys", "netrc", "tokens"] {
        assert!(rules.contains(&rule), "{rule} refuses: {rules:?}");
    }
}

#[test]
fn a_rule_for_writing_lets_read() {
    if !is_permitted("a_rule_for_writing_lets_read") {
        return;
    }
    let scene = Scene::new();
    std::fs::write(scene.path("home/rc"), "rc\n").expect("a file");
    let policy = scene
        .policy("  - id: rc\n    kind: file\n    paths: [\"@/rc\"]\n    operations: [write]\n    reason: Start-up files.\n");
    let ran = scene.standalone(&policy, "cat rc; echo x >> rc; echo $?; : > rc; echo $?; cat rc");
    assert_eq!(ran.stdout(), "rc\n1\n1\nrc\n", "{}", ran.stderr());
    assert_eq!(ran.denials().len(), 2);
}

#[test]
fn readers_under_a_rule_for_writing_go_on_side_by_side() {
    if !is_permitted("readers_under_a_rule_for_writing_go_on_side_by_side") {
        return;
    }
    let scene = Scene::new();
    std::fs::write(scene.path("home/rc"), "rc\n").expect("a file");
    let policy = scene
        .policy("  - id: rc\n    kind: file\n    paths: [\"@/rc\"]\n    operations: [write]\n    reason: Start-up files.\n");
    // More readers than processors, so that some are asked about before they sleep.
    let reader = "import os\nfor _ in range(2000): os.close(os.open('rc', os.O_RDONLY))";
    let script = format!("for n in 1 2 3 4 5 6 7 8; do python3 -c \"{reader}\" & done; wait; echo x >> rc");
    let ran = scene.standalone(&policy, &script);
    assert!(!ran.stderr().contains("PermissionError"), "{}", ran.stderr());
    let denials = ran.denials();
    assert_eq!(denials.len(), 1, "only the writer is refused: {denials:#?}");
}

#[test]
fn operations_on_names_are_recorded_with_their_rule() {
    if !is_permitted("operations_on_names_are_recorded_with_their_rule") {
        return;
    }
    let scene = Scene::new();
    let policy = scene.policy(KEYS);
    let ran = scene
        .standalone(&policy, "mkdir .ssh/d; mv .ssh/d .ssh/e; rmdir .ssh/e; ln .ssh/id l; rm -f l; touch ok");
    let audits = with_verdict(&ran.entries, treeline_event::Verdict::Audit);
    let kinds: Vec<&str> = audits.iter().map(|(action, _)| action.kind()).collect();
    for kind in ["create", "rename", "delete", "link"] {
        assert!(kinds.contains(&kind), "{kind} is recorded with its rule: {kinds:?}\n{}", ran.stderr());
    }
    let status = notices(&ran.entries).find_map(|notice| match notice {
        Notice::PolicyApplied { rules, .. } => {
            rules.iter().find(|status| !treeline_event::is_own_rule(&status.rule)).cloned()
        }
        _ => None,
    });
    let status = status.expect("the policy was applied");
    assert_eq!(status.enforced, ["read", "write"], "what is only recorded is not called enforced");
    let by_name = ["truncate by name, owner and mode", "create", "delete", "rename", "link"];
    assert_eq!(status.observed, by_name);
}

#[test]
fn execs_are_refused_by_path() {
    if !is_permitted("execs_are_refused_by_path") {
        return;
    }
    let scene = Scene::new();
    std::fs::create_dir(scene.path("home/bin")).expect("a directory");
    std::fs::copy("/bin/true", scene.path("home/bin/tool")).expect("a program");
    let policy = scene
        .policy("  - id: tools\n    kind: exec\n    paths: [\"@/bin/*\"]\n    reason: Unreviewed tools.\n");
    let ran =
        scene.standalone(&policy, "bin/tool; echo $?; ln -s bin/tool t; ./t; echo $?; /bin/true; echo $?");
    assert_eq!(ran.stdout(), "126\n126\n0\n", "{}", ran.stderr());
    let denials = ran.denials();
    assert!(
        denials.iter().all(|(action, rule)| action.kind() == "exec_denied" && rule.rule == "tools"),
        "{denials:?}"
    );
    assert_eq!(denials.len(), 2);
}

#[test]
fn connects_are_refused_by_address_and_port() {
    if !is_permitted("connects_are_refused_by_address_and_port") {
        return;
    }
    let scene = Scene::new();
    let policy = scene.policy(
        "  - id: meta\n    kind: connect\n    to: [127.0.0.9/32, \"::1\"]\n    ports: [81]\n    reason: Metadata.\n",
    );
    let script = r#"
import socket, errno
for family, address, port in [(2, "127.0.0.9", 81), (2, "127.0.0.9", 82), (2, "127.0.0.1", 81), (10, "::1", 81),
                              (10, "::1", 82), (10, "::ffff:127.0.0.9", 81)]:
    s = socket.socket(family, socket.SOCK_STREAM)
    print(errno.errorcode[s.connect_ex((address, port))])
"#;
    let ran = scene.standalone(&policy, &format!("python3 - <<'X'\n{script}\nX"));
    let expect = ["EPERM", "ECONNREFUSED", "ECONNREFUSED", "EPERM", "ECONNREFUSED", "EPERM"];
    assert_eq!(ran.stdout().lines().collect::<Vec<_>>(), expect, "{}", ran.stderr());
    let denials = ran.denials();
    assert_eq!(denials.len(), 3, "{denials:?}");
    let refused = |outcome: &Outcome| *outcome == Outcome::Errno(111);
    let others = treeline_tests::sensor::actions(&ran.entries).filter(|(_, action)| {
        matches!(action, Action::Connect { to: Destination::V4(..) | Destination::V6(..), outcome } if refused(outcome))
    });
    assert_eq!(others.count(), 3, "connects that are let through have their result");
}

#[test]
fn outside_the_tree_nothing_is_refused_or_recorded() {
    if !is_permitted("outside_the_tree_nothing_is_refused_or_recorded") {
        return;
    }
    let scene = Scene::new();
    let policy = scene.policy(KEYS);
    let key = scene.path("home/.ssh/id");
    let reader = std::thread::spawn(move || {
        let started = std::time::Instant::now();
        let mut reads = 0;
        while started.elapsed() < std::time::Duration::from_secs(3) {
            assert_eq!(std::fs::read_to_string(&key).expect("it is ours to read"), "KEY\n");
            reads += 1;
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        reads
    });
    let ran = scene.standalone(&policy, "cat .ssh/id; sleep 1");
    assert!(reader.join().expect("nothing was refused") > 100);
    assert_eq!(ran.denials().len(), 1);
    let own = std::process::id();
    assert!(treeline_tests::sensor::actions(&ran.entries).all(|(process, _)| process.key.pid != own));
}
