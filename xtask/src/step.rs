//! One command that may take long: its output goes to a file, the terminal hears a heartbeat, and the end of the output
//! when it failed. All of that is on standard error: what a verb answers with is not mixed with how it came to it.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::checkout::Checkout;

/// How often a silent step says that it is alive: often enough for a CI that kills silent jobs, seldom enough to read.
const HEARTBEAT: Duration = Duration::from_secs(20);
/// How often the child is asked whether it ended.
const POLL: Duration = Duration::from_millis(50);
/// No step that is not given another takes this long on two cores.
const DEADLINE: Duration = Duration::from_secs(30 * 60);
/// How much of a failed step's output is shown; the rest is in its file.
const TAIL_LINES: usize = 40;
/// What is read for it: a line of compiler output is rarely above 1 KiB.
const TAIL_BYTES: u64 = 64 * 1024;

/// A finished step.
#[derive(Debug)]
pub(crate) struct Finished {
    /// The command as one could type it.
    command: String,
    /// How it ended.
    pub(crate) end: End,
    /// Its whole output, both streams.
    pub(crate) log: PathBuf,
    /// How long it took.
    pub(crate) elapsed: Duration,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself.
    Exit(ExitStatus),
    /// It did not end before its deadline and was killed.
    Hung,
}

impl Finished {
    /// Whether it ended by itself, and well.
    pub(crate) fn is_success(&self) -> bool {
        matches!(self.end, End::Exit(status) if status.success())
    }

    /// The output as text.
    pub(crate) fn output(&self) -> Result<String> {
        let bytes = fs::read(&self.log).with_context(|| format!("cannot read `{}`", self.log.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Fails when it failed, showing the end of its output.
    pub(crate) fn required(&self, checkout: &Checkout) -> Result<()> {
        let how = match self.end {
            End::Exit(status) if status.success() => return Ok(()),
            End::Exit(status) => format!("failed ({status})"),
            End::Hung => format!("was killed, since it had not ended after {} s", self.elapsed.as_secs()),
        };
        self.show_tail();
        bail!("`{}` {how}; all of its output: {}", self.command, checkout.relative(&self.log).display());
    }

    /// Prints the end of its output, indented, so that it cannot be mistaken for our own words.
    pub(crate) fn show_tail(&self) {
        for line in tail(&self.log, TAIL_LINES) {
            eprintln!("    | {line}");
        }
    }
}

/// Runs `command` as the step `name` and fails when it fails, showing the end of its output.
pub(crate) fn run(checkout: &Checkout, name: &str, command: &mut Command) -> Result<Finished> {
    let finished = attempt(checkout, name, command, DEADLINE)?;
    finished.required(checkout)?;
    eprintln!("    done in {} s", finished.elapsed.as_secs());
    Ok(finished)
}

/// Runs `command` as the step `name`; how it ended is the caller's to judge.
pub(crate) fn attempt(
    checkout: &Checkout,
    name: &str,
    command: &mut Command,
    deadline: Duration,
) -> Result<Finished> {
    let log = checkout.logs().join(format!("{name}.log"));
    fs::create_dir_all(checkout.logs())
        .with_context(|| format!("cannot create `{}`", checkout.logs().display()))?;
    let file = File::create(&log).with_context(|| format!("cannot create `{}`", log.display()))?;
    let second = file.try_clone().context("cannot duplicate the log's descriptor")?;
    eprintln!("    running `{}`", shown(command));
    let started = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(second)
        .spawn()
        .with_context(|| format!("cannot start `{}`", shown(command)))?;
    let end = wait(&mut child, name, &log, deadline)
        .with_context(|| format!("cannot wait for `{}`", shown(command)))?;
    Ok(Finished { command: shown(command), end, log, elapsed: started.elapsed() })
}

/// Waits, with a heartbeat, until the child ends or its time is up.
fn wait(child: &mut Child, name: &str, log: &Path, deadline: Duration) -> io::Result<End> {
    let started = Instant::now();
    let mut beat = started;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(End::Exit(status));
        }
        if started.elapsed() >= deadline {
            kill_tree(child)?;
            return Ok(End::Hung);
        }
        if beat.elapsed() >= HEARTBEAT {
            beat = Instant::now();
            let last = tail(log, 1).pop().unwrap_or_default();
            eprintln!(
                "    ... {name}: {} s, last line: {}",
                started.elapsed().as_secs(),
                clipped(last.trim())
            );
        }
        thread::sleep(POLL);
    }
}

/// Kills the child and what it started. (It has no process group of its own, so that Ctrl-C ends it together with us.)
fn kill_tree(child: &mut Child) -> io::Result<()> {
    let mut pids = vec![child.id().to_string()];
    let mut index = 0;
    while let Some(pid) = pids.get(index).cloned() {
        index += 1;
        for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            pids.extend(children.split_whitespace().map(str::to_owned));
        }
    }
    let descendants = &pids[1..];
    if !descendants.is_empty() {
        // Those that ended meanwhile make it fail, which is as good.
        Command::new("kill").arg("-KILL").args(descendants).stderr(Stdio::null()).status()?;
    }
    child.kill()?;
    child.wait().map(drop)
}

/// The last `count` lines of a file; none when it cannot be read, since this only serves messages.
fn tail(log: &Path, count: usize) -> Vec<String> {
    let Ok(mut file) = File::open(log) else { return Vec::new() };
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let mut bytes = Vec::new();
    if file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES))).is_err()
        || file.read_to_end(&mut bytes).is_err()
    {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<String> =
        text.lines().rev().filter(|line| !line.trim().is_empty()).take(count).map(str::to_owned).collect();
    lines.reverse();
    lines
}

fn clipped(line: &str) -> String {
    line.chars().take(100).collect()
}

/// The command, as one could type it where its program is in PATH.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut words = vec![program.file_name().unwrap_or(command.get_program())];
    words.extend(command.get_args());
    words.into_iter().map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkout() -> (tempfile::TempDir, Checkout) {
        let folder = tempfile::tempdir().unwrap();
        let checkout = Checkout::at(folder.path());
        (folder, checkout)
    }

    #[test]
    fn both_streams_reach_the_log() {
        let (_folder, checkout) = checkout();
        let finished =
            run(&checkout, "echo", Command::new("sh").args(["-c", "echo out; echo err >&2"])).unwrap();
        let mut lines: Vec<String> = finished.output().unwrap().lines().map(str::to_owned).collect();
        lines.sort();
        assert_eq!(lines, ["err", "out"]);
    }

    #[test]
    fn a_failure_names_command_status_and_log() {
        let (_folder, checkout) = checkout();
        let error = run(&checkout, "sad", Command::new("sh").args(["-c", "exit 3"])).unwrap_err().to_string();
        assert_eq!(
            error,
            "`sh -c exit 3` failed (exit status: 3); all of its output: target/xtask-logs/sad.log"
        );
    }

    #[test]
    fn a_hung_command_is_killed_with_its_children() {
        let (_folder, checkout) = checkout();
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 600 & echo $!; wait"]);
        let finished = attempt(&checkout, "hung", &mut command, Duration::from_millis(300)).unwrap();
        assert_eq!(finished.end, End::Hung);
        let pid = finished.output().unwrap();
        // A killed process takes a moment to die, and stays as a zombie until its new parent reaps it.
        let is_gone = || {
            let state = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
            state.is_empty() || state.contains(") Z ")
        };
        let patience = Instant::now() + Duration::from_secs(10);
        while !is_gone() && Instant::now() < patience {
            thread::sleep(POLL);
        }
        assert!(is_gone());
    }

    #[test]
    fn a_missing_program_is_named() {
        let (_folder, checkout) = checkout();
        let error = run(&checkout, "none", &mut Command::new("treeline-no-such-program")).unwrap_err();
        assert_eq!(error.to_string(), "cannot start `treeline-no-such-program`");
    }

    #[test]
    fn the_tail_is_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        fs::write(&log, "one\n\ntwo\nthree\n").unwrap();
        assert_eq!(tail(&log, 2), ["two", "three"]);
        assert_eq!(tail(&folder.path().join("absent"), 2), Vec::<String>::new());
    }
}
