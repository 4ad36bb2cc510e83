//! What the kernel programs know of the sensor that loaded them, so that they can keep tracked tasks away from it.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Processes of a sensor. There is one; a few more while one takes over from another.
pub const PROCESSES_MAX: u32 = 16;

/// Maps, programs, links and filesystems of a sensor, of two builds while one takes over from the other.
pub const OBJECTS_MAX: u32 = 1024;

/// Clock ticks in which /proc gives the time when a process began (`USER_HZ`, 100 on every architecture of ours).
pub const TICK_NS: u64 = 10_000_000;

/// An object of the sensor. The value beside it in the map has no meaning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ObjectKey {
    /// One of the constants.
    pub kind: u32,
    /// The kernel's id, the device number of a filesystem (`s_dev`), or a part of an inode number.
    pub id: u32,
}

impl ObjectKey {
    /// A map.
    pub const MAP: u32 = 1;
    /// A program.
    pub const PROGRAM: u32 = 2;
    /// A link.
    pub const LINK: u32 = 3;
    /// A filesystem that must stay mounted.
    pub const FILESYSTEM: u32 = 4;
    /// A control group (version 2); the lower half of its inode number.
    pub const CGROUP: u32 = 5;
}

const _: () = assert!(size_of::<ObjectKey>() == 8);
