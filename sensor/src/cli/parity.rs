//! `treeline parity`: whether this kernel decides as policies say. For the kernel matrix; hidden from help.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::backend::linux;

/// Arguments of `treeline parity`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Cases
    #[arg(long, default_value_t = 100_000)]
    cases: u64,
    /// Where chance begins
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Compares, and prints how much was compared.
///
/// # Errors
/// The first case that differs; the kernel does not run the program.
pub fn run(args: &Args) -> Result<ExitCode> {
    let policies = linux::parity(args.seed, args.cases).context("comparing the kernel with the policy")?;
    println!("{} cases of {policies} policies: the kernel decides as they say", args.cases);
    Ok(ExitCode::SUCCESS)
}
