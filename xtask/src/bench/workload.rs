//! The workloads and one timing of one of them.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use treeline_tests::child::{self, Ended};

use super::{load::Timing, scene::Scene, sensor::Sensor};

/// A workload runs for about a second; one that takes this long hangs.
const LIMIT: Duration = Duration::from_secs(120);

/// One of the loops, with its usual number of operations and what it works on.
#[derive(Clone, Debug)]
pub(super) struct Workload {
    /// As the report names it.
    pub(super) name: &'static str,
    /// Operations at scale 1: about a third of a second.
    pub(super) count: u64,
    /// The verb and what comes after the count.
    pub(super) verb: &'static str,
    pub(super) arguments: Vec<PathBuf>,
    /// Whether policy refuses it inside a session.
    pub(super) is_refused: bool,
}

/// All of them.
pub(super) fn all(scene: &Scene) -> Vec<Workload> {
    let workload = |name, verb, count, argument: &Path| Workload {
        name,
        count,
        verb,
        arguments: vec![argument.to_owned()],
        is_refused: false,
    };
    vec![
        workload("fork+exec", "exec", 450, Path::new("/bin/true")),
        workload("open+close", "open", 150_000, &scene.file),
        workload("open+close, each another", "open-each", 60_000, &scene.files),
        workload("open+close below a home", "open", 5_000, &scene.home_file),
        workload("connect tcp", "connect-tcp", 6_000, Path::new(&scene.port.to_string())),
        workload("connect unix", "connect-unix", 15_000, &scene.unix),
        Workload {
            is_refused: true,
            ..workload("open of a protected file", "open", 3_000, &scene.protected)
        },
    ]
}

impl Workload {
    /// Runs it once, inside a session of `inside` if there is one.
    pub(super) fn time(&self, scene: &Scene, scale: f64, inside: Option<&Sensor>) -> Result<Timing> {
        let count = ((self.count as f64 * scale) as u64).max(30);
        let mut words = vec![PathBuf::from(self.verb), count.to_string().into()];
        words.extend(self.arguments.iter().cloned());
        let timing = run(scene, &words, inside).with_context(|| format!("workload `{}`", self.name))?;
        let expected = if self.is_refused && inside.is_some() { timing.count } else { 0 };
        ensure!(
            timing.refused == expected,
            "workload `{}`: {} of {} operations were refused, and {expected} should have been",
            self.name,
            timing.refused,
            timing.count
        );
        Ok(timing)
    }
}

/// Runs a loop in a process of its own.
pub(super) fn run(scene: &Scene, words: &[PathBuf], inside: Option<&Sensor>) -> Result<Timing> {
    let output = scene.fresh("load-")?;
    let (stdout, stderr) = (output.join("stdout"), output.join("stderr"));
    let mut command = command(inside)?;
    command.args(words).stdin(Stdio::null()).stdout(File::create(&stdout)?).stderr(File::create(&stderr)?);
    let ended = child::run(&mut command, LIMIT).context("cannot run the loop")?;
    let (said, complaint) = (fs::read_to_string(&stdout)?, fs::read_to_string(&stderr)?);
    fs::remove_dir_all(&output)?;
    match ended {
        Ended::Itself(status) if status.success() => {}
        Ended::Itself(status) => bail!("the loop failed ({status}): {}", complaint.trim()),
        Ended::TimedOut => bail!("the loop had not ended after {} s: {}", LIMIT.as_secs(), complaint.trim()),
    }
    serde_json::from_str(&said)
        .with_context(|| format!("the loop's answer is not understood: `{}`", said.trim()))
}

/// This program's loops, inside a session of `inside` if there is one.
pub(super) fn command(inside: Option<&Sensor>) -> Result<Command> {
    let xtask = std::env::current_exe().context("cannot tell the path of this program")?;
    let mut command = if let Some(sensor) = inside {
        let mut command = sensor.run();
        command.arg(xtask);
        command
    } else {
        Command::new(xtask)
    };
    command.arg("__load");
    Ok(command)
}
