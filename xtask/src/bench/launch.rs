//! How much later a command begins when `treeline run` starts it.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::{load, plan::Plan, scene::Scene, sensor::Sensor, spread::Spread, workload};

/// Launches of each kind.
const LAUNCHES: u32 = 15;

/// From the start of the process until the command's `main`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Launch {
    /// The command by itself.
    pub(super) plain_ms: Spread,
    /// Through `treeline run`.
    pub(super) through_treeline_ms: Spread,
}

/// Alternates both.
pub(super) fn measure(plan: &Plan, scene: &Scene) -> Result<Launch> {
    let sensor = Sensor::start(&plan.treeline, scene)?;
    let (mut plain, mut through) = (Vec::new(), Vec::new());
    for _ in 0..LAUNCHES {
        plain.push(once(None)?);
        through.push(once(Some(&sensor))?);
    }
    sensor.stop()?;
    let all = Spread::of(plain).zip(Spread::of(through)).context("no launch was timed")?;
    Ok(Launch { plain_ms: all.0, through_treeline_ms: all.1 })
}

fn once(inside: Option<&Sensor>) -> Result<f64> {
    let mut command = workload::command(inside)?;
    command.arg("now").stdin(Stdio::null()).stderr(Stdio::inherit());
    let begun_ns = load::now_ns()?;
    let output = command.output().context("cannot launch a command")?;
    ensure!(output.status.success(), "a launch failed ({})", output.status);
    let at_ns: u64 = String::from_utf8_lossy(&output.stdout).trim().parse().context("no time was printed")?;
    Ok(at_ns.saturating_sub(begun_ns) as f64 / 1e6)
}
