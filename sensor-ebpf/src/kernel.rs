//! Reads of kernel memory at offsets that the agent resolved, and the settings that it injected.

use core::{ffi::c_void, mem::MaybeUninit};

use aya_ebpf::helpers::generated::{
    bpf_ktime_get_boot_ns, bpf_loop, bpf_probe_read_kernel, bpf_probe_read_kernel_str, bpf_probe_read_user,
    bpf_probe_read_user_str,
};
use treeline_abi::{Offsets, Settings, paths::FileKey};

#[unsafe(no_mangle)]
static OFFSETS: Offsets = Offsets::UNSET;

#[unsafe(no_mangle)]
static SETTINGS: Settings = Settings::UNSET;

/// `PROC_SUPER_MAGIC` (include/uapi/linux/magic.h).
pub(crate) const PROC_MAGIC: u64 = 0x9fa0;

/// One member of [`Offsets`]. The section is frozen by the loader, so the verifier knows the constant.
macro_rules! offset {
    ($field:ident) => {{
        // SAFETY: the static is initialised, aligned and never written after the program was loaded; the read is
        // volatile because the value in the object file is not the one in use.
        unsafe { core::ptr::read_volatile(&raw const $crate::kernel::offsets().$field) as u64 }
    }};
}
pub(crate) use offset;

#[inline(always)]
pub(crate) fn offsets() -> &'static Offsets {
    &OFFSETS
}

#[inline(always)]
pub(crate) fn settings() -> Settings {
    // SAFETY: as for `offset!`.
    unsafe { core::ptr::read_volatile(&raw const SETTINGS) }
}

/// Reads a plain integer at a kernel address; 0 when the address is not mapped.
#[inline(always)]
pub(crate) fn read<T: Copy>(address: u64) -> T {
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: the destination is as large as the length says; the helper checks the source and zeroes the
    // destination when it faults. T is one of the integer types, valid for every bit pattern.
    unsafe {
        bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, address as *const c_void);
        value.assume_init()
    }
}

/// Copies `len` bytes from a kernel address; false when the address is not mapped.
#[inline(always)]
pub(crate) fn copy(to: *mut u8, len: u32, address: u64) -> bool {
    // SAFETY: callers pass a destination of at least `len` bytes, which the verifier checks again.
    unsafe { bpf_probe_read_kernel(to.cast(), len, address as *const c_void) == 0 }
}

/// Copies `len` bytes from the current task's memory; false when it is not mapped or not resident.
#[inline(always)]
pub(crate) fn copy_user(to: *mut u8, len: u32, address: u64) -> bool {
    // SAFETY: as for `copy`.
    unsafe { bpf_probe_read_user(to.cast(), len, address as *const c_void) == 0 }
}

/// Copies a string from the current task's memory; its length with the NUL byte, or a negative errno.
#[inline(always)]
pub(crate) fn copy_user_str(to: *mut u8, len: u32, address: u64) -> i64 {
    // SAFETY: as for `copy`.
    unsafe { bpf_probe_read_user_str(to.cast(), len, address as *const c_void) }
}

/// Copies a kernel string; its length with the NUL byte, or a negative errno.
#[inline(always)]
pub(crate) fn copy_kernel_str(to: *mut u8, len: u32, address: u64) -> i64 {
    // SAFETY: as for `copy`.
    unsafe { bpf_probe_read_kernel_str(to.cast(), len, address as *const c_void) }
}

/// The first bytes of a file's name, padded with zeros.
#[inline(always)]
pub(crate) fn short_name(dentry: u64) -> [u64; 2] {
    let mut name = [0u64; 2];
    copy_kernel_str(name.as_mut_ptr().cast(), 16, read(dentry + offset!(dentry_name)));
    name
}

/// A name of at most 15 bytes, padded with zeros, as [`short_name`] has it.
#[inline(always)]
pub(crate) const fn words(name: &[u8; 16]) -> [u64; 2] {
    // SAFETY: both are sixteen bytes, and every bit pattern is a number.
    unsafe { core::mem::transmute(*name) }
}

/// `value & MASK`, written so that the compiler cannot leave it out where it knows better than the verifier.
#[inline(always)]
pub(crate) fn masked<const MASK: i32>(value: u32) -> u32 {
    let mut bounded = value as u64;
    // SAFETY: one arithmetic instruction on a register.
    unsafe { core::arch::asm!("{value} &= {mask}", value = inout(reg) bounded, mask = const MASK) };
    bounded as u32
}

/// Whether the kernel lacks what `Settings::older` says. The verifier knows the answer, and drops what is not for it.
#[inline(always)]
pub(crate) fn is_older() -> bool {
    // SAFETY: as for `offset!`.
    unsafe { core::ptr::read_volatile(&raw const SETTINGS.older) != 0 }
}

/// Runs `step` at most `count` times with `context`, until it returns [`STOP`]. `bpf_loop` (Linux 5.17): the verifier
/// checks the body once, however many rounds there are.
///
/// An older kernel's verifier walks each round. There a round is `older`, the call of a global function with the same
/// body, which it checks once for itself: what is left to walk are the calls. Such a function takes numbers only
/// (pointers: Linux 5.12), and finds the working memory and the tables again by them.
#[inline(always)]
pub(crate) fn repeat<T>(
    count: u32,
    step: extern "C" fn(u64, *mut T) -> u64,
    context: &mut T,
    older: impl Fn(u32) -> u64,
) {
    if is_older() {
        repeat_plainly(count, older);
    } else {
        // SAFETY: the callback has the type that the helper calls, and the context outlives the call; the verifier
        // checks the body with a pointer to this stack object.
        unsafe { bpf_loop(count, step as *mut c_void, (&raw mut *context).cast(), 0) };
    }
}

/// [`repeat`] as a loop, for older kernels and for few rounds.
#[inline(always)]
pub(crate) fn repeat_plainly(count: u32, mut round: impl FnMut(u32) -> u64) {
    for index in 0..count {
        if round(index) != GO_ON {
            return;
        }
    }
}

/// Ends a [`repeat`].
pub(crate) const STOP: u64 = 1;
/// Goes on with a [`repeat`].
pub(crate) const GO_ON: u64 = 0;

/// Adds to a word atomically, without the result: `BPF_XADD`, which every kernel has. (Rust offers no atomic add for
/// this target, and fetching ones need Linux 5.12.)
#[inline(always)]
pub(crate) fn add(word: *mut u64, value: u64) {
    // SAFETY: callers pass a word of a map value; the verifier checks the access.
    unsafe {
        core::arch::asm!("lock *(u64 *)({word} + 0) += {value}", word = in(reg) word, value = in(reg) value)
    };
}

/// `CLOCK_BOOTTIME`, nanoseconds.
#[inline(always)]
pub(crate) fn now_ns() -> u64 {
    // SAFETY: the helper has no preconditions (Linux 5.8).
    unsafe { bpf_ktime_get_boot_ns() }
}

/// Identity of an inode, with its modification time and mode.
pub(crate) struct Inode {
    pub(crate) key: FileKey,
    pub(crate) mtime_ns: u64,
    pub(crate) mode: u32,
    pub(crate) links: u32,
}

/// Reads the identity of an inode; all zero for a null pointer.
#[inline(always)]
pub(crate) fn inode(address: u64) -> Inode {
    let time = |seconds: u64, nanos: u64| {
        let whole: i64 = read(address + seconds);
        // Bit 31 of a change time says that somebody has asked for it (`I_CTIME_QUERIED`, Linux 6.13).
        let rest = read::<u32>(address + nanos) & 0x7fff_ffff;
        (whole as u64).wrapping_mul(1_000_000_000).wrapping_add(rest as u64)
    };
    let sb: u64 = read(address + offset!(inode_sb));
    Inode {
        key: FileKey {
            device: read(sb + offset!(sb_dev)),
            pad: 0,
            inode: read(address + offset!(inode_ino)),
            size: read(address + offset!(inode_size)),
            ctime_ns: time(offset!(inode_ctime_sec), offset!(inode_ctime_nsec)),
        },
        mtime_ns: time(offset!(inode_mtime_sec), offset!(inode_mtime_nsec)),
        mode: read::<u16>(address + offset!(inode_mode)) as u32,
        links: read(address + offset!(inode_nlink)),
    }
}
