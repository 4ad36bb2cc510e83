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
    collections::HashMap,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
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
    guard::{Guard, Orders},
    links::Aliases,
    mounts::MountTable,
    offsets::Kernel,
    rings::Rings,
    tables::KernelTables,
};
use super::{Backend, BackendError, Capabilities, Delivery, Installable, TrackRequest};

/// How the backend is to start.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The attach mode; none for the best one that this kernel allows.
    pub mode: Option<AttachMode>,
}

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
    tables: Tables,
    guard: Option<Guard>,
    links: LinksSearch,
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
    labels: OwnedFd,
    /// Files whose content is known, for rules by SHA-256. Shared with the guard.
    known: Known,
    /// Wakes a poll when the guard has refused something.
    refused: Arc<OwnedFd>,
    /// Refusals whose system call has not returned yet, by process.
    expected: HashMap<ProcessKey, u32>,
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
            labels,
            known: Known::default(),
            refused: Arc::new(guard::event_fd()?),
            expected: HashMap::new(),
        })
    }

    fn start_guard(&self, policy: &Installable, tables: &Tables) -> Result<Option<Guard>, BackendError> {
        if self.mode != AttachMode::Fallback {
            return Ok(None);
        }
        let rules = &policy.policy.rules;
        let index = |id: &str| tables.info.iter().position(|info| info.id == id).unwrap_or(usize::MAX) as u32;
        let orders = Orders {
            policy: Arc::new(policy.policy.clone()),
            host: tables.host.clone(),
            generation: policy.generation,
            labels: self.labels.try_clone().map_err(|source| BackendError::Io {
                attempt: "duplicate the descriptor of the label map".into(),
                source,
            })?,
            rule_indices: rules.iter().map(|rule| index(&rule.id)).collect(),
            known: Arc::clone(&self.known),
        };
        Guard::start(orders, Arc::clone(&self.refused)).map(Some)
    }

    /// What each rule of a policy amounts to.
    fn statuses(&self, policy: &Policy, guard: Option<&Guard>, aliases: &Aliases) -> Vec<RuleStatus> {
        let status = |(index, rule): (usize, &Rule)| {
            let marks = guard.iter().flat_map(|guard| &guard.problems);
            let marks = marks.filter(|problem| problem.rule == index).map(|problem| problem.text.clone());
            let links = aliases.problems.iter().filter(|(rule, _)| *rule == index);
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

    /// Whether an observation repeats what the guard has already reported: the system call that it refused.
    fn repeats_refusal(&mut self, delivery: &Delivery) -> bool {
        use treeline_event::{Action, Outcome};
        let Delivery::Observation(observation) = delivery else { return false };
        let super::Seen::Act(action) = &observation.seen else { return false };
        if !matches!(&**action, Action::Open { outcome: Outcome::Errno(libc::EPERM), .. }) {
            return false;
        }
        let Some(count) = self.expected.get_mut(&observation.subject) else { return false };
        *count -= 1;
        if *count == 0 {
            self.expected.remove(&observation.subject);
        }
        true
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
        let target =
            Target { seed: random_seed()?, generation: policy.generation, slot: self.kernel_tables.idle() };
        let tables = treeline_policy::compile(&policy.policy, &host, &self.decoder.mounts, target)
            .map_err(|diagnostics| BackendError::Policy(diagnostics.render(false)))?;
        let guard = self.start_guard(policy, &tables)?;
        if let Some(guard) = &guard {
            tracing::info!(marks = guard.marks, "protected objects are marked");
        }
        let started = Instant::now();
        let aliases = links::aliases(&policy.policy, &host, &self.decoder.mounts, tables.slot);
        let links = LinksSearch { ended: Instant::now(), took: started.elapsed() };
        let statuses = self.statuses(&policy.policy, guard.as_ref(), &aliases);
        let unenforceable: Vec<&str> = statuses
            .iter()
            .zip(&policy.policy.rules)
            .filter(|(status, rule)| {
                rule.mode == treeline_event::Mode::Enforce
                    && matches!(status.state, RuleState::Observed | RuleState::Impossible)
            })
            .map(|(status, _)| status.rule.as_str())
            .collect();
        if !unenforceable.is_empty() && !policy.allow_unenforceable {
            return Err(BackendError::Policy(format!(
                "attach mode {} cannot enforce the rules {}: set them to `mode: monitor`, or have them observed only, with \
                 `unenforceable = \"observe\"` in the configuration or `--unenforceable observe`",
                self.mode,
                unenforceable.join(", ")
            )));
        }
        // The new slot's aliases are there before it is put in force.
        self.kernel_tables.add_aliases(&mut self.ebpf, &aliases.files)?;
        self.kernel_tables.install(&mut self.ebpf, &tables)?;
        self.kernel_tables.keep_aliases(&mut self.ebpf, &aliases.files)?;
        self.in_force = Some(InForce { installable: policy.clone(), tables, guard, links });
        self.refresh_images()?;
        sys::release_freed_memory();
        Ok(statuses)
    }

    fn track(&mut self, request: &TrackRequest) -> Result<Vec<ProcessKey>, BackendError> {
        // Links that were made since the policy was put in force.
        if let Some(in_force) = &mut self.in_force
            && in_force.links.is_due()
        {
            let tables = &in_force.tables;
            let policy = &in_force.installable.policy;
            let started = Instant::now();
            let aliases = links::aliases(policy, &tables.host, &self.decoder.mounts, tables.slot);
            in_force.links = LinksSearch { ended: Instant::now(), took: started.elapsed() };
            self.kernel_tables.add_aliases(&mut self.ebpf, &aliases.files)?;
        }
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
        self.rings.wait(Some(&self.refused), timeout)?;
        let _ = rustix::io::read(&*self.refused, &mut [0u8; 8]);
        let mut refusals = Vec::new();
        if let Some(guard) = self.in_force.as_ref().and_then(|in_force| in_force.guard.as_ref()) {
            refusals.extend(guard.denials());
        }
        for refusal in refusals {
            if let super::Seen::Act(action) = &refusal.seen
                && matches!(**action, treeline_event::Action::Open { .. })
            {
                *self.expected.entry(refusal.subject).or_default() += 1;
            }
            deliver(Delivery::Observation(Box::new(refusal)));
        }
        let mut deliveries = Vec::new();
        self.rings.drain(&self.decoder, &mut |delivery| deliveries.push(delivery));
        for delivery in deliveries {
            if let Delivery::Observation(observation) = &delivery
                && matches!(observation.seen, super::Seen::Exit { .. })
            {
                self.expected.remove(&observation.subject);
            }
            if !self.repeats_refusal(&delivery) {
                deliver(self.judge_names(delivery));
            }
        }
        self.rings.losses(deliver);
        Ok(())
    }
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
    map.fd().as_fd().try_clone_to_owned().map_err(|source| BackendError::Io {
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
