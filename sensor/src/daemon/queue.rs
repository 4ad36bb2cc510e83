//! The queue between source and pipeline.
//!
//! One queue, because the order of a fork, an exec and an open of one process is part of what they mean. A part of
//! it is for lifecycle events, denials and loss reports only, so that a flood of opens cannot displace them, and when
//! there is little room each process has its share.

use std::collections::BTreeMap;

use crossbeam_channel::{Receiver, Sender, TrySendError};
use treeline_event::{Action, Verdict};

use super::shares::Shares;
use crate::backend::{Delivery, LossReport, Observation, Seen};

/// Deliveries that wait for the pipeline: more than half a second of the promised 50 000 events/s, which covers the
/// sync of a checkpoint, in about 20 MB.
const CAPACITY: usize = 32_768;

/// Of these, places that only lifecycle events, denials and loss reports may take.
const RESERVED: usize = 8_192;

/// The source's end.
#[derive(Debug)]
pub struct QueueIn {
    sender: Sender<Delivery>,
    capacity: usize,
    reserved: usize,
    shares: Shares,
    sent: u64,
    lost: BTreeMap<&'static str, LossReport>,
}

/// Makes a queue.
#[must_use]
pub fn queue() -> (QueueIn, Receiver<Delivery>) {
    queue_of(CAPACITY, RESERVED)
}

fn queue_of(capacity: usize, reserved: usize) -> (QueueIn, Receiver<Delivery>) {
    let (sender, receiver) = crossbeam_channel::bounded(capacity);
    let shares = Shares::default();
    (QueueIn { sender, capacity, reserved, shares, sent: 0, lost: BTreeMap::new() }, receiver)
}

/// The pipeline is gone.
#[derive(Debug, PartialEq, Eq)]
pub struct Disconnected;

impl QueueIn {
    /// Puts a delivery into the queue or counts it as lost. Never waits.
    ///
    /// # Errors
    /// [`Disconnected`] when nobody reads any more.
    pub fn push(&mut self, delivery: Delivery) -> Result<(), Disconnected> {
        self.report_loss()?;
        // Only this thread sends, so the queue cannot get fuller between the check and the send.
        if self.is_too_much(&delivery) {
            self.count(&delivery);
            return Ok(());
        }
        match self.sender.try_send(delivery) {
            Ok(()) => {
                self.sent += 1;
                Ok(())
            }
            Err(TrySendError::Full(delivery)) => {
                self.count(&delivery);
                Ok(())
            }
            Err(TrySendError::Disconnected(_)) => Err(Disconnected),
        }
    }

    /// Whether there is no room for a delivery, or its process has had its share of what is left.
    fn is_too_much(&mut self, delivery: &Delivery) -> bool {
        let (len, open) = (self.sender.len(), self.capacity - self.reserved);
        let is_precious = is_precious(delivery);
        let (len, room) = if is_precious { (len.saturating_sub(open), self.reserved) } else { (len, open) };
        if len >= room && !is_precious {
            return true;
        }
        match delivery {
            Delivery::Observation(seen) => self.shares.is_exceeded(seen.subject.pid, seen.time_ns, len, room),
            Delivery::Loss(_) | Delivery::Malformed { .. } => false,
        }
    }

    /// Sends the counts of what was lost, once everybody's opens are taken again: until then the counts only grow.
    ///
    /// # Errors
    /// [`Disconnected`].
    pub fn report_loss(&mut self) -> Result<(), Disconnected> {
        while !Shares::apply(self.sender.len(), self.capacity - self.reserved)
            && let Some((_, report)) = self.lost.pop_first()
        {
            match self.sender.try_send(Delivery::Loss(report)) {
                Ok(()) => self.sent += 1,
                Err(TrySendError::Full(Delivery::Loss(report))) => {
                    self.lost.insert(report.kind, report);
                    break;
                }
                Err(TrySendError::Full(_)) => unreachable!("a loss report was sent"),
                Err(TrySendError::Disconnected(_)) => return Err(Disconnected),
            }
        }
        Ok(())
    }

    /// Deliveries that have been sent until now.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// What was lost here and has not been reported yet.
    #[must_use]
    pub fn owed(&self) -> u64 {
        self.lost.values().map(|report| report.count).sum()
    }

    /// Whether some loss has not been reported yet.
    #[must_use]
    pub fn owes_loss(&self) -> bool {
        !self.lost.is_empty()
    }

    fn count(&mut self, delivery: &Delivery) {
        let (kind, count, first_ns, last_ns) = match delivery {
            Delivery::Observation(seen) => (kind_of(seen), events_in(seen), seen.time_ns, seen.time_ns),
            Delivery::Loss(report) => (report.kind, report.count, report.first_ns, report.last_ns),
            Delivery::Malformed { .. } => ("malformed", 1, 0, 0),
        };
        let report =
            self.lost.entry(kind).or_insert(LossReport { kind, site: "queue", count: 0, first_ns, last_ns });
        report.count += count;
        report.first_ns = report.first_ns.min(first_ns);
        report.last_ns = report.last_ns.max(last_ns);
    }
}

/// How many events of the kernel an observation stands for.
#[must_use]
pub fn events_in(observation: &Observation) -> u64 {
    match &observation.seen {
        Seen::Act(action) => match action.as_ref() {
            Action::Open { count, .. } => *count,
            _ => 1,
        },
        _ => 1,
    }
}

/// Whether the delivery may use the reserved part.
fn is_precious(delivery: &Delivery) -> bool {
    match delivery {
        Delivery::Observation(observation) => {
            observation.verdict == Verdict::Deny || !matches!(observation.seen, Seen::Act(_))
        }
        Delivery::Loss(_) | Delivery::Malformed { .. } => true,
    }
}

/// The kind of an observation, in the words of `treeline_abi::Kind`.
#[must_use]
pub fn kind_of(observation: &Observation) -> &'static str {
    match &observation.seen {
        Seen::Fork { .. } => "fork",
        Seen::Exec(_) => "exec",
        Seen::Exit { .. } => "exit",
        Seen::Act(action) => kind_of_action(action),
    }
}

/// The kind of an action, in the same words.
#[must_use]
pub fn kind_of_action(action: &Action) -> &'static str {
    match action {
        Action::Fork { .. } => "fork",
        Action::Exec => "exec",
        Action::ExecDenied { .. } => "exec_denied",
        Action::Map { .. } => "map",
        Action::Exit { .. } => "exit",
        Action::Open { .. } => "open",
        Action::Create { .. } => "create",
        Action::Delete { .. } => "delete",
        Action::Rename { .. } => "rename",
        Action::Link { .. } => "link",
        Action::Modify { .. } => "modify",
        Action::Mount { .. } => "mount",
        Action::Receive { .. } => "receive",
        Action::Connect { .. } => "connect",
        Action::Tamper { .. } => "tamper",
        Action::Trace { .. } => "trace",
        Action::Adopt { .. } => "adopt",
    }
}

#[cfg(test)]
mod tests {
    use treeline_event::{FileRef, OpenFlags, Outcome, ProcessKey, SessionId};

    use super::*;

    fn open(time_ns: u64, verdict: Verdict) -> Delivery {
        let file = FileRef { path: "/etc/passwd".into(), ..FileRef::default() };
        let action = Action::Open { file, flags: OpenFlags(0), outcome: Outcome::Ok, count: 1 };
        observation(time_ns, verdict, Seen::Act(Box::new(action)))
    }

    fn observation(time_ns: u64, verdict: Verdict, seen: Seen) -> Delivery {
        let subject = ProcessKey { pid: 7, start_ticks: 1 };
        Delivery::Observation(Box::new(Observation {
            time_ns,
            session: SessionId(1),
            subject,
            subject_start_ns: 10_000_000,
            tid: 7,
            verdict,
            rule: None,
            approved: false,
            generation: 0,
            seen,
        }))
    }

    #[test]
    fn a_flood_of_opens_leaves_room_for_the_rest_and_is_counted() {
        let (mut queue, receiver) = queue_of(8, 3);
        for time_ns in 1..=20 {
            queue.push(open(time_ns, Verdict::Allow)).expect("the receiver is there");
        }
        assert_eq!(receiver.len(), 5);
        queue
            .push(observation(21, Verdict::Allow, Seen::Exit { wait_status: 0 }))
            .expect("the receiver is there");
        queue.push(open(22, Verdict::Deny)).expect("the receiver is there");
        assert_eq!(receiver.len(), 7);
        assert!(queue.owes_loss());

        let mut opens = 0;
        while let Ok(delivery) = receiver.try_recv() {
            opens += u64::from(matches!(&delivery, Delivery::Observation(o) if kind_of(o) == "open"));
        }
        queue.report_loss().expect("the receiver is there");
        let Ok(Delivery::Loss(report)) = receiver.try_recv() else { panic!("no loss report") };
        assert_eq!((report.kind, report.site, report.first_ns, report.last_ns), ("open", "queue", 6, 20));
        assert_eq!(opens + report.count, 21, "created = delivered + lost");
    }

    #[test]
    fn when_even_the_reserve_is_full_lifecycle_is_counted_too() {
        let (mut queue, receiver) = queue_of(4, 2);
        for time_ns in 0..10 {
            queue
                .push(observation(time_ns, Verdict::Allow, Seen::Exit { wait_status: 0 }))
                .expect("it is there");
        }
        let delivered = receiver.try_iter().count() as u64;
        queue.report_loss().expect("the receiver is there");
        let Ok(Delivery::Loss(report)) = receiver.try_recv() else { panic!("no loss report") };
        assert_eq!((report.kind, delivered + report.count), ("exit", 10));
    }

    #[test]
    fn nobody_reads() {
        let (mut queue, receiver) = queue_of(4, 2);
        drop(receiver);
        assert_eq!(queue.push(open(1, Verdict::Allow)), Err(Disconnected));
    }
}
