//! `treeline parity`: whether this kernel decides as policies say, and how long a decision takes it. For the kernel matrix
//! and the benchmark; hidden from help.

use std::{io::Write, process::ExitCode};

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
    /// Measure how long the kernel takes to decide, this often about each path, and compare nothing
    #[arg(long, value_name = "ROUNDS", conflicts_with_all = ["cases", "seed"], value_parser = clap::value_parser!(u32).range(1..=100_000))]
    time: Option<u32>,
    /// Print JSON
    #[arg(long, requires = "time")]
    json: bool,
}

/// Compares, and prints how much was compared.
///
/// # Errors
/// The first case that differs; the kernel does not run the program.
pub fn run(args: &Args) -> Result<ExitCode> {
    if let Some(rounds) = args.time {
        return time(rounds, args.json, &mut std::io::stdout().lock());
    }
    let policies = linux::parity(args.seed, args.cases).context("comparing the kernel with the policy")?;
    println!("{} cases of {policies} policies: the kernel decides as they say", args.cases);
    Ok(ExitCode::SUCCESS)
}

fn time(rounds: u32, as_json: bool, out: &mut dyn Write) -> Result<ExitCode> {
    let rates = linux::decision_rate(rounds).context("timing the kernel's decisions")?;
    if as_json {
        writeln!(out, "{}", serde_json::to_string(&rates)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    for linux::DecisionRate { paths, example, rules, is_denied, runs, ns } in &rates {
        let verdict = if *is_denied { "denied" } else { "allowed" };
        writeln!(out, "{ns:>6.0} ns  {rules:>3} rules, {paths} ({verdict}; {runs} runs): {example}")?;
    }
    Ok(ExitCode::SUCCESS)
}
