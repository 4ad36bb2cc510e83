//! What hooks cost, counted in instructions: only meaningful in a guest that QEMU runs with `-icount`, where a
//! nanosecond of the guest's clock is one instruction, whatever the machine below does.
//!
//! The same loops run without anything, outside and inside a session, and beside the kernel's audit with rules that
//! record the same system calls, matched by the login as a session is by its label.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::daemon::{self, Daemon};
use super::{Group, attach::Attach, hook_cost, stage};
use crate::act::load::{Cost, EXEC_LOADS, LOADS};
use crate::guest::group::Report;

const MEASURED: &str = "measured";
const HELD: &str = "measured-while-execs-are-held";
const HOOKS: &str = "measured-by-hook";
const AUDITED: &str = "measured-beside-audit";
/// What ships: its rules are those that users have.
pub(super) const POLICY: &str = include_str!("../../../policies/baseline.yaml");
/// The audit user that stands for a session.
const LOGIN: &str = "1000";
const AUDITD: &str = "/usr/sbin/auditd";
const AUDITCTL: &str = "/usr/sbin/auditctl";
pub(super) const GROUP: Group = Group {
    name: "cost",
    cases: || vec![MEASURED.to_owned(), HELD.to_owned(), HOOKS.to_owned(), AUDITED.to_owned()],
    run,
    needs_sensor: true,
    timeout_s: 1800,
};

/// Who else was at work while a loop ran.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Beside {
    Nothing,
    SensorOutside,
    SensorInside,
    AuditOutside,
    AuditInside,
    /// With a rule by SHA-256 in `enforce` while a session lives.
    HoldOutside,
    HoldInside,
}

/// The executables of a session and its ancestry are hashed beside it, at some 80 instructions a byte here. Where nobody
/// works the clock jumps, so waiting costs nothing.
const UNTIL_HASHED: Duration = Duration::from_secs(30);

/// A rule by content; it is that of no file here.
const BY_CONTENT: &str = "version: 1\nname: contents\nrules:\n  - id: content\n    kind: exec\n    reason: r\n    sha256: \
    [5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef]\n";

#[derive(Serialize)]
struct Measured {
    beside: Beside,
    load: &'static str,
    #[serde(flatten)]
    cost: Cost,
}

fn run(report: &Report) -> Result<()> {
    stage::prepare()?;
    report.case(MEASURED, with_sensor(report));
    report.case(HELD, with_hold(report));
    report.case(HOOKS, hook_cost::measure(report));
    if Path::new(AUDITD).is_file() {
        report.case(AUDITED, with_audit(report));
    } else {
        report.skip(AUDITED, "this guest was built without auditd; `cargo xtask bench --guest` brings it");
    }
    Ok(())
}

fn with_sensor(report: &Report) -> Result<()> {
    measure(report, Beside::Nothing, LOADS, &[])?;
    let daemon = Daemon::start("cost", POLICY, Attach::Lsm)?;
    let inside = daemon.verb(&["run", "--", stage::ACT, "act", "load"]);
    measure(report, Beside::SensorOutside, LOADS, &[])?;
    measure_with(report, Beside::SensorInside, &inside, LOADS, &[])?;
    daemon.stop()?;
    // Nothing of it may be there when the others are measured.
    daemon::detach_all("cost")
}

/// Execs with and without a rule by content, each loop with files of its own.
fn with_hold(report: &Report) -> Result<()> {
    measure(report, Beside::Nothing, EXEC_LOADS, &[])?;
    let daemon = Daemon::start("hold", BY_CONTENT, Attach::Lsm)?;
    let mut session =
        daemon.verb(&["run", "--", "/usr/bin/sleep", "3000"]).spawn().context("starting a session")?;
    thread::sleep(UNTIL_HASHED);
    let inside = daemon.verb(&["run", "--", stage::ACT, "act", "load"]);
    let result = measure(report, Beside::HoldOutside, EXEC_LOADS, &[])
        .and_then(|()| measure_with(report, Beside::HoldInside, &inside, EXEC_LOADS, &[]));
    session.kill().context("ending the session")?;
    session.wait().context("waiting for the session")?;
    result?;
    daemon.stop()?;
    daemon::detach_all("hold")
}

fn with_audit(report: &Report) -> Result<()> {
    let directory = "/var/log/audit";
    fs::create_dir_all(directory).with_context(|| format!("creating {directory}"))?;
    // It insists on it.
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
    let mut audit = Command::new(AUDITD)
        .args(["-n", "-s", "disable"])
        .stdin(Stdio::null())
        .spawn()
        .context("starting auditd")?;
    thread::sleep(Duration::from_secs(1));
    let result = rules().and_then(|()| {
        measure(report, Beside::AuditOutside, LOADS, &[])?;
        measure(report, Beside::AuditInside, LOADS, &[LOGIN])
    });
    let _ = auditctl(&["-D"]);
    let _ = auditctl(&["-e", "0"]);
    audit.kill().context("ending auditd")?;
    audit.wait().context("waiting for auditd")?;
    result
}

/// The system calls that the sensor records, for one login.
fn rules() -> Result<()> {
    // As many records may wait as the sensor's ring holds.
    auditctl(&["-b", "65536"])?;
    auditctl(&["-e", "1"])?;
    for calls in [
        "execve,execveat",
        "open,openat,openat2,creat",
        "connect",
        "rename,renameat,renameat2,unlink,unlinkat,link,linkat,symlink,symlinkat,mkdir,mkdirat,rmdir,mknod,mknodat",
        "truncate,chmod,fchmod,fchmodat,chown,fchown,fchownat,lchown,setxattr,lsetxattr,fsetxattr,removexattr",
        "exit_group,clone,clone3,fork,vfork",
    ] {
        auditctl(&["-a", "always,exit", "-F", "arch=b64", "-S", calls, "-F", &format!("auid={LOGIN}")])?;
    }
    Ok(())
}

fn auditctl(words: &[&str]) -> Result<()> {
    let output =
        Command::new(AUDITCTL).args(words).stdin(Stdio::null()).output().context("starting auditctl")?;
    succeeded(&output, &format!("auditctl {}", words.join(" ")))
}

/// Fails, with what it said, unless it ended well.
pub(super) fn succeeded(output: &Output, what: &str) -> Result<()> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{what} ended with {}: {}", output.status, said.trim());
    Ok(())
}

fn measure(report: &Report, beside: Beside, loads: &[Load], more: &[&str]) -> Result<()> {
    let mut command = Command::new(stage::ACT);
    command.args(["act", "load"]);
    measure_with(report, beside, &command, loads, more)
}

/// A loop and how often it runs.
type Load = (&'static str, u32);

/// Runs these loops by `command`, to which the loop's name and `more` are added.
fn measure_with(
    report: &Report,
    beside: Beside,
    command: &Command,
    loads: &[Load],
    more: &[&str],
) -> Result<()> {
    for (load, _) in loads {
        let mut own = Command::new(command.get_program());
        own.args(command.get_args()).arg(load).args(more);
        own.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let output = own.stdin(Stdio::null()).output().with_context(|| format!("starting `{load}`"))?;
        succeeded(&output, &format!("`{load}` beside {beside:?}"))?;
        let cost =
            serde_json::from_slice(&output.stdout).with_context(|| format!("reading what `{load}` took"))?;
        report.note("cost", serde_json::to_string(&Measured { beside, load, cost })?);
    }
    Ok(())
}
