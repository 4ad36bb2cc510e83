//! Subjects that live as long as their group: how they are waited for, and ended.

use std::fs;
use std::path::Path;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::guest::group::Report;

/// What a shell does before it waits with [`PAUSE`]. In sessions that last, `sleep` would be most of what is recorded.
pub(crate) const CAN_PAUSE: &str = "/usr/bin/mkfifo /tmp/pause-$$; exec 9<>/tmp/pause-$$; ";

/// Waits for a fifth of a second, without another program.
pub(crate) const PAUSE: &str = "read -rt 0.2 -u 9";

/// Waits for a file that a subject makes; in vain, it tells where everything stands.
pub(super) fn wait_for(path: &str, patience: Duration) -> Result<()> {
    let started = Instant::now();
    while !Path::new(path).exists() {
        if started.elapsed() >= patience {
            Report::stuck();
            bail!("the subject does not answer: `{path}` is not there");
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Waits for a file that has all of its text when it appears, and reads it.
pub(super) fn answer(path: &str, patience: Duration) -> Result<String> {
    wait_for(path, patience)?;
    Ok(fs::read_to_string(path).with_context(|| format!("reading {path}"))?.trim().to_owned())
}

/// Ends it.
pub(super) fn finish(subject: &mut Child) {
    // It has ended, unless a phase failed.
    let _ = subject.kill();
    let _ = subject.wait();
}
