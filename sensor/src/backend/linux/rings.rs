//! Reading the two rings in the order of time, and the counters of what did not fit.

use std::{os::fd::AsFd, path::Path, thread, time::Duration};

use aya::{
    Ebpf,
    maps::{Map, MapData, MapError, PerCpuArray, RingBuf},
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use treeline_abi::{Header, Kind, Loss, Verdict};
use zerocopy::{FromBytes, IntoBytes};

use super::{
    decode::{Decoder, time_of},
    pins,
    totals::{Total, Totals},
};
use crate::backend::{BackendError, Delivery, KindCount, LossReport};

/// Records that are taken from a ring in one go. Beyond it the rest waits for the next round.
const BATCH_MAX: usize = 65_536;

/// The row of the counters that no kind has: the sensor's own, see [`Rings::beat`].
const HEARTBEAT: u32 = 0;

/// How often it is tried to find a moment in which nothing is counted. On a machine that never rests, the totals of
/// `treeline status` are off by what was under way then.
const MOMENTS: usize = 64;
/// How long a program may take from its look at the clock to its count. One that is preempted (Linux 7.0) may take longer.
const UNDER_WAY: Duration = Duration::from_millis(5);
/// How often that is waited for: nobody reads meanwhile.
const WAITS_MAX: usize = 8;

pub(super) type Counters = PerCpuArray<MapData, [u8; size_of::<Loss>()]>;

/// The rings and counters of the loaded object.
pub(super) struct Rings {
    lifecycle: RingBuf<MapData>,
    activity: RingBuf<MapData>,
    counters: Counters,
    /// Lifecycle records that are younger than the last look at the activity ring.
    held: Vec<Vec<u8>>,
    reported: [Loss; Kind::COUNT],
    /// Records that were taken out since this sensor began, by kind; those of no known kind are at 0.
    read: [u64; Kind::COUNT],
    /// The same of what was created before, by kind: all that was not lost. What of it waits in a ring is read next.
    read_before: [u64; Kind::COUNT],
    totals: Totals,
    /// When this sensor began, nanoseconds of `CLOCK_BOOTTIME`.
    since_ns: u64,
    /// Records from before that moment that were not lost, those that waited then included.
    before: u64,
    /// Up to how many records the log has them, of all that there have been.
    recorded: u64,
    /// Whether nothing has been taken since, and how many of the records from before may still be there then. What there is
    /// beyond them was under way at that moment, and was counted after it.
    is_first_look: bool,
    expected: u64,
    /// Records that were taken from the rings by this process.
    taken: u64,
    /// Until the first look: what the sensor before had left word of.
    left_word: Option<LeftWord>,
    share: Share,
}

/// Until when a sensor that ended had read, and how many records its log had then.
#[derive(Clone, Copy)]
struct LeftWord {
    recorded: u64,
    at_ns: u64,
}

/// Which of the records in the rings are handed over, while programs of two builds record the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Share {
    All,
    /// Of the new build's, as long as the former's are read: refusals. Where one program refuses, no further one is asked.
    Refused,
    /// Of the new build's: those since the hand-over, and refusals.
    LaterAndRefused,
    /// Of the former's: those until then, and refusals.
    EarlierAndRefused,
}

impl Share {
    fn has(self, record: &[u8], since_ns: u64) -> bool {
        match self {
            Self::All => true,
            Self::Refused => is_refusal(record),
            Self::LaterAndRefused => time_of(record) >= since_ns || is_refusal(record),
            Self::EarlierAndRefused => time_of(record) < since_ns || is_refusal(record),
        }
    }
}

impl Rings {
    fn of(
        lifecycle: RingBuf<MapData>,
        activity: RingBuf<MapData>,
        counters: Counters,
        totals: Totals,
    ) -> Self {
        Self {
            lifecycle,
            activity,
            counters,
            held: Vec::new(),
            reported: [Loss::default(); Kind::COUNT],
            read: [0; Kind::COUNT],
            read_before: [0; Kind::COUNT],
            totals,
            since_ns: 0,
            before: 0,
            recorded: 0,
            is_first_look: false,
            expected: u64::MAX,
            taken: 0,
            left_word: None,
            share: Share::All,
        }
    }

    /// Opens those of another build's set, whose records are laid out as this one's.
    ///
    /// # Errors
    /// They cannot be opened.
    pub(super) fn of_set(set: &Path) -> Result<Self, MapError> {
        let ring = |name| RingBuf::try_from(Map::RingBuf(MapData::from_pin(pins::map_of(set, name))?));
        // Better to count anew than not to read what is there.
        let totals = Totals::of_set(set).unwrap_or_else(|error| {
            tracing::error!(%error, "the totals of the sensor before cannot be read");
            Totals::default()
        });
        Ok(Self::of(ring("LIFECYCLE")?, ring("ACTIVITY")?, counters_of(set)?, totals))
    }

    /// Takes the maps out of the object.
    ///
    /// # Errors
    /// When the object does not have them.
    pub(super) fn new(ebpf: &mut Ebpf, totals: Totals) -> Result<Self, BackendError> {
        let wrong = |error: MapError| BackendError::Unsupported(format!("kernel object: {error}"));
        let mut take = |name: &str| {
            ebpf.take_map(name)
                .ok_or_else(|| BackendError::Unsupported(format!("the kernel object has no map `{name}`")))
        };
        Ok(Self::of(
            RingBuf::try_from(take("LIFECYCLE")?).map_err(wrong)?,
            RingBuf::try_from(take("ACTIVITY")?).map_err(wrong)?,
            PerCpuArray::try_from(take("COUNTERS")?).map_err(wrong)?,
            totals,
        ))
    }

    /// Takes over the counters of a sensor that ended, and says how long nobody read, and how many records were lost
    /// meanwhile; what is still in the rings is not. `left_out` is how often programs were left out until now.
    pub(super) fn take_over(&mut self, left_out: u64) -> LossReport {
        let beat = row(&self.counters, HEARTBEAT);
        let (since_ns, [counted]) = moment([&self.counters]);
        self.begin(since_ns, counted);
        // An earlier build left no word of it.
        self.left_word =
            beat.first_ns.checked_sub(1).map(|recorded| LeftWord { recorded, at_ns: beat.last_ns });
        if let Some(word) = self.left_word {
            // What waits, and what is to be said of the rest, is not recorded yet.
            self.recorded = word.recorded.min(self.before);
            self.expected = self.before - self.recorded;
        }
        let lost: u64 = self.reported.iter().map(|kind| kind.lost + kind.failed).sum();
        let count = (lost + left_out).saturating_sub(beat.lost.saturating_add(beat.failed));
        LossReport { kind: "any", site: "unread", count, first_ns: beat.last_ns, last_ns: since_ns }
    }

    /// Leaves it to the rings of another build to say what happens, but for what only these programs refuse.
    pub(super) fn stand_by(&mut self) {
        self.share = Share::Refused;
    }

    /// Begins where another build's rings leave off, whose totals go on here: what happened before this moment is in its
    /// rings, what happens from now on in these.
    ///
    /// # Errors
    /// The totals cannot be pinned, and end with this process.
    pub(super) fn begin_after(
        &mut self,
        former: &mut Self,
        deliver: &mut dyn FnMut(Delivery),
    ) -> Result<(), MapError> {
        let (since_ns, [counted, by_former]) = moment([&self.counters, &former.counters]);
        former.report(&by_former, deliver);
        (self.share, former.share) = (Share::LaterAndRefused, Share::EarlierAndRefused);
        let by_log = former.recorded;
        former.begin(since_ns, by_former);
        let not_recorded = former.before.saturating_sub(by_log);
        for kind in Kind::ALL {
            let total = former.totals.of(kind, &by_former[kind as usize]);
            self.totals.go_on_from(kind, total, &counted[kind as usize]);
            // Refusals that only these rings had.
            self.totals.add(kind, Total { created: self.read[kind as usize], lost: 0 });
        }
        self.begin(since_ns, counted);
        // It waits there, or is on its way to the log.
        self.recorded = self.before.saturating_sub(not_recorded);
        self.expected = self.before.saturating_sub(self.taken);
        self.totals.save()
    }

    /// The same where the other one's records cannot be read: the totals begin now.
    ///
    /// # Errors
    /// As above.
    pub(super) fn begin_anew(&mut self) -> Result<(), MapError> {
        let (since_ns, [counted]) = moment([&self.counters]);
        self.share = Share::LaterAndRefused;
        for kind in Kind::ALL {
            self.totals.go_on_from(kind, Total::default(), &counted[kind as usize]);
        }
        self.begin(since_ns, counted);
        self.totals.save()
    }

    /// Takes over what the programs of another build have counted since this sensor began after them: what they refused,
    /// which has been read from their rings, and what they lost. Of the rest its own programs know.
    ///
    /// # Errors
    /// As above.
    pub(super) fn add_refused(&mut self, former: &Self) -> Result<(), MapError> {
        for kind in Kind::ALL {
            let index = kind as usize;
            let read = former.read[index];
            let lost = former.sum(kind).lost.saturating_sub(former.reported[index].lost);
            self.totals.add(kind, Total { created: read + lost, lost });
            self.read_before[index] += read;
        }
        self.totals.save()
    }

    /// What was counted until now is reported, or was another sensor's to report.
    fn begin(&mut self, since_ns: u64, counted: [Loss; Kind::COUNT]) {
        (self.since_ns, self.reported, self.read) = (since_ns, counted, [0; Kind::COUNT]);
        self.before = counted.iter().map(|kind| kind.created.saturating_sub(kind.lost)).sum();
        (self.recorded, self.is_first_look, self.expected) = (self.before, true, u64::MAX);
        for kind in Kind::ALL {
            let index = kind as usize;
            self.read_before[index] = self.totals.of(kind, &counted[index]).not_lost();
        }
    }

    /// How many records have been handed over, of all that there have been.
    pub(super) fn handed_over(&self) -> u64 {
        (self.before + self.read.iter().sum::<u64>()).saturating_sub(self.held.len() as u64)
    }

    /// So many of them are in the log. Whether that is news.
    pub(super) fn note_recorded(&mut self, records: u64) -> bool {
        std::mem::replace(&mut self.recorded, records) != records
    }

    /// What the sensor before had taken from the rings and not recorded, when these are looked at for the first time: all that
    /// was not lost, but for what its log had and what still waited.
    fn taken_before(&self, waiting: usize, word: LeftWord) -> Option<LossReport> {
        let count = self.before.saturating_sub(word.recorded).saturating_sub(waiting as u64);
        // Some of it is older, how much nobody knows.
        let (first_ns, last_ns) = (word.at_ns, word.at_ns);
        (count > 0).then_some(LossReport { kind: "any", site: "taken", count, first_ns, last_ns })
    }

    /// Leaves word of when the rings were read, of what was reported as lost and of how much is in the log, for the sensor
    /// that comes next.
    pub(super) fn beat(&mut self, left_out: u64) -> Result<(), MapError> {
        let sum = |of: fn(&Loss) -> u64| self.reported.iter().map(of).sum();
        let beat = Loss {
            created: Kind::ALL.into_iter().map(|kind| self.sum(kind).created).sum(),
            lost: sum(|kind| kind.lost),
            failed: sum(|kind| kind.failed) + left_out,
            // 0 is that of a build which did not say.
            first_ns: self.recorded + 1,
            last_ns: boot_ns(),
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

    /// Whether nothing is held back.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Hands over what has arrived, in the order of time over both rings, but for what is younger than `horizon_ns`, a time
    /// that is past.
    ///
    /// The activity ring is emptied first. What a process did is in a ring before its end is in the other, so every
    /// lifecycle record that is older than this look belongs before or between these, and younger ones are held
    /// back: an exit never overtakes what came before it.
    pub(super) fn drain(&mut self, horizon_ns: u64, decoder: &Decoder, deliver: &mut dyn FnMut(Delivery)) {
        let mut batch = std::mem::take(&mut self.held);
        let held_count = batch.len();
        take_from(&mut self.activity, &mut batch);
        take_from(&mut self.lifecycle, &mut batch);
        if let Some(word) = self.left_word.take() {
            let waiting = batch.iter().filter(|record| time_of(record) < self.since_ns).count();
            if let Some(report) = self.taken_before(waiting, word) {
                deliver(Delivery::Loss(report));
            }
        }
        self.count(&batch[held_count..]);
        batch.retain(|record| self.share.has(record, self.since_ns));
        batch.sort_by_key(|record| time_of(record));
        for record in batch {
            if time_of(&record) > horizon_ns {
                self.held.push(record);
                continue;
            }
            deliver(match decoder.decode(&record) {
                Ok(observation) => Delivery::Observation(Box::new(observation)),
                Err(error) => Delivery::Malformed { what: "ring record", error },
            });
        }
    }

    /// Counts what was just taken, by kind, but for what was counted before this sensor began.
    fn count(&mut self, taken: &[Vec<u8>]) {
        self.taken += taken.len() as u64;
        let expected = if std::mem::replace(&mut self.is_first_look, false) { self.expected } else { 0 };
        let mut earlier = Vec::new();
        for record in taken {
            if time_of(record) < self.since_ns {
                earlier.push(record);
            } else if self.share.has(record, self.since_ns) {
                self.read[kind_of(record)] += 1;
            }
        }
        if matches!(self.share, Share::All | Share::LaterAndRefused) {
            // What was under way at that moment was counted after it: the youngest of them.
            earlier.sort_by_key(|record| time_of(record));
            let expected = usize::try_from(expected).unwrap_or(usize::MAX);
            for record in earlier.into_iter().skip(expected) {
                self.read[kind_of(record)] += 1;
            }
        }
    }

    /// Reports what was lost since the last call.
    pub(super) fn losses(&mut self, deliver: &mut dyn FnMut(Delivery)) {
        self.report(&rows(&self.counters), deliver);
    }

    fn report(&mut self, counted: &[Loss; Kind::COUNT], deliver: &mut dyn FnMut(Delivery)) {
        for kind in Kind::ALL {
            let now = counted[kind as usize];
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

    /// Counts of the kinds that were seen, whichever sensors and programs that was.
    pub(super) fn counts(&self) -> Vec<KindCount> {
        let count = |kind: Kind| {
            let Total { created, lost } = self.totals.of(kind, &self.sum(kind));
            let read = self.read_before[kind as usize] + self.read[kind as usize];
            KindCount { kind: name(kind), created, read, lost }
        };
        Kind::ALL.into_iter().map(count).filter(|count| count.created > 0).collect()
    }

    /// The counters of one kind over all CPUs.
    pub(super) fn sum(&self, kind: Kind) -> Loss {
        row(&self.counters, kind as u32)
    }
}

/// The records of a sensor of another build that nobody has read, by the counters of its set: what was created since it
/// left word last, at most a second before it ended.
pub(super) fn unread(counters: &Counters) -> LossReport {
    let beat = row(counters, HEARTBEAT);
    let created: u64 = Kind::ALL.into_iter().map(|kind| row(counters, kind as u32).created).sum();
    // What it had taken and not recorded is as lost as what it had not taken.
    let not_lost = Kind::ALL.into_iter().map(|kind| row(counters, kind as u32));
    let not_lost: u64 = not_lost.map(|kind| kind.created.saturating_sub(kind.lost)).sum();
    let not_recorded = beat.first_ns.checked_sub(1).map_or(0, |recorded| not_lost.saturating_sub(recorded));
    let count = created.saturating_sub(beat.created).max(not_recorded);
    LossReport { kind: "any", site: "unread", count, first_ns: beat.last_ns, last_ns: boot_ns() }
}

/// The counters that a set has pinned.
///
/// # Errors
/// They cannot be opened.
pub(super) fn counters_of(set: &Path) -> Result<Counters, MapError> {
    PerCpuArray::try_from(Map::PerCpuArray(MapData::from_pin(pins::map_of(set, "COUNTERS"))?))
}

/// A moment, nanoseconds of `CLOCK_BOOTTIME`, and what was counted until then: whatever has an earlier time is counted, and
/// nothing else. A program takes the time first and counts when its record is complete, so this is so if nothing is
/// counted around the moment, nor for a while behind it, in which what was under way comes to its end. Of an event on another
/// processor at that very moment one build's programs may have the time before it, and the other's the time after it.
fn moment<const N: usize>(counters: [&Counters; N]) -> (u64, [[Loss; Kind::COUNT]; N]) {
    let now = || counters.map(rows);
    let (mut before, mut found, mut waits) = (now(), None, 0);
    for _ in 0..MOMENTS {
        let (since_ns, after) = (boot_ns(), now());
        if before != after {
            before = after;
            continue;
        }
        found = Some((since_ns, after));
        waits += 1;
        thread::sleep(UNDER_WAY);
        before = now();
        if before == after || waits == WAITS_MAX {
            break;
        }
    }
    found.unwrap_or_else(|| (boot_ns(), before))
}

/// What was counted of each kind.
fn rows(counters: &Counters) -> [Loss; Kind::COUNT] {
    let mut rows = [Loss::default(); Kind::COUNT];
    for kind in Kind::ALL {
        rows[kind as usize] = row(counters, kind as u32);
    }
    rows
}

/// The index of a record's kind; 0 for one of no known kind.
fn kind_of(record: &[u8]) -> usize {
    let number = record.first_chunk().map_or(0, |number| u16::from_ne_bytes(*number));
    Kind::from_number(number).map_or(0, |kind| kind as usize)
}

fn is_refusal(record: &[u8]) -> bool {
    Header::read_from_prefix(record).is_ok_and(|(header, _)| header.verdict == Verdict::Deny as u8)
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
