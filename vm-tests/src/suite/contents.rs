//! Rules by SHA-256, for files that nobody has executed before: whoever executes one is held until it is known.

use std::fs;
use std::io::{BufRead, BufReader, Lines, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::attach::Attach;
use super::daemon::{self, Daemon};
use super::{Group, session, stage};
use crate::guest::group::Report;

const SCRIPT: &str = include_str!("contents.py");
const SCRIPT_PATH: &str = "/usr/lib/contents.py";
const NAME: &str = "contents";
const DENIED: &str = "/usr/local/lib/denied";
const HARMLESS: &str = "/usr/local/lib/harmless";

/// How long the log may take to say what has happened.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is tried, what comes of it where the kernel's hooks decide, and what in mode `fallback`.
const CASES: [(&str, &str, &str); 22] = [
    ("copy", "refused", "refused"),
    ("copy-again", "refused", "refused"),
    ("rename", "refused", "refused"),
    ("hard-link", "refused", "refused"),
    ("symlink", "refused", "refused"),
    ("late-tmpfs", "refused", "refused"),
    ("descriptor", "refused", "refused"),
    ("interpreter", "refused", "refused"),
    // Nobody can mark what is in memory only: the hook refuses what it does not know, and nothing else does.
    ("memfd", "refused", "denied-ran"),
    ("memfd-harmless", "refused", "ran"),
    // The same for a filesystem that was mounted a moment ago where nobody looks.
    ("private-tmpfs", "refused", ""),
    ("loader", "refused", "denied-ran"),
    ("harmless", "ran", "ran"),
    ("harmless-descriptor", "ran", "ran"),
    ("harmless-interpreter", "ran", "ran"),
    ("harmless-private-tmpfs", "ran", "ran"),
    ("harmless-loader", "later", "at-once"),
    ("fresh", "ran", "ran"),
    ("known", "ran", "ran"),
    ("race-rename", "never", "never"),
    ("race-in-place", "never", "never"),
    ("race-mapping", "never", "never"),
];

/// Where only the kernel programs see that a file was written to.
const BY_MAPPING: &str = "written-by-mapping";
const OUTSIDE: &str = "outside-everything-runs";
const UNKNOWN: &str = "the-log-says-what-was-not-known";
const KNOWN_AFTER_KILL: &str = "after-kill-9-what-is-known-runs";
const UNKNOWN_AFTER_KILL: &str = "after-kill-9-what-is-not-known-is-refused";
const BACK: &str = "when-the-daemon-is-back-it-runs";
const MORE: [&str; 6] = [BY_MAPPING, OUTSIDE, UNKNOWN, KNOWN_AFTER_KILL, UNKNOWN_AFTER_KILL, BACK];

pub(super) const GROUP: Group = Group {
    name: NAME,
    cases: || CASES.iter().map(|(name, ..)| *name).chain(MORE).map(str::to_owned).collect(),
    run,
    needs_sensor: true,
    timeout_s: 1800,
};

fn run(report: &Report) -> Result<()> {
    stage::prepare()?;
    programs()?;
    let attach = Attach::of_guest()?;
    let policy = policy()?;
    let daemon = Daemon::start(NAME, &policy, attach)?;
    let mut subject = Subject::start(&daemon)?;
    for (name, in_kernel, in_fallback) in CASES {
        let expect = if attach.judges_all() { in_kernel } else { in_fallback };
        report.case(name, subject.ask(name).and_then(|came| is(&came, expect)));
    }
    let mapped = subject.ask(BY_MAPPING).and_then(|came| is(&came, "ran, then refused"));
    report.case(BY_MAPPING, mapped);
    report.case(OUTSIDE, outside());
    report.case(UNKNOWN, is_said(attach));
    daemon.kill()?;
    report.case(KNOWN_AFTER_KILL, subject.ask("known").and_then(|came| is(&came, "ran")));
    let unknown = if attach.judges_all() { "refused" } else { "ran" };
    report.case(UNKNOWN_AFTER_KILL, subject.ask("harmless").and_then(|came| is(&came, unknown)));
    let daemon = Daemon::start(NAME, &policy, attach)?;
    let back = subject.ask("harmless").and_then(|came| is(&came, "ran")).and_then(|()| {
        let refused = subject.ask("copy")?;
        is(&refused, "refused")
    });
    report.case(BACK, back);
    drop(subject);
    daemon.stop()?;
    // Its session may have ended too late for the daemon to know.
    daemon::detach_all(NAME)
}

/// Two programs of one size that differ in what they do.
fn programs() -> Result<()> {
    let (mut denied, mut harmless) = (fs::read("/usr/bin/true")?, fs::read("/usr/bin/false")?);
    let len = denied.len().max(harmless.len()) + 16;
    denied.resize(len, 0);
    harmless.resize(len, 0);
    for (path, content) in [(DENIED, denied), (HARMLESS, harmless)] {
        fs::create_dir_all("/usr/local/lib")?;
        fs::write(path, content).with_context(|| format!("writing {path}"))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    fs::write(SCRIPT_PATH, SCRIPT).with_context(|| format!("writing {SCRIPT_PATH}"))
}

fn policy() -> Result<String> {
    let sum = session::sha256_of(DENIED)?;
    Ok(format!(
        "version: 1\nname: contents\nmode: enforce\nrules:\n  - id: content\n    kind: exec\n    sha256: [{sum}]\n    \
         reason: This program is not for agents\n"
    ))
}

fn is(came: &str, expect: &str) -> Result<()> {
    ensure!(expect.is_empty() || came == expect, "it came to `{came}`, not to `{expect}`");
    Ok(())
}

/// A session that does what it is told.
struct Subject {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Subject {
    fn start(daemon: &Daemon) -> Result<Self> {
        let mut child = daemon
            .verb(&["run", "--", "/usr/bin/python3", "-I", "-S", SCRIPT_PATH])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the subject")?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("the subject has no standard output")?;
        let mut subject = Self { child, stdin, lines: BufReader::new(stdout).lines() };
        let line = subject.line()?;
        ensure!(line == "ready", "the subject said `{line}`");
        Ok(subject)
    }

    /// Has it try something.
    fn ask(&mut self, name: &str) -> Result<String> {
        let stdin = self.stdin.as_mut().context("the subject has no standard input")?;
        writeln!(stdin, "{name}").context("telling the subject")?;
        let line = self.line()?;
        let came = line.strip_prefix(name).with_context(|| format!("the subject said `{line}`"))?;
        Ok(came.trim().to_owned())
    }

    fn line(&mut self) -> Result<String> {
        self.lines.next().context("the subject has ended")?.context("reading from the subject")
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        // It ends with its input, unless something failed.
        self.stdin = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// This process is in no session.
fn outside() -> Result<()> {
    let copy = "/home/dev/work/outside";
    for (content, expect) in [(DENIED, 0), (HARMLESS, 1)] {
        let _ = fs::remove_file(copy);
        fs::copy(content, copy).with_context(|| format!("copying {content}"))?;
        let status = Command::new(copy).status().with_context(|| format!("running a copy of {content}"))?;
        ensure!(status.code() == Some(expect), "a copy of {content} ended with {status}");
    }
    Ok(())
}

/// The refusals are entries, and those of what was not known say so.
fn is_said(attach: Attach) -> Result<()> {
    let started = Instant::now();
    loop {
        // Programs that raced have left very many others.
        let entries = session::entries_with(&format!("{}/log", daemon::home(NAME)), "\"deny\"")?;
        let refused: Vec<_> = entries
            .iter()
            .filter(|entry| entry.verdict() == "deny" && entry.is_by("content"))
            .map(|entry| entry.text().contains("\"content_unknown\":true"))
            .collect();
        let unknown = refused.iter().filter(|unknown| **unknown).count();
        // In mode `fallback` nothing that could be asked for was unknown.
        let said = refused.len() - unknown >= 8 && (unknown >= 3 || !attach.judges_all());
        if said {
            return Ok(());
        }
        ensure!(
            started.elapsed() < PATIENCE,
            "{} denials by the rule, {unknown} of what was not known",
            refused.len()
        );
        thread::sleep(Duration::from_secs(1));
    }
}
