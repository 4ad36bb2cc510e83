//! `cargo xtask build`: the binary, with its kernel programs inside.

use std::process::Command;

use anyhow::Result;

use crate::{build_ebpf, checkout::Checkout, outcome::Outcome, step};

/// Builds everything that a user runs and prints where it is.
pub(crate) fn run(checkout: &Checkout) -> Result<Outcome> {
    build_ebpf::run(checkout)?;
    println!("==> treeline");
    step::run(
        checkout,
        "build-treeline",
        cargo().current_dir(checkout.root()).args(["build", "--release", "--locked", "-p", "treeline"]),
    )?;
    println!("{}", checkout.treeline().display());
    Ok(Outcome::Clean)
}

/// The cargo that runs us.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
