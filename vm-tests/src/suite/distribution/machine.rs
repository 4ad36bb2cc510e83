//! The distribution around the suite: systemd, the installed sensor, and what cases meet.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use treeline_vm_tests::{DISTRIBUTION_POLICY, DISTRIBUTION_POLICY_PATH};

use crate::guest::group::Report;
use crate::suite::session::{Entry, TREELINE, entries_of};

pub(super) const UNIT: &str = "treeline.service";
pub(super) const LOG: &str = "/var/lib/treeline/log";
/// What the policy keeps from sessions. Everybody else may read it, so that reading it tells who somebody is.
pub(super) const SECRET: &str = "/srv/secret/key";
/// Where work leaves its mark.
pub(super) const MARKS: &str = "/marks";
/// Leaves a mark named by its argument: `outside` where it can read the secret, else `inside`. For containers it is where
/// they find it, too.
pub(super) const MARK: &str = "/usr/lib/treeline-guest/mark";
const MARK_TEXT: &str = "#!/bin/sh\nif read -r word </srv/secret/key 2>/dev/null; then where=outside; else where=inside; fi\n\
                         echo $where >/marks/$1\n";
/// Starting the sensor takes minutes where a loaded machine emulates the guest.
pub(super) const PATIENCE: Duration = Duration::from_secs(900);

/// Makes what cases meet, and waits until the machine and the sensor have started.
pub(super) fn prepare() -> Result<()> {
    for directory in ["/srv/secret", MARKS] {
        fs::create_dir_all(directory).with_context(|| format!("creating {directory}"))?;
    }
    fs::write(SECRET, "secret\n").context("writing the secret")?;
    fs::set_permissions(MARKS, fs::Permissions::from_mode(0o1777)).context("opening the place of marks")?;
    fs::write(MARK, MARK_TEXT).context("writing the program that leaves marks")?;
    fs::set_permissions(MARK, fs::Permissions::from_mode(0o755)).context("making it executable")?;
    wait_until("the machine has started", || {
        // Its status is 1 for `degraded`, which is none of our business, and 0 for `running`.
        Ok(["running", "degraded"].contains(&text(&["is-system-running"])?.as_str()))
    })?;
    wait_until("the sensor answers", || Ok(status().is_ok()))
}

/// Runs `systemctl` and fails as it does.
pub(super) fn systemctl(words: &[&str]) -> Result<()> {
    let output = command("systemctl").args(words).output().context("running systemctl")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "systemctl {} ended with {}: {}",
        words.join(" "),
        output.status,
        said.trim()
    );
    Ok(())
}

/// What `systemctl` prints, however it ends.
fn text(words: &[&str]) -> Result<String> {
    let output = command("systemctl").args(words).output().context("running systemctl")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A property of a unit.
pub(super) fn property(unit: &str, name: &str) -> Result<String> {
    text(&["show", "--value", &format!("--property={name}"), unit])
}

/// A property that is a number.
pub(super) fn number(unit: &str, name: &str) -> Result<u64> {
    let value = property(unit, name)?;
    value.parse().with_context(|| format!("{name} of {unit} is `{value}`"))
}

/// A command of the distribution with nothing to read.
pub(super) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    command
}

/// Runs a shell command outside of every session and fails as it does.
pub(super) fn shell(script: &str) -> Result<()> {
    let output = command("/bin/sh").args(["-c", script]).output().context("running a shell")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{script}` ended with {}: {}", output.status, said.trim());
    Ok(())
}

/// Waits for something that comes by itself.
pub(super) fn wait_until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let started = Instant::now();
    while !is_so()? {
        if started.elapsed() >= PATIENCE {
            Report::stuck();
            bail!("not within {} s: {what}", PATIENCE.as_secs());
        }
        thread::sleep(Duration::from_millis(250));
    }
    Ok(())
}

/// What `treeline status --json` prints.
pub(super) fn status() -> Result<Value> {
    let output = command(TREELINE).args(["status", "--json"]).output().context("asking for the status")?;
    serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Writes the policy that the guest boots with and more rules behind it.
pub(super) fn write_policy(more: &str) -> Result<()> {
    fs::write(DISTRIBUTION_POLICY_PATH, format!("{DISTRIBUTION_POLICY}{more}")).context("writing the policy")
}

/// As [`write_policy`], and in force.
pub(super) fn put_policy(more: &str) -> Result<()> {
    write_policy(more)?;
    let output = command(TREELINE).arg("reload").output().context("running treeline reload")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`treeline reload` ended with {}: {}", output.status, said.trim());
    Ok(())
}

/// Every entry of the log. What was done is on its way there for a moment.
pub(super) fn entries() -> Result<Vec<Entry>> {
    thread::sleep(Duration::from_secs(3));
    entries_of(LOG)
}

/// What the mark called `name` says, if it was left.
pub(super) fn mark(name: &str) -> Option<String> {
    let text = fs::read_to_string(Path::new(MARKS).join(name)).ok()?;
    // Made, but not written yet.
    (!text.is_empty()).then(|| text.trim().to_owned())
}
