//! `treeline policy bench`: how long a large policy takes on this machine, as busy as it is.

use std::{io::Write, process::ExitCode, time::Instant};

use anyhow::{Context as _, bail};
use serde::Serialize;
use treeline_policy::{Home, Host, MountTable, Target, compile, lint, parse};

use crate::backend::linux::sample_rule;

/// Rules of the policy that is measured: nearly as many as one can have.
const RULES: usize = 1_000;
/// Homes that it is compiled for.
const HOMES: u32 = 11;

/// Arguments of `treeline policy bench`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How often; medians are over these
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What was measured, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
struct Measured {
    rules: usize,
    homes: u32,
    runs: u32,
    parse_ms: f64,
    compile_ms: f64,
    /// Both together: the median, and the shortest and the longest run.
    total_ms: f64,
    total_ms_min: f64,
    total_ms_max: f64,
    /// What `policy check` looks for besides, the median: no part of the total, nor of the daemon's work.
    lint_ms: f64,
}

/// Measures and prints.
pub(super) fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let measured = measure(args.runs)?;
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&measured)?)?;
    } else {
        let Measured {
            rules,
            homes,
            runs,
            parse_ms,
            compile_ms,
            total_ms,
            total_ms_min,
            total_ms_max,
            lint_ms,
        } = measured;
        writeln!(
            out,
            "{rules} rules for {homes} homes, median of {runs}: {total_ms:.1} ms [{total_ms_min:.1} .. {total_ms_max:.1}], of which parse {parse_ms:.1} ms and compile {compile_ms:.1} ms; the lints of `policy check` take {lint_ms:.1} ms more; on this machine as busy as it is"
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(runs: u32) -> anyhow::Result<Measured> {
    let text = text();
    let home = |number: u32| Home { uid: number, path: format!("/home/user-{number}").into_bytes() };
    let host = Host { homes: (0..HOMES).map(home).collect() };
    let target = Target { seed: 1, generation: 1, slot: 0 };
    let (mut parses, mut compiles, mut totals, mut lints) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs {
        let begun = Instant::now();
        let policy = match parse("bench", &text) {
            Ok(policy) => policy,
            Err(found) => bail!("the policy of the benchmark is not valid: {found}"),
        };
        let parsed = begun.elapsed();
        if let Err(found) = compile(&policy, &host, &MountTable::single(1), target) {
            bail!("the policy of the benchmark does not fit: {found}");
        }
        let total = begun.elapsed();
        let ms = |duration: std::time::Duration| duration.as_secs_f64() * 1e3;
        parses.push(ms(parsed));
        compiles.push(ms(total.saturating_sub(parsed)));
        totals.push(ms(total));
        let found = lint(&policy, None).finish().found;
        lints.push(ms(begun.elapsed().saturating_sub(total)));
        if !found.is_empty() {
            bail!("the policy of the benchmark has lints: {found}");
        }
    }
    let sorted = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values
    };
    let (parses, compiles, totals, lints) = (sorted(parses), sorted(compiles), sorted(totals), sorted(lints));
    let at = |values: &[f64], index: usize| values.get(index).copied().context("nothing was measured");
    let median = |values: &[f64]| at(values, values.len() / 2);
    Ok(Measured {
        rules: RULES,
        homes: HOMES,
        runs,
        parse_ms: median(&parses)?,
        compile_ms: median(&compiles)?,
        total_ms: median(&totals)?,
        total_ms_min: at(&totals, 0)?,
        total_ms_max: at(&totals, totals.len() - 1)?,
        lint_ms: median(&lints)?,
    })
}

/// Rules about files, and an address in every fourth.
fn text() -> String {
    let rule = |number: usize| {
        let connect = format!(
            "  - {{id: r-{number}, kind: connect, reason: Not for agents., to: [10.{}.{}.0/24]}}\n",
            number / 256,
            number % 256
        );
        if number % 4 == 3 { connect } else { sample_rule(number) }
    };
    let rules: String = (0..RULES).map(rule).collect();
    format!("version: 1\nname: bench\nrules:\n{rules}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_is_a_policy_of_so_many_rules() {
        let measured = measure(1).expect("a valid policy that fits");
        assert!(measured.total_ms >= measured.parse_ms && measured.total_ms_min <= measured.total_ms_max);
        assert_eq!(parse("bench", &text()).expect("a valid policy").rules.len(), RULES);
    }
}
