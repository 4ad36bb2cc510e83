//! Several guests at a time: each worker takes the next one until none is left.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Does every one of `jobs` with `work`, at most `count` at a time; the results come in the order of the jobs.
pub(super) fn each<J: Send, R: Send>(jobs: Vec<J>, count: usize, work: impl Fn(J) -> R + Sync) -> Vec<R> {
    let queue: Mutex<VecDeque<(usize, J)>> = Mutex::new(jobs.into_iter().enumerate().collect());
    let results: Mutex<Vec<(usize, R)>> = Mutex::new(Vec::new());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    thread::scope(|scope| {
        for _ in 0..count.max(1) {
            scope.spawn(|| {
                while let Some((index, job)) = next() {
                    let result = work(job);
                    results.lock().unwrap_or_else(PoisonError::into_inner).push((index, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn every_job_is_done_once_and_no_more_than_allowed_at_a_time() {
        for count in [0, 1, 2, 9] {
            let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let done = each((0..20).collect(), count, |job: usize| {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                thread::yield_now();
                now.fetch_sub(1, Ordering::SeqCst);
                job * 2
            });
            assert_eq!(done, (0..20).map(|job| job * 2).collect::<Vec<_>>());
            assert!(most.into_inner() <= count.max(1));
        }
    }
}
