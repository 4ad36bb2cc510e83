//! How far the log has come with what the kernel handed over, for the sensor that comes next: what this one has taken
//! and not recorded when it is killed is in no ring and in no log.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::backend::Mark;

/// Marks that wait at the most. Where there are more, as with a full disk, the youngest ones become one.
const WAITING_MAX: usize = 1024;

/// Marks between deliveries.
#[derive(Debug, Default)]
pub struct Marks {
    /// Deliveries that are recorded, of those that were sent.
    recorded: Arc<AtomicU64>,
    /// How many had been sent when the backend was at a mark, oldest first.
    waiting: VecDeque<(u64, Mark)>,
}

impl Marks {
    /// Goes by a number that the pipeline keeps.
    #[must_use]
    pub fn new(recorded: Arc<AtomicU64>) -> Self {
        Self { recorded, waiting: VecDeque::new() }
    }

    /// What was handed over up to here is among the first `sent` deliveries.
    pub fn set(&mut self, sent: u64, mark: Mark) {
        let is_full = self.waiting.len() >= WAITING_MAX;
        match self.waiting.back_mut() {
            Some(latest) if latest.0 == sent || is_full => *latest = (sent, mark),
            _ => self.waiting.push_back((sent, mark)),
        }
    }

    /// Whether everything up to the latest mark is in the log.
    #[must_use]
    pub fn are_reached(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The latest mark up to which everything is in the log, once.
    pub fn reached(&mut self) -> Option<Mark> {
        let recorded = self.recorded.load(Ordering::Acquire);
        let mut reached = None;
        while let Some((_, mark)) = self.waiting.pop_front_if(|(sent, _)| *sent <= recorded) {
            reached = Some(mark);
        }
        reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_reached_when_what_was_sent_is_recorded() {
        let recorded = Arc::new(AtomicU64::new(0));
        let mut marks = Marks::new(Arc::clone(&recorded));
        let mark = |records| Mark { of: 0, records };
        let check = |marks: &mut Marks, now: u64, expect: Option<u64>| {
            recorded.store(now, Ordering::Release);
            assert_eq!(marks.reached().map(|mark| mark.records), expect, "{now} recorded");
        };
        marks.set(3, mark(10));
        marks.set(5, mark(20));
        check(&mut marks, 2, None);
        check(&mut marks, 4, Some(10));
        check(&mut marks, 4, None);
        // Nothing came of five records.
        marks.set(5, mark(25));
        marks.set(6, mark(30));
        check(&mut marks, 5, Some(25));
        assert!(!marks.are_reached());
        check(&mut marks, 9, Some(30));
        assert!(marks.are_reached());
        check(&mut marks, 9, None);
    }

    #[test]
    fn as_long_as_nothing_is_recorded_they_do_not_grow() {
        let recorded = Arc::new(AtomicU64::new(0));
        let mut marks = Marks::new(Arc::clone(&recorded));
        let many = 4 * WAITING_MAX as u64;
        for sent in 1..=many {
            marks.set(sent, Mark { of: 0, records: sent });
        }
        assert_eq!(marks.waiting.len(), WAITING_MAX);
        recorded.store(many - 1, Ordering::Release);
        assert_eq!(marks.reached().map(|mark| mark.records), Some(WAITING_MAX as u64 - 1));
        recorded.store(many, Ordering::Release);
        assert_eq!(marks.reached().map(|mark| mark.records), Some(many));
    }
}
