//! The sensor of another build that was here before: its programs are in force until the policy is in force here, too.
//!
//! Both builds' programs run beside each other for a while, and both record. Until the policy is in force here it is the
//! former's records that are read; what happens afterwards is taken from the new rings. But where a program refuses, the
//! kernel asks no further one, so that a refusal is only ever in one of them, and is read wherever it is.

use std::{
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use aya::maps::MapError;

use super::{
    bpf,
    decode::Decoder,
    hooks::Hook,
    pins,
    programs::Programs,
    rings::{self, Counters, Rings, boot_ns},
    tables,
};
use crate::backend::{Delivery, KindCount, LossReport};

/// How long its programs may take to go when their pins have gone, which the kernel does in the background; and how often
/// that is looked at.
const GONE_AFTER: Duration = Duration::from_secs(1);
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// What another build left, until the policy is in force here.
pub(super) struct Former {
    set: PathBuf,
    left: Left,
    /// Its programs, by id.
    programs: Vec<u32>,
    since_ns: u64,
}

/// What can be had of it. All of it is open: the pins go before the rest is read.
enum Left {
    Records(Box<Rings>, Programs),
    /// Its records are laid out in another way, or something else is wrong with them: how many there are, if that.
    Count(Option<Counters>),
}

impl Left {
    fn open(set: &Path, hooks: &[Hook]) -> Self {
        if pins::has_same_records(set) {
            match Rings::of_set(set) {
                Ok(rings) => return Self::Records(Box::new(rings), Programs::of_set(set, hooks)),
                Err(error) => tracing::error!(%error, "the records of the sensor before cannot be read"),
            }
        }
        let counters = rings::counters_of(set).inspect_err(|error| {
            tracing::error!(%error, "what the sensor before did not read is not known");
        });
        Self::Count(counters.ok())
    }
}

impl Former {
    /// Opens what is pinned in a set. All programs of this sensor are attached, and its own rings stand by. Also what
    /// there is to say: how long nobody read, and how many records were lost meanwhile. `left_out` is how often this
    /// sensor's own programs were left out, where an earlier start attached them.
    pub(super) fn open(
        set: PathBuf,
        hooks: &[Hook],
        own: &mut Rings,
        left_out: Option<u64>,
    ) -> (Self, Delivery) {
        let mut left = Left::open(&set, hooks);
        let first = match &mut left {
            Left::Records(rings, programs) => {
                own.stand_by();
                Delivery::Loss(rings.take_over(programs.left_out()))
            }
            // That start has said that the totals begin anew, and its rings have been the ones that are read since.
            Left::Count(counters) if let Some(left_out) = left_out => {
                *counters = None;
                Delivery::Loss(own.take_over(left_out))
            }
            Left::Count(_) => {
                kept(own.begin_anew());
                anew()
            }
        };
        let programs = pins::programs(&set);
        (Self { set, left, programs, since_ns: boot_ns() }, first)
    }

    /// Generation and mark of the policy that it put in force; zeros when that is not known.
    pub(super) fn policy(&self) -> (u64, u64) {
        if matches!(self.left, Left::Count(_)) {
            return (0, 0);
        }
        let head = tables::head_of(&self.set).unwrap_or_else(|error| {
            tracing::error!(%error, "the policy of the sensor before cannot be read");
            None
        });
        head.map_or((0, 0), |head| (head.generation, head.policy))
    }

    /// Whether nothing is held back of its records.
    pub(super) fn is_empty(&self) -> bool {
        self.rings().is_none_or(Rings::is_empty)
    }

    /// Hands over what has arrived, as [`Rings::drain`] does.
    pub(super) fn drain(&mut self, horizon_ns: u64, decoder: &Decoder, deliver: &mut dyn FnMut(Delivery)) {
        if let Left::Records(rings, _) = &mut self.left {
            rings.drain(horizon_ns, decoder, deliver);
        }
    }

    /// Reports what was lost since the last call, if its records are those that are read.
    pub(super) fn losses(&mut self, deliver: &mut dyn FnMut(Delivery)) -> bool {
        let Left::Records(rings, _) = &mut self.left else { return false };
        rings.losses(deliver);
        true
    }

    /// Counts by kind, if its records are those that are read.
    pub(super) fn counts(&self) -> Option<Vec<KindCount>> {
        self.rings().map(Rings::counts)
    }

    /// Its rings, if they are those that are read.
    pub(super) fn rings(&self) -> Option<&Rings> {
        match &self.left {
            Left::Records(rings, _) => Some(rings),
            Left::Count(_) => None,
        }
    }

    /// The same, to be told of.
    pub(super) fn rings_mut(&mut self) -> Option<&mut Rings> {
        match &mut self.left {
            Left::Records(rings, _) => Some(rings),
            Left::Count(_) => None,
        }
    }

    /// Leaves word of when its rings were read, if they are; see [`Rings::beat`].
    pub(super) fn beat(&mut self) -> Option<Result<(), MapError>> {
        match &mut self.left {
            Left::Records(rings, programs) => Some(rings.beat(programs.left_out())),
            Left::Count(_) => None,
        }
    }

    /// The policy is in force here: from now on this sensor's own rings are read.
    pub(super) fn hand_over(&mut self, own: &mut Rings, deliver: &mut dyn FnMut(Delivery)) {
        if let Left::Records(rings, _) = &mut self.left {
            kept(own.begin_after(rings, deliver));
        }
    }

    /// The rest, once its pins are gone: what it refused since, and what was lost. Where its records cannot be read, how
    /// many there were.
    pub(super) fn finish(self, own: &mut Rings, decoder: &Decoder, deliver: &mut dyn FnMut(Delivery)) {
        match self.left {
            Left::Records(mut rings, programs) => {
                let count = programs.left_out_now().saturating_sub(programs.left_out());
                // They are held by it.
                drop(programs);
                until_gone(&self.programs);
                // Nothing more comes: nothing is held back.
                rings.drain(u64::MAX, decoder, deliver);
                kept(own.add_refused(&rings));
                rings.losses(deliver);
                if count > 0 {
                    let (first_ns, last_ns) = (self.since_ns, boot_ns());
                    let (kind, site) = ("any", "recursion");
                    deliver(Delivery::Loss(LossReport { kind, site, count, first_ns, last_ns }));
                }
            }
            Left::Count(counters) => {
                if let Some(counters) = counters {
                    deliver(Delivery::Loss(rings::unread(&counters)));
                }
            }
        }
    }
}

/// Waits until programs refuse nothing any more.
fn until_gone(programs: &[u32]) {
    let started = Instant::now();
    while programs.iter().any(|id| bpf::program_by_id(*id).is_ok()) {
        if started.elapsed() > GONE_AFTER {
            tracing::warn!("programs of the sensor before are held by another process, see `bpftool link`");
            return;
        }
        thread::sleep(LOOK_INTERVAL);
    }
}

/// Says it when totals could not be pinned.
fn kept(result: Result<(), MapError>) {
    if let Err(error) = result {
        tracing::error!(%error, "the totals of records end with this process");
    }
}

/// The totals of `treeline status` do not go on, which the log has to say.
fn anew() -> Delivery {
    Delivery::Malformed {
        what: "counters of the sensor before",
        error: "they are laid out in another way: totals begin anew, and what nobody read is lost".to_owned(),
    }
}
