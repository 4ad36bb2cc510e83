//! The sensor as systemd's service, from the unit that ships: its start, its end in every way, and what the unit says of
//! the process.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::machine::{self, LOG, UNIT, command, number, property, systemctl};
use super::subject::Subject;
use crate::guest::group::Report;
use crate::suite::Group;
use crate::suite::attach::Attach;
use crate::suite::session::TREELINE;

const STARTED: &str = "started-at-boot";
const LOGINS: &str = "before-logins";
const CLEAN: &str = "nothing-to-complain-about";
const MOUNTS: &str = "sees-the-mounts-that-agents-see";
const CONFINED: &str = "confined-as-the-unit-says";
const STATUS: &str = "says-how-it-is";
const GUARDS: &str = "guards-when-it-is-ready";
const RELOADED: &str = "reload-puts-a-policy-in-force";
const KILLED: &str = "guards-after-kill-9";
const AGAIN: &str = "is-started-again";
const HANGS: &str = "guards-while-it-hangs";
const WATCHDOG: &str = "the-watchdog-starts-it-again";
const STOPPED: &str = "stops-in-order";
const AFTER: &str = "guards-after-a-stop";
const ADOPTED: &str = "takes-the-session-over";
const UNREAD: &str = "the-log-says-when-nobody-read";
const BY_SESSION: &str = "a-session-s-root-stops-it-by-systemd";
const KEPT: &str = "a-rule-about-systemd-keeps-it-from-that";

const CASES: [&str; 18] = [
    STARTED, LOGINS, CLEAN, MOUNTS, CONFINED, STATUS, GUARDS, RELOADED, KILLED, AGAIN, HANGS, WATCHDOG,
    STOPPED, AFTER, ADOPTED, UNREAD, BY_SESSION, KEPT,
];

pub(super) const GROUP: Group = Group {
    name: "units",
    cases: || CASES.map(str::to_owned).into(),
    run,
    needs_sensor: true,
    timeout_s: 3600,
};

const UNIT_FILE: &str = "/usr/lib/systemd/system/treeline.service";
/// Has systemd wait longer than the unit says.
const RESTART_LATER: &str = "/run/systemd/system/treeline.service.d/later.conf";
const NO_SYSTEMD: &str =
    "  - {id: brokers, kind: broker, brokers: [systemd], reason: Ask the developer to do it}\n";
/// Longer than `RestartSec`: long enough to see that nothing was started.
const PAUSE: Duration = Duration::from_secs(3);

/// Bits of capabilities, by number in `linux/capability.h`.
const CAPABILITIES: [(&str, u32); 12] = [
    ("CAP_CHOWN", 0),
    ("CAP_DAC_OVERRIDE", 1),
    ("CAP_DAC_READ_SEARCH", 2),
    ("CAP_FOWNER", 3),
    ("CAP_KILL", 5),
    ("CAP_NET_ADMIN", 12),
    ("CAP_SYS_PTRACE", 19),
    ("CAP_SYS_ADMIN", 21),
    ("CAP_SYS_RESOURCE", 24),
    ("CAP_LEASE", 28),
    ("CAP_PERFMON", 38),
    ("CAP_BPF", 39),
];

fn run(report: &Report) -> Result<()> {
    machine::prepare()?;
    let judges_all = Attach::of_guest()?.judges_all();
    report.case(STARTED, started());
    report.case(LOGINS, before_logins());
    report.case(CLEAN, clean());
    report.case(MOUNTS, same_mounts());
    report.case(CONFINED, confined());
    report.case(STATUS, status());
    let subject = Subject::start()?;
    report.case(GUARDS, subject.check("ready", true));
    report.case(RELOADED, reloaded(&subject));
    killed(report, &subject, judges_all);
    hangs(report, &subject, judges_all);
    stopped(report, &subject, judges_all);
    by_session(report, &subject, judges_all);
    machine::put_policy("")
}

fn started() -> Result<()> {
    for (name, expect) in
        [("ActiveState", "active"), ("SubState", "running"), ("NRestarts", "0"), ("Result", "success")]
    {
        let value = property(UNIT, name)?;
        ensure!(value == expect, "{name} is {value}, expected {expect}");
    }
    Ok(())
}

/// Who logs in later begins nothing that is not guarded.
fn before_logins() -> Result<()> {
    let ready = number(UNIT, "ActiveEnterTimestampMonotonic")?;
    let logins = number("systemd-user-sessions.service", "ExecMainStartTimestampMonotonic")?;
    let user = number("user@1000.service", "ExecMainStartTimestampMonotonic")?;
    ensure!(
        ready <= logins && ready <= user,
        "ready at {ready} us, logins from {logins}, user manager {user}"
    );
    Ok(())
}

fn clean() -> Result<()> {
    let output = command("systemd-analyze")
        .args(["verify", "--man=no", UNIT_FILE])
        .output()
        .context("running systemd-analyze")?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    ensure!(output.status.success() && said.trim().is_empty(), "{}: {}", output.status, said.trim());
    Ok(())
}

/// The one that runs, of which nothing is known while it is being started again.
fn pid() -> Result<u64> {
    let pid = number(UNIT, "MainPID")?;
    ensure!(pid != 0, "it does not run");
    Ok(pid)
}

fn same_mounts() -> Result<()> {
    let of = |pid: &str| {
        fs::read_link(format!("/proc/{pid}/ns/mnt")).with_context(|| format!("the mounts of {pid}"))
    };
    let (own, others) = (of(&pid()?.to_string())?, of("1")?);
    ensure!(own == others, "its mount namespace is {}, that of PID 1 {}", own.display(), others.display());
    Ok(())
}

fn confined() -> Result<()> {
    let path = format!("/proc/{}/status", pid()?);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.map(str::trim).with_context(|| format!("{path} has no {name}"))
    };
    ensure!(field("NoNewPrivs")? == "1", "NoNewPrivs is {}", field("NoNewPrivs")?);
    ensure!(field("Seccomp")? == "2", "Seccomp is {}", field("Seccomp")?);
    let bits = u64::from_str_radix(field("CapBnd")?, 16).context("CapBnd is hexadecimal")?;
    let unit = fs::read_to_string(UNIT_FILE).context("reading the unit")?;
    let line = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    let mut expect = 0;
    for name in line.context("the unit bounds capabilities")?.split_whitespace() {
        let bit = CAPABILITIES.iter().find(|(known, _)| *known == name);
        expect |= 1_u64 << bit.with_context(|| format!("no number of {name} is known"))?.1;
    }
    ensure!(bits == expect, "its capabilities are bounded by {bits:x}, expected {expect:x}");
    Ok(())
}

fn status() -> Result<()> {
    let text = property(UNIT, "StatusText")?;
    ensure!(text.contains("sessions") && text.contains("entries"), "its status is `{text}`");
    Ok(())
}

/// `systemctl reload` returns when the signal has been sent.
fn reloaded(subject: &Subject) -> Result<()> {
    let generation = generation()?;
    let more = "  - {id: another, kind: file, paths: [/srv/another/**], reason: This is not for agents}\n";
    machine::write_policy(more)?;
    systemctl(&["reload", UNIT])?;
    machine::wait_until("another policy is in force", || Ok(self::generation()? > generation))?;
    subject.check("reloaded", true)?;
    let rules = machine::status()?.to_string();
    ensure!(rules.contains("\"another\""), "the new rule is not in force: {rules}");
    Ok(())
}

fn generation() -> Result<u64> {
    machine::status()?["policy"]["generation"].as_u64().context("a policy is in force")
}

/// Kills it while systemd has been told to wait before it starts it again: there is a time without a daemon then, in which
/// the subject can ask.
fn killed(report: &Report, subject: &Subject, judges_all: bool) {
    let killed = restart_later().and_then(|()| {
        systemctl(&["kill", "--signal=KILL", "--kill-whom=main", UNIT])?;
        machine::wait_until("it is gone", || Ok(number(UNIT, "MainPID")? == 0))?;
        subject.check("killed", judges_all)?;
        let state = property(UNIT, "SubState")?;
        ensure!(state.starts_with("auto-restart"), "it is {state} already: that was too late");
        Ok(())
    });
    report.case(KILLED, killed);
    let again = || {
        machine::wait_until("it answers again", || Ok(machine::status().is_ok()))?;
        let count = number(UNIT, "NRestarts")?;
        ensure!(count == 1, "it was started again {count} times");
        fs::remove_file(RESTART_LATER).with_context(|| format!("removing {RESTART_LATER}"))?;
        systemctl(&["daemon-reload"])?;
        subject.check("again", true)
    };
    report.case(AGAIN, again());
}

fn restart_later() -> Result<()> {
    let directory = Path::new(RESTART_LATER).parent().context("it is in a directory")?;
    fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
    fs::write(RESTART_LATER, "[Service]\nRestartSec=20\n")
        .with_context(|| format!("writing {RESTART_LATER}"))?;
    systemctl(&["daemon-reload"])
}

fn hangs(report: &Report, subject: &Subject, judges_all: bool) {
    let before = number(UNIT, "NRestarts");
    let hangs = systemctl(&["kill", "--signal=STOP", "--kill-whom=main", UNIT]).and_then(|()| {
        // In mode `fallback` the kernel waits for the guard's answer, and goes on when the daemon has been ended.
        subject.check("hangs", judges_all)
    });
    report.case(HANGS, hangs);
    let again = before.and_then(|before| {
        machine::wait_until("the watchdog has it started again", || {
            Ok(number(UNIT, "NRestarts")? > before && machine::status().is_ok())
        })?;
        subject.check("watchdog", true)
    });
    report.case(WATCHDOG, again);
}

fn stopped(report: &Report, subject: &Subject, judges_all: bool) {
    report.case(STOPPED, systemctl(&["stop", UNIT]).and_then(|()| ended_well()));
    thread::sleep(PAUSE);
    report.case(AFTER, subject.check("stopped", judges_all));
    let adopted = systemctl(&["start", UNIT]).and_then(|()| subject.check("adopted", true));
    report.case(ADOPTED, adopted);
    report.case(UNREAD, unread());
}

fn ended_well() -> Result<()> {
    for (name, expect) in [("ActiveState", "inactive"), ("Result", "success"), ("ExecMainStatus", "0")] {
        let value = property(UNIT, name)?;
        ensure!(value == expect, "{name} is {value}, expected {expect}");
    }
    let output = command(TREELINE).args(["log", "verify", "--log", LOG]).output();
    let output = output.context("verifying the log")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`log verify` ended with {}: {}", output.status, said.trim());
    Ok(())
}

fn unread() -> Result<()> {
    let count =
        machine::entries()?.iter().filter(|entry| entry.field("/notice/lost/site") == "unread").count();
    // After it was killed, ended by the watchdog, and stopped.
    ensure!(count >= 3, "{count} entries say since when nobody read, expected 3");
    Ok(())
}

/// The sensor refuses signals from sessions, but systemd is not one: only a rule about it keeps a session's root away.
fn by_session(report: &Report, subject: &Subject, judges_all: bool) {
    let stop = || {
        command(TREELINE)
            .args(["run", "--", "systemctl", "stop", UNIT])
            .output()
            .context("stopping the unit from a session")
    };
    let kept = machine::put_policy(NO_SYSTEMD).and_then(|()| {
        let output = stop()?;
        let state = property(UNIT, "ActiveState")?;
        // A connect to a unix socket is recorded only in mode `fallback`.
        let expect = if judges_all { "active" } else { "inactive" };
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(state == expect, "the unit is {state}, expected {expect}: {}", said.trim());
        systemctl(&["start", UNIT])
    });
    report.case(KEPT, kept);
    let stopped = machine::put_policy("").and_then(|()| {
        let output = stop()?;
        ensure!(output.status.success(), "`systemctl stop` ended with {}", output.status);
        subject.check("stopped-by-a-session", judges_all)?;
        systemctl(&["start", UNIT])
    });
    report.case(BY_SESSION, stopped);
}
