//! The Linux backend: kernel programs loaded with aya, and fanotify where they cannot refuse.

mod coverage;
pub(crate) mod decode;
mod doctor;
mod guard;
mod hooks;
mod links;
mod load;
pub(crate) mod mounts;
mod named;
mod object;
mod offsets;
mod resolve;
mod rings;
mod sys;
mod tables;
mod track;

use std::{
    collections::{HashMap, VecDeque},
    os::fd::{AsFd, OwnedFd},
    panic::resume_unwind,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use aya::{Btf, Ebpf, maps::Map};
use treeline_abi::paths::FileKey;
use treeline_event::{
    AttachMode, FileId, HookState, HookStatus, PathBytes, ProcessKey, RuleState, RuleStatus,
};
use treeline_policy::{Home, Host, Policy, Tables, Target, policy::Rule};

pub use self::doctor::{Check, CheckState, checks};
use self::{
    decode::Decoder,
    guard::{Guard, Orders, Placed},
    links::Aliases,
    mounts::MountTable,
    offsets::Kernel,
    order::Next,
    rings::Rings,
    tables::KernelTables,
};
use super::{Backend, BackendError, Capabilities, Delivery, Installable, LossReport, TrackRequest};

/// How the backend is to start.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The attach mode; none for the best one that this kernel allows.
    pub mode: Option<AttachMode>,
}

/// Deliveries that are collected while something else takes its time: some 30 MiB. Beyond it the rings fill, and count.
const COLLECTED_MAX: usize = 65_536;

/// How often that is done: far more often than a ring can fill.
const COLLECT_INTERVAL: Duration = Duration::from_millis(2);

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

/// What is made ready for a policy while records go on being collected.
struct Prepared {
    tables: Tables,
    aliases: Aliases,
    links: LinksSearch,
    placed: Option<Placed>,
}

/// When files with several names were last searched for, and how long that took.
struct LinksSearch {
    ended: Instant,
    took: Duration,
}

/// A search for links takes at most one part in so many of the time.
const LINKS_SHARE: u32 = 20;

impl LinksSearch {
    fn is_due(&self) -> bool {
        self.ended.elapsed() >= self.took * LINKS_SHARE
    }
}

/// Kernel programs, rings and guard.
pub struct LinuxBackend {
    ebpf: Ebpf,
    mode: AttachMode,
    hooks: Vec<HookStatus>,
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
}

/// Starts the best backend for this machine.
///
/// # Errors
/// [`BackendError::Unsupported`] says what is missing and what to do.
pub fn start(options: &Options) -> Result<Box<dyn Backend>, BackendError> {
    let object = object::required().map_err(|error| BackendError::Unsupported(error.to_string()))?;
    let unsupported = |error| BackendError::Unsupported(load::chain(&error));
    let kernel = Kernel::read(offsets::BTF_PATH).map_err(unsupported)?;
    let facts =
        Facts { offsets: kernel.offsets().map_err(unsupported)?, settings: hooks::settings(&kernel), kernel };
    let modes = options.mode.map_or(vec![AttachMode::Lsm, AttachMode::Fallback], |mode| vec![mode]);
    let mut refusals = Vec::new();
    for mode in modes {
        match LinuxBackend::start(object, &facts, mode, &refusals) {
            Ok(backend) => {
                drop(facts);
                sys::release_freed_memory();
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
        let btf = Btf::from_sys_fs().map_err(|error| BackendError::Unsupported(load::chain(&error)))?;
        let mut ebpf = load::load(object, &facts.offsets, &facts.settings)?;
        let mut statuses = unused(refusals);
        for hook in &wanted {
            let status = load::attach(&mut ebpf, hook, &btf);
            if let (HookState::Failed { error }, true) = (&status.state, hook.essential) {
                return Err(BackendError::Unsupported(format!("{}: {error}", status.hook)));
            }
            statuses.push(status);
        }
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
            mode,
            hooks: statuses,
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
            refused,
            expected: HashMap::new(),
        })
    }

    /// What each rule of a policy amounts to.
    fn statuses(&self, policy: &Policy, prepared: Option<&Prepared>) -> Vec<RuleStatus> {
        let status = |(index, rule): (usize, &Rule)| {
            let marks = prepared.and_then(|prepared| prepared.placed.as_ref());
            let marks = marks.iter().flat_map(|placed| &placed.problems);
            let marks = marks.filter(|problem| problem.rule == index).map(|problem| problem.text.clone());
            let links = prepared.iter().flat_map(|prepared| &prepared.aliases.problems);
            let links = links.filter(|(rule, _)| *rule == index);
            let problems: Vec<String> = marks.chain(links.map(|(_, text)| text.clone())).collect();
            coverage::status(rule, self.mode, &self.hooks, &problems)
        };
        policy.rules.iter().enumerate().map(status).collect()
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

    /// In mode `fallback` names are judged here, in the other modes in the kernel.
    fn judge_names(&self, mut delivery: Delivery) -> Delivery {
        if let (Delivery::Observation(observation), Some(in_force), AttachMode::Fallback) =
            (&mut delivery, &self.in_force, self.mode)
        {
            let Installable { policy, generation, .. } = &in_force.installable;
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            named::judge(observation, policy, &in_force.tables.host, *generation, &known);
        }
        delivery
    }

    /// Whether an observation repeats what the guard has already reported: the system call that it refused. That is
    /// the next one that the same thread comes back from.
    fn repeats_refusal(&mut self, delivery: &Delivery) -> bool {
        use treeline_event::{Action, Outcome};
        let Delivery::Observation(observation) = delivery else { return false };
        let thread = (observation.subject, observation.tid);
        if matches!(observation.seen, super::Seen::Exit { .. }) {
            self.expected.retain(|(process, _), _| *process != observation.subject);
            return false;
        }
        let Some(refusals) = self.expected.get_mut(&thread) else { return false };
        let mut returned = false;
        while refusals.pop_front_if(|refused_ns| *refused_ns <= observation.time_ns).is_some() {
            returned = true;
        }
        if refusals.is_empty() {
            self.expected.remove(&thread);
        }
        let super::Seen::Act(action) = &observation.seen else { return false };
        returned && matches!(&**action, Action::Open { outcome: Outcome::Errno(libc::EPERM), .. })
    }

    /// Takes what has arrived from the kernel and the guard, in the order of time.
    ///
    /// What a process did before it was refused something is in the rings when the refusal is taken, so the rings are
    /// read after it. The record of the system call that comes back from a refusal can already be among those, so the
    /// refusals that have come meanwhile are known, too, but wait for the next round.
    fn collect(&mut self) {
        let _ = rustix::io::read(&*self.refused, &mut [0u8; 8]);
        let mut refusals = std::mem::take(&mut self.later);
        refusals.extend(self.take_refusals());
        let mut records = Vec::new();
        self.rings.drain(&self.decoder, &mut |delivery| records.push(delivery));
        self.later = self.take_refusals();
        records.retain(|record| !self.repeats_refusal(record));
        let judged = records.into_iter().map(|record| self.judge_names(record));
        let mut all: Vec<Delivery> = refusals.into_iter().chain(judged).collect();
        // A record that could not be read has no time; it stays before its neighbours.
        all.sort_by_key(|delivery| match delivery {
            Delivery::Observation(observation) => observation.time_ns,
            Delivery::Loss(_) | Delivery::Malformed(_) => 0,
        });
        self.collected.append(&mut all);
    }

    fn take_refusals(&mut self) -> Vec<Delivery> {
        let Some(guard) = &self.guard else { return Vec::new() };
        let mut taken = Vec::new();
        for refusal in guard.denials() {
            if let super::Seen::Act(action) = &refusal.seen
                && matches!(**action, treeline_event::Action::Open { .. })
            {
                let thread = (refusal.subject, refusal.tid);
                self.expected.entry(thread).or_default().push_back(refusal.time_ns);
            }
            taken.push(Delivery::Observation(Box::new(refusal)));
        }
        if let Some((count, first_ns, last_ns)) = guard.unrecorded() {
            taken.push(Delivery::Loss(LossReport { kind: "open", site: "guard", count, first_ns, last_ns }));
        }
        taken
    }

    /// Does something that takes its time, and meanwhile keeps the rings from running full.
    fn while_collecting<T: Send>(&mut self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let worker = scope.spawn(work);
            while !worker.is_finished() {
                if self.collected.len() < COLLECTED_MAX {
                    self.collect();
                }
                thread::sleep(COLLECT_INTERVAL);
            }
            worker.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Compiles a policy, finds what it protects and marks it. Nothing of it is in force yet.
    fn prepare(
        &mut self,
        policy: &Arc<Policy>,
        host: &Host,
        generation: u64,
    ) -> Result<Prepared, BackendError> {
        let target = Target { seed: random_seed()?, generation, slot: self.kernel_tables.idle() };
        let (guard, mounts) = (self.guard.clone(), self.decoder.mounts.clone());
        self.while_collecting(move || {
            let tables = treeline_policy::compile(policy, host, &mounts, target)
                .map_err(|diagnostics| BackendError::Policy(diagnostics.render(false)))?;
            let placed = guard.map(|guard| guard.place(Arc::clone(policy), host.clone())).transpose()?;
            let started = Instant::now();
            let aliases = links::aliases(policy, host, &mounts, tables.slot);
            let links = LinksSearch { ended: Instant::now(), took: started.elapsed() };
            Ok(Prepared { tables, aliases, links, placed })
        })
    }

    /// Puts a prepared policy in force.
    fn enforce(
        &mut self,
        policy: &Arc<Policy>,
        generation: u64,
        prepared: &Prepared,
    ) -> Result<(), BackendError> {
        let Prepared { tables, aliases, .. } = prepared;
        // The new slot's aliases are there before it is put in force.
        self.kernel_tables.add_aliases(&mut self.ebpf, &aliases.files)?;
        if let Some(guard) = &self.guard {
            guard.enforce(&orders(policy, tables, generation))?;
        }
        self.kernel_tables.install(&mut self.ebpf, tables)?;
        self.kernel_tables.keep_aliases(&mut self.ebpf, &aliases.files)
    }

    /// Looks for links that were made since the policy was put in force, if it is time.
    fn search_links(&mut self) -> Result<(), BackendError> {
        let Some(in_force) = self.in_force.as_ref().filter(|in_force| in_force.links.is_due()) else {
            return Ok(());
        };
        let (policy, host, slot) =
            (Arc::clone(&in_force.policy), in_force.tables.host.clone(), in_force.tables.slot);
        let mounts = self.decoder.mounts.clone();
        let started = Instant::now();
        let aliases = self.while_collecting(|| links::aliases(&policy, &host, &mounts, slot));
        if let Some(in_force) = &mut self.in_force {
            in_force.links = LinksSearch { ended: Instant::now(), took: started.elapsed() };
        }
        self.kernel_tables.add_aliases(&mut self.ebpf, &aliases.files)
    }

    /// After a policy could not be put in force: marks and answers are again those of the one before.
    fn go_back(&mut self) {
        let (Some(guard), Some(in_force)) = (self.guard.clone(), &self.in_force) else { return };
        let orders = orders(&in_force.policy, &in_force.tables, in_force.installable.generation);
        let restored =
            guard.place(Arc::clone(&orders.policy), orders.host.clone()).and_then(|_| guard.enforce(&orders));
        if let Err(error) = restored {
            tracing::error!(%error, "the policy in force could not be restored; restart the sensor");
        }
    }
}

impl Backend for LinuxBackend {
    fn capabilities(&self) -> Capabilities {
        Capabilities { mode: self.mode, kernel: kernel_release(), hooks: self.hooks.clone() }
    }

    fn install(&mut self, policy: &Installable) -> Result<Vec<RuleStatus>, BackendError> {
        let host = Host {
            homes: policy
                .homes
                .iter()
                .map(|(uid, path)| Home {
                    uid: *uid,
                    path: std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()).to_vec(),
                })
                .collect(),
        };
        let shared = Arc::new(policy.policy.clone());
        refuse_unenforceable(policy, self.mode, &self.statuses(&shared, None))?;
        let prepared = self.prepare(&shared, &host, policy.generation);
        let enforced = prepared.and_then(|prepared| {
            self.enforce(&shared, policy.generation, &prepared)?;
            Ok(prepared)
        });
        let prepared = match enforced {
            Ok(prepared) => prepared,
            Err(error) => {
                self.go_back();
                return Err(error);
            }
        };
        let statuses = self.statuses(&shared, Some(&prepared));
        if let Some(placed) = &prepared.placed {
            tracing::info!(marks = placed.marks, "protected objects are marked");
        }
        let Prepared { tables, links, .. } = prepared;
        self.in_force = Some(InForce { installable: policy.clone(), policy: shared, tables, links });
        if let Err(error) = self.refresh_images() {
            tracing::error!(%error, "the table of files by content could not be filled");
        }
        sys::release_freed_memory();
        Ok(statuses)
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
        for delivery in std::mem::take(&mut self.collected) {
            deliver(delivery);
        }
        self.rings.losses(deliver);
        Ok(())
    }
}

/// What the guard has to know of a compiled policy.
fn orders(policy: &Arc<Policy>, tables: &Tables, generation: u64) -> Orders {
    let index = |id: &str| tables.info.iter().position(|info| info.id == id).unwrap_or(usize::MAX) as u32;
    Orders {
        policy: Arc::clone(policy),
        host: tables.host.clone(),
        generation,
        rule_indices: policy.rules.iter().map(|rule| index(&rule.id)).collect(),
    }
}

/// Whether every rule in `enforce` can be enforced at all, or it is allowed that it cannot.
fn refuse_unenforceable(
    policy: &Installable,
    mode: AttachMode,
    statuses: &[RuleStatus],
) -> Result<(), BackendError> {
    let hopeless = |(status, rule): &(&RuleStatus, &Rule)| {
        rule.mode == treeline_event::Mode::Enforce
            && matches!(status.state, RuleState::Observed | RuleState::Impossible)
    };
    let hopeless: Vec<&str> = statuses
        .iter()
        .zip(&policy.policy.rules)
        .filter(hopeless)
        .map(|(status, _)| status.rule.as_str())
        .collect();
    if hopeless.is_empty() || policy.allow_unenforceable {
        return Ok(());
    }
    Err(BackendError::Policy(format!(
        "attach mode {mode} cannot enforce the rules {}: set them to `mode: monitor`, or have them observed only, with \
         `unenforceable = \"observe\"` in the configuration or `--unenforceable observe`",
        hopeless.join(", ")
    )))
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

/// As `uname -r`.
fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}
