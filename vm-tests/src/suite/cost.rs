//! What hooks cost, counted in instructions: only meaningful in a guest that QEMU runs with `-icount`, where a
//! nanosecond of the guest's clock is one instruction, whatever the machine below does.
//!
//! The same loops run without anything, outside and inside a session, and beside the kernel's audit with rules that
//! record the same system calls, matched by the login as a session is by its label.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use super::{Group, session, stage};
use crate::act::load::{Cost, LOADS};
use crate::guest::group::Report;

const MEASURED: &str = "measured";
const AUDITED: &str = "measured-beside-audit";
const CONFIG: &str = "/etc/treeline-guest/cost.toml";
const STATE: &str = "/var/lib/treeline-guest-cost";
/// What ships: its rules are those that users have.
const POLICY: &str = include_str!("../../../policies/baseline.yaml");
/// The audit user that stands for a session.
const LOGIN: &str = "1000";
const AUDITD: &str = "/usr/sbin/auditd";
const AUDITCTL: &str = "/usr/sbin/auditctl";
/// Under `-icount` a guest is slower still; what is waited for is counted in its own, virtual time.
const PATIENCE: Duration = Duration::from_secs(600);

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
    let mut daemon = start()?;
    let result = answers(&mut daemon).and_then(|()| {
        measure(report, Beside::SensorOutside, &[stage::ACT, "act", "load"], &[])?;
        measure(
            report,
            Beside::SensorInside,
            &[session::TREELINE, "run", "--", stage::ACT, "act", "load"],
            &[],
        )
    });
    // By signal and not by name: nothing else may be met.
    let _ = Command::new("/usr/bin/busybox").args(["kill", &daemon.id().to_string()]).status();
    daemon.wait().context("waiting for the daemon")?;
    result
}

fn start() -> Result<Child> {
    fs::create_dir_all(STATE).with_context(|| format!("creating {STATE}"))?;
    let policy = format!("{STATE}/policy.yaml");
    fs::write(&policy, POLICY).with_context(|| format!("writing {policy}"))?;
    let config = format!(
        "socket = \"{STATE}/socket\"\nlog_dir = \"{STATE}/log\"\nstate_dir = \"{STATE}/state\"\npolicy = \"{policy}\"\nmode = \
         \"lsm\"\n"
    );
    fs::write(CONFIG, config).with_context(|| format!("writing {CONFIG}"))?;
    treeline(&["daemon"]).spawn().context("starting the daemon")
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
        thread::sleep(Duration::from_millis(200));
    }
    // What its start set off is over then.
    thread::sleep(Duration::from_secs(2));
    Ok(())
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
    for (load, _) in LOADS {
        let output = Command::new(program)
            .args(arguments)
            .arg(load)
            .args(more)
            .env("TREELINE_CONFIG", CONFIG)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("starting {program}"))?;
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
