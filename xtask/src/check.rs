//! `cargo xtask check`: everything that reads the code without running it.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::{
    build::cargo,
    checkout::Checkout,
    deny,
    outcome::Outcome,
    step,
    test::{Suite, Tally},
    tidy,
};

/// rustfmt colours what it writes to files, too, unless it is told not to.
const FMT_FLAGS: &[&str] = &["--check", "--", "--color", "never"];

/// The verb: all of it, and a table.
pub(crate) fn run(checkout: &Checkout) -> Result<Outcome> {
    let mut suite = Suite::default();
    steps(checkout, &mut suite);
    Ok(suite.close())
}

/// Its steps; each is run whatever became of the one before.
pub(crate) fn steps(checkout: &Checkout, suite: &mut Suite) {
    suite.step("format", || {
        command(
            checkout,
            "format",
            cargo().current_dir(checkout.root()).args(["fmt", "--all"]).args(FMT_FLAGS),
        )
    });
    if checkout.ebpf().join("Cargo.toml").is_file() {
        suite.step("format-kernel-programs", || {
            let mut format = cargo();
            format.current_dir(checkout.ebpf()).arg("fmt").args(FMT_FLAGS);
            command(checkout, "format-kernel-programs", &mut format)
        });
    }
    suite.step("format-fuzz", || {
        let mut format = cargo();
        format.current_dir(checkout.fuzz()).args(["fmt", "--package", "treeline-fuzz"]).args(FMT_FLAGS);
        command(checkout, "format-fuzz", &mut format)
    });
    suite.step("clippy", || {
        let mut clippy = cargo();
        clippy.current_dir(checkout.root());
        clippy.args(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]);
        command(checkout, "clippy", &mut clippy)
    });
    suite.step("tidy", || {
        ensure!(tidy::run(checkout)? == Outcome::Clean, "tidy has findings");
        Ok(Tally::passed())
    });
    deny::steps(checkout, suite);
}

fn command(checkout: &Checkout, name: &str, command: &mut Command) -> Result<Tally> {
    step::run(checkout, name, command)?;
    Ok(Tally::passed())
}
