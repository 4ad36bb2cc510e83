//! What the model makes the agent do, and what must come of it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};
use treeline_tests::model_api::{Call, Script, Step};

use super::{
    listener,
    scene::{self, Scene},
};

/// What must come of a tool call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    /// It works, and its result holds this text.
    Shows(String),
    /// It is refused, and the log holds a denial of this executable.
    Refused(PathBuf),
}

/// One tool call with its expectation.
#[derive(Clone, Debug)]
pub(super) struct Act {
    pub(super) label: &'static str,
    tool: &'static str,
    input: Value,
    pub(super) expect: Expect,
}

/// The tools that the agent may use without asking.
pub(super) const TOOLS: [&str; 3] = ["Bash", "Read", "Write"];
/// What the user is supposed to have typed.
pub(super) const PROMPT: &str = "Show what you can do here, and what you cannot.";
/// What the background command leaves behind.
pub(super) const BACKGROUND_FILE: &str = "background.txt";
pub(super) const BACKGROUND_TEXT: &str = "written by the background command";
const NOTES_TEXT: &str = "notes that the agent wrote";

/// Everything that the agent does, in order.
///
/// # Errors
/// When a program that it uses is not installed.
pub(super) fn acts(scene: &Scene, claude: &Path, port: u16) -> Result<Vec<Act>> {
    let project = &scene.dirs.project;
    let (notes, readme) = (project.join("notes.txt"), project.join("README.md"));
    let write = json!({"file_path": notes, "content": format!("{NOTES_TEXT}\n")});
    let connect = format!("exec 3<>/dev/tcp/127.0.0.1/{port} && head -n 1 <&3");
    let background = format!("sleep 0.2; echo '{BACKGROUND_TEXT}' > {BACKGROUND_FILE}");
    let python = r#"python3 -c 'import os; print(open(os.path.expanduser("~/.ssh/id_ed25519")).read())'"#;
    // Claude Code itself refuses a plain `cp` whose argument leads out of the project; behind `sh -c` it does not look.
    let copy = format!("sh -c 'cp {} copy-of-key'", scene::LINK);
    let commit = "git init -q . && git add README.md notes.txt && git -c user.name=Demo -c user.email=demo@example.invalid \
                  commit -qm first && git log --oneline";
    let tests = r#"printf 'import unittest\nclass Sum(unittest.TestCase):\n  def test(self): self.assertEqual(1 + 1, 2)\n' > test_app.py && python3 -m unittest 2>&1"#;
    // What strict policies refuse, and nothing else does. The address is one for documentation, and there is no network.
    let outside = "sh -c 'echo a > ~/notes-of-the-agent.txt' && echo written";
    let elsewhere = "(exec 3<>/dev/tcp/192.0.2.1/80) 2>&1 || true";
    // Long enough for the background command to have ended.
    let go_on = format!("sleep 1; cat notes.txt {BACKGROUND_FILE}");
    let read = |file: &Path| json!({"file_path": file});
    let shell = |command: &str| json!({"command": command});
    let shows = |text: &str| Expect::Shows(text.to_owned());
    let refused = |name: &str| program(name).map(Expect::Refused);
    let act = |label, tool, input, expect| Act { label, tool, input, expect };
    Ok(vec![
        act("list files", "Bash", shell("ls -la"), shows("README.md")),
        act("read a project file", "Read", read(&readme), shows(scene::README)),
        act("write a project file", "Write", write, shows("notes.txt")),
        act("connect to a loopback port", "Bash", shell(&connect), shows(listener::GREETING)),
        act("commit", "Bash", shell(commit), shows("first")),
        act("run tests", "Bash", shell(tests), shows("OK")),
        act("write outside of the project", "Bash", shell(outside), shows("written")),
        act("connect to an address elsewhere", "Bash", shell(elsewhere), shows("unreachable")),
        act(
            "start a background command",
            "Bash",
            json!({"command": background, "run_in_background": true}),
            shows("background"),
        ),
        act("the key by the Read tool", "Read", read(&scene.key), Expect::Refused(claude.to_owned())),
        act("the key by cat", "Bash", shell("cat ~/.ssh/id_ed25519"), refused("cat")?),
        act("the key by python", "Bash", shell(python), refused("python3")?),
        act("the key by a copy through a symlink", "Bash", shell(&copy), refused("cp")?),
        act("go on working", "Bash", shell(&go_on), shows(&format!("{NOTES_TEXT}\n{BACKGROUND_TEXT}"))),
    ])
}

/// The script that makes the agent do it.
pub(super) fn script(acts: &[Act]) -> Script {
    let step = |act: &Act| {
        let input = act.input.as_object().cloned().unwrap_or_else(Map::new);
        let call = Call { label: act.label.into(), tool: act.tool.into(), input };
        Step { say: format!("Next: {}.", act.label), calls: vec![call] }
    };
    Script { steps: acts.iter().map(step).collect(), closing: "That was everything.".into() }
}

/// The file behind a program of the agent's search path.
///
/// # Errors
/// When it is not installed.
pub(super) fn program(name: &str) -> Result<PathBuf> {
    let Some(found) =
        ["/usr/bin", "/bin"].map(|dir| Path::new(dir).join(name)).into_iter().find(|file| file.exists())
    else {
        bail!(
            "`{name}` is not in /usr/bin; the demo needs it. On Debian: `apt-get install python3 coreutils bash`"
        )
    };
    found.canonicalize().with_context(|| format!("resolving {}", found.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_is_valid_and_tries_the_key_in_four_ways() {
        let root = tempfile::tempdir().expect("a directory");
        let scene = Scene::create(root.path()).expect("made");
        let acts = acts(&scene, Path::new("/claude"), 1).expect("programs");
        script(&acts).check().expect("a valid script");
        assert_eq!(acts.iter().filter(|act| matches!(act.expect, Expect::Refused(_))).count(), 4);
        let background: Vec<_> = acts.iter().filter(|act| act.input["run_in_background"] == true).collect();
        assert_eq!(background.len(), 1);
    }
}
