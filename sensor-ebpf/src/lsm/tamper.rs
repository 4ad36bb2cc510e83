//! The sensor protects itself: what a tracked task tries against its processes, maps, programs and filesystems is
//! refused, whoever the task is (root included), whatever the policy says.
//!
//! Its files are protected by a rule of the policy's tables, see `sensor/src/daemon/itself.rs`. The functions
//! `security_*` take the same arguments as these hooks.

use aya_ebpf::{
    bindings::task_struct,
    macros::{btf_tracepoint, lsm},
    programs::{BtfTracePointContext, LsmContext},
};
use treeline_abi::{
    Kind, Offsets, Verdict,
    record::Tampering,
    sensor::{ObjectKey, TICK_NS},
};

use super::{REFUSED, trace};
use crate::{
    emit,
    kernel::{PROC_MAGIC, offset, read, short_name, words},
    lifecycle::subject,
    maps::{OBJECTS, SENSORS},
    scratch::Scratch,
    tasks::{self, TaskIds},
};

/// To attach, to use memory, to take descriptors; otherwise to read what /proc shows (include/linux/ptrace.h).
const PTRACE_MODE_ATTACH: u32 = 2;
/// The access is only asked about: `ps` does so for every process that it lists.
const PTRACE_MODE_NOAUDIT: u32 = 4;
/// `CGROUP2_SUPER_MAGIC`, `CGROUP_SUPER_MAGIC` (include/uapi/linux/magic.h).
const CGROUP2_MAGIC: u64 = 0x6367_7270;
const CGROUP_MAGIC: u64 = 0x0027_e0eb;
/// `SYSFS_MAGIC`.
const SYSFS_MAGIC: u64 = 0x6265_6572;
/// `READING_MODULE`, `READING_KEXEC_IMAGE`, `READING_KEXEC_INITRAMFS` (include/linux/kernel_read_file.h).
const CODE: [u32; 3] = [2, 3, 4];

/// `BPF_PROG_LOAD`.
const LOAD: i32 = 5;
/// `BPF_LINK_GET_FD_BY_ID` (Linux 5.8).
const LINK_BY_ID: i32 = 30;
/// Types of programs (`enum bpf_prog_type`) that can look into other processes or act on them, as bits: kprobe,
/// tracepoint, perf_event, raw_tracepoint (also writable), tracing, struct_ops, ext, lsm, syscall. Those for sockets and
/// control groups are not among them.
const DANGEROUS: u64 =
    1 << 2 | 1 << 5 | 1 << 7 | 1 << 17 | 1 << 24 | 1 << 26 | 1 << 27 | 1 << 28 | 1 << 29 | 1 << 31;

/// With it in `what`, [`report`] only records.
const RECORDED: u32 = 1 << 16;

/// Records what was tried, and refuses it. Without working memory it is refused all the same, and counted.
#[inline(never)]
fn report(session: u64, what: u32, number: u32, pid: u32, start_ns: u64) -> i32 {
    let (verdict, result) = if what & RECORDED != 0 { (Verdict::Audit, 0) } else { (Verdict::Deny, REFUSED) };
    let Some(scratch) = Scratch::take() else {
        emit::failed(Kind::Tamper);
        return result;
    };
    emit::begin(scratch, Kind::Tamper, session, &subject());
    scratch.header.verdict = verdict as u8;
    scratch.header.result = result;
    scratch.header.detail = what & !RECORDED;
    scratch.header.port = number;
    scratch.header.peer_pid = pid;
    scratch.header.peer_start_ns = start_ns;
    emit::send(scratch, Kind::Tamper, 0);
    scratch.release();
    result
}

/// The identity of a task, if it is the sensor's.
#[inline(always)]
fn sensor(task: u64) -> Option<TaskIds> {
    let ids = tasks::ids(task);
    is_sensor(&ids).then_some(ids)
}

#[inline(always)]
fn is_sensor(ids: &TaskIds) -> bool {
    // SAFETY: the value is used at once.
    unsafe { SENSORS.get(&ids.pid) }.is_some_and(|began| *began == ids.start_ns / TICK_NS)
}

#[inline(always)]
fn on_task(task: u64, what: Tampering, number: u32) -> i32 {
    let Some(label) = tasks::current_label() else {
        return 0;
    };
    match sensor(task) {
        Some(ids) => report(label.session, what as u32, number, ids.pid, ids.start_ns),
        None => 0,
    }
}

/// `id` is asked for a session's tasks only: to all others the label is all that a hook costs.
#[inline(always)]
fn on_object(kind: u32, id: impl FnOnce() -> u32, what: Tampering) -> i32 {
    let Some(label) = tasks::current_label() else {
        return 0;
    };
    let id = id();
    // SAFETY: only whether there is one counts.
    if unsafe { OBJECTS.get(&ObjectKey { kind, id }) }.is_none() {
        return 0;
    }
    report(label.session, what as u32, id, 0, 0)
}

/// What only a session is kept from, whatever it is done to.
#[inline(always)]
fn by_session(what: Tampering, number: u32) -> i32 {
    match tasks::current_label() {
        Some(label) => report(label.session, what as u32, number, 0, 0),
        None => 0,
    }
}

macro_rules! task_hook {
    ($hook:ident, $name:literal, $args:literal, $what:ident, $number:expr) => {
        #[lsm(hook = $name)]
        pub(crate) fn $hook(ctx: LsmContext) -> i32 {
            let earlier: i32 = ctx.arg($args);
            if earlier != 0 {
                return earlier;
            }
            let number: fn(&LsmContext) -> u32 = $number;
            on_task(ctx.arg(0), Tampering::$what, number(&ctx))
        }
    };
}

task_hook!(task_setnice, "task_setnice", 2, Schedule, |ctx| ctx.arg::<i32>(1) as u32);
task_hook!(task_setioprio, "task_setioprio", 2, Schedule, |ctx| ctx.arg::<i32>(1) as u32);
task_hook!(task_setscheduler, "task_setscheduler", 1, Schedule, |_| 0);
task_hook!(task_setrlimit, "task_setrlimit", 3, Limit, |ctx| ctx.arg::<u32>(1));
task_hook!(task_movememory, "task_movememory", 1, Memory, |_| 0);

/// Every way of sending one: `kill`, `tgkill`, `pidfd_send_signal`, `rt_sigqueueinfo`. Signal 0 only asks.
#[lsm(hook = "task_kill")]
pub(crate) fn task_kill(ctx: LsmContext) -> i32 {
    let earlier: i32 = ctx.arg(4);
    if earlier != 0 {
        return earlier;
    }
    let signal: u32 = ctx.arg(2);
    if signal == 0 {
        return 0;
    }
    on_task(ctx.arg(0), Tampering::Signal, signal)
}

/// A signal that a file sends to its owner (`F_SETOWN`, `F_SETSIG`). Whoever made the file ready need not be the task
/// that runs now, and the sensor asks for no such signal: nobody's are delivered.
#[lsm(hook = "file_send_sigiotask")]
pub(crate) fn file_send_sigiotask(ctx: LsmContext) -> i32 {
    let earlier: i32 = ctx.arg(3);
    if earlier != 0 {
        return earlier;
    }
    let task: u64 = ctx.arg(0);
    let Some(ids) = sensor(task) else {
        return 0;
    };
    match tasks::current_label() {
        Some(label) => {
            let signal: u32 = ctx.arg(2);
            report(label.session, Tampering::Signal as u32, signal, ids.pid, ids.start_ns)
        }
        None => REFUSED,
    }
}

#[lsm(hook = "ptrace_access_check")]
pub(crate) fn ptrace_access_check(ctx: LsmContext) -> i32 {
    let earlier: i32 = ctx.arg(2);
    if earlier != 0 {
        return earlier;
    }
    let Some(label) = tasks::current_label() else {
        return 0;
    };
    let (task, mode): (*mut task_struct, u32) = (ctx.arg(0), ctx.arg(1));
    let ids = tasks::ids(task as u64);
    if is_sensor(&ids) {
        if mode & PTRACE_MODE_NOAUDIT != 0 {
            return REFUSED;
        }
        return report(label.session, Tampering::Trace as u32, mode, ids.pid, ids.start_ns);
    }
    if mode & PTRACE_MODE_ATTACH == 0 {
        return 0;
    }
    trace::on_access(label, task, &ids, mode)
}

#[lsm(hook = "bpf_map")]
pub(crate) fn bpf_map(ctx: LsmContext) -> i32 {
    let earlier: i32 = ctx.arg(2);
    if earlier != 0 {
        return earlier;
    }
    let map: u64 = ctx.arg(0);
    on_object(ObjectKey::MAP, || read(map + offset!(map_id)), Tampering::Map)
}

#[lsm(hook = "bpf_prog")]
pub(crate) fn bpf_prog(ctx: LsmContext) -> i32 {
    let earlier: i32 = ctx.arg(1);
    if earlier != 0 {
        return earlier;
    }
    let program: u64 = ctx.arg(0);
    let id = || read(read::<u64>(program + offset!(prog_aux)) + offset!(prog_aux_id));
    on_object(ObjectKey::PROGRAM, id, Tampering::Program)
}

/// Links have no hook of their own. `BPF_LINK_DETACH` and `BPF_LINK_UPDATE` take a descriptor; links of the programs that
/// refuse (trampolines) know neither.
#[inline(always)]
fn on_command(command: i32, attributes: u64) -> i32 {
    match command {
        // `link_id` is the first member of its part of `union bpf_attr`, which the kernel has copied.
        LINK_BY_ID => on_object(ObjectKey::LINK, || read(attributes), Tampering::Link),
        LOAD => on_load(read(attributes)),
        _ => 0,
    }
}

#[inline(always)]
fn on_load(kind: u32) -> i32 {
    if kind > 63 || DANGEROUS >> kind & 1 == 0 {
        return 0;
    }
    by_session(Tampering::Load, kind)
}

/// Since Linux 6.16 the hook is told whether the kernel itself calls.
#[lsm(hook = "bpf")]
pub(crate) fn bpf(ctx: LsmContext) -> i32 {
    let earlier: i32 = ctx.arg(4);
    if earlier != 0 {
        return earlier;
    }
    on_command(ctx.arg(0), ctx.arg(1))
}

#[lsm(hook = "bpf")]
pub(crate) fn bpf_plain(ctx: LsmContext) -> i32 {
    let earlier: i32 = ctx.arg(3);
    if earlier != 0 {
        return earlier;
    }
    on_command(ctx.arg(0), ctx.arg(1))
}

/// What is pinned goes when its filesystem does.
#[lsm(hook = "sb_umount")]
pub(crate) fn sb_umount(ctx: LsmContext) -> i32 {
    let earlier: i32 = ctx.arg(2);
    if earlier != 0 {
        return earlier;
    }
    let mount: u64 = ctx.arg(0);
    let device = || read(read::<u64>(mount + offset!(mount_sb)) + offset!(sb_dev));
    on_object(ObjectKey::FILESYSTEM, device, Tampering::Unmount)
}

/// A module or a kernel from memory (`init_module`, `kexec_load`).
#[lsm(hook = "kernel_load_data")]
pub(crate) fn kernel_load_data(ctx: LsmContext) -> i32 {
    let earlier: i32 = ctx.arg(2);
    if earlier != 0 {
        return earlier;
    }
    on_kernel(ctx.arg(0))
}

/// The same from a file (`finit_module`, `kexec_file_load`).
#[lsm(hook = "kernel_read_file")]
pub(crate) fn kernel_read_file(ctx: LsmContext) -> i32 {
    let earlier: i32 = ctx.arg(3);
    if earlier != 0 {
        return earlier;
    }
    on_kernel(ctx.arg(1))
}

#[inline(always)]
fn on_kernel(what: u32) -> i32 {
    if !CODE.contains(&what) {
        return 0;
    }
    by_session(Tampering::Kernel, what)
}

/// Events of fanotify for which whoever opens or reads waits: `FAN_OPEN_PERM`, `FAN_ACCESS_PERM`, `FAN_OPEN_EXEC_PERM`,
/// `FAN_PRE_ACCESS` (include/uapi/linux/fanotify.h).
const PERMISSIONS: u64 = 0x1_0000 | 0x2_0000 | 0x4_0000 | 0x10_0000;

/// Whoever marked what the sensor opens, be it its log or a program that it reads, could let it wait for ever.
#[lsm(hook = "path_notify")]
pub(crate) fn path_notify(ctx: LsmContext) -> i32 {
    let earlier: i32 = ctx.arg(3);
    if earlier != 0 {
        return earlier;
    }
    let events: u64 = ctx.arg(1);
    if events & PERMISSIONS == 0 {
        return 0;
    }
    by_session(Tampering::Fanotify, events as u32)
}

/// `FIFREEZE` (include/uapi/linux/fs.h), and `EXT4_IOC_SHUTDOWN`, `XFS_IOC_GOINGDOWN`, `F2FS_IOC_SHUTDOWN`, which are one
/// number. Numbers of 32-bit programs are the same.
const FREEZES: [u32; 2] = [0xc004_5877, 0x8004_587d];

/// A filesystem that stands still takes the log along, or the files that the sensor reads.
#[inline(always)]
fn on_ioctl(ctx: &LsmContext) -> i32 {
    let earlier: i32 = ctx.arg(3);
    if earlier != 0 {
        return earlier;
    }
    let request: u32 = ctx.arg(1);
    if !FREEZES.contains(&request) {
        return 0;
    }
    by_session(Tampering::Freeze, request)
}

#[lsm(hook = "file_ioctl")]
pub(crate) fn file_ioctl(ctx: LsmContext) -> i32 {
    on_ioctl(&ctx)
}

/// Those of 32-bit programs, from Linux 6.8 on.
#[lsm(hook = "file_ioctl_compat")]
pub(crate) fn file_ioctl_compat(ctx: LsmContext) -> i32 {
    on_ioctl(&ctx)
}

/// Whether a file that is opened for writing is a way to the sensor in procfs or among the control groups; refused and
/// recorded then.
#[inline(never)]
pub(crate) fn refuses_to_write(file: u64, session: u64) -> i32 {
    if offset!(sb_magic) == Offsets::ABSENT as u64 {
        return 0;
    }
    let inode: u64 = read(file + offset!(file_inode));
    let superblock: u64 = read(inode + offset!(inode_sb));
    let dentry: u64 = read(file + offset!(file_path) + offset!(path_dentry));
    match read::<u64>(superblock + offset!(sb_magic)) {
        PROC_MAGIC => in_procfs(inode, dentry, session),
        SYSFS_MAGIC => is_named(dentry, &[b"uevent_helper\0\0\0"], Tampering::Setting, session),
        CGROUP_MAGIC if is_named(dentry, &[b"release_agent\0\0\0"], Tampering::Setting, session) != 0 => {
            REFUSED
        }
        CGROUP2_MAGIC | CGROUP_MAGIC => among_cgroups(dentry, session),
        _ => 0,
    }
}

/// Settings in /proc/sys, by the first 15 bytes of their names. With the first at 0 the kernel calls no program at a hook or
/// a function any more (trampolines are the function tracer's, and not permanent since Linux 6.0); the next four name
/// programs that it starts as root, outside of every session; the last is the time that real-time tasks leave to others.
const SETTINGS: [&[u8; 16]; 6] = [
    b"ftrace_enabled\0\0",
    b"core_pattern\0\0\0\0",
    b"modprobe\0\0\0\0\0\0\0\0",
    b"poweroff_cmd\0\0\0\0",
    b"hotplug\0\0\0\0\0\0\0\0\0",
    b"sched_rt_runtim\0",
];

/// Refuses, and records, if a file has one of these names.
#[inline(always)]
fn is_named(dentry: u64, names: &[&[u8; 16]], what: Tampering, session: u64) -> i32 {
    let name = short_name(dentry);
    if names.iter().any(|one| name == words(one)) { report(session, what as u32, 0, 0, 0) } else { 0 }
}

/// By the process that the inode stands for: each mount of procfs is a filesystem of its own (Linux 5.8), and a thread
/// has a directory there that no listing shows.
#[inline(always)]
fn in_procfs(inode: u64, dentry: u64, session: u64) -> i32 {
    if offset!(proc_inode_pid) == Offsets::ABSENT as u64 || offset!(task_pid_links) == Offsets::ABSENT as u64
    {
        return 0;
    }
    let pid: u64 = read(inode - offset!(proc_inode_inode) + offset!(proc_inode_pid));
    if pid == 0 {
        if is_named(dentry, &[b"sysrq-trigger\0\0\0"], Tampering::SysRq, session) != 0 {
            return REFUSED;
        }
        return is_named(dentry, &SETTINGS, Tampering::Setting, session);
    }
    let node: u64 = read(pid + offset!(pid_tasks));
    if node == 0 {
        return 0;
    }
    match sensor(node - offset!(task_pid_links)) {
        Some(ids) => report(session, Tampering::ProcFile as u32, 0, ids.pid, ids.start_ns),
        None => 0,
    }
}

/// A group that is frozen or killed, or has no share of a processor, takes the sensor along.
#[inline(always)]
fn among_cgroups(dentry: u64, session: u64) -> i32 {
    let group: u64 = read(read::<u64>(dentry + offset!(dentry_parent)) + offset!(dentry_inode));
    let key = ObjectKey { kind: ObjectKey::CGROUP, id: read::<u64>(group + offset!(inode_ino)) as u32 };
    // SAFETY: only whether there is one counts.
    if unsafe { OBJECTS.get(&key) }.is_none() {
        return 0;
    }
    report(session, Tampering::Cgroup as u32, key.id, 0, 0)
}

/// A task was put into another control group. No hook could refuse it, so it is recorded: a sensor that stands still
/// there is started anew by whoever watches it.
#[btf_tracepoint(function = "cgroup_attach_task")]
pub(crate) fn cgroup_attach_task(ctx: BtfTracePointContext) -> i32 {
    let task: u64 = ctx.arg(2);
    let Some(label) = tasks::current_label() else {
        return 0;
    };
    if let Some(ids) = sensor(task) {
        report(label.session, Tampering::Cgroup as u32 | RECORDED, 0, ids.pid, ids.start_ns);
    }
    0
}
