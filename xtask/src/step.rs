//! One command that may take long: its output goes to a file, the terminal hears a heartbeat, and the end of the output
//! when it failed.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::checkout::Checkout;

/// How often a silent step says that it is alive: often enough for a CI that kills silent jobs, seldom enough to read.
const HEARTBEAT: Duration = Duration::from_secs(20);
/// How often the child is asked whether it ended.
const POLL: Duration = Duration::from_millis(50);
/// How much of a failed step's output is shown; the rest is in its file.
const TAIL_LINES: usize = 40;
/// What is read for it: a line of compiler output is rarely above 1 KiB.
const TAIL_BYTES: u64 = 64 * 1024;

/// A finished step.
#[derive(Debug)]
pub(crate) struct Finished {
    /// How the command ended.
    pub(crate) status: ExitStatus,
    /// Its whole output, both streams.
    pub(crate) log: PathBuf,
    /// How long it took.
    pub(crate) elapsed: Duration,
}

/// Runs `command` as the step `name` and fails when it fails, showing the end of its output.
pub(crate) fn run(checkout: &Checkout, name: &str, command: &mut Command) -> Result<Finished> {
    let finished = attempt(checkout, name, command)?;
    if !finished.status.success() {
        show_tail(&finished.log);
        bail!(
            "`{}` failed ({}); all of its output: {}",
            shown(command),
            finished.status,
            relative(checkout, &finished.log)
        );
    }
    println!("    done in {} s", finished.elapsed.as_secs());
    Ok(finished)
}

/// Runs `command` as the step `name`; how it ended is the caller's to judge.
pub(crate) fn attempt(checkout: &Checkout, name: &str, command: &mut Command) -> Result<Finished> {
    let log = checkout.logs().join(format!("{name}.log"));
    fs::create_dir_all(checkout.logs())
        .with_context(|| format!("cannot create `{}`", checkout.logs().display()))?;
    let file = File::create(&log).with_context(|| format!("cannot create `{}`", log.display()))?;
    let second = file.try_clone().context("cannot duplicate the log's descriptor")?;
    println!("    running `{}`", shown(command));
    let started = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(second)
        .spawn()
        .with_context(|| format!("cannot start `{}`", shown(command)))?;
    let mut beat = started;
    loop {
        if let Some(status) =
            child.try_wait().with_context(|| format!("cannot wait for `{}`", shown(command)))?
        {
            return Ok(Finished { status, log, elapsed: started.elapsed() });
        }
        if beat.elapsed() >= HEARTBEAT {
            beat = Instant::now();
            let last = tail(&log, 1).pop().unwrap_or_default();
            println!(
                "    ... {name}: {} s, last line: {}",
                started.elapsed().as_secs(),
                clipped(last.trim())
            );
        }
        thread::sleep(POLL);
    }
}

/// Prints the end of a log, indented, so that it cannot be mistaken for our own words.
pub(crate) fn show_tail(log: &Path) {
    for line in tail(log, TAIL_LINES) {
        eprintln!("    | {line}");
    }
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

fn relative(checkout: &Checkout, path: &Path) -> String {
    checkout.relative(path).display().to_string()
}

/// The command as one could type it.
pub(crate) fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program()];
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
        let mut lines: Vec<String> =
            fs::read_to_string(finished.log).unwrap().lines().map(str::to_owned).collect();
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
