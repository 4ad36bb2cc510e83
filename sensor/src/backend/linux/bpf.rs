//! `bpf(2)` as far as aya does not go: programs of attach types that it does not know.
#![expect(unsafe_code, reason = "bpf(2) takes addresses; aya 0.14 cannot load BPF_MODIFY_RETURN")]

use std::{
    ffi::CStr,
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_RAW_TRACEPOINT_OPEN: libc::c_long = 17;
const BPF_BTF_LOAD: libc::c_long = 18;
const BPF_ENABLE_STATS: libc::c_long = 32;

/// `BPF_PROG_TYPE_TRACING` (Linux 5.5).
pub(super) const TRACING: u32 = 26;
/// `BPF_MODIFY_RETURN` (Linux 5.7).
pub(super) const MODIFY_RETURN: u32 = 26;

/// Bytes of a program's name (`BPF_OBJ_NAME_LEN`), with the NUL byte.
pub(super) const NAME_LEN: usize = 16;
/// Bytes of a verifier's log. Kernels before 6.4 keep its beginning and answer `ENOSPC` when it is too short; their
/// bound is `UINT_MAX >> 8`.
const LOG_LEN: usize = (u32::MAX >> 8) as usize;
/// The verifier tells of every instruction.
const LOG_LEVEL: u32 = 1;

/// Records about functions or lines of a program, as the object has them.
pub(super) struct Records {
    pub(super) bytes: Vec<u8>,
    pub(super) record_len: u32,
    pub(super) count: u32,
}

/// A program, ready for the kernel.
pub(super) struct Program<'a> {
    pub(super) name: &'a str,
    /// `BPF_PROG_TYPE_...`
    pub(super) kind: u32,
    /// `BPF_...` of `enum bpf_attach_type`.
    pub(super) attach_kind: u32,
    /// The kernel's type id of the function that it is for.
    pub(super) target: u32,
    /// Eight bytes each.
    pub(super) instructions: &'a [aya_obj::generated::bpf_insn],
    pub(super) license: &'a CStr,
    pub(super) types: BorrowedFd<'a>,
    pub(super) functions: Records,
    pub(super) lines: Records,
}

/// Why the kernel refused a program.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub(super) struct Refused {
    #[source]
    pub(super) error: io::Error,
    /// What the verifier said.
    pub(super) log: String,
}

/// The part of `union bpf_attr` that `BPF_PROG_LOAD` reads (include/uapi/linux/bpf.h, up to `attach_btf_id`, which is
/// there since Linux 5.5).
#[repr(C, align(8))]
#[derive(Default)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; NAME_LEN],
    prog_ifindex: u32,
    expected_attach_type: u32,
    prog_btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    line_info_rec_size: u32,
    line_info: u64,
    line_info_cnt: u32,
    attach_btf_id: u32,
}

const _: () = assert!(size_of::<LoadAttr>() == 112);
const _: () = assert!(size_of::<aya_obj::generated::bpf_insn>() == 8);

/// The part that `BPF_BTF_LOAD` reads (Linux 4.18).
#[repr(C, align(8))]
struct TypesAttr {
    btf: u64,
    btf_log_buf: u64,
    btf_size: u32,
    btf_log_size: u32,
    btf_log_level: u32,
    pad: u32,
}

/// The part that `BPF_RAW_TRACEPOINT_OPEN` reads (Linux 4.17). Without a name it attaches a program to the function
/// that it was loaded for (Linux 5.5).
#[repr(C, align(8))]
struct AttachAttr {
    name: u64,
    prog_fd: u32,
    pad: u32,
}

/// Calls `bpf(2)`, for a command that returns a descriptor.
///
/// # Safety
/// `attr` begins with what the command reads, and every address in it points to live memory of the length beside it,
/// writable where the kernel writes.
unsafe fn descriptor<T>(command: libc::c_long, attr: &T) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise; the kernel reads no more than the size says and keeps no address.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the commands that are used here return a new descriptor (with O_CLOEXEC), which nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(result as i32) })
}

/// Gives the kernel the types of an object.
///
/// # Errors
/// The kernel's.
pub(super) fn load_types(types: &[u8]) -> io::Result<OwnedFd> {
    let attr = TypesAttr {
        btf: types.as_ptr() as u64,
        btf_log_buf: 0,
        btf_size: types.len() as u32,
        btf_log_size: 0,
        btf_log_level: 0,
        pad: 0,
    };
    // SAFETY: `attr` is what the command reads, and `types` lives and is as long as it says.
    unsafe { descriptor(BPF_BTF_LOAD, &attr) }
}

/// Loads a program; a second time with the verifier's log when the kernel refuses.
///
/// # Errors
/// [`Refused`], with the verifier's words.
pub(super) fn load(program: &Program<'_>) -> Result<OwnedFd, Refused> {
    let refused = match try_load(program, &mut []) {
        Ok(loaded) => return Ok(loaded),
        Err(error) => error,
    };
    let mut log = vec![0; LOG_LEN];
    try_load(program, &mut log).map_err(|_| {
        let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
        Refused { error: refused, log: String::from_utf8_lossy(&log[..end]).into_owned() }
    })
}

fn try_load(program: &Program<'_>, log: &mut [u8]) -> io::Result<OwnedFd> {
    let mut name = [0; NAME_LEN];
    let len = program.name.len().min(NAME_LEN - 1);
    name[..len].copy_from_slice(&program.name.as_bytes()[..len]);
    let mut attr = LoadAttr {
        prog_type: program.kind,
        insn_cnt: program.instructions.len() as u32,
        insns: program.instructions.as_ptr() as u64,
        license: program.license.as_ptr() as u64,
        prog_name: name,
        expected_attach_type: program.attach_kind,
        prog_btf_fd: program.types.as_raw_fd() as u32,
        func_info_rec_size: program.functions.record_len,
        func_info: program.functions.bytes.as_ptr() as u64,
        func_info_cnt: program.functions.count,
        line_info_rec_size: program.lines.record_len,
        line_info: program.lines.bytes.as_ptr() as u64,
        line_info_cnt: program.lines.count,
        attach_btf_id: program.target,
        ..LoadAttr::default()
    };
    if !log.is_empty() {
        (attr.log_level, attr.log_size) = (LOG_LEVEL, log.len() as u32);
        attr.log_buf = log.as_mut_ptr() as u64;
    }
    // SAFETY: `attr` is what the command reads. Instructions, licence (NUL-terminated), records and log live as long
    // as `program` and `log` are borrowed and have the counts beside them; the log is writable.
    unsafe { descriptor(BPF_PROG_LOAD, &attr) }
}

/// What the kernel knows of a program.
#[derive(Clone, Copy, Debug)]
pub(super) struct Info {
    /// Its name, cut, with NUL bytes behind it (Linux 4.15).
    pub(super) name: [u8; NAME_LEN],
    /// How often it ran, while the kernel counted (`kernel.bpf_stats_enabled`, Linux 5.1).
    pub(super) runs: u64,
    /// How long these runs took in all, nanoseconds.
    pub(super) run_ns: u64,
    /// How often it was left out because it would have run within itself (Linux 5.12).
    pub(super) missed: u64,
    /// Instructions that the verifier looked at (Linux 5.16); 0 before.
    pub(super) verified_instructions: u32,
}

/// The part of `struct bpf_prog_info` up to `verified_insns`, whose other members are not used here. The kernel fills
/// in as much as it knows and leaves the rest as it is.
#[repr(C, align(8))]
struct ProgramInfo {
    unused: [u64; 8],
    name: [u8; NAME_LEN],
    not_used: [u64; 14],
    run_time_ns: u64,
    run_cnt: u64,
    recursion_misses: u64,
    verified_insns: u32,
    pad: u32,
}

const _: () = assert!(std::mem::offset_of!(ProgramInfo, name) == 64);
const _: () = assert!(std::mem::offset_of!(ProgramInfo, recursion_misses) == 208);

/// The part that `BPF_OBJ_GET_INFO_BY_FD` reads (Linux 4.13).
#[repr(C, align(8))]
struct InfoAttr {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// Asks the kernel about a program.
///
/// # Errors
/// The kernel's.
pub(super) fn info(program: BorrowedFd<'_>) -> io::Result<Info> {
    let mut info = ProgramInfo {
        unused: [0; 8],
        name: [0; NAME_LEN],
        not_used: [0; 14],
        run_time_ns: 0,
        run_cnt: 0,
        recursion_misses: 0,
        verified_insns: 0,
        pad: 0,
    };
    let attr = InfoAttr {
        bpf_fd: program.as_raw_fd() as u32,
        info_len: size_of::<ProgramInfo>() as u32,
        info: &raw mut info as u64,
    };
    // SAFETY: `attr` is what the command reads; `info` lives, is writable and as long as it says. The zeroes in it ask
    // for none of the arrays that the kernel would write elsewhere.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_OBJ_GET_INFO_BY_FD, &raw const attr, size_of::<InfoAttr>())
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Info {
        name: info.name,
        runs: info.run_cnt,
        run_ns: info.run_time_ns,
        missed: info.recursion_misses,
        verified_instructions: info.verified_insns,
    })
}

/// Attaches a program to the function that it was loaded for, as long as the descriptor lives.
///
/// # Errors
/// The kernel's.
pub(super) fn attach(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let attr = AttachAttr { name: 0, prog_fd: program.as_raw_fd() as u32, pad: 0 };
    // SAFETY: `attr` is what the command reads and has no address.
    unsafe { descriptor(BPF_RAW_TRACEPOINT_OPEN, &attr) }
}

/// The part that `BPF_ENABLE_STATS` reads (Linux 5.8).
#[repr(C, align(8))]
struct StatsAttr {
    kind: u32,
    pad: u32,
}

/// Has the kernel count and time the runs of all programs ([`Info::runs`]) as long as the descriptor lives.
///
/// # Errors
/// The kernel's; `EINVAL` before Linux 5.8.
pub(super) fn time_runs() -> io::Result<OwnedFd> {
    const RUN_TIME: u32 = 0;
    let attr = StatsAttr { kind: RUN_TIME, pad: 0 };
    // SAFETY: `attr` is what the command reads and has no address.
    unsafe { descriptor(BPF_ENABLE_STATS, &attr) }
}

/// The part that `BPF_OBJ_PIN` and `BPF_OBJ_GET` read (Linux 4.4).
#[repr(C, align(8))]
struct PinAttr {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// Pins the object behind a descriptor of this process, whatever it is.
///
/// # Errors
/// The kernel's.
pub(super) fn pin(descriptor: i32, path: &CStr) -> io::Result<()> {
    let attr = PinAttr { pathname: path.as_ptr() as u64, bpf_fd: descriptor as u32, file_flags: 0 };
    // SAFETY: `attr` is what the command reads, and the path is NUL-terminated and lives; the kernel checks the number
    // of the descriptor and keeps no address. Nothing is returned but success.
    let result = unsafe { libc::syscall(libc::SYS_bpf, BPF_OBJ_PIN, &raw const attr, size_of::<PinAttr>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The object that is pinned at a path, whatever it is.
///
/// # Errors
/// The kernel's.
pub(super) fn pinned(path: &CStr) -> io::Result<OwnedFd> {
    let attr = PinAttr { pathname: path.as_ptr() as u64, bpf_fd: 0, file_flags: 0 };
    // SAFETY: `attr` is what the command reads; the path is NUL-terminated and lives.
    unsafe { descriptor(BPF_OBJ_GET, &attr) }
}

/// The part that `BPF_PROG_GET_FD_BY_ID` reads (Linux 4.13).
#[repr(C, align(8))]
struct IdAttr {
    prog_id: u32,
    next_id: u32,
    open_flags: u32,
    pad: u32,
}

/// A program by its id.
///
/// # Errors
/// The kernel's.
pub(super) fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    let attr = IdAttr { prog_id: id, next_id: 0, open_flags: 0, pad: 0 };
    // SAFETY: `attr` is what the command reads and has no address; what is beyond the members must be zero, and is.
    unsafe { descriptor(BPF_PROG_GET_FD_BY_ID, &attr) }
}
