//! How long a large policy takes to be read and compiled.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::plan::Plan;

/// As `treeline policy bench --json` says.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub(super) struct PolicyRate {
    pub(super) rules: usize,
    pub(super) homes: u32,
    pub(super) parse_ms: f64,
    pub(super) compile_ms: f64,
    pub(super) total_ms: f64,
    pub(super) total_ms_min: f64,
    pub(super) total_ms_max: f64,
}

/// Measures it.
pub(super) fn measure(plan: &Plan) -> Result<PolicyRate> {
    let output = Command::new(&plan.treeline)
        .args(["policy", "bench", "--json", "--runs", &plan.rounds.max(3).to_string()])
        .output()
        .context("cannot run `treeline policy bench`")?;
    let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    ensure!(output.status.success(), "`treeline policy bench` failed ({}): {complaint}", output.status);
    serde_json::from_slice(&output.stdout).context("its answer is not understood")
}
