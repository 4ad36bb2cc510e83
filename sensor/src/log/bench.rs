//! How fast the log is on this machine: entries appended with a checkpoint a second, and entries verified.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde::Serialize;

use super::{LogWriter, Options, SoftwareKey, SystemClock, verify};

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rates {
    /// Entries of each measurement.
    pub entries: u64,
    /// Bytes of each entry.
    pub entry_bytes: usize,
    /// Checkpoints signed while appending, the last one at the end.
    pub checkpoints: u64,
    /// Entries appended in a second, all of them signed and on the disk at the end.
    pub append_per_s: f64,
    /// Entries verified in a second.
    pub verify_per_s: f64,
}

/// Appends to a new log in an empty directory and verifies it.
///
/// # Errors
/// If the directory holds anything, or the log does not work.
pub fn measure(dir: &Path, entries: u64, entry_bytes: usize) -> anyhow::Result<Rates> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make `{}`", dir.display()))?;
    let is_empty = std::fs::read_dir(dir)?.next().is_none();
    ensure!(is_empty, "`{}` is not empty; name a directory that the benchmark may fill", dir.display());
    let key = SoftwareKey::ephemeral("bench.invalid/log")?;
    let public = key.public().clone();
    let (mut writer, _) = LogWriter::open(dir, Box::new(key), Box::new(SystemClock::new()))?;
    let mut entry = vec![b'.'; entry_bytes.max(8)];

    let begun = Instant::now();
    for i in 0..entries {
        // Every entry is another one, as events are.
        entry[..8].copy_from_slice(&i.to_le_bytes());
        writer.append(&entry)?;
        // A batch of events from the ring.
        if i % 1024 == 1023 {
            writer.checkpoint_if_due(Instant::now())?;
        }
    }
    writer.checkpoint_now()?;
    let append = begun.elapsed();
    let checkpoints = writer.metrics().checkpoints;
    drop(writer);

    let begun = Instant::now();
    let report = verify(dir, &public, &Options::default())?;
    let verified = begun.elapsed();
    ensure!(
        report.whole && report.entries_checked == entries,
        "the log does not verify: {:?}",
        report.findings
    );
    let per_s = |time: Duration| entries as f64 / time.as_secs_f64();
    Ok(Rates {
        entries,
        entry_bytes: entry.len(),
        checkpoints,
        append_per_s: per_s(append),
        verify_per_s: per_s(verified),
    })
}
