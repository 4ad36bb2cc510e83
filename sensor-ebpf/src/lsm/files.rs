//! Files: opens, names, attributes.

use aya_ebpf::{
    macros::{fexit, lsm},
    programs::{FExitContext, LsmContext},
};
use treeline_abi::{Kind, Label, LabelFlags, Offsets, content::OVERLAYFS, paths::Operation, record::Flags};

use super::{REFUSED, answer, scratch_or_refuse, tamper};
use crate::{
    adopt, content,
    decide::{self, Decision},
    emit,
    kernel::{inode, offset, read},
    lifecycle::subject,
    scratch::Scratch,
    tasks,
};

const FMODE_READ: u32 = 1;
const FMODE_WRITE: u32 = 2;
/// `__FMODE_EXEC` in `f_flags`: the open belongs to an exec, which has its own record.
const FMODE_EXEC: u32 = 0x20;
pub(super) const S_IFMT: u32 = 0o170_000;
pub(super) const S_IFREG: u32 = 0o100_000;
/// `FMODE_NOACCOUNT` (Linux 4.19): the kernel has opened the file for itself, as an overlay does with the file behind.
const FMODE_NOACCOUNT: u32 = 0x2000_0000;
/// `FMODE_OPENED` (Linux 4.19).
const FMODE_OPENED: u32 = 0x8_0000;
/// A file behind an overlay's that was not found: no pointer, and what is not resolved is not decided.
const MISSING: u64 = 1;
const O_TRUNC: u32 = 0o1000;
/// `ERR_PTR` values are at the top of the address space (`MAX_ERRNO`).
const ERROR_POINTER_MIN: u64 = -4095i64 as u64;

#[lsm(hook = "file_open")]
pub(crate) fn file_open(ctx: LsmContext) -> i32 {
    let earlier: i32 = ctx.arg(1);
    if earlier != 0 {
        return earlier;
    }
    let file: u64 = ctx.arg(0);
    let Some(label) = tasks::current_label() else {
        return adopt::on_opened(file);
    };
    let mode: u32 = read(file + offset!(file_mode));
    if mode & FMODE_WRITE != 0 && tamper::refuses_to_write(file, label.session) != 0 {
        open_is_reported(label);
        return REFUSED;
    }
    if mode & FMODE_WRITE != 0 {
        content::note_writer(file);
    }
    let scratch = match scratch_or_refuse(Kind::Open, label) {
        Ok(scratch) => scratch,
        Err(result) => return result,
    };
    let flags: u32 = read(file + offset!(file_flags));
    emit::begin(scratch, Kind::Open, label.session, &subject());
    let mut decision = decide::judge_dentry(scratch, dentry_of(file), operations_of(file), label);
    if mode & FMODE_WRITE != 0 {
        let dentry: u64 = read(file + offset!(file_path) + offset!(path_dentry));
        let node: u64 = read(file + offset!(file_inode));
        decision = adopt::with_job(scratch, decision, dentry, node, label.session);
    }
    if flags & FMODE_EXEC == 0 || !decision.is_allow() {
        emit::decided(&mut scratch.header, decision);
        emit::object(&mut scratch.header, &inode(read(file + offset!(file_inode))));
        scratch.header.detail = flags;
        scratch.header.result = answer(decision);
        let position = emit::append_walked(scratch, 0, 0);
        emit::send(scratch, Kind::Open, position);
    }
    if decision.is_deny() {
        open_is_reported(label);
    }
    scratch.release();
    answer(decision)
}

/// [`open_exit`] has nothing to say of this open.
#[inline(always)]
fn open_is_reported(label: &mut Label) {
    if let Some(call) = tasks::begin_call(label) {
        call.flags |= LabelFlags::OPEN_REPORTED;
    }
}

/// What a descriptor of the file can do.
#[inline(always)]
pub(super) fn operations_of(file: u64) -> u32 {
    let mode: u32 = read(file + offset!(file_mode));
    let flags: u32 = read(file + offset!(file_flags));
    let mut operations = 0;
    if mode & FMODE_READ != 0 || flags & FMODE_EXEC != 0 {
        operations |= 1 << Operation::READ;
    }
    if mode & FMODE_WRITE != 0 || flags & O_TRUNC != 0 {
        operations |= 1 << Operation::WRITE;
    }
    operations
}

/// The name by which the file is judged; 0, which counts as unresolved, when the kernel knows none.
///
/// An overlay opens the file behind its own with its own path in `f_path` (up to Linux 6.6; since then it is the path
/// of the file behind). The inode is that of the file behind in all of them.
#[inline(always)]
pub(super) fn dentry_of(file: u64) -> u64 {
    let dentry: u64 = read(file + offset!(file_path) + offset!(path_dentry));
    let node: u64 = read(file + offset!(file_inode));
    if node == 0 || read::<u64>(dentry + offset!(dentry_inode)) == node {
        return dentry;
    }
    if offset!(inode_aliases) == Offsets::ABSENT as u64 || offset!(dentry_alias) == Offsets::ABSENT as u64 {
        return 0;
    }
    let first: u64 = read(node + offset!(inode_aliases));
    if first == 0 { 0 } else { first.wrapping_sub(offset!(dentry_alias)) }
}

/// Judges execution of a file by its name. The kernel asks about an overlay's own file only, so the files behind it are
/// judged, too: they are what is executed. They come first, so that a record has the name that was used, unless it is one
/// of them that is refused.
#[inline(always)]
pub(super) fn judge_execution(scratch: &mut Scratch, file: u64, dentry: u64, label: &Label) -> Decision {
    const EXEC: u32 = 1 << Operation::EXEC;
    let first = behind(file);
    if first == 0 {
        return decide::judge_dentry(scratch, dentry, EXEC, label);
    }
    let mut decision = decide::judge_dentry(scratch, name_behind(first), EXEC, label);
    if decision.is_deny() {
        return decision;
    }
    // An overlay of an overlay is the most that there is (`FILESYSTEM_MAX_STACK_DEPTH`).
    let second = behind(first);
    if second != 0 {
        decision = decide::judge_dentry(scratch, name_behind(second), EXEC, label).or(decision);
        if decision.is_deny() {
            return decision;
        }
    }
    decide::judge_dentry(scratch, dentry, EXEC, label).or(decision)
}

/// The name that an overlay shows a file by which it has opened, or 0: of a mapping the kernel keeps the file behind.
#[inline(never)]
pub(super) fn name_shown(file: u64) -> u64 {
    let mode: u32 = read(file + offset!(file_mode));
    if mode & FMODE_NOACCOUNT == 0 {
        return 0;
    }
    let dentry: u64 = read(file + offset!(file_path) + offset!(path_dentry));
    if read::<u64>(dentry + offset!(dentry_inode)) != read(file + offset!(file_inode)) {
        return dentry;
    }
    if offset!(backing_user_path) == Offsets::ABSENT as u64 {
        return 0;
    }
    // Which bit of the mode says that the file has such a path differs between kernels. An overlay's says it itself.
    let shown: u64 = read(file + offset!(backing_user_path) + offset!(path_dentry));
    if magic_of(read(shown + offset!(dentry_sb))) == OVERLAYFS { shown } else { 0 }
}

/// [`dentry_of`] a file that [`behind`] has found.
#[inline(never)]
fn name_behind(file: u64) -> u64 {
    if file == MISSING { 0 } else { dentry_of(file) }
}

/// The file that an overlay has opened behind its own, [`MISSING`] if it is not where it should be; 0 for what is no
/// regular file of an overlay. Since Linux 6.13 there is a structure between the two (`struct ovl_file`), which begins
/// with the pointer. That is looked at first: what a file itself begins with is no pointer on any kernel before.
#[inline(never)]
fn behind(file: u64) -> u64 {
    if file == MISSING || !is_of_overlay(file) {
        return 0;
    }
    let private: u64 = read(file + offset!(file_private_data));
    let path: u64 = read(file + offset!(file_path) + offset!(path_dentry));
    let first: u64 = read(private);
    if is_opened_behind(first, path) {
        return first;
    }
    if is_opened_behind(private, path) { private } else { MISSING }
}

#[inline(always)]
fn is_of_overlay(file: u64) -> bool {
    let node: u64 = read(file + offset!(file_inode));
    let mode: u16 = read(node + offset!(inode_mode));
    let sb: u64 = read(node + offset!(inode_sb));
    mode as u32 & S_IFMT == S_IFREG && magic_of(sb) == OVERLAYFS
}

#[inline(always)]
fn magic_of(sb: u64) -> u64 {
    read(sb + offset!(sb_magic))
}

/// Whether that is a file which an overlay has opened: the kernel's own, with a name that is its inode's, or up to Linux 6.6
/// with the overlay's (see [`dentry_of`]).
#[inline(always)]
fn is_opened_behind(file: u64, path: u64) -> bool {
    const MODE: u32 = FMODE_NOACCOUNT | FMODE_OPENED;
    let mode: u32 = read(file + offset!(file_mode));
    let node: u64 = read(file + offset!(file_inode));
    let dentry: u64 = read(file + offset!(file_path) + offset!(path_dentry));
    mode & MODE == MODE
        && node != 0
        && (dentry == path || read::<u64>(dentry + offset!(dentry_inode)) == node)
}

/// Opens that failed: `file_open` did not run, or refused and has reported it.
#[fexit(function = "do_filp_open")]
pub(crate) fn open_exit(ctx: FExitContext) -> i32 {
    let Some(label) = tasks::current_label() else {
        return 0;
    };
    let result: u64 = ctx.arg(3);
    let mut reported = false;
    if let Some(call) = tasks::call(label) {
        reported = call.flags & LabelFlags::OPEN_REPORTED != 0;
        call.flags &= !LabelFlags::OPEN_REPORTED;
        if reported {
            tasks::end_call();
        }
    }
    if result < ERROR_POINTER_MIN || reported {
        return 0;
    }
    let Some(scratch) = Scratch::take() else {
        emit::failed(Kind::Open);
        return 0;
    };
    let directory: i32 = ctx.arg(0);
    let name: u64 = ctx.arg(1);
    let how: u64 = ctx.arg(2);
    emit::begin(scratch, Kind::Open, label.session, &subject());
    scratch.header.result = result as i32;
    // `struct open_flags` begins with `int open_flag` (fs/internal.h).
    scratch.header.detail = read(how);
    let base = crate::syscalls::base_directory(tasks::current() as u64, directory);
    let text: u64 = read(name + offset!(filename_name));
    let position = crate::syscalls::append_named(scratch, 0, 0, text, false, base);
    emit::send(scratch, Kind::Open, position);
    scratch.release();
    0
}

/// Judges an operation on one name and records it.
#[inline(always)]
fn on_name(kind: Kind, operation: u32, dentry: u64, extra_flags: u32, target: u64) -> i32 {
    let Some(label) = tasks::current_label() else {
        return 0;
    };
    let scratch = match scratch_or_refuse(kind, label) {
        Ok(scratch) => scratch,
        Err(result) => return result,
    };
    emit::begin(scratch, kind, label.session, &subject());
    // What it is counts when it is judged.
    scratch.header.flags |= extra_flags;
    let decision = decide::judge_dentry(scratch, dentry, 1 << operation, label);
    finish_head(scratch, decision, dentry, 0);
    let mut position = emit::append_walked(scratch, 0, 0);
    if target != 0 {
        position = crate::lifecycle::append_kernel_string(scratch, 2, position, target);
    }
    emit::send(scratch, kind, position);
    scratch.release();
    answer(decision)
}

#[inline(always)]
pub(super) fn finish_head(scratch: &mut Scratch, decision: Decision, dentry: u64, extra_flags: u32) {
    emit::decided(&mut scratch.header, decision);
    let node: u64 = read(dentry + offset!(dentry_inode));
    if node != 0 {
        emit::object(&mut scratch.header, &inode(node));
    }
    scratch.header.flags |= extra_flags;
    if decision.is_deny() {
        scratch.header.result = REFUSED;
    } else {
        scratch.header.flags |= Flags::RESULT_UNKNOWN;
    }
}

/// Judges an operation on two names (rename, link) and records it: the severer decision holds.
#[inline(always)]
fn on_two_names(kind: Kind, operation: u32, from: u64, to: u64, label: &Label) -> i32 {
    let scratch = match scratch_or_refuse(kind, label) {
        Ok(scratch) => scratch,
        Err(result) => return result,
    };
    emit::begin(scratch, kind, label.session, &subject());
    let first = decide::judge_dentry(scratch, from, 1 << operation, label);
    let position = emit::append_walked(scratch, 0, 0);
    let second = decide::judge_dentry(scratch, to, 1 << operation, label);
    let position = emit::append_walked(scratch, 2, position);
    let node: u64 = read(from + offset!(dentry_inode));
    let decision = adopt::with_job(scratch, first.or(second), to, node, label.session);
    finish_head(scratch, decision, from, 0);
    emit::send(scratch, kind, position);
    scratch.release();
    answer(decision)
}

macro_rules! name_hook {
    ($name:ident, $hook:literal, $args:literal, $dentry:literal, $kind:ident, $operation:ident, $flags:expr) => {
        #[lsm(hook = $hook)]
        pub(crate) fn $name(ctx: LsmContext) -> i32 {
            let earlier: i32 = ctx.arg($args);
            if earlier != 0 {
                return earlier;
            }
            on_name(Kind::$kind, Operation::$operation, ctx.arg($dentry), $flags, 0)
        }
    };
}

name_hook!(inode_create, "inode_create", 3, 1, Create, CREATE, 0);
name_hook!(inode_mkdir, "inode_mkdir", 3, 1, Create, CREATE, Flags::DIRECTORY);
name_hook!(inode_mknod, "inode_mknod", 4, 1, Create, CREATE, 0);
name_hook!(inode_unlink, "inode_unlink", 2, 1, Delete, DELETE, 0);
name_hook!(inode_rmdir, "inode_rmdir", 2, 1, Delete, DELETE, Flags::DIRECTORY);

#[lsm(hook = "inode_symlink")]
pub(crate) fn inode_symlink(ctx: LsmContext) -> i32 {
    let earlier: i32 = ctx.arg(3);
    if earlier != 0 {
        return earlier;
    }
    on_name(Kind::Create, Operation::CREATE, ctx.arg(1), Flags::SYMLINK, ctx.arg(2))
}

#[lsm(hook = "inode_link")]
pub(crate) fn inode_link(ctx: LsmContext) -> i32 {
    let earlier: i32 = ctx.arg(3);
    if earlier != 0 {
        return earlier;
    }
    match tasks::current_label() {
        Some(label) => on_two_names(Kind::Link, Operation::LINK, ctx.arg(0), ctx.arg(2), label),
        None => 0,
    }
}

#[lsm(hook = "inode_rename")]
pub(crate) fn inode_rename(ctx: LsmContext) -> i32 {
    let earlier: i32 = ctx.arg(4);
    if earlier != 0 {
        return earlier;
    }
    match tasks::current_label() {
        Some(label) => on_two_names(Kind::Rename, Operation::RENAME, ctx.arg(1), ctx.arg(3), label),
        None => 0,
    }
}

/// `security_inode_rename` has one argument more than the hook, the flags.
#[lsm(hook = "inode_rename")]
pub(crate) fn inode_rename_flags(ctx: LsmContext) -> i32 {
    let earlier: i32 = ctx.arg(5);
    if earlier != 0 {
        return earlier;
    }
    match tasks::current_label() {
        Some(label) => on_two_names(Kind::Rename, Operation::RENAME, ctx.arg(1), ctx.arg(3), label),
        None => 0,
    }
}

// Truncation by name, chmod, chown, times. The first argument became the mount's id map in Linux 6.9.
name_hook!(inode_setattr, "inode_setattr", 3, 1, Modify, WRITE, 0);
name_hook!(inode_setattr_plain, "inode_setattr", 2, 0, Modify, WRITE, 0);

// Extended attributes; access control lists have hooks of their own since Linux 6.2. The first argument is the mount's id map since Linux 5.12.
name_hook!(inode_setxattr, "inode_setxattr", 6, 1, Modify, WRITE, 0);
name_hook!(inode_setxattr_plain, "inode_setxattr", 5, 0, Modify, WRITE, 0);
name_hook!(inode_removexattr, "inode_removexattr", 3, 1, Modify, WRITE, 0);
name_hook!(inode_removexattr_plain, "inode_removexattr", 2, 0, Modify, WRITE, 0);
name_hook!(inode_set_acl, "inode_set_acl", 4, 1, Modify, WRITE, 0);
name_hook!(inode_remove_acl, "inode_remove_acl", 3, 1, Modify, WRITE, 0);

// Flags of the inode (immutable, append-only and others), extent size and project, from Linux 6.17 on: by ioctl(2) and by
// file_setattr(2).
name_hook!(inode_file_setattr, "inode_file_setattr", 2, 0, Modify, WRITE, 0);

/// `FS_IOC_SETFLAGS`, `FS_IOC32_SETFLAGS` and `FS_IOC_FSSETXATTR` (include/uapi/linux/fs.h).
const ATTRIBUTES: [u32; 3] = [0x4008_6602, 0x4004_6602, 0x401c_5820];
/// `FS_IOC_ENABLE_VERITY` (include/uapi/linux/fsverity.h), after which nobody writes to the file any more.
const ENABLE_VERITY: u32 = 0x4080_6685;

/// What changes a file by a descriptor for reading, before Linux 6.17.
#[lsm(hook = "file_ioctl")]
pub(crate) fn file_ioctl_attributes(ctx: LsmContext) -> i32 {
    on_request(&ctx, true)
}

/// That of 32-bit programs, from Linux 6.8 on.
#[lsm(hook = "file_ioctl_compat")]
pub(crate) fn file_ioctl_compat_attributes(ctx: LsmContext) -> i32 {
    on_request(&ctx, true)
}

/// The same where `inode_file_setattr` is asked about attributes.
#[lsm(hook = "file_ioctl")]
pub(crate) fn file_ioctl_verity(ctx: LsmContext) -> i32 {
    on_request(&ctx, false)
}

#[lsm(hook = "file_ioctl_compat")]
pub(crate) fn file_ioctl_compat_verity(ctx: LsmContext) -> i32 {
    on_request(&ctx, false)
}

#[inline(always)]
fn on_request(ctx: &LsmContext, of_attributes: bool) -> i32 {
    let earlier: i32 = ctx.arg(3);
    if earlier != 0 {
        return earlier;
    }
    let request: u32 = ctx.arg(1);
    if request != ENABLE_VERITY && !(of_attributes && ATTRIBUTES.contains(&request)) {
        return 0;
    }
    on_name(Kind::Modify, Operation::WRITE, dentry_of(ctx.arg(0)), 0, 0)
}
