//! Denies of attach mode `fallback`: fanotify permission marks on exactly the protected objects.
//!
//! Two threads: one answers permission events, one places marks. The answering thread never opens a protected object
//! itself (it would wait for its own answer), so everything that reads directories is on the other one. Whoever opens
//! an object without a mark pays nothing, whoever opens one with a mark and is in no tracked tree waits for one look
//! at its label.
//!
//! Marks, and what is known of the marked objects, outlive a policy: a protected file that was moved away stays the
//! same file when a policy is put in force again.

mod answer;
mod identities;
mod judge;
mod patterns;
mod place;
mod subject;

use std::{
    os::fd::{BorrowedFd, OwnedFd},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use crossbeam_channel::{Receiver, Sender, bounded};
use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags};
use rustix::event::{EventfdFlags, eventfd};
use treeline_abi::Label;
use treeline_policy::{Host, Policy, compile::LineageReader};

pub(super) use self::judge::{Judge, identity, leads_to};
use self::{
    answer::Answering,
    place::{Placer, Search},
};
pub(super) use self::{
    place::Placed,
    subject::{pidfd, start_ticks},
};
use super::{grants::Approvals, labels::Labels};
use crate::backend::{BackendError, Observation};

/// Denials that wait for the backend's next poll. A subject waits for its answer, so the queue cannot grow faster
/// than the agent's threads can open files; what does not fit is counted.
const DENIALS_MAX: usize = 16_384;

/// The protected objects by identity, shared between the two threads.
type Protected = Arc<Mutex<identities::Identities>>;

/// What a guard is to enforce.
#[derive(Clone)]
pub(super) struct Orders {
    /// The policy.
    pub(super) policy: Arc<Policy>,
    /// What `~` stands for.
    pub(super) host: Host,
    /// Its generation.
    pub(super) generation: u64,
    /// Rule indices by position in the policy, as the kernel tables number them.
    pub(super) rule_indices: Vec<u32>,
    /// What labels say of lineage.
    pub(super) lineage: LineageReader,
    /// What sessions are.
    pub(super) sessions: super::sessions::Sessions,
    /// What somebody has approved of.
    pub(super) approvals: Approvals,
}

/// Denials that were enforced and have no record, because nobody took the records.
#[derive(Debug, Default)]
pub(super) struct Unrecorded {
    count: AtomicU64,
    first_ns: AtomicU64,
    last_ns: AtomicU64,
}

/// Marks in force. Dropping it takes them away.
pub(super) struct Guard {
    placing: Worker,
    /// After the other one, which opens marked directories: it would wait for an answer for ever.
    _answering: Worker,
    denials: Receiver<Observation>,
    unrecorded: Arc<Unrecorded>,
    searches: Sender<Search>,
    judge: Arc<Mutex<Option<Arc<Judge>>>>,
    labels: Labels,
    known: super::Known,
    protected: Protected,
    reporter: Reporter,
}

/// A thread that looks after descriptors until it is told to stop. Dropping it waits for its end.
struct Worker {
    stop: Arc<AtomicBool>,
    wake: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

/// Judges contents, and takes what was refused.
#[derive(Clone)]
pub(super) struct Reporter {
    judge: Arc<Mutex<Option<Arc<Judge>>>>,
    denials: Sender<Observation>,
    unrecorded: Arc<Unrecorded>,
    notify: Arc<OwnedFd>,
}

impl Reporter {
    /// Whether a file with this content, or one of which nothing is known, must not be executed. It is recorded then.
    pub(super) fn refuses(
        &self,
        file: BorrowedFd<'_>,
        pid: i32,
        label: &Label,
        sha256: Option<[u8; 32]>,
    ) -> bool {
        let judge = self.judge.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(refusal) = judge.and_then(|judge| judge.judge_content(file, pid, label, sha256)) else {
            return false;
        };
        if self.denials.try_send(refusal).is_err() {
            self.unrecorded.add(super::rings::boot_ns());
        }
        let _ = rustix::io::write(&*self.notify, &1u64.to_ne_bytes());
        true
    }
}

impl Guard {
    /// Starts to answer. Nothing is protected yet. `labels` is the map of labels, `known` the contents by identity, for
    /// exceptions by SHA-256; `notify` is written to when there are denials to be collected.
    ///
    /// # Errors
    /// [`BackendError::Unsupported`] when the kernel has no permission events.
    pub(super) fn start(
        labels: Labels,
        known: super::Known,
        notify: Arc<OwnedFd>,
    ) -> Result<Self, BackendError> {
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
        let protected = Protected::default();
        let (sender, denials) = bounded(DENIALS_MAX);
        let judge = Arc::new(Mutex::new(None));
        let unrecorded = Arc::new(Unrecorded::default());
        let reporter = Reporter {
            judge: Arc::clone(&judge),
            denials: sender.clone(),
            unrecorded: Arc::clone(&unrecorded),
            notify: Arc::clone(&notify),
        };
        let mut answering = Answering::new(Arc::clone(&group), sender, Arc::clone(&unrecorded), notify);
        let mut placer = Placer::new(group, Arc::clone(&protected))?;
        let (searches, orders) = bounded(1);
        let answers = {
            let judge = Arc::clone(&judge);
            Worker::start("guard-answer", move |stop, wake| answering.serve(&judge, stop, wake))?
        };
        let placing = Worker::start("guard-place", move |stop, wake| placer.serve(&orders, stop, wake))?;
        Ok(Self {
            placing,
            _answering: answers,
            denials,
            unrecorded,
            searches,
            judge,
            labels,
            known,
            protected,
            reporter,
        })
    }

    /// Marks everything that a policy protects and that exists, and what appears from now on. Answers stay those of
    /// the policy before until [`Guard::enforce`] is called.
    ///
    /// # Errors
    /// [`BackendError::Unsupported`] when the thread has ended.
    pub(super) fn place(&self, policy: Arc<Policy>, host: Host) -> Result<Placed, BackendError> {
        let ended = || BackendError::Unsupported("the thread that places marks has ended".to_owned());
        let (reply, placed) = bounded(1);
        self.searches.send(Search { policy, host, reply }).map_err(|_| ended())?;
        self.placing.wake();
        placed.recv().map_err(|_| ended())
    }

    /// What answers by a policy.
    ///
    /// # Errors
    /// [`BackendError::Io`].
    pub(super) fn judge(&self, orders: &Orders) -> Result<Judge, BackendError> {
        let labels = self.labels.try_clone()?;
        Ok(Judge::new(orders, labels, Arc::clone(&self.known), Arc::clone(&self.protected)))
    }

    /// What judges contents by the policy in force.
    pub(super) fn reporter(&self) -> Reporter {
        self.reporter.clone()
    }

    /// Answers by it from now on.
    pub(super) fn enforce(&self, judge: Judge) {
        *self.judge.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(judge));
    }

    /// Denials since the last call.
    pub(super) fn denials(&self) -> impl Iterator<Item = Observation> + '_ {
        self.denials.try_iter()
    }

    /// How many denials have no record since the last call, and when the first and the last of them were, in
    /// nanoseconds of `CLOCK_BOOTTIME`.
    pub(super) fn unrecorded(&self) -> Option<(u64, u64, u64)> {
        let count = self.unrecorded.count.swap(0, Ordering::AcqRel);
        let first_ns = self.unrecorded.first_ns.swap(0, Ordering::AcqRel);
        (count > 0).then(|| (count, first_ns, self.unrecorded.last_ns.load(Ordering::Acquire)))
    }
}

impl Unrecorded {
    fn add(&self, time_ns: u64) {
        let _ = self.first_ns.compare_exchange(0, time_ns, Ordering::AcqRel, Ordering::Acquire);
        self.last_ns.store(time_ns, Ordering::Release);
        self.count.fetch_add(1, Ordering::AcqRel);
    }
}

impl Worker {
    fn start(
        name: &str,
        body: impl FnOnce(&AtomicBool, &OwnedFd) + Send + 'static,
    ) -> Result<Self, BackendError> {
        let (stop, wake) = (Arc::new(AtomicBool::new(false)), Arc::new(event_fd()?));
        let thread = {
            let (stop, wake) = (Arc::clone(&stop), Arc::clone(&wake));
            spawn(name, move || body(&stop, &wake))?
        };
        Ok(Self { stop, wake, thread: Some(thread) })
    }

    fn wake(&self) {
        let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.wake();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("a guard thread panicked; its marks are gone");
        }
    }
}

/// An eventfd that wakes a poll.
pub(super) fn event_fd() -> Result<OwnedFd, BackendError> {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
        .map_err(|error| BackendError::Io { attempt: "make an eventfd".to_owned(), source: error.into() })
}

/// Starts a thread.
pub(super) fn spawn(
    name: &str,
    body: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, BackendError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map_err(|source| BackendError::Io { attempt: format!("start thread `{name}`"), source })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Directories that appear: each is opened to be looked through, and by its mark that open waits for an answer.
    const DIRECTORIES: usize = 500;
    /// Who waits for ever waits longer.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// No label is looked up: without a policy in force every access is let through.
    fn guard() -> Option<Guard> {
        let labels = Labels::ByProcess(event_fd().expect("an eventfd"));
        let notify = Arc::new(event_fd().expect("an eventfd"));
        Guard::start(labels, super::super::Known::default(), notify).ok()
    }

    #[test]
    fn ends_while_it_looks_through_what_it_has_marked() {
        let Some(guard) = guard() else {
            eprintln!(
                "skipped: ends_while_it_looks_through_what_it_has_marked: fanotify needs CAP_SYS_ADMIN"
            );
            return;
        };
        let mut scratch = tempfile::tempdir().expect("a scratch directory");
        let text = format!(
            "version: 1\nname: t\nmode: enforce\nrules:\n  - {{id: a, kind: file, reason: r, paths: [\"{}/**\"]}}\n",
            scratch.path().display()
        );
        let policy = Arc::new(treeline_policy::parse("t", &text).expect("well-formed"));
        let placed = guard.place(policy, Host::default()).expect("the thread runs");
        assert_eq!((placed.marks, placed.problems.len()), (1, 0));
        for name in 0..DIRECTORIES {
            std::fs::create_dir(scratch.path().join(name.to_string())).expect("a directory");
        }
        let (ended, end) = bounded(1);
        let thread = std::thread::spawn(move || {
            drop(guard);
            let _ = ended.send(());
        });
        if end.recv_timeout(PATIENCE).is_err() {
            // Whoever removed it would wait, too.
            scratch.disable_cleanup(true);
            panic!("one thread waits for the other");
        }
        thread.join().expect("it has ended");
    }
}
