//! Whose deliveries a queue takes when it runs full: so many of each process, fewer the fuller it is, so that a flood of
//! one process displaces its own and nobody else's. The kernel programs do the same with their rings, by the second;
//! here a minute's worth of records can come at once, from a ring that nobody read.

use std::collections::HashMap;

/// Deliveries of one process in [`WINDOW_BITS`] of time when three quarters, seven eighths and fifteen sixteenths are
/// taken.
const SHARES: [u32; 3] = [512, 128, 32];

/// Time is counted in windows of 2^36 ns, some 69 s.
const WINDOW_BITS: u32 = 36;

/// Processes that are counted. With more of them counting begins anew, which gives some of them more than their share.
const PROCESSES_MAX: usize = 8192;

/// What processes sent while there was little room.
#[derive(Debug, Default)]
pub struct Shares {
    /// The window, and how many in it, by process id.
    sent: HashMap<u32, (u64, u32)>,
}

impl Shares {
    /// Whether anybody has a share only, when `len` of `room` are taken.
    #[must_use]
    pub fn apply(len: usize, room: usize) -> bool {
        len * 4 >= room * 3
    }

    /// Counts a delivery of a process and says whether it is more than its share, when `len` of `room` are taken.
    pub fn is_exceeded(&mut self, pid: u32, time_ns: u64, len: usize, room: usize) -> bool {
        if !Self::apply(len, room) {
            return false;
        }
        let share = if len * 8 < room * 7 {
            SHARES[0]
        } else if len * 16 < room * 15 {
            SHARES[1]
        } else {
            SHARES[2]
        };
        if self.sent.len() >= PROCESSES_MAX && !self.sent.contains_key(&pid) {
            self.sent.clear();
        }
        let window = time_ns >> WINDOW_BITS;
        let (counted, count) = self.sent.entry(pid).or_insert((window, 0));
        if *counted != window {
            (*counted, *count) = (window, 0);
        }
        *count += 1;
        *count > share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fuller_the_less() {
        let check = |len, expect: u32| {
            let mut shares = Shares::default();
            let taken = (0..5000).filter(|_| !shares.is_exceeded(7, 1, len, 1600)).count();
            assert_eq!(taken, expect as usize, "{len}");
        };
        check(0, 5000);
        check(1199, 5000);
        check(1200, 512);
        check(1400, 128);
        check(1500, 32);
        check(1600, 32);
    }

    #[test]
    fn each_process_and_window_has_its_own() {
        let mut shares = Shares::default();
        let mut full = |pid, time_ns| (0..33).filter(|_| shares.is_exceeded(pid, time_ns, 99, 100)).count();
        assert_eq!(full(1, 0), 1);
        assert_eq!(full(1, 1 << 30), 33);
        assert_eq!(full(2, 5), 1);
        assert_eq!(full(1, 1 << WINDOW_BITS), 1);
    }
}
