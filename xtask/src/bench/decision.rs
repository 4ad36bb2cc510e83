//! How long the kernel takes to decide about a path, alone.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::plan::Plan;

/// One kind of path, as `treeline parity --time N --json` says.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(super) struct Decision {
    pub(super) paths: String,
    pub(super) rules: usize,
    pub(super) is_denied: bool,
    pub(super) runs: u64,
    pub(super) ns: f64,
}

/// Decisions about each path: so many that an interrupt does not show.
const ROUNDS: &str = "300";

/// Measures it.
pub(super) fn measure(plan: &Plan) -> Result<Vec<Decision>> {
    let output = Command::new(&plan.treeline)
        .args(["parity", "--json", "--time", ROUNDS])
        .output()
        .context("cannot run `treeline parity`")?;
    let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    ensure!(output.status.success(), "`treeline parity --time` failed ({}): {complaint}", output.status);
    serde_json::from_slice(&output.stdout).context("its answer is not understood")
}
