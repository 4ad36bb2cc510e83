//! What a run of each kernel program takes, by the kernel's own statistics (`kernel.bpf_stats_enabled`, Linux 5.1): first
//! for processes outside of every session, then inside one. While they are taken every run costs more, so nothing else is
//! measured then.
//!
//! In a guest that counts instructions the kernel's clock does, too.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::attach::Attach;
use super::cost::{POLICY, succeeded};
use super::daemon::{self, Daemon};
use crate::guest::group::Report;

const NAME: &str = "hook-cost";
const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";
/// What runs every hook.
const PROGRAM: &str = include_str!("every_hook.py");
const PYTHON: &str = "/usr/bin/python3";
/// The sensor asks the kernel each second.
const UNTIL_ASKED: Duration = Duration::from_millis(2500);
const LAUNCHES: u32 = 5;

/// Runs of a program, and what they took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Runs {
    runs: u64,
    run_ns: u64,
}

/// A program of the sensor, as its status lists it.
#[derive(Clone, Debug, Deserialize)]
struct Program {
    hook: String,
    #[serde(flatten)]
    runs: Runs,
}

#[derive(Debug, PartialEq, Serialize)]
struct HookCost {
    hook: String,
    outside: Runs,
    inside: Runs,
}

/// What becoming ready and launching take, in nanoseconds of the guest's clock.
#[derive(Debug, Serialize)]
struct Start {
    ready_ns: u64,
    /// Its own, until it had answered a question.
    ready_own_ns: u64,
    launch_plain_ns: u64,
    launch_ns: u64,
}

/// Tells the costs of each hook.
pub(super) fn measure(report: &Report) -> Result<()> {
    ensure!(Path::new(PYTHON).is_file(), "this guest was built without python3");
    let daemon = Daemon::start(NAME, POLICY, Attach::Lsm)?;
    report.note("cost-start", serde_json::to_string(&start(&daemon)?)?);
    fs::write(SWITCH, "1").with_context(|| format!("writing {SWITCH}"))?;
    let begin = programs(&daemon)?;
    let mut bare = Command::new(PYTHON);
    let said = every_hook(&mut bare, "outside")?;
    let outside = programs(&daemon)?;
    let refused = every_hook(&mut daemon.verb(&["run", "--", PYTHON]), "inside")?;
    let inside = programs(&daemon)?;
    fs::write(SWITCH, "0").with_context(|| format!("writing {SWITCH}"))?;
    for cost in costs(&begin, &outside, &inside)? {
        report.note("cost-hook", serde_json::to_string(&cost)?);
    }
    report.note("cost-empty", said["empty"].to_string());
    report.note("cost-refused", refused["failed"].to_string());
    daemon.stop()?;
    daemon::detach_all(NAME)?;
    let failed = said["failed"].as_object().is_some_and(|failed| !failed.is_empty());
    ensure!(!failed, "outside of a session these failed: {}", said["failed"]);
    Ok(())
}

/// What the programs have run so far.
fn programs(daemon: &Daemon) -> Result<Vec<Program>> {
    thread::sleep(UNTIL_ASKED);
    let programs = daemon.status()?["programs"].take();
    serde_json::from_value(programs).context("the status of the programs is not understood")
}

/// Does what every hook is about, by `command`, which ends with the interpreter.
fn every_hook(command: &mut Command, place: &str) -> Result<Value> {
    command.args(["-I", "-S", "-c", PROGRAM, place]).stdin(Stdio::null()).stdout(Stdio::piped());
    let output = command.stderr(Stdio::piped()).output().context("starting what runs every hook")?;
    succeeded(&output, &format!("what runs every hook {place}"))?;
    serde_json::from_slice(&output.stdout).context("reading what it said")
}

/// By position: several programs may be at one hook.
fn costs(begin: &[Program], outside: &[Program], inside: &[Program]) -> Result<Vec<HookCost>> {
    let same = |a: &[Program], b: &[Program]| a.iter().map(|p| &p.hook).eq(b.iter().map(|p| &p.hook));
    ensure!(same(begin, outside) && same(outside, inside), "other programs are attached than before");
    let between = |from: Runs, to: Runs| Runs {
        runs: to.runs.saturating_sub(from.runs),
        run_ns: to.run_ns.saturating_sub(from.run_ns),
    };
    let cost = |((begin, outside), inside): ((&Program, &Program), &Program)| HookCost {
        hook: inside.hook.clone(),
        outside: between(begin.runs, outside.runs),
        inside: between(outside.runs, inside.runs),
    };
    Ok(begin.iter().zip(outside).zip(inside).map(cost).collect())
}

fn start(daemon: &Daemon) -> Result<Start> {
    let own_ns = cpu_ns(daemon.pid())?;
    let busybox = ["/usr/bin/busybox", "true"];
    let mut plain = Command::new(busybox[0]);
    plain.arg(busybox[1]).stdin(Stdio::null());
    Ok(Start {
        ready_ns: daemon.ready_after().as_nanos() as u64,
        ready_own_ns: own_ns,
        launch_plain_ns: launch_ns(&mut plain)?,
        launch_ns: launch_ns(&mut daemon.verb(&[&["run", "--"][..], &busybox].concat()))?,
    })
}

/// The mean time of a launch, after a first one that fills caches.
fn launch_ns(command: &mut Command) -> Result<u64> {
    let mut launch = || -> Result<()> {
        let status = command.status().context("launching")?;
        ensure!(status.success(), "a launch ended with {status}");
        Ok(())
    };
    launch()?;
    let begun = Instant::now();
    for _ in 0..LAUNCHES {
        launch()?;
    }
    Ok((begun.elapsed() / LAUNCHES).as_nanos() as u64)
}

/// CPU time of a process, also of threads that have ended.
fn cpu_ns(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    cpu_of(&text).with_context(|| format!("{path} is not understood"))
}

/// User and system time are the 12th and 13th field behind the name, in hundredths of a second.
fn cpu_of(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let times: Vec<u64> =
        fields.split_whitespace().skip(11).take(2).map(|field| field.parse().ok()).collect::<Option<_>>()?;
    (times.len() == 2).then(|| times.iter().sum::<u64>() * 10_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programs(all: &[(&str, u64, u64)]) -> Vec<Program> {
        let program = |(hook, runs, run_ns): &(&str, u64, u64)| Program {
            hook: (*hook).to_owned(),
            runs: Runs { runs: *runs, run_ns: *run_ns },
        };
        all.iter().map(program).collect()
    }

    #[test]
    fn times_are_behind_the_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 900 0 0 0 150 25 0 0 20 0";
        assert_eq!(cpu_of(stat), Some(1_750_000_000));
        assert_eq!(cpu_of("7 (a) S 1"), None);
    }

    #[test]
    fn programs_at_one_hook_are_told_apart() {
        let begin = programs(&[("lsm/inode_unlink", 1, 10), ("lsm/inode_unlink", 2, 900)]);
        let outside = programs(&[("lsm/inode_unlink", 11, 110), ("lsm/inode_unlink", 12, 1900)]);
        let costs = costs(&begin, &outside, &outside).expect("the same programs");
        assert_eq!(costs[0].outside, Runs { runs: 10, run_ns: 100 });
        assert_eq!(costs[1].outside, Runs { runs: 10, run_ns: 1000 });
        assert_eq!(costs[1].inside, Runs::default());
        assert!(super::costs(&begin[..1], &outside, &outside).is_err());
    }
}
