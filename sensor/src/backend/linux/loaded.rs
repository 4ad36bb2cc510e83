//! The kernel programs of a mode and their maps: loaded and attached, or taken over from a sensor that ended.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use aya::Ebpf;
use treeline_event::{AttachMode, HookState, HookStatus};

use super::{
    Facts, bpf,
    fmod_ret::Modifying,
    hooks::{self, Hook, HookKind},
    itself, labels, load, millis,
    pins::{self, Pins},
    programs::Programs,
    release, tables,
    totals::Totals,
};
use crate::backend::{BackendError, ProgramReport};

/// What is in the kernel.
pub(super) struct Loaded {
    pub(super) ebpf: Ebpf,
    /// What is attached beside aya, as long as it lives.
    pub(super) modifying: Option<Modifying>,
    pub(super) running: Programs,
    /// What became of each hook.
    pub(super) statuses: Vec<HookStatus>,
    /// What it took to attach them.
    pub(super) programs: Vec<ProgramReport>,
    /// Creating the maps and making the programs ready, in milliseconds.
    pub(super) object_ms: u64,
    /// What stays when this process ends.
    pub(super) pins: Option<Pins>,
    /// Whether a sensor that ended has loaded them.
    pub(super) is_taken_over: bool,
    /// The set of pins of another build, whose labels are used. Its programs are in force until it is removed.
    pub(super) predecessor: Option<PathBuf>,
    /// What the programs do not know of the totals. Open from here on, so that sessions are kept away from it.
    pub(super) totals: Totals,
}

impl Loaded {
    /// Takes over what is pinned below `pin_dir`, if it is what would be loaded; else loads it and pins it there.
    ///
    /// # Errors
    /// [`BackendError::Unsupported`]: the kernel's words about something that the mode cannot do without.
    pub(super) fn of(
        object: &[u8],
        facts: &Facts,
        mode: AttachMode,
        pin_dir: Option<&Path>,
    ) -> Result<Self, BackendError> {
        let wanted = hooks::of(mode, &facts.kernel);
        if wanted.is_empty() {
            return Err(BackendError::Unsupported(format!(
                "attach mode {mode} is not built into this version"
            )));
        }
        if mode.judges_in_kernel() {
            hooks::calls_enabled().map_err(BackendError::Unsupported)?;
        }
        if mode == AttachMode::Lsm {
            hooks::lsm_enabled().map_err(BackendError::Unsupported)?;
        }
        let globals = load::globals(&facts.offsets, &facts.settings);
        let pins = pin_dir.map(|root| {
            let [(_, offsets), (_, settings)] = globals;
            let release = release::text();
            Pins::of(root, &[object, offsets, settings, mode.to_string().as_bytes(), release.as_bytes()])
        });
        let started = Instant::now();
        let is_taken_over = pins.as_ref().is_some_and(Pins::are_complete);
        let predecessor = pins.as_ref().and_then(|pins| predecessor(pins, is_taken_over));
        let (used, unused) = labels::names(&facts.settings);
        let pinned = match (&pins, &predecessor) {
            (Some(pins), _) if is_taken_over => pins.maps(),
            // Programs of several builds can share it.
            (_, Some(set)) => vec![(used.to_owned(), pins::map_of(set, used))],
            _ => Vec::new(),
        };
        let ebpf = load::load(object, &globals, unused, &pinned)?;
        let mut this = Self {
            ebpf,
            modifying: None,
            running: Programs::new(),
            statuses: Vec::new(),
            programs: Vec::new(),
            object_ms: millis(started.elapsed()),
            is_taken_over,
            predecessor,
            pins,
            totals: Totals::default(),
        };
        if this.is_taken_over {
            this.find_pinned(&wanted);
            this.keep_totals();
            return Ok(this);
        }
        this.pin_maps();
        this.keep_totals();
        this.modifying = Modifying::of(mode, object, &globals, &this.ebpf)?;
        if let Err(error) = this.attach(&wanted, facts) {
            this.unpin();
            return Err(error);
        }
        Ok(this)
    }

    /// Says that a sensor which comes later can take over everything. To be called when nothing can fail any more.
    ///
    /// # Errors
    /// [`BackendError::Io`].
    pub(super) fn complete(&self) -> Result<(), BackendError> {
        let Some(pins) = self.pins.as_ref().filter(|_| !self.is_taken_over) else { return Ok(()) };
        pins.complete().map_err(|source| BackendError::Io { attempt: "complete the pins".into(), source })
    }

    /// Takes the pins of an unfinished start away.
    fn unpin(&mut self) {
        if let Some(Err(error)) = self.pins.take().map(|pins| pins.remove()) {
            tracing::error!(%error, "pins stay; `treeline daemon --detach-all` removes them");
        }
    }

    /// Attaches the hooks of a mode, in their order.
    fn attach(&mut self, wanted: &[Hook], facts: &Facts) -> Result<(), BackendError> {
        for (index, hook) in wanted.iter().enumerate() {
            let started = Instant::now();
            let status = match (hook.kind, &mut self.modifying) {
                (HookKind::ModifyReturn, Some(modifying)) => modifying.attach(hook, &facts.kernel),
                _ => load::attach(&mut self.ebpf, hook, &facts.types),
            };
            if let (HookState::Failed { error }, true) = (&status.state, hook.essential) {
                return Err(BackendError::Unsupported(format!("{}: {error}", status.hook)));
            }
            if status.state == HookState::Attached {
                self.attached(index, hook, wanted, &status, started.elapsed())?;
            }
            self.statuses.push(status);
        }
        Ok(())
    }

    fn attached(
        &mut self,
        index: usize,
        hook: &Hook,
        wanted: &[Hook],
        status: &HookStatus,
        took: Duration,
    ) -> Result<(), BackendError> {
        let program = match hook.kind {
            HookKind::ModifyReturn => self.modifying.as_ref().and_then(Modifying::latest),
            _ => load::program(&self.ebpf, hook),
        };
        if let Some(program) = program {
            self.running.watch(hook, hook.can_be_left_out(wanted), program);
            let verified = bpf::info(program).map_or(0, |info| info.verified_instructions);
            self.programs.push(ProgramReport {
                hook: status.hook.clone(),
                verified_instructions: (verified > 0).then_some(verified),
                load_ms: millis(took),
            });
        }
        let Some(pins) = &self.pins else { return Ok(()) };
        let failed = |source| BackendError::Io { attempt: format!("pin `{}`", status.hook), source };
        match itself::newest_link().map_err(failed)? {
            Some(link) => pins::pin(link, &pins.link(index)).map_err(failed),
            None => Ok(()),
        }
    }

    fn find_pinned(&mut self, wanted: &[Hook]) {
        let Some(pins) = &self.pins else { return };
        for (index, hook) in wanted.iter().enumerate() {
            let state = match pins.program(index) {
                Ok(Some(program)) => {
                    self.running.watch(hook, hook.can_be_left_out(wanted), program);
                    HookState::Attached
                }
                Ok(None) => {
                    HookState::Failed { error: "it was refused when the programs were loaded".to_owned() }
                }
                Err(error) => HookState::Failed { error: format!("its pin cannot be read: {error}") },
            };
            self.statuses.push(HookStatus { hook: hook.name(), state });
        }
    }

    /// Without bpffs the sensor works all the same, as long as it lives; its coverage says so.
    fn pin_maps(&mut self) {
        let Some(pins) = &self.pins else { return };
        if let Err(error) = pin_maps(pins, &self.ebpf) {
            let words = format!("cannot pin below `{}`: {error}; is bpffs mounted?", pins.root().display());
            tracing::error!("{words}; nothing is refused once this process ends");
            self.statuses.push(HookStatus { hook: "pins".into(), state: HookState::Failed { error: words } });
            self.pins = None;
        }
    }

    /// Without the pin totals end with this process, and everything else works all the same.
    fn keep_totals(&mut self) {
        let Some(pins) = &self.pins else { return };
        match Totals::to_keep(pins.set()) {
            Ok(totals) => self.totals = totals,
            Err(error) => tracing::error!(%error, "the totals of records cannot be kept"),
        }
    }
}

/// The set of another build that is in force until the policy is in force here. What this build left can be of a start that
/// came to nothing when its programs were attached: without a policy it guards nothing, and another set that has one does.
fn predecessor(pins: &Pins, is_taken_over: bool) -> Option<PathBuf> {
    let others = pins.predecessors();
    let in_force = others.iter().position(|set| tables::is_in_force(set));
    if is_taken_over {
        let guards = tables::is_in_force(pins.set());
        return in_force.filter(|_| !guards).map(|index| others[index].clone());
    }
    others.get(in_force.unwrap_or(0)).cloned()
}

fn pin_maps(pins: &Pins, ebpf: &Ebpf) -> Result<(), String> {
    pins.make().map_err(|error| error.to_string())?;
    // bpffs takes no dots, which sections have; what is in them is part of the programs.
    for (name, map) in ebpf.maps().filter(|(name, _)| !name.contains('.')) {
        map.pin(pins.map(name)).map_err(|error| load::chain(&error))?;
    }
    Ok(())
}
