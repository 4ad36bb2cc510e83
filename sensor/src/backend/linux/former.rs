//! The sensor of another build that was here before: its programs are in force until the policy is in force here, too, and
//! what they recorded and nobody read is read from its rings.
//!
//! Both builds' programs run beside each other for a while, and both record. What happened before the last of the new
//! programs was attached is taken from the former's rings, what happened after it from the new ones; but where a former
//! program refuses, the kernel asks no further program, so that a refusal is only ever in one of them.

use std::path::{Path, PathBuf};

use aya::maps::{Array, Map, MapData, MapError, PerCpuArray, RingBuf};
use treeline_abi::paths::Table;
use treeline_event::Verdict;
use zerocopy::FromBytes as _;

use super::{
    decode::Decoder,
    pins,
    rings::{self, Rings},
};
use crate::backend::Delivery;

/// What another build left, until the policy is in force here.
pub(super) struct Former {
    set: PathBuf,
    /// None when its records are laid out in another way.
    rings: Option<Rings>,
    /// From when on this sensor's programs record, nanoseconds of `CLOCK_BOOTTIME`.
    since_ns: u64,
}

impl Former {
    /// Opens what is pinned in a set. All programs of this sensor are attached: from now on its own rings are read, and
    /// what the former recorded until now is the second value.
    pub(super) fn take_over(
        set: PathBuf,
        own: &mut Rings,
        decoder: &Decoder,
    ) -> (Option<Self>, Vec<Delivery>) {
        let mut former = Self::open(set);
        own.begin_beside(former.since_ns);
        let since_ns = former.since_ns;
        let recorded = former.take(decoder, |time_ns, _| time_ns < since_ns);
        (Some(former), recorded)
    }

    fn open(set: PathBuf) -> Self {
        let since_ns = rings::boot_ns();
        let rings = pins::has_same_records(&set).then(|| open_rings(&set)).transpose();
        let rings = rings.unwrap_or_else(|error| {
            tracing::error!(%error, "the records of the sensor before cannot be read");
            None
        });
        Self { set, rings, since_ns }
    }

    /// Generation and mark of the policy that it put in force; zeros when that is not known.
    pub(super) fn policy(&self) -> (u64, u64) {
        if self.rings.is_none() {
            return (0, 0);
        }
        let head = head(&self.set).unwrap_or_else(|error| {
            tracing::error!(%error, "the policy of the sensor before cannot be read");
            None
        });
        head.map_or((0, 0), |head| (head.generation, head.policy))
    }

    /// The rest, once its programs are gone: what it refused since. And how long nobody read, and how many records were
    /// lost meanwhile.
    pub(super) fn finish(mut self, decoder: &Decoder) -> Vec<Delivery> {
        let since_ns = self.since_ns;
        let mut rest = self.take(decoder, |time_ns, verdict| time_ns < since_ns || verdict == Verdict::Deny);
        let unread = match &mut self.rings {
            Some(rings) => Ok(rings.take_over(0)),
            None => rings::unread(&pins::map_of(&self.set, "COUNTERS")),
        };
        match unread {
            Ok(unread) => rest.push(Delivery::Loss(unread)),
            Err(error) => tracing::error!(%error, "what the sensor before did not read is not known"),
        }
        rest
    }

    fn take(&mut self, decoder: &Decoder, is_wanted: impl Fn(u64, Verdict) -> bool) -> Vec<Delivery> {
        let mut taken = Vec::new();
        let Some(rings) = &mut self.rings else { return taken };
        rings.drain(decoder, &mut |delivery| {
            let is_wanted = match &delivery {
                Delivery::Observation(seen) => is_wanted(seen.time_ns, seen.verdict),
                Delivery::Loss(_) | Delivery::Malformed(_) => true,
            };
            if is_wanted {
                taken.push(delivery);
            }
        });
        taken
    }
}

fn open_rings(set: &Path) -> Result<Rings, MapError> {
    let ring = |name| RingBuf::try_from(Map::RingBuf(MapData::from_pin(pins::map_of(set, name))?));
    let counters = Map::PerCpuArray(MapData::from_pin(pins::map_of(set, "COUNTERS"))?);
    Ok(Rings::of(ring("LIFECYCLE")?, ring("ACTIVITY")?, PerCpuArray::try_from(counters)?))
}

/// The head of the tables in force there.
fn head(set: &Path) -> Result<Option<Table>, MapError> {
    let active: Array<MapData, u32> = array(set, "ACTIVE")?;
    let Some(slot) = active.get(&0, 0)?.checked_sub(1) else { return Ok(None) };
    let tables: Array<MapData, [u8; size_of::<Table>()]> = array(set, "TABLES")?;
    Ok(Table::read_from_bytes(&tables.get(&slot, 0)?).ok())
}

fn array<V: aya::Pod>(set: &Path, name: &str) -> Result<Array<MapData, V>, MapError> {
    Array::try_from(Map::Array(MapData::from_pin(pins::map_of(set, name))?))
}
