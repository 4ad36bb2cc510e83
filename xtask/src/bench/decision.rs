//! How long the kernel takes to decide about a path, alone.

use std::ffi::OsStr;

use anyhow::Result;
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
    plan.ask(&["parity", "--json", "--time", ROUNDS].map(OsStr::new))
}
