//! What hooks cost, counted in instructions: only meaningful in a guest that QEMU runs with `-icount`, where a
//! nanosecond of the guest's clock is one instruction, whatever the machine below does.
//!
//! The same loops run without anything, outside and inside a session, and beside the kernel's audit with rules that
//! record the same system calls, matched by the login as a session is by its label.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::daemon::Daemon;
use super::{Group, attach::Attach, stage};
use crate::act::load::{Cost, LOADS};
use crate::guest::group::Report;

const MEASURED: &str = "measured";
const AUDITED: &str = "measured-beside-audit";
/// What ships: its rules are those that users have.
pub(super) const POLICY: &str = include_str!("../../../policies/baseline.yaml");
/// The audit user that stands for a session.
const LOGIN: &str = "1000";
const AUDITD: &str = "/usr/sbin/auditd";
const AUDITCTL: &str = "/usr/sbin/auditctl";
pub(super) const GROUP: Group = Group {
    name: "cost",
    cases: || vec![MEASURED.to_owned(), AUDITED.to_owned()],
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
}

#[derive(Serialize)]
struct Measured {
    beside: Beside,
    load: &'static str,
    #[serde(flatten)]
    cost: Cost,
}

fn run(report: &Report) -> Result<()> {
    stage::prepare()?;
    stage::listen()?;
    report.case(MEASURED, with_sensor(report));
    if Path::new(AUDITD).is_file() {
        report.case(AUDITED, with_audit(report));
    } else {
        report.skip(AUDITED, "this guest was built without auditd; `cargo xtask bench --guest` brings it");
    }
    Ok(())
}

fn with_sensor(report: &Report) -> Result<()> {
    measure(report, Beside::Nothing, &[stage::ACT, "act", "load"], &[])?;
    let daemon = Daemon::start("cost", POLICY, Attach::Lsm)?;
    let inside = daemon.verb(&["run", "--", stage::ACT, "act", "load"]);
    measure(report, Beside::SensorOutside, &[stage::ACT, "act", "load"], &[])?;
    measure_with(report, Beside::SensorInside, &inside, &[])?;
    daemon.stop()
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
        measure(report, Beside::AuditOutside, &[stage::ACT, "act", "load"], &[])?;
        measure(report, Beside::AuditInside, &[stage::ACT, "act", "load"], &[LOGIN])
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
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "auditctl {} ended with {}: {}",
        words.join(" "),
        output.status,
        said.trim()
    );
    Ok(())
}

fn measure(report: &Report, beside: Beside, command: &[&str], more: &[&str]) -> Result<()> {
    let (program, arguments) = command.split_first().context("a command has a program")?;
    let mut command = Command::new(program);
    command.args(arguments);
    measure_with(report, beside, &command, more)
}

/// Runs every loop by `command`, to which the loop's name and `more` are added.
fn measure_with(report: &Report, beside: Beside, command: &Command, more: &[&str]) -> Result<()> {
    for (load, _) in LOADS {
        let mut own = Command::new(command.get_program());
        own.args(command.get_args()).arg(load).args(more);
        own.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let output = own.stdin(Stdio::null()).output().with_context(|| format!("starting `{load}`"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "`{load}` beside {beside:?} ended with {}: {}",
            output.status,
            said.trim()
        );
        let cost =
            serde_json::from_slice(&output.stdout).with_context(|| format!("reading what `{load}` took"))?;
        report.note("cost", serde_json::to_string(&Measured { beside, load, cost })?);
    }
    Ok(())
}
