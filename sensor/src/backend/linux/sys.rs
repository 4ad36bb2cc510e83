//! The system and library calls that no safe crate wraps. The only file of the sensor with `unsafe` code.
#![expect(
    unsafe_code,
    reason = "bpf(2) on a map type and for a command that aya does not wrap; leases; malloc_trim(3); SIGPIPE, SIGIO"
)]

use std::{
    io,
    os::{
        fd::{AsRawFd, BorrowedFd},
        unix::process::CommandExt as _,
    },
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
};

use treeline_abi::{Label, label::ProcessId};
use zerocopy::{FromZeros, IntoBytes};

const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_MAP_DELETE_ELEM: libc::c_long = 3;
const BPF_PROG_TEST_RUN: libc::c_long = 10;

/// The part of `union bpf_attr` that element commands read (include/uapi/linux/bpf.h, since Linux 3.19).
#[repr(C, align(8))]
struct ElementAttr {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

fn element<K: LabelKey>(
    command: libc::c_long,
    map: BorrowedFd<'_>,
    key: &K,
    value: *mut Label,
) -> io::Result<()> {
    let attr = ElementAttr {
        map_fd: map.as_raw_fd() as u32,
        pad: 0,
        key: std::ptr::from_ref(key) as u64,
        value: value as u64,
        flags: 0,
    };
    // SAFETY: `attr` is initialised and as long as the size says; key and value point to live memory of the size that
    // the map was created with (a `LabelKey` and a `Label`), the value is writable, and the kernel keeps none of them. A
    // command that takes no value gets none.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const attr, size_of::<ElementAttr>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// What a map of labels has as its key: a pidfd, which stands for the thread group leader, or a process.
pub(super) trait LabelKey {}
impl LabelKey for i32 {}
impl LabelKey for ProcessId {}

/// The label of a process, or nothing when it has none.
///
/// # Errors
/// `ESRCH` when the process is gone.
pub(super) fn label<K: LabelKey>(map: BorrowedFd<'_>, key: &K) -> io::Result<Option<Label>> {
    let mut label = Label::new_zeroed();
    match element(BPF_MAP_LOOKUP_ELEM, map, key, &raw mut label) {
        Ok(()) => Ok(Some(label)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Puts a label on a process.
///
/// # Errors
/// `ESRCH` when the process is gone.
pub(super) fn set_label<K: LabelKey>(map: BorrowedFd<'_>, key: &K, label: &Label) -> io::Result<()> {
    let mut label = *label;
    debug_assert_eq!(label.as_bytes().len(), size_of::<Label>());
    element(BPF_MAP_UPDATE_ELEM, map, key, &raw mut label)
}

/// Takes the label of a process away.
///
/// # Errors
/// The kernel's; it has none is not one.
pub(super) fn remove_label<K: LabelKey>(map: BorrowedFd<'_>, key: &K) -> io::Result<()> {
    match element(BPF_MAP_DELETE_ELEM, map, key, std::ptr::null_mut()) {
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
        _ => Ok(()),
    }
}

/// The part of `union bpf_attr` that `BPF_PROG_TEST_RUN` reads (include/uapi/linux/bpf.h).
#[repr(C, align(8))]
#[derive(Default)]
struct RunAttr {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    pad: u32,
}

/// Runs a raw tracepoint program once, without arguments, and returns what it returned (Linux 5.10).
///
/// # Errors
/// The kernel does not allow it.
pub(super) fn run_program(program: BorrowedFd<'_>) -> io::Result<u32> {
    let mut attr = RunAttr { prog_fd: program.as_raw_fd() as u32, ..RunAttr::default() };
    // SAFETY: `attr` is initialised, writable and as long as the size says; it points to no other memory.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_TEST_RUN, &raw mut attr, size_of::<RunAttr>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(attr.retval) }
}

/// What a pending lease break sends (SIGIO) would end the process. A handler and not `SIG_IGN`, which a command that is
/// started from here would inherit.
///
/// # Errors
/// The kernel's.
pub(super) fn ignore_lease_breaks() -> io::Result<()> {
    extern "C" fn nothing(_: libc::c_int) {}
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: zeroes are valid for the structure, whose members are set before it is used; the handler touches nothing,
    // so it is async-signal-safe; SIGIO is a signal.
    let result = unsafe {
        let action = &mut *action.as_mut_ptr();
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
        action.sa_flags = libc::SA_RESTART;
        libc::sigaction(libc::SIGIO, action, std::ptr::null_mut())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Takes a read lease on a file that is open for reading only: nobody has it open for writing, and whoever wants to, waits.
///
/// # Errors
/// `EAGAIN` when somebody has it open for writing.
pub(super) fn lease(file: BorrowedFd<'_>) -> io::Result<()> {
    set_lease(file, libc::F_RDLCK)
}

/// Gives a lease back.
///
/// # Errors
/// `EAGAIN` when there is none.
pub(super) fn give_lease_back(file: BorrowedFd<'_>) -> io::Result<()> {
    set_lease(file, libc::F_UNLCK)
}

/// Whether the lease is held, and nobody waits for its end.
pub(super) fn has_lease(file: BorrowedFd<'_>) -> bool {
    // SAFETY: a command without arguments on a descriptor that lives.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLEASE) == libc::F_RDLCK }
}

fn set_lease(file: BorrowedFd<'_>, kind: libc::c_int) -> io::Result<()> {
    // SAFETY: a command with a number as its argument, on a descriptor that lives.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Gives freed memory back to the machine: what starting needs, the kernel's type information above all, is some
/// hundred MiB, and the allocator would keep a good part of it for as long as the sensor lives.
pub(super) fn release_freed_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it may be called at any time, from any thread, and touches only memory that nobody owns.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Whether this process was started with SIGPIPE ignored.
static BROKEN_PIPES_IGNORED: AtomicBool = AtomicBool::new(false);

/// Rust's runtime ignores SIGPIPE before `main`, and nobody can tell afterwards what was inherited. What is in this
/// section runs before it (System V ABI, "Initialization and Termination Functions").
#[used]
#[unsafe(link_section = ".init_array")]
static AT_START: extern "C" fn() = note_broken_pipes;

extern "C" fn note_broken_pipes() {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: SIGPIPE is a signal, nothing is changed, and `action` is writable memory of the right type, for which
    // zeroes are valid. Nothing here needs Rust's runtime, which does not run yet.
    let ignored = unsafe {
        libc::sigaction(libc::SIGPIPE, std::ptr::null(), action.as_mut_ptr()) == 0
            && action.assume_init().sa_sigaction == libc::SIG_IGN
    };
    BROKEN_PIPES_IGNORED.store(ignored, Ordering::Relaxed);
}

/// Gives a command the SIGPIPE that this process was started with: the library's `Command` always sets the default.
pub(crate) fn pass_on_broken_pipes(command: &mut Command) {
    if !BROKEN_PIPES_IGNORED.load(Ordering::Relaxed) {
        return;
    }
    let ignore = || {
        // SAFETY: SIGPIPE is a signal, and no handler is installed.
        let before = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
        if before == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: the closure makes one async-signal-safe call, allocates nothing, and takes no lock.
    unsafe { command.pre_exec(ignore) };
}
