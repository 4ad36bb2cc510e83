//! The sensor's memory, idle and with many live processes in a session.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    process::{Child, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::{
    plan::Plan,
    scene::Scene,
    sensor::{Memory, Recorded, Sensor},
    workload,
};

/// Memory that a sleeping process may take in all, with what the kernel keeps for it; measured, with a reserve.
const SLEEPER_KIB: u64 = 768;
/// How long a daemon is left alone before its idle memory is read.
const IDLE: Duration = Duration::from_secs(2);

/// What the daemon keeps resident.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Live {
    pub(super) idle: Memory,
    /// With `processes` sleeping in a session.
    pub(super) live: Option<Memory>,
    /// After they ended.
    pub(super) after: Option<Memory>,
    pub(super) processes: u32,
    /// Why the live part was left out.
    pub(super) skipped: Option<String>,
    pub(super) recorded: Recorded,
}

/// Measures both, the second only if there is room for it.
pub(super) fn measure(plan: &Plan, scene: &Scene) -> Result<Live> {
    let sensor = Sensor::start(&plan.treeline, scene)?;
    thread::sleep(IDLE);
    let idle = sensor.memory()?;
    let skipped = reason_to_skip(plan.live)?;
    let (mut live, mut after) = (None, None);
    if skipped.is_none() {
        let mut sleepers = Sleepers::start(&sensor, plan.live)?;
        sensor.settle()?;
        live = Some(sensor.memory()?);
        sleepers.end()?;
        sensor.settle()?;
        after = Some(sensor.memory()?);
    }
    let recorded = sensor.stop()?;
    Ok(Live { idle, live, after, processes: plan.live, skipped, recorded })
}

fn reason_to_skip(count: u32) -> Result<Option<String>> {
    if count == 0 {
        return Ok(Some("not asked for (--live 0)".to_owned()));
    }
    let text = fs::read_to_string("/proc/meminfo").context("cannot read `/proc/meminfo`")?;
    let available_kib = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:")?.split_whitespace().next()?.parse::<u64>().ok())
        .context("`/proc/meminfo` has no MemAvailable")?;
    // Twice: others on this machine need memory, too.
    let needed_kib = 2 * u64::from(count) * SLEEPER_KIB;
    Ok((available_kib < needed_kib).then(|| {
        format!("{count} processes want {} MiB to be free; {} are", needed_kib / 1024, available_kib / 1024)
    }))
}

/// The process that keeps them and ends them when its input ends, thus also when this process does.
struct Sleepers {
    keeper: Child,
}

impl Sleepers {
    fn start(sensor: &Sensor, count: u32) -> Result<Self> {
        let mut command = workload::command(Some(sensor))?;
        command.arg("live").arg(count.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let keeper = command.spawn().context("cannot start the sleepers")?;
        let mut this = Self { keeper };
        let stdout = this.keeper.stdout.take().context("the keeper has no output")?;
        let mut said = String::new();
        BufReader::new(stdout.take(64)).read_line(&mut said)?;
        ensure!(said.trim() == count.to_string(), "not all of the {count} sleepers could be started");
        Ok(this)
    }

    fn end(&mut self) -> Result<()> {
        drop(self.keeper.stdin.take());
        ensure!(self.keeper.wait()?.success(), "the sleepers could not be ended");
        Ok(())
    }
}

impl Drop for Sleepers {
    fn drop(&mut self) {
        let _ = self.end();
    }
}
