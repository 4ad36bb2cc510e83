//! The kernel decides random cases as `treeline_policy::eval` does.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::{Group, session};

const CASE: &str = "100000-random-cases-as-the-policy-says";

pub(super) const GROUP: Group = Group {
    name: "parity",
    cases: || vec![CASE.to_owned()],
    run: |report| {
        report.case(CASE, compare());
        Ok(())
    },
    needs_sensor: true,
    timeout_s: 900,
};

/// The seed is fixed: what fails in one run fails in the next.
fn compare() -> Result<()> {
    let output = Command::new(session::TREELINE)
        .args(["parity", "--cases", "100000", "--seed", "20261123"])
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {}", session::TREELINE))?;
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "it ended with {}: {}", output.status, errors.trim());
    ensure!(text.starts_with("100000 cases of 100 policies"), "it printed {}", text.trim());
    Ok(())
}
