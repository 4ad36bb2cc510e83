//! Reading the two rings in the order of time, and the counters of what did not fit.

use std::{os::fd::AsFd, path::Path, time::Duration};

use aya::{
    Ebpf,
    maps::{Map, MapData, MapError, PerCpuArray, RingBuf},
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use treeline_abi::{Kind, Loss};
use zerocopy::{FromBytes, IntoBytes};

use super::decode::{Decoder, time_of};
use crate::backend::{BackendError, Delivery, KindCount, LossReport};

/// Records that are taken from a ring in one go. Beyond it the rest waits for the next round.
const BATCH_MAX: usize = 65_536;

/// The row of the counters that no kind has: the sensor's own, see [`Rings::beat`].
const HEARTBEAT: u32 = 0;

pub(super) type Counters = PerCpuArray<MapData, [u8; size_of::<Loss>()]>;

/// The rings and counters of the loaded object.
pub(super) struct Rings {
    lifecycle: RingBuf<MapData>,
    activity: RingBuf<MapData>,
    counters: Counters,
    /// Lifecycle records that are younger than the last look at the activity ring.
    held: Vec<Vec<u8>>,
    reported: [Loss; Kind::COUNT],
    /// Records that were taken out, by kind; those of no known kind are at 0. What another sensor left is not counted.
    read: [u64; Kind::COUNT],
    /// The counters when this sensor took over, and when that was, nanoseconds of `CLOCK_BOOTTIME`.
    before: [Loss; Kind::COUNT],
    since_ns: u64,
    /// Whether what is older than that is another sensor's to hand over, and not this one's.
    is_beside: bool,
}

impl Rings {
    /// Rings and counters that are open.
    pub(super) fn of(lifecycle: RingBuf<MapData>, activity: RingBuf<MapData>, counters: Counters) -> Self {
        Self {
            lifecycle,
            activity,
            counters,
            held: Vec::new(),
            reported: [Loss::default(); Kind::COUNT],
            read: [0; Kind::COUNT],
            before: [Loss::default(); Kind::COUNT],
            since_ns: 0,
            is_beside: false,
        }
    }

    /// Takes the maps out of the object.
    ///
    /// # Errors
    /// When the object does not have them.
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, BackendError> {
        let wrong = |error: MapError| BackendError::Unsupported(format!("kernel object: {error}"));
        let mut take = |name: &str| {
            ebpf.take_map(name)
                .ok_or_else(|| BackendError::Unsupported(format!("the kernel object has no map `{name}`")))
        };
        Ok(Self::of(
            RingBuf::try_from(take("LIFECYCLE")?).map_err(wrong)?,
            RingBuf::try_from(take("ACTIVITY")?).map_err(wrong)?,
            PerCpuArray::try_from(take("COUNTERS")?).map_err(wrong)?,
        ))
    }

    /// Takes over the counters of a sensor that ended, and says how long nobody read, and how many records were lost
    /// meanwhile; what is still in the rings is not. `left_out` is how often programs were left out until now.
    pub(super) fn take_over(&mut self, left_out: u64) -> LossReport {
        let beat = row(&self.counters, HEARTBEAT);
        self.begin(boot_ns());
        let lost: u64 = self.reported.iter().map(|kind| kind.lost + kind.failed).sum();
        let count = (lost + left_out).saturating_sub(beat.lost.saturating_add(beat.failed));
        LossReport { kind: "any", site: "unread", count, first_ns: beat.last_ns, last_ns: self.since_ns }
    }

    /// Begins at `since_ns`: what is older is in the rings of a sensor of another build, whose programs run beside.
    pub(super) fn begin_beside(&mut self, since_ns: u64) {
        self.is_beside = true;
        self.begin(since_ns);
    }

    /// What was counted until now is not this sensor's.
    fn begin(&mut self, since_ns: u64) {
        self.since_ns = since_ns;
        for kind in Kind::ALL {
            self.reported[kind as usize] = self.sum(kind);
        }
        self.before = self.reported;
    }

    /// Leaves word of when the rings were read and of what was reported as lost, for the sensor that comes next.
    pub(super) fn beat(&mut self, left_out: u64) -> Result<(), MapError> {
        let sum = |of: fn(&Loss) -> u64| self.reported.iter().map(of).sum();
        let beat = Loss {
            created: Kind::ALL.into_iter().map(|kind| self.sum(kind).created).sum(),
            lost: sum(|kind| kind.lost),
            failed: sum(|kind| kind.failed) + left_out,
            last_ns: boot_ns(),
            ..Loss::default()
        };
        let mut values: Vec<_> =
            self.counters.get(&HEARTBEAT, 0)?.iter().map(|_| [0; size_of::<Loss>()]).collect();
        if let Some(first) = values.first_mut() {
            first.copy_from_slice(beat.as_bytes());
        }
        let values = aya::maps::PerCpuValues::try_from(values)
            .map_err(|io_error| aya::sys::SyscallError { call: "read the number of processors", io_error })?;
        self.counters.set(HEARTBEAT, values, 0)
    }

    /// Waits until there is something, at most `timeout`. `also` wakes it up, too.
    ///
    /// # Errors
    /// When poll(2) fails.
    pub(super) fn wait(
        &self,
        also: Option<&rustix::fd::OwnedFd>,
        timeout: Duration,
    ) -> Result<(), BackendError> {
        if !self.held.is_empty() {
            return Ok(());
        }
        let mut descriptors = vec![
            PollFd::from_borrowed_fd(self.lifecycle.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.activity.as_fd(), PollFlags::IN),
        ];
        descriptors.extend(also.map(|fd| PollFd::new(fd, PollFlags::IN)));
        let timeout =
            Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: i64::from(timeout.subsec_nanos()) };
        match poll(&mut descriptors, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => {
                Err(BackendError::Io { attempt: "wait for kernel events".to_owned(), source: error.into() })
            }
        }
    }

    /// Hands over what has arrived, in the order of time over both rings.
    ///
    /// The activity ring is emptied first. What a process did is in a ring before its end is in the other, so every
    /// lifecycle record that is older than this look belongs before or between these, and younger ones are held
    /// back: an exit never overtakes what came before it.
    pub(super) fn drain(&mut self, decoder: &Decoder, deliver: &mut dyn FnMut(Delivery)) {
        let horizon_ns = boot_ns();
        let mut batch = std::mem::take(&mut self.held);
        let held_count = batch.len();
        take_from(&mut self.activity, &mut batch);
        take_from(&mut self.lifecycle, &mut batch);
        if self.is_beside {
            batch.retain(|record| time_of(record) >= self.since_ns);
        }
        for record in batch[held_count..].iter().filter(|record| time_of(record) >= self.since_ns) {
            let kind = record.first_chunk().map_or(0, |number| u16::from_ne_bytes(*number));
            self.read[Kind::from_number(kind).map_or(0, |kind| kind as usize)] += 1;
        }
        batch.sort_by_key(|record| time_of(record));
        for record in batch {
            if time_of(&record) > horizon_ns {
                self.held.push(record);
                continue;
            }
            deliver(match decoder.decode(&record) {
                Ok(observation) => Delivery::Observation(Box::new(observation)),
                Err(error) => Delivery::Malformed(error),
            });
        }
    }

    /// Reports what was lost since the last call.
    pub(super) fn losses(&mut self, deliver: &mut dyn FnMut(Delivery)) {
        for kind in Kind::ALL {
            let now = self.sum(kind);
            let before = std::mem::replace(&mut self.reported[kind as usize], now);
            let mut report = |site, count| {
                if count > 0 {
                    let first_ns = if before.lost == 0 { now.first_ns } else { before.last_ns };
                    deliver(Delivery::Loss(LossReport {
                        kind: name(kind),
                        site,
                        count,
                        first_ns,
                        last_ns: now.last_ns,
                    }));
                }
            };
            report("ring", now.lost - before.lost);
            report("build", now.failed - before.failed);
        }
    }

    /// Counts of the kinds that were seen, since this sensor reads.
    pub(super) fn counts(&self) -> Vec<KindCount> {
        let count = |kind: Kind| {
            let (Loss { created, lost, .. }, before) = (self.sum(kind), &self.before[kind as usize]);
            let (created, lost) = (created - before.created, lost - before.lost);
            KindCount { kind: name(kind), created, read: self.read[kind as usize], lost }
        };
        Kind::ALL.into_iter().map(count).filter(|count| count.created > 0).collect()
    }

    /// The counters of one kind over all CPUs.
    pub(super) fn sum(&self, kind: Kind) -> Loss {
        row(&self.counters, kind as u32)
    }
}

/// The records of a sensor of another build that nobody has read, by the counters that it has pinned: what was created
/// since it left word last, at most a second before it ended.
///
/// # Errors
/// They cannot be read.
pub(super) fn unread(counters: &Path) -> Result<LossReport, MapError> {
    let counters: Counters = PerCpuArray::try_from(Map::PerCpuArray(MapData::from_pin(counters)?))?;
    let beat = row(&counters, HEARTBEAT);
    let created: u64 = Kind::ALL.into_iter().map(|kind| row(&counters, kind as u32).created).sum();
    let count = created.saturating_sub(beat.created);
    Ok(LossReport { kind: "any", site: "unread", count, first_ns: beat.last_ns, last_ns: boot_ns() })
}

/// One row of the counters, over all CPUs.
fn row(counters: &Counters, index: u32) -> Loss {
    let mut sum = Loss::default();
    let Ok(values) = counters.get(&index, 0) else {
        return sum;
    };
    for value in values.iter() {
        let Ok(one) = Loss::read_from_bytes(value) else { continue };
        sum.created += one.created;
        sum.lost += one.lost;
        sum.failed += one.failed;
        if one.first_ns != 0 && (sum.first_ns == 0 || one.first_ns < sum.first_ns) {
            sum.first_ns = one.first_ns;
        }
        sum.last_ns = sum.last_ns.max(one.last_ns);
    }
    sum
}

fn take_from(ring: &mut RingBuf<MapData>, batch: &mut Vec<Vec<u8>>) {
    let full = batch.len() + BATCH_MAX;
    while batch.len() < full
        && let Some(record) = ring.next()
    {
        batch.push(record.to_vec());
    }
}

/// `CLOCK_BOOTTIME`, nanoseconds.
pub(super) fn boot_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The kind's name in loss reports.
pub(super) fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Fork => "fork",
        Kind::Exec => "exec",
        Kind::Exit => "exit",
        Kind::Open => "open",
        Kind::Create => "create",
        Kind::Delete => "delete",
        Kind::Rename => "rename",
        Kind::Link => "link",
        Kind::Mount => "mount",
        Kind::Receive => "receive",
        Kind::Connect => "connect",
        Kind::ExecDenied => "exec_denied",
        Kind::Modify => "modify",
        Kind::Map => "map",
        Kind::Tamper => "tamper",
        Kind::Trace => "trace",
        Kind::Adopt => "adopt",
    }
}
