//! Denies of attach mode `fallback`: fanotify permission marks on exactly the protected objects.
//!
//! Two threads: one answers permission events, one places marks. The answering thread never opens a protected object
//! itself (it would wait for its own answer), so everything that reads directories is on the other one. Whoever opens
//! an object without a mark pays nothing, whoever opens one with a mark and is in no tracked tree waits for one look
//! at its label.

mod judge;
mod place;
mod subject;

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use crossbeam_channel::{Receiver, Sender};
use nix::sys::fanotify::{EventFFlags, Fanotify, FanotifyResponse, InitFlags, Response};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use treeline_policy::{Host, Policy};

pub(super) use self::place::Problem;
pub(super) use self::subject::start_ticks;
use self::{judge::Judge, place::Placer};
use crate::backend::{BackendError, Observation};

/// Denials that wait for the backend's next poll. A subject waits for its answer, so the queue cannot grow faster
/// than the agent's threads can open files; what does not fit is counted.
const DENIALS_MAX: usize = 16_384;

/// How long the answering thread waits after an error before it tries again.
const RETRY_INTERVAL: std::time::Duration = std::time::Duration::from_millis(50);

/// The protected objects by identity, shared between the two threads.
type Protected = Arc<Mutex<place::Identities>>;

/// What a guard is to enforce.
pub(super) struct Orders {
    /// The policy.
    pub(super) policy: Arc<Policy>,
    /// What `~` stands for.
    pub(super) host: Host,
    /// Its generation.
    pub(super) generation: u64,
    /// The map of labels.
    pub(super) labels: OwnedFd,
    /// Rule indices by position in the policy, as the kernel tables number them.
    pub(super) rule_indices: Vec<u32>,
    /// Contents by identity, for exceptions by SHA-256.
    pub(super) known: super::Known,
}

/// Marks in force. Dropping it takes them away.
pub(super) struct Guard {
    stop: Arc<AtomicBool>,
    wake: Arc<OwnedFd>,
    threads: Vec<JoinHandle<()>>,
    denials: Receiver<Observation>,
    /// How many objects carry a mark.
    pub(super) marks: usize,
    /// Marks that could not be placed.
    pub(super) problems: Vec<Problem>,
}

impl Guard {
    /// Places the marks and starts to answer. Everything that exists now is protected when this returns.
    ///
    /// # Errors
    /// [`BackendError::Unsupported`] when the kernel has no permission events.
    pub(super) fn start(orders: Orders, notify: Arc<OwnedFd>) -> Result<Self, BackendError> {
        let flags = InitFlags::FAN_CLASS_CONTENT
            | InitFlags::FAN_CLOEXEC
            | InitFlags::FAN_NONBLOCK
            | InitFlags::FAN_UNLIMITED_QUEUE
            | InitFlags::FAN_UNLIMITED_MARKS
            | InitFlags::FAN_REPORT_TID;
        let events = EventFFlags::O_RDONLY | EventFFlags::O_LARGEFILE | EventFFlags::O_CLOEXEC;
        let group = Fanotify::init(flags, events).map_err(|error| {
            BackendError::Unsupported(format!(
                "cannot watch files (fanotify_init: {error}): the kernel needs CONFIG_FANOTIFY_ACCESS_PERMISSIONS \
                 and the sensor CAP_SYS_ADMIN"
            ))
        })?;
        let group = Arc::new(group);
        let wake = Arc::new(event_fd()?);
        let stop = Arc::new(AtomicBool::new(false));
        let protected = Protected::default();
        let (sender, denials) = crossbeam_channel::bounded(DENIALS_MAX);
        let judge = Judge::new(&orders, Arc::clone(&protected));
        let answering = {
            let (group, stop, wake) = (Arc::clone(&group), Arc::clone(&stop), Arc::clone(&wake));
            spawn("guard-answer", move || {
                answer_until_stopped(&group, &judge, &sender, &notify, &stop, &wake);
            })?
        };
        let mut placer = Placer::new(Arc::clone(&group), protected, &orders.policy, &orders.host)?;
        placer.place_all();
        let (marks, problems) = (placer.marks(), placer.problems().to_vec());
        let placing = {
            let (stop, wake) = (Arc::clone(&stop), Arc::clone(&wake));
            spawn("guard-place", move || placer.follow(&stop, &wake))?
        };
        Ok(Self { stop, wake, threads: vec![answering, placing], denials, marks, problems })
    }

    /// Denials since the last call.
    pub(super) fn denials(&self) -> impl Iterator<Item = Observation> + '_ {
        self.denials.try_iter()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a guard thread panicked; its marks are gone");
            }
        }
    }
}

/// An eventfd that wakes a poll.
pub(super) fn event_fd() -> Result<OwnedFd, BackendError> {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
        .map_err(|error| BackendError::Io { attempt: "make an eventfd".to_owned(), source: error.into() })
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, BackendError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map_err(|source| BackendError::Io { attempt: format!("start thread `{name}`"), source })
}

fn answer_until_stopped(
    group: &Fanotify,
    judge: &Judge,
    denials: &Sender<Observation>,
    notify: &OwnedFd,
    stop: &AtomicBool,
    wake: &OwnedFd,
) {
    while !stop.load(Ordering::Acquire) {
        let mut waiting = [PollFd::new(group, PollFlags::IN), PollFd::new(wake, PollFlags::IN)];
        if poll(&mut waiting, None).is_err() {
            continue;
        }
        let events = match group.read_events() {
            Ok(events) => events,
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => continue,
            Err(error) => {
                tracing::error!(%error, "permission events cannot be read");
                std::thread::sleep(RETRY_INTERVAL);
                continue;
            }
        };
        for event in &events {
            let Some(fd) = event.fd() else { continue };
            let denial = judge.decide(fd, event.pid(), event.mask());
            let response = if denial.is_some() { Response::FAN_DENY } else { Response::FAN_ALLOW };
            if let Err(error) = group.write_response(FanotifyResponse::new(fd.as_fd(), response)) {
                tracing::warn!(%error, pid = event.pid(), "a permission event could not be answered");
            }
            if let Some(denial) = denial {
                if denials.try_send(denial).is_err() {
                    tracing::error!("the queue of denials is full: a denial was enforced but not recorded");
                }
                let _ = rustix::io::write(notify, &1u64.to_ne_bytes());
            }
        }
    }
}
