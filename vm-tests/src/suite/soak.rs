//! A long session of mixed load: what grows, what is lost, and whether the numbers add up at the end.
//!
//! Two sessions at once: stress-ng, and a real build that starts over whenever it is done. The daemon is looked at all
//! along; when both have ended, every exec and every end of a process must be in the log, and nothing may be left in the
//! kernel's maps of what was under way.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use serde_json::Value;
use treeline_vm_tests::MINUTES_PARAMETER;

use super::cost::POLICY;
use super::daemon::{self, Daemon};
use super::{Group, attach::Attach, stage};
use crate::guest::group::Report;

const LIFECYCLE: &str = "no-lifecycle-event-is-lost";
const ADDS_UP: &str = "created-is-read-plus-lost";
const PAIRS: &str = "every-process-that-began-has-ended";
const MEMORY: &str = "memory-does-not-grow";
const MAPS: &str = "maps-do-not-grow";
const LEFT: &str = "nothing-is-left-in-maps";
const LOGGED: &str = "every-lifecycle-event-is-in-the-log";
const WHOLE: &str = "log-verifies";
const BUILT: &str = "the-build-is-built";

const NAME: &str = "soak";
const COUNT: &str = include_str!("map_entries.py");
/// Maps of what is under way in a session: calls, connections, processes. Those that the kernel itself bounds (the least
/// recently used goes) are not among them.
const OF_SESSIONS: [&str; 6] = ["WAITING", "NOTES", "JOBS", "CONNECTING", "CONNECTIONS", "LABELS_BY_PROCESS"];
/// Kinds of records that are one entry each.
const SINGLE: [&str; 2] = ["exec", "exit"];

const MINUTES_DEFAULT: u64 = 30;
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// What the daemon may need to read what is left when the load has ended.
const SETTLE: Duration = Duration::from_secs(10);
/// Growth of the daemon's own memory from the second third of the time to the last that is no leak: allocators round.
const GROWTH_KIB_MAX: u64 = 4 * 1024;
const STOP: &str = "/home/dev/work/soak-stop";
const BUILDS: &str = "/home/dev/work/soak-builds";

pub(super) const GROUP: Group = Group {
    name: "soak",
    cases: || [BUILT, LIFECYCLE, ADDS_UP, PAIRS, MEMORY, MAPS, LEFT, LOGGED, WHOLE].map(str::to_owned).into(),
    run,
    needs_sensor: true,
    timeout_s: 4 * 3600,
};

/// The daemon at one moment.
#[derive(Clone, Debug, Serialize)]
struct Sample {
    after_s: u64,
    resident_kib: u64,
    own_kib: u64,
    maps_kib: u64,
    queued: u64,
    created: u64,
    lost: u64,
}

fn run(report: &Report) -> Result<()> {
    stage::prepare()?;
    for program in ["/usr/bin/stress-ng", "/usr/bin/make"] {
        ensure!(
            Path::new(program).is_file(),
            "this guest was built without {program}; `cargo xtask soak` brings it"
        );
    }
    let minutes = minutes()?;
    let daemon = Daemon::start(NAME, POLICY, Attach::Lsm)?;
    let mut sessions = [stress(&daemon, minutes)?, builds(&daemon)?];
    let samples = watch(report, &daemon, Duration::from_secs(minutes * 60))?;
    fs::write(STOP, "").with_context(|| format!("creating {STOP}"))?;
    for session in &mut sessions {
        let status = session.wait().context("waiting for a session")?;
        ensure!(status.success(), "a session ended with {status}");
    }
    thread::sleep(SETTLE);
    let status = daemon.status()?;
    report.note("soak-end", status.to_string());
    report.case(BUILT, built());
    report.case(LIFECYCLE, no_lifecycle_loss(&status));
    report.case(ADDS_UP, adds_up(&status));
    report.case(PAIRS, pairs(&status));
    report.case(MEMORY, steady(&samples, |sample| sample.own_kib));
    report.case(MAPS, steady(&samples, |sample| sample.maps_kib));
    report.case(LEFT, nothing_left());
    report.case(WHOLE, daemon.stop());
    report.case(LOGGED, logged(&status));
    Ok(())
}

fn nothing_left() -> Result<()> {
    let output =
        Command::new("/usr/bin/python3").args(["-c", COUNT, &daemon::pins(NAME)]).args(OF_SESSIONS).output();
    let output = output.context("counting what maps have")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    let left: Vec<&str> = text.lines().filter(|line| !line.ends_with(" 0")).collect();
    ensure!(text.lines().count() == OF_SESSIONS.len() && left.is_empty(), "{}", left.join(", "));
    Ok(())
}

/// Each of them is an entry: what was read and what the log has is the same.
fn logged(status: &Value) -> Result<()> {
    let home = daemon::home(NAME);
    let words = ["log", "cat", "--log", &format!("{home}/log")];
    let mut cat =
        daemon::treeline(&home, &words).stdout(Stdio::piped()).spawn().context("reading the log")?;
    let output = cat.stdout.take().context("the log is piped")?;
    let mut counts = SINGLE.map(|kind| (kind, format!("\"kind\":\"{kind}\""), 0_u64));
    // As text: there are hundreds of thousands of entries.
    for line in BufReader::new(output).lines() {
        let line = line.context("reading the log")?;
        for (_, text, count) in &mut counts {
            *count += u64::from(line.contains(text.as_str()));
        }
    }
    ensure!(cat.wait().context("waiting for `log cat`")?.success(), "`log cat` failed");
    for (kind, _, count) in counts {
        let record = records(status).iter().find(|record| record["kind"] == kind);
        let read = record.map_or(0, |record| number(record, "read"));
        ensure!(read > 0 && read == count, "{kind}: {read} were read, {count} are in the log");
    }
    Ok(())
}

fn minutes() -> Result<u64> {
    let line = fs::read_to_string("/proc/cmdline").context("reading the kernel's command line")?;
    match line.split_whitespace().find_map(|word| word.strip_prefix(MINUTES_PARAMETER)) {
        None => Ok(MINUTES_DEFAULT),
        Some(minutes) => minutes.parse().with_context(|| format!("`{minutes}` is no number of minutes")),
    }
}

/// Processes, files, names, sockets and threads, one worker each: a mix, not a flood.
fn stress(daemon: &Daemon, minutes: u64) -> Result<Child> {
    let seconds = (minutes * 60).to_string();
    let workers = ["fork", "open", "rename", "dentry", "link", "symlink", "sock", "pthread", "mmap", "pipe"];
    let mut words =
        vec!["run", "--", "/usr/bin/stress-ng", "--temp-path", stage::WORK, "--timeout", &seconds];
    let options: Vec<String> = workers.iter().map(|worker| format!("--{worker}")).collect();
    for option in &options {
        words.extend([option.as_str(), "1"]);
    }
    // Bounds, so that one worker's appetite does not make the mix: files, names, memory.
    words.extend(["--fork-max", "2", "--pthread-max", "8", "--dentries", "64", "--mmap-bytes", "16m"]);
    daemon.verb(&words).stdout(Stdio::null()).spawn().context("starting stress-ng")
}

/// Builds Lua from its sources over and over.
fn builds(daemon: &Daemon) -> Result<Child> {
    let script = format!(
        "while [ ! -e {STOP} ]; do rm -rf {work}/lua && mkdir {work}/lua && cp -r /usr/src/lua/. {work}/lua && make -s -C {work}/lua/src \
         generic CC=gcc-12 >/dev/null && {work}/lua/src/lua -e 'assert(1 + 1 == 2)' && echo built >> {BUILDS} || exit 9; done",
        work = stage::WORK
    );
    daemon.verb(&["run", "--", "/usr/bin/bash", "-c", &script]).spawn().context("starting the build")
}

fn watch(report: &Report, daemon: &Daemon, how_long: Duration) -> Result<Vec<Sample>> {
    let started = Instant::now();
    let mut samples = Vec::new();
    while started.elapsed() < how_long {
        thread::sleep(LOOK_EVERY);
        let sample = sample(daemon, started)?;
        report.note("soak", serde_json::to_string(&sample)?);
        samples.push(sample);
    }
    Ok(samples)
}

fn sample(daemon: &Daemon, started: Instant) -> Result<Sample> {
    let status = daemon.status()?;
    let memory = fs::read_to_string(format!("/proc/{}/status", daemon.pid()))
        .context("reading the daemon's memory")?;
    let kib = |name: &str| -> u64 {
        let line = memory.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
    };
    let sum = |field: &str| records(&status).iter().map(|record| number(record, field)).sum();
    Ok(Sample {
        after_s: started.elapsed().as_secs(),
        resident_kib: kib("VmRSS:"),
        own_kib: kib("RssAnon:"),
        maps_kib: maps_kib(daemon.pid())?,
        queued: number(&status, "queued"),
        created: sum("created"),
        lost: sum("lost"),
    })
}

/// What the kernel accounts for the daemon's maps.
fn maps_kib(pid: u32) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).context("listing the daemon's descriptors")? {
        // One that was closed meanwhile is none.
        let text = fs::read_to_string(entry?.path()).unwrap_or_default();
        if text.contains("map_type:") {
            let line = text.lines().find_map(|line| line.strip_prefix("memlock:"));
            bytes += line.and_then(|line| line.trim().parse::<u64>().ok()).unwrap_or_default();
        }
    }
    Ok(bytes / 1024)
}

fn records(status: &Value) -> &[Value] {
    status["records"].as_array().map_or(&[], Vec::as_slice)
}

fn number(value: &Value, field: &str) -> u64 {
    value[field].as_u64().unwrap_or_default()
}

fn built() -> Result<()> {
    let count = fs::read_to_string(BUILDS).context("no build was finished")?.lines().count();
    ensure!(count > 0, "no build was finished");
    Ok(())
}

const LIFECYCLE_KINDS: [&str; 4] = ["fork", "exec", "exit", "exec_denied"];

fn no_lifecycle_loss(status: &Value) -> Result<()> {
    let losses = status["loss"].as_array().context("the status has no losses")?;
    let is_lifecycle = |loss: &&Value| LIFECYCLE_KINDS.iter().any(|kind| loss["kind"] == *kind);
    match losses.iter().find(is_lifecycle) {
        None => Ok(()),
        Some(loss) => bail!("{loss}"),
    }
}

fn adds_up(status: &Value) -> Result<()> {
    ensure!(!records(status).is_empty(), "the status counts no records");
    for record in records(status) {
        let (created, read, lost) =
            (number(record, "created"), number(record, "read"), number(record, "lost"));
        ensure!(created == read + lost, "{record}");
    }
    Ok(())
}

/// Each process begins with a fork, but for the roots of the two sessions.
fn pairs(status: &Value) -> Result<()> {
    let created = |kind: &str| {
        let record = records(status).iter().find(|record| record["kind"] == kind);
        record.map_or(0, |record| number(record, "created"))
    };
    let (forks, exits) = (created("fork"), created("exit"));
    ensure!(forks > 0 && exits == forks + 2, "{forks} forks and 2 roots, but {exits} ends");
    Ok(())
}

/// The last third of the time needs no more than the second: the first fills tables that have a bound.
fn steady(samples: &[Sample], of: impl Fn(&Sample) -> u64) -> Result<()> {
    let third = samples.len() / 3;
    let largest = |part: &[Sample]| part.iter().map(&of).max().unwrap_or_default();
    let (before, after) = (largest(&samples[third..2 * third]), largest(&samples[2 * third..]));
    ensure!(third > 0 && before > 0, "there are only {} samples", samples.len());
    ensure!(
        after <= before + GROWTH_KIB_MAX,
        "{before} KiB in the second third of the time, {after} KiB in the last"
    );
    Ok(())
}
