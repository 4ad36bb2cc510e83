//! The thread that answers permission events.

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crossbeam_channel::Sender;
use nix::{
    errno::Errno,
    sys::fanotify::{Fanotify, FanotifyEvent, FanotifyResponse, Response},
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{
    Unrecorded,
    judge::{Answer, Judge, Patience},
};
use crate::backend::{Observation, linux::rings::boot_ns};

/// How long it waits after an error before it tries again.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// How long an event may be put off: a busy machine lets a thread wait this long for a processor before it sleeps. It
/// cannot stay awake by its own will, and nobody else waits meanwhile.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often an event is looked at, at the least, before patience ends: this thread may wait for a processor, too.
const LOOKS_MIN: u32 = 50;

/// How often events that were put off are looked at again.
const LATER_INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };

/// Events that are put off at a time; each holds a descriptor. One more is decided at once.
const LATER_MAX: usize = 256;

/// Answers for one group.
pub(super) struct Answering {
    group: Arc<Fanotify>,
    denials: Sender<Observation>,
    unrecorded: Arc<Unrecorded>,
    /// Told of denials.
    notify: Arc<OwnedFd>,
    /// Events that could not be decided yet.
    later: Vec<Waiting>,
}

/// An event whose subject waits.
struct Waiting {
    event: FanotifyEvent,
    since: Instant,
    looks: u32,
}

impl Answering {
    pub(super) fn new(
        group: Arc<Fanotify>,
        denials: Sender<Observation>,
        unrecorded: Arc<Unrecorded>,
        notify: Arc<OwnedFd>,
    ) -> Self {
        Self { group, denials, unrecorded, notify, later: Vec::new() }
    }

    /// Answers until stopped.
    pub(super) fn serve(&mut self, judge: &Mutex<Option<Arc<Judge>>>, stop: &AtomicBool, wake: &OwnedFd) {
        while !stop.load(Ordering::Acquire) {
            let mut waiting = [PollFd::new(&*self.group, PollFlags::IN), PollFd::new(wake, PollFlags::IN)];
            let timeout = (!self.later.is_empty()).then_some(&LATER_INTERVAL);
            if poll(&mut waiting, timeout).is_err() {
                continue;
            }
            let judge = judge.lock().unwrap_or_else(PoisonError::into_inner).clone();
            for waiting in std::mem::take(&mut self.later) {
                self.decide(judge.as_deref(), waiting);
            }
            match self.group.read_events() {
                Ok(events) => {
                    for event in events {
                        self.decide(judge.as_deref(), Waiting { event, since: Instant::now(), looks: 0 });
                    }
                }
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(error) => {
                    tracing::error!(%error, "permission events cannot be read");
                    std::thread::sleep(RETRY_INTERVAL);
                }
            }
        }
    }

    fn decide(&mut self, judge: Option<&Judge>, waiting: Waiting) {
        let Waiting { event, since, looks } = waiting;
        let Some(fd) = event.fd() else { return };
        let patient = self.later.len() < LATER_MAX && (looks < LOOKS_MIN || since.elapsed() < PATIENCE);
        let patience = if patient { Patience::Some } else { Patience::None };
        let answer =
            judge.map_or(Answer::Allow, |judge| judge.decide(fd, event.pid(), event.mask(), patience));
        match answer {
            Answer::Allow => self.respond(&event, Response::FAN_ALLOW),
            Answer::Deny(denial) => {
                // Before the answer: the record of the system call that fails must not come first.
                self.record(denial);
                self.respond(&event, Response::FAN_DENY);
            }
            Answer::Later => self.later.push(Waiting { event, since, looks: looks + 1 }),
        }
    }

    fn record(&self, denial: Option<Box<Observation>>) {
        if denial.is_none_or(|denial| self.denials.try_send(*denial).is_err()) {
            self.unrecorded.add(boot_ns());
        }
        let _ = rustix::io::write(&*self.notify, &1u64.to_ne_bytes());
    }

    fn respond(&self, event: &FanotifyEvent, response: Response) {
        let Some(fd) = event.fd() else { return };
        if let Err(error) = self.group.write_response(FanotifyResponse::new(fd.as_fd(), response)) {
            tracing::warn!(%error, pid = event.pid(), "a permission event could not be answered");
        }
    }
}
