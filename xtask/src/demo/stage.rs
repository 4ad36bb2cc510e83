//! Second stage, inside private namespaces: the run, then the checks.

use std::path::Path;

use anyhow::{Context, Result};
use treeline_tests::{
    child::{self, Ended},
    claude,
    model_api::ModelApi,
    namespace,
};

use super::{
    checks, listener, measure,
    report::{Report, heading},
    scenario,
    scene::Scene,
    verbs::{Answer, Treeline},
};

pub(super) fn run(root: &Path, binary: &Path, scratch: &Path) -> Result<bool> {
    namespace::settle().context("preparing the namespaces of the demo")?;
    let claude =
        claude::binary(&root.join(claude::INSTALL_DIR)).canonicalize().context("finding Claude Code")?;
    let scene = Scene::create(scratch)?;
    let acts = scenario::acts(&scene, &claude, listener::start()?)?;
    let api = ModelApi::start(scenario::script(&acts)).context("starting the model API")?;

    let treeline = Treeline { binary, scene: &scene };
    eprintln!("demo: running Claude Code {} under treeline, offline, for about 10 s", claude::VERSION);
    let run = treeline.run_claude(&claude, api.port());
    // Whatever happened, nothing that was started here stays.
    let left = child::end_descendants().context("ending what the agent left behind")?;
    let run = run?;
    explain(&run, left);

    let mut report = Report::default();
    heading("the policy in force");
    checks::policies(&mut report, &treeline, &root.join("policies/baseline.yaml"))?;
    heading("what the agent could do, and what it could not");
    checks::run(&mut report, &run, &api);
    checks::acts(&mut report, &scene, &acts, &api);
    checks::key(&mut report, &scene, &api);
    heading("what the log says");
    let entries = checks::log(&mut report, &treeline, &acts)?;
    checks::hashes(&mut report, &treeline, &entries, &claude)?;
    checks::coverage(&mut report, &treeline, &entries)?;
    heading("what the shipped policies would have refused of it");
    measure::policies(&mut report, &treeline, root)?;
    Ok(report.sum())
}

/// Says what is worth knowing when the run itself went wrong.
fn explain(run: &Answer, left: usize) {
    const LINE_COUNT_MAX: usize = 40;
    if left > 0 {
        eprintln!("demo: {left} processes that outlived the agent were ended");
    }
    if !run.succeeded() {
        eprintln!("demo: `treeline run` {}; the end of its messages:", run.end());
        let lines: Vec<_> = run.err.lines().chain(run.out.lines()).collect();
        lines[lines.len().saturating_sub(LINE_COUNT_MAX)..].iter().for_each(|line| eprintln!("  {line}"));
    }
    if run.ended == Ended::TimedOut {
        eprintln!("demo: the agent did not come to an end in time");
    }
}
