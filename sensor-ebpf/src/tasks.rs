//! Labels in task storage. aya-ebpf has no wrapper for this map type, so the map is declared here as BTF wants it.
//!
//! Older kernels have it for LSM programs alone, or not at all (`Settings::older`). There a label is that of a process,
//! in a hash map: put there at fork, taken away when the last thread ends. What a task has in its label for the time of
//! one system call is then in a map by thread ([`call`]).

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{BPF_NOEXIST, task_struct},
    helpers::generated::{bpf_get_current_task, bpf_get_current_task_btf, bpf_task_storage_get},
};
use treeline_abi::{
    Label, LabelFlags,
    label::{Image, ProcessId, TaskKey, WAITING_MAX, WAITING_SLACK, Waiting},
    sensor::TICK_NS,
};

use crate::{
    kernel::{add, is_older, offset, read},
    maps::{CALLS, LABELS_BY_PROCESS, SPARES, WAITING, WAITING_COUNT},
    scratch::Scratch,
};

/// `BPF_MAP_TYPE_TASK_STORAGE` (Linux 5.11).
const TYPE: usize = 29;
/// `BPF_F_NO_PREALLOC`, which this map type demands.
const FLAGS: usize = 1;
/// `BPF_LOCAL_STORAGE_GET_F_CREATE`.
const CREATE: u64 = 1;
/// `-EEXIST`.
const EXISTS: i32 = -17;

/// What libbpf's `__uint` and `__type` macros spell in C: only the types of the members matter, their values are
/// never read.
#[repr(C)]
pub(crate) struct Definition {
    r#type: *const [i32; TYPE],
    key: *const i32,
    value: *const Label,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; FLAGS],
}

// SAFETY: the definition is never read or written at run time; the loader replaces references to it by the map.
unsafe impl Sync for Definition {}

#[unsafe(link_section = ".maps")]
#[unsafe(export_name = "LABELS")]
static LABELS: Definition = Definition {
    r#type: core::ptr::null(),
    key: core::ptr::null(),
    value: core::ptr::null(),
    max_entries: core::ptr::null(),
    map_flags: core::ptr::null(),
};

#[inline(always)]
fn map() -> *mut c_void {
    (&raw const LABELS).cast_mut().cast()
}

/// The current task, as BTF pointer; on an older kernel as a number.
#[inline(always)]
pub(crate) fn current() -> *mut task_struct {
    if is_older() {
        // SAFETY: no preconditions (Linux 4.8).
        return unsafe { bpf_get_current_task() } as *mut task_struct;
    }
    // SAFETY: no preconditions (Linux 5.11).
    unsafe { bpf_get_current_task_btf() }
}

/// The label of a task that the verifier knows as BTF pointer.
#[inline(always)]
pub(crate) fn label_of(task: *mut task_struct) -> Option<&'static mut Label> {
    if is_older() {
        return label_by_process(&process(task as u64));
    }
    // SAFETY: the map reference is replaced by the map at load; the verifier checks the task pointer. The value
    // lives as long as the task, and hooks that race on it only ever write whole words.
    unsafe {
        let label = bpf_task_storage_get(map(), task, core::ptr::null_mut(), 0);
        label.cast::<Label>().as_mut()
    }
}

/// The label that decides for the current task: its own, else a copy of its thread group leader's, made now.
///
/// Two sorts of threads begin without one: those that ran before their process was adopted, since a label can be put
/// on a leader by pidfd and on another thread only since Linux 6.9; and kernel threads that work for a process
/// (io_uring workers), which `sched_process_fork` does not announce. The copy is what a thread keeps when the leader
/// is gone.
#[inline(always)]
pub(crate) fn current_label() -> Option<&'static mut Label> {
    let task = current();
    if let Some(label) = label_of(task) {
        return Some(label);
    }
    if is_older() {
        return claim(task);
    }
    let leader = leader(task);
    if leader == task {
        return claim(task);
    }
    let Some(label) = label_of(leader) else {
        return claim(task);
    };
    // Without memory for a copy the leader's own decides.
    Some(inherit(task, label).unwrap_or(label))
}

/// The first thread of a task's process.
#[inline(always)]
pub(crate) fn leader(task: *mut task_struct) -> *mut task_struct {
    if is_older() {
        return read::<u64>(task as u64 + offset!(task_group_leader)) as *mut task_struct;
    }
    // SAFETY: the offset is that of a `struct task_struct *`.
    unsafe { member(task, offset!(task_group_leader)) }
}

/// Gives a new task a copy of its creator's label, or leaves it for the task's first hook. False when neither can be
/// done: the task has no label then.
#[inline(always)]
pub(crate) fn bestow(task: *mut task_struct, label: &Label) -> bool {
    if inherit(task, label).is_some() {
        return true;
    }
    let flags = label.flags & LabelFlags::LOADER_ENV;
    let waiting = Waiting { session: label.session, flags, pad: 0, lineage: label.lineage };
    match WAITING.insert(&key(task as u64), &waiting, BPF_NOEXIST as u64) {
        Ok(()) => count_waiting(1),
        Err(EXISTS) => {}
        Err(_) => return false,
    }
    true
}

/// Whether a label waits for the task.
#[inline(always)]
pub(crate) fn waits(task: *mut task_struct) -> bool {
    // SAFETY: nothing is read of the value.
    WAITING_COUNT.get(0).is_some_and(|count| *count != 0)
        && unsafe { WAITING.get(&key(task as u64)) }.is_some()
}

/// Whether a process that the current task makes now would find room for its label. Where labels are on tasks that is a
/// matter of memory, which nobody knows before; there the label waits, if there is room to wait in.
#[inline(always)]
pub(crate) fn has_room() -> bool {
    if is_older() {
        return has_room_by_process() != 0;
    }
    WAITING_COUNT.get(0).is_some_and(|count| *count < u64::from(WAITING_MAX - WAITING_SLACK))
}

/// A function of its own: the empty label is on its stack. Nothing counts the entries of a map, so one is put there and
/// taken away; it is no process's, since their ids begin with 1.
#[inline(never)]
fn has_room_by_process() -> u32 {
    let tid: u32 = read(current() as u64 + offset!(task_pid));
    let nobody = ProcessId { pid: 0, pad: 0, start_ticks: tid as u64 };
    match LABELS_BY_PROCESS.insert(&nobody, &Label::default(), BPF_NOEXIST as u64) {
        Ok(()) | Err(EXISTS) => {}
        Err(_) => return 0,
    }
    let _ = LABELS_BY_PROCESS.remove(&nobody);
    1
}

/// Puts the label on the current task that waits for it. Nearly always there is none for anybody. A function of its own:
/// the label that it makes would be on every hook's stack.
#[inline(never)]
fn claim(task: *mut task_struct) -> Option<&'static mut Label> {
    if *WAITING_COUNT.get(0)? == 0 {
        return None;
    }
    let key = key(if is_older() { leader(task) } else { task } as u64);
    // SAFETY: the value is copied at once; entries are never changed.
    let waiting = unsafe { WAITING.get(&key) }?;
    let label = Label {
        session: waiting.session,
        flags: waiting.flags,
        lineage: waiting.lineage,
        ..Label::default()
    };
    let Some(label) = inherit(task, &label) else {
        return spare(&key, &label);
    };
    if WAITING.remove(&key).is_ok() {
        count_waiting(u64::MAX);
    }
    Some(label)
}

/// What decides for a task whose label waits and can still not be put on it. The table forgets who was there longest, who
/// then begins with the label that waits, so that there is always one.
#[inline(always)]
fn spare(key: &TaskKey, label: &Label) -> Option<&'static mut Label> {
    let _ = SPARES.insert(key, label, BPF_NOEXIST as u64);
    // SAFETY: the pointer comes from the map; hooks that race on the value only ever write whole words.
    unsafe { SPARES.get_ptr_mut(key)?.as_mut() }
}

/// A thread ends. Where labels are by process, others of the process may still go by what waits for the first of them.
#[inline(always)]
pub(crate) fn end_thread(task: u64) {
    if !is_older() {
        stop_waiting(task);
    }
}

/// Nothing waits for a task any more.
#[inline(always)]
fn stop_waiting(task: u64) {
    if WAITING_COUNT.get(0).is_some_and(|count| *count != 0) && WAITING.remove(&key(task)).is_ok() {
        count_waiting(u64::MAX);
    }
}

#[inline(always)]
fn count_waiting(by: u64) {
    if let Some(count) = WAITING_COUNT.get_ptr_mut(0) {
        add(count, by);
    }
}

#[inline(always)]
pub(crate) fn key(task: u64) -> TaskKey {
    TaskKey {
        tid: read(task + offset!(task_pid)),
        pad: 0,
        start_ns: read(task + offset!(task_start_boottime)),
    }
}

/// The process of a task, as the label is kept by where it cannot be kept on the task.
#[inline(always)]
fn process(task: u64) -> ProcessId {
    let leader: u64 = read(task + offset!(task_group_leader));
    ProcessId {
        pid: read(task + offset!(task_tgid)),
        pad: 0,
        start_ticks: read::<u64>(leader + offset!(task_start_boottime)) / TICK_NS,
    }
}

#[inline(always)]
fn label_by_process(process: &ProcessId) -> Option<&'static mut Label> {
    // SAFETY: the pointer comes from the map. The value lives as long as the process runs; its threads, which may race on
    // it, write whole words only.
    unsafe { LABELS_BY_PROCESS.get_ptr_mut(process)?.as_mut() }
}

/// Where the current task has noted something for the rest of its system call, of which only [`Label::pending`] and
/// [`LabelFlags::OPEN_REPORTED`] have a meaning: in its label, where that is its own.
#[inline(always)]
pub(crate) fn call(label: &mut Label) -> Option<&mut Label> {
    if !is_older() {
        return Some(label);
    }
    // SAFETY: the pointer comes from the map, and only this thread uses the value.
    unsafe { CALLS.get_ptr_mut(&key(current() as u64))?.as_mut() }
}

/// [`call`], to note something.
#[inline(always)]
pub(crate) fn begin_call(label: &mut Label) -> Option<&mut Label> {
    if is_older() {
        note_call();
    }
    call(label)
}

/// A function of its own: the empty label would be on the hook's stack.
#[inline(never)]
fn note_call() -> u32 {
    // A full table forgets who was there longest, so this does not fail.
    let _ = CALLS.insert(&key(current() as u64), &Label::default(), 0);
    0
}

/// What was noted has been read, and is not in the label any more.
#[inline(always)]
pub(crate) fn end_call() {
    if is_older() {
        let _ = CALLS.remove(&key(current() as u64));
    }
}

/// The last thread of a process ends. A label on a task goes with the task.
#[inline(always)]
pub(crate) fn forget(task: u64) {
    if is_older() {
        let _ = LABELS_BY_PROCESS.remove(&process(task));
        stop_waiting(read(task + offset!(task_group_leader)));
    }
}

/// Gives a task a copy of another's label, unless it has one. Returns the one that it then has, or nothing when there
/// is no memory for it.
#[inline(never)]
pub(crate) fn inherit(task: *mut task_struct, label: &Label) -> Option<&'static mut Label> {
    let mut copy = Label {
        flags: label.flags & LabelFlags::LOADER_ENV,
        session: label.session,
        pending_rule: 0,
        pending: Default::default(),
        image: label.image,
        next: Default::default(),
        lineage: label.lineage,
    };
    if is_older() {
        let process = process(task as u64);
        // A process that has one keeps it.
        let _ = LABELS_BY_PROCESS.insert(&process, &copy, BPF_NOEXIST as u64);
        return label_by_process(&process);
    }
    // SAFETY: as for `label_of`; the initial value is copied by the helper.
    unsafe {
        let label = bpf_task_storage_get(map(), task, (&raw mut copy).cast::<c_void>(), CREATE);
        label.cast::<Label>().as_mut()
    }
}

/// Hands the label of a thread that ends to the thread that ends it in order to execute.
///
/// exec(2) by a thread other than the first ends all others, and the thread then takes the leader's place, process id
/// included. The leader's label goes with the leader's task, and the heir need not have met a hook before: it gets the
/// label here, while it waits.
#[inline(always)]
pub(crate) fn bequeath(task: *mut task_struct, label: &Label) {
    if is_older() {
        return;
    }
    // SAFETY: the offsets are those of a `struct signal_struct *` and of a `struct task_struct *`.
    let heir: *mut task_struct = unsafe {
        let signal: *mut c_void = member(task, offset!(task_signal));
        member(signal, offset!(signal_group_exec_task))
    };
    if !heir.is_null() && heir != task {
        inherit(heir, label);
    }
}

/// The pointer at an offset of a structure that the verifier knows as BTF pointer, as such a pointer again.
///
/// # Safety
/// The structure has a pointer of that type at the offset.
#[inline(always)]
unsafe fn member<S, T>(structure: *mut S, at: u64) -> *mut T {
    // SAFETY: a direct load at a constant offset of a BTF pointer, which keeps its type; checked by the verifier.
    unsafe { core::ptr::read_volatile(structure.byte_add(at as usize).cast()) }
}

/// Address of the inode of the file that a task executes; 0 for a task without memory.
#[inline(always)]
pub(crate) fn image_inode(task: u64) -> u64 {
    let mm: u64 = read(task + offset!(task_mm));
    if mm == 0 {
        return 0;
    }
    let file: u64 = read(mm + offset!(mm_exe_file));
    read(file + offset!(file_inode))
}

/// The file that a task executes, as the kernel has it now; zeroes for a task without memory.
#[inline(always)]
pub(crate) fn image(task: u64) -> Image {
    let node = image_inode(task);
    if node == 0 {
        return Image::default();
    }
    let sb: u64 = read(node + offset!(inode_sb));
    Image { device: read(sb + offset!(sb_dev)), pad: 0, inode: read(node + offset!(inode_ino)) }
}

/// Whether the current task still executes what it did at its exec. Its label is the task's own by now: the hook has
/// asked [`current_label`] before, whose search takes more stack than there is here. A function of its own, so that its locals are not on the stack while
/// the executable's path is walked.
#[inline(never)]
pub(crate) fn has_its_image() -> bool {
    let Some(label) = label_of(current()) else {
        return false;
    };
    let now = image(current() as u64);
    if label.image.inode == 0 {
        label.image = now;
    }
    now.inode != 0 && now.inode == label.image.inode && now.device == label.image.device
}

/// Whether the current task executes the file that it was last allowed to, be it that the exec has not come to its end:
/// the kernel maps the file before `sched_process_exec`. What the kernel was told otherwise since (`PR_SET_MM`) can only be
/// the file of an exec that was allowed and failed.
#[inline(never)]
pub(crate) fn may_map_its_image() -> bool {
    let Some(label) = label_of(current()) else {
        return false;
    };
    let now = image(current() as u64);
    let next = &label.next;
    now.inode != 0 && now.inode == next.inode && now.device == next.device
}

/// Copies the current task's lineage and session to `Scratch`; nothing is known without a label. A function of its own
/// for the same reason.
#[inline(never)]
pub(crate) fn take_lineage(scratch: &mut Scratch) -> u32 {
    scratch.session = 0;
    scratch.lineage.facts.sure = 0;
    scratch.lineage.facts.possible = u64::MAX;
    scratch.lineage.since = 0;
    if let Some(label) = label_of(current()) {
        scratch.lineage.facts.sure = label.lineage.facts.sure;
        scratch.lineage.facts.possible = label.lineage.facts.possible;
        scratch.lineage.since = label.lineage.since;
        scratch.session = label.session;
    }
    0
}

/// What records say of a task.
pub(crate) struct TaskIds {
    pub(crate) pid: u32,
    pub(crate) tid: u32,
    pub(crate) start_ns: u64,
}

/// Reads the identity of a task by address.
#[inline(always)]
pub(crate) fn ids(task: u64) -> TaskIds {
    let leader: u64 = read(task + offset!(task_group_leader));
    TaskIds {
        pid: read(task + offset!(task_tgid)),
        tid: read(task + offset!(task_pid)),
        start_ns: read(leader + offset!(task_start_boottime)),
    }
}
