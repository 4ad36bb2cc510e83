//! The Linux backend: kernel programs loaded with aya, and fanotify where they cannot refuse.

mod bpf;
mod collect;
mod coverage;
pub(crate) mod decode;
mod doctor;
mod fmod_ret;
mod guard;
mod hooks;
mod install;
mod links;
mod load;
mod messages;
pub(crate) mod mounts;
mod named;
mod object;
mod offsets;
mod parity;
mod programs;
mod release;
mod relocated;
mod resolve;
mod rings;
mod sys;
mod tables;
mod track;

use std::{
    collections::{HashMap, VecDeque},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use aya::{Btf, Ebpf, maps::Map};
use treeline_abi::paths::FileKey;
use treeline_event::{AttachMode, FileId, HookState, HookStatus, PathBytes, ProcessKey, RuleStatus};
use treeline_policy::{Policy, Tables};

pub(crate) use self::sys::pass_on_broken_pipes;
pub use self::{
    coverage::coverage_of,
    doctor::{Check, CheckState, checks},
    parity::parity,
};
use self::{
    decode::Decoder,
    fmod_ret::Modifying,
    guard::Guard,
    hooks::{Hook, HookKind},
    install::LinksSearch,
    messages::Messages,
    mounts::MountTable,
    offsets::Kernel,
    programs::Programs,
    rings::Rings,
    tables::KernelTables,
};
use super::{
    Backend, BackendError, Capabilities, Delivery, Installable, KindCount, ProgramReport, ProgramRuns,
    StartReport, TrackRequest,
};

/// How the backend is to start.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The attach mode; none for the best one that this kernel allows.
    pub mode: Option<AttachMode>,
}

/// How often freed memory is given back at the most; it takes about a millisecond.
const TIDY_INTERVAL: Duration = Duration::from_secs(5);

/// How often the mount table is looked at again.
const MOUNTS_INTERVAL: Duration = Duration::from_secs(1);

/// Contents by identity. Bounded by what was executed in tracked trees; beyond [`KNOWN_MAX`] nothing is added, so that
/// a rule by SHA-256 then counts only for the files that are in it.
type Known = Arc<Mutex<HashMap<FileId, ([u8; 32], PathBytes)>>>;

/// Files whose content is remembered; the kernel's table has as many entries.
const KNOWN_MAX: usize = 16_384;

/// The policy in force and what belongs to it.
struct InForce {
    installable: Installable,
    policy: Arc<Policy>,
    tables: Tables,
    links: LinksSearch,
}

/// Kernel programs, rings and guard.
pub struct LinuxBackend {
    ebpf: Ebpf,
    /// What is attached beside aya, as long as it lives.
    _modifying: Option<Modifying>,
    programs: Programs,
    mode: AttachMode,
    hooks: Vec<HookStatus>,
    start: StartReport,
    rings: Rings,
    decoder: Decoder,
    mounts_read: Instant,
    kernel_tables: KernelTables,
    in_force: Option<InForce>,
    /// Refuses in mode `fallback`.
    guard: Option<Arc<Guard>>,
    /// What was collected and not delivered yet.
    collected: Vec<Delivery>,
    /// Refusals that are delivered when the rings have been read once more.
    later: Vec<Delivery>,
    labels: OwnedFd,
    /// Files whose content is known, for rules by SHA-256. Shared with the guard.
    known: Known,
    /// What the kernel programs log, in builds that have it.
    messages: Messages,
    /// Whether something was delivered since freed memory was last given back, and when that was.
    is_untidy: bool,
    tidied: Instant,
    /// Wakes a poll when the guard has refused something.
    refused: Arc<OwnedFd>,
    /// When a thread was refused something, oldest first; its system calls have not been seen to return since.
    expected: HashMap<(ProcessKey, u32), VecDeque<u64>>,
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
    let unsupported = |error| BackendError::Unsupported(load::chain(&error));
    let started = Instant::now();
    let kernel = Kernel::read(offsets::BTF_PATH).map_err(unsupported)?;
    let facts = Facts {
        offsets: kernel.offsets().map_err(unsupported)?,
        settings: hooks::settings(&kernel),
        kernel,
        types: Btf::from_sys_fs().map_err(|error| BackendError::Unsupported(load::chain(&error)))?,
        types_ms: millis(started.elapsed()),
    };
    let modes = options
        .mode
        .map_or(vec![AttachMode::Lsm, AttachMode::FmodRet, AttachMode::Fallback], |mode| vec![mode]);
    let mut refusals = Vec::new();
    for mode in modes {
        match LinuxBackend::start(object, &facts, mode, &refusals) {
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

impl LinuxBackend {
    fn start(
        object: &[u8],
        facts: &Facts,
        mode: AttachMode,
        refusals: &[(AttachMode, String)],
    ) -> Result<Self, BackendError> {
        let wanted = hooks::of(mode, &facts.kernel);
        if wanted.is_empty() {
            return Err(BackendError::Unsupported(format!(
                "attach mode {mode} is not built into this version"
            )));
        }
        if mode == AttachMode::Lsm {
            hooks::lsm_enabled().map_err(BackendError::Unsupported)?;
        }
        let globals = load::globals(&facts.offsets, &facts.settings);
        let started = Instant::now();
        let mut ebpf = load::load(object, &globals)?;
        let object_ms = millis(started.elapsed());
        let messages = Messages::of(&mut ebpf);
        let mut modifying = Modifying::of(mode, object, &globals, &ebpf)?;
        let mut running = Programs::new();
        let (attached, programs) = attach(&mut ebpf, &wanted, &mut modifying, &mut running, facts)?;
        let mut statuses = unused(refusals);
        statuses.extend(attached);
        if mode == AttachMode::Fallback {
            statuses.push(HookStatus { hook: "fanotify/open_perm".into(), state: HookState::Attached });
        }
        let labels = labels(&ebpf)?;
        let (known, refused) = (Known::default(), Arc::new(guard::event_fd()?));
        let guard = match mode {
            AttachMode::Fallback => {
                Some(Arc::new(Guard::start(duplicate(&labels)?, Arc::clone(&known), Arc::clone(&refused))?))
            }
            _ => None,
        };
        let rings = Rings::new(&mut ebpf)?;
        let mounts = MountTable::read().map_err(|source| BackendError::Io {
            attempt: format!("read {}", mounts::MOUNTINFO_PATH),
            source,
        })?;
        Ok(Self {
            ebpf,
            _modifying: modifying,
            programs: running,
            mode,
            hooks: statuses,
            start: StartReport { types_ms: facts.types_ms, object_ms, programs },
            rings,
            decoder: Decoder { mounts },
            mounts_read: Instant::now(),
            kernel_tables: KernelTables::default(),
            in_force: None,
            guard,
            collected: Vec::new(),
            later: Vec::new(),
            labels,
            known,
            messages,
            is_untidy: false,
            tidied: Instant::now(),
            refused,
            expected: HashMap::new(),
        })
    }

    /// Fills the table of files by content from what is known and the policy in force.
    fn refresh_images(&mut self) -> Result<(), BackendError> {
        let Some(in_force) = &self.in_force else { return Ok(()) };
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let entries: Vec<_> = known
            .iter()
            .map(|(file, (sha256, path))| {
                (file_key(file), in_force.tables.image_rules(sha256, Some(path.as_bytes())))
            })
            .filter(|(_, rules)| rules.exceptions != 0 || rules.exec_rule != 0)
            .collect();
        drop(known);
        self.kernel_tables.set_images(&mut self.ebpf, entries.into_iter())
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
    /// After a burst, in a quiet moment.
    fn tidy_memory(&mut self) {
        if self.is_untidy && self.tidied.elapsed() >= TIDY_INTERVAL {
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
        self.put_in_force(policy)
    }

    fn track(&mut self, request: &TrackRequest) -> Result<Vec<ProcessKey>, BackendError> {
        self.search_links()?;
        track::track(self.labels.as_fd(), request)
    }

    fn content_known(&mut self, path: &PathBytes, file: &FileId, sha256: &[u8; 32]) {
        {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= KNOWN_MAX && !known.contains_key(file) {
                return;
            }
            known.insert(*file, (*sha256, path.clone()));
        }
        let matters = self.in_force.as_ref().is_some_and(|in_force| {
            let rules = in_force.tables.image_rules(sha256, Some(path.as_bytes()));
            rules.exceptions != 0 || rules.exec_rule != 0
        });
        if matters && let Err(error) = self.refresh_images() {
            tracing::error!(%error, "the table of files by content could not be filled");
        }
    }

    fn counts(&self) -> Vec<KindCount> {
        self.rings.counts()
    }

    fn runs(&self) -> Vec<ProgramRuns> {
        self.programs.runs()
    }

    fn poll(&mut self, timeout: Duration, deliver: &mut dyn FnMut(Delivery)) -> Result<(), BackendError> {
        self.refresh_mounts();
        if self.collected.is_empty() && self.later.is_empty() {
            self.rings.wait(Some(&self.refused), timeout)?;
        }
        self.collect();
        // Whoever drains goes on until nothing comes.
        if self.collected.is_empty() && !self.later.is_empty() {
            self.collect();
        }
        if self.collected.is_empty() {
            self.tidy_memory();
        } else {
            self.is_untidy = true;
        }
        for delivery in std::mem::take(&mut self.collected) {
            deliver(delivery);
        }
        self.rings.losses(deliver);
        self.programs.losses(deliver);
        self.messages.flush();
        Ok(())
    }
}

/// Attaches the hooks of a mode, in their order.
///
/// # Errors
/// The kernel's words about one that the mode cannot do without.
fn attach(
    ebpf: &mut Ebpf,
    wanted: &[Hook],
    modifying: &mut Option<Modifying>,
    running: &mut Programs,
    facts: &Facts,
) -> Result<(Vec<HookStatus>, Vec<ProgramReport>), BackendError> {
    let (mut statuses, mut programs) = (Vec::new(), Vec::new());
    for hook in wanted {
        let started = Instant::now();
        let status = match (hook.kind, &mut *modifying) {
            (HookKind::ModifyReturn, Some(modifying)) => modifying.attach(hook, &facts.kernel),
            _ => load::attach(ebpf, hook, &facts.types),
        };
        let program = match hook.kind {
            HookKind::ModifyReturn => modifying.as_ref().and_then(Modifying::latest),
            _ => load::program(ebpf, hook),
        };
        if let (HookState::Attached, Some(program)) = (&status.state, program) {
            running.watch(hook, hook.can_be_left_out(wanted), program);
        }
        programs.extend(report(&status, program, started.elapsed()));
        if let (HookState::Failed { error }, true) = (&status.state, hook.essential) {
            return Err(BackendError::Unsupported(format!("{}: {error}", status.hook)));
        }
        statuses.push(status);
    }
    Ok((statuses, programs))
}

/// For whoever wants to know what a start costs: the tests of kernels read it.
fn tell(backend: &LinuxBackend) {
    if let Ok(report) = serde_json::to_string(&backend.start) {
        tracing::debug!(target: "treeline::start", mode = %backend.mode, report);
    }
}

/// What it took to attach a hook; nothing where it is not attached.
fn report(status: &HookStatus, program: Option<BorrowedFd<'_>>, took: Duration) -> Option<ProgramReport> {
    if status.state != HookState::Attached {
        return None;
    }
    let verified = bpf::info(program?).ok()?.verified_instructions;
    Some(ProgramReport {
        hook: status.hook.clone(),
        verified_instructions: (verified > 0).then_some(verified),
        load_ms: millis(took),
    })
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

fn labels(ebpf: &Ebpf) -> Result<OwnedFd, BackendError> {
    let Some(Map::Unsupported(map)) = ebpf.map("LABELS") else {
        return Err(BackendError::Unsupported("the kernel object has no map `LABELS`".to_owned()));
    };
    duplicate(&map.fd().as_fd())
}

fn duplicate(labels: &impl AsFd) -> Result<OwnedFd, BackendError> {
    labels.as_fd().try_clone_to_owned().map_err(|source| BackendError::Io {
        attempt: "duplicate the descriptor of the label map".into(),
        source,
    })
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
