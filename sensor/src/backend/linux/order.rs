//! What the guard refused among what the rings hold.

use std::collections::VecDeque;

use crate::backend::{Delivery, Observation};

/// What comes next.
#[derive(Debug)]
pub(super) enum Next {
    /// The guard refused it.
    Refusal(Observation),
    /// It was in a ring.
    Record(Delivery),
}

/// Puts refusals among records, which are in the order of time. What led to a refusal, such as the fork and the exec of
/// its subject, is in the rings by the time that it is taken from the guard, and comes before it.
pub(super) fn by_time(mut refusals: Vec<Observation>, records: Vec<Delivery>) -> Vec<Next> {
    refusals.sort_by_key(|refusal| refusal.time_ns);
    let mut refusals = VecDeque::from(refusals);
    let mut merged = Vec::with_capacity(refusals.len() + records.len());
    for record in records {
        if let Delivery::Observation(observation) = &record {
            while let Some(refusal) = refusals.pop_front_if(|refusal| refusal.time_ns <= observation.time_ns)
            {
                merged.push(Next::Refusal(refusal));
            }
        }
        merged.push(Next::Record(record));
    }
    merged.extend(refusals.into_iter().map(Next::Refusal));
    merged
}

#[cfg(test)]
mod tests {
    use treeline_event::{ProcessKey, SessionId, Verdict};

    use super::*;
    use crate::backend::Seen;

    fn observation(time_ns: u64) -> Observation {
        Observation {
            time_ns,
            session: SessionId(1),
            subject: ProcessKey { pid: 5, start_ticks: 1 },
            subject_start_ns: 0,
            tid: 5,
            verdict: Verdict::Allow,
            rule: None,
            generation: 0,
            seen: Seen::Exit { wait_status: 0 },
        }
    }

    #[track_caller]
    fn check(refusals: &[u64], records: &[u64], expect: &str) {
        let mut records: Vec<_> =
            records.iter().map(|time_ns| Delivery::Observation(Box::new(observation(*time_ns)))).collect();
        records.insert(0, Delivery::Malformed(String::new()));
        let refusals = refusals.iter().map(|time_ns| observation(*time_ns)).collect();
        let words = by_time(refusals, records).into_iter().map(|next| match next {
            Next::Refusal(refusal) => format!("!{}", refusal.time_ns),
            Next::Record(Delivery::Observation(observation)) => observation.time_ns.to_string(),
            Next::Record(_) => "x".to_owned(),
        });
        assert_eq!(words.collect::<Vec<_>>().join(" "), expect);
    }

    #[test]
    fn what_led_to_a_refusal_comes_first() {
        check(&[5], &[3, 4, 6], "x 3 4 !5 6");
        check(&[9, 2], &[3, 4], "x !2 3 4 !9");
        check(&[3, 3], &[], "x !3 !3");
        check(&[], &[1, 1], "x 1 1");
    }
}
