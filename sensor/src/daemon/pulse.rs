//! Whether a thread still goes round its loop.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// The latest sign of life of one thread.
#[derive(Debug)]
pub struct Pulse {
    started: Instant,
    beat_ms: AtomicU64,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { started: Instant::now(), beat_ms: AtomicU64::new(0) }
    }
}

impl Pulse {
    /// Says that the thread is alive.
    pub fn beat(&self) {
        self.beat_ms.store(self.now_ms(), Ordering::Release);
    }

    /// How long ago that was.
    #[must_use]
    pub fn age(&self) -> Duration {
        Duration::from_millis(self.now_ms().saturating_sub(self.beat_ms.load(Ordering::Acquire)))
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_makes_it_young() {
        let started =
            Instant::now().checked_sub(Duration::from_secs(60)).expect("the machine runs for a minute");
        let pulse = Pulse { started, beat_ms: AtomicU64::new(0) };
        assert!(pulse.age() >= Duration::from_secs(60));
        pulse.beat();
        assert!(pulse.age() < Duration::from_secs(60));
    }
}
