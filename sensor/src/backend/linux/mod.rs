//! The Linux backend: kernel programs loaded with aya, and fanotify where they cannot refuse.

mod bpf;
mod collect;
mod coverage;
pub(crate) mod decode;
mod doctor;
mod fmod_ret;
mod former;
mod grants;
mod guard;
mod held;
mod hold;
mod hooks;
mod install;
mod itself;
mod labels;
mod links;
mod load;
mod loaded;
mod messages;
pub(crate) mod mounts;
mod named;
mod object;
mod offsets;
mod parity;
pub mod pins;
mod programs;
mod release;
mod relocated;
mod resolve;
mod rings;
mod sessions;
mod suited;
mod sys;
mod tables;
mod totals;
mod track;

use std::{
    collections::{HashMap, VecDeque},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use aya::{Btf, Ebpf};
use treeline_abi::paths::FileKey;
use treeline_event::{
    AttachMode, FileId, HookState, HookStatus, PathBytes, ProcessKey, RuleStatus, SessionId,
};
use treeline_policy::{Policy, Session, Tables};

pub use self::{
    coverage::{coverage_of, full_coverage_of, is_hopeless, is_refused},
    doctor::{Check, CheckState, checks},
    parity::parity,
};
use self::{
    decode::Decoder,
    fmod_ret::Modifying,
    former::Former,
    grants::Approvals,
    guard::Guard,
    hold::{Contents, Hold},
    install::LinksSearch,
    labels::Labels,
    loaded::Loaded,
    messages::Messages,
    mounts::MountTable,
    offsets::{Kernel, OffsetsError},
    pins::Pins,
    programs::Programs,
    rings::Rings,
    sessions::Sessions,
    tables::KernelTables,
    track::Beginning,
};
pub(crate) use self::{
    parity::{DecisionRate, decision_rate, sample_rule},
    sys::pass_on_broken_pipes,
};
use super::{
    Approved, Backend, BackendError, Capabilities, Delivery, Inherited, Installable, KindCount, Mark,
    ProgramRuns, StartReport, TrackRequest,
};

/// How the backend is to start.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The attach mode; none for the best one that this kernel allows.
    pub mode: Option<AttachMode>,
    /// Where programs and maps are pinned, so that they stay when this process ends; none where they shall not.
    pub pins: Option<std::path::PathBuf>,
}

/// How often freed memory is given back at the most; it takes about a millisecond.
const TIDY_INTERVAL: Duration = Duration::from_secs(5);

/// The same while there is no quiet moment: what is allocated and freed all the time spreads over what the allocator has.
const TIDY_INTERVAL_BUSY: Duration = Duration::from_secs(60);

/// How exactly the next sensor can say since when nobody read.
const BEAT_INTERVAL: Duration = Duration::from_secs(1);

/// The same of what this one had taken and not recorded, when that changes.
const RECORDED_INTERVAL: Duration = Duration::from_millis(10);

/// How often the mount table is looked at again.
const MOUNTS_INTERVAL: Duration = Duration::from_secs(1);

/// Contents by identity, for rules by SHA-256.
type Known = Arc<Mutex<Contents>>;

/// The policy in force and what belongs to it.
struct InForce {
    installable: Installable,
    policy: Arc<Policy>,
    tables: Arc<Tables>,
    links: LinksSearch,
}

/// Kernel programs, rings and guard.
pub struct LinuxBackend {
    ebpf: Ebpf,
    /// What is attached beside aya, as long as it lives.
    _modifying: Option<Modifying>,
    programs: Programs,
    /// What stays when this process ends.
    pins: Option<Pins>,
    /// Whether another sensor's process loaded what is in the kernel.
    is_taken_over: bool,
    /// What another build left, until the policy is in force here, too.
    former: Option<Former>,
    /// Its records, until the rings are read for the first time.
    handed_on: Vec<Delivery>,
    mode: AttachMode,
    hooks: Vec<HookStatus>,
    start: StartReport,
    rings: Rings,
    decoder: Decoder,
    mounts_read: Instant,
    kernel_tables: KernelTables,
    in_force: Option<InForce>,
    /// What somebody has approved of; the guard has it, too.
    approvals: Approvals,
    /// Refuses in mode `fallback`.
    guard: Option<Arc<Guard>>,
    /// What was collected and not delivered yet.
    collected: Vec<Delivery>,
    /// Refusals that are younger than the latest look at the rings.
    later: Vec<Delivery>,
    labels: Labels,
    /// Files whose content is known, for rules by SHA-256. Shared with the guard and with what holds executions.
    known: Known,
    /// What sessions are. Shared with the guard.
    sessions: Sessions,
    /// Holds executions, once a policy has asked for it.
    hold: Option<Hold>,
    /// When it was last looked whether tracked processes live, for whom executions are held.
    holding: Instant,
    /// What the kernel programs log, in builds that have it.
    messages: Messages,
    /// Whether something was delivered since freed memory was last given back, and when that was.
    is_untidy: bool,
    tidied: Instant,
    /// When the sensor that may come next was last left word, and whether the log has come further since.
    beat: Option<Instant>,
    has_recorded: bool,
    /// How often other rings were begun with: marks of the ones before mean nothing then.
    hand_overs: u32,
    /// Wakes a poll when the guard has refused something.
    refused: Arc<OwnedFd>,
    /// When a thread was refused something, oldest first; its system calls have not been seen to return since.
    expected: HashMap<(ProcessKey, u32), VecDeque<u64>>,
    /// What processes execute, in mode `fallback`.
    images: HashMap<ProcessKey, PathBytes>,
}

/// What the programs are told of the running kernel.
struct Facts {
    offsets: treeline_abi::Offsets,
    settings: treeline_abi::Settings,
    kernel: Kernel,
    /// The same types, as aya reads them.
    types: Btf,
    /// How long reading its types took.
    types_ms: u64,
}

/// Starts the best backend for this machine.
///
/// # Errors
/// [`BackendError::Unsupported`] says what is missing and what to do.
pub fn start(options: &Options) -> Result<Box<dyn Backend>, BackendError> {
    let object = object::required().map_err(|error| BackendError::Unsupported(error.to_string()))?;
    let unsupported = |error: OffsetsError| unsupported_words(&error);
    let started = Instant::now();
    let kernel = Kernel::read(offsets::BTF_PATH).map_err(unsupported)?;
    let facts = Facts {
        offsets: kernel.offsets().map_err(unsupported)?,
        settings: hooks::settings(&kernel),
        kernel,
        types: Btf::from_sys_fs().map_err(|error| unsupported_words(&error))?,
        types_ms: millis(started.elapsed()),
    };
    let suited = suited::suited(object, &facts.settings).map_err(|error| unsupported_words(&error))?;
    let object = suited.bytes();
    if facts.settings.older != 0 {
        lift_memory_limit();
    }
    let modes = options
        .mode
        .map_or(vec![AttachMode::Lsm, AttachMode::FmodRet, AttachMode::Fallback], |mode| vec![mode]);
    let mut refusals = Vec::new();
    for mode in modes {
        match LinuxBackend::start(object, &facts, mode, &refusals, options.pins.as_deref()) {
            Ok(backend) => {
                drop(facts);
                sys::release_freed_memory();
                tell(&backend);
                return Ok(Box::new(backend));
            }
            Err(error) => refusals.push((mode, load::chain(&error))),
        }
    }
    let words: Vec<String> = refusals.iter().map(|(mode, error)| format!("{mode}: {error}")).collect();
    Err(BackendError::Unsupported(format!(
        "no attach mode works here ({}); `treeline doctor` shows what is missing",
        words.join("; ")
    )))
}

fn mount_table() -> Result<MountTable, BackendError> {
    let failed = |source| BackendError::Io { attempt: format!("read {}", mounts::MOUNTINFO_PATH), source };
    MountTable::read().map_err(failed)
}

impl LinuxBackend {
    fn start(
        object: &[u8],
        facts: &Facts,
        mode: AttachMode,
        refusals: &[(AttachMode, String)],
        pin_dir: Option<&Path>,
    ) -> Result<Self, BackendError> {
        let mut loaded = Loaded::of(object, facts, mode, pin_dir)?;
        let messages = Messages::of(&mut loaded.ebpf);
        let mut statuses = unused(refusals);
        statuses.append(&mut loaded.statuses);
        if mode == AttachMode::Fallback {
            statuses.push(HookStatus { hook: "fanotify/open_perm".into(), state: HookState::Attached });
        }
        itself::protect(&mut loaded.ebpf, pin_dir)?;
        let labels = Labels::of(&loaded.ebpf, &facts.settings)?;
        let known = Arc::new(Mutex::new(held::contents(&mut loaded.ebpf, loaded.is_taken_over)?));
        let sessions = Sessions::of(&loaded.ebpf)?;
        let refused = Arc::new(guard::event_fd()?);
        let approvals = Approvals::default();
        let guard = match mode {
            AttachMode::Fallback => {
                Some(Arc::new(Guard::start(labels.try_clone()?, Arc::clone(&known), Arc::clone(&refused))?))
            }
            _ => None,
        };
        let mut rings = Rings::new(&mut loaded.ebpf, std::mem::take(&mut loaded.totals))?;
        let kernel_tables = KernelTables::begin(&mut loaded.ebpf, loaded.is_taken_over)?;
        let decoder = Decoder { mounts: mount_table()? };
        loaded.complete()?;
        let (former, said) = before(&mut loaded, mode, &facts.kernel, &mut rings);
        let Loaded { ebpf, modifying, running, programs, object_ms, pins, is_taken_over, .. } = loaded;
        Ok(Self {
            ebpf,
            _modifying: modifying,
            programs: running,
            mode,
            hooks: statuses,
            start: StartReport { types_ms: facts.types_ms, object_ms, programs },
            is_taken_over,
            former,
            handed_on: said.into_iter().collect(),
            rings,
            decoder,
            mounts_read: Instant::now(),
            kernel_tables,
            pins,
            in_force: None,
            approvals,
            guard,
            collected: Vec::new(),
            later: Vec::new(),
            beat: None,
            has_recorded: false,
            hand_overs: 0,
            labels,
            known,
            sessions,
            hold: None,
            holding: Instant::now(),
            messages,
            is_untidy: false,
            tidied: Instant::now(),
            refused,
            expected: HashMap::new(),
            images: HashMap::new(),
        })
    }

    fn refresh_mounts(&mut self) {
        if self.mounts_read.elapsed() < MOUNTS_INTERVAL {
            return;
        }
        self.mounts_read = Instant::now();
        match MountTable::read() {
            Ok(mounts) if mounts != self.decoder.mounts => {
                self.decoder.mounts = mounts;
                if let Some(in_force) = &self.in_force {
                    let again = in_force.installable.clone();
                    if let Err(error) = self.install(&again) {
                        tracing::error!(%error, "the policy could not be compiled for the changed mount table");
                    }
                }
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "the mount table could not be read"),
        }
    }
}

impl LinuxBackend {
    /// For the sensor that comes next, if what is in force now stays.
    fn leave_word(&mut self) {
        let interval = if self.has_recorded { RECORDED_INTERVAL } else { BEAT_INTERVAL };
        if self.pins.is_none() || self.beat.is_some_and(|at| at.elapsed() < interval) {
            return;
        }
        (self.beat, self.has_recorded) = (Some(Instant::now()), false);
        let by_former = self.former.as_mut().and_then(Former::beat);
        let left = by_former.unwrap_or_else(|| self.rings.beat(self.programs.left_out()));
        if let Err(error) = left {
            tracing::warn!(%error, "the next sensor will not know until when this one read");
        }
    }

    /// Whether everything that was taken has been collected.
    fn holds_nothing_back(&self) -> bool {
        let former = self.former.as_ref().is_none_or(Former::is_empty);
        former && self.later.is_empty() && self.rings.is_empty()
    }

    /// After a burst, in a quiet moment; when none comes, now and then all the same.
    fn tidy_memory(&mut self, is_quiet: bool) {
        let interval = if is_quiet { TIDY_INTERVAL } else { TIDY_INTERVAL_BUSY };
        if self.is_untidy && self.tidied.elapsed() >= interval {
            (self.is_untidy, self.tidied) = (false, Instant::now());
            sys::release_freed_memory();
        }
    }
}

impl Backend for LinuxBackend {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            mode: self.mode,
            kernel: release::text(),
            hooks: self.hooks.clone(),
            start: Some(self.start.clone()),
        }
    }

    fn install(&mut self, policy: &Installable) -> Result<Vec<RuleStatus>, BackendError> {
        let statuses = self.put_in_force(policy)?;
        let mut handed_on = Vec::new();
        if let Some(former) = &mut self.former {
            former.hand_over(&mut self.rings, &mut |delivery| handed_on.push(delivery));
            // From here on it is this set's word that counts, should this process be killed.
            if self.pins.is_some()
                && let Err(error) = self.rings.beat(self.programs.left_out())
            {
                tracing::warn!(%error, "the next sensor will not know what this one had recorded");
            }
        }
        // Only now: until here what another build left in force refused.
        if let Some(pins) = &self.pins
            && let Err(error) = pins.remove_others()
        {
            tracing::error!(%error, "the pins of another build stay; `treeline daemon --detach-all` removes everything");
        }
        if let Some(former) = self.former.take() {
            former.finish(&mut self.rings, &self.decoder, &mut |delivery| handed_on.push(delivery));
            self.hand_overs += 1;
            // Until now it was left in the former's counters.
            self.beat = None;
            self.leave_word();
        }
        self.handed_on.append(&mut handed_on);
        Ok(statuses)
    }

    fn inherited(&mut self) -> Result<Option<Inherited>, BackendError> {
        let (generation, policy) = match &self.former {
            Some(former) => former.policy(),
            None if self.is_taken_over => {
                let head = self.kernel_tables.head(&mut self.ebpf)?;
                head.map_or((0, 0), |head| (head.generation, head.policy))
            }
            None => return Ok(None),
        };
        let members = track::labelled(&self.labels);
        Ok(Some(Inherited { generation, policy, members }))
    }

    fn leave(&mut self) {
        self.beat = None;
        self.leave_word();
        let Some(pins) = &self.pins else { return };
        let count = track::labelled(&self.labels).len();
        if count > 0 {
            tracing::warn!(
                "{count} tracked processes live: what is pinned stays in force, and nobody reads until the next start"
            );
        } else if let Err(error) = pins.remove() {
            tracing::error!(%error, "the pins stay; `treeline daemon --detach-all` removes them");
        }
    }

    fn track(&mut self, request: &TrackRequest) -> Result<Vec<ProcessKey>, BackendError> {
        self.search_links()?;
        self.hold_before_tracking()?;
        self.sessions.begin(request.session, Arc::clone(&request.known))?;
        let beginning =
            Beginning { tables: self.in_force.as_ref().map(|one| &*one.tables), known: &self.known };
        track::track(&self.labels, request, &beginning)
    }

    fn session_of(&mut self, process: BorrowedFd<'_>) -> Result<Option<SessionId>, BackendError> {
        let failed = |source| BackendError::Io { attempt: "read the label of a process".to_owned(), source };
        let label = self.labels.label(process).map_err(failed)?;
        Ok(label.map(|label| SessionId(label.session)))
    }

    fn resumed(&mut self, session: SessionId, known: Arc<Session>) -> Result<(), BackendError> {
        self.sessions.begin(session, known)
    }

    fn forget(&mut self, sessions: &[SessionId]) -> Result<(), BackendError> {
        self.sessions.end(sessions)
    }

    fn approve(&mut self, approved: &[Approved]) -> Result<(), BackendError> {
        self.put_approvals(approved)
    }

    fn content_known(&mut self, path: &PathBytes, file: &FileId, sha256: &[u8; 32]) {
        let noted = self.known.lock().unwrap_or_else(PoisonError::into_inner).note(path, file, sha256);
        if let Err(error) = noted {
            tracing::error!(%error, "the table of files by content could not be filled");
        }
        if let Some(hold) = &self.hold {
            hold.want(path, file);
        }
    }

    fn counts(&self) -> Vec<KindCount> {
        self.former.as_ref().and_then(Former::counts).unwrap_or_else(|| self.rings.counts())
    }

    fn runs(&self) -> Vec<ProgramRuns> {
        self.programs.runs()
    }

    fn handed_over(&self) -> Mark {
        let rings = self.former.as_ref().and_then(Former::rings).unwrap_or(&self.rings);
        Mark { of: self.hand_overs, records: rings.handed_over() }
    }

    fn recorded(&mut self, mark: Mark) {
        if mark.of != self.hand_overs {
            return;
        }
        let rings = self.former.as_mut().and_then(Former::rings_mut).unwrap_or(&mut self.rings);
        self.has_recorded |= rings.note_recorded(mark.records);
    }

    fn poll(&mut self, timeout: Duration, deliver: &mut dyn FnMut(Delivery)) -> Result<(), BackendError> {
        self.refresh_mounts();
        self.end_hold();
        if self.collected.is_empty() && self.later.is_empty() && self.handed_on.is_empty() {
            self.rings.wait(Some(&self.refused), timeout)?;
        }
        self.collect();
        // Whoever drains goes on until nothing comes.
        if self.collected.is_empty() && !self.holds_nothing_back() {
            self.collect();
        }
        let is_quiet = self.collected.is_empty();
        self.is_untidy |= !is_quiet;
        self.tidy_memory(is_quiet);
        for delivery in std::mem::take(&mut self.collected) {
            deliver(delivery);
        }
        if !self.former.as_mut().is_some_and(|former| former.losses(deliver)) {
            self.rings.losses(deliver);
        }
        self.programs.losses(deliver);
        self.leave_word();
        self.messages.flush();
        Ok(())
    }
}

/// Who was here before, and what there is to say about it.
fn before(
    loaded: &mut Loaded,
    mode: AttachMode,
    kernel: &Kernel,
    rings: &mut Rings,
) -> (Option<Former>, Option<Delivery>) {
    match loaded.predecessor.take() {
        Some(set) => {
            let left_out = loaded.is_taken_over.then(|| loaded.running.left_out());
            let (former, said) = Former::open(set, &hooks::of(mode, kernel), rings, left_out);
            (Some(former), Some(said))
        }
        None if loaded.is_taken_over => {
            (None, Some(Delivery::Loss(rings.take_over(loaded.running.left_out()))))
        }
        None => (None, None),
    }
}

/// For whoever wants to know what a start costs: the tests of kernels read it.
fn tell(backend: &LinuxBackend) {
    if let Ok(report) = serde_json::to_string(&backend.start) {
        tracing::debug!(target: "treeline::start", mode = %backend.mode, report);
    }
}

fn unsupported_words(error: &dyn std::error::Error) -> BackendError {
    BackendError::Unsupported(load::chain(error))
}

/// Before Linux 5.11 maps count as memory that is locked, of which a process may have little. Where it is not allowed to
/// have more, the kernel refuses the first map that is too large, and says so.
fn lift_memory_limit() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    if let Err(error) = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None }) {
        tracing::warn!(%error, "the limit of locked memory stays as it is");
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The hooks of better modes, with the reason why they are not in use.
fn unused(refusals: &[(AttachMode, String)]) -> Vec<HookStatus> {
    refusals
        .iter()
        .map(|(mode, error)| HookStatus {
            hook: format!("mode/{mode}"),
            state: HookState::Failed { error: error.clone() },
        })
        .collect()
}

fn duplicate(map: &impl AsFd) -> Result<OwnedFd, BackendError> {
    map.as_fd()
        .try_clone_to_owned()
        .map_err(|source| BackendError::Io { attempt: "duplicate the descriptor of a map".into(), source })
}

fn file_key(file: &FileId) -> FileKey {
    FileKey {
        device: file.major << 20 | file.minor,
        pad: 0,
        inode: file.inode,
        size: file.size,
        ctime_ns: file.ctime_ns,
    }
}

fn random_seed() -> Result<u64, BackendError> {
    use ring::rand::SecureRandom;
    let mut seed = [0u8; 8];
    ring::rand::SystemRandom::new().fill(&mut seed).map_err(|_| {
        BackendError::Unsupported("the system has no random bytes (getrandom failed)".to_owned())
    })?;
    Ok(u64::from_ne_bytes(seed))
}
