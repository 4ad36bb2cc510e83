//! `cargo xtask fuzz`: coverage-guided fuzzing of whatever reads foreign bytes. What a target does is in `tests/fuzz`.

mod engine;
mod report;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};

use self::{engine::Engine, report::Report};
use crate::{checkout::Checkout, outcome::Outcome, setup, step};

pub(crate) use self::engine::obstacle;

/// A run of a fixed number is ended after this long all the same, so that eleven targets take a minute on any machine.
const FIXED_RUN_SECONDS_MAX: u32 = 6;
/// What starting, reading the corpus and reporting may take beside the run itself.
const SLACK: Duration = Duration::from_secs(120);
/// The longest time that one input may take, in seconds: they take microseconds.
const INPUT_SECONDS_MAX: u32 = 10;
/// The most memory of a target, in MiB: a reader of at most some hundred KiB has no use for it.
const MEMORY_MIB_MAX: u32 = 1024;

/// Arguments of `fuzz`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Run these targets and no others; all of them when none is named
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// How long each target runs, in seconds; what it finds interesting is kept for the next time
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Run each target so many times, on the seeds and what follows from them, the same way every time
    #[arg(long, value_name = "N", conflicts_with = "seconds", value_parser = clap::value_parser!(u64).range(1..))]
    runs: Option<u64>,
}

/// Builds the targets and runs them one after the other; one that breaks stops none of the others.
pub(crate) fn run(checkout: &Checkout, arguments: &Arguments) -> Result<Outcome> {
    setup::cpp_compiler(checkout)?;
    let targets = chosen(engine::targets(checkout)?, &arguments.targets)?;
    let engine = Engine::build(checkout)?;
    let mut broken_count = 0;
    for target in &targets {
        let report = fuzz(checkout, &engine, target, arguments)?;
        broken_count += usize::from(report.is_broken());
        println!("{}", report.line(target));
    }
    println!("fuzz: {} targets, {broken_count} broken", targets.len());
    Ok(Outcome::from_count(broken_count))
}

fn chosen(all: Vec<String>, wanted: &[String]) -> Result<Vec<String>> {
    if let Some(unknown) = wanted.iter().find(|name| !all.contains(name)) {
        bail!("there is no target `{unknown}`: the targets are {}", all.join(", "));
    }
    if wanted.is_empty() { Ok(all) } else { Ok(wanted.to_vec()) }
}

fn fuzz(checkout: &Checkout, engine: &Engine, target: &str, arguments: &Arguments) -> Result<Report> {
    let folders = Folders::make(checkout, target, arguments.runs.is_some())?;
    let mut command = engine.program(target);
    command.current_dir(checkout.root()).env("TREELINE_FUZZ_SEEDS", &folders.seeds);
    let seconds = match arguments.runs {
        Some(runs) => {
            command.args(["-seed=1".to_owned(), format!("-runs={runs}")]);
            FIXED_RUN_SECONDS_MAX
        }
        None => arguments.seconds,
    };
    command
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
        .arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"))
        .arg(format!("-artifact_prefix={}/", folders.findings.display()))
        .arg("-print_final_stats=1")
        .args([&folders.corpus, &folders.seeds]);
    let deadline = Duration::from_secs(seconds.into()) + SLACK;
    let finished = step::attempt(checkout, &format!("fuzz-{target}"), &mut command, deadline)?;
    let report = Report::read(&finished.output()?, finished.is_success(), finished.elapsed);
    if report.is_broken() {
        finished.show_tail();
        println!("    all of its output: {}", checkout.relative(&finished.log).display());
        println!("    to run it again: {} INPUT", checkout.relative(&engine.path(target)).display());
    } else {
        ensure!(report.runs_count > 0, "`{target}` ran on nothing: its engine has no instrumented code");
    }
    Ok(report)
}

/// Where one target's inputs are.
struct Folders {
    /// What it found interesting.
    corpus: PathBuf,
    /// What it starts from; it writes these itself.
    seeds: PathBuf,
    /// What broke it.
    findings: PathBuf,
}

impl Folders {
    fn make(checkout: &Checkout, target: &str, is_fixed: bool) -> Result<Self> {
        let base = checkout.fuzz().join("target");
        let corpus = if is_fixed { "fixed-corpus" } else { "corpus" };
        let [corpus, seeds, findings] =
            [corpus, "seeds", "findings"].map(|kind| base.join(kind).join(target));
        // Old seeds may be of another build, and a fixed run has no past.
        empty(&seeds)?;
        if is_fixed {
            empty(&corpus)?;
        }
        for folder in [&corpus, &seeds, &findings] {
            fs::create_dir_all(folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
        }
        Ok(Self { corpus, seeds, findings })
    }
}

fn empty(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot empty `{}`", folder.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_chosen_by_name() {
        let all = || vec!["glob".to_owned(), "tlog".to_owned()];
        assert_eq!(chosen(all(), &[]).unwrap(), all());
        assert_eq!(chosen(all(), &["tlog".to_owned()]).unwrap(), ["tlog"]);
        let error = chosen(all(), &["blob".to_owned()]).unwrap_err().to_string();
        assert_eq!(error, "there is no target `blob`: the targets are glob, tlog");
    }

    #[test]
    fn a_fixed_run_has_no_past_and_another_has() {
        let folder = tempfile::tempdir().unwrap();
        let checkout = Checkout::at(folder.path());
        for (is_fixed, is_kept) in [(true, false), (false, true)] {
            let folders = Folders::make(&checkout, "glob", is_fixed).unwrap();
            let (old, seed) = (folders.corpus.join("old"), folders.seeds.join("old"));
            fs::write(&old, "x").unwrap();
            fs::write(&seed, "x").unwrap();
            Folders::make(&checkout, "glob", is_fixed).unwrap();
            assert_eq!((old.exists(), seed.exists()), (is_kept, false));
        }
    }
}
