//! The real Claude Code against the scripted model API, without Treeline: that the two understand each other.
//! Needs root and an installed Claude Code (`cargo xtask demo` installs it); without them it says so and counts as skipped.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::json;
use treeline_tests::{
    child::{self, Ended},
    claude::{self, Dirs, Run},
    model_api::{ModelApi, Script},
    namespace,
};

#[test]
fn claude_code_follows_the_script() {
    let Some(binary) = installed() else {
        eprintln!("skipped: claude_code_follows_the_script: Claude Code is not installed");
        return;
    };
    namespace::inside("claude_code_follows_the_script", || follow_the_script(&binary));
}

/// The binary below the repository's root: cargo says where this package is.
fn installed() -> Option<PathBuf> {
    let package = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR")?);
    let binary = claude::binary(&package.parent()?.join(claude::INSTALL_DIR));
    binary.is_file().then_some(binary)
}

fn follow_the_script(binary: &Path) {
    let root = tempfile::tempdir().expect("a directory");
    let dirs = Dirs::below(root.path());
    dirs.create().expect("directories");
    fs::write(dirs.project.join("a.txt"), "text of a").expect("written");
    let call = |label: &str, tool: &str, input| json!({"label": label, "tool": tool, "input": input});
    let steps = json!([
        {"say": "two at once", "calls": [
            call("ls", "Bash", json!({"command": "ls"})),
            call("read", "Read", json!({"file_path": dirs.project.join("a.txt")})),
        ]},
        {"say": "one that fails", "calls": [call("false", "Bash", json!({"command": "exit 7"}))]},
    ]);
    let script =
        Script::parse(&json!({"steps": steps, "closing": "closing words"}).to_string()).expect("valid");
    let api = ModelApi::start(script).expect("loopback");

    let run = Run { binary, dirs: &dirs, port: api.port(), prompt: "go", tools: &["Bash", "Read"] };
    let (out, err) = (root.path().join("out"), root.path().join("err"));
    let mut command = run.command(&[]);
    command.stdout(File::create(&out).expect("a file")).stderr(File::create(&err).expect("a file"));
    let ended = child::run(&mut command, Duration::from_secs(60)).expect("started");
    child::end_descendants().expect("nothing stays");

    let said = [&out, &err].map(|file| fs::read_to_string(file).expect("text")).concat();
    assert!(matches!(ended, Ended::Itself(status) if status.success()), "{ended:?}: {said}");
    assert!(said.contains("closing words"), "{said}");
    let results = api.results();
    let check = |label: &str, is_error: bool, text: &str| {
        let (_, result) = results.iter().find(|(found, _)| found == label).expect(label);
        assert!(result.is_error == is_error && result.text.contains(text), "{result:?}");
    };
    check("ls", false, "a.txt");
    check("read", false, "text of a");
    check("false", true, "7");
    assert_eq!(api.faults(), Vec::<String>::new());
    let received = api.received();
    let targets: Vec<_> = received.iter().map(|request| (request.target.as_str(), request.status)).collect();
    assert_eq!(targets, [("/v1/messages?beta=true", 200); 3]);
    assert!(received.iter().all(|request| request.session.is_some()));
}
