//! The suite: one child process a group, each with a time-out, their results relayed to the serial port.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use treeline_vm_tests::{Line, NO_RESULT_EITHER, ONLY_PARAMETER, Outcome, THOROUGH_PARAMETER};

use super::kernel_log::{self, Health};
use super::port::Port;
use super::{processes, stuck};
use crate::suite::{self, Group, attach::Attach, distribution, session};

const ERRORS: &str = "/tmp/group.stderr";

/// Runs every group. The exit status is 0 when the results have been delivered, whatever they are.
pub(crate) fn run() -> ExitCode {
    match all() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("suite: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn all() -> Result<()> {
    let mut port = Port::open()?;
    let groups = chosen()?;
    let case_count: usize = groups.iter().map(|group| (group.cases)().len()).sum();
    port.send(&Line::Hello { kernel: release(), lsm: lsm(), tests: case_count + 1 })?;
    let mut failed_count = 0;
    for group in groups {
        failed_count += run_group(group, &mut port)?;
        // What runs in a distribution is meant to.
        if !distribution::is_here() {
            processes::kill_all_others();
        }
    }
    failed_count += kernel_health(&mut port)?;
    port.send(&Line::Exit { status: u8::from(failed_count > 0) })
}

/// The groups that the kernel's command line asks for, else all.
fn chosen() -> Result<Vec<&'static Group>> {
    let line = fs::read_to_string("/proc/cmdline").context("reading the kernel's command line")?;
    let Some(only) = line.split_whitespace().find_map(|word| word.strip_prefix(ONLY_PARAMETER)) else {
        let is_thorough = line.split_whitespace().any(|word| word == THOROUGH_PARAMETER);
        return Ok(suite::usual(Attach::of_guest()?, is_thorough));
    };
    only.split(',')
        .map(|name| {
            let known = || suite::all().map(|group| group.name).collect::<Vec<_>>().join(", ");
            suite::group(name).with_context(|| format!("no group is called `{name}`; there are {}", known()))
        })
        .collect()
}

fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

fn lsm() -> String {
    fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default().trim().to_owned()
}

/// Runs one group and reports each of its cases exactly once; returns how many failed.
fn run_group(group: &Group, port: &mut Port) -> Result<usize> {
    if group.needs_sensor && !session::has_sensor() {
        return skip_group(group, port).map(|()| 0);
    }
    let errors = File::create(ERRORS).with_context(|| format!("creating {ERRORS}"))?;
    let started = Instant::now();
    let own = std::env::current_exe().context("finding this program")?;
    let mut child = Command::new(own)
        .args(["group", group.name])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn()
        .with_context(|| format!("starting group {}", group.name))?;
    let lines = read_lines(child.stdout.take().context("the child's output is piped")?);
    let mut pending: BTreeSet<String> = (group.cases)().into_iter().collect();
    let mut failed_count = 0;
    let end = loop {
        let left = Duration::from_secs(group.timeout_s).saturating_sub(started.elapsed());
        match lines.recv_timeout(left) {
            Ok(Line::Test { name, outcome, .. }) if pending.remove(&name) => {
                failed_count += usize::from(matches!(outcome, Outcome::Failed(_)));
                let elapsed_ms = elapsed_ms(started);
                port.send(&Line::Test { name: format!("{}/{name}", group.name), outcome, elapsed_ms })?;
            }
            Ok(line @ (Line::Note { .. } | Line::Started(_))) => port.send(&line)?,
            Ok(other) => eprintln!("suite: group {} sent {other:?}, which is not its to send", group.name),
            Err(RecvTimeoutError::Disconnected) => break finish(&mut child, group, started)?,
            Err(RecvTimeoutError::Timeout) => {
                let stuck = stuck::summary();
                for note in stuck::notes() {
                    port.send(&note)?;
                }
                child.kill().context("killing a group that hangs")?;
                child.wait().context("reaping a group that hung")?;
                break format!("the group was killed after {} s, in {stuck}", group.timeout_s);
            }
        }
    };
    let mut why = format!("no result: {end}\n{}", fs::read_to_string(ERRORS).unwrap_or_default().trim_end());
    for name in pending {
        failed_count += 1;
        let outcome = Outcome::Failed(std::mem::replace(&mut why, NO_RESULT_EITHER.to_owned()));
        let name = format!("{}/{name}", group.name);
        port.send(&Line::Test { name, outcome, elapsed_ms: elapsed_ms(started) })?;
    }
    Ok(failed_count)
}

fn skip_group(group: &Group, port: &mut Port) -> Result<()> {
    for name in (group.cases)() {
        let outcome = Outcome::Skipped("this guest was built without the sensor".to_owned());
        port.send(&Line::Test { name: format!("{}/{name}", group.name), outcome, elapsed_ms: 0 })?;
    }
    Ok(())
}

/// Waits for a child that has closed its output, within what is left of its time.
fn finish(child: &mut Child, group: &Group, started: Instant) -> Result<String> {
    loop {
        if let Some(status) = child.try_wait().context("waiting for a group")? {
            return Ok(describe(status));
        }
        if started.elapsed() > Duration::from_secs(group.timeout_s) {
            child.kill().context("killing a group that hangs")?;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn describe(status: ExitStatus) -> String {
    format!("the group ended with {status}")
}

/// Decodes the child's lines in a thread, since the runner waits with a time-out. The channel is bounded so
/// that a child which floods its output waits instead of filling the guest's memory.
fn read_lines(stdout: ChildStdout) -> Receiver<Line> {
    let (sender, receiver) = mpsc::sync_channel(64);
    thread::spawn(move || {
        // A line longer than this is none of ours.
        for line in BufReader::new(stdout.take(64 << 20)).lines().map_while(Result::ok) {
            let Some(line) = Line::decode(&line) else {
                eprintln!("suite: output: {line}");
                continue;
            };
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

fn kernel_health(port: &mut Port) -> Result<usize> {
    let messages = kernel_log::read()?;
    let outcome = match kernel_log::health(&messages, kernel_log::is_emulated()) {
        Health::Clean => Outcome::Passed,
        Health::Emulator(text) => {
            Outcome::Skipped(format!("the emulator stepped where nobody had asked for it: {text}"))
        }
        Health::Trouble(text) => Outcome::Failed(text),
    };
    let failed_count = usize::from(matches!(outcome, Outcome::Failed(_)));
    port.send(&Line::Test { name: "kernel/log-is-clean".into(), outcome, elapsed_ms: 0 })?;
    Ok(failed_count)
}

fn elapsed_ms(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
