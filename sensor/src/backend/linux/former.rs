//! The sensor of another build that was here before: its programs are in force until the policy is in force here, too, and
//! what they recorded and nobody read is read from its rings.
//!
//! Both builds' programs run beside each other for a while, and both record. What happened before the last of the new
//! programs was attached is taken from the former's rings, what happened after it from the new ones; but where a former
//! program refuses, the kernel asks no further program, so that a refusal is only ever in one of them.

use std::path::{Path, PathBuf};

use aya::maps::MapError;

use super::{
    decode::Decoder,
    hooks::Hook,
    pins,
    programs::Programs,
    rings::{self, Counters, Rings},
    tables,
};
use crate::backend::Delivery;

/// What another build left, until the policy is in force here.
pub(super) struct Former {
    set: PathBuf,
    left: Left,
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

    fn take(&mut self, decoder: &Decoder) -> Vec<Delivery> {
        let mut taken = Vec::new();
        if let Self::Records(rings, _) = self {
            rings.drain(decoder, &mut |delivery| taken.push(delivery));
        }
        taken
    }
}

impl Former {
    /// Opens what is pinned in a set. All programs of this sensor are attached: from now on its own rings are read, and
    /// what the former recorded until now is the second value. Totals go on where the former's are.
    pub(super) fn take_over(
        set: PathBuf,
        hooks: &[Hook],
        own: &mut Rings,
        decoder: &Decoder,
    ) -> (Self, Vec<Delivery>) {
        let mut left = Left::open(&set, hooks);
        kept(match &mut left {
            Left::Records(rings, _) => own.begin_beside(rings),
            Left::Count(_) => own.begin_anew(),
        });
        let mut recorded = left.take(decoder);
        if matches!(left, Left::Count(_)) {
            recorded.push(anew());
        }
        (Self { set, left }, recorded)
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

    /// The rest, once its programs are gone: what it refused since. And how long nobody read, and how many records were
    /// lost meanwhile.
    pub(super) fn finish(mut self, own: &mut Rings, decoder: &Decoder) -> Vec<Delivery> {
        let mut rest = self.left.take(decoder);
        let unread = match &mut self.left {
            Left::Records(rings, programs) => {
                kept(own.add_refused(rings));
                Some(rings.take_over(programs.left_out_now()))
            }
            Left::Count(counters) => counters.as_ref().map(rings::unread),
        };
        rest.extend(unread.map(Delivery::Loss));
        rest
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
