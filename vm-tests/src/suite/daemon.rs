//! A daemon of the sensor, with a socket, a log and a state of its own, for groups that need more than one session.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::session::TREELINE;

/// How long a daemon may take to answer and to end, in the guest's own time: in an emulated guest the kernel checks its
/// programs for a minute or more.
const PATIENCE: Duration = Duration::from_secs(600);

/// A running daemon; it is ended when it is dropped.
pub(crate) struct Daemon {
    child: Child,
    config: String,
    state: String,
}

impl Daemon {
    /// Starts one called `name` with this policy and waits until it answers.
    pub(crate) fn start(name: &str, policy: &str) -> Result<Self> {
        let state = format!("/var/lib/treeline-guest-{name}");
        fs::create_dir_all(&state).with_context(|| format!("creating {state}"))?;
        let (config, policy_path) = (format!("{state}/treeline.toml"), format!("{state}/policy.yaml"));
        fs::write(&policy_path, policy).with_context(|| format!("writing {policy_path}"))?;
        let text = format!(
            "socket = \"{state}/socket\"\nlog_dir = \"{state}/log\"\nstate_dir = \"{state}/state\"\npolicy = \
             \"{policy_path}\"\nmode = \"lsm\"\n"
        );
        fs::write(&config, text).with_context(|| format!("writing {config}"))?;
        let child = treeline(&config, &["daemon"]).spawn().context("starting the daemon")?;
        let mut daemon = Self { child, config, state };
        daemon.wait_for_answer()?;
        Ok(daemon)
    }

    fn wait_for_answer(&mut self) -> Result<()> {
        let started = Instant::now();
        while self.status().is_err() {
            if let Some(status) = self.child.try_wait().context("looking after the daemon")? {
                bail!("the daemon ended with {status}");
            }
            ensure!(started.elapsed() < PATIENCE, "the daemon did not answer for {} s", PATIENCE.as_secs());
            thread::sleep(Duration::from_millis(200));
        }
        // What its start set off is over then.
        thread::sleep(Duration::from_secs(2));
        Ok(())
    }

    /// A verb of `treeline` that asks this daemon.
    pub(crate) fn verb(&self, words: &[&str]) -> Command {
        treeline(&self.config, words)
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

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as systemd would and has its log verified.
    pub(crate) fn stop(mut self) -> Result<()> {
        signal(self.child.id(), "TERM")?;
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

fn treeline(config: &str, words: &[&str]) -> Command {
    let mut command = Command::new(TREELINE);
    command.args(words).env("TREELINE_CONFIG", config).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn signal(pid: u32, name: &str) -> Result<()> {
    let status = Command::new("/usr/bin/busybox").args(["kill", "-s", name, &pid.to_string()]).status();
    ensure!(status.context("running busybox kill")?.success(), "process {pid} cannot be signalled");
    Ok(())
}
