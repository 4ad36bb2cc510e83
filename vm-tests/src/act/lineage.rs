//! Processes that try to leave their tree, and then read the key.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{getppid, getsid, setsid};

use super::{Tried, mark};
use crate::suite::stage::{ACT, KEY, WORK};

/// How long the subject waits for its descendant, which is emulated and may be queued behind the sensor's work.
const PATIENCE: Duration = Duration::from_secs(30);

/// Starts a chain `subject -> hop -> probe`, of which the hop ends at once, and waits for the probe's report.
/// `steps` are what the probe does before it reads the key; `wrapper` is a command that starts the probe.
pub(crate) fn escape(case: &str, steps: &str, wrapper: &[&str]) -> io::Result<()> {
    let report = report_of(case);
    let status = Command::new(ACT)
        .args(["act", "hop", &mark(case), steps])
        .args(wrapper)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()?;
    if !status.success() {
        return Err(io::Error::other(format!("the hop ended with {status}")));
    }
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if let Ok(text) = fs::read_to_string(&report) {
            let tried: Tried = serde_json::from_str(&text)?;
            return match tried.errno {
                None => Ok(()),
                Some(errno) if errno > 0 => Err(io::Error::from_raw_os_error(errno)),
                Some(_) => Err(io::Error::other(tried.error)),
            };
        }
        thread::sleep(Duration::from_millis(20));
    }
    Err(io::Error::other(format!("no report from the probe after {} s", PATIENCE.as_secs())))
}

fn report_of(case: &str) -> PathBuf {
    Path::new(WORK).join(format!("{case}.report"))
}

/// The process in the middle: starts the probe and ends.
pub(crate) fn hop(words: &[&str]) -> ExitCode {
    let [mark, steps, wrapper @ ..] = words else { return ExitCode::from(2) };
    let own = std::process::id().to_string();
    let probe = [ACT, "act", "probe", mark, steps, &own];
    let whole = [wrapper, &probe].concat();
    let started = Command::new(whole[0])
        .args(&whole[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    if started.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A process whose second thread executes a program as soon as a file is there, while the first one waits for it.
pub(crate) fn by_thread(words: &[&str]) -> ExitCode {
    let [go, program, arguments @ ..] = words else { return ExitCode::from(2) };
    let failed = thread::scope(|scope| {
        let executes = scope.spawn(|| {
            let started = Instant::now();
            while !Path::new(go).exists() && started.elapsed() < PATIENCE {
                thread::sleep(Duration::from_millis(20));
            }
            Command::new(program).args(arguments).exec()
        });
        executes.join()
    });
    eprintln!(
        "{program}: {}",
        failed.map_or_else(|_| "the thread panicked".to_owned(), |error| error.to_string())
    );
    ExitCode::FAILURE
}

/// The process at the end: leaves as far as `steps` say, then reads the key and writes what came of it.
pub(crate) fn probe(words: &[&str]) -> ExitCode {
    let [mark, steps, hop] = words else { return ExitCode::from(2) };
    let case = mark.trim_matches('@');
    let result = leave(case, steps, hop).and_then(|()| fs::read(KEY).map(drop));
    let text = serde_json::to_string(&Tried::new(case, result)).unwrap_or_default();
    // Renamed into place: the subject polls for the whole report.
    let report = report_of(case);
    let draft = report.with_extension("draft");
    if fs::write(&draft, text).and_then(|()| fs::rename(&draft, &report)).is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn leave(case: &str, steps: &str, hop: &str) -> io::Result<()> {
    for step in steps.split(',') {
        match step {
            "orphan" => until_orphaned(hop)?,
            "setsid" => become_leader()?,
            "cgroup" => change_cgroup(case)?,
            other => return Err(io::Error::other(format!("no step is called {other}"))),
        }
    }
    Ok(())
}

/// Waits until the hop has ended: the parent is then PID 1, or whoever is the subreaper.
fn until_orphaned(hop: &str) -> io::Result<()> {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        let parent = getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
        // 0 when the parent is outside of this pid namespace, where the hop's end cannot be seen from here.
        if parent == 0 || parent.to_string() != hop {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(5));
    }
    Err(io::Error::other("the hop did not end"))
}

/// A new session without a terminal, as a daemon has it.
fn become_leader() -> io::Result<()> {
    if setsid().is_err() && getsid(None)? != rustix::process::getpid() {
        return Err(io::Error::other("setsid failed for a process that leads no session"));
    }
    Ok(())
}

/// Moves this process into a control group of its own, outside of any that it was started in.
fn change_cgroup(case: &str) -> io::Result<()> {
    let group = Path::new("/sys/fs/cgroup").join(case);
    fs::create_dir_all(&group)?;
    fs::write(group.join("cgroup.procs"), std::process::id().to_string())?;
    let now = fs::read_to_string("/proc/self/cgroup")?;
    if now.trim_end().ends_with(case) { Ok(()) } else { Err(io::Error::other(format!("still in {now}"))) }
}
