//! The thread that owns the backend.

use std::{
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender};
use treeline_event::{FileId, PathBytes, ProcessKey, RuleStatus, SessionId};

use super::{marks::Marks, pulse::Pulse, queue::QueueIn, status::Board};
use crate::backend::{Approved, Backend, BackendError, Delivery, Installable, Mark, TrackRequest};

/// How long a poll may wait when nothing happens: bounds how long a request waits for its answer.
const POLL_TIMEOUT: Duration = Duration::from_millis(20);

/// How old the counts in the status are at the most, beside a poll.
const COUNT_INTERVAL: Duration = Duration::from_secs(1);

/// Polls of a drain. Each moves at least a ring's worth, so this only ends a drain under endless load.
const DRAIN_POLLS_MAX: usize = 256;

/// How long a stop waits for the log to come so far. With a full disk it never does.
const SETTLE_MAX: Duration = Duration::from_secs(2);

/// What the source is asked for.
#[derive(Debug)]
pub enum SourceCommand {
    /// Put a policy in force.
    Install(Box<Installable>, Sender<Result<Vec<RuleStatus>, BackendError>>),
    /// Which session a process is in.
    SessionOf(Arc<OwnedFd>, Sender<Result<Option<SessionId>, BackendError>>),
    /// Nobody is in these sessions any more.
    Forget(Vec<SessionId>, Sender<Result<(), BackendError>>),
    /// Make a process the root of a session.
    Track(TrackRequest, Sender<Result<Vec<ProcessKey>, BackendError>>),
    /// These approvals hold, and no others.
    Approve(Vec<Approved>, Sender<Result<(), BackendError>>),
    /// Content of a file, for rules by SHA-256.
    ContentKnown(PathBytes, FileId, [u8; 32]),
    /// Deliver everything that has arrived until now, then answer.
    Drain(Sender<()>),
    /// Deliver everything that has arrived until now, then detach, unless tracked processes live and it can be left in
    /// force, and end.
    Stop,
}

/// Runs until it is told to stop, nobody reads the queue any more, or the backend breaks.
///
/// # Errors
/// The backend's.
pub fn run(
    mut backend: Box<dyn Backend>,
    commands: &Receiver<SourceCommand>,
    mut queue: QueueIn,
    mut marks: Marks,
    pulse: &Pulse,
    board: &Board,
) -> Result<(), BackendError> {
    let mut counted = None;
    loop {
        pulse.beat();
        if counted.is_none_or(|at: Instant| at.elapsed() >= COUNT_INTERVAL) {
            counted = Some(Instant::now());
            let records = backend.counts().into_iter().map(Into::into).collect();
            let programs = backend.runs().into_iter().map(Into::into).collect();
            board.update(|status| (status.records, status.programs) = (records, programs));
        }
        for command in commands.try_iter() {
            match command {
                SourceCommand::Install(policy, reply) => {
                    let _ = reply.send(backend.install(&policy));
                }
                SourceCommand::Track(request, reply) => {
                    let _ = reply.send(backend.track(&request));
                }
                SourceCommand::SessionOf(process, reply) => {
                    let _ = reply.send(backend.session_of(process.as_fd()));
                }
                SourceCommand::Forget(sessions, reply) => {
                    let _ = reply.send(backend.forget(&sessions));
                }
                SourceCommand::Approve(approved, reply) => {
                    let _ = reply.send(backend.approve(&approved));
                }
                SourceCommand::ContentKnown(path, file, sha256) => {
                    backend.content_known(&path, &file, &sha256);
                }
                SourceCommand::Drain(reply) => {
                    drain(backend.as_mut(), &mut queue, &mut marks)?;
                    let _ = reply.send(());
                }
                SourceCommand::Stop => {
                    let drained = drain(backend.as_mut(), &mut queue, &mut marks);
                    settle(backend.as_mut(), commands, &mut marks);
                    backend.leave();
                    return drained;
                }
            }
        }
        if poll(backend.as_mut(), &mut queue, &mut marks, POLL_TIMEOUT)?.is_none() {
            return Ok(());
        }
    }
}

/// Polls once and says how many deliveries came; none when nobody reads them.
fn poll(
    backend: &mut dyn Backend,
    queue: &mut QueueIn,
    marks: &mut Marks,
    timeout: Duration,
) -> Result<Option<usize>, BackendError> {
    let mut count = 0;
    let mut connected = queue.report_loss().is_ok();
    backend.poll(timeout, &mut |delivery: Delivery| {
        count += 1;
        connected = connected && queue.push(delivery).is_ok();
    })?;
    // What was lost here and not said yet is not behind a mark.
    if connected {
        let mark = backend.handed_over();
        marks.set(queue.sent(), Mark { records: mark.records.saturating_sub(queue.owed()), ..mark });
    }
    if let Some(mark) = marks.reached() {
        backend.recorded(mark);
    }
    Ok(connected.then_some(count))
}

/// Waits until what was handed over is in the log, so that the next sensor is not told of a loss that there was not; nor, if
/// it does not get there, that there was none.
fn settle(backend: &mut dyn Backend, commands: &Receiver<SourceCommand>, marks: &mut Marks) {
    let started = Instant::now();
    while !marks.are_reached() && started.elapsed() < SETTLE_MAX {
        // The pipeline waits for room here. Whoever asks for anything else finds the sensor stopped.
        for command in commands.try_iter() {
            if let SourceCommand::ContentKnown(path, file, sha256) = command {
                backend.content_known(&path, &file, &sha256);
            }
        }
        std::thread::sleep(Duration::from_millis(2));
        if let Some(mark) = marks.reached() {
            backend.recorded(mark);
        }
    }
}

fn drain(backend: &mut dyn Backend, queue: &mut QueueIn, marks: &mut Marks) -> Result<(), BackendError> {
    for _ in 0..DRAIN_POLLS_MAX {
        match poll(backend, queue, marks, Duration::ZERO)? {
            Some(0) | None if !queue.owes_loss() => break,
            None => break,
            // The pipeline makes room for the loss report.
            Some(0) => std::thread::sleep(Duration::from_millis(10)),
            Some(_) => {}
        }
    }
    Ok(())
}
