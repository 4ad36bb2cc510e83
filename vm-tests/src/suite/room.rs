//! A process for whose label there is no room is not made: where labels are in a table (before Linux 5.17) none in that,
//! where they are on tasks none for those that wait for theirs.

use std::fs::{self, File};
use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::io::Errno;

use super::attach::{self, Attach};
use super::daemon::{self, Daemon};
use super::subject::{self, finish};
use super::{Group, stage};
use crate::guest::group::Report;

const NAME: &str = "room";
const PATIENCE: Duration = Duration::from_secs(120);
const PROGRAM: &str = include_str!("room.py");
const PROGRAM_PATH: &str = "/run/room.py";
/// Where labels are in a table.
const LABELS: &str = "LABELS_BY_PROCESS";
/// How many labels wait for their tasks, and from how many on no process is made (ARCHITECTURE.md, "Threads, queues and other bounds").
const WAITING: &str = "WAITING_COUNT";
const WAITING_FULL: u64 = 3072;
/// Where the subject is told what to do.
const STEPS: &str = "/home/dev/work/room-steps";

const ROOM: &str = "a-process-with-room-is-made";
const LAST: &str = "a-process-with-the-last-room-is-made";
const FULL: &str = "a-process-without-room-is-not-made";
const THREAD: &str = "a-thread-needs-no-room";
const COUNTED: &str = "it-is-counted-as-lost";
const AGAIN: &str = "with-room-again-it-is-made";

const CASES: [&str; 6] = [ROOM, LAST, FULL, THREAD, COUNTED, AGAIN];

pub(super) const GROUP: Group =
    Group { name: NAME, cases: || CASES.map(str::to_owned).into(), run, needs_sensor: true, timeout_s: 900 };

/// Whether labels are in a table here.
fn is_by_process() -> bool {
    attach::release() < (5, 17)
}

/// Makes a process, or a thread, whenever it is told to, and leaves 0 or the errno.
const SUBJECT: &str = "
import os, threading
steps = os.fdopen(os.open('/home/dev/work/room-steps', os.O_RDWR))
while True:
    step = steps.readline().strip()
    try:
        if step == 'thread':
            thread = threading.Thread(target=int)
            thread.start()
            thread.join()
        else:
            child = os.fork()
            if child == 0: os._exit(0)
            os.waitpid(child, 0)
        status = 0
    except OSError as error:
        status = error.errno
    with open(f'/home/dev/work/room-{step}.tmp', 'w') as file: file.write(str(status))
    os.rename(f'/home/dev/work/room-{step}.tmp', f'/home/dev/work/room-{step}.status')
    if step == 'again': break
";

fn run(report: &Report) -> Result<()> {
    stage::prepare()?;
    mknodat(CWD, STEPS, FileType::Fifo, Mode::from_raw_mode(0o644), 0)
        .context("making the pipe to the subject")?;
    fs::write(PROGRAM_PATH, PROGRAM).with_context(|| format!("writing {PROGRAM_PATH}"))?;
    let attach = Attach::of_guest()?;
    let daemon = Daemon::start(NAME, &stage::policy("enforce"), attach)?;
    let mut subject = daemon
        .verb(&["run", "--", "/usr/bin/python3", "-I", "-S", "-c", SUBJECT])
        .stderr(Stdio::null())
        .spawn()
        .context("starting the subject")?;
    let result = phases(report, &daemon, attach);
    finish(&mut subject);
    result?;
    daemon.stop()?;
    daemon::detach_all(NAME)
}

fn phases(report: &Report, daemon: &Daemon, attach: Attach) -> Result<()> {
    report.case(ROOM, expect("room", 0));
    let before = lost(daemon)?;
    // Of a full table there is no last place but one: others may come and go.
    if !is_by_process() {
        wait_for_tasks(WAITING_FULL - 1)?;
    }
    report.case(LAST, expect("last", 0));
    fill(report)?;
    // In mode `fallback` nothing can refuse it. Where labels are in a table, the one without room waits for it; where they
    // are on tasks, there is room on the task.
    let full = if attach.judges_all() { Errno::AGAIN.raw_os_error() } else { 0 };
    report.case(FULL, expect("full", full));
    report.case(THREAD, expect("thread", 0));
    let more = lost(daemon)? - before;
    report.case(
        COUNTED,
        match (attach.judges_all(), more) {
            (true, 1..) | (false, 0) => Ok(()),
            _ => Err(anyhow::anyhow!("{more} records were lost where processes are made")),
        },
    );
    empty()?;
    report.case(AGAIN, expect("again", 0));
    Ok(())
}

/// Has the subject make a process.
fn expect(step: &str, errno: i32) -> Result<()> {
    // For reading, too: if the subject has ended, nobody else does.
    let mut steps =
        File::options().read(true).write(true).open(STEPS).context("opening the pipe to the subject")?;
    writeln!(steps, "{step}").context("telling the subject to go on")?;
    let said = subject::answer(&format!("{}/room-{step}.status", stage::WORK), PATIENCE)?;
    ensure!(said == errno.to_string(), "it came to errno {said}, expected {errno}");
    Ok(())
}

/// How many records about new processes the kernel programs could not make, as `status` says.
fn lost(daemon: &Daemon) -> Result<u64> {
    // The sensor asks the kernel once a second.
    thread::sleep(Duration::from_secs(3));
    let status = daemon.status()?;
    let lost = status["loss"].as_array().context("the status has no losses")?;
    let of_forks = lost.iter().filter(|lost| lost["kind"] == "fork" && lost["site"] == "build");
    Ok(of_forks.filter_map(|lost| lost["count"].as_u64()).sum())
}

/// Takes all room.
fn fill(report: &Report) -> Result<()> {
    if !is_by_process() {
        return wait_for_tasks(WAITING_FULL);
    }
    let count = table(LABELS, &["fill"])?;
    report.note("room", format!("{count} labels of nobody fill the table"));
    Ok(())
}

fn empty() -> Result<()> {
    if !is_by_process() {
        return wait_for_tasks(0);
    }
    ensure!(table(LABELS, &["empty"])? > 0, "the table does not hold what was put there");
    Ok(())
}

/// Has the sensor's programs find that so many labels wait.
fn wait_for_tasks(count: u64) -> Result<()> {
    table(WAITING, &["set", &count.to_string()]).map(drop)
}

/// Does something with one of the sensor's tables; what the program counts.
fn table(name: &str, words: &[&str]) -> Result<u64> {
    let root = daemon::pins(NAME);
    let mut sets = fs::read_dir(&root).with_context(|| format!("reading {root}"))?.flatten();
    let (Some(set), None) = (sets.next(), sets.next()) else { bail!("there is not one set of pins") };
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-I", "-S", PROGRAM_PATH, words[0]]).arg(set.path().join("maps").join(name));
    command.args(&words[1..]);
    let output = command.output().context("starting python3")?;
    let said = String::from_utf8_lossy(&output.stdout);
    said.trim().parse().with_context(|| {
        format!(
            "{} of {name} ended with {}: {}",
            words.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        )
    })
}
