//! When executions are held: as long as the policy in force refuses contents and a tracked process lives.

use std::{
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use aya::Ebpf;
use treeline_event::{Action, Verdict};
use treeline_policy::Tables;

use super::{
    LinuxBackend,
    hold::{Contents, Decides, Hold},
    tables::KernelTables,
    track,
};
use crate::backend::{BackendError, Delivery, Seen};

/// How often it is looked whether a tracked process lives: it takes a look at every process of the machine.
const LIVES_INTERVAL: Duration = Duration::from_secs(10);

/// What is known of files, with what another sensor knew whose programs were taken over.
pub(super) fn contents(ebpf: &mut Ebpf, is_taken_over: bool) -> Result<Contents, BackendError> {
    let mut contents = Contents::of(ebpf)?;
    if is_taken_over && let Some((policy, slot)) = KernelTables::policy_in_force(ebpf)? {
        contents.take_over(policy, slot)?;
    }
    Ok(contents)
}

impl LinuxBackend {
    /// Before a policy is put in force: what it asks of contents is in the kernel's tables, and from then on whoever
    /// executes something is held, if somebody is tracked.
    pub(super) fn hold_before_policy(&mut self, tables: &Arc<Tables>) -> Result<(), BackendError> {
        if tables.hold.rule != 0 && self.hold.is_none() {
            let decides = match &self.guard {
                Some(guard) => Decides::Answer(guard.reporter()),
                None => Decides::Hook,
            };
            self.hold = Some(Hold::start(self.labels.try_clone()?, Arc::clone(&self.known), decides)?);
        }
        if let Some(hold) = self.hold.as_ref().filter(|_| tables.hold.rule != 0)
            && !track::labelled(&self.labels).is_empty()
        {
            hold.begin()?;
        }
        self.known.lock().unwrap_or_else(PoisonError::into_inner).prepare(tables)
    }

    /// Before somebody is tracked.
    pub(super) fn hold_before_tracking(&mut self) -> Result<(), BackendError> {
        let asks = self.in_force.as_ref().is_some_and(|in_force| in_force.tables.hold.rule != 0);
        self.holding = Instant::now();
        match &self.hold {
            Some(hold) if asks => hold.begin(),
            _ => Ok(()),
        }
    }

    /// After another policy was put in force.
    pub(super) fn end_hold_without_need(&self) {
        let asks = self.in_force.as_ref().is_some_and(|in_force| in_force.tables.hold.rule != 0);
        if let Some(hold) = self.hold.as_ref().filter(|_| !asks) {
            hold.end();
        }
    }

    /// When nobody is tracked any more. Until then what was mounted meanwhile is looked after.
    pub(super) fn end_hold(&mut self) {
        let Some(hold) = self.hold.as_ref().filter(|hold| hold.is_active()) else { return };
        if self.holding.elapsed() < LIVES_INTERVAL {
            return;
        }
        self.holding = Instant::now();
        if track::labelled(&self.labels).is_empty() {
            hold.end();
        }
    }

    /// What the hooks say of files that nobody knows: they are read in the background. A mapping that was let through is
    /// no event. What was mounted is looked at.
    pub(super) fn learn_from(&self, delivery: &Delivery) -> bool {
        let (Some(hold), Delivery::Observation(observation)) = (&self.hold, delivery) else { return true };
        let Seen::Act(action) = &observation.seen else { return true };
        match &**action {
            Action::Mount { .. } => hold.look_at(observation.subject.pid),
            Action::ExecDenied { file } | Action::Map { file, .. } if file.content_unknown => {
                if let Some(id) = &file.id {
                    hold.want(&file.path, id);
                }
                hold.look_at(observation.subject.pid);
                return observation.verdict != Verdict::Allow;
            }
            _ => {}
        }
        true
    }
}
