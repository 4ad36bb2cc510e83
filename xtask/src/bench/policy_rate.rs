//! How long a large policy takes to be read and compiled.

use std::ffi::OsStr;

use anyhow::Result;
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
    let runs = plan.rounds.max(3).to_string();
    plan.ask(&["policy", "bench", "--json", "--runs", &runs].map(OsStr::new))
}
