//! What files hold, by identity: how an exec rule by SHA-256 is decided in the kernel.
//!
//! A file's content is known when the agent has read it to its end while nobody could write to it (a read lease), and
//! when its change time was old enough before that any later write gives it another one. The kernel programs look the
//! file up by identity, change time included, so what is written afterwards is a file that nobody knows.
//!
//! Three filesystems do not move the change time that the kernel programs see when a mapping is written to (tmpfs, ramfs,
//! overlayfs). There the programs count the opens for writing, in a table that has no keys and so never forgets, and the
//! agent notes the count before it begins to read.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::paths::{ImageRules, SLOTS};

/// Files whose content is known: more than a session executes between two looks, some 2 MiB. What the agent takes
/// out is not known any more, and read again when it is executed.
pub const IMAGES_MAX: u32 = 16_384;

/// Value of the `IMAGES` table, by [`crate::paths::FileKey`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Content {
    /// What it means to the policy of each slot.
    pub rules: [ImageRules; SLOTS as usize],
    /// With [`Content::COUNTED`]: the count of opens for writing when it was read, see [`bucket`].
    pub writers: u64,
    /// [`Content::SURE`] and others.
    pub flags: u32,
    /// Explicit padding.
    pub pad: u32,
}

impl Content {
    /// It was read under the conditions above. Without it a file was only seen to have a content that matters once.
    pub const SURE: u32 = 1;
    /// Its filesystem is one of those whose writers are counted.
    pub const COUNTED: u32 = 2;
    /// It is a program that loads programs: an ELF file with a dynamic section and without an interpreter.
    pub const LOADER: u32 = 4;
}

/// Value of the `HOLDS` array, by slot: what refuses to execute a file whose content is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Hold {
    /// Subject sets that lift every exec rule by content in `enforce`.
    pub exceptions: u64,
    /// Subject sets that any of these rules is for; 0 when one of them is for everybody.
    pub only: u64,
    /// Rule index + 1 of the first such rule, or 0: then nothing is refused for not being known.
    pub rule: u32,
    /// Explicit padding.
    pub pad: u32,
}

/// Counters of opens for writing. Files share them: one that is counted for another is read again in vain, so there are
/// enough for that to be rare (512 KiB).
pub const WRITERS_MAX: u32 = 1 << 16;

/// Which counter an inode has.
#[must_use]
#[inline(always)]
pub const fn bucket(device: u32, inode: u64) -> u32 {
    let mixed = (inode ^ (device as u64) << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 48) as u32
}

/// `TMPFS_MAGIC`, of a filesystem whose writers are counted, as are those of the next two.
pub const TMPFS: u64 = 0x0102_1994;
/// `RAMFS_MAGIC`.
pub const RAMFS: u64 = 0x8584_58f6;
/// `OVERLAYFS_SUPER_MAGIC`.
pub const OVERLAYFS: u64 = 0x794c_7630;

const _: () = assert!(size_of::<Content>() == 80);
const _: () = assert!(size_of::<Hold>() == 24);
const _: () = assert!(WRITERS_MAX == 1 << 16, "`bucket` has 16 bits");
