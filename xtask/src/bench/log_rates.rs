//! Rates of the log, and of the whole way from the kernel to the log.

use std::{ffi::OsStr, fs, path::PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{
    plan::Plan,
    scene::Scene,
    sensor::{Recorded, Sensor},
    spread::Spread,
    workload,
};

/// Runs of the log by itself.
const RUNS: u32 = 3;
/// Entries of each at scale 1.
const ENTRIES: u64 = 300_000;
/// Rates that a session is asked to open files at.
const RATES_PER_S: [u64; 3] = [10_000, 25_000, 50_000];
/// How long.
const PACED_S: u64 = 3;

/// As `treeline log bench --json` says.
#[derive(Debug, Deserialize)]
struct Rates {
    append_per_s: f64,
    verify_per_s: f64,
    entry_bytes: usize,
}

/// The log by itself, one thread.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct LogRates {
    pub(super) append_per_s: Spread,
    pub(super) verify_per_s: Spread,
    pub(super) entry_bytes: usize,
}

/// A session that opens files at a rate: what was asked, done, recorded and lost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Paced {
    pub(super) asked_per_s: u64,
    pub(super) done_per_s: f64,
    pub(super) opens: u64,
    /// Each open is of another file than those of the second before, so none is folded; else of one file.
    pub(super) is_distinct: bool,
    /// How long the sensor still worked when the session had ended.
    pub(super) backlog_s: f64,
    pub(super) recorded: Recorded,
}

/// Measures the log by itself.
pub(super) fn measure_log(plan: &Plan, scene: &Scene) -> Result<LogRates> {
    let entries = ((ENTRIES as f64 * plan.scale) as u64).max(1000);
    let (mut append, mut verify, mut entry_bytes) = (Vec::new(), Vec::new(), 0);
    for _ in 0..RUNS {
        let dir = scene.fresh("log-")?;
        let entries = entries.to_string();
        let words = ["log", "bench", "--json", "--entries", &entries, "--dir"].map(OsStr::new);
        let rates: Rates = plan.ask(&[&words[..], &[dir.as_os_str()]].concat())?;
        append.push(rates.append_per_s);
        verify.push(rates.verify_per_s);
        entry_bytes = rates.entry_bytes;
        fs::remove_dir_all(&dir)?;
    }
    let both = Spread::of(append).zip(Spread::of(verify)).context("nothing was measured")?;
    Ok(LogRates { append_per_s: both.0, verify_per_s: both.1, entry_bytes })
}

/// Measures the whole way, at each rate, with opens that fold and opens that do not.
pub(super) fn measure_paced(plan: &Plan, scene: &Scene) -> Result<Vec<Paced>> {
    let mut all = Vec::new();
    for (per_s, is_distinct) in RATES_PER_S.iter().flat_map(|rate| [(*rate, false), (*rate, true)]) {
        eprintln!("{per_s} opens a second");
        let sensor = Sensor::start(&plan.treeline, scene)?;
        let opens = per_s * PACED_S;
        let dir = if is_distinct { &scene.many_files } else { &scene.one_file };
        let words = [PathBuf::from("paced"), opens.to_string().into(), per_s.to_string().into(), dir.clone()];
        let timing = workload::run(scene, &words, Some(&sensor))?;
        let backlog_s = sensor.settle()?.as_secs_f64();
        let recorded = sensor.stop()?;
        let done_per_s = 1e9 / timing.wall_ns;
        all.push(Paced { asked_per_s: per_s, done_per_s, opens, is_distinct, backlog_s, recorded });
    }
    Ok(all)
}
