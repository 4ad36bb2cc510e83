//! The real `treeline` binary, run over throwaway directories.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use treeline_event::{Action, Entry, EntryBody, Notice, RuleHit, Verdict, decode};

/// The binary under test: `TREELINE_BIN`, else the newest of the release and the debug build.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn binary() -> PathBuf {
    if let Some(path) = env::var_os("TREELINE_BIN") {
        return path.into();
    }
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    let built = ["release", "debug"].map(|profile| target.join(profile).join("treeline"));
    let newest = built.into_iter().filter(|path| path.is_file()).max_by_key(|path| {
        fs::metadata(path).and_then(|metadata| metadata.modified()).expect("a file has a modification time")
    });
    newest.expect("there is no `treeline` binary: make one with `cargo xtask build`")
}

/// Checks an exit status, and what is printed on both outputs together.
///
/// # Panics
/// When it is another, or a part is missing.
#[track_caller]
pub fn expect(output: Output, code: i32, words: &[&str]) {
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert_eq!(output.status.code(), Some(code), "{text}");
    for word in words {
        assert!(text.contains(word), "`{word}` in: {text}");
    }
}

/// Whether tests that load kernel programs can run; says so by name when they cannot.
#[must_use]
pub fn is_permitted(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: {test}: needs root");
    }
    root
}

/// Throwaway directories for one sensor and the commands under it.
pub struct Scene {
    dir: tempfile::TempDir,
}

impl Default for Scene {
    fn default() -> Self {
        Self::new()
    }
}

impl Scene {
    /// Makes `home` with a key in `.ssh`, and room for a log, a state and a policy.
    ///
    /// # Panics
    /// When that cannot be done.
    #[must_use]
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("treeline-e2e-").tempdir().expect("a scratch directory");
        let scene = Self { dir };
        fs::create_dir_all(scene.path("home/.ssh")).expect("a home");
        fs::write(scene.path("home/.ssh/id"), "KEY\n").expect("a key");
        scene
    }

    /// A path in the scene.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes the policy: these rules, with `@` for the scene's home.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn policy(&self, rules: &str) -> PathBuf {
        let home = self.path("home").display().to_string();
        let path = self.path("policy.yaml");
        let text = format!("version: 1\nname: e2e\nmode: enforce\nrules:\n{}", rules.replace('@', &home));
        fs::write(&path, text).expect("a policy file");
        path
    }

    /// `treeline run --standalone` over a bash script, in the scene's home.
    #[must_use]
    pub fn standalone(&self, policy: &Path, script: &str) -> Ran {
        let mut command = Command::new(binary());
        command.args(["run", "--standalone", "--mode", "fallback", "--policy"]).arg(policy);
        command.arg("--log").arg(self.path("log")).arg("--state").arg(self.path("state"));
        command.args(["--", "/bin/bash", "-c", script]);
        let output = self.quiet(&mut command).output().expect("the binary runs");
        Ran { output, entries: self.entries() }
    }

    fn quiet<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command.current_dir(self.path("home")).stdin(Stdio::null()).env_remove("TREELINE_SOCKET");
        // Set by `cargo test`; under a tracked tree it would void every exception.
        command.env_remove("LD_LIBRARY_PATH")
    }

    /// Every entry of the log, in order.
    ///
    /// # Panics
    /// When one cannot be read.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        let output = Command::new(binary())
            .args(["log", "cat", "--unsigned", "--log"])
            .arg(self.path("log"))
            .output()
            .expect("the binary runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let lines = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| decode(line).expect("an entry of ours can be read")).collect()
    }

    /// A verb over this scene's log.
    #[must_use]
    pub fn ask(&self, arguments: &[&str]) -> Output {
        Command::new(binary())
            .args(arguments)
            .arg("--log")
            .arg(self.path("log"))
            .output()
            .expect("the binary runs")
    }

    /// A configuration file for a daemon of this scene.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn config(&self, more: &str) -> PathBuf {
        let path = self.path("treeline.toml");
        let dir = self.dir.path().display();
        // Settings that name several have it among them.
        let policy = match more.contains("[policies]") {
            true => String::new(),
            false => format!("policy = \"{dir}/policy.yaml\"\n"),
        };
        let text = format!(
            "socket = \"{dir}/socket\"\nlog_dir = \"{dir}/log\"\nstate_dir = \"{dir}/state\"\nmode = \
             \"fallback\"\n{policy}{more}\n"
        );
        fs::write(&path, text).expect("a configuration");
        path
    }

    /// Starts a daemon and waits until it answers.
    ///
    /// # Panics
    /// When it does not answer within a minute.
    #[must_use]
    pub fn daemon(&self, more: &str) -> Daemon {
        self.daemon_under(more, &mut Command::new(binary()))
    }

    /// As [`Scene::daemon`], with a command that ends with the path of the binary.
    ///
    /// # Panics
    /// When it does not answer within a minute.
    #[must_use]
    pub fn daemon_under(&self, more: &str, command: &mut Command) -> Daemon {
        let config = self.config(more);
        let child = command
            .args(["daemon", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(self.path("daemon.stderr")).expect("a file"))
            .spawn()
            .expect("the binary runs");
        let daemon = Daemon { child, config };
        let started = Instant::now();
        // With a finding it answers, too.
        while !matches!(daemon.ask(&["status"]).status.code(), Some(0 | 1)) {
            let words = fs::read_to_string(self.path("daemon.stderr")).unwrap_or_default();
            assert!(started.elapsed() < Duration::from_secs(60), "the daemon does not answer: {words}");
            std::thread::sleep(Duration::from_millis(50));
        }
        daemon
    }
}

/// A daemon that ends with its test.
pub struct Daemon {
    child: Child,
    config: PathBuf,
}

impl Daemon {
    /// A verb that talks to it.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.env("TREELINE_CONFIG", &self.config).env_remove("TREELINE_SOCKET").args(arguments);
        command.env_remove("LD_LIBRARY_PATH");
        command.stdin(Stdio::null());
        command
    }

    /// Runs such a verb.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn ask(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the binary runs")
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When it is gone.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("the daemon is a child of this process");
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// As wait(2).
    pub fn wait(&mut self) -> io::Result<std::process::ExitStatus> {
        self.child.wait()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A command that ran, and what the log says of it.
pub struct Ran {
    /// What it printed and how it ended.
    pub output: Output,
    /// The log.
    pub entries: Vec<Entry>,
}

impl Ran {
    /// Standard output.
    #[must_use]
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    /// Standard error.
    #[must_use]
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    /// Refusals: what was refused, and the rule.
    #[must_use]
    pub fn denials(&self) -> Vec<(&Action, &RuleHit)> {
        with_verdict(&self.entries, Verdict::Deny)
    }
}

/// Actions with this verdict, and their rules.
#[must_use]
pub fn with_verdict(entries: &[Entry], wanted: Verdict) -> Vec<(&Action, &RuleHit)> {
    let matching = |entry: &'_ Entry| match &entry.body {
        EntryBody::Act { verdict, .. } => *verdict == wanted,
        EntryBody::Notice(_) => false,
    };
    let parts = entries.iter().filter(|entry| matching(entry)).map(|entry| match &entry.body {
        EntryBody::Act { action, rule: Some(rule), .. } => (action, &**rule),
        other => panic!("a verdict without its rule: {other:?}"),
    });
    parts.collect()
}

/// Every action of the log with the process that did it.
pub fn actions(entries: &[Entry]) -> impl Iterator<Item = (&treeline_event::Process, &Action)> {
    entries.iter().filter_map(|entry| match &entry.body {
        EntryBody::Act { process, action, .. } => Some((&**process, action)),
        EntryBody::Notice(_) => None,
    })
}

/// Every statement of the sensor.
pub fn notices(entries: &[Entry]) -> impl Iterator<Item = &Notice> {
    entries.iter().filter_map(|entry| match &entry.body {
        EntryBody::Notice(notice) => Some(notice),
        EntryBody::Act { .. } => None,
    })
}
