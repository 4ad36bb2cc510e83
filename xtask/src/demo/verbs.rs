//! Running `treeline`, as a user would.

use std::{
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

use super::{
    scenario::{PROMPT, TOOLS},
    scene::Scene,
};

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
        let mut command = Command::new(self.binary);
        command.args(["run", "--standalone", "--policy"]).arg(&self.scene.policy);
        command.arg("--log").arg(&self.scene.log).arg("--").arg(claude_binary);
        command.args(claude::arguments(PROMPT, &TOOLS));
        command.env_clear().envs(claude::environment(&self.scene.dirs, port));
        command.current_dir(&self.scene.dirs.project);
        self.answer("run", command, AGENT_TIME_MAX)
    }

    /// Asks the log: `treeline VERB --log DIR ...`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn ask(&self, words: &[&str]) -> Result<Answer> {
        let mut command = Command::new(self.binary);
        command.args(words).arg("--log").arg(&self.scene.log);
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("NO_COLOR", "1")
            .env("HOME", &self.scene.dirs.home);
        self.answer(&words.join("-"), command, QUESTION_TIME_MAX)
    }

    /// Through files: a background process that holds a pipe open would keep the reader waiting.
    fn answer(&self, name: &str, mut command: Command, time_max: Duration) -> Result<Answer> {
        let file = |end: &str| -> PathBuf { self.scene.root.join(format!("{name}.{end}")) };
        let open = |end| File::create(file(end)).with_context(|| format!("making {}", file(end).display()));
        command.stdin(Stdio::null()).stdout(open("out")?).stderr(open("err")?);
        let ended = child::run(&mut command, time_max)
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
