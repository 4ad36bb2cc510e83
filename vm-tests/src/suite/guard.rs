//! The sensor guards a session: every case is refused or works as it must, and the log says so.
//!
//! In `monitor` the same session runs without refusals: everything works, and the log names the rule that would
//! have refused it.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitStatus};

use anyhow::{Context, Result, bail, ensure};
use rustix::io::Errno;

use super::attach::Attach;
use super::cases::{self, Case, Expect};
use super::session::{self, Entry, Mode, Session};
use super::{Group, stage};
use crate::act::{self, Tried};
use crate::guest::group::Report;

/// What is checked once a session, beside the cases.
const OUTSIDE: &str = "outside-of-the-tree-everything-works";
const STATUS: &str = "exit-status-is-the-command-s";
const ATTACH: &str = "attach-mode-is-the-guest-s";
const LINEAGE: &str = "all-belong-to-one-session";
const WHOLE: &str = "log-verifies";
const LOSS: &str = "nothing-was-lost";
const CONTENT: &str = "protected-files-are-as-they-were";

pub(super) const ENFORCE: Group = Group {
    name: "enforce",
    cases: || names(&[CONTENT]),
    run: |report| {
        run(Mode::Enforce, report)?;
        report.case(CONTENT, check_content());
        Ok(())
    },
    needs_sensor: true,
    timeout_s: 600,
};

pub(super) const MONITOR: Group = Group {
    name: "monitor",
    cases: || names(&[]),
    run: |report| run(Mode::Monitor, report),
    needs_sensor: true,
    timeout_s: 600,
};

fn names(more: &[&str]) -> Vec<String> {
    let once = [OUTSIDE, STATUS, ATTACH, LINEAGE, WHOLE, LOSS];
    cases::all().map(|case| case.name).chain(once).chain(more.iter().copied()).map(str::to_owned).collect()
}

fn run(mode: Mode, report: &Report) -> Result<()> {
    let attach = Attach::of_guest()?;
    stage::prepare()?;
    stage::listen()?;
    let mut session = Session::start(mode, attach, &[stage::ACT, "act", "all"])?;
    let tried = session.results(|| report.case(OUTSIDE, outside()))?;
    let status = session.end()?;
    if tried.is_empty() {
        bail!("the session ended with {status} and tried nothing: {}", session::errors().trim());
    }
    report.case(STATUS, check_status(status));
    let entries = session::entries(mode)?;
    for case in cases::all() {
        report.case(case.name, check_case(mode, case, &tried, &entries));
    }
    report.case(ATTACH, check_attach(attach, &entries));
    report.case(LINEAGE, check_lineage(mode, &entries));
    report.case(LOSS, check_loss(&entries));
    report.case(WHOLE, session::verb(mode, &["log", "verify"]).map(drop));
    Ok(())
}

/// This process is in no session: what its children do inside of one is none of its business.
fn outside() -> Result<()> {
    fs::read(stage::KEY).context("reading the key")?;
    fs::write("/home/dev/.ssh/made-outside", "").context("creating a file beside the key")?;
    let status = Command::new(stage::FORBIDDEN).status().context("running the forbidden program")?;
    ensure!(status.success(), "the forbidden program ended with {status}");
    TcpStream::connect((stage::FORBIDDEN_ADDRESS, stage::PORT))
        .context("connecting to the forbidden address")?;
    UnixStream::connect(stage::FORBIDDEN_SOCKET).context("connecting to the forbidden socket")?;
    Ok(())
}

fn check_status(status: ExitStatus) -> Result<()> {
    ensure!(
        status.code() == Some(i32::from(act::STATUS)),
        "`treeline run` ended with {status}, its command with {}: {}",
        act::STATUS,
        session::errors().trim()
    );
    Ok(())
}

fn check_case(mode: Mode, case: &Case, tried: &[Tried], entries: &[Entry]) -> Result<()> {
    let tried = tried.iter().find(|tried| tried.case == case.name).context("the subject reported nothing")?;
    let is_match = |entry: &&Entry| entry.is_match(mode) && entry.is_of(case.name);
    let matches: Vec<&Entry> = entries.iter().filter(is_match).collect();
    let Expect::Denied(rule) = case.expect else {
        ensure!(tried.errno.is_none(), "it failed: {}", tried.error);
        return match matches.first() {
            None => Ok(()),
            Some(entry) => bail!("it worked, but a rule matched: {}", entry.text()),
        };
    };
    match (mode, tried.errno) {
        (Mode::Enforce, Some(errno)) if errno == Errno::PERM.raw_os_error() => {}
        (Mode::Enforce, Some(_)) => bail!("it was not refused with EPERM: {}", tried.error),
        (Mode::Enforce, None) => bail!("rule `{rule}` did not refuse it"),
        (Mode::Monitor, None) => {}
        (Mode::Monitor, Some(_)) => bail!("it failed, though the rule only records: {}", tried.error),
    }
    ensure!(
        matches.iter().any(|entry| entry.is_by(rule)),
        "of {} entries about it that name a rule, none names `{rule}`: {}",
        matches.len(),
        matches.first().map_or("", |entry| entry.text())
    );
    Ok(())
}

/// The sensor found the mode by itself, or was asked for it, and no hook of it is missing.
fn check_attach(attach: Attach, entries: &[Entry]) -> Result<()> {
    let started =
        entries.iter().find(|entry| entry.kind() == "started").context("no entry is of kind `started`")?;
    let mode = format!("\"mode\":\"{}\"", attach.word());
    ensure!(started.text().contains(&mode), "the mode is another: {}", started.text());
    Ok(())
}

fn check_lineage(mode: Mode, entries: &[Entry]) -> Result<()> {
    let matches = entries.iter().filter(|entry| entry.is_match(mode));
    let sessions: BTreeSet<&str> = matches.map(Entry::session).collect();
    ensure!(sessions.len() == 1 && !sessions.contains(""), "rules matched in the sessions {sessions:?}");
    Ok(())
}

fn check_loss(entries: &[Entry]) -> Result<()> {
    match entries.iter().find(|entry| entry.kind() == "lost") {
        None => Ok(()),
        Some(loss) => bail!("{}", loss.text()),
    }
}

fn check_content() -> Result<()> {
    ensure!(fs::read(stage::KEY).context("reading the key")? == b"secret\n", "the key has another content");
    ensure!(fs::read(stage::STARTUP)? == b"# empty\n", "the start-up file has another content");
    Ok(())
}
