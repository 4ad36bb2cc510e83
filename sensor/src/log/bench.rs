//! How fast the log is on this machine: entries appended with a checkpoint a second, and entries verified.

mod session;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

pub use self::session::Recorded;
use super::{LogWriter, Options, SoftwareKey, SystemClock, verify};

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rates {
    /// Entries of each measurement.
    pub entries: u64,
    /// Bytes of each entry, the mean of them where they differ.
    pub entry_bytes: usize,
    /// Checkpoints signed while appending, the last one at the end.
    pub checkpoints: u64,
    /// Entries appended in a second, all of them signed and on the disk at the end. As much the disk's as ours.
    pub append_per_s: f64,
    /// Entries appended in a second of one core's time.
    pub append_per_cpu_s: f64,
    /// Entries verified in a second.
    pub verify_per_s: f64,
    /// Entries verified in a second of one core's time.
    pub verify_per_cpu_s: f64,
}

/// Makes the entry of an index.
pub trait Entries {
    /// Puts it in the place of what is there.
    fn make(&mut self, index: u64, entry: &mut Vec<u8>);
}

/// Entries of so many bytes, each another one, as events are.
#[derive(Clone, Copy, Debug)]
pub struct Bytes(pub usize);

impl Entries for Bytes {
    fn make(&mut self, index: u64, entry: &mut Vec<u8>) {
        entry.resize(self.0.max(8), b'.');
        entry[..8].copy_from_slice(&index.to_le_bytes());
    }
}

/// Appends to a new log in an empty directory and verifies it.
///
/// # Errors
/// If the directory holds anything, or the log does not work.
pub fn measure(dir: &Path, entries: u64, made: &mut dyn Entries) -> anyhow::Result<Rates> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make `{}`", dir.display()))?;
    let is_empty = std::fs::read_dir(dir)?.next().is_none();
    ensure!(is_empty, "`{}` is not empty; name a directory that the benchmark may fill", dir.display());
    let key = SoftwareKey::ephemeral("bench.invalid/log")?;
    let public = key.public().clone();
    let (mut writer, _) = LogWriter::open(dir, Box::new(key), Box::new(SystemClock::new()))?;
    let (mut entry, mut bytes) = (Vec::new(), 0);

    let begun = Stopwatch::start();
    for i in 0..entries {
        made.make(i, &mut entry);
        bytes += entry.len();
        writer.append(&entry)?;
        // A batch of events from the ring.
        if i % 1024 == 1023 {
            writer.checkpoint_if_due(Instant::now())?;
        }
    }
    writer.checkpoint_now()?;
    let append = begun.stop();
    let checkpoints = writer.metrics().checkpoints;
    drop(writer);

    let begun = Stopwatch::start();
    let report = verify(dir, &public, &Options::default())?;
    let verified = begun.stop();
    ensure!(
        report.whole && report.entries_checked == entries,
        "the log does not verify: {:?}",
        report.findings
    );
    let per_s = |time: Duration| entries as f64 / time.as_secs_f64();
    Ok(Rates {
        entries,
        entry_bytes: bytes / usize::try_from(entries.max(1))?,
        checkpoints,
        append_per_s: per_s(append.wall),
        append_per_cpu_s: per_s(append.cpu),
        verify_per_s: per_s(verified.wall),
        verify_per_cpu_s: per_s(verified.cpu),
    })
}

/// Time by the wall and by the processor: a busy machine stretches the one and not the other.
#[derive(Clone, Copy)]
struct Stopwatch {
    wall: Duration,
    cpu: Duration,
}

impl Stopwatch {
    fn start() -> Self {
        let read = |clock| {
            let time = clock_gettime(clock);
            Duration::try_from(time).expect("these clocks are never before their start")
        };
        Self { wall: read(ClockId::Monotonic), cpu: read(ClockId::ProcessCPUTime) }
    }

    fn stop(self) -> Self {
        let now = Self::start();
        Self { wall: now.wall - self.wall, cpu: now.cpu - self.cpu }
    }
}
