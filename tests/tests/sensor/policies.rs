//! What `treeline policy` answers, as a process: output, and exit status.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use treeline_tests::sensor::{Scene, binary, expect};

const POLICY: &str = "\
version: 1
name: t
rules:
  - {id: keys, kind: file, paths: [/keys/**], reason: Keys., except: [{executable: /usr/bin/ssh}]}
";

fn policies() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../policies"))
}

fn run(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(binary())
        .current_dir(directory)
        .arg("policy")
        .args(arguments)
        .output()
        .expect("the binary runs")
}

/// Runs `treeline policy` and checks its exit status and what it prints on both outputs.
#[track_caller]
fn check(directory: &Path, arguments: &[&str], code: i32, words: &[&str]) {
    let output = run(directory, arguments);
    expect(output, code, words);
}

#[test]
fn shipped_policies_pass_their_tests_and_leave_nothing_out() {
    check(policies(), &["test"], 0, &["baseline.test.yaml: policy `baseline`, ", " 0 failed\n"]);
    let output = run(policies(), &["test", "--json", "baseline.yaml"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json[0]["untested"], serde_json::json!({"rules": [], "exceptions": []}));
}

#[test]
fn what_another_policy_changes() {
    let scene = Scene::new();
    let directory = scene.path("p");
    fs::create_dir(&directory).expect("a directory");
    fs::write(directory.join("old.yaml"), POLICY).expect("a file");
    let write = |text: String| fs::write(directory.join("new.yaml"), text).expect("a file");
    write(POLICY.to_owned());
    check(&directory, &["diff", "old.yaml", "new.yaml"], 0, &["nothing differs"]);
    write(POLICY.replace("/usr/bin/ssh}", "/usr/bin/ssh}, {executable: /usr/bin/scp}"));
    let told = [
        "rule `keys` is changed",
        "+ except: /usr/bin/scp",
        "loosens     read, write",
        "for `/usr/bin/scp`",
        "such as ",
    ];
    check(&directory, &["diff", "old.yaml", "new.yaml"], 1, &told);
    check(&directory, &["diff", "old.yaml", "new.yaml", "--fail-on", "never"], 0, &told);
    check(&directory, &["diff", "new.yaml", "old.yaml"], 0, &["tightens", "0 loosen"]);
    check(&directory, &["diff", "new.yaml", "old.yaml", "--fail-on", "any"], 1, &["tightens"]);
    let output = run(&directory, &["diff", "old.yaml", "new.yaml", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["decisions"][0]["effect"], "loosens", "{json}");
    assert_eq!(json["decisions"][0]["subjects"]["only"][0], "/usr/bin/scp", "{json}");
    write(POLICY.replace("reason: Keys.", "reason: Keys., expires: 2999-03-01"));
    let at = |time: &str, code: i32, words: &[&str]| {
        check(&directory, &["diff", "old.yaml", "new.yaml", "--at", time], code, words);
    };
    at("2999-02-28", 0, &["+ expires: 2999-03-01", "no decision differs"]);
    at("2999-03-01", 1, &["rule `keys` is removed", "loosens"]);
    check(&directory, &["diff", "old.yaml", "missing.yaml"], 2, &["missing.yaml"]);
    fs::write(directory.join("bad.yaml"), "version: 1\n").expect("a file");
    check(&directory, &["diff", "old.yaml", "bad.yaml"], 2, &["has no `name`", "is not a valid policy"]);
}

#[test]
fn tests_of_policies() {
    let scene = Scene::new();
    let directory = scene.path("p");
    fs::create_dir(&directory).expect("a directory");
    check(&directory, &["test"], 2, &["`.` has no tests"]);
    fs::write(directory.join("p.yaml"), POLICY).expect("a file");
    check(&directory, &["test", "p.yaml"], 2, &["`p.yaml` has no tests: there is no `p.test.yaml`"]);
    let tests = |test: &str| {
        let text = format!("policy: p.yaml\ntests: [{{do: read /keys/id, {test}}}]\n");
        fs::write(directory.join("p.test.yaml"), text).expect("a file");
    };
    tests("by: /usr/bin/ssh, expect: allow");
    check(&directory, &["test", "-v"], 0, &["passed  read /keys/id by /usr/bin/ssh: allow", "rule `keys`"]);
    tests("by: /usr/bin/ssh, expect: deny keys");
    let shown =
        ["error[test-failed]", "p.test.yaml:2:55", "p.yaml:4:10", "lifted for `/usr/bin/ssh`", "1 failed"];
    check(&directory, &["test"], 1, &shown);
    tests("expect: deny");
    check(&directory, &["test"], 1, &["error[bad-expectation]", "p.test.yaml: not valid"]);
}

#[test]
fn what_an_attach_mode_can_enforce() {
    let scene = Scene::new();
    let policy = scene.path("p.yaml");
    fs::write(&policy, POLICY.replace("/keys/**", "\"**/keys\"")).expect("a file");
    let name = policy.display().to_string();
    let check = |mode, code, words: &[&str]| {
        check(Path::new("/"), &["check", "-v", "--mode", mode, &name], code, words);
    };
    check("lsm", 0, &["  keys  enforce  kernel  [enforced]\n"]);
    check("fmod_ret", 0, &["  keys  enforce  kernel  [enforced]\n"]);
    let refused = [
        "error[unenforceable]: attach mode fallback cannot enforce `keys`",
        "p.yaml:4:10",
        "holds everywhere",
    ];
    check("fallback", 1, &refused);
    check("replay", 2, &["replay"]);
}

#[test]
fn what_a_policy_takes() {
    let words = ["policy `baseline`, ", " 5 homes, ", "\nNAMES ", "\nRULES ", "\npath ", "a guess"];
    check(policies(), &["compile", "baseline.yaml", "--homes", "5"], 0, &words);
    let output = run(policies(), &["compile", "--json", "--mode", "lsm", "baseline.yaml"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["compiled"]["estimate"]["costs"].as_array().map(Vec::len), Some(4), "{json}");
    let refused = ["compile", "--mode", "fallback", "baseline.yaml"];
    check(policies(), &refused, 1, &["error[unenforceable]", "container-sockets"]);
    check(policies(), &["compile", "gone.yaml"], 2, &["gone.yaml"]);
}

#[test]
fn a_benchmark() {
    let output = run(Path::new("/"), &["bench", "--json", "--runs", "1"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["rules"], 1000);
    assert!(json["total_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{json}");
}

#[test]
fn questions_in_words() {
    let scene = Scene::new();
    let policy = scene.path("p.yaml");
    fs::write(&policy, POLICY).expect("a file");
    let ask = |words: &str, code, expect: &str| {
        check(Path::new("/"), &["explain", &policy.display().to_string(), "--do", words], code, &[expect]);
    };
    ask("read /keys/id", 1, "read /keys/id by any executable\ndeny by `keys`");
    ask("unix @bus", 0, "unix @bus by any executable\nallow");
    ask("raed /keys/id", 2, "did you mean `read`?");
}

#[test]
fn one_form() {
    let scene = Scene::new();
    let directory = scene.path("p");
    fs::create_dir(&directory).expect("a directory");
    let file = directory.join("p.yaml");
    fs::write(&file, POLICY).expect("a file");
    std::os::unix::fs::symlink("p.yaml", directory.join("link.yaml")).expect("a link");
    check(&directory, &["fmt", "--check", "link.yaml"], 1, &["link.yaml:4: would be formatted"]);
    check(&directory, &["fmt", "link.yaml"], 0, &["link.yaml: formatted"]);
    check(&directory, &["fmt", "--check", "p.yaml"], 0, &[]);
    assert!(directory.join("link.yaml").is_symlink());
    fs::write(directory.join("p.yaml.note"), "signed").expect("a note");
    check(&directory, &["fmt", "p.yaml"], 0, &[]);
    fs::write(&file, POLICY).expect("a file");
    check(&directory, &["fmt", "p.yaml"], 0, &["p.yaml: formatted", "`p.yaml` has to be signed again"]);
    let text = fs::read_to_string(&file).expect("a file");
    assert!(text.contains("  - id: keys\n    kind: file\n    paths: [/keys/**]\n"), "{text}");
    check(&directory, &["test", "p.yaml"], 2, &["no tests"]);
    check(&directory, &["fmt", "gone.yaml"], 2, &["cannot format `gone.yaml`", "No such file"]);
    check(&directory, &["fmt", "-", "p.yaml"], 2, &["`-` is formatted alone"]);
    check(&directory, &["fmt", "--json", "-"], 2, &["standard output"]);
    fs::write(&file, "a: [").expect("a file");
    check(&directory, &["fmt", "p.yaml"], 1, &["error[not-yaml]", "p.yaml: not valid"]);
    assert_eq!(fs::read_to_string(&file).expect("a file"), "a: [");
}

#[test]
fn one_form_of_standard_input() {
    let ask = |arguments: &[&str], input: &str| {
        let mut child = Command::new(binary())
            .args(["policy", "fmt", "-"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it reads");
        child.wait_with_output().expect("it ends")
    };
    let printed = ask(&[], POLICY);
    let text = String::from_utf8(printed.stdout.clone()).expect("text");
    assert!(text.starts_with("version: 1\nname: t\nrules:\n  - id: keys\n"), "{text}");
    expect(printed, 0, &[]);
    expect(ask(&["--check"], &text), 0, &[]);
    expect(ask(&["--check"], POLICY), 1, &["<stdin>:4: would be formatted"]);
    expect(ask(&[], "a: ["), 1, &["error[not-yaml]", "<stdin>"]);
}

#[test]
fn schemas_for_editors() {
    for (kind, title) in
        [("policy", "Treeline: policy"), ("part", "Treeline: part"), ("test", "Treeline: tests")]
    {
        let output = run(Path::new("/"), &["schema", kind]);
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(json["title"], title);
        let shipped = fs::read(policies().join(format!("{kind}.schema.json"))).expect("it is shipped");
        assert_eq!(output.stdout, shipped);
    }
    check(Path::new("/"), &["schema"], 0, &["\"title\": \"Treeline: policy\""]);
}

#[test]
fn what_is_likely_not_meant() {
    let scene = Scene::new();
    let (policy, link) = (scene.path("p.yaml"), scene.path("link"));
    fs::create_dir(scene.path("real")).expect("a directory");
    std::os::unix::fs::symlink("real", &link).expect("a link");
    let rule = |more: &str| {
        format!(
            "  - {{id: wide, kind: file, paths: [/keys/**, \"{}/**\"], reason: r{more}}}\n",
            link.display()
        )
    };
    let name = policy.display().to_string();
    let check = |arguments: &[&str], code, words: &[&str]| {
        let arguments = [&["check"], arguments, &[name.as_str()]].concat();
        check(Path::new("/"), &arguments, code, words);
    };
    fs::write(&policy, format!("{POLICY}{}", rule(""))).expect("a file");
    let void =
        ["warning[idle-exception]", "p.yaml:4:", "not lifted here", "an exception lifts its own rule only"];
    check(&[], 0, &void);
    check(&["--strict"], 1, &void);
    fs::write(&policy, format!("version: 1\nname: t\nrules:\n{}", rule(""))).expect("a file");
    check(&["--strict"], 0, &["valid"]);
    check(&["--strict", "--host"], 1, &["warning[through-link]", "/real/**`"]);
    fs::write(
        &policy,
        format!("version: 1\nname: t\nrules:\n{}", rule(", silence: {through-link: so it is}")),
    )
    .expect("a file");
    check(&["--strict", "--host", "-v"], 0, &["silenced: through-link of `wide`: so it is"]);
}

#[test]
fn the_shipped_policy_has_nothing_that_is_not_meant() {
    check(
        policies(),
        &["check", "--strict", "-v", "baseline.yaml"],
        0,
        &["baseline.yaml: valid", "  SHA-256 "],
    );
    let output = run(policies(), &["check", "--host", "--json", "baseline.yaml"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let writable = |one: &&serde_json::Value| one["code"] == "writable-executable";
    let silenced: Vec<_> = json[0]["silenced"].as_array().expect("a list").iter().filter(writable).collect();
    assert_eq!(silenced.len(), 2, "{json:#}");
}

#[test]
fn who_reads_may_have_seen_enough() {
    let scene = Scene::new();
    let policy = scene.path("p.yaml");
    fs::write(&policy, format!("{POLICY}  - {{id: keys, kind: exec, reason: r}}\n")).expect("a file");
    // `:` reads nothing, and has ended when it is written to.
    let piped = |arguments: &str, code: i32| {
        let script = format!(
            "set -o pipefail; {{ sleep 0.2; exec {} policy {arguments} 2>&1; }} | :",
            binary().display()
        );
        let output =
            Command::new("bash").args(["-c", &script]).current_dir(policies()).output().expect("bash runs");
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), words.as_str()), (Some(code), ""), "{arguments}");
    };
    for arguments in
        ["compile baseline.yaml", "compile --json baseline.yaml", "check -v baseline.yaml", "test -v"]
    {
        piped(arguments, 0);
    }
    piped(&format!("check {}", policy.display()), 1);
    piped("check gone.yaml", 2);
}

#[test]
fn a_file_that_cannot_be_read_keeps_no_other_from_being_checked() {
    let scene = Scene::new();
    let directory = scene.path("p");
    fs::create_dir(&directory).expect("a directory");
    fs::write(directory.join("good.yaml"), POLICY).expect("a file");
    fs::write(directory.join("bad.yaml"), "version: 1\n").expect("a file");
    let files = ["check", "good.yaml", "gone.yaml", "bad.yaml"];
    check(&directory, &files, 2, &["good.yaml: valid", "cannot read `gone.yaml`", "bad.yaml:1:1"]);
    let output = run(&directory, &[&files[..], &["--json"]].concat());
    assert_eq!(output.status.code(), Some(2));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let said = |at: usize| (json[at]["valid"].as_bool(), json[at]["error"].is_string());
    assert_eq!(
        [said(0), said(1), said(2)],
        [(Some(true), false), (Some(false), true), (Some(false), false)],
        "{json}"
    );
}

#[test]
fn a_policy_that_is_a_fifo_is_refused_at_once() {
    let scene = Scene::new();
    let fifo = scene.path("p.yaml");
    assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo runs").success());
    let name = fifo.display().to_string();
    check(Path::new("/"), &["check", &name], 2, &["p.yaml", "it is no regular file"]);
}

#[test]
fn without_a_daemon_there_is_a_log() {
    let scene = Scene::new();
    let (policy, socket) = (scene.path("p.yaml"), scene.path("gone.sock").display().to_string());
    fs::write(&policy, POLICY).expect("a file");
    let arguments = ["replay", &policy.display().to_string(), "--socket", &socket];
    check(Path::new("/"), &arguments, 2, &["hint: ", "read a log directory without it: `--log DIR`"]);
}
