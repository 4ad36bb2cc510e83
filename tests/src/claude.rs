//! The real Claude Code, offline.
//!
//! Nothing of the machine's own environment reaches it: it gets a throwaway home, a made-up API key, and a model API on loopback.
//! It is not ours to redistribute, so it is installed where it is needed and never kept in the repository.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
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

/// The whole environment of a run against the model API on `port`. Start from an empty one (`env_clear`).
#[must_use]
pub fn environment(dirs: &Dirs, port: u16) -> Vec<(&'static str, OsString)> {
    vec![
        ("HOME", dirs.home.clone().into()),
        ("CLAUDE_CONFIG_DIR", dirs.config.clone().into()),
        ("CLAUDE_CODE_TMPDIR", dirs.tmp.clone().into()),
        ("TMPDIR", dirs.tmp.clone().into()),
        ("PATH", "/usr/bin:/bin".into()),
        ("SHELL", "/bin/bash".into()),
        ("TERM", "xterm".into()),
        ("ANTHROPIC_API_KEY", "sk-test-local".into()),
        ("ANTHROPIC_BASE_URL", format!("http://127.0.0.1:{port}").into()),
        ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1".into()),
        ("DISABLE_TELEMETRY", "1".into()),
        ("DISABLE_ERROR_REPORTING", "1".into()),
        ("DISABLE_AUTOUPDATER", "1".into()),
    ]
}

/// The arguments of a run without a terminal: one prompt, these tools allowed, a line of JSON for each event.
#[must_use]
pub fn arguments(prompt: &str, tools: &[&str]) -> Vec<OsString> {
    let tools = tools.join(",");
    ["-p", prompt, "--allowedTools", &tools, "--output-format", "stream-json", "--verbose"]
        .map(OsString::from)
        .into()
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
        for (name, value) in environment(&dirs, 1) {
            if name.ends_with("DIR") || name == "HOME" {
                assert!(Path::new(&value).is_dir() && Path::new(&value).starts_with(root.path()), "{name}");
            }
        }
        assert!(dirs.project.starts_with(&dirs.home));
    }
}
