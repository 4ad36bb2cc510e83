//! What the workloads work on: files, listeners and a policy in a directory of their own.

use std::{
    fs::{self, File},
    io,
    net::{Ipv4Addr, TcpListener},
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Context, Result};
use tempfile::TempDir;

/// Files that are opened in turn: more than the enricher folds at a time, so that each open is an entry of its own.
const FILES_COUNT: usize = 5000;

/// Files that a paced run of 50 000 opens a second goes through: none comes again within the fold's second.
const MANY_FILES_COUNT: usize = 60_000;

/// The place.
#[derive(Debug)]
pub(super) struct Scene {
    dir: TempDir,
    /// Held so that it is removed at the end.
    _home: TempDir,
    /// A file that no rule is about.
    pub(super) file: PathBuf,
    /// A file below a home that no rule is about: rules with `~` must not cost those who stay away from what they protect.
    pub(super) home_file: PathBuf,
    /// A file that the policy protects.
    pub(super) protected: PathBuf,
    /// Distinct files.
    pub(super) files: PathBuf,
    /// A directory with one file.
    pub(super) one_file: PathBuf,
    /// Many more of them.
    pub(super) many_files: PathBuf,
    /// The policy.
    pub(super) policy: PathBuf,
    /// A TCP port that accepts.
    pub(super) port: u16,
    /// A unix socket that accepts.
    pub(super) unix: PathBuf,
}

impl Scene {
    /// Makes it. The listeners end with this process.
    pub(super) fn make(policy: &Path) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("treeline-bench-")
            .tempdir()
            .context("cannot make a directory")?;
        let root = dir.path().canonicalize()?;
        let at_home = std::env::var_os("HOME").context("HOME is not set")?;
        let home = tempfile::Builder::new()
            .prefix("treeline-bench-")
            .tempdir_in(at_home)
            .context("cannot make a directory in the home")?;
        let home_file = home.path().join("file");
        let (file, secrets) = (root.join("file"), root.join("secrets"));
        let (one_file, files, many_files) = (root.join("one"), root.join("files"), root.join("many"));
        let (protected, unix) = (secrets.join("key"), root.join("listener.sock"));
        let make = || -> io::Result<()> {
            fs::create_dir(&secrets)?;
            fs::write(&file, "a file\n")?;
            fs::write(&home_file, "a file\n")?;
            fs::write(&protected, "a secret\n")?;
            fill(&one_file, 1)?;
            fill(&files, FILES_COUNT)?;
            fill(&many_files, MANY_FILES_COUNT)
        };
        make().context("cannot make the files of the workloads")?;
        let text = policy_text(policy, &secrets)?;
        let policy = root.join("policy.yaml");
        fs::write(&policy, text).context("cannot write the policy")?;
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on loopback")?;
        let port = tcp.local_addr()?.port();
        accept("tcp", move || tcp.accept().map(drop))?;
        let listener = UnixListener::bind(&unix).context("cannot listen on a unix socket")?;
        accept("unix", move || listener.accept().map(drop))?;
        Ok(Self {
            dir,
            _home: home,
            file,
            home_file,
            protected,
            one_file,
            files,
            many_files,
            policy,
            port,
            unix,
        })
    }

    /// A directory in it that does not exist yet.
    pub(super) fn fresh(&self, name: &str) -> Result<PathBuf> {
        tempfile::Builder::new()
            .prefix(name)
            .tempdir_in(self.dir.path())
            .map(TempDir::keep)
            .context("cannot make a directory")
    }
}

/// A policy and one more rule for a file of ours, since nobody's real keys are touched here.
fn policy_text(path: &Path, secrets: &Path) -> Result<String> {
    let rules = fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    Ok(format!(
        "{}\n  - id: bench-secrets\n    kind: file\n    paths: [\"{}/**\"]\n    reason: The benchmark measures a refusal.\n",
        rules.trim_end(),
        secrets.display()
    ))
}

fn fill(dir: &Path, count: usize) -> io::Result<()> {
    fs::create_dir(dir)?;
    (0..count).try_for_each(|i| File::create(dir.join(format!("{i}.txt"))).map(drop))
}

/// Accepts and hangs up for as long as this process lives.
fn accept(name: &str, mut once: impl FnMut() -> io::Result<()> + Send + 'static) -> Result<()> {
    let serve = move || {
        loop {
            // Who connected may have gone before it was accepted.
            let _ = once();
        }
    };
    thread::Builder::new().name(name.to_owned()).spawn(serve).context("cannot start a thread")?;
    Ok(())
}
