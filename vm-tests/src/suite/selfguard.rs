//! The sensor against a subject that is root in a tracked tree: nothing that it tries works, and the log says what.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::attach::Attach;
use super::daemon::{self, Daemon};
use super::guard::LeftOut;
use super::session::Entry;
use super::{Group, session, stage};
use crate::guest::group::Report;

const SCRIPT: &str = include_str!("tamper.py");
const NAME: &str = "selfguard";
const SCRIPT_PATH: &str = "/usr/lib/tamper.py";
const CGROUP: &str = "/sys/fs/cgroup/guarded";
/// What groups below it have limits for.
const CONTROLLERS: &str = "/sys/fs/cgroup/cgroup.subtree_control";

/// How long the log may take to say what has happened.
const PATIENCE: Duration = Duration::from_secs(120);

/// Files that a process opens while others flood.
const VICTIMS: u32 = 20;

/// Says that it is ready, waits until it is told to begin, then lets three processes open a file again and again, and
/// when they have done so 60 000 times opens files one by one.
const FLOODING: &str = "
import os, signal, sys, time
print('ready', flush=True)
sys.stdin.read()
flooders, (full, filled) = [], os.pipe()
for _ in range(3):
    child = os.fork()
    if child == 0:
        count = 0
        while True:
            os.close(os.open('/home/dev/work/notes', os.O_RDONLY))
            count += 1
            if count == 20000: os.write(filled, b'x')
    flooders.append(child)
for _ in flooders: os.read(full, 1)
for number in range(20):
    os.close(os.open(f'/home/dev/work/victim-{number}', os.O_RDONLY))
    time.sleep(0.1)
for child in flooders:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
print('done', flush=True)
";

/// What is tried and what the log calls it; the sensor's files are objects like others.
const REFUSED: [(&str, &str); 61] = [
    ("state", "open"),
    ("configuration", "open"),
    ("detach-all", "open"),
    ("lock-of-state", "open"),
    ("lock-of-log", "open"),
    ("lock-of-socket", "open"),
    ("signal", "signal"),
    ("signal-stop", "signal"),
    ("signal-to-thread", "signal"),
    ("signal-by-descriptor", "signal"),
    ("trace", "trace"),
    ("read-memory", "trace"),
    ("open-memory", "trace"),
    ("take-descriptor", "trace"),
    ("limit", "limit"),
    ("priority", "schedule"),
    ("affinity", "schedule"),
    ("io-priority", "schedule"),
    ("oom-score", "proc_file"),
    ("oom-score-of-thread", "proc_file"),
    ("oom-score-in-another-procfs", "proc_file"),
    ("maps", "map"),
    ("programs", "program"),
    ("links", "link"),
    ("pinned-map", "map"),
    ("pin", "delete"),
    ("unmount", "unmount"),
    ("unmount-above", "unmount"),
    ("load-tracing", "load"),
    ("load-raw-tracepoint", "load"),
    ("module", "kernel"),
    ("module-from-file", "kernel"),
    ("sysrq", "sys_rq"),
    ("calls-of-programs", "setting"),
    ("state-still", "open"),
    ("core-pattern", "setting"),
    ("modprobe", "setting"),
    ("real-time-share", "setting"),
    ("release-agent", "setting"),
    ("policy", "open"),
    ("unit", "create"),
    ("drop-in", "create"),
    ("wait-for-opens", "fanotify"),
    ("wait-for-opens-of-filesystem", "fanotify"),
    ("wait-for-execs", "fanotify"),
    ("freeze-filesystem", "freeze"),
    ("freeze-filesystem-by-32-bits", "freeze"),
    ("shut-filesystem-down", "freeze"),
    ("freeze", "cgroup"),
    ("kill-group", "cgroup"),
    ("starve-group", "cgroup"),
    ("starve-group-of-memory", "cgroup"),
    ("log", "rename"),
    ("log-new-file", "create"),
    ("log-write", "open"),
    ("log-truncate", "modify"),
    ("mount-over-log", "mount"),
    ("mount-over-pins", "mount"),
    ("pins-rename", "rename"),
    ("socket", "delete"),
    ("binary", "rename"),
];

/// What mode `fallback` can refuse: opens of files.
const FILES: usize = 6;

/// The same, against what is not the sensor's, and what can only be recorded.
const WORK: [&str; 10] = [
    "mount-procfs",
    "told-of-opens",
    "load-for-sockets",
    "freeze-another",
    "move",
    "other-limit",
    "other-priority",
    "other-oom-score",
    "other-trace",
    "other-signal",
];

const MOVED: &str = "a-move-of-the-sensor-is-recorded";
const BY_FILE: &str = "signal-by-file";
const ASKED: &str = "the-log-says-who-asked-for-detach-all";
const ALIVE: &str = "the-sensor-goes-on";
const FLOOD: &str = "a-flood-hides-nobody-else";

pub(super) const GROUP: Group =
    Group { name: "selfguard", cases: || names().collect(), run, needs_sensor: true, timeout_s: 1500 };

/// What is tried here.
fn tries(attach: Attach) -> (&'static [(&'static str, &'static str)], &'static [&'static str]) {
    if attach.judges_all() { (&REFUSED, &WORK) } else { (&REFUSED[..FILES], &[]) }
}

fn names() -> impl Iterator<Item = String> {
    let (refused, work) = Attach::of_guest().map_or((&REFUSED[..], &WORK[..]), tries);
    let refused = refused.iter().map(|(name, _)| *name);
    let more = if work.is_empty() { &[][..] } else { &[BY_FILE, MOVED] };
    refused
        .chain(work.iter().copied())
        .chain(more.iter().copied())
        .chain([ASKED, ALIVE, FLOOD])
        .map(str::to_owned)
}

fn run(report: &Report) -> Result<()> {
    stage::prepare()?;
    fs::write(SCRIPT_PATH, SCRIPT).context("writing the subject's program")?;
    enter_group()?;
    let attach = Attach::of_guest()?;
    let mut daemon = Daemon::start(NAME, &stage::policy("monitor"), attach)?;
    let (subject, output) = tamper(&daemon, attach)?;
    let alive = daemon.is_alive()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let tried: BTreeMap<&str, i32> = said.lines().filter_map(read).collect();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let (entries, (refused, work)) = (entries(subject)?, tries(attach));
    for (name, kind) in refused {
        report.case(name, check(name, kind, &tried, &entries).with_context(|| errors.clone()));
    }
    for name in work {
        let works = tried.get(name) == Some(&0);
        report.case(name, works.then_some(()).with_context(|| format!("error {:?}", tried.get(name))));
    }
    if attach.judges_all() {
        report.case(BY_FILE, is_dropped(&tried, &entries));
        report.case(MOVED, is_recorded(&entries));
    }
    report.case(ASKED, is_asked(&entries));
    report.case(ALIVE, alive.then_some(()).context("the daemon has ended"));
    let flooded = flood(&daemon);
    // The sensor asks the kernel once a second what it left out.
    thread::sleep(Duration::from_secs(3));
    LeftOut::of(&session::entries_of(&log())?, report).report(report, FLOOD, flooded);
    Ok(())
}

/// A control group for the daemon, which is this process's child.
fn enter_group() -> Result<()> {
    fs::write(CONTROLLERS, "+cpu +memory").with_context(|| format!("writing {CONTROLLERS}"))?;
    fs::create_dir_all(CGROUP).with_context(|| format!("creating {CGROUP}"))?;
    let path = format!("{CGROUP}/cgroup.procs");
    fs::write(&path, "0").with_context(|| format!("writing {path}"))
}

fn tamper(daemon: &Daemon, attach: Attach) -> Result<(u32, Output)> {
    let mut other = Command::new("/usr/bin/sleep").arg("600").spawn().context("starting another process")?;
    let subject = daemon
        .verb(&["run", "--", "/usr/bin/python3", SCRIPT_PATH])
        .args([&daemon.pid().to_string(), &daemon::home(NAME), &daemon::pins(NAME), session::TREELINE])
        .args([other.id().to_string().as_str(), if attach.judges_all() { "all" } else { "files" }])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting the subject")?;
    let pid = subject.id();
    let output = subject.wait_with_output().context("waiting for the subject");
    // It has ended, where the subject could signal it.
    let _ = other.kill();
    other.wait().context("waiting for the other process")?;
    Ok((pid, output?))
}

fn log() -> String {
    format!("{}/log", daemon::home(NAME))
}

/// The log when it has the end of a process: what it did is before that.
fn entries(until: u32) -> Result<Vec<Entry>> {
    let started = Instant::now();
    loop {
        let entries = session::entries_of(&log())?;
        if entries.iter().any(|entry| entry.kind() == "exit" && entry.is_of_process(until)) {
            return Ok(entries);
        }
        ensure!(started.elapsed() < PATIENCE, "the log does not have the end of process {until}");
        thread::sleep(Duration::from_millis(500));
    }
}

/// While nobody reads the rings, some processes fill them; what another one does is in the log all the same.
fn flood(daemon: &Daemon) -> Result<()> {
    for number in 0..VICTIMS {
        fs::write(format!("{}/victim-{number}", stage::WORK), "").context("making a file for the subject")?;
    }
    let mut subject = daemon
        .verb(&["run", "--", "/usr/bin/python3", "-c", FLOODING])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting the subject")?;
    let mut said = BufReader::new(subject.stdout.take().context("the subject's output")?).lines();
    said.next().context("the subject does not begin")??;
    daemon.signal("STOP")?;
    drop(subject.stdin.take());
    let done = said.next();
    daemon.signal("CONT")?;
    done.context("the subject does not end")??;
    ensure!(subject.wait().context("waiting for the subject")?.success(), "the subject failed");
    let entries = entries(subject.id())?;
    let seen = |number: &u32| {
        let path = format!("/home/dev/work/victim-{number}\"");
        entries.iter().any(|entry| entry.kind() == "open" && entry.text().contains(&path))
    };
    let missing: Vec<u32> = (0..VICTIMS).filter(|number| !seen(number)).collect();
    ensure!(missing.is_empty(), "no entries of files {missing:?}");
    let is_loss = |entry: &Entry| entry.kind() == "lost" && entry.text().contains("\"ring\"");
    ensure!(entries.iter().any(is_loss), "the flood did not fill the ring");
    Ok(())
}

fn read(line: &str) -> Option<(&str, i32)> {
    let (name, errno) = line.strip_prefix("act: ")?.split_once(' ')?;
    Some((name, errno.parse().ok()?))
}

fn check(name: &str, kind: &str, tried: &BTreeMap<&str, i32>, entries: &[Entry]) -> Result<()> {
    let errno = *tried.get(name).context("the subject reported nothing")?;
    // Some calls turn a refusal of the access to a process into EACCES.
    ensure!(errno == 1 || errno == 13, "error {errno} instead of a refusal");
    let refused: BTreeSet<&str> = entries.iter().filter_map(|entry| by_itself(entry, "deny")).collect();
    ensure!(refused.contains(kind), "`treeline/self` has refused, by the log: {refused:?}; not `{kind}`");
    Ok(())
}

/// Whether the log has a refusal of the signal that a file was to send. It is dropped: whoever asks for it is told nothing.
fn is_dropped(tried: &BTreeMap<&str, i32>, entries: &[Entry]) -> Result<()> {
    ensure!(tried.get(BY_FILE) == Some(&0), "it was not tried: {:?}", tried.get(BY_FILE));
    let process = *tried.get("signal-by-file-of").context("the subject does not say which process")?;
    let process = u32::try_from(process).context("a process's id is positive")?;
    let is_it = |entry: &Entry| entry.is_of_process(process) && by_itself(entry, "deny") == Some("signal");
    ensure!(entries.iter().any(is_it), "no refusal is that of process {process}");
    Ok(())
}

/// Whether the log has that the sensor was put into another control group.
fn is_recorded(entries: &[Entry]) -> Result<()> {
    let is_it = |entry: &Entry| by_itself(entry, "audit") == Some("cgroup");
    ensure!(entries.iter().any(is_it), "no entry says that the sensor was moved");
    Ok(())
}

/// Whether the log has a refusal of the command that would remove everything, by its arguments.
fn is_asked(entries: &[Entry]) -> Result<()> {
    let is_it = |entry: &Entry| by_itself(entry, "deny").is_some() && entry.text().contains("--detach-all");
    ensure!(entries.iter().any(is_it), "no refusal is that of `--detach-all`");
    Ok(())
}

/// What the sensor refused or recorded to protect itself, by an entry.
fn by_itself<'e>(entry: &'e Entry, verdict: &str) -> Option<&'e str> {
    let what = match entry.field("/action/tamper/what") {
        "" => entry.kind(),
        what => what,
    };
    (entry.verdict() == verdict && entry.field("/rule/rule") == "treeline/self").then_some(what)
}
