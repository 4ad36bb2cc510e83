//! A session that lives while the sensor comes and goes, and reads the secret whenever it is told to.

use std::fs;
use std::process::{Child, Stdio};

use anyhow::{Context, Result, ensure};

use super::machine::{self, SECRET};
use crate::suite::session::TREELINE;
use crate::suite::subject::{CAN_PAUSE, PAUSE};

/// Where it is told, and answers.
const TALK: &str = "/run/treeline-guest";

/// What it could not do, in its shell's words.
const ERRORS: &str = "errors";

fn script() -> String {
    format!(
        "exec 2>>{ERRORS}; {CAN_PAUSE} while :; do for step in *.go; do test -e $step || continue; \
        cat {SECRET} >/dev/null 2>&1; echo $? >${{step%.go}}.tmp; mv ${{step%.go}}.tmp ${{step%.go}}.status; \
        rm $step; done; {PAUSE}; done"
    )
}

pub(super) struct Subject(Child);

impl Subject {
    pub(super) fn start() -> Result<Self> {
        fs::create_dir_all(TALK).with_context(|| format!("creating {TALK}"))?;
        let child = machine::command(TREELINE)
            .args(["run", "--", "/bin/bash", "-c", &script()])
            .current_dir(TALK)
            .stdout(Stdio::null())
            .spawn()
            .context("starting the subject")?;
        Ok(Self(child))
    }

    /// Whether it could read the secret at this step.
    pub(super) fn reads(&self, step: &str) -> Result<bool> {
        fs::write(format!("{TALK}/{step}.go"), "").context("telling the subject to go on")?;
        let path = format!("{TALK}/{step}.status");
        let answered = machine::wait_until("the subject answers", || Ok(fs::exists(&path)?));
        answered.with_context(|| fs::read_to_string(format!("{TALK}/{ERRORS}")).unwrap_or_default())?;
        Ok(fs::read_to_string(&path).context("reading the subject's answer")?.trim() == "0")
    }

    /// Fails unless the secret is refused at this step, or, where `is_refused` says so, is not.
    pub(super) fn check(&self, step: &str, is_refused: bool) -> Result<()> {
        let reads = self.reads(step)?;
        ensure!(reads != is_refused, "{SECRET} {}", if reads { "could be read" } else { "was refused" });
        Ok(())
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        // It ends by nothing else; both fail when it has ended all the same.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
