//! Every map, its bound and the reason for it.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf},
};
use treeline_abi::{
    Kind, Label, Loss,
    adopt::{CONNECTIONS_MAX, Connection, Ends, JOBS_MAX, JobKey, NOTES_MAX, Note},
    content::{Content, Hold, IMAGES_MAX, WRITERS_MAX},
    grant::{GRANTS_MAX, Grant, GrantKey},
    label::{LABELS_MAX, ProcessId, TaskKey, WAITING_MAX, Waiting},
    lift::{LIFTS_MAX, Lift},
    network::{ABSTRACTS_MAX, AbstractRule, PREFIXES_MAX, Prefix4, Prefix6, PrefixRules},
    paths::{
        ALIASES_MAX, ANCESTORS_MAX, Accept, AliasKey, AliasRules, AncestorKey, DEVICES_MAX, Device,
        DeviceKey, EDGES_MAX, Edge, EdgeKey, FileKey, LISTS_MAX, NAMES_MAX, Name, RULES_MAX, Rule, SLOTS,
        Table, WILD_MAX, WORDS, WildWords,
    },
    sensor::{OBJECTS_MAX, ObjectKey, PROCESSES_MAX},
    subject::{SESSIONS_MAX, SessionFacts},
};

use crate::scratch::{SCRATCH_SLOTS, Scratch, SentKey};

/// Process lifecycle, denials and audits. A flood of opens cannot displace them. Room for some 5 000 execs.
#[map]
pub(crate) static LIFECYCLE: RingBuf = RingBuf::with_byte_size(LIFECYCLE_LEN, 0);

/// Everything else. The agent may ask for another size when it loads the object.
#[map]
pub(crate) static ACTIVITY: RingBuf = RingBuf::with_byte_size(ACTIVITY_LEN, 0);

/// Bytes of the rings.
pub(crate) const LIFECYCLE_LEN: u32 = 4 << 20;
pub(crate) const ACTIVITY_LEN: u32 = 8 << 20;

/// What processes sent while a ring was more than half full, by process id. What it forgets counts anew.
#[map]
pub(crate) static QUOTAS: LruHashMap<u32, Quota> = LruHashMap::with_max_entries(8192, 0);

/// The records of one process in one unit of time.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Quota {
    /// `CLOCK_BOOTTIME` in units of 2^30 ns.
    pub(crate) second: u32,
    pub(crate) count: u32,
}

/// Counters by [`Kind`].
#[map]
pub(crate) static COUNTERS: PerCpuArray<Loss> = PerCpuArray::with_max_entries(Kind::COUNT as u32, 0);

/// Working memory, see `scratch`.
#[map]
pub(crate) static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(SCRATCH_SLOTS, 0);

/// The slot of the tables in force, plus 1; 0 before the first policy.
#[map]
pub(crate) static ACTIVE: Array<u32> = Array::with_max_entries(1, 0);

/// Heads of the path tables, by slot.
#[map]
pub(crate) static TABLES: Array<Table> = Array::with_max_entries(SLOTS, 0);

/// What names mean, by hash. Both slots share it: their seeds differ.
#[map]
pub(crate) static NAMES: HashMap<u64, Name> = HashMap::with_max_entries(NAMES_MAX * SLOTS, 0);

/// Component globs, by slot and index.
#[map]
pub(crate) static WILDS: Array<WildWords> = Array::with_max_entries(WILD_MAX as u32 * SLOTS, 0);

/// The tree: names after each distinct beginning of a path.
#[map]
pub(crate) static EDGES: HashMap<EdgeKey, Edge> = HashMap::with_max_entries(EDGES_MAX * SLOTS, 0);

/// What names and the tree lead to, by slot and entry.
#[map]
pub(crate) static LISTS: Array<Accept> = Array::with_max_entries(LISTS_MAX * SLOTS, 0);

/// Accepting positions and the root of the tree by filesystem.
#[map]
pub(crate) static DEVICES: HashMap<DeviceKey, Device> = HashMap::with_max_entries(DEVICES_MAX * SLOTS, 0);

/// What accepting positions mean, by slot and position.
#[map]
pub(crate) static ACCEPTS: Array<Accept> = Array::with_max_entries(WORDS as u32 * 64 * SLOTS, 0);

/// Rules by slot and index.
#[map]
pub(crate) static RULES: Array<Rule> = Array::with_max_entries(RULES_MAX * SLOTS, 0);

/// What takes rules away, by slot and number.
#[map]
pub(crate) static LIFTS: Array<Lift> = Array::with_max_entries(LIFTS_MAX * SLOTS, 0);

/// What sessions leave of the subject sets. The agent adds and removes entries.
#[map]
pub(crate) static SESSIONS: HashMap<u64, SessionFacts> = HashMap::with_max_entries(SESSIONS_MAX, 0);

/// Files whose content is known. The agent adds and removes entries.
#[map]
pub(crate) static IMAGES: HashMap<FileKey, Content> = HashMap::with_max_entries(IMAGES_MAX, 0);

/// What refuses files whose content is not known, by slot.
#[map]
pub(crate) static HOLDS: Array<Hold> = Array::with_max_entries(SLOTS, 0);

/// How often files were opened for writing, where only that tells that they may have changed.
#[map]
pub(crate) static WRITERS: Array<u64> = Array::with_max_entries(WRITERS_MAX, 0);

/// Files of unknown content that were mapped and of which the agent was told: once each, until it is forgotten.
#[map]
pub(crate) static WANTED: LruHashMap<FileKey, u32> = LruHashMap::with_max_entries(4096, 0);

/// Protected files with several names, by identity.
#[map]
pub(crate) static ALIASES: HashMap<AliasKey, AliasRules> = HashMap::with_max_entries(ALIASES_MAX * SLOTS, 0);

/// What somebody has approved of. The agent adds and removes entries.
#[map]
pub(crate) static GRANTS: HashMap<GrantKey, Grant> = HashMap::with_max_entries(GRANTS_MAX, 0);

/// Directories above protected places, and the rule that protects something there.
#[map]
pub(crate) static ANCESTORS: HashMap<AncestorKey, u32> = HashMap::with_max_entries(ANCESTORS_MAX * SLOTS, 0);

/// Connect rules by IPv4 prefix.
#[map]
pub(crate) static PREFIXES4: LpmTrie<Prefix4, PrefixRules> =
    LpmTrie::with_max_entries(PREFIXES_MAX * SLOTS, aya_ebpf::bindings::BPF_F_NO_PREALLOC);

/// Connect rules by IPv6 prefix.
#[map]
pub(crate) static PREFIXES6: LpmTrie<Prefix6, PrefixRules> =
    LpmTrie::with_max_entries(PREFIXES_MAX * SLOTS, aya_ebpf::bindings::BPF_F_NO_PREALLOC);

/// Patterns for abstract names of unix sockets, by slot and index.
#[map]
pub(crate) static ABSTRACTS: Array<AbstractRule> = Array::with_max_entries(ABSTRACTS_MAX * SLOTS, 0);

/// Where processes have sent datagrams, so that the first to each place is recorded and not every one. Some 1 MiB; what
/// it forgets is recorded again.
#[map]
pub(crate) static SENT: LruHashMap<SentKey, u32> = LruHashMap::with_max_entries(8192, 0);

/// Labels of processes on kernels that cannot put them on tasks; the sensor makes it small on all others. Some 10 MiB.
#[map]
pub(crate) static LABELS_BY_PROCESS: HashMap<ProcessId, Label> = HashMap::with_max_entries(LABELS_MAX, 0);

/// What threads note for the rest of a system call where labels are by process. More than there are processors by far; a
/// thread that it forgets while it waits in a connect has a connect without a result.
#[map]
pub(crate) static CALLS: LruHashMap<TaskKey, Label> = LruHashMap::with_max_entries(8192, 0);

/// Labels that could not be put on new tasks. More than can be created between a task's creation and its first hook, on
/// machines of a thousand CPUs.
#[map]
pub(crate) static WAITING: HashMap<TaskKey, Waiting> = HashMap::with_max_entries(WAITING_MAX, 0);

/// What hooks go by meanwhile, while the label of a task waits and cannot be put on it.
#[map]
pub(crate) static SPARES: LruHashMap<TaskKey, Label> = LruHashMap::with_max_entries(WAITING_MAX, 0);

/// How many there are, so that whoever has no label need not look for one.
#[map]
pub(crate) static WAITING_COUNT: Array<u64> = Array::with_max_entries(1, 0);

/// Sockets of sessions that connect to the port that adoption follows, with their sessions. A connect is refused when
/// there are [`CONNECTIONS_MAX`] of them and of [`CONNECTIONS`] together; the rest is for those that were allowed at
/// the same moment.
#[map]
pub(crate) static CONNECTING: HashMap<u64, u64> = HashMap::with_max_entries(CONNECTIONS_MAX * 2, 0);

/// Their connections, once the client's end is there and until they are accepted or gone.
#[map]
pub(crate) static CONNECTIONS: HashMap<Ends, Connection> = HashMap::with_max_entries(CONNECTIONS_MAX * 2, 0);

/// Listeners that have accepted one.
#[map]
pub(crate) static NOTES: HashMap<TaskKey, Note> = HashMap::with_max_entries(NOTES_MAX, 0);

/// Job files that sessions wrote, with their sessions.
#[map]
pub(crate) static JOBS: HashMap<JobKey, u64> = HashMap::with_max_entries(JOBS_MAX, 0);

/// How many entries these maps have, see `adopt`.
#[map]
pub(crate) static ADOPTING: Array<u64> = Array::with_max_entries(crate::adopt::COUNTS, 0);

/// The sensor's processes: when each began, in ticks, by process id.
#[map]
pub(crate) static SENSORS: HashMap<u32, u64> = HashMap::with_max_entries(PROCESSES_MAX, 0);

/// The sensor's objects.
#[map]
pub(crate) static OBJECTS: HashMap<ObjectKey, u32> = HashMap::with_max_entries(OBJECTS_MAX, 0);
