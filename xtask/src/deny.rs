//! `cargo xtask deny`: licences, bans and sources of dependencies as `deny.toml` says; known advisories where their database can be had.

use std::{path::Path, process::Command, time::Duration};

use anyhow::{Context, Result};

use crate::{
    checkout::Checkout,
    outcome::Outcome,
    setup,
    step::{self, End},
    test::{Suite, Tally},
};

/// Fetching the advisories is a shallow clone of some megabytes.
const FETCH_DEADLINE: Duration = Duration::from_secs(120);

/// The verb: all of it, and a table.
pub(crate) fn run(checkout: &Checkout) -> Result<Outcome> {
    let mut suite = Suite::default();
    steps(checkout, &mut suite);
    Ok(suite.close())
}

/// Its steps, for `check` and `test`.
pub(crate) fn steps(checkout: &Checkout, suite: &mut Suite) {
    suite.step("deny", || {
        setup::cargo_deny(checkout)?;
        rules(checkout, "deny", &checkout.root().join("Cargo.toml"), &[])
    });
    let kernel_programs = checkout.ebpf().join("Cargo.toml");
    if kernel_programs.is_file() {
        // Its tree is small: of the licences that the workspace needs, it meets only some.
        let smaller = ["-A", "license-not-encountered", "-A", "license-exception-not-encountered"];
        suite.step("deny-kernel-programs", || {
            rules(checkout, "deny-kernel-programs", &kernel_programs, &smaller)
        });
    }
    // Nothing of it is shipped, and of what the sensor needs it has all.
    suite.step("deny-fuzz", || rules(checkout, "deny-fuzz", &checkout.fuzz().join("Cargo.toml"), &[]));
    suite.step("advisories", || advisories(checkout));
}

fn rules(checkout: &Checkout, name: &str, manifest: &Path, flags: &[&str]) -> Result<Tally> {
    let mut command = cargo_deny(checkout, manifest)?;
    command.arg("check").args(flags).args(["licenses", "bans", "sources"]);
    step::run(checkout, name, &mut command)?;
    Ok(Tally::passed())
}

/// The database is a repository of its own, which a machine without that network cannot have: then this is skipped, by name.
fn advisories(checkout: &Checkout) -> Result<Tally> {
    let mut command = cargo_deny(checkout, &checkout.root().join("Cargo.toml"))?;
    command.args(["check", "advisories"]);
    let finished = step::attempt(checkout, "advisories", &mut command, FETCH_DEADLINE)?;
    if finished.end == End::Hung {
        return Ok(Tally::skipped("advisories", "fetching the advisory database took too long"));
    }
    let output = finished.output()?;
    if !finished.is_success() && is_unreachable(&output) {
        return Ok(Tally::skipped("advisories", "the advisory database cannot be fetched from here"));
    }
    finished.required(checkout)?;
    Ok(Tally::passed())
}

fn is_unreachable(output: &str) -> bool {
    output.contains("failed to fetch advisory database")
        || output.contains("failed to open advisory database")
}

fn cargo_deny(checkout: &Checkout, manifest: &Path) -> Result<Command> {
    let program =
        setup::tools::CARGO_DENY.find(checkout).context("no cargo-deny: `cargo xtask setup` installs it")?;
    let mut command = Command::new(program);
    command
        .current_dir(checkout.root())
        .args(["--locked", "--manifest-path"])
        .arg(manifest)
        .arg("--config")
        .arg(checkout.root().join("deny.toml"));
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_failed_fetch_is_a_skip() {
        assert!(is_unreachable(
            "[ERROR] failed to fetch advisory database some-host with cli: failed to clone"
        ));
        assert!(!is_unreachable("error[vulnerability]: use after free\nadvisories FAILED"));
    }
}
