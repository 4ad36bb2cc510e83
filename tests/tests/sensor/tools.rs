//! Rules about tool calls, as far as somebody asks: `treeline policy`, and the process that takes shell commands apart.

use std::{
    fs,
    io::{Read as _, Write as _},
    path::Path,
    process::{Command, Output, Stdio},
};

use treeline_policy::{
    Features,
    tool::{Opaque, Workplace},
};
use treeline_tests::sensor::{Scene, binary, expect};

const POLICY: &str = "\
version: 1
name: t
defaults:
  tool: {action: deny, reason: Not listed.}
rules:
  - {id: looking, kind: tool, action: allow, tools: [Read], reason: Free.}
  - {id: outside, kind: tool, tools: [Bash, Write], when: {writes: outside_repository}, reason: Stay inside.}
  - {id: push, kind: tool, tools: [Bash], when: {programs: [git], words: [push], flags: [--force, -f]}, reason: Ask first.}
  - {id: shell, kind: tool, action: allow, tools: [Bash, Write], when: {programs: [ls, rm], writes: inside_repository}, reason: Work.}
  - {id: git, kind: tool, action: allow, tools: [Bash], when: {programs: [git]}, reason: Work.}
";

fn policy(directory: &Path, input: &str, arguments: &[&str]) -> Output {
    let mut child = Command::new(binary())
        .current_dir(directory)
        .arg("policy")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    // What is wrong with its arguments it says without reading.
    let written = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    let is_gone = |error: &std::io::Error| error.kind() == std::io::ErrorKind::BrokenPipe;
    assert!(written.as_ref().err().is_none_or(is_gone), "{written:?}");
    child.wait_with_output().expect("it ends")
}

#[test]
fn a_call_is_explained() {
    let scene = Scene::new();
    let directory = scene.path("p");
    fs::create_dir_all(directory.join("repository/.git")).expect("a directory");
    fs::create_dir_all(directory.join("repository/src")).expect("a directory");
    fs::write(directory.join("p.yaml"), POLICY).expect("a file");
    let check = |tool: &str, input: &str, code: i32, words: &[&str]| {
        let arguments = ["explain", "../../p.yaml", "--tool", tool, "--input", "-"];
        let output = policy(&directory.join("repository/src"), input, &arguments);
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        expect(output, code, words);
        shown
    };
    check(
        "Bash",
        r#"{"command": "ls -l x"}"#,
        0,
        &["tool Bash by any executable", "runs: ls -l x", "allow by `shell` of policy `t`"],
    );
    check(
        "Bash",
        r#"{"command": "sudo -u ada sh -c 'git push -f origin'"}"#,
        1,
        &["runs: git push -f origin", "deny by `push`", "reason: Ask first."],
    );
    let token = format!("ghp_{}", "a".repeat(36));
    let input = format!(r#"{{"command": "export T={token}; find . -name 'a b' -exec git push {{}} \\;"}}"#);
    let lines = ["runs: export T=[github-token left out], find . -name 'a b' -exec git push {} ;"];
    let shown = check("Bash", &input, 1, &lines);
    assert!(!shown.contains(&token), "{shown}");
    check("Bash", r#"{"command": "./git status"}"#, 1, &["runs: ", "/git status", "that allows nothing"]);
    check("Bash", r#"{"command": "rm ../x"}"#, 0, &["writes: ", "/repository/x"]);
    check("Bash", r#"{"command": "rm ../../x"}"#, 1, &["deny by `outside`"]);
    check(
        "Bash",
        r#"{"command": "rm -rf x; ls $y"}"#,
        1,
        &["may use other files and hosts: ls", "deny by `default/tool`"],
    );
    check(
        "Bash",
        r#"{"command": "tar -C /etc -xf x.tar"}"#,
        1,
        &["may read or write: /etc", "deny by `outside`", "which cannot be told and counts"],
    );
    check("Bash", r#"{"command": "./git status"}"#, 1, &["deny by `default/tool`"]);
    check("Bash", r#"{"command": "cargo build"}"#, 1, &["deny by `default/tool`", "shell", "allow"]);
    check(
        "Bash",
        r#"{"command": "eval \"$x\""}"#,
        1,
        &["cannot be told: eval", "which cannot be told and counts"],
    );
    check("Read", r#"{"file_path": "/etc/passwd"}"#, 0, &["reads: /etc/passwd", "allowed by `looking`"]);
    check("Write", r#"{"file_path": "/etc/x", "content": ""}"#, 1, &["writes: /etc/x", "deny by `outside`"]);
    check("Frobnicate", "{}", 1, &["cannot be told: input", "deny by `default/tool`"]);
    check("Bash", "{", 2, &["`-` is no JSON"]);
    check("a b", "{}", 2, &["`a b` is no name of a tool", "letters, digits"]);
    check("mcp__gh__search", "{}", 2, &["is a tool of a server, which is asked about as `mcp`"]);
    let escape = r#"{"command": "ls '\u001b[2J'"}"#;
    check("Bash", escape, 0, &["runs: ls \\x1b[2J"]);
}

#[test]
fn a_call_is_explained_to_scripts() {
    let scene = Scene::new();
    let directory = scene.path("p");
    fs::create_dir_all(directory.join("repository")).expect("a directory");
    fs::write(directory.join("p.yaml"), POLICY).expect("a file");
    let file = directory.join("input.json");
    fs::write(&file, r#"{"command": "git push --force"}"#).expect("a file");
    let arguments = [
        "explain",
        "p.yaml",
        "--tool",
        "Bash",
        "--input",
        "input.json",
        "--repository",
        "repository",
        "--json",
    ];
    let output = policy(&directory, "", &arguments);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&json["verdict"], &json["rule"]), (&"deny".into(), &"push".into()), "{json}");
    assert_eq!(json["features"]["commands"][0]["flags"], serde_json::json!(["--force"]));
    assert_eq!(json["features"]["opaque"], serde_json::json!([]));
}

#[test]
fn a_call_of_a_server_is_explained() {
    let scene = Scene::new();
    let directory = scene.path("p");
    fs::create_dir(&directory).expect("a directory");
    let text = "version: 1\nname: t\ndefaults: {mcp: {action: deny, reason: Not approved.}}\nrules:\n  \
                - {id: search, kind: mcp, action: allow, servers: [{url: \"https://mcp.example.com/s\"}], tools: [search], reason: Approved.}\n";
    fs::write(directory.join("p.yaml"), text).expect("a file");
    let explain =
        |input: &str, more: &[&str]| policy(&directory, input, &[&["explain", "p.yaml"], more].concat());
    let check = |server: &str, tool: &str, code: i32, words: &[&str]| {
        expect(explain(server, &["--mcp", tool, "--server", "-"]), code, words);
    };
    let url = r#"{"url": "https://mcp.example.com/s/x"}"#;
    check(url, "search", 0, &["mcp search by any executable\naddress: https://mcp.example.com/s/x\nallow"]);
    check(url, "delete", 1, &["deny by `default/mcp`"]);
    let script = r#"{"interpreter": "/usr/bin/node", "script": "unknown", "package": {"npm": "x"}}"#;
    check(
        script,
        "search",
        1,
        &[
            "executes: /usr/bin/node with SHA-256 cannot be told",
            "script: cannot be told",
            "package: npm x of a version",
        ],
    );
    expect(explain("", &["--mcp", "search"]), 1, &["server: cannot be told", "deny by `default/mcp`"]);
    let output = explain(url, &["--mcp", "search", "--server", "-", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["server"]["remote"]["url"]["is"]["host"], "mcp.example.com", "{json}");
    check("{\"name\": 1}", "search", 2, &["`-` says of no server what it is", "unknown key `name`"]);
    check("{", "search", 2, &["not-yaml"]);
    check(url, "a b", 2, &["`a b` is no name of a tool"]);
    expect(explain("", &["--mcp", "x", "--server", "missing"]), 2, &["cannot read `missing`"]);
    expect(explain("", &["--trace", "--server", "-"]), 2, &["--mcp"]);
}

#[test]
fn calls_are_tested_and_nobody_asks_about_them_yet() {
    let scene = Scene::new();
    let directory = scene.path("p");
    fs::create_dir(&directory).expect("a directory");
    fs::write(directory.join("p.yaml"), POLICY).expect("a file");
    let tests = |test: &str| {
        let text = format!("policy: p.yaml\nmachine: {{cwd: /w/p, repository: /w/p}}\ntests: [{{{test}}}]\n");
        fs::write(directory.join("p.test.yaml"), text).expect("a file");
    };
    let run = |code, words: &[&str]| expect(policy(&directory, "", &["test", "p.yaml"]), code, words);
    tests("do: tool Bash, input: {command: env X=1 git push -f}, expect: deny push");
    run(0, &["1 passed"]);
    tests("do: tool Bash, input: {command: git push}, expect: deny push");
    run(
        1,
        &[
            "expected is `deny push`, and the policy says `allow`",
            "this rule was to decide: `git` has none of `flags`",
        ],
    );
    tests("do: tool Bash, expect: allow");
    run(1, &["error[missing-key]", "has an `input`"]);
    let check = |mode: &str| {
        let output = policy(&directory, "", &["check", "-v", "p.yaml", "--mode", mode]);
        expect(
            output,
            1,
            &["error[unenforceable]", "cannot enforce `push`: nothing asks about tool calls yet"],
        );
    };
    check("lsm");
    check("fallback");
    expect(
        policy(&directory, "", &["check", "-v", "p.yaml"]),
        0,
        &["looking       allow    user: no kernel program"],
    );
}

/// The process has what it needs and no more, answers again and again, and ends with its input.
#[test]
fn commands_are_taken_apart_in_a_process_of_their_own() {
    let mut child = Command::new(binary())
        .arg(treeline::tools::worker::VERB)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let (mut questions, mut answers) =
        (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
    let mut ready = [0];
    answers.read_exact(&mut ready).expect("it is ready");
    assert_eq!(ready, [treeline::tools::worker::READY]);
    let limits = fs::read_to_string(format!("/proc/{}/limits", child.id())).expect("it runs");
    for (what, limit) in [
        ("Max address space", "268435456"),
        ("Max cpu time", "60"),
        ("Max open files", "3"),
        ("Max file size", "0"),
        ("Max processes", "0"),
        ("Max core file size", "0"),
    ] {
        let line = limits.lines().find(|line| line.starts_with(what)).unwrap_or_default();
        assert_eq!(line.split_whitespace().nth(what.split(' ').count()), Some(limit), "{line}");
    }
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).expect("it runs");
    for (what, expect) in [
        ("NoNewPrivs:", "1"),
        ("Seccomp:", "2"),
        ("CapEff:", "0000000000000000"),
        ("CapPrm:", "0000000000000000"),
    ] {
        let line = status.lines().find(|line| line.starts_with(what)).unwrap_or_default();
        assert_eq!(line.split_whitespace().nth(1), Some(expect), "{line}");
    }
    let mut ask = |command: &str| -> Features {
        let question =
            treeline::tools::worker::Question { command: command.to_owned(), place: Workplace::default() };
        let frame = treeline::control::proto::encode(&question).expect("short");
        questions.write_all(&frame).expect("it reads");
        let mut head = [0; 4];
        answers.read_exact(&mut head).expect("it answers");
        let mut body = vec![0; treeline::control::proto::frame_len(head).expect("short")];
        answers.read_exact(&mut body).expect("it answers");
        treeline::control::proto::decode(&body).expect("an answer")
    };
    assert_eq!(ask("git push").commands[0].program, "git");
    assert_eq!(ask("<<E$[\t\t\t\t").opaque, [Opaque::Arithmetic]);
    assert_eq!(ask("case x in x) ".repeat(40).as_str()).opaque, [Opaque::Bounds]);
    assert_eq!(ask("ls").commands[0].program, "ls");
    drop(questions);
    assert!(child.wait().expect("it ends").success());
}
