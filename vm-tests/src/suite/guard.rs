//! The sensor guards a session: every case is refused or works as it must, and the log says so.
//!
//! In `monitor` the same session runs without refusals: everything works, and the log names the rule that would
//! have refused it.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, ExitStatus};

use anyhow::{Context, Result, bail, ensure};
use rustix::io::Errno;
use treeline_vm_tests::{Hook, Started};

use super::attach::Attach;
use super::cases::{self, Case, Event, Expect};
use super::session::{self, Entry, Mode, Session};
use super::{Group, coverage, daemon, stage};
use crate::act::{self, Tried};
use crate::guest::group::Report;

/// What is checked once a session, beside the cases.
const OUTSIDE: &str = "outside-of-the-tree-everything-works";
const STATUS: &str = "exit-status-is-the-command-s";
const ATTACH: &str = "attach-mode-is-the-guest-s";
const COVERAGE: &str = "rules-amount-to-what-was-seen";
const LINEAGE: &str = "all-belong-to-one-session";
const WHOLE: &str = "log-verifies";
const LOSS: &str = "nothing-was-lost";
const CONTENT: &str = "protected-files-are-as-they-were";

/// Where the case that renames the keys' directory puts the key.
const MOVED_KEY: &str = "/home/dev/work/keys/id_ed25519";

pub(super) const ENFORCE: Group = Group {
    name: "enforce",
    cases: || names(&[CONTENT]),
    run: |report| {
        run(Mode::Enforce, report)?;
        report.case(CONTENT, check_content(Attach::of_guest()?));
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
    let once = [OUTSIDE, STATUS, ATTACH, COVERAGE, LINEAGE, WHOLE, LOSS];
    cases::all().map(|case| case.name).chain(once).chain(more.iter().copied()).map(str::to_owned).collect()
}

fn run(mode: Mode, report: &Report) -> Result<()> {
    let attach = Attach::of_guest()?;
    stage::prepare()?;
    cases::interpreters::prepare()?;
    stage::listen()?;
    let mut session = Session::start(mode, attach, &[stage::ACT, "act", "all"])?;
    let tried = session.results(|| report.case(OUTSIDE, outside()))?;
    let status = session.end()?;
    if tried.is_empty() {
        bail!("the session ended with {status} and tried nothing: {}", session::errors().trim());
    }
    report.case(STATUS, check_status(status));
    let entries = session::entries(mode)?;
    let mut left_out = LeftOut::of(&entries, report);
    // Few of many thousands, and each case looks through them.
    let matches: Vec<&Entry> = entries.iter().filter(|entry| entry.is_match()).collect();
    for case in cases::all() {
        if let Some(why) = case.lacks() {
            report.skip(case.name, &why);
            continue;
        }
        let result = check_case(mode, case.expect(attach), case.name, &tried, &matches);
        left_out.report(report, case.name, result.and_then(|()| check_events(case, &entries)));
    }
    let hooks = hooks(&entries);
    let states = hooks.as_ref().map_or_else(|_| Vec::new(), |(_, hooks)| hooks.clone());
    report.started(Started { hooks: states, ..session::started()? });
    report.case(ATTACH, hooks.and_then(|(entry, hooks)| check_attach(attach, entry, &hooks)));
    report.case(COVERAGE, coverage::check(mode, attach, &entries));
    report.case(LINEAGE, check_lineage(&entries));
    report.case(LOSS, check_loss(&entries));
    report.case(WHOLE, session::verb(mode, &["log", "verify"]).map(drop));
    Ok(())
}

/// Runs of programs that the kernel left out because a task was preempted in them (THREATS.md), which it does in an
/// emulated guest more often than elsewhere. So many cases can have come to something else.
pub(super) struct LeftOut(u64);

impl LeftOut {
    /// What the log of a daemon says of it.
    pub(super) fn of_daemon(name: &str, report: &Report) -> Result<Self> {
        let entries = session::entries_with(&format!("{}/log", daemon::home(name)), "\"recursion\"")?;
        Ok(Self::of(&entries, report))
    }

    pub(super) fn of(entries: &[Entry], report: &Report) -> Self {
        let count: u64 = entries.iter().map(Entry::left_out).sum();
        if count > 0 {
            report.note("runs-left-out", count.to_string());
        }
        Self(count)
    }

    pub(super) fn report(&mut self, report: &Report, case: &str, result: Result<()>) {
        match result {
            Err(error) if self.0 > 0 => {
                self.0 -= 1;
                report.skip(case, &format!("the kernel left out a run of a program, and with it: {error:#}"));
            }
            result => report.case(case, result),
        }
    }
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

fn check_case(mode: Mode, expect: Expect, name: &str, tried: &[Tried], matches: &[&Entry]) -> Result<()> {
    let tried = tried.iter().find(|tried| tried.case == name).context("the subject reported nothing")?;
    let matches: Vec<&Entry> = matches.iter().copied().filter(|entry| entry.is_of(name)).collect();
    let (rule, verdict) = match expect {
        Expect::Works => {
            ensure!(tried.errno.is_none(), "it failed: {}", tried.error);
            return match matches.first() {
                None => Ok(()),
                Some(entry) => bail!("it worked, but a rule matched: {}", entry.text()),
            };
        }
        Expect::Denied(rule) | Expect::RefusedInPart(rule) => (rule, mode.verdict()),
        Expect::Recorded(rule) => (rule, Mode::Monitor.verdict()),
    };
    let must_fail = mode == Mode::Enforce && matches!(expect, Expect::Denied(_));
    match (must_fail, tried.errno) {
        (true, Some(errno)) if errno == Errno::PERM.raw_os_error() => {}
        (true, Some(_)) => bail!("it was not refused with EPERM: {}", tried.error),
        (true, None) => bail!("rule `{rule}` did not refuse it"),
        (false, None) => {}
        (false, Some(_)) => {
            bail!("it failed, though the rule only records: {}; {}", tried.error, texts(&matches))
        }
    }
    ensure!(
        matches.iter().any(|entry| entry.is_by(rule) && entry.verdict() == verdict),
        "none is {verdict} by `{rule}`; {}",
        texts(&matches)
    );
    Ok(())
}

fn texts(matches: &[&Entry]) -> String {
    let texts: Vec<&str> = matches.iter().map(|entry| entry.text()).collect();
    format!("{} entries about it name a rule: {}", texts.len(), texts.join("\n"))
}

/// What the log must have of a case, whatever rules say.
fn check_events(case: &Case, entries: &[Entry]) -> Result<()> {
    for event in case.events {
        let is_it = |entry: &&Entry| is_about(entry, event) && entry.is_of(case.name);
        let entry = entries.iter().find(is_it).with_context(|| {
            let of_case = entries.iter().filter(|entry| entry.kind() == "exec" && entry.is_of(case.name));
            let execs: Vec<_> = of_case.map(Entry::argv).collect();
            format!("no entry is about {event:?}; what was executed: {execs:?}")
        })?;
        ensure!(entry.verdict() == "allow", "{event:?} is not allowed: {}", entry.text());
    }
    Ok(())
}

fn is_about(entry: &Entry, event: &Event) -> bool {
    match *event {
        Event::Exec { argv, script } => {
            entry.kind() == "exec"
                && entry.argv() == argv
                && entry.field("/process/program/script/path") == script
                && argv.first().and_then(|program| fs::canonicalize(program).ok()).as_deref()
                    == Some(Path::new(entry.field("/process/program/image/path")))
        }
        Event::Open(path) => entry.kind() == "open" && entry.field("/action/open/file/path") == path,
    }
}

/// The hooks with their states, and the entry that names them.
fn hooks(entries: &[Entry]) -> Result<(&Entry, Vec<Hook>)> {
    let started =
        entries.iter().find(|entry| entry.kind() == "started").context("no entry is of kind `started`")?;
    Ok((started, started.hooks()?))
}

/// The sensor found the mode by itself, or was asked for it, and no hook of it is missing.
fn check_attach(attach: Attach, started: &Entry, hooks: &[Hook]) -> Result<()> {
    let mode = format!("\"mode\":\"{}\"", attach.word());
    let unattached: Vec<&Hook> = hooks.iter().filter(|hook| !hook.is_attached()).collect();
    ensure!(started.text().contains(&mode), "the mode is another; not attached: {unattached:?}");
    let names: Vec<&str> = unattached.iter().map(|hook| hook.hook.as_str()).collect();
    ensure!(names == attach.refused_hooks(), "other hooks than expected are not attached: {unattached:?}");
    Ok(())
}

fn check_lineage(entries: &[Entry]) -> Result<()> {
    let matches = entries.iter().filter(|entry| entry.is_match());
    let sessions: BTreeSet<&str> = matches.map(Entry::session).collect();
    ensure!(sessions.len() == 1 && !sessions.contains(""), "rules matched in the sessions {sessions:?}");
    Ok(())
}

fn check_loss(entries: &[Entry]) -> Result<()> {
    match entries.iter().find(|entry| entry.kind() == "lost" && entry.left_out() == 0) {
        None => Ok(()),
        Some(loss) => bail!("{}", loss.text()),
    }
}

fn check_content(attach: Attach) -> Result<()> {
    // Where names are only recorded, the cases about names have moved the key and removed the start-up file.
    let key = if attach.judges_all() { stage::KEY } else { MOVED_KEY };
    ensure!(fs::read(key).context("reading the key")? == b"secret\n", "the key has another content");
    if attach.judges_all() {
        ensure!(fs::read(stage::STARTUP)? == b"# empty\n", "the start-up file has another content");
    } else {
        ensure!(!Path::new(stage::STARTUP).exists(), "the start-up file was not removed");
    }
    Ok(())
}
