//! Which steps there are, in which order, and how each is run.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use super::{suite::Suite, tally::Tally};
use crate::{
    build::{self, cargo},
    check,
    checkout::Checkout,
    fuzz,
    outcome::Outcome,
    setup,
    step::{self, End},
};

/// The package of the end-to-end tests.
const END_TO_END: &str = "treeline-tests";
/// Longer than any run so far by a factor of five: a step that takes this long hangs.
const TESTS_DEADLINE: Duration = Duration::from_secs(25 * 60);
/// Guests boot under emulation: less than an hour for all of them on two processors with nothing else to do.
const GUESTS_DEADLINE: Duration = Duration::from_secs(70 * 60);

/// Inputs of each fuzz target: a few seconds, the same ones every time. Whoever has more time runs `cargo xtask fuzz`.
const FUZZ_RUNS: &str = "200000";

/// Arguments of `test`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Run these steps and no others (comma-separated)
    #[arg(long, value_enum, value_delimiter = ',', value_name = "STEP")]
    only: Vec<Step>,
    /// Leave out what takes minutes: the fuzz targets, the demo and the guests
    #[arg(long)]
    quick: bool,
}

/// The steps, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Step {
    /// Install what is missing
    Setup,
    /// Format, clippy, tidy, dependencies
    Check,
    /// Kernel programs and the binary
    Build,
    /// Unit and property tests
    Unit,
    /// Coverage-guided runs of whatever reads foreign bytes
    Fuzz,
    /// The main job, with the real Claude Code
    Demo,
    /// End-to-end tests of the binary
    E2e,
    /// The behavioural suite in QEMU guests
    Vm,
}

/// Runs the chosen steps. One that fails stops none of the others, except those that need what it should have built.
pub(crate) fn run(checkout: &Checkout, arguments: &Arguments) -> Result<Outcome> {
    // Asked now: cargo may replace our own file while it tests the workspace.
    let xtask = std::env::current_exe().context("cannot tell the path of this program")?;
    let mut suite = Suite::default();
    let mut is_built = true;
    for &each in Step::value_variants() {
        if let Some(why) = arguments.reason_to_leave_out(each) {
            suite.leave_out(each.name(), why);
        } else if each.needs_build() && !is_built {
            suite.leave_out(each.name(), "the build failed");
        } else if !each.run(checkout, &xtask, &mut suite) && each == Step::Build {
            is_built = false;
        }
    }
    Ok(suite.close())
}

impl Arguments {
    fn reason_to_leave_out(&self, step: Step) -> Option<&'static str> {
        if !self.only.is_empty() {
            return (!self.only.contains(&step)).then_some("not asked for (--only)");
        }
        (self.quick && matches!(step, Step::Fuzz | Step::Demo | Step::Vm))
            .then_some("takes minutes (--quick)")
    }
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Self::Setup => "setup",
            Self::Check => "check",
            Self::Build => "build",
            Self::Unit => "unit",
            Self::Fuzz => "fuzz",
            Self::Demo => "demo",
            Self::E2e => "e2e",
            Self::Vm => "vm",
        }
    }

    fn needs_build(self) -> bool {
        matches!(self, Self::Demo | Self::E2e | Self::Vm)
    }

    /// Whether all of it held.
    fn run(self, checkout: &Checkout, xtask: &Path, suite: &mut Suite) -> bool {
        let name = self.name();
        match self {
            Self::Setup => suite.step(name, || setup::install_everything(checkout).map(|()| Tally::passed())),
            Self::Check => {
                check::steps(checkout, suite);
                true
            }
            Self::Build => suite.step(name, || build::run(checkout).map(|_| Tally::passed())),
            Self::Unit => suite.step(name, || {
                let selection = ["--workspace", "--exclude", END_TO_END];
                tests(checkout, name, &selection)
            }),
            Self::E2e => suite.step(name, || tests(checkout, name, &["--package", END_TO_END])),
            Self::Fuzz => suite.step(name, || match fuzz::obstacle() {
                None => verb(checkout, xtask, &[name, "--runs", FUZZ_RUNS], TESTS_DEADLINE),
                Some(why) => Ok(Tally::skipped(
                    "coverage",
                    &format!("{why}; step `unit` ran each target on its seeds"),
                )),
            }),
            Self::Demo => suite.step(name, || verb(checkout, xtask, &[name], TESTS_DEADLINE)),
            Self::Vm => suite.step(name, || verb(checkout, xtask, &[name], GUESTS_DEADLINE)),
        }
    }
}

/// Tests of packages.
fn tests(checkout: &Checkout, name: &str, selection: &[&str]) -> Result<Tally> {
    let mut command = cargo();
    command
        .current_dir(checkout.root())
        .args(["test", "--locked", "--no-fail-fast"])
        .args(selection)
        // Skips are lines of output, which libtest keeps to itself otherwise.
        .args(["--", "--show-output"])
        .env("TREELINE_BIN", checkout.treeline())
        .env("TREELINE_PYTHON", checkout.venv().join("bin/python"));
    tallied(checkout, name, &mut command, TESTS_DEADLINE, Tally::of_libtest)
}

/// A verb of ours with its arguments, in a process of its own so that its output has a file like every other step's.
fn verb(checkout: &Checkout, xtask: &Path, words: &[&str], deadline: Duration) -> Result<Tally> {
    let mut command = Command::new(PathBuf::from(xtask));
    command.current_dir(checkout.root()).args(words);
    tallied(checkout, words[0], &mut command, deadline, Tally::of_verb)
}

/// Runs a command and counts; one that failed without a failed test, or counted nothing, did not do its work.
fn tallied(
    checkout: &Checkout,
    name: &str,
    command: &mut Command,
    deadline: Duration,
    count: fn(&str) -> Tally,
) -> Result<Tally> {
    let finished = step::attempt(checkout, name, command, deadline)?;
    let tally = count(&finished.output()?);
    if finished.end == End::Hung || (!finished.is_success() && tally.failed_count == 0) {
        finished.required(checkout)?;
    }
    if tally.failed_count > 0 {
        finished.show_tail();
        println!("    all of its output: {}", checkout.relative(&finished.log).display());
    }
    let count = tally.passed_count + tally.failed_count + tally.skips.len();
    ensure!(count > 0, "`{}` ran no test", step::shown(command));
    println!(
        "    {} passed, {} failed, {} skipped in {} s",
        tally.passed_count,
        tally.failed_count,
        tally.skips.len(),
        finished.elapsed.as_secs()
    );
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left_out(only: &[Step], quick: bool) -> Vec<Step> {
        let arguments = Arguments { only: only.to_vec(), quick };
        let is_left_out = |step: &&Step| arguments.reason_to_leave_out(**step).is_some();
        Step::value_variants().iter().filter(is_left_out).copied().collect()
    }

    #[test]
    fn steps_are_chosen() {
        assert_eq!(left_out(&[], false), []);
        assert_eq!(left_out(&[], true), [Step::Fuzz, Step::Demo, Step::Vm]);
        let others = [Step::Setup, Step::Check, Step::Build, Step::Fuzz, Step::Demo, Step::E2e];
        assert_eq!(left_out(&[Step::Unit, Step::Vm], true), others);
    }

    #[test]
    fn a_command_that_counts_nothing_fails() {
        let folder = tempfile::tempdir().unwrap();
        let checkout = Checkout::at(folder.path());
        let run = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            tallied(&checkout, "x", &mut command, TESTS_DEADLINE, Tally::of_libtest)
        };
        assert_eq!(run("true").unwrap_err().to_string(), "`sh -c true` ran no test");
        assert!(run("exit 1").unwrap_err().to_string().contains("failed (exit status: 1)"));
        let tally = run("echo 'test result: FAILED. 1 passed; 2 failed; 0 ignored'; exit 101").unwrap();
        assert_eq!((tally.passed_count, tally.failed_count), (1, 2));
    }
}
