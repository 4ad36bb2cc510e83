//! The same cases without the sensor: each works here. A refusal in a session is then the sensor's doing, and
//! not that of this guest, this kernel, or a mistake in the case.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::cases::{self, Case};
use super::{Group, stage};
use crate::act;
use crate::guest::group::Report;

pub(super) const GROUP: Group = Group {
    name: "control",
    cases: || cases::all().map(|case| case.name.to_owned()).collect(),
    run,
    needs_sensor: false,
    timeout_s: 300,
};

fn run(report: &Report) -> Result<()> {
    stage::prepare()?;
    cases::interpreters::prepare()?;
    stage::listen()?;
    let mut subject = Command::new(stage::ACT)
        .args(["act", "all"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {}", stage::ACT))?;
    let stdout = subject.stdout.take().context("the subject's output is piped")?;
    for line in BufReader::new(stdout.take(1 << 20)).lines() {
        let Some(tried) = act::read(&line.context("reading the subject's results")?) else { continue };
        if let Some(why) = cases::all().find(|case| case.name == tried.case).and_then(Case::lacks) {
            report.skip(&tried.case, &why);
            continue;
        }
        let result = if tried.errno.is_none() { Ok(()) } else { Err(anyhow::anyhow!(tried.error)) };
        report.case(&tried.case, result);
    }
    let status = subject.wait().context("waiting for the subject")?;
    ensure!(status.code() == Some(i32::from(act::STATUS)), "the subject ended with {status}");
    Ok(())
}
