//! `cargo xtask build`: the binary, with its kernel programs inside.

use std::process::Command;

use anyhow::Result;

use crate::{build_ebpf, checkout::Checkout, outcome::Outcome, step};

/// Arguments of `build`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// For developing kernel programs: let them log, and `treeline -vv` show it; made beside the usual binary
    #[arg(long)]
    debug_log: bool,
}

/// Builds what was asked for and prints where it is.
pub(crate) fn verb(checkout: &Checkout, arguments: &Arguments) -> Result<Outcome> {
    if arguments.debug_log { with_messages(checkout) } else { run(checkout) }
}

/// A binary whose kernel programs log.
fn with_messages(checkout: &Checkout) -> Result<Outcome> {
    build_ebpf::make(checkout, build_ebpf::Flavour::Debug)?;
    println!("==> treeline, with messages of the kernel programs");
    let target = checkout.root().join("target/debug-log");
    step::run(
        checkout,
        "build-treeline-debug-log",
        cargo()
            .current_dir(checkout.root())
            .args([
                "build",
                "--release",
                "--locked",
                "-p",
                "treeline",
                "--features",
                "kernel-log",
                "--target-dir",
            ])
            .arg(&target)
            .env("TREELINE_BPF_OBJECT", checkout.bpf_debug_object()),
    )?;
    println!("{}", target.join("release/treeline").display());
    Ok(Outcome::Clean)
}

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
