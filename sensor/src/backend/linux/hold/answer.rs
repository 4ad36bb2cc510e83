//! The threads that answer, and those that read meanwhile.

use std::{
    collections::VecDeque,
    fs::File,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStringExt as _,
    },
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use nix::{
    errno::Errno,
    sys::fanotify::{Fanotify, FanotifyEvent, FanotifyResponse, Response},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::OFlags,
};
use treeline_abi::Label;
use treeline_event::{FileId, PathBytes};

use super::{
    Contents, Decides, PATIENCE,
    measure::{self, Lease, Unknown, measure},
};
use crate::{
    backend::{
        BackendError,
        linux::{guard, labels::Labels},
    },
    enrich::{
        hash::identity::{Mounts, identity, identity_in},
        procfs::hold,
    },
};

/// Executions that wait for one thread. Each holds a descriptor. What finds no room is answered without being known.
const JOBS_MAX: usize = 256;

/// Largest file of the quick lane, in bytes, as in the background's (`enrich::hash`).
const SMALL_LEN_MAX: u64 = 16 * 1024 * 1024;

/// How often it is looked whether somebody has waited too long.
const LOOK_INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// How long it waits after an error before it tries again.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// How long writers are kept away after the answer where nobody looks again: the kernel, which has opened the file then,
/// itself keeps them away from what it executes, as its next step.
const LINGER: Duration = Duration::from_millis(250);

/// Files that nobody may write to for that reason. With more at once the oldest is let go.
const LINGERING_MAX: usize = 64;

/// What the threads have in common.
pub(super) struct Shared {
    pub(super) group: Arc<Fanotify>,
    pub(super) contents: Arc<Mutex<Contents>>,
    pub(super) labels: Labels,
    pub(super) decides: Decides,
    pub(super) stop: Arc<AtomicBool>,
}

/// Something to be read.
pub(super) enum Job {
    /// Somebody waits for it.
    Held(Arc<Ticket>),
    /// It may be wanted soon.
    Want {
        /// Where it is.
        path: PathBytes,
        /// Which it is.
        file: FileId,
    },
}

/// An execution that waits. Whoever takes the event out answers it.
pub(super) struct Ticket {
    event: Mutex<Option<FanotifyEvent>>,
    file: File,
    pid: i32,
    label: Label,
    since: Instant,
}

/// What becomes of an event.
enum Look {
    /// It is answered at once.
    Answer(Response),
    /// The file is to be read first.
    Read(File, Label),
}

/// The threads that read.
#[derive(Clone)]
pub(super) struct Lanes {
    small: Sender<Job>,
    large: Sender<Job>,
    stop: Arc<AtomicBool>,
}

impl Lanes {
    /// False when there is no room.
    pub(super) fn send(&self, size: u64, job: Job) -> bool {
        let lane = if size > SMALL_LEN_MAX { &self.large } else { &self.small };
        lane.try_send(job).is_ok()
    }

    /// Has the threads end; they look every second at the latest.
    pub(super) fn close(&self) {
        self.stop.store(true, Ordering::Release);
    }
}

/// Starts the threads that read.
///
/// # Errors
/// [`BackendError::Io`].
pub(super) fn lanes(shared: &Arc<Shared>) -> Result<(Lanes, Vec<JoinHandle<()>>), BackendError> {
    let (small, small_jobs) = bounded(JOBS_MAX);
    let (large, large_jobs) = bounded(JOBS_MAX);
    let mut threads = Vec::new();
    for (name, jobs) in [("hold-small", small_jobs), ("hold-large", large_jobs)] {
        let shared = Arc::clone(shared);
        threads.push(guard::spawn(name, move || work(&shared, &jobs))?);
    }
    Ok((Lanes { small, large, stop: Arc::clone(&shared.stop) }, threads))
}

/// Answers.
pub(super) struct Answering {
    shared: Arc<Shared>,
    lanes: Lanes,
    looks: Sender<u32>,
    tickets: VecDeque<Arc<Ticket>>,
    own_pid: i32,
    own_namespace: Option<PathBuf>,
}

impl Answering {
    pub(super) fn new(shared: Arc<Shared>, lanes: Lanes, looks: Sender<u32>) -> Self {
        let own_namespace = std::fs::read_link("/proc/self/ns/mnt").ok();
        let own_pid = rustix::process::getpid().as_raw_nonzero().get();
        Self { shared, lanes, looks, tickets: VecDeque::new(), own_pid, own_namespace }
    }

    /// Answers until stopped.
    pub(super) fn serve(&mut self, wake: &OwnedFd) {
        let group = Arc::clone(&self.shared.group);
        while !self.shared.stop.load(Ordering::Acquire) {
            let mut waiting = [PollFd::new(&*group, PollFlags::IN), PollFd::new(wake, PollFlags::IN)];
            let timeout = (!self.tickets.is_empty()).then_some(&LOOK_INTERVAL);
            if poll(&mut waiting, timeout).is_err() {
                continue;
            }
            match group.read_events() {
                Ok(events) => events.into_iter().for_each(|event| self.take(event)),
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(error) => {
                    tracing::error!(%error, "executions that wait cannot be read");
                    std::thread::sleep(RETRY_INTERVAL);
                }
            }
            self.end_patience();
        }
    }

    /// Whoever waits must get an answer: a panic over one event is the answer for what is not known.
    fn take(&mut self, event: FanotifyEvent) {
        let looked = catch_unwind(AssertUnwindSafe(|| self.look(&event)));
        let (file, label) = match looked {
            Ok(Look::Answer(response)) => return self.shared.respond(&event, response),
            Ok(Look::Read(file, label)) => (file, label),
            Err(_) => {
                tracing::error!(pid = event.pid(), "an execution that waits could not be looked at");
                return self.shared.respond(&event, self.shared.decides.at_a_loss());
            }
        };
        let size = file.metadata().map_or(0, |found| found.len());
        let (pid, event) = (event.pid(), Mutex::new(Some(event)));
        let ticket = Arc::new(Ticket { event, file, pid, label, since: Instant::now() });
        if self.lanes.send(size, Job::Held(Arc::clone(&ticket))) {
            self.tickets.push_back(ticket);
        } else {
            self.shared.give_up(&ticket, "too many wait");
        }
    }

    fn look(&self, event: &FanotifyEvent) -> Look {
        let pid = event.pid();
        let label = if pid == self.own_pid { None } else { self.shared.label(pid) };
        let (Some(label), Some(fd)) = (label, event.fd()) else {
            return Look::Answer(Response::FAN_ALLOW);
        };
        self.look_at(pid);
        let by_hook = matches!(self.shared.decides, Decides::Hook);
        let is_known = || {
            let file = identity_in(fd, Mounts::Of(pid as u32));
            file.is_ok_and(|file| self.shared.contents().sure(&file, true).is_some())
        };
        if by_hook && is_known() {
            return Look::Answer(Response::FAN_ALLOW);
        }
        match fd.try_clone_to_owned() {
            Ok(file) => Look::Read(File::from(file), label),
            Err(_) => Look::Answer(self.shared.verdict(fd, pid, &label, None)),
        }
    }

    /// Whoever has waited too long is answered all the same.
    fn end_patience(&mut self) {
        while let Some(ticket) = self.tickets.front() {
            if ticket.since.elapsed() >= PATIENCE {
                self.shared.give_up(ticket, "it could not be read in time");
            } else if ticket.is_open() {
                return;
            }
            self.tickets.pop_front();
        }
    }

    /// A process in a mount namespace of its own may execute from filesystems that have no mark.
    fn look_at(&self, pid: i32) {
        let namespace = std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
        if namespace != self.own_namespace {
            let _ = self.looks.try_send(pid as u32);
        }
    }
}

impl Ticket {
    fn is_open(&self) -> bool {
        self.event.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn close(&self) -> Option<FanotifyEvent> {
        self.event.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Shared {
    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The label of a process; none for whom no session has. One that cannot be asked for was killed while it waited.
    fn label(&self, pid: i32) -> Option<Label> {
        let pidfd = guard::pidfd(pid).ok()?;
        self.labels.label(pidfd.as_fd()).ok().flatten()
    }

    fn respond(&self, event: &FanotifyEvent, response: Response) {
        let Some(fd) = event.fd() else { return };
        if let Err(error) = self.group.write_response(FanotifyResponse::new(fd, response)) {
            tracing::warn!(%error, pid = event.pid(), "an execution that waits could not be answered");
        }
    }

    /// The answer for a file with this content, or one of which nothing is known: that the hook, which comes after the
    /// open, refuses by itself.
    fn verdict(&self, file: BorrowedFd<'_>, pid: i32, label: &Label, sha256: Option<[u8; 32]>) -> Response {
        match &self.decides {
            Decides::Hook => Response::FAN_ALLOW,
            Decides::Answer(reporter) if reporter.refuses(file, pid, label, sha256) => Response::FAN_DENY,
            Decides::Answer(_) => Response::FAN_ALLOW,
        }
    }

    fn give_up(&self, ticket: &Ticket, why: &str) {
        let Some(event) = ticket.close() else { return };
        tracing::debug!(pid = ticket.pid, "a file that is executed is not known: {why}");
        self.respond(&event, self.verdict(ticket.file.as_fd(), ticket.pid, &ticket.label, None));
    }

    /// Reads the file that somebody waits for, and answers. Returns the lease where writers are to be kept away still.
    fn settle(&self, ticket: &Arc<Ticket>) -> Option<Lease<File>> {
        let mounts = Mounts::Of(ticket.pid as u32);
        match self.known(&ticket.file, mounts, ticket.since + PATIENCE) {
            Ok((sha256, lease)) => {
                if let Some(event) = ticket.close() {
                    let response = self.verdict(ticket.file.as_fd(), ticket.pid, &ticket.label, Some(sha256));
                    self.respond(&event, response);
                }
                matches!(self.decides, Decides::Answer(_)).then_some(lease)
            }
            Err(why) => {
                self.give_up(ticket, &why.to_string());
                None
            }
        }
    }

    /// What a file holds; it is read unless that is known. Nobody writes to it as long as the lease lives.
    fn known(&self, file: &File, mounts: Mounts, until: Instant) -> Result<([u8; 32], Lease<File>), Unknown> {
        measure::vouches(file.as_fd())?;
        let found = identity_in(file, mounts)?;
        let by_hook = matches!(self.decides, Decides::Hook);
        // Before the lease: whoever opens it for writing later counts once more.
        let writers = self.contents().writers(&found).map_err(std::io::Error::other)?;
        let lease = Lease::take(file.try_clone()?)?;
        let found = identity_in(file, mounts)?;
        if let Some(sha256) = self.contents().sure(&found, by_hook) {
            return Ok((sha256, lease));
        }
        let measured = measure(file, &lease, mounts, writers, until)?;
        let path = path_of(file, &measured.file);
        self.contents()
            .learn(&measured.file, measured.sha256, path, measured.flags, measured.writers)
            .map_err(std::io::Error::other)?;
        Ok((measured.sha256, lease))
    }

    /// Reads a file that may be wanted soon. Nobody waits for it.
    fn read_ahead(&self, path: &PathBytes, expect: &FileId) {
        use std::os::unix::ffi::OsStrExt as _;
        let path = std::path::Path::new(std::ffi::OsStr::from_bytes(path.as_bytes()));
        let file = hold(path, OFlags::NOFOLLOW).and_then(|held| {
            if identity(&held)? != *expect {
                return Err(std::io::ErrorKind::NotFound.into());
            }
            crate::enrich::hash::reopen(&held)
        });
        if let Ok(file) = file
            && let Err(why) = self.known(&file, Mounts::Own, Instant::now() + PATIENCE)
        {
            tracing::debug!(path = %path.display(), "not read ahead: {why}");
        }
    }
}

/// The name of an open file, if it leads to the file here, too.
fn path_of(file: &File, expect: &FileId) -> PathBytes {
    use std::os::fd::AsRawFd as _;
    let link = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let Ok(path) = link else { return PathBytes::default() };
    let is_here = hold(&path, OFlags::NOFOLLOW).and_then(identity).is_ok_and(|found| found == *expect);
    if is_here { path.into_os_string().into_vec().into() } else { PathBytes::default() }
}

fn work(shared: &Shared, jobs: &Receiver<Job>) {
    let mut lingering: VecDeque<(Instant, Lease<File>)> = VecDeque::new();
    while !shared.stop.load(Ordering::Acquire) {
        lingering.retain(|(since, _)| since.elapsed() < LINGER);
        let wait = if lingering.is_empty() { Duration::from_secs(1) } else { LINGER / 4 };
        let job = match jobs.recv_timeout(wait) {
            Ok(job) => job,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        match job {
            Job::Held(ticket) => {
                let settled = catch_unwind(AssertUnwindSafe(|| shared.settle(&ticket)));
                if settled.is_err()
                    && let Some(event) = ticket.close()
                {
                    tracing::error!(pid = ticket.pid, "a file that is executed could not be read");
                    shared.respond(&event, shared.decides.at_a_loss());
                }
                if let Ok(Some(lease)) = settled {
                    if lingering.len() >= LINGERING_MAX {
                        lingering.pop_front();
                    }
                    lingering.push_back((Instant::now(), lease));
                }
            }
            Job::Want { path, file } => {
                let read = catch_unwind(AssertUnwindSafe(|| shared.read_ahead(&path, &file)));
                if read.is_err() {
                    tracing::error!("a file could not be read ahead");
                }
            }
        }
    }
}
