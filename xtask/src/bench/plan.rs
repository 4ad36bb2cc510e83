//! What is measured, in which order.

use std::{ffi::OsStr, path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;

use super::{
    decision, hooks, launch, live, log_rates, policy_rate, recorded,
    report::{Machine, Report},
    rounds,
    scene::Scene,
};

/// What was asked for.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// The binary.
    pub(super) treeline: PathBuf,
    /// The policy in force; its last key is `rules`.
    pub(super) policy: PathBuf,
    pub(super) rounds: u32,
    pub(super) scale: f64,
    /// Live processes; 0 for none.
    pub(super) live: u32,
}

impl Plan {
    /// What a verb of the binary answers as JSON.
    pub(super) fn ask<T: DeserializeOwned>(&self, arguments: &[&OsStr]) -> Result<T> {
        let words: Vec<_> = arguments.iter().map(|word| word.to_string_lossy()).collect();
        let verb = format!("treeline {}", words.join(" "));
        let output = Command::new(&self.treeline)
            .args(arguments)
            .output()
            .with_context(|| format!("cannot run `{verb}`"))?;
        let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        ensure!(output.status.success(), "`{verb}` failed ({}): {complaint}", output.status);
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("the answer of `{verb}` is not understood"))
    }
}

/// Measures everything.
pub(super) fn measure(plan: &Plan) -> Result<Report> {
    let scene = Scene::make(&plan.policy)?;
    let before = Machine::now();
    let rounds = rounds::measure(plan, &scene)?;
    eprintln!("hooks");
    let hooks = hooks::measure(plan, &scene)?;
    eprintln!("launches");
    let launch = launch::measure(plan, &scene)?;
    eprintln!("log");
    let log = log_rates::measure_log(plan, &scene)?;
    let paced = log_rates::measure_paced(plan, &scene)?;
    eprintln!("policy");
    let policy = policy_rate::measure(plan)?;
    let decisions = decision::measure(plan)?;
    let answers = recorded::measure(plan, &scene)?;
    eprintln!("memory");
    let live = live::measure(plan, &scene)?;
    let load_before = before.load;
    Ok(Report {
        load_before,
        machine: Machine::now(),
        rounds,
        hooks,
        launch,
        log,
        paced,
        policy,
        decisions,
        answers,
        live,
    })
}
