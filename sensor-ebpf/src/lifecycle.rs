//! Processes: created, executed, ended. Attached in every mode.

use aya_ebpf::{bindings::task_struct, macros::btf_tracepoint, programs::BtfTracePointContext};
use treeline_abi::{
    Kind, LabelFlags,
    environment::loads_code,
    record::{ARGV_LEN_MAX, DATA_LEN_MAX, ENV_LEN_MAX, ENV_VARS_MAX, Flags},
};

use crate::{
    adopt, emit,
    kernel::{GO_ON, STOP, copy_kernel_str, copy_user, copy_user_str, inode, offset, read, repeat},
    lineage,
    log::note,
    scratch::{Environment, PATH_BUFFER_LEN, Scratch},
    tasks::{self, TaskIds},
    walk,
};

/// `BINPRM_FLAGS_PATH_INACCESSIBLE`: the interpreter could not open the file by the name it is given.
const PATH_INACCESSIBLE: u32 = 1 << 2;
/// `SIGNAL_GROUP_EXIT`.
const GROUP_EXIT: u32 = 1 << 2;

/// A task was created and does not run yet: the label is there before its first instruction.
#[btf_tracepoint(function = "sched_process_fork")]
pub(crate) fn process_fork(ctx: BtfTracePointContext) -> i32 {
    on_created(ctx.arg(0), ctx.arg(1));
    0
}

/// The same task a moment later, when it is put on a run queue. Attached where the kernel may have left the program above
/// out for it.
#[btf_tracepoint(function = "sched_wakeup_new")]
pub(crate) fn process_created(ctx: BtfTracePointContext) -> i32 {
    let child: *mut task_struct = ctx.arg(0);
    if tasks::label_of(child).is_none() && !tasks::waits(child) {
        on_created(tasks::current(), child);
    }
    0
}

#[inline(always)]
fn on_created(parent: *mut task_struct, child: *mut task_struct) {
    let Some(label) = tasks::current_label() else {
        adopt::on_created(parent, child);
        return;
    };
    if !tasks::bestow(child, label) {
        emit::failed(Kind::Fork);
        return;
    }
    let peer = tasks::ids(child as u64);
    if peer.pid != peer.tid {
        return;
    }
    let Some(scratch) = Scratch::take() else {
        emit::failed(Kind::Fork);
        return;
    };
    emit::begin(scratch, Kind::Fork, label.session, &tasks::ids(parent as u64));
    scratch.header.peer_pid = peer.pid;
    scratch.header.peer_start_ns = peer.start_ns;
    emit::send(scratch, Kind::Fork, 0);
    scratch.release();
}

/// The image of a process was replaced.
#[btf_tracepoint(function = "sched_process_exec")]
pub(crate) fn process_exec(ctx: BtfTracePointContext) -> i32 {
    let task: *mut task_struct = ctx.arg(0);
    let bprm: *const u8 = ctx.arg(2);
    let Some(label) = tasks::current_label() else {
        adopt::on_ended(task);
        return 0;
    };
    label.image = tasks::image(task as u64);
    let Some(scratch) = Scratch::take() else {
        label.flags |= LabelFlags::LOADER_ENV;
        lineage::executed_something(label);
        emit::failed(Kind::Exec);
        return 0;
    };
    let task = task as u64;
    let bprm = bprm as u64;
    let ids = tasks::ids(task);
    note!(&ctx, "session {:x}: process {} has a new image", label.session, ids.pid);
    emit::begin(scratch, Kind::Exec, label.session, &ids);
    credentials(scratch, task);
    let file: u64 = read(bprm + offset!(bprm_file));
    emit::object(&mut scratch.header, &inode(read(file + offset!(file_inode))));
    if read::<u32>(bprm + offset!(bprm_interp_flags)) & PATH_INACCESSIBLE != 0 {
        scratch.header.flags |= Flags::BY_DESCRIPTOR;
    }
    walk::walk_path(scratch, read(file + offset!(file_path) + offset!(path_dentry)));
    let mut position = emit::append_walked(scratch, 0, 0);
    position = append_kernel_string(scratch, 1, position, read(bprm + offset!(bprm_filename)));
    let fs: u64 = read(task + offset!(task_fs));
    walk::walk_path(scratch, read(fs + offset!(fs_pwd) + offset!(path_dentry)));
    position = emit::append_walked(scratch, 2, position);
    let mm: u64 = read(task + offset!(task_mm));
    position = append_argv(scratch, position, mm);
    position = append_env(scratch, position, mm);
    position = append_kernel_string(scratch, 5, position, read(bprm + offset!(bprm_interp)));
    if scratch.header.flags & Flags::LOADER_ENV != 0 {
        label.flags |= LabelFlags::LOADER_ENV;
    } else {
        label.flags &= !LabelFlags::LOADER_ENV;
    }
    let dentry: u64 = read(file + offset!(file_path) + offset!(path_dentry));
    lineage::executed(scratch, label, read(file + offset!(file_inode)), dentry);
    emit::send(scratch, Kind::Exec, position);
    scratch.release();
    0
}

/// A thread ends; the last one of a process ends the process.
#[btf_tracepoint(function = "sched_process_exit")]
pub(crate) fn process_exit(ctx: BtfTracePointContext) -> i32 {
    let task: *mut task_struct = ctx.arg(0);
    let Some(label) = tasks::current_label() else {
        adopt::on_ended(task);
        return 0;
    };
    tasks::bequeath(task, label);
    let task = task as u64;
    tasks::end_thread(task);
    let signal: u64 = read(task + offset!(task_signal));
    if read::<i32>(signal + offset!(signal_live)) != 0 {
        return 0;
    }
    let session = label.session;
    tasks::forget(task);
    let Some(scratch) = Scratch::take() else {
        emit::failed(Kind::Exit);
        return 0;
    };
    let ids = tasks::ids(task);
    note!(&ctx, "session {:x}: process {} ends", session, ids.pid);
    emit::begin(scratch, Kind::Exit, session, &ids);
    let by_group = read::<u32>(signal + offset!(signal_flags)) & GROUP_EXIT != 0;
    scratch.header.detail = if by_group {
        read(signal + offset!(signal_group_exit_code))
    } else {
        read(task + offset!(task_exit_code))
    };
    emit::send(scratch, Kind::Exit, 0);
    scratch.release();
    0
}

#[inline(always)]
fn credentials(scratch: &mut Scratch, task: u64) {
    let cred: u64 = read(task + offset!(task_cred));
    scratch.header.uid = read(cred + offset!(cred_uid));
    scratch.header.euid = read(cred + offset!(cred_euid));
    scratch.header.gid = read(cred + offset!(cred_gid));
    let signal: u64 = read(task + offset!(task_signal));
    let tty: u64 = read(signal + offset!(signal_tty));
    if tty != 0 {
        let driver: u64 = read(tty + offset!(tty_driver));
        let index: u32 = read(tty + offset!(tty_index));
        let major: u32 = read(driver + offset!(tty_driver_major));
        let minor: u32 = index + read::<u32>(driver + offset!(tty_driver_minor_start));
        // As `new_encode_dev` of the kernel, which /proc/PID/stat uses.
        scratch.header.tty = (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12);
    }
}

/// Appends a kernel string of at most 4 095 bytes.
#[inline(always)]
pub(crate) fn append_kernel_string(scratch: &mut Scratch, part: usize, position: u32, address: u64) -> u32 {
    let at = (position & (DATA_LEN_MAX as u32 - 1)) as usize;
    // SAFETY: `at` is below DATA_LEN_MAX and the buffer has 4 KiB of slack; the verifier checks the bound again.
    let len = copy_kernel_str(unsafe { scratch.data.as_mut_ptr().add(at) }, PATH_BUFFER_LEN as u32, address);
    let len = if len > 0 { (len as u32 - 1) & 0xfff } else { 0 };
    scratch.header.parts[part] = len;
    position + len
}

#[inline(always)]
fn append_argv(scratch: &mut Scratch, position: u32, mm: u64) -> u32 {
    let start: u64 = read(mm + offset!(mm_arg_start));
    let end: u64 = read(mm + offset!(mm_arg_end));
    let mut len = end.wrapping_sub(start);
    if len > ARGV_LEN_MAX as u64 {
        len = ARGV_LEN_MAX as u64;
        scratch.header.flags |= Flags::CUT_ARGV;
    }
    let at = (position & (DATA_LEN_MAX as u32 - 1)) as usize;
    // SAFETY: as for `append_kernel_string`.
    let to = unsafe { scratch.data.as_mut_ptr().add(at) };
    if !copy_user(to, len as u32, start) {
        // A page of it is not resident, although it was written a moment ago.
        scratch.header.flags |= Flags::CUT_ARGV;
        return position;
    }
    scratch.header.parts[3] = len as u32;
    position + len as u32
}

/// Appends the variables that the agent may want, and looks for those that make programs load code.
///
/// What cannot be searched to its end counts as if it named them: exceptions then do not apply.
#[inline(never)]
fn append_env(scratch: &mut Scratch, position: u32, mm: u64) -> u32 {
    let start: u64 = read(mm + offset!(mm_env_start));
    let end: u64 = read(mm + offset!(mm_env_end));
    let complete = u32::from(start >= end);
    scratch.environment = Environment { at: start, end, position, taken: 0, complete, pad: 0 };
    let number = scratch.number as u32;
    let mut search = Search { scratch };
    repeat(ENV_VARS_MAX as u32, next_variable, &mut search, |_| older_next_variable(number));
    if scratch.environment.complete == 0 {
        scratch.header.flags |= Flags::LOADER_ENV;
    }
    let taken = scratch.environment.taken & 0xfff;
    scratch.header.parts[4] = taken;
    position + taken
}

/// What a round of the search needs, on the stack because `bpf_loop` wants it there.
struct Search {
    scratch: *mut Scratch,
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn older_next_variable(number: u32) -> u64 {
    match Scratch::numbered(number) {
        Some(scratch) => one_variable(&mut Search { scratch }),
        None => STOP,
    }
}

extern "C" fn next_variable(_round: u64, search: *mut Search) -> u64 {
    one_variable(search)
}

#[inline(always)]
fn one_variable(search: *mut Search) -> u64 {
    // SAFETY: the pointers were put there by `append_env` and outlive the loop; the verifier tracks them.
    let scratch = unsafe { &mut *(*search).scratch };
    let Environment { at, end, position, taken, .. } = scratch.environment;
    if at >= end {
        scratch.environment.complete = 1;
        return STOP;
    }
    let len = copy_user_str(scratch.path.as_mut_ptr(), PATH_BUFFER_LEN as u32, at);
    if len <= 0 || len as usize >= PATH_BUFFER_LEN {
        return STOP;
    }
    scratch.environment.at = at + len as u64;
    scratch.environment.taken = append_variable(scratch, position, taken, len as u32 & 0xfff);
    GO_ON
}

#[inline(always)]
fn append_variable(scratch: &mut Scratch, position: u32, taken: u32, len: u32) -> u32 {
    // SAFETY: the first sixteen bytes of the path buffer, which was filled from its beginning.
    let words = unsafe { scratch.path.as_ptr().cast::<[u64; 2]>().read_unaligned() };
    if loads_code(words) {
        scratch.header.flags |= Flags::LOADER_ENV;
    }
    let head = words[0];
    let six = head & 0xffff_ffff_ffff;
    let wanted = six == u64::from_le_bytes(*b"CLAUDE\0\0") || six == u64::from_le_bytes(*b"AI_AGE\0\0");
    if !wanted || taken + len > ENV_LEN_MAX as u32 {
        return taken;
    }
    let at = ((position + taken) & (DATA_LEN_MAX as u32 - 1)) as usize;
    let from = scratch.path.as_ptr() as u64;
    // SAFETY: as for `append_kernel_string`.
    unsafe { crate::kernel::copy(scratch.data.as_mut_ptr().add(at), len, from) };
    taken + len
}

/// Identity of the current task.
#[inline(always)]
pub(crate) fn subject() -> TaskIds {
    tasks::ids(tasks::current() as u64)
}
