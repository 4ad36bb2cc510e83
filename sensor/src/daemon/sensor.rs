//! The threads of a sensor and the handle that everybody asks.

use std::{
    any::Any,
    collections::BTreeSet,
    os::fd::OwnedFd,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crossbeam_channel::{Sender, bounded};
use ring::rand::{SecureRandom, SystemRandom};
use treeline_event::{Approval, Claims, Notice, ProcessKey, SessionAttributes, SessionId, is_own_rule};

use super::{
    approvals::{Approvals, Ended, Held, NotApproved},
    approve::{self, ApproveError, Ask},
    attempts::Attempts,
    homes::Homes,
    inherit::{self, Resumed},
    marks::Marks,
    pipeline::{Pipeline, PipelineCommand},
    policy::set::LoadedPolicy,
    pulse::Pulse,
    queue::queue,
    seams::{Enrich, Record},
    sessions::{self, Known, KnownSessions},
    source::{self, SourceCommand},
    status::{Board, LogStatus, PolicyStatus, SessionStatus, Status},
};
use crate::{
    backend::{Backend, BackendError, Capabilities, Inherited, Installable, TrackRequest},
    enrich::{
        clock::{Clock as _, SystemClock},
        procfs::ProcFs,
    },
};

/// Commands that wait. Each asker waits for its answer, so this is about contents that become known.
const COMMANDS_MAX: usize = 1024;

/// A thread that is silent for so long hangs: putting a large policy in force takes some seconds, and a slow disk makes
/// them many.
const STUCK_AFTER: Duration = Duration::from_secs(120);

/// Sessions that live at a time. A session is some hundred bytes here; a machine with more has another problem.
const SESSIONS_MAX: usize = 4096;

/// Approvals of one user that hold at a time, so that nobody can keep others from approving.
const APPROVALS_PER_UID_MAX: usize = 16;

/// Sessions of one user that live at a time, so that nobody can keep others from launching.
const SESSIONS_PER_UID_MAX: usize = 1024;

/// Why the sensor did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum SensorError {
    /// The backend refused.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A thread ended; see the error of [`Sensor::stop`].
    #[error("the sensor is stopping")]
    Stopping,
    /// A thread ended with an error or a panic.
    #[error("the {thread} thread ended: {error}")]
    Thread {
        /// Which.
        thread: &'static str,
        /// Its words.
        error: String,
    },
    /// A thread could not be started, or no random number be drawn.
    #[error("cannot {attempt}")]
    Start {
        /// What was attempted.
        attempt: &'static str,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// Too many sessions.
    #[error("{SESSIONS_MAX} sessions are being watched; the bound is reached")]
    TooManySessions,
    /// Too many sessions of one user.
    #[error("{SESSIONS_PER_UID_MAX} sessions of user {uid} are being watched; the bound is reached")]
    TooManySessionsOfUser {
        /// The user.
        uid: u32,
    },
}

/// What a sensor is made of.
pub struct Parts {
    /// Where events come from.
    pub backend: Box<dyn Backend>,
    /// What makes events of them.
    pub enricher: Box<dyn Enrich>,
    /// Where entries go.
    pub log: Box<dyn Record>,
    /// The log's directory, for `status`.
    pub log_dir: PathBuf,
    /// What recovery had to mend.
    pub recovery: Option<String>,
    /// Where what was approved of is kept.
    pub state_dir: PathBuf,
    /// Whether rules that cannot be enforced here are tolerated.
    pub allow_unenforceable: bool,
    /// What is known of sessions that another sensor began.
    pub sessions: KnownSessions,
    /// The copy of the policy that was in force last, with the sensor's own rule, if there is one.
    pub kept: Option<LoadedPolicy>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("log_dir", &self.log_dir).finish_non_exhaustive()
    }
}

/// Somebody who wants to be watched, or to have somebody watched.
#[derive(Debug)]
pub struct Registration {
    /// The process that becomes the root.
    pub pidfd: OwnedFd,
    /// Its identity.
    pub root: ProcessKey,
    /// The user who asks.
    pub uid: u32,
    /// `run`, `claude` or `adopt`.
    pub origin: &'static str,
    /// The command.
    pub command: Vec<String>,
    /// Whether it ran before.
    pub adopt: bool,
    /// What it says of itself.
    pub claims: Claims,
}

#[derive(Debug, Default)]
struct Control {
    homes: Homes,
    sessions: KnownSessions,
    approvals: Approvals,
    policy: Option<LoadedPolicy>,
    generation: u64,
}

impl Control {
    fn new(state_dir: PathBuf) -> Self {
        let (homes, approvals) = (Homes::of_this_machine(), Approvals::new(state_dir));
        Self { homes, approvals, ..Self::default() }
    }
}

/// A running sensor.
#[derive(Debug)]
pub struct Sensor {
    source: Sender<SourceCommand>,
    pipeline: Sender<PipelineCommand>,
    board: Arc<Board>,
    /// Serialises what changes more than one thread's state.
    control: Mutex<Control>,
    attempts: Mutex<Attempts>,
    allow_unenforceable: bool,
    source_thread: Mutex<Option<JoinHandle<Result<(), String>>>>,
    pipeline_thread: Mutex<Option<JoinHandle<Result<(), String>>>>,
    ended: Arc<AtomicBool>,
    pulses: [Arc<Pulse>; 2],
}

impl Sensor {
    /// Starts the threads. The first entry says so.
    ///
    /// # Errors
    /// [`SensorError::Start`], or a thread that ended at once.
    pub fn start(parts: Parts) -> Result<Self, SensorError> {
        let mut backend = parts.backend;
        let (capabilities, inherited) = (backend.capabilities(), backend.inherited()?);
        let board = Arc::new(Board::new(first_status(&capabilities, &parts.log_dir)));
        let (queue_in, queue_out) = queue();
        let (source, source_commands) = bounded(COMMANDS_MAX);
        let (pipeline, pipeline_commands) = bounded(COMMANDS_MAX);
        let ended = Arc::new(AtomicBool::new(false));

        let parts_of_pipeline = Pipeline::new(
            queue_out,
            pipeline_commands,
            source.clone(),
            parts.enricher,
            parts.log,
            Arc::clone(&board),
        );
        let marks = Marks::new(parts_of_pipeline.recorded());
        let pulses = <[Arc<Pulse>; 2]>::default();
        let [pulse_of_pipeline, pulse_of_source] = pulses.clone();
        let pipeline_thread = spawn("pipeline", &ended, move || {
            parts_of_pipeline.run(&pulse_of_pipeline).map_err(|e| e.to_string())
        })?;
        let sensor = Self {
            source,
            pipeline,
            board,
            control: Mutex::new(Control { sessions: parts.sessions, ..Control::new(parts.state_dir) }),
            attempts: Mutex::default(),
            allow_unenforceable: parts.allow_unenforceable,
            source_thread: Mutex::new(None),
            pipeline_thread: Mutex::new(Some(pipeline_thread)),
            ended,
            pulses,
        };
        sensor.note(Notice::Started {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            mode: capabilities.mode,
            kernel: capabilities.kernel,
            hooks: capabilities.hooks,
            recovery: parts.recovery,
        })?;
        // Before the first record is read: it may be of a session and a policy that are inherited.
        if let Some(inherited) = inherited {
            sensor.resume(&inherited, parts.kept.as_ref(), backend.as_mut())?;
        }
        let board_of_source = Arc::clone(&sensor.board);
        let source_thread = spawn("source", &sensor.ended, move || {
            source::run(backend, &source_commands, queue_in, marks, &pulse_of_source, &board_of_source)
                .map_err(|e| chain(&e))
        })?;
        *sensor.source_thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(source_thread);
        Ok(sensor)
    }

    /// Goes on with what another sensor left in force.
    fn resume(
        &self,
        inherited: &Inherited,
        kept: Option<&LoadedPolicy>,
        backend: &mut dyn Backend,
    ) -> Result<(), SensorError> {
        let mut control = self.control();
        control.generation = inherited.generation;
        if let Some(loaded) = inherit::policy(inherited, kept) {
            let policy = Box::new(loaded.policy);
            self.ask(|reply| PipelineCommand::PolicyKnown(inherited.generation, policy, reply))?;
        }
        for Resumed { mut status, members } in inherit::sessions(&inherited.members, &ProcFs::new("/proc")) {
            control.homes.learn(status.uid);
            let known = control.sessions.get(status.session).cloned();
            // What its processes are by now is not who asked for it.
            let attributes = known.as_ref().map(|known| known.attributes.clone()).unwrap_or_default();
            if let Some(known) = known {
                control.homes.learn(known.uid);
                status.uid = known.uid;
                backend.resumed(status.session, Arc::new(known.session()))?;
            }
            self.note(Notice::SessionStarted {
                session: status.session,
                root: status.root,
                uid: status.uid,
                origin: status.origin.clone(),
                command: status.command.clone(),
                attributes,
            })?;
            self.ask(|reply| PipelineCommand::Tracked(status.session, status.root, members, reply))?;
            self.board.update(|board| board.sessions.push(status));
        }
        let lives = self.lives();
        control.approvals.resume(SystemClock.boot_ns(), lives);
        Ok(())
    }

    /// Which sessions live.
    fn lives(&self) -> impl Fn(SessionId) -> bool + use<> {
        let sessions = self.board.snapshot().sessions;
        move |session| sessions.iter().any(|one| one.session == session && one.live > 0)
    }

    /// Lets a denial be approved of for a while.
    ///
    /// # Errors
    /// [`ApproveError`]; what somebody may not is recorded.
    pub fn approve(&self, ask: &Ask) -> Result<Approval, ApproveError> {
        let approved = self.try_to_approve(ask);
        if let Err(error) = &approved
            && let Some(notice) = error.notice(ask)
        {
            match self.attempts().count(ask.asker.uid) {
                true => self.note(notice)?,
                false => {
                    tracing::warn!(
                        uid = ask.asker.uid,
                        "more attempts to approve than are recorded: {error}"
                    );
                }
            }
        }
        approved
    }

    fn try_to_approve(&self, ask: &Ask) -> Result<Approval, ApproveError> {
        let process = ask
            .process
            .try_clone()
            .map_err(|source| SensorError::Start { attempt: "duplicate a descriptor", source })?;
        let of = self.ask_source(|reply| SourceCommand::SessionOf(Arc::new(process), reply))?;
        if let Some(session) = of.map_err(SensorError::from)? {
            return Err(ApproveError::FromSession(session));
        }
        let denial = ask.denial()?;
        let mut control = self.control();
        let Some(loaded) = &control.policy else { return Err(ApproveError::NoPolicy) };
        let now_ns = SystemClock.boot_ns();
        let when = (now_ns, control.generation);
        let held = approve::held(ask, &denial, &loaded.policy, &control.homes, when)?;
        if !self.lives()(denial.session) {
            return Err(ApproveError::Ended(denial.session));
        }
        let told = approve::told(&held);
        let before = control.approvals.list();
        let all = control.approvals.with(held);
        let is_one_more = all.len() > before.len();
        if is_one_more
            && (control.approvals.is_full()
                || control.approvals.of_user(ask.asker.uid) >= APPROVALS_PER_UID_MAX)
        {
            return Err(NotApproved::TooMany.into());
        }
        // What is not recorded is not done.
        self.note(Notice::Approved { approval: told.clone(), by: ask.asker.clone() })?;
        let list = all.iter().map(|held| held.approved.clone()).collect();
        if let Err(error) = self.ask_source(|reply| SourceCommand::Approve(list, reply))? {
            let reason = format!("it could not be put in force: {}", chain(&error));
            self.note(Notice::ApprovalEnded { denial: ask.denial, session: denial.session, reason })?;
            drop(self.ask_source(|reply| SourceCommand::Approve(before, reply))?);
            return Err(SensorError::from(error).into());
        }
        control.approvals.set(all);
        Ok(told)
    }

    /// Says of approvals that have ended that they have. The kernel does not wait for it.
    ///
    /// # Errors
    /// [`SensorError::Stopping`].
    pub fn end_approvals(&self) -> Result<(), SensorError> {
        let mut control = self.control();
        if control.approvals.is_empty() {
            return Ok(());
        }
        let ended = control.approvals.ended(SystemClock.boot_ns(), self.lives());
        let Some(Ended { left, ended }) = ended else { return Ok(()) };
        let list = left.iter().map(|held| held.approved.clone()).collect();
        self.ask_source(|reply| SourceCommand::Approve(list, reply))??;
        control.approvals.set(left);
        ended.into_iter().try_for_each(|(held, reason)| self.say_ended(&held, reason))
    }

    fn say_ended(&self, held: &Held, reason: &str) -> Result<(), SensorError> {
        let (denial, session) = (held.approved.denial, held.approved.session);
        self.note(Notice::ApprovalEnded { denial, session, reason: reason.to_owned() })
    }

    /// Whether a thread ended by itself, so that the sensor has to be stopped.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Whether a thread has not gone round its loop for longer than anything that it does may take.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        self.pulses.iter().any(|pulse| pulse.age() > STUCK_AFTER)
    }

    /// The state now.
    #[must_use]
    pub fn status(&self) -> Status {
        self.board.snapshot()
    }

    /// Puts a policy in force. When it is refused, that is recorded and the one before stays.
    ///
    /// # Errors
    /// [`BackendError::Policy`] in [`SensorError::Backend`], or [`SensorError::Stopping`].
    pub fn apply_policy(&self, loaded: LoadedPolicy) -> Result<(), SensorError> {
        self.reapply_policy(loaded)?;
        self.board.update(|status| status.policy_refused = None);
        Ok(())
    }

    /// The same for a policy that is not what the author wrote last: that this was refused stays to be seen.
    ///
    /// # Errors
    /// As [`Self::apply_policy`].
    pub fn reapply_policy(&self, loaded: LoadedPolicy) -> Result<(), SensorError> {
        let mut control = self.control();
        let sha256 = loaded.sha256.clone();
        let result = self.install(&mut control, loaded);
        if let Err(SensorError::Backend(error)) = &result {
            self.refuse_policy(sha256, chain(error))?;
        }
        result
    }

    /// Records that a policy was refused before it could be tried.
    ///
    /// # Errors
    /// [`SensorError::Stopping`].
    pub fn refuse_policy(&self, sha256: String, error: String) -> Result<(), SensorError> {
        self.board.update(|status| status.policy_refused = Some(error.clone()));
        self.note(Notice::PolicyRejected { sha256, error })
    }

    fn install(&self, control: &mut Control, loaded: LoadedPolicy) -> Result<(), SensorError> {
        let generation = control.generation + 1;
        // Verdicts of this generation can arrive before the installation has answered.
        self.ask(|reply| PipelineCommand::PolicyKnown(generation, Box::new(loaded.policy.clone()), reply))?;
        let (kept, ended) = control.approvals.under(&loaded.policy, &approve::host(&control.homes));
        let installable = Box::new(Installable {
            policy: loaded.policy.clone(),
            sha256: loaded.sha256.clone(),
            generation,
            homes: control.homes.list(),
            allow_unenforceable: self.allow_unenforceable,
            approved: kept.iter().map(|held| held.approved.clone()).collect(),
        });
        // A refused generation is not used again: the pipeline knows its number already.
        control.generation = generation;
        let mut rules = self.ask_source(|reply| SourceCommand::Install(installable, reply))??;
        let parts = loaded.parts();
        for status in rules.iter_mut().filter(|status| !parts.is_empty() && !is_own_rule(&status.rule)) {
            status.policy = loaded.policy.rule(&status.rule).map(|rule| rule.policy.to_string());
        }
        let status = PolicyStatus {
            generation,
            name: loaded.policy.name.clone(),
            sha256: loaded.sha256.clone(),
            revision: loaded.policy.revision,
            signed_by: loaded
                .parts
                .first()
                .and_then(|first| first.signed.as_ref())
                .map(|signed| signed.key.clone()),
            parts,
            rules,
        };
        control.policy = Some(loaded);
        control.approvals.set(kept);
        self.board.update(|board| board.policy = Some(status.clone()));
        self.note(status.applied())?;
        ended.iter().try_for_each(|held| self.say_ended(held, "the policy has changed"))
    }

    /// Begins a session.
    ///
    /// # Errors
    /// The process is gone, or the sensor is stopping.
    pub fn register(&self, registration: Registration) -> Result<SessionId, SensorError> {
        // A user database can take its time.
        let own = sessions::attributes(registration.uid, registration.claims.clone());
        let mut control = self.control();
        // `~` in rules stands for the homes of everybody who runs agents, also of users that no file lists.
        if control.homes.learn(registration.uid)
            && let Some(policy) = control.policy.clone()
            && let Err(error) = self.install(&mut control, policy)
        {
            // Otherwise the next launch would go on with rules that do not know the home.
            control.homes.forget(registration.uid);
            return Err(error);
        }
        self.forget_ended_sessions(&mut control)?;
        refuse_too_many(&self.board.snapshot().sessions, registration.uid)?;
        let session = random_session()?;
        let Registration { pidfd, root, uid, origin, command, adopt, claims: _ } = registration;
        let pidfd = Arc::new(pidfd);
        let attributes = self.attributes(&control, &pidfd, own)?;
        let known = Known { uid, attributes: attributes.clone() };
        let facts = Arc::new(known.session());
        control.sessions.add(session, known);
        // Before the label: no event of a session may come before the entry that says whose it is.
        self.note(Notice::SessionStarted {
            session,
            root,
            uid,
            origin: origin.to_owned(),
            command: command.clone(),
            attributes,
        })?;
        self.ask(|reply| PipelineCommand::Tracked(session, root, Vec::new(), reply))?;
        let request = TrackRequest { session, pidfd, pid: root.pid, adopt, known: facts };
        let members = match self.ask_source(|reply| SourceCommand::Track(request, reply))? {
            Ok(members) => members,
            Err(error) => {
                self.note(Notice::SessionEnded { session })?;
                return Err(error.into());
            }
        };
        self.ask(|reply| PipelineCommand::Tracked(session, root, members, reply))?;
        let status = SessionStatus { session, uid, origin: origin.to_owned(), command, root, live: 1 };
        self.board.update(|board| board.sessions.push(status));
        Ok(session)
    }

    /// What is known of a new session. One that begins within another is what that one is: nobody becomes somebody else by
    /// beginning again.
    fn attributes(
        &self,
        control: &Control,
        pidfd: &Arc<OwnedFd>,
        own: SessionAttributes,
    ) -> Result<SessionAttributes, SensorError> {
        match self.ask_source(|reply| SourceCommand::SessionOf(Arc::clone(pidfd), reply))?? {
            None => Ok(own),
            Some(outer) => {
                let known = control.sessions.get(outer).map(|known| known.attributes.clone());
                Ok(SessionAttributes { within: Some(outer), ..known.unwrap_or_default() })
            }
        }
    }

    /// `live` is kept by the pipeline's tick; a session without processes is only in the log.
    fn forget_ended_sessions(&self, control: &mut Control) -> Result<(), SensorError> {
        let mut live = BTreeSet::new();
        self.board.update(|board| {
            board.sessions.retain(|session| session.live > 0);
            live = board.sessions.iter().map(|session| session.session).collect();
        });
        let ended = control.sessions.retain(&live);
        if ended.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.ask_source(|reply| SourceCommand::Forget(ended, reply))? {
            tracing::warn!("sessions that have ended stay in the kernel's table: {}", chain(&error));
        }
        Ok(())
    }

    /// Records and signs everything that has happened until now.
    ///
    /// # Errors
    /// [`SensorError::Stopping`].
    pub fn drain(&self) -> Result<(), SensorError> {
        self.ask_source(SourceCommand::Drain)?;
        self.ask(PipelineCommand::Flush)
    }

    /// Ends everything in order: the source delivers what it has and detaches, the pipeline records it and signs a
    /// last checkpoint.
    ///
    /// # Errors
    /// What a thread ended with, also when that was earlier.
    pub fn stop(&self, reason: &str) -> Result<(), SensorError> {
        drop(self.source.send(SourceCommand::Stop));
        let source = join("source", &self.source_thread);
        let reason = match &source {
            Ok(()) => reason.to_owned(),
            Err(error) => error.to_string(),
        };
        drop(self.pipeline.send(PipelineCommand::Stop(reason)));
        let pipeline = join("pipeline", &self.pipeline_thread);
        source.and(pipeline)
    }

    fn attempts(&self) -> MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, notice: Notice) -> Result<(), SensorError> {
        self.ask(|reply| PipelineCommand::Note(Box::new(notice), reply))
    }

    fn ask(&self, command: impl FnOnce(Sender<()>) -> PipelineCommand) -> Result<(), SensorError> {
        let (reply, answer) = bounded(1);
        self.pipeline.send(command(reply)).map_err(|_| SensorError::Stopping)?;
        answer.recv().map_err(|_| SensorError::Stopping)
    }

    fn ask_source<T>(&self, command: impl FnOnce(Sender<T>) -> SourceCommand) -> Result<T, SensorError> {
        let (reply, answer) = bounded(1);
        self.source.send(command(reply)).map_err(|_| SensorError::Stopping)?;
        answer.recv().map_err(|_| SensorError::Stopping)
    }
}

/// What there is to say before anything has happened.
fn first_status(capabilities: &Capabilities, log_dir: &Path) -> Status {
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        mode: capabilities.mode,
        kernel: capabilities.kernel.clone(),
        hooks: capabilities.hooks.clone(),
        policy: None,
        policy_refused: None,
        sessions: Vec::new(),
        log: LogStatus { dir: log_dir.display().to_string(), ..LogStatus::default() },
        denied: 0,
        loss: Vec::new(),
        queued: 0,
        records: Vec::new(),
        programs: Vec::new(),
    }
}

/// Whether a user may have one more session.
fn refuse_too_many(sessions: &[SessionStatus], uid: u32) -> Result<(), SensorError> {
    if sessions.iter().filter(|session| session.uid == uid).count() >= SESSIONS_PER_UID_MAX {
        return Err(SensorError::TooManySessionsOfUser { uid });
    }
    if sessions.len() >= SESSIONS_MAX {
        return Err(SensorError::TooManySessions);
    }
    Ok(())
}

fn spawn(
    name: &'static str,
    ended: &Arc<AtomicBool>,
    body: impl FnOnce() -> Result<(), String> + Send + 'static,
) -> Result<JoinHandle<Result<(), String>>, SensorError> {
    let ended = Arc::clone(ended);
    let body = move || {
        let result = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| Err(panic_words(&*panic)));
        if let Err(error) = &result {
            tracing::error!(thread = name, "a thread ended: {error}");
        }
        ended.store(true, Ordering::Release);
        result
    };
    let attempt = "start a thread";
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map_err(|source| SensorError::Start { attempt, source })
}

fn join(
    thread: &'static str,
    handle: &Mutex<Option<JoinHandle<Result<(), String>>>>,
) -> Result<(), SensorError> {
    let handle = handle.lock().unwrap_or_else(PoisonError::into_inner).take();
    let result =
        handle.map_or(Ok(()), |handle| handle.join().unwrap_or_else(|panic| Err(panic_words(&*panic))));
    result.map_err(|error| SensorError::Thread { thread, error })
}

/// What a panic said.
pub(super) fn panic_words(panic: &(dyn Any + Send)) -> String {
    let words = panic.downcast_ref::<&str>().map(|words| (*words).to_owned());
    let words = words.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("panic: {}", words.as_deref().unwrap_or("without words"))
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line = format!("{line}: {error}");
        cause = error.source();
    }
    line
}

fn random_session() -> Result<SessionId, SensorError> {
    let mut bytes = [0; 8];
    loop {
        SystemRandom::new().fill(&mut bytes).map_err(|_| SensorError::Start {
            attempt: "draw a session id",
            source: std::io::Error::other("the system gave no random bytes"),
        })?;
        match u64::from_le_bytes(bytes) {
            0 => {}
            id => return Ok(SessionId(id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_cannot_take_all_sessions() {
        let check = |counts: &[(u32, usize)], uid: u32, expected: Option<&str>| {
            let session = |uid: u32| SessionStatus {
                session: SessionId(1),
                uid,
                origin: "run".to_owned(),
                command: Vec::new(),
                root: ProcessKey { pid: 1, start_ticks: 1 },
                live: 1,
            };
            let sessions: Vec<_> =
                counts.iter().flat_map(|(uid, count)| vec![session(*uid); *count]).collect();
            let error = refuse_too_many(&sessions, uid).err().map(|error| error.to_string());
            assert_eq!(error.as_deref(), expected);
        };
        let full = Some("1024 sessions of user 1000 are being watched; the bound is reached");
        check(&[], 1000, None);
        check(&[(1000, 1023), (0, 7)], 1000, None);
        check(&[(1000, 1024)], 1000, full);
        check(&[(1000, 1024)], 1001, None);
        let everybody = Some("4096 sessions are being watched; the bound is reached");
        check(&[(1, 1024), (2, 1024), (3, 1024), (4, 1023)], 5, None);
        check(&[(1, 1024), (2, 1024), (3, 1024), (4, 1024)], 5, everybody);
    }
}
