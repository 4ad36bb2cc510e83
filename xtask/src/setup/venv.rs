//! The Python environment of the tests.

use std::{
    fs,
    process::{Command, Stdio},
};

use anyhow::{Context, Result};

use crate::{checkout::Checkout, step};

/// What it holds: the published OCSF schemas and the validator that reads them, as the judge of our entries; and a reader of
/// YAML, with which the validator judges our policies by our own schemas.
pub(crate) const REQUIREMENTS: &[&str] = &["ocsf-json-schema==1.2.0", "jsonschema==4.26.0", "PyYAML==6.0.3"];
/// Written last, so that a half-made environment is made again.
const MARKER: &str = "treeline-requirements";

/// Whether it is whole, has what we ask for, and its Python still runs.
pub(crate) fn is_there(checkout: &Checkout) -> bool {
    let venv = checkout.venv();
    fs::read_to_string(venv.join(MARKER)).is_ok_and(|there| there == wanted())
        && Command::new(venv.join("bin/python"))
            .args(["-c", ""])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
}

/// Makes it anew.
pub(crate) fn install(checkout: &Checkout) -> Result<()> {
    println!("==> Python environment with {}", REQUIREMENTS.join(" "));
    let venv = checkout.venv();
    step::run(checkout, "venv", Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
    step::run(
        checkout,
        "venv-pip",
        Command::new(venv.join("bin/python"))
            .args(["-m", "pip", "install", "--disable-pip-version-check", "--no-input"])
            .args(REQUIREMENTS),
    )?;
    let marker = venv.join(MARKER);
    fs::write(&marker, wanted()).with_context(|| format!("cannot write `{}`", marker.display()))
}

fn wanted() -> String {
    REQUIREMENTS.iter().map(|line| format!("{line}\n")).collect()
}
