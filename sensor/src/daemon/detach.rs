//! Taking away everything that daemons left in the kernel, on the record.

use std::path::Path;

use anyhow::Context as _;
use treeline_event::{Body, Event, Notice};

use super::{adapters, lock::Lock};
use crate::{
    backend::linux::pins,
    enrich::clock::{SystemClock, WallClock},
};

/// Removes every set of pins and returns how many there were. What is not recorded is not done.
///
/// # Errors
/// A daemon runs with this state directory ([`super::lock::LockError`]), the log cannot be written, or a pin cannot be
/// removed.
pub fn detach_all(state_dir: &Path, log_dir: &Path, root: &Path) -> anyhow::Result<usize> {
    let _lock = Lock::of_state_dir(state_dir)?;
    let count = pins::sets(root).len();
    if count == 0 {
        return Ok(0);
    }
    let reason = format!("--detach-all: removing {count} sets of kernel programs from `{}`", root.display());
    record(log_dir, Notice::Stopped { reason }).with_context(|| {
        format!(
            "cannot record it in `{}`, so nothing was removed; `--log` names another log",
            log_dir.display()
        )
    })?;
    pins::detach_all(root).context("sessions cannot do this; otherwise try again")?;
    Ok(count)
}

fn record(log_dir: &Path, notice: Notice) -> anyhow::Result<()> {
    let (mut log, _) = adapters::log(log_dir)?;
    let wall = WallClock::new(Box::new(SystemClock));
    let event = Event { time: wall.timestamp(wall.now_ns()), session: None, body: Body::Notice(notice) };
    let mut entry = Vec::new();
    log.encode(&event, log.sizes().0, &mut entry);
    log.append(&entry)?;
    Ok(log.checkpoint_now()?)
}
