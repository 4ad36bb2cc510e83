//! What a checkpoint says of time.

use std::time::{SystemTime, UNIX_EPOCH};

/// Wall clock and boot of the machine.
pub trait Clock: Send {
    /// Milliseconds since 1970 by the machine's clock, which anybody with the right privilege can set.
    fn wall_ms(&self) -> u64;
    /// Eight hexadecimal digits that change with every boot.
    fn boot(&self) -> &str;
}

/// The machine's own.
#[derive(Clone, Debug)]
pub struct SystemClock {
    boot: String,
}

impl SystemClock {
    /// Reads the boot id once: it cannot change while the process lives.
    #[must_use]
    pub fn new() -> Self {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let boot: String = id.chars().filter(char::is_ascii_hexdigit).take(8).collect();
        Self { boot: if boot.len() == 8 { boot } else { "00000000".to_owned() } }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn wall_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn boot(&self) -> &str {
        &self.boot
    }
}
