//! Kernel time and wall time.

use rustix::time::{ClockId, Timespec, clock_gettime};
use treeline_event::Timestamp;

const NANOS_PER_MILLI: u64 = 1_000_000;

/// Reads clocks; a fake in tests.
pub trait Clock: Send {
    /// `CLOCK_BOOTTIME`, nanoseconds.
    fn boot_ns(&self) -> u64;
    /// `CLOCK_REALTIME`, nanoseconds since the epoch.
    fn wall_ns(&self) -> u64;
}

/// The clocks of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

fn nanos(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

impl Clock for SystemClock {
    fn boot_ns(&self) -> u64 {
        nanos(clock_gettime(ClockId::Boottime))
    }

    fn wall_ns(&self) -> u64 {
        nanos(clock_gettime(ClockId::Realtime))
    }
}

/// Turns kernel time into a [`Timestamp`].
///
/// The distance between the two clocks is sampled rather than fixed, so that a clock that is set later shows from
/// then on; events in between keep the wall time that was believed when they were enriched.
pub struct WallClock {
    clock: Box<dyn Clock>,
    offset_ns: u64,
}

impl WallClock {
    /// Samples once.
    #[must_use]
    pub fn new(clock: Box<dyn Clock>) -> Self {
        let mut wall = Self { clock, offset_ns: 0 };
        wall.sample();
        wall
    }

    /// Samples the distance again.
    pub fn sample(&mut self) {
        self.offset_ns = self.clock.wall_ns().saturating_sub(self.clock.boot_ns());
    }

    /// Now, `CLOCK_BOOTTIME` nanoseconds.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.clock.boot_ns()
    }

    /// The timestamp of a kernel time.
    #[must_use]
    pub fn timestamp(&self, boot_ns: u64) -> Timestamp {
        Timestamp { boot_ns, wall_ms: self.offset_ns.saturating_add(boot_ns) / NANOS_PER_MILLI }
    }
}
