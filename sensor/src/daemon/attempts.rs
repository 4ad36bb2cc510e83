//! How many refused attempts to approve are recorded: a flood of them must not fill the log.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// Attempts of one user that are recorded within [`WINDOW`].
const PER_UID_MAX: u32 = 10;
/// Users that are counted; of more, counting begins anew.
const USERS_MAX: usize = 1024;
const WINDOW: Duration = Duration::from_secs(60);

/// Attempts by user.
#[derive(Debug, Default)]
pub struct Attempts(HashMap<u32, (Instant, u32)>);

impl Attempts {
    /// Counts one, and says whether it is to be recorded.
    pub fn count(&mut self, uid: u32) -> bool {
        self.count_at(uid, Instant::now())
    }

    fn count_at(&mut self, uid: u32, now: Instant) -> bool {
        if self.0.len() >= USERS_MAX && !self.0.contains_key(&uid) {
            self.0.clear();
        }
        let (began, count) = self.0.entry(uid).or_insert((now, 0));
        if now.duration_since(*began) >= WINDOW {
            (*began, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        *count <= PER_UID_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_of_each_user_in_a_minute() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        let mut recorded =
            |uid, at: u64| (0..50).filter(|_| attempts.count_at(uid, now + Duration::from_secs(at))).count();
        assert_eq!((recorded(1, 0), recorded(1, 59), recorded(2, 59), recorded(1, 60)), (10, 0, 10, 10));
    }
}
