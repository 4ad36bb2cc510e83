//! What a run of each hook takes, as the kernel times it (`bpf_prog_info.run_time_ns`, Linux 5.1).
//!
//! The kernel's own two looks at the clock are in it: some 20 to 50 ns a run.

use std::{fs, thread, time::Duration};

use anyhow::{Context, Result};
use serde::Serialize;

use super::{
    plan::Plan,
    scene::Scene,
    sensor::{Runs, Sensor},
    workload,
};

const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";
/// The sensor asks the kernel each second.
const UNTIL_ASKED: Duration = Duration::from_millis(2500);

/// What the runs of one program took.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct HookCost {
    pub(super) hook: String,
    /// While the workloads ran outside of every session.
    pub(super) outside: Mean,
    /// While they ran inside, and everything else outside.
    pub(super) inside: Mean,
}

/// Runs and their mean.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Mean {
    pub(super) runs: u64,
    /// Nanoseconds a run; `None` without runs.
    pub(super) ns: Option<f64>,
}

/// Times every hook: all workloads outside of a session, then inside.
pub(super) fn measure(plan: &Plan, scene: &Scene) -> Result<Vec<HookCost>> {
    let sensor = Sensor::start(&plan.treeline, scene)?;
    let timing = Timing::begin()?;
    let workloads = workload::all(scene);
    let at = |inside: Option<&Sensor>| -> Result<Vec<Runs>> {
        for workload in &workloads {
            workload.time(scene, plan.scale, inside)?;
        }
        thread::sleep(UNTIL_ASKED);
        sensor.runs()
    };
    let begin = {
        thread::sleep(UNTIL_ASKED);
        sensor.runs()?
    };
    let outside = at(None)?;
    let inside = at(Some(&sensor))?;
    drop(timing);
    sensor.stop()?;
    Ok(costs(&begin, &outside, &inside))
}

fn costs(begin: &[Runs], outside: &[Runs], inside: &[Runs]) -> Vec<HookCost> {
    let of = |all: &[Runs], hook: &str| {
        all.iter().find(|runs| runs.hook == hook).map_or((0, 0), |runs| (runs.runs, runs.run_ns))
    };
    let mean = |from: (u64, u64), to: (u64, u64)| {
        let (runs, ns) = (to.0.saturating_sub(from.0), to.1.saturating_sub(from.1));
        Mean { runs, ns: (runs > 0).then(|| ns as f64 / runs as f64) }
    };
    inside
        .iter()
        .map(|runs| {
            let hook = runs.hook.as_str();
            let (begin, outside) = (of(begin, hook), of(outside, hook));
            HookCost {
                hook: hook.to_owned(),
                outside: mean(begin, outside),
                inside: mean(outside, (runs.runs, runs.run_ns)),
            }
        })
        .collect()
}

/// The kernel times programs as long as this lives.
struct Timing {
    before: String,
}

impl Timing {
    fn begin() -> Result<Self> {
        let before = fs::read_to_string(SWITCH).with_context(|| format!("cannot read `{SWITCH}`"))?;
        fs::write(SWITCH, "1").with_context(|| format!("cannot write `{SWITCH}`"))?;
        Ok(Self { before })
    }
}

impl Drop for Timing {
    fn drop(&mut self) {
        if let Err(error) = fs::write(SWITCH, self.before.trim()) {
            eprintln!("`{SWITCH}` is not as it was before: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_of_the_runs_in_between() {
        let at = |runs, run_ns| vec![Runs { hook: "lsm/file_open".to_owned(), runs, run_ns }];
        let costs = costs(&at(10, 1000), &at(110, 6000), &at(112, 8000));
        assert_eq!(costs[0].outside, Mean { runs: 100, ns: Some(50.0) });
        assert_eq!(costs[0].inside, Mean { runs: 2, ns: Some(1000.0) });
        assert_eq!(self::costs(&[], &[], &at(0, 0))[0].inside, Mean { runs: 0, ns: None });
    }
}
