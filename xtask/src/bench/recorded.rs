//! What it takes to answer from a long log: to replay a policy over it, and to learn one from it.

use std::{
    ffi::OsStr,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde::{Serialize, de::IgnoredAny};

use super::{load, plan::Plan, scene::Scene};

/// Entries that a policy is replayed over, at scale 1.
const REPLAYED: u64 = 300_000;
/// Entries that are learned from, at scale 1: nearly as many different things, by forty programs.
const LEARNED: u64 = 100_000;
/// The home that the entries are about.
const HOME: &str = "/home/dev";

/// Seconds of one core's time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Answers {
    pub(super) replayed: u64,
    pub(super) replay_cpu_s: f64,
    pub(super) learned: u64,
    pub(super) learn_cpu_s: f64,
}

/// Measures both.
pub(super) fn measure(plan: &Plan, scene: &Scene) -> Result<Answers> {
    let scaled = |entries: u64| ((entries as f64 * plan.scale) as u64).max(1000);
    let (replayed, learned) = (scaled(REPLAYED), scaled(LEARNED));
    let replay = [OsStr::new("policy"), OsStr::new("replay"), plan.policy.as_os_str()];
    Ok(Answers {
        replayed,
        replay_cpu_s: cpu_s(plan, scene, replayed, &replay)?,
        learned,
        learn_cpu_s: cpu_s(plan, scene, learned, &[OsStr::new("learn")])?,
    })
}

/// What a verb takes for a log of so many entries.
fn cpu_s(plan: &Plan, scene: &Scene, entries: u64, verb: &[&OsStr]) -> Result<f64> {
    let dir = scene.fresh("recorded-")?;
    let entries = entries.to_string();
    let words = ["log", "bench", "--recorded", "--json", "--entries", &entries, "--dir"].map(OsStr::new);
    plan.ask::<IgnoredAny>(&[&words[..], &[dir.as_os_str()]].concat())?;
    let from = [OsStr::new("--home"), OsStr::new(HOME), OsStr::new("--log"), dir.as_os_str()];
    let taken = run(&plan.treeline, &[verb, &from].concat())?;
    fs::remove_dir_all(&dir)?;
    Ok(taken)
}

/// Runs to the end; seconds of its own time, in hundredths.
fn run(treeline: &Path, arguments: &[&OsStr]) -> Result<f64> {
    let before = load::children_ns()?;
    let mut command = Command::new(treeline);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = command.status().context("cannot run treeline")?;
    // 1 is a finding.
    ensure!(matches!(status.code(), Some(0 | 1)), "`treeline {arguments:?}` failed ({status})");
    Ok((load::children_ns()? - before) as f64 / 1e9)
}
