//! `cargo xtask bench`: what Treeline costs, as ratios within one run.
//!
//! Each workload is timed (a) without a sensor, (b) outside every session while a sensor runs, (c) inside a session, in
//! rounds, so that whatever else the machine does meets all three. Nothing here fails because of a time.

mod decision;
mod hooks;
mod launch;
mod live;
mod load;
mod log_rates;
mod plan;
mod policy_rate;
mod recorded;
mod report;
mod rounds;
mod scene;
mod sensor;
mod spread;
mod workload;

pub(crate) use load::{Load, run as run_load};

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::{build, checkout::Checkout, outcome::Outcome, vm};
use plan::Plan;

/// Arguments of `bench`.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Rounds; medians are over these
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Operations of each workload, relative to the usual number
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    scale: f64,
    /// Live processes to track while memory is measured; 0 leaves it out
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(0..=20_000))]
    live: u32,
    /// Another treeline binary than the one that `cargo xtask build` makes
    #[arg(long, value_name = "FILE")]
    treeline: Option<PathBuf>,
    /// Count instructions in mode `lsm` in guests of these kernel series instead (comma-separated), e.g. 6.12
    #[arg(long, value_name = "SERIES", value_delimiter = ',', num_args = 0.., default_missing_value = "6.12")]
    guest: Option<Vec<String>>,
    /// Another policy than `policies/baseline.yaml`; `rules` has to be its last key
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
}

/// Measures everything and prints it.
pub(crate) fn run(checkout: &Checkout, args: &Args) -> Result<Outcome> {
    ensure!(rustix::process::geteuid().is_root(), "the sensor needs root: run `cargo xtask bench` as root");
    ensure!((0.001..=100.0).contains(&args.scale), "`--scale` is from 0.001 to 100");
    let treeline = if let Some(path) = &args.treeline {
        path.canonicalize()?
    } else {
        // What is built is not an answer: with `--json` it must not be in the output.
        ensure!(
            !args.json || checkout.treeline().is_file(),
            "`{}` is missing: run `cargo xtask build`",
            checkout.treeline().display()
        );
        if !args.json {
            build::run(checkout)?;
        }
        checkout.treeline()
    };
    if let Some(series) = &args.guest {
        return in_guests(checkout, &treeline, series, args.json);
    }
    let policy = args.policy.clone().unwrap_or_else(|| checkout.root().join("policies/baseline.yaml"));
    let plan = Plan { treeline, policy, rounds: args.rounds, scale: args.scale, live: args.live };
    let report = plan::measure(&plan)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    Ok(Outcome::Clean)
}

/// As `bench`, in guests whose clock counts instructions.
fn in_guests(checkout: &Checkout, treeline: &Path, series: &[String], as_json: bool) -> Result<Outcome> {
    let measured: Vec<_> =
        series.iter().map(|series| vm::cost::measure(checkout, treeline, series)).collect::<Result<_>>()?;
    if as_json {
        println!("{}", serde_json::to_string_pretty(&measured)?);
    } else {
        measured.iter().for_each(|costs| print!("{costs}"));
    }
    Ok(Outcome::Clean)
}
