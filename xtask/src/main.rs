//! Everything the project does to itself. `cargo xtask help` lists the verbs; each is one file.
#![forbid(unsafe_code)]
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a test may stop at the first surprise"))]

mod bench;
mod build;
mod build_ebpf;
mod check;
mod checkout;
mod demo;
mod deny;
mod fuzz;
mod outcome;
mod setup;
mod step;
mod test;
mod tidy;
mod toolchain;
mod vm;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{checkout::Checkout, outcome::Outcome};

/// Tasks of the Treeline checkout.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = false)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

/// One variant per verb; its arguments are declared in the verb's own file.
#[derive(Subcommand)]
enum Verb {
    /// Install what is missing: Debian packages, tools and a Python environment.
    Setup(setup::Arguments),
    /// Build the kernel programs into `target/bpf/treeline.bpf.o`.
    BuildEbpf,
    /// Build the kernel programs and then the `treeline` binary that embeds them.
    Build(build::Arguments),
    /// Check everything that can be checked without running it: format, clippy, tidy, deny.
    Check,
    /// Check licences, sources and advisories of dependencies.
    Deny,
    /// Run everything: setup, checks, build, and all tests, with a table at the end.
    Test(test::Arguments),
    /// Run each reader of foreign bytes on inputs that reach ever more of it.
    Fuzz(fuzz::Arguments),
    /// Check rules of style and structure that no other tool checks.
    Tidy,
    /// Run the real Claude Code under Treeline, offline, and check that what policy denies is refused and recorded.
    Demo(demo::Args),
    /// Measure what Treeline costs: without it, outside a session, inside one, in one run; the log; memory.
    Bench(bench::Args),
    /// One loop of the benchmark, in a process of its own.
    #[command(name = "__load", hide = true, subcommand)]
    Load(bench::Load),
    /// Boot Debian kernels in QEMU and run the behavioural suite in each.
    Vm(vm::Args),
    /// Load a session in a guest for half an hour and look at what grows and what is lost.
    Soak(vm::soak::Args),
}

fn main() -> ExitCode {
    match run(Arguments::parse().verb) {
        Ok(outcome) => outcome.into(),
        Err(error) => {
            eprintln!("error: {error:#}");
            Outcome::broken()
        }
    }
}

fn run(verb: Verb) -> Result<Outcome> {
    let checkout = Checkout::locate()?;
    match verb {
        Verb::Setup(arguments) => setup::run(&checkout, &arguments),
        Verb::BuildEbpf => build_ebpf::run(&checkout),
        Verb::Build(arguments) => build::verb(&checkout, &arguments),
        Verb::Check => check::run(&checkout),
        Verb::Deny => deny::run(&checkout),
        Verb::Test(arguments) => test::run(&checkout, &arguments),
        Verb::Fuzz(arguments) => fuzz::run(&checkout, &arguments),
        Verb::Tidy => tidy::run(&checkout),
        Verb::Demo(arguments) => {
            // The demo starts itself again inside its namespaces: only the outer run prepares anything.
            if arguments.stage.is_none() && arguments.treeline.is_none() {
                setup::packages(&checkout)?;
                build::run(&checkout)?;
            }
            let held = demo::run(checkout.root(), &checkout.treeline(), &arguments)?;
            Ok(Outcome::from_count(usize::from(!held)))
        }
        Verb::Vm(arguments) => vm::run(&checkout, &arguments),
        Verb::Soak(arguments) => vm::soak::run(&checkout, &arguments),
        Verb::Bench(arguments) => bench::run(&checkout, &arguments),
        Verb::Load(load) => bench::run_load(&load).map(|()| Outcome::Clean),
    }
}
