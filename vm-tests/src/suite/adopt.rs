//! A process that ran before it was adopted is under the policy with all of its threads.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::daemon::{self, Daemon};
use super::{Group, attach::Attach, stage};
use crate::guest::group::Report;

const NAME: &str = "adopt";
const BY_THREAD: &str = "thread-that-executes";
/// The thread executes when this is there.
const GO: &str = "/home/dev/work/go";

pub(super) const GROUP: Group =
    Group { name: NAME, cases: || vec![BY_THREAD.to_owned()], run, needs_sensor: true, timeout_s: 600 };

fn run(report: &Report) -> Result<()> {
    stage::prepare()?;
    let daemon = Daemon::start(NAME, &stage::policy("enforce"), Attach::of_guest()?)?;
    report.case(BY_THREAD, by_thread(&daemon));
    daemon.stop()?;
    // Its session may have ended too late for the daemon to know.
    daemon::detach_all(NAME)
}

fn by_thread(daemon: &Daemon) -> Result<()> {
    let agent = Command::new(stage::ACT)
        .args(["act", "by-thread", GO, "/usr/bin/cat", stage::KEY])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting the agent")?;
    // Long enough for its second thread to wait.
    thread::sleep(Duration::from_millis(500));
    let adopted = daemon.verb(&["adopt", &agent.id().to_string()]).status().context("adopting the agent")?;
    fs::write(GO, "").with_context(|| format!("creating {GO}"))?;
    let output = agent.wait_with_output().context("waiting for the agent")?;
    ensure!(adopted.success(), "`treeline adopt` ended with {adopted}");
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(said.contains("Operation not permitted"), "it was not refused, it said `{}`", said.trim());
    ensure!(output.stdout.is_empty(), "it read the key");
    Ok(())
}
