//! System call exits: how attach mode `fallback` sees files and connects.
//!
//! An open is read from the `struct file` that the descriptor now stands for, so the argument cannot have been
//! changed under the sensor. Names that were created, removed or changed are only known as the caller gave them, and
//! are marked so. x86-64 system calls only: 32-bit opens are counted as records that could not be built.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use treeline_abi::{
    Kind, Label, Offsets,
    paths::Operation,
    record::{DATA_LEN_MAX, Flags},
};

use crate::{
    cgroup::{self, AF_UNIX},
    decide, emit,
    kernel::{GO_ON, STOP, copy_kernel_str, copy_user, copy_user_str, inode, masked, offset, read, repeat},
    lifecycle::subject,
    scratch::{PATH_BUFFER_LEN, Scratch},
    tasks, walk,
};

/// `__USER32_CS`.
const CS_32: u64 = 0x23;
const AT_FDCWD: i32 = -100;
const O_CREAT_WRONLY_TRUNC: u32 = 0o1101;
const O_PATH: u32 = 0o10_000_000;

/// Calls that connect.
const CONNECT: u64 = 42;
const SENDTO: u64 = 44;
const SENDMSG: u64 = 46;
const SENDMMSG: u64 = 307;

/// No such argument.
const NONE: u8 = 0xff;

/// Where a system call has what a record needs: numbers of arguments, or [`NONE`].
///
/// The calls are data and not branches, so that the verifier walks the code behind them once.
#[derive(Clone, Copy)]
#[repr(C)]
struct Shape {
    /// [`Kind`], 0 for a call that is not looked at.
    kind: u8,
    /// Directory descriptor of the name; none means the working directory.
    directory: u8,
    /// The name.
    name: u8,
    /// Directory descriptor of the second name.
    directory_to: u8,
    /// The second name, or the target of a symbolic link.
    name_to: u8,
    /// Open flags, or a pointer to them.
    open_flags: u8,
    /// [`Shape::IS_DIRECTORY`] and others.
    bits: u8,
    pad: u8,
}

impl Shape {
    const IS_DIRECTORY: u8 = 1;
    const IS_SYMLINK: u8 = 2;
    /// `open_flags` points to `struct open_how`, which begins with them.
    const FLAGS_BEHIND_POINTER: u8 = 4;

    const UNUSED: Self = Self::one(0, NONE, NONE, 0);

    const fn one(kind: u8, directory: u8, name: u8, bits: u8) -> Self {
        Self { kind, directory, name, directory_to: NONE, name_to: NONE, open_flags: NONE, bits, pad: 0 }
    }

    const fn two(kind: u8, from: (u8, u8), to: (u8, u8), bits: u8) -> Self {
        Self { directory_to: to.0, name_to: to.1, ..Self::one(kind, from.0, from.1, bits) }
    }

    const fn open(directory: u8, name: u8, open_flags: u8, bits: u8) -> Self {
        Self { open_flags, ..Self::one(Kind::Open as u8, directory, name, bits) }
    }
}

/// Numbers of x86-64 system calls (arch/x86/entry/syscalls/syscall_64.tbl).
static SHAPES: [Shape; 512] = {
    const CREATE: u8 = Kind::Create as u8;
    const DELETE: u8 = Kind::Delete as u8;
    const RENAME: u8 = Kind::Rename as u8;
    const LINK: u8 = Kind::Link as u8;
    const MODIFY: u8 = Kind::Modify as u8;
    const DIRECTORY: u8 = Shape::IS_DIRECTORY;
    const SYMLINK: u8 = Shape::IS_SYMLINK;
    let mut shapes = [Shape::UNUSED; 512];
    shapes[2] = Shape::open(NONE, 0, 1, 0);
    shapes[85] = Shape::open(NONE, 0, NONE, 0);
    shapes[257] = Shape::open(0, 1, 2, 0);
    shapes[437] = Shape::open(0, 1, 2, Shape::FLAGS_BEHIND_POINTER);
    shapes[304] = Shape::open(0, NONE, 2, 0);
    shapes[CONNECT as usize] = Shape::one(Kind::Connect as u8, NONE, NONE, 0);
    shapes[82] = Shape::two(RENAME, (NONE, 0), (NONE, 1), 0);
    shapes[264] = Shape::two(RENAME, (0, 1), (2, 3), 0);
    shapes[316] = Shape::two(RENAME, (0, 1), (2, 3), 0);
    shapes[86] = Shape::two(LINK, (NONE, 0), (NONE, 1), 0);
    shapes[265] = Shape::two(LINK, (0, 1), (2, 3), 0);
    shapes[83] = Shape::one(CREATE, NONE, 0, DIRECTORY);
    shapes[258] = Shape::one(CREATE, 0, 1, DIRECTORY);
    shapes[133] = Shape::one(CREATE, NONE, 0, 0);
    shapes[259] = Shape::one(CREATE, 0, 1, 0);
    shapes[88] = Shape::two(CREATE, (NONE, 1), (NONE, 0), SYMLINK);
    shapes[266] = Shape::two(CREATE, (1, 2), (NONE, 0), SYMLINK);
    shapes[84] = Shape::one(DELETE, NONE, 0, DIRECTORY);
    shapes[87] = Shape::one(DELETE, NONE, 0, 0);
    shapes[263] = Shape::one(DELETE, 0, 1, 0);
    // truncate, chmod, chown, lchown; fchownat, fchmodat, fchmodat2.
    shapes[76] = Shape::one(MODIFY, NONE, 0, 0);
    shapes[90] = Shape::one(MODIFY, NONE, 0, 0);
    shapes[92] = Shape::one(MODIFY, NONE, 0, 0);
    shapes[94] = Shape::one(MODIFY, NONE, 0, 0);
    shapes[260] = Shape::one(MODIFY, 0, 1, 0);
    shapes[268] = Shape::one(MODIFY, 0, 1, 0);
    shapes[452] = Shape::one(MODIFY, 0, 1, 0);
    shapes
};
const UNLINKAT: u64 = 263;
const AT_REMOVEDIR: u64 = 0x200;

/// One member of a shape, as a number that the verifier does not know.
macro_rules! shape {
    ($number:expr, $field:ident) => {{
        let index = masked::<0x1ff>($number as u32) as usize;
        // SAFETY: the index is below 512, which the verifier sees and the compiler does not; volatile, so that the
        // table is read and not compiled into branches.
        unsafe { (&raw const (*SHAPES.as_ptr().add(index)).$field).read_volatile() }
    }};
}

/// Argument `index` of the call; 0 when it has none.
#[inline(always)]
fn argument(regs: u64, index: u8) -> u64 {
    if index > 4 {
        return 0;
    }
    let first = &raw const crate::kernel::offsets().regs_a0;
    // SAFETY: the five offsets of arguments follow one another in `Offsets`.
    let offset = unsafe { first.add((index & 7) as usize).read_volatile() };
    read(regs + offset as u64)
}

#[btf_tracepoint(function = "sys_exit")]
pub(crate) fn syscall_exit(ctx: BtfTracePointContext) -> i32 {
    let Some(label) = tasks::current_label() else {
        return 0;
    };
    let regs: u64 = ctx.arg(0);
    let number: u64 = read(regs + offset!(regs_nr));
    let kind = shape!(number, kind);
    let is_32 = read::<u64>(regs + offset!(regs_cs)) == CS_32;
    let result: i64 = ctx.arg(1);
    if tasks::call(label).is_some_and(|call| call.pending.family != 0) {
        // Whatever call it was, its connect is not left for the next one.
        cgroup::report_kept(label, connect_result(number, is_32, result));
        if number == CONNECT && !is_32 {
            return 0;
        }
    }
    if is_32 {
        // open, creat, openat, openat2 of the other table (arch/x86/entry/syscalls/syscall_32.tbl).
        if number == 5 || number == 8 || number == 295 || number == 437 {
            emit::failed(Kind::Open);
        }
        return 0;
    }
    if number > 511 || kind == 0 {
        return 0;
    }
    let Some(scratch) = Scratch::take() else {
        emit::failed(Kind::Open);
        return 0;
    };
    emit::begin(scratch, Kind::Open, label.session, &subject());
    scratch.header.kind = kind as u16;
    scratch.header.result = if result < 0 { result as i32 } else { 0 };
    let position = if kind == Kind::Connect as u8 {
        on_unix_connect(scratch, label, regs)
    } else {
        on_file(scratch, label, regs, number, result)
    };
    if position != NOTHING {
        emit::send_as(scratch, kind as u32, position);
    }
    scratch.release();
    0
}

/// What a call says of the connect that it made. One that sends with `MSG_FASTOPEN` fails as the connect would, and
/// succeeds when the first packet has left, before the peer has answered; others (io_uring_enter, 32-bit calls) say
/// nothing.
#[inline(always)]
fn connect_result(number: u64, is_32: bool, result: i64) -> Option<i32> {
    if is_32 {
        return None;
    }
    match number {
        CONNECT => Some(result as i32),
        SENDTO | SENDMSG | SENDMMSG if result < 0 => Some(result as i32),
        _ => None,
    }
}

/// No record is to be sent.
const NOTHING: u32 = u32::MAX;

#[inline(always)]
fn on_file(scratch: &mut Scratch, label: &Label, regs: u64, number: u64, result: i64) -> u32 {
    let task = tasks::current() as u64;
    if shape!(number, kind) == Kind::Open as u8 {
        scratch.header.detail = open_flags(regs, number);
        let file = if result >= 0 { file_of(task, result as u32) } else { 0 };
        if file != 0 {
            return opened(scratch, label, file);
        }
    }
    if number == UNLINKAT && argument(regs, 2) & AT_REMOVEDIR != 0 {
        scratch.header.flags |= Flags::DIRECTORY;
    }
    let bits = shape!(number, bits);
    if bits & Shape::IS_DIRECTORY != 0 {
        scratch.header.flags |= Flags::DIRECTORY;
    }
    if bits & Shape::IS_SYMLINK != 0 {
        scratch.header.flags |= Flags::SYMLINK;
    }
    append_names(scratch, regs, number, task)
}

/// Appends the names of a call. A function of its own, so that its locals are not on the stack while a file that was
/// opened is judged.
#[inline(never)]
fn append_names(scratch: &mut Scratch, regs: u64, number: u64, task: u64) -> u32 {
    let mut names = Names { scratch, regs, number, task, position: 0 };
    let context = &raw mut names;
    repeat(2, next_name, &mut names, |round| next_name(round as u64, context));
    names.position & 0x3fff
}

/// The names of a call, in the order of its parts.
struct Names {
    scratch: *mut Scratch,
    regs: u64,
    number: u64,
    task: u64,
    position: u32,
}

extern "C" fn next_name(round: u64, names: *mut Names) -> u64 {
    // SAFETY: the pointers were put there by `on_file` and outlive the loop; the verifier tracks them.
    let (names, scratch) = unsafe { (&mut *names, &mut *(*names).scratch) };
    let (directory, name) = if round == 0 {
        (shape!(names.number, directory), shape!(names.number, name))
    } else {
        (shape!(names.number, directory_to), shape!(names.number, name_to))
    };
    if name == NONE {
        return STOP;
    }
    let descriptor = if directory == NONE { AT_FDCWD } else { argument(names.regs, directory) as i32 };
    let base = base_directory(names.task, descriptor);
    let part = (round as usize * 2) & 2;
    names.position = append_named(scratch, part, names.position, argument(names.regs, name), true, base);
    GO_ON
}

#[inline(always)]
fn open_flags(regs: u64, number: u64) -> u32 {
    let index = shape!(number, open_flags);
    if index == NONE {
        return O_CREAT_WRONLY_TRUNC;
    }
    let value = argument(regs, index);
    if shape!(number, bits) & Shape::FLAGS_BEHIND_POINTER == 0 {
        return value as u32;
    }
    let mut word = 0u32;
    copy_user((&raw mut word).cast(), 4, value);
    word
}

/// The file that a descriptor stands for, 0 when another thread has closed it meanwhile.
#[inline(always)]
fn file_of(task: u64, descriptor: u32) -> u64 {
    let files: u64 = read(task + offset!(task_files));
    let table: u64 = read(files + offset!(files_fdt));
    if descriptor >= read::<u32>(table + offset!(fdt_max_fds)) {
        return 0;
    }
    let array: u64 = read(table + offset!(fdt_fd));
    read(array + descriptor as u64 * 8)
}

#[inline(always)]
fn opened(scratch: &mut Scratch, label: &Label, file: u64) -> u32 {
    let flags: u32 = read(file + offset!(file_flags));
    let mode: u32 = read(file + offset!(file_mode));
    let mut operations = 0;
    if mode & 1 != 0 {
        operations |= 1 << Operation::READ;
    }
    if mode & 2 != 0 || scratch.header.detail & 0o1000 != 0 {
        operations |= 1 << Operation::WRITE;
    }
    if flags & O_PATH != 0 {
        operations = 0;
    }
    let dentry: u64 = read(file + offset!(file_path) + offset!(path_dentry));
    let decision = decide::judge_dentry(scratch, dentry, operations, label);
    // This hook runs after the open: what reaches it was not stopped.
    emit::decided(&mut scratch.header, decision.only_recorded());
    emit::object(&mut scratch.header, &inode(read(file + offset!(file_inode))));
    emit::append_walked(scratch, 0, 0)
}

/// The dentry that a relative name starts from.
#[inline(always)]
pub(crate) fn base_directory(task: u64, descriptor: i32) -> u64 {
    if descriptor == AT_FDCWD {
        let fs: u64 = read(task + offset!(task_fs));
        return read(fs + offset!(fs_pwd) + offset!(path_dentry));
    }
    if descriptor < 0 {
        return 0;
    }
    let file = file_of(task, descriptor as u32);
    if file == 0 { 0 } else { read(file + offset!(file_path) + offset!(path_dentry)) }
}

/// Appends a name as the caller gave it (a string of the caller's memory, or of the kernel's), and in the part behind
/// it the directory that the name is relative to. Returns the position behind both.
#[inline(always)]
pub(crate) fn append_named(
    scratch: &mut Scratch,
    part: usize,
    position: u32,
    name: u64,
    user: bool,
    base: u64,
) -> u32 {
    scratch.header.flags |= Flags::AS_NAMED;
    let at = (position & (DATA_LEN_MAX as u32 - 1)) as usize;
    // SAFETY: `at` is below DATA_LEN_MAX and the buffer has 4 KiB of slack; the verifier checks the bound again.
    let to = unsafe { scratch.data.as_mut_ptr().add(at) };
    let len = if user {
        copy_user_str(to, PATH_BUFFER_LEN as u32, name)
    } else {
        copy_kernel_str(to, PATH_BUFFER_LEN as u32, name)
    };
    let len = if len > 0 { (len as u32 - 1) & 0xfff } else { 0 };
    scratch.header.parts[part] = len;
    let position = position + len;
    // SAFETY: the first byte behind `at`, as above.
    let absolute = len > 0 && unsafe { *to } == b'/';
    if absolute || base == 0 {
        return position;
    }
    walk::walk_path(scratch, base);
    emit::append_walked(scratch, part + 1, position)
}

/// A connect to a unix socket; those by address are reported through the cgroup programs.
#[inline(always)]
fn on_unix_connect(scratch: &mut Scratch, label: &Label, regs: u64) -> u32 {
    let task = tasks::current() as u64;
    let file = file_of(task, argument(regs, 0) as u32);
    let socket: u64 = read(file + offset!(file_private_data));
    let sk: u64 = read(socket + offset!(socket_sk));
    if file == 0 || read::<u16>(sk + offset!(sock_family)) != AF_UNIX {
        return NOTHING;
    }
    scratch.header.detail = AF_UNIX as u32;
    if scratch.header.result == 0 { unix_peer(scratch, label, sk) } else { unix_named(scratch, regs, task) }
}

/// The socket that was reached, as the kernel has it.
#[inline(always)]
fn unix_peer(scratch: &mut Scratch, label: &Label, sk: u64) -> u32 {
    if offset!(unix_sock_path) == Offsets::ABSENT as u64 || offset!(unix_sock_peer) == Offsets::ABSENT as u64
    {
        return 0;
    }
    let peer: u64 = read(sk + offset!(unix_sock_peer));
    let dentry: u64 = read(peer + offset!(unix_sock_path) + offset!(path_dentry));
    let (decision, position) = if dentry == 0 {
        cgroup::on_abstract(scratch, label, peer)
    } else {
        let decision = decide::judge_dentry(scratch, dentry, 1 << Operation::CONNECT, label);
        (decision, emit::append_walked(scratch, 0, 0))
    };
    emit::decided(&mut scratch.header, decision.only_recorded());
    position
}

/// The address that the caller named, for a connect that failed.
#[inline(always)]
fn unix_named(scratch: &mut Scratch, regs: u64, task: u64) -> u32 {
    let address = argument(regs, 1) + 2;
    let mut first = 0u8;
    copy_user(&raw mut first, 1, address);
    if first == 0 {
        scratch.header.flags |= Flags::AS_NAMED;
        let len = (argument(regs, 2) as u32).wrapping_sub(3);
        if len > 107 {
            return 0;
        }
        scratch.data[0] = b'@';
        // SAFETY: at most 127 bytes behind the first one of the data buffer.
        copy_user(unsafe { scratch.data.as_mut_ptr().add(1) }, masked::<0x7f>(len), address + 1);
        scratch.header.parts[0] = len + 1;
        return len + 1;
    }
    append_named(scratch, 0, 0, address, true, base_directory(task, AT_FDCWD))
}
