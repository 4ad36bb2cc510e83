//! What the agent tells the kernel programs when it loads them.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

macro_rules! offsets {
    ($($(#[$doc:meta])* $field:ident = $kind:literal $path:literal),+ $(,)?) => {
        /// Byte offsets of kernel structure members, resolved by name from the running kernel's BTF.
        ///
        /// [`Offsets::ABSENT`] marks a member that this kernel does not have.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        pub struct Offsets {
            $($(#[$doc])* pub $field: u32,)+
        }

        impl Offsets {
            /// A member that the running kernel does not have.
            pub const ABSENT: u32 = u32::MAX;
            /// Every field absent: the value in the object file, never the one in use.
            pub const UNSET: Self = Self { $($field: Self::ABSENT,)+ };
            /// Where each field comes from: field name, `required` or `optional`, and the alternatives as
            /// `struct:member.member`, separated by `|`, the first that exists being used.
            pub const SOURCES: &'static [(&'static str, &'static str, &'static str)] =
                &[$((stringify!($field), $kind, $path),)+];
        }
    };
}

offsets! {
    /// Thread group id.
    task_tgid = "required" "task_struct:tgid",
    /// Thread id.
    task_pid = "required" "task_struct:pid",
    /// The thread group leader.
    task_group_leader = "required" "task_struct:group_leader",
    /// Creation time by `CLOCK_BOOTTIME` (`real_start_time` before 5.5).
    task_start_boottime = "required" "task_struct:start_boottime",
    /// Credentials that others see.
    task_cred = "required" "task_struct:cred",
    /// Address space.
    task_mm = "required" "task_struct:mm",
    /// Shared by the threads of a process.
    task_signal = "required" "task_struct:signal",
    /// Open files.
    task_files = "required" "task_struct:files",
    /// Root and working directory.
    task_fs = "required" "task_struct:fs",
    /// Exit code of the thread.
    task_exit_code = "required" "task_struct:exit_code",
    /// `PF_*` flags.
    task_flags = "required" "task_struct:flags",
    /// Real user id.
    cred_uid = "required" "cred:uid.val|cred:uid",
    /// Effective user id.
    cred_euid = "required" "cred:euid.val|cred:euid",
    /// Real group id.
    cred_gid = "required" "cred:gid.val|cred:gid",
    /// Threads that have not exited.
    signal_live = "required" "signal_struct:live.counter|signal_struct:live",
    /// `SIGNAL_GROUP_EXIT` and others.
    signal_flags = "required" "signal_struct:flags",
    /// Exit code of the whole group.
    signal_group_exit_code = "required" "signal_struct:group_exit_code",
    /// The thread that executes and waits for all others to end, null at any other time (`group_exit_task` before
    /// 5.17).
    signal_group_exec_task = "required" "signal_struct:group_exec_task|signal_struct:group_exit_task",
    /// Controlling terminal.
    signal_tty = "required" "signal_struct:tty",
    /// Index within the driver.
    tty_index = "required" "tty_struct:index",
    /// Driver.
    tty_driver = "required" "tty_struct:driver",
    /// First minor of the driver.
    tty_driver_minor_start = "required" "tty_driver:minor_start",
    /// Major of the driver.
    tty_driver_major = "required" "tty_driver:major",
    /// Executable.
    mm_exe_file = "required" "mm_struct:exe_file",
    /// Start of the argument strings.
    mm_arg_start = "required" "mm_struct:arg_start",
    /// End of the argument strings.
    mm_arg_end = "required" "mm_struct:arg_end",
    /// Start of the environment strings.
    mm_env_start = "required" "mm_struct:env_start",
    /// End of the environment strings.
    mm_env_end = "required" "mm_struct:env_end",
    /// The file being executed.
    bprm_file = "required" "linux_binprm:file",
    /// The name that was given.
    bprm_filename = "required" "linux_binprm:filename",
    /// The name of the interpreter.
    bprm_interp = "required" "linux_binprm:interp",
    /// `BINPRM_FLAGS_PATH_INACCESSIBLE` and others.
    bprm_interp_flags = "required" "linux_binprm:interp_flags",
    /// Descriptor table.
    files_fdt = "required" "files_struct:fdt",
    /// Size of the descriptor table.
    fdt_max_fds = "required" "fdtable:max_fds",
    /// Descriptors.
    fdt_fd = "required" "fdtable:fd",
    /// Working directory.
    fs_pwd = "required" "fs_struct:pwd",
    /// The dentry of a `struct path`.
    path_dentry = "required" "path:dentry",
    /// The mount of a `struct path`.
    path_mnt = "required" "path:mnt",
    /// The path of an open file.
    file_path = "required" "file:f_path",
    /// The inode of an open file.
    file_inode = "required" "file:f_inode",
    /// Open flags.
    file_flags = "required" "file:f_flags",
    /// `FMODE_*` bits.
    file_mode = "required" "file:f_mode",
    /// What the file of a socket or of an overlay points to.
    file_private_data = "required" "file:private_data",
    /// The path of the overlay's file for which a file behind it was opened (Linux 6.7).
    backing_user_path = "optional" "backing_file:user_path",
    /// Parent.
    dentry_parent = "required" "dentry:d_parent",
    /// Length of the name.
    dentry_name_len = "required" "dentry:d_name.len",
    /// The name.
    dentry_name = "required" "dentry:d_name.name",
    /// Inode, null for a negative dentry.
    dentry_inode = "required" "dentry:d_inode",
    /// `DCACHE_*` flags.
    dentry_flags = "required" "dentry:d_flags",
    /// Its place in the list of names of the inode.
    dentry_alias = "optional" "dentry:d_u.d_alias|dentry:d_alias",
    /// Superblock.
    dentry_sb = "required" "dentry:d_sb",
    /// Device number.
    sb_dev = "required" "super_block:s_dev",
    /// How names are folded in those of its directories that say so, null where none does (Linux 5.10).
    sb_encoding = "optional" "super_block:s_encoding",
    /// Inode number.
    inode_ino = "required" "inode:i_ino",
    /// Size in bytes.
    inode_size = "required" "inode:i_size",
    /// Type and permissions.
    inode_mode = "required" "inode:i_mode",
    /// `S_*` flags.
    inode_flags = "required" "inode:i_flags",
    /// Names of the inode.
    inode_nlink = "required" "inode:i_nlink",
    /// The names of the inode that the kernel knows, first of all the latest.
    inode_aliases = "optional" "inode:i_dentry.first",
    /// Superblock.
    inode_sb = "required" "inode:i_sb",
    /// Modification time, seconds (`i_mtime` before 6.7, `__i_mtime` before 6.11).
    inode_mtime_sec = "required" "inode:i_mtime_sec|inode:__i_mtime.tv_sec|inode:i_mtime.tv_sec",
    /// Modification time, nanoseconds.
    inode_mtime_nsec = "required" "inode:i_mtime_nsec|inode:__i_mtime.tv_nsec|inode:i_mtime.tv_nsec",
    /// Change time, seconds.
    inode_ctime_sec = "required" "inode:i_ctime_sec|inode:__i_ctime.tv_sec|inode:i_ctime.tv_sec",
    /// Change time, nanoseconds.
    inode_ctime_nsec = "required" "inode:i_ctime_nsec|inode:__i_ctime.tv_nsec|inode:i_ctime.tv_nsec",
    /// The file behind a mapping.
    vma_file = "required" "vm_area_struct:vm_file",
    /// Address family of a socket.
    sock_family = "required" "sock_common:skc_family",
    /// The protocol part of a socket.
    socket_sk = "required" "socket:sk",
    /// Kind of a socket's exchange (`SOCK_STREAM`...).
    socket_type = "required" "socket:type",
    /// The address that a message is sent to.
    msg_name = "required" "msghdr:msg_name",
    /// Length of that address.
    msg_namelen = "required" "msghdr:msg_namelen",
    /// `MSG_*` flags.
    msg_flags = "required" "msghdr:msg_flags",
    /// The file system object of a unix socket.
    unix_sock_path = "optional" "unix_sock:path",
    /// The address of a unix socket.
    unix_sock_addr = "optional" "unix_sock:addr",
    /// The other end of a unix socket.
    unix_sock_peer = "optional" "unix_sock:peer",
    /// Length of a unix address.
    unix_address_len = "optional" "unix_address:len",
    /// The bytes of a unix address.
    unix_address_name = "optional" "unix_address:name",
    /// The name of an open, copied into the kernel.
    filename_name = "optional" "filename:name",
    /// The superblock of a mount.
    mount_sb = "optional" "vfsmount:mnt_sb",
    /// What kind of filesystem it is.
    sb_magic = "required" "super_block:s_magic",
    /// The inode within that of procfs.
    proc_inode_inode = "optional" "proc_inode:vfs_inode",
    /// The process that an inode of procfs is about.
    proc_inode_pid = "optional" "proc_inode:pid",
    /// Tasks by type of id; the first list is of threads.
    pid_tasks = "optional" "pid:tasks",
    /// Where a task hangs in those lists.
    task_pid_links = "optional" "task_struct:pid_links",
    /// Id of a map.
    map_id = "optional" "bpf_map:id",
    /// The shared part of a program.
    prog_aux = "optional" "bpf_prog:aux",
    /// Id of a program.
    prog_aux_id = "optional" "bpf_prog_aux:id",
    /// The creator, or who took its place.
    task_real_parent = "required" "task_struct:real_parent",
    /// Owner of an inode.
    inode_uid = "required" "inode:i_uid.val|inode:i_uid",
    /// What tells an inode from an earlier one of the same number.
    inode_generation = "required" "inode:i_generation",
    /// The network namespace of a socket.
    sock_net = "optional" "sock_common:skc_net.net",
    /// Its protocol.
    sock_protocol = "optional" "sock:sk_protocol",
    /// The other end's IPv4 address.
    sock_daddr = "optional" "sock_common:skc_daddr",
    /// Its own IPv4 address.
    sock_rcv_saddr = "optional" "sock_common:skc_rcv_saddr",
    /// The other end's IPv6 address.
    sock_v6_daddr = "optional" "sock_common:skc_v6_daddr",
    /// Its own IPv6 address.
    sock_v6_rcv_saddr = "optional" "sock_common:skc_v6_rcv_saddr",
    /// The other end's port, network byte order.
    sock_dport = "optional" "sock_common:skc_dport",
    /// Its own port, network byte order; unlike `skc_num` it is still there when the socket is closed.
    sock_sport = "optional" "inet_sock:inet_sport",
    /// How many have the file open for writing; below 0 while it is executed.
    inode_writecount = "required" "inode:i_writecount.counter",
    /// System call number at its exit (x86-64).
    regs_nr = "required" "pt_regs:orig_ax",
    /// First argument (x86-64).
    regs_a0 = "required" "pt_regs:di",
    /// Second argument.
    regs_a1 = "required" "pt_regs:si",
    /// Third argument.
    regs_a2 = "required" "pt_regs:dx",
    /// Fourth argument.
    regs_a3 = "required" "pt_regs:r10",
    /// Fifth argument.
    regs_a4 = "required" "pt_regs:r8",
    /// `cs`, which tells a 32-bit system call.
    regs_cs = "required" "pt_regs:cs",
}

/// Facts about this kernel and attach mode that hold for as long as the programs are loaded. Each is 0 or 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Settings {
    /// The result of a connect is seen at the return of `__sys_connect_file`.
    pub connect_exit: u32,
    /// The kernel lacks callbacks (`bpf_loop`, Linux 5.17), labels on tasks for every sort of program (task storage,
    /// Linux 5.11 and 5.12) and pointers to global functions (Linux 5.12). Rounds of loops are then calls of global
    /// functions that take numbers, and labels are found by process.
    pub older: u32,
}

impl Settings {
    /// The value in the object file.
    pub const UNSET: Self = Self { connect_exit: 0, older: 0 };
    /// How the names of global functions begin that only programs for older kernels call.
    pub const OLDER_PREFIX: &'static str = "older_";
    /// How the names of those begin that no program for older kernels calls.
    pub const NEWER_PREFIX: &'static str = "treeline_";
}

const _: () = assert!(size_of::<Offsets>() == 4 * Offsets::SOURCES.len());
const _: () = assert!(size_of::<Settings>() == 8);
