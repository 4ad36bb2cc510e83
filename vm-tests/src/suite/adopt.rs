//! A process that ran before it was adopted is under the policy with all of its threads.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::{Group, attach::Attach, session, stage};
use crate::guest::group::Report;

const BY_THREAD: &str = "thread-that-executes";
const CONFIG: &str = "/etc/treeline-guest/treeline.toml";
const STATE: &str = "/var/lib/treeline-guest-adopt";
/// The thread executes when this is there.
const GO: &str = "/home/dev/work/go";
/// How long the daemon may take to answer: in an emulated guest the kernel checks its programs for a minute or more.
const PATIENCE: Duration = Duration::from_secs(300);

pub(super) const GROUP: Group =
    Group { name: "adopt", cases: || vec![BY_THREAD.to_owned()], run, needs_sensor: true, timeout_s: 600 };

fn run(report: &Report) -> Result<()> {
    stage::prepare()?;
    let mut daemon = start(Attach::of_guest()?)?;
    let result = answers(&mut daemon).and_then(|()| by_thread());
    // It may have ended by itself, which the result then says.
    let _ = daemon.kill();
    daemon.wait().context("waiting for the daemon")?;
    report.case(BY_THREAD, result);
    Ok(())
}

fn start(attach: Attach) -> Result<Child> {
    let policy = session::write_policy(session::Mode::Enforce)?;
    let config = format!(
        "socket = \"{STATE}/socket\"\nlog_dir = \"{STATE}/log\"\nstate_dir = \"{STATE}/state\"\npolicy = \"{policy}\"\nmode = \
         \"{}\"\nunenforceable = \"observe\"\n",
        attach.word()
    );
    fs::create_dir_all(STATE).with_context(|| format!("creating {STATE}"))?;
    fs::write(CONFIG, config).with_context(|| format!("writing {CONFIG}"))?;
    treeline(&["daemon", "--config", CONFIG]).spawn().context("starting the daemon")
}

fn treeline(words: &[&str]) -> Command {
    let mut command = Command::new(session::TREELINE);
    command.args(words).env("TREELINE_CONFIG", CONFIG).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn answers(daemon: &mut Child) -> Result<()> {
    let started = Instant::now();
    while !treeline(&["status"]).stderr(Stdio::null()).status().context("asking for the status")?.success() {
        if let Some(status) = daemon.try_wait().context("looking after the daemon")? {
            bail!("the daemon ended with {status}");
        }
        ensure!(started.elapsed() < PATIENCE, "the daemon did not answer for {} s", PATIENCE.as_secs());
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn by_thread() -> Result<()> {
    let agent = Command::new(stage::ACT)
        .args(["act", "by-thread", GO, "/usr/bin/cat", stage::KEY])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting the agent")?;
    // Long enough for its second thread to wait.
    thread::sleep(Duration::from_millis(500));
    let adopted = treeline(&["adopt", &agent.id().to_string()]).status().context("adopting the agent")?;
    fs::write(GO, "").with_context(|| format!("creating {GO}"))?;
    let output = agent.wait_with_output().context("waiting for the agent")?;
    ensure!(adopted.success(), "`treeline adopt` ended with {adopted}");
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(said.contains("Operation not permitted"), "it was not refused, it said `{}`", said.trim());
    ensure!(output.stdout.is_empty(), "it read the key");
    Ok(())
}
