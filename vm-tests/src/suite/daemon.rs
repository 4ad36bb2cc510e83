//! A daemon of the sensor, with a socket, a log and a state of its own, for groups that need more than one session.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::{attach::Attach, session::TREELINE};

/// How long a daemon may take to answer and to end, in the guest's own time: in an emulated guest the kernel checks its
/// programs for a minute or more.
const PATIENCE: Duration = Duration::from_secs(600);

/// A running daemon; it is ended when it is dropped.
pub(crate) struct Daemon {
    child: Child,
    state: String,
    /// From its start until it said that it was ready.
    ready_after: Duration,
}

impl Daemon {
    /// Starts one called `name`, which may have run before, with this policy, and waits until it answers.
    pub(crate) fn start(name: &str, policy: &str, attach: Attach) -> Result<Self> {
        let state = configure(name, policy, attach)?;
        let notices = format!("{state}/notices");
        let _ = fs::remove_file(&notices);
        let told = UnixDatagram::bind(&notices).with_context(|| format!("binding {notices}"))?;
        let mut daemon = treeline(&state, &["daemon"]);
        let started = Instant::now();
        let child = daemon.env("NOTIFY_SOCKET", &notices).spawn().context("starting the daemon")?;
        let mut daemon = Self { child, state, ready_after: Duration::ZERO };
        daemon.wait_until_ready(&told)?;
        daemon.ready_after = started.elapsed();
        // What nobody reads would soon be waited for.
        drop(told);
        daemon.status().context("the daemon said that it is ready")?;
        // What its start set off is over then.
        thread::sleep(Duration::from_secs(2));
        Ok(daemon)
    }

    /// Starts one that cannot put its policy in force, and waits until it has ended by itself.
    pub(crate) fn start_in_vain(name: &str, policy: &str, attach: Attach) -> Result<()> {
        let state = configure(name, policy, attach)?;
        let output = treeline(&state, &["daemon"]).stderr(Stdio::piped()).output();
        let output = output.context("starting the daemon")?;
        let said = String::from_utf8_lossy(&output.stderr);
        let is_it = !output.status.success() && said.contains("does not fit into the kernel's tables");
        ensure!(is_it, "the daemon ended with {}: {}", output.status, said.trim());
        Ok(())
    }

    /// Writes another policy to its file.
    pub(crate) fn write_policy(&self, policy: &str) -> Result<()> {
        let path = policy_of(&self.state);
        fs::write(&path, policy).with_context(|| format!("writing {path}"))
    }

    /// Waits as systemd does, and not by asking: each question is a process that takes its time from the daemon's start.
    fn wait_until_ready(&mut self, told: &UnixDatagram) -> Result<()> {
        told.set_read_timeout(Some(Duration::from_millis(200))).context("limiting how long to wait")?;
        let (started, mut notice) = (Instant::now(), [0; 4096]);
        loop {
            match told.recv(&mut notice) {
                Ok(len) if notice[..len].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") => break,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).context("waiting for the daemon's word"),
            }
            if let Some(status) = self.child.try_wait().context("looking after the daemon")? {
                bail!("the daemon ended with {status}");
            }
            ensure!(started.elapsed() < PATIENCE, "the daemon was not ready for {} s", PATIENCE.as_secs());
        }
        Ok(())
    }

    /// A verb of `treeline` that asks this daemon.
    pub(crate) fn verb(&self, words: &[&str]) -> Command {
        treeline(&self.state, words)
    }

    /// What `treeline status --json` prints.
    pub(crate) fn status(&self) -> Result<Value> {
        let output = self
            .verb(&["status", "--json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .output()
            .context("asking for the status")?;
        serde_json::from_slice(&output.stdout).with_context(|| {
            format!("`status` ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr))
        })
    }

    /// Kills it, as nothing that it could prepare for does.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill().context("killing the daemon")?;
        self.child.wait().context("waiting for the daemon")?;
        Ok(())
    }

    /// Whether it runs still.
    pub(crate) fn is_alive(&mut self) -> Result<bool> {
        Ok(self.child.try_wait().context("looking after the daemon")?.is_none())
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) -> Result<()> {
        signal(self.child.id(), name)
    }

    /// How long it took until it was ready.
    pub(crate) fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as systemd would and has its log verified.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.signal("TERM")?;
        let started = Instant::now();
        while self.child.try_wait().context("waiting for the daemon")?.is_none() {
            ensure!(started.elapsed() < PATIENCE, "the daemon did not end within {} s", PATIENCE.as_secs());
            thread::sleep(Duration::from_millis(50));
        }
        let log = format!("{}/log", self.state);
        let output = self.verb(&["log", "verify", "--log", &log]).output().context("verifying the log")?;
        ensure!(
            output.status.success(),
            "`log verify` ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It has usually ended; then both fail.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes the policy and the configuration of the one called `name`, and returns its directory.
fn configure(name: &str, policy: &str, attach: Attach) -> Result<String> {
    let state = home(name);
    fs::create_dir_all(&state).with_context(|| format!("creating {state}"))?;
    let (config, policy_path) = (config(&state), policy_of(&state));
    fs::write(&policy_path, policy).with_context(|| format!("writing {policy_path}"))?;
    let text = format!(
        "socket = \"{state}/socket\"\nlog_dir = \"{state}/log\"\nstate_dir = \"{state}/state\"\npolicy = \
         \"{policy_path}\"\npin_dir = \"{}\"\nmode = \"{}\"\nunenforceable = \"observe\"\n",
        pins(name),
        attach.word()
    );
    fs::write(&config, text).with_context(|| format!("writing {config}"))?;
    Ok(state)
}

/// Where a daemon of this name keeps everything.
pub(crate) fn home(name: &str) -> String {
    format!("/var/lib/treeline-guest-{name}")
}

/// Where it pins.
pub(crate) fn pins(name: &str) -> String {
    format!("/sys/fs/bpf/treeline-guest-{name}")
}

fn policy_of(state: &str) -> String {
    format!("{state}/policy.yaml")
}

fn config(state: &str) -> String {
    format!("{state}/treeline.toml")
}

/// Removes what the daemon of this name has left pinned, which another group's would find, and wait for, at every hook.
/// The daemon has ended.
pub(crate) fn detach_all(name: &str) -> Result<()> {
    let status =
        treeline(&home(name), &["daemon", "--detach-all"]).status().context("removing everything")?;
    ensure!(status.success(), "`--detach-all` ended with {status}");
    Ok(())
}

/// A verb of `treeline` with the configuration of the daemon that keeps everything here.
pub(crate) fn treeline(state: &str, words: &[&str]) -> Command {
    let mut command = Command::new(TREELINE);
    command.args(words).env("TREELINE_CONFIG", config(state)).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn signal(pid: u32, name: &str) -> Result<()> {
    let status = Command::new("/usr/bin/busybox").args(["kill", "-s", name, &pid.to_string()]).status();
    ensure!(status.context("running busybox kill")?.success(), "process {pid} cannot be signalled");
    Ok(())
}
