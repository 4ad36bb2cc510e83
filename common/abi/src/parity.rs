//! Cases that the matcher is given from outside, to compare what the kernel decides with what the policy says.
//!
//! `treeline parity` fills them in; no hook reads them.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::subject::{ByContent, Lineage};

/// Components of one path.
pub const NAMES_PER_PATH: usize = 12;
/// Bytes of one component.
pub const NAME_BYTES: usize = 72;

/// One component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Component {
    /// How many bytes count.
    pub len: u32,
    /// Explicit padding.
    pub pad: u32,
    /// The name.
    pub bytes: [u8; NAME_BYTES],
}

/// A path below the root of a filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Path {
    /// `s_dev` of the filesystem.
    pub device: u32,
    /// Components in use.
    pub count: u32,
    /// The components, the last one first, as the kernel meets them.
    pub names: [Component; NAMES_PER_PATH],
}

/// Images that were executed before the subject's own.
pub const ANCESTORS: usize = 2;

/// An executable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Executable {
    /// Where it is.
    pub path: Path,
    /// What its content means.
    pub content: ByContent,
    /// Bits of [`crate::LabelFlags`].
    pub label_flags: u32,
    /// 0 when there is none.
    pub is_there: u32,
}

/// One case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Case {
    /// What is acted on.
    pub object: Path,
    /// The executable that acts.
    pub subject: Executable,
    /// Those that were executed before it.
    pub ancestors: [Executable; ANCESTORS],
    /// What its label says before all of them.
    pub lineage: Lineage,
    /// The session that it is in: the key of the `SESSIONS` table.
    pub session: u64,
    /// Bit set over [`crate::paths::Operation`].
    pub operations: u32,
    /// Explicit padding.
    pub pad: u32,
    /// The answer: verdict in the upper half, rule index + 1 in the lower.
    pub answer: u64,
}

const _: () = assert!(size_of::<Component>() == 80);
const _: () = assert!(size_of::<Path>() == 8 + 80 * NAMES_PER_PATH);
const _: () =
    assert!(size_of::<Case>() == size_of::<Path>() + (1 + ANCESTORS) * size_of::<Executable>() + 48);
