//! Exec rules by SHA-256: whoever is about to execute a file that nobody knows waits until its content is known.
//!
//! While a policy refuses contents and a tracked process lives, fanotify marks whole filesystems for opens in order to
//! execute (`FAN_OPEN_EXEC_PERM`, Linux 5.0). Whoever is in no session is answered at once. For everybody else the file
//! that the kernel handed over with the event, which no name can be moved away from, is read while nobody can write to it
//! (`measure.rs`), and what it is goes into the kernel's table before the answer (`contents.rs`). In modes `lsm` and
//! `fmod_ret` that is no verdict: the hook that comes after the open looks the file up, and refuses what is not there. So
//! every failure here, of a thread or of the whole sensor, ends in a refusal. In mode `fallback` the answer is the verdict.
//!
//! One thread answers, two read (small files do not wait for large ones), one looks after filesystems that appear. The
//! answering thread waits for none of them: what takes longer than [`PATIENCE`] is answered without being known.

mod answer;
mod contents;
mod measure;
mod places;

use std::{
    os::fd::{AsFd as _, OwnedFd},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use crossbeam_channel::{Sender, bounded};
use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, Response};
use treeline_event::{FileId, PathBytes};

pub(super) use self::contents::Contents;
use self::{
    answer::{Answering, Job, Lanes},
    places::Places,
};
use super::{
    guard::{self, Reporter},
    labels::Labels,
    sys,
};
use crate::backend::BackendError;

/// How long an execution waits for its file at the most. The largest agent has 381 MB, which take two seconds without
/// instructions for SHA-256; four times that under load.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Processes whose mounts are to be looked at: more than mount something between two looks. What does not fit is looked at
/// when it next executes something.
const LOOKS_MAX: usize = 64;

/// Who decides.
#[derive(Clone)]
pub(super) enum Decides {
    /// The hook that comes after the open.
    Hook,
    /// The answer.
    Answer(Reporter),
}

impl Decides {
    /// The answer when nothing can be said.
    fn at_a_loss(&self) -> Response {
        match self {
            Self::Hook => Response::FAN_ALLOW,
            Self::Answer(_) => Response::FAN_DENY,
        }
    }
}

/// Holds executions.
pub(super) struct Hold {
    stop: Arc<AtomicBool>,
    wake: Arc<OwnedFd>,
    threads: Vec<JoinHandle<()>>,
    places: Arc<Places>,
    lanes: Lanes,
    looks: Sender<u32>,
    contents: Arc<Mutex<Contents>>,
}

impl Hold {
    /// Starts to answer. Nothing is marked yet.
    ///
    /// # Errors
    /// [`BackendError::Unsupported`] when the kernel has no permission events.
    pub(super) fn start(
        labels: Labels,
        contents: Arc<Mutex<Contents>>,
        decides: Decides,
    ) -> Result<Self, BackendError> {
        // Whoever waits for a lease would otherwise end this process.
        sys::ignore_lease_breaks()
            .map_err(|source| BackendError::Io { attempt: "set a handler for SIGIO".to_owned(), source })?;
        let flags = InitFlags::FAN_CLASS_CONTENT
            | InitFlags::FAN_CLOEXEC
            | InitFlags::FAN_NONBLOCK
            | InitFlags::FAN_UNLIMITED_QUEUE
            | InitFlags::FAN_UNLIMITED_MARKS;
        let events = EventFFlags::O_RDONLY | EventFFlags::O_LARGEFILE | EventFFlags::O_CLOEXEC;
        let group = Fanotify::init(flags, events).map_err(|error| {
            BackendError::Unsupported(format!(
                "cannot hold executions for rules by SHA-256 (fanotify_init: {error}): the kernel needs \
                 CONFIG_FANOTIFY_ACCESS_PERMISSIONS and the sensor CAP_SYS_ADMIN"
            ))
        })?;
        let group = Arc::new(group);
        let (stop, wake) = (Arc::new(AtomicBool::new(false)), Arc::new(guard::event_fd()?));
        let places = Arc::new(Places::new(Arc::clone(&group)));
        let (looks, pids) = bounded(LOOKS_MAX);
        let shared = Arc::new(answer::Shared {
            group,
            contents: Arc::clone(&contents),
            labels,
            decides,
            stop: Arc::clone(&stop),
        });
        let (lanes, mut threads) = answer::lanes(&shared)?;
        let mut answering = Answering::new(Arc::clone(&shared), lanes.clone(), looks.clone());
        {
            let wake = Arc::clone(&wake);
            threads.push(guard::spawn("hold-answer", move || answering.serve(&wake))?);
        }
        {
            let (places, stop) = (Arc::clone(&places), Arc::clone(&stop));
            // Not waited for at the end: a filesystem that somebody serves may keep it.
            drop(guard::spawn("hold-places", move || places.serve(&pids, &stop))?);
        }
        Ok(Self { stop, wake, threads, places, lanes, looks, contents })
    }

    /// Marks every filesystem that programs can be executed from, if it has not been done.
    ///
    /// # Errors
    /// [`BackendError::Io`] when no mark can be placed.
    pub(super) fn begin(&self) -> Result<(), BackendError> {
        self.places.begin()
    }

    /// Takes the marks away.
    pub(super) fn end(&self) {
        self.places.end();
    }

    /// Whether there are marks.
    pub(super) fn is_active(&self) -> bool {
        self.places.is_active()
    }

    /// Has the mounts of a process looked at, which has mounted something or was refused something that is nowhere known.
    pub(super) fn look_at(&self, pid: u32) {
        let _ = self.looks.try_send(pid);
    }

    /// Has a file read in the background, unless it is known. It may be executed, or be mapped again.
    pub(super) fn want(&self, path: &PathBytes, file: &FileId) {
        let known = self.contents.lock().unwrap_or_else(PoisonError::into_inner).is_sure(file);
        if !known {
            self.lanes.send(file.size, Job::Want { path: path.clone(), file: *file });
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let _ = rustix::io::write(self.wake.as_fd(), &1u64.to_ne_bytes());
        self.lanes.close();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread that holds executions panicked; what is not known is refused");
            }
        }
    }
}
