//! Bounds of the enricher.

use std::path::PathBuf;

/// Bounds and places; [`Config::default`] is what the daemon uses.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where procfs is.
    pub proc: PathBuf,
    /// Where known hashes are kept between runs; none keeps them in memory only.
    pub hashes: Option<PathBuf>,
    /// The processes run on this machine now; `false` for recorded ones, which /proc cannot say the end of.
    pub live: bool,
    /// Processes that are known at once. The kernel's default `pid_max` on a small machine is half of it.
    pub processes_max: usize,
    /// How long repeats of one open are gathered, nanoseconds.
    pub fold_window_ns: u64,
    /// Opens that are being folded at once, over all processes; beyond it opens are reported one by one.
    pub folds_max: usize,
    /// Files that wait for their hash in one lane; each holds a descriptor, and a daemon has 1024 of them at least.
    pub hash_queue_max: usize,
    /// Hashes that are remembered, about 150 bytes each; a distribution has some 5 000 executables.
    pub hashes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            proc: PathBuf::from("/proc"),
            hashes: None,
            live: true,
            processes_max: 65_536,
            fold_window_ns: 1_000_000_000,
            folds_max: 4096,
            hash_queue_max: 256,
            hashes_max: 16_384,
        }
    }
}
