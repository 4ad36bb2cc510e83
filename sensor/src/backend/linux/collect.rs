//! Taking what the kernel and the guard have, in the order of time, whatever else is going on.

use std::{
    panic::resume_unwind,
    sync::{Arc, PoisonError},
    thread,
    time::Duration,
};

use treeline_event::{Action, AttachMode, Outcome, PathBytes};
use treeline_policy::Subject;

use super::{LinuxBackend, named, rings::boot_ns, track};
use crate::backend::{Delivery, Installable, LossReport, Observation, Seen};

/// Deliveries that are collected while something else takes its time: some 30 MiB. Beyond it the rings fill, and count.
const COLLECTED_MAX: usize = 65_536;

/// Refusals of one thread whose system call has not been seen to return, and threads that have such. A worker of
/// io_uring returns from none. Beyond it a refused call is recorded a second time, as one that failed.
const EXPECTED_MAX: usize = 1024;
const EXPECTED_THREADS_MAX: usize = 16_384;

/// Processes whose executable is known, for execs that are judged when they have happened: as many as the process table
/// holds. Of others it is unknown.
const IMAGES_MAX: usize = 65_536;

/// How often that is done: far more often than a ring can fill.
const COLLECT_INTERVAL: Duration = Duration::from_millis(2);

impl LinuxBackend {
    /// In mode `fallback` names are judged here, in the other modes in the kernel.
    pub(super) fn judge_names(&mut self, mut delivery: Delivery) -> Delivery {
        let before = match (&delivery, self.mode) {
            (Delivery::Observation(observation), AttachMode::Fallback) => self.follow_image(observation),
            _ => None,
        };
        if let (Delivery::Observation(observation), Some(in_force), AttachMode::Fallback) =
            (&mut delivery, &self.in_force, self.mode)
        {
            let Installable { policy, generation, .. } = &in_force.installable;
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            let session = self.sessions.get(observation.session);
            let subject = |key| {
                let label = track::label(&self.labels, key);
                let lineage =
                    in_force.tables.lineage_reader().read(label.map(|label| label.lineage).as_ref());
                Subject { lineage, session: Arc::clone(&session), ..Subject::default() }
            };
            let host = &in_force.tables.host;
            named::judge(observation, policy, host, *generation, &known, &subject, before.as_ref());
        }
        delivery
    }

    /// Keeps track of what processes execute; answers what the subject of an exec executed before.
    fn follow_image(&mut self, observation: &Observation) -> Option<PathBytes> {
        match &observation.seen {
            Seen::Fork { child, .. } => {
                let image = self.images.get(&observation.subject).cloned()?;
                if self.images.len() < IMAGES_MAX {
                    self.images.insert(*child, image);
                }
                None
            }
            Seen::Exec(exec) if self.images.len() < IMAGES_MAX => {
                self.images.insert(observation.subject, exec.image.path.clone())
            }
            Seen::Exec(_) => self.images.remove(&observation.subject),
            Seen::Exit { .. } => {
                self.images.remove(&observation.subject);
                None
            }
            Seen::Act(_) => None,
        }
    }

    /// Whether an observation repeats what the guard has already reported: the system call that it refused. That is
    /// the next one that the same thread comes back from.
    pub(super) fn repeats_refusal(&mut self, delivery: &Delivery) -> bool {
        let Delivery::Observation(observation) = delivery else { return false };
        let thread = (observation.subject, observation.tid);
        if matches!(observation.seen, Seen::Exit { .. }) {
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
        let Seen::Act(action) = &observation.seen else { return false };
        returned && matches!(&**action, Action::Open { outcome: Outcome::Errno(libc::EPERM), .. })
    }

    /// Takes what has arrived from the kernel and the guard, in the order of time.
    ///
    /// The guard hands a refusal over before its subject goes on, so that of what has happened until now every refusal is
    /// there when the guard is asked, with what came before it. What the subject did later, such as to come back from the
    /// system call that was refused, or to end, is later than that, and waits for the next round.
    pub(super) fn collect(&mut self) {
        let horizon_ns = boot_ns();
        let _ = rustix::io::read(&*self.refused, &mut [0u8; 8]);
        let mut refusals = std::mem::take(&mut self.later);
        refusals.extend(self.take_refusals());
        let (refusals, later): (Vec<_>, _) =
            refusals.into_iter().partition(|refusal| is_until(refusal, horizon_ns));
        self.later = later;
        let mut records = std::mem::take(&mut self.handed_on);
        if let Some(former) = &mut self.former {
            former.drain(horizon_ns, &self.decoder, &mut |delivery| records.push(delivery));
        }
        self.rings.drain(horizon_ns, &self.decoder, &mut |delivery| records.push(delivery));
        records.retain(|record| !self.repeats_refusal(record) && self.learn_from(record));
        let judged: Vec<Delivery> = records.into_iter().map(|record| self.judge_names(record)).collect();
        let mut all: Vec<Delivery> = refusals.into_iter().chain(judged).collect();
        // A record that could not be read has no time; it stays before its neighbours.
        all.sort_by_key(|delivery| match delivery {
            Delivery::Observation(observation) => observation.time_ns,
            Delivery::Loss(_) | Delivery::Malformed { .. } => 0,
        });
        self.collected.append(&mut all);
    }

    pub(super) fn take_refusals(&mut self) -> Vec<Delivery> {
        let Some(guard) = &self.guard else { return Vec::new() };
        let mut taken = Vec::new();
        for refusal in guard.denials() {
            if let Seen::Act(action) = &refusal.seen
                && matches!(**action, Action::Open { .. })
            {
                let thread = (refusal.subject, refusal.tid);
                if self.expected.len() < EXPECTED_THREADS_MAX || self.expected.contains_key(&thread) {
                    let times = self.expected.entry(thread).or_default();
                    if times.len() >= EXPECTED_MAX {
                        times.pop_front();
                    }
                    times.push_back(refusal.time_ns);
                }
            }
            taken.push(Delivery::Observation(Box::new(refusal)));
        }
        if let Some((count, first_ns, last_ns)) = guard.unrecorded() {
            taken.push(Delivery::Loss(LossReport { kind: "open", site: "guard", count, first_ns, last_ns }));
        }
        taken
    }

    /// Does something that takes its time, and meanwhile keeps the rings from running full.
    pub(super) fn while_collecting<T: Send>(&mut self, work: impl FnOnce() -> T + Send) -> T {
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
}

/// Whether it happened until then; what has no time did.
fn is_until(delivery: &Delivery, horizon_ns: u64) -> bool {
    !matches!(delivery, Delivery::Observation(observation) if observation.time_ns > horizon_ns)
}
