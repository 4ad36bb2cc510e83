//! Running `treeline`, as a user would.

use std::{
    ffi::OsString,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use treeline_tests::{
    child::{self, Ended},
    claude,
};

use super::{scenario, scene::Scene};

/// Every entry of the log, one OCSF object a line.
pub(super) const ENTRIES: &[&str] = &["events", "--json"];
/// The denials, for people.
pub(super) const DENIALS: &[&str] = &["events", "--verdict", "deny"];
/// Attach mode and coverage, from what the log says of its start.
pub(super) const STATUS: &[&str] = &["status"];
/// Whether the log is whole.
pub(super) const VERIFY: &[&str] = &["log", "verify"];

/// For the whole run of Claude Code; it takes about 10 s.
const AGENT_TIME_MAX: Duration = Duration::from_secs(120);
/// For one question to the log.
const QUESTION_TIME_MAX: Duration = Duration::from_secs(60);

/// The binary and the log that it is asked about.
#[derive(Debug)]
pub(super) struct Treeline<'a> {
    pub(super) binary: &'a Path,
    pub(super) scene: &'a Scene,
}

/// What a command said.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) ended: Ended,
    pub(super) out: String,
    pub(super) err: String,
}

impl Answer {
    pub(super) fn succeeded(&self) -> bool {
        matches!(self.ended, Ended::Itself(status) if status.success())
    }

    /// How it ended, for people.
    pub(super) fn end(&self) -> String {
        match self.ended {
            Ended::Itself(status) => status.to_string(),
            Ended::TimedOut => "ended after its time was up".into(),
        }
    }
}

impl Treeline<'_> {
    /// Runs Claude Code under `treeline run --standalone`, with the model API on `port`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn run_claude(&self, claude_binary: &Path, port: u16) -> Result<Answer> {
        let run = claude::Run {
            binary: claude_binary,
            dirs: &self.scene.dirs,
            port,
            prompt: scenario::PROMPT,
            tools: &scenario::TOOLS,
        };
        let mut launcher: Vec<OsString> = vec![self.binary.into()];
        launcher.extend(["run", "--standalone", "--policy"].map(OsString::from));
        launcher.extend([
            self.scene.policy.clone().into(),
            "--log".into(),
            self.scene.log.clone().into(),
            "--".into(),
        ]);
        self.answer("run", &mut run.command(&launcher), AGENT_TIME_MAX)
    }

    /// Asks the log: `treeline WORDS --log DIR`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn ask(&self, words: &[&str]) -> Result<Answer> {
        let mut command = Command::new(self.binary);
        command.args(words).arg("--log").arg(&self.scene.log);
        self.question(words, command)
    }

    /// Asks about a policy: `treeline policy check FILE`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn check_policy(&self, file: &Path) -> Result<Answer> {
        let mut command = Command::new(self.binary);
        command.args(["policy", "check"]).arg(file);
        self.question(&["policy", "check"], command)
    }

    fn question(&self, words: &[&str], mut command: Command) -> Result<Answer> {
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("NO_COLOR", "1")
            .env("HOME", &self.scene.dirs.home);
        // Words can be paths.
        const CHARS_MAX: usize = 64;
        let name = words.join("-").replace('/', "_").chars().take(CHARS_MAX).collect::<String>();
        self.answer(&name, command.stdin(Stdio::null()), QUESTION_TIME_MAX)
    }

    /// Through files: a background process that holds a pipe open would keep the reader waiting.
    fn answer(&self, name: &str, command: &mut Command, time_max: Duration) -> Result<Answer> {
        // Where a session may write whatever the policy.
        let file = |end: &str| -> PathBuf { self.scene.dirs.tmp.join(format!("{name}.{end}")) };
        let open = |end| File::create(file(end)).with_context(|| format!("making {}", file(end).display()));
        command.stdout(open("out")?).stderr(open("err")?);
        let ended = child::run(command, time_max)
            .with_context(|| format!("running {} {name}", self.binary.display()))?;
        let text = |end| fs::read(file(end)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Ok(Answer { ended, out: text("out")?, err: text("err")? })
    }
}

/// What `sha256sum`, which is not ours, says of a file.
///
/// # Errors
/// When it fails.
pub(super) fn sha256sum(file: &Path) -> Result<String> {
    let output = Command::new("sha256sum").arg("-b").arg(file).output().context("starting `sha256sum`")?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.split_whitespace().next() {
        Some(digest) if output.status.success() && digest.len() == 64 => Ok(digest.to_owned()),
        _ => {
            bail!("`sha256sum {}` failed: {}", file.display(), String::from_utf8_lossy(&output.stderr).trim())
        }
    }
}
