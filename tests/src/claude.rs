//! The real Claude Code, offline.
//!
//! Nothing of the machine's own environment reaches it: it gets a throwaway home, a made-up API key, and a model API on loopback.
//! It is not ours to redistribute, so it is installed where it is needed and never kept in the repository.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The npm package.
pub const PACKAGE: &str = "@anthropic-ai/claude-code";
/// The version that every promise of this project was measured with.
pub const VERSION: &str = "2.1.330";
/// SHA-256 of that version's binary for Linux on x86-64, lower-case hexadecimal.
pub const SHA256: &str = "f390eaa0814e6a1bff74cbb47acb74cb9c89d30ced809fe0af5af00c7bfe8ebb";
/// Where it is installed, below the repository's root; ignored by git.
pub const INSTALL_DIR: &str = ".cache/claude-code";

/// The binary below an installation made by `npm install --prefix`. The package's own `bin/` holds only a launcher until its post-install step
/// has run, which npm may refuse; the platform's package holds the binary itself.
#[must_use]
pub fn binary(install_dir: &Path) -> PathBuf {
    install_dir.join("node_modules").join(format!("{PACKAGE}-linux-x64")).join("claude")
}

/// The directories that one run may write to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dirs {
    /// `HOME`.
    pub home: PathBuf,
    /// Where it starts.
    pub project: PathBuf,
    /// Its settings, sessions and transcripts.
    pub config: PathBuf,
    /// Its temporary files.
    pub tmp: PathBuf,
}

impl Dirs {
    /// Names the directories below `root`.
    #[must_use]
    pub fn below(root: &Path) -> Self {
        let home = root.join("home");
        Self { project: home.join("project"), home, config: root.join("config"), tmp: root.join("tmp") }
    }

    /// Makes them, for the owner only.
    ///
    /// # Errors
    /// When one cannot be made; those that exist are kept.
    pub fn create(&self) -> io::Result<()> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        [&self.project, &self.config, &self.tmp].into_iter().try_for_each(|dir| builder.create(dir))
    }
}

/// A run without a terminal: one prompt, some tools allowed, a line of JSON on stdout for each event.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// The binary.
    pub binary: &'a Path,
    /// Where it lives and works.
    pub dirs: &'a Dirs,
    /// Port of the model API on 127.0.0.1.
    pub port: u16,
    /// What the user is supposed to have typed.
    pub prompt: &'a str,
    /// Tools that it may use without asking.
    pub tools: &'a [&'a str],
}

impl Run<'_> {
    /// The command: `launcher` (such as `treeline run --`; may be empty), then Claude Code and its arguments, in an environment that holds
    /// nothing else than [`Run::environment`].
    #[must_use]
    pub fn command(&self, launcher: &[OsString]) -> Command {
        let tools = self.tools.join(",");
        let mut words = launcher.iter().cloned().chain([self.binary.into()]);
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).args(["-p", self.prompt, "--allowedTools", &tools]);
        command.args(["--output-format", "stream-json", "--verbose"]);
        command.env_clear().envs(self.environment()).current_dir(&self.dirs.project).stdin(Stdio::null());
        command
    }

    /// The whole environment.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        vec![
            ("HOME", self.dirs.home.clone().into()),
            ("CLAUDE_CONFIG_DIR", self.dirs.config.clone().into()),
            ("CLAUDE_CODE_TMPDIR", self.dirs.tmp.clone().into()),
            ("TMPDIR", self.dirs.tmp.clone().into()),
            ("PATH", "/usr/bin:/bin".into()),
            ("SHELL", "/bin/bash".into()),
            ("TERM", "xterm".into()),
            ("ANTHROPIC_API_KEY", "sk-test-local".into()),
            ("ANTHROPIC_BASE_URL", format!("http://127.0.0.1:{}", self.port).into()),
            ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1".into()),
            ("DISABLE_TELEMETRY", "1".into()),
            ("DISABLE_ERROR_REPORTING", "1".into()),
            ("DISABLE_AUTOUPDATER", "1".into()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_stays_below_the_root() {
        let root = tempfile::tempdir().expect("a directory");
        let dirs = Dirs::below(root.path());
        dirs.create().expect("made");
        dirs.create().expect("kept");
        let run =
            Run { binary: Path::new("/claude"), dirs: &dirs, port: 1, prompt: "p", tools: &["Bash", "Read"] };
        for (name, value) in run.environment() {
            if name.ends_with("DIR") || name == "HOME" {
                assert!(Path::new(&value).is_dir() && Path::new(&value).starts_with(root.path()), "{name}");
            }
        }
        assert!(dirs.project.starts_with(&dirs.home));
    }

    #[test]
    fn launchers_come_first() {
        let dirs = Dirs::below(Path::new("/r"));
        let run =
            Run { binary: Path::new("/claude"), dirs: &dirs, port: 1, prompt: "p", tools: &["Bash", "Read"] };
        let check = |launcher: &[&str], expect: &str| {
            let launcher: Vec<OsString> = launcher.iter().map(OsString::from).collect();
            let command = run.command(&launcher);
            let words: Vec<_> = [command.get_program()].into_iter().chain(command.get_args()).collect();
            let words: Vec<_> = words.into_iter().map(|word| word.to_string_lossy()).collect();
            assert_eq!(words[..expect.split(' ').count()].join(" "), expect);
            assert_eq!(command.get_current_dir(), Some(Path::new("/r/home/project")));
        };
        check(&[], "/claude -p p --allowedTools Bash,Read --output-format stream-json --verbose");
        check(&["treeline", "run", "--"], "treeline run -- /claude -p p");
    }
}
