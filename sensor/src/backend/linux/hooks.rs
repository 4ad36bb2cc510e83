//! Which hooks each attach mode uses, and what they are for.

use treeline_abi::Settings;
use treeline_event::{AttachMode, HookState, HookStatus};
use treeline_policy::policy::Adoption;

use super::{fmod_ret, offsets::Kernel, release};

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HookKind {
    /// BTF tracepoint (Linux 5.5).
    Tracepoint,
    /// BPF LSM (Linux 5.7).
    Lsm,
    /// On the `security_*` function of an LSM hook (Linux 5.7).
    ModifyReturn,
    /// At the return of a kernel function (Linux 5.5).
    Exit,
    /// At a connect or a datagram of the root cgroup (Linux 4.17, 4.18).
    CgroupAddress,
    /// At the making of an IPv4 or IPv6 socket in the root cgroup (Linux 4.10).
    CgroupSocket,
}

/// One program and where it goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hook {
    /// Name in the object.
    pub(super) program: &'static str,
    /// Kernel function, tracepoint or LSM hook.
    pub(super) target: &'static str,
    /// How.
    pub(super) kind: HookKind,
    /// Without it this attach mode is not usable.
    pub(super) essential: bool,
}

impl Hook {
    const fn new(kind: HookKind, program: &'static str, target: &'static str, essential: bool) -> Self {
        Self { program, target, kind, essential }
    }

    /// Whether something goes unseen when the kernel leaves a run of it out, see `programs.rs`. Not where another one
    /// makes up for it.
    pub(super) fn can_be_left_out(&self, all: &[Self]) -> bool {
        match self.kind {
            HookKind::Tracepoint => {
                self.target != "sched_process_fork" || all.iter().all(|hook| hook.target != CREATED.target)
            }
            HookKind::ModifyReturn | HookKind::Exit => true,
            HookKind::Lsm | HookKind::CgroupAddress | HookKind::CgroupSocket => false,
        }
    }

    /// The same where the kernel calls the function otherwise: `do_filp_open` is `do_file_open` in Linux 7.
    fn as_called_in(self, kernel: &Kernel) -> Self {
        match self.target {
            "do_filp_open" if !kernel.has_function(self.target) => Self { target: "do_file_open", ..self },
            _ => self,
        }
    }

    /// The same program where LSM programs are not called.
    fn on_function(self) -> Self {
        match self.kind {
            HookKind::Lsm => Self { kind: HookKind::ModifyReturn, ..self },
            _ => self,
        }
    }

    /// Such as `lsm/file_open`.
    pub(super) fn name(&self) -> String {
        let kind = match self.kind {
            HookKind::Tracepoint => "tp_btf",
            HookKind::Lsm => "lsm",
            HookKind::ModifyReturn => return format!("fmod_ret/{}", fmod_ret::function(self.target)),
            HookKind::Exit => "fexit",
            HookKind::CgroupAddress | HookKind::CgroupSocket => "cgroup",
        };
        format!("{kind}/{}", self.target)
    }
}

const LIFECYCLE: [Hook; 3] = [
    Hook::new(HookKind::Tracepoint, "process_fork", "sched_process_fork", true),
    Hook::new(HookKind::Tracepoint, "process_exec", "sched_process_exec", true),
    Hook::new(HookKind::Tracepoint, "process_exit", "sched_process_exit", true),
];

/// Makes up for `sched_process_fork` where that can be left out: since Linux 7.0 tracepoints can be preempted. This one
/// cannot, since the run queue is locked; and it must not be used where memory for a label cannot be had in that state
/// (before Linux 6.4).
const CREATED: Hook = Hook::new(HookKind::Tracepoint, "process_created", "sched_wakeup_new", true);

/// The hooks of processes on this kernel.
fn lifecycle() -> impl Iterator<Item = Hook> {
    let created = release::numbers() >= (7, 0);
    LIFECYCLE.into_iter().chain(created.then_some(CREATED))
}

/// Of two programs at one hook the kernel runs the one first that was attached last (`bpf_trampoline_link_prog`): what
/// refuses for what is above comes behind what records.
const LSM: [Hook; 25] = [
    Hook::new(HookKind::Lsm, "file_open", "file_open", true),
    Hook::new(HookKind::Lsm, "inode_create", "inode_create", true),
    Hook::new(HookKind::Lsm, "inode_mkdir", "inode_mkdir", true),
    Hook::new(HookKind::Lsm, "inode_mknod", "inode_mknod", true),
    Hook::new(HookKind::Lsm, "inode_symlink", "inode_symlink", true),
    Hook::new(HookKind::Lsm, "inode_symlink_above", "inode_symlink", true),
    Hook::new(HookKind::Lsm, "inode_link", "inode_link", true),
    Hook::new(HookKind::Lsm, "inode_unlink", "inode_unlink", true),
    Hook::new(HookKind::Lsm, "inode_rmdir", "inode_rmdir", true),
    Hook::new(HookKind::Lsm, "inode_rename", "inode_rename", true),
    Hook::new(HookKind::Lsm, "inode_rename_above", "inode_rename", true),
    Hook::new(HookKind::Lsm, "file_receive", "file_receive", true),
    Hook::new(HookKind::Lsm, "sb_mount", "sb_mount", true),
    Hook::new(HookKind::Lsm, "move_mount", "move_mount", true),
    Hook::new(HookKind::Lsm, "sb_pivotroot", "sb_pivotroot", true),
    Hook::new(HookKind::Lsm, "bprm_check_security", "bprm_check_security", true),
    Hook::new(HookKind::Lsm, "mmap_file", "mmap_file", true),
    Hook::new(HookKind::Lsm, "file_mprotect", "file_mprotect", true),
    Hook::new(HookKind::Lsm, "socket_connect", "socket_connect", true),
    Hook::new(HookKind::Lsm, "socket_sendmsg", "socket_sendmsg", true),
    Hook::new(HookKind::Lsm, "socket_create", "socket_create", true),
    Hook::new(HookKind::Lsm, "unix_stream_connect", "unix_stream_connect", true),
    Hook::new(HookKind::Lsm, "unix_may_send", "unix_may_send", true),
    Hook::new(HookKind::Exit, "open_exit", "do_filp_open", false),
    Hook::new(HookKind::Exit, "connect_exit", "__sys_connect_file", false),
];

/// The sensor's protection of itself. None is essential: it would be worse not to run.
const SELF: [Hook; 15] = [
    Hook::new(HookKind::Lsm, "task_kill", "task_kill", false),
    Hook::new(HookKind::Lsm, "file_send_sigiotask", "file_send_sigiotask", false),
    Hook::new(HookKind::Lsm, "ptrace_access_check", "ptrace_access_check", false),
    Hook::new(HookKind::Lsm, "task_setnice", "task_setnice", false),
    Hook::new(HookKind::Lsm, "task_setioprio", "task_setioprio", false),
    Hook::new(HookKind::Lsm, "task_setscheduler", "task_setscheduler", false),
    Hook::new(HookKind::Lsm, "task_setrlimit", "task_setrlimit", false),
    Hook::new(HookKind::Lsm, "task_movememory", "task_movememory", false),
    Hook::new(HookKind::Lsm, "bpf_map", "bpf_map", false),
    Hook::new(HookKind::Lsm, "bpf_prog", "bpf_prog", false),
    Hook::new(HookKind::Tracepoint, "cgroup_attach_task", "cgroup_attach_task", false),
    Hook::new(HookKind::Lsm, "kernel_load_data", "kernel_load_data", false),
    Hook::new(HookKind::Lsm, "kernel_read_file", "kernel_read_file", false),
    Hook::new(HookKind::Lsm, "path_notify", "path_notify", false),
    Hook::new(HookKind::Lsm, "file_ioctl", "file_ioctl", false),
];

const FALLBACK: [Hook; 6] = [
    Hook::new(HookKind::Tracepoint, "syscall_exit", "sys_exit", true),
    Hook::new(HookKind::CgroupAddress, "cgroup_connect4", "connect4", false),
    Hook::new(HookKind::CgroupAddress, "cgroup_connect6", "connect6", false),
    Hook::new(HookKind::CgroupAddress, "cgroup_sendmsg4", "sendmsg4", false),
    Hook::new(HookKind::CgroupAddress, "cgroup_sendmsg6", "sendmsg6", false),
    Hook::new(HookKind::CgroupSocket, "cgroup_sock_create", "sock_create", false),
];

/// The hooks of adoption. None is essential: a rule that adopts says what it amounts to without.
fn adoption(kernel: &Kernel) -> [Hook; 4] {
    // Linux 6.10 put the other arguments into a structure.
    let accept = if kernel.parameters(ACCEPT) == Some(4) { "accept_exit_of_four" } else { "accept_exit" };
    [
        Hook::new(HookKind::Tracepoint, "sock_state", SOCK_STATE, false),
        Hook::new(HookKind::Exit, accept, ACCEPT, false),
        Hook::new(HookKind::Lsm, "job_removed", "inode_unlink", false),
        Hook::new(HookKind::Exit, "trace_granted", ACCESS, false),
    ]
}

const SOCK_STATE: &str = "inet_sock_set_state";
const ACCEPT: &str = "inet_csk_accept";
const ACCESS: &str = "security_ptrace_access_check";

/// The names of the hooks by which a link is known, beside those that every mode with LSM hooks has.
pub(super) fn of_adoption(adoption: Adoption) -> &'static [&'static str] {
    match adoption {
        Adoption::Connection => &["tp_btf/inet_sock_set_state", "fexit/inet_csk_accept"],
        Adoption::Job => &[],
        Adoption::Trace => &["fexit/security_ptrace_access_check"],
    }
}

/// Whether a hook, by its name, is one of those that protect the sensor.
pub(super) fn protects_itself(name: &str) -> bool {
    let others = ["bpf", "sb_umount", "file_ioctl_compat"]
        .map(|target| Hook::new(HookKind::Lsm, target, target, false));
    let is = |hook: Hook| hook.name() == name || hook.on_function().name() == name;
    SELF.into_iter().chain(others).any(is)
}

/// Whether the kernel runs BPF LSM programs at all.
///
/// # Errors
/// Why not, and what to do.
pub(super) fn lsm_enabled() -> Result<(), String> {
    const LIST: &str = "/sys/kernel/security/lsm";
    match std::fs::read_to_string(LIST) {
        Ok(list) if list.trim().split(',').any(|name| name == "bpf") => Ok(()),
        Ok(list) => Err(format!(
            "`bpf` is not among the security modules (`{}`): boot with `lsm={},bpf`",
            list.trim(),
            list.trim()
        )),
        // Without securityfs it cannot be known: the kernel will say at the first program.
        Err(_) => Ok(()),
    }
}

/// Whether the kernel calls programs at hooks and functions, which it does by the function tracer.
///
/// # Errors
/// Why not, and what to do.
pub(super) fn calls_enabled() -> Result<(), String> {
    const SETTING: &str = "/proc/sys/kernel/ftrace_enabled";
    match std::fs::read_to_string(SETTING) {
        Ok(value) if value.trim() == "0" => Err(format!(
            "the kernel calls no program at a hook or a function (`{SETTING}` is 0): `sysctl kernel.ftrace_enabled=1`"
        )),
        // A kernel without it has no such switch.
        _ => Ok(()),
    }
}

/// What differs between kernels in the hooks themselves.
pub(super) fn settings(kernel: &Kernel) -> Settings {
    Settings {
        connect_exit: u32::from(kernel.has_function("__sys_connect_file")),
        older: u32::from(!kernel.has_function("bpf_loop")),
    }
}

/// The hooks of attributes: their arguments differ between kernels, and older ones lack some.
fn attributes(kernel: &Kernel) -> Vec<Hook> {
    const HOOKS: [(&str, &str, usize, &str, &str); 5] = [
        ("inode_setattr", "bpf_lsm_inode_setattr", 3, "inode_setattr", "inode_setattr_plain"),
        ("inode_setxattr", "bpf_lsm_inode_setxattr", 6, "inode_setxattr", "inode_setxattr_plain"),
        ("inode_removexattr", "bpf_lsm_inode_removexattr", 3, "inode_removexattr", "inode_removexattr_plain"),
        ("inode_set_acl", "bpf_lsm_inode_set_acl", 4, "inode_set_acl", "inode_set_acl"),
        ("inode_remove_acl", "bpf_lsm_inode_remove_acl", 3, "inode_remove_acl", "inode_remove_acl"),
    ];
    let hook = |(target, function, arguments, with_idmap, plain): (&'static str, _, _, _, _)| {
        let found = kernel.parameters(function)?;
        let program = if found == arguments { with_idmap } else { plain };
        Some(Hook::new(HookKind::Lsm, program, target, true))
    };
    HOOKS.into_iter().filter_map(hook).collect()
}

/// The hooks of what changes a file by a descriptor for reading, or without one: its flags, and sealing it for good.
fn flags(kernel: &Kernel) -> Vec<Hook> {
    let hook = |program, target| Hook::new(HookKind::Lsm, program, target, true);
    let has_compat = kernel.has_function(OF_COMPAT);
    if kernel.has_function("bpf_lsm_inode_file_setattr") {
        let compat = has_compat.then_some(hook("file_ioctl_compat_verity", COMPAT));
        let hooks =
            [hook("inode_file_setattr", "inode_file_setattr"), hook("file_ioctl_verity", "file_ioctl")];
        return hooks.into_iter().chain(compat).collect();
    }
    let compat = has_compat.then_some(hook("file_ioctl_compat_attributes", COMPAT));
    [hook("file_ioctl_attributes", "file_ioctl")].into_iter().chain(compat).collect()
}

/// `ioctl` of 32-bit programs has a hook of its own since Linux 6.8.
const COMPAT: &str = "file_ioctl_compat";
const OF_COMPAT: &str = "bpf_lsm_file_ioctl_compat";

/// The hooks of the sensor's own objects that need members or arguments which differ between kernels.
fn objects(kernel: &Kernel) -> [Hook; 2] {
    let bpf = if kernel.parameters("bpf_lsm_bpf") == Some(4) { "bpf" } else { "bpf_plain" };
    [Hook::new(HookKind::Lsm, bpf, "bpf", false), Hook::new(HookKind::Lsm, "sb_umount", "sb_umount", false)]
}

fn compat(kernel: &Kernel) -> Option<Hook> {
    kernel.has_function(OF_COMPAT).then_some(Hook::new(HookKind::Lsm, COMPAT, COMPAT, false))
}

/// Refuses processes for whose labels there is no room.
const ROOM: Hook = Hook::new(HookKind::Lsm, "task_alloc", "task_alloc", false);

/// Every hook of a mode that does not depend on the kernel, as if it were attached.
pub(super) fn full(mode: AttachMode) -> Vec<HookStatus> {
    let hooks: Vec<Hook> = match mode {
        AttachMode::Lsm => LIFECYCLE.into_iter().chain(LSM).chain(SELF).collect(),
        AttachMode::FmodRet => LIFECYCLE.into_iter().chain(LSM).chain(SELF).map(Hook::on_function).collect(),
        AttachMode::Fallback => LIFECYCLE.into_iter().chain(FALLBACK).collect(),
        AttachMode::Replay => Vec::new(),
    };
    hooks.iter().map(|hook| HookStatus { hook: hook.name(), state: HookState::Attached }).collect()
}

/// The hooks of a mode, in the order in which they are attached.
pub(super) fn of(mode: AttachMode, kernel: &Kernel) -> Vec<Hook> {
    match mode {
        AttachMode::Lsm => {
            let hooks = lifecycle().chain(LSM).chain(attributes(kernel)).chain(SELF).chain(objects(kernel));
            let hooks =
                hooks.chain(compat(kernel)).chain(flags(kernel)).chain([ROOM]).chain(adoption(kernel));
            hooks.map(|hook| hook.as_called_in(kernel)).collect()
        }
        AttachMode::Fallback => lifecycle().chain(FALLBACK).collect(),
        AttachMode::FmodRet => of(AttachMode::Lsm, kernel).into_iter().map(Hook::on_function).collect(),
        AttachMode::Replay => Vec::new(),
    }
}
