//! Path rules as a bit-parallel matcher that the kernel runs over the components of a dentry chain.
//!
//! # The machine
//!
//! A pattern is a path glob below the root of one filesystem, split into components and **reversed**, because the
//! kernel walks from the file up to the root: `/u/.ssh/**` becomes `**`, `.ssh`, `u`, then the root. Each pattern
//! occupies consecutive bits of **one** 64-bit word of a [`Mask`]: one start bit, then one bit per component. Bit
//! `p` is set while "the components seen so far match the pattern up to and including token `p`".
//!
//! ```text
//! state    = table.start                                   start bits, and `**` tokens that directly follow one
//! for each component, from the file's own name up to the child of the root:
//!     mask   = MASKS[name::hash(seed, component)]          or: table.any | the masks of the wild globs that match it
//!     state  = ((state << 1) & mask) | (state & table.star)    per word: patterns never cross a word
//!     state |= (state << 1) & table.star                       `**` may match nothing
//! accepted = state & DEVICES[s_dev of the superblock]      (absent: table.any_device) & table.operation[op]
//! ```
//!
//! Start bits are in no mask and are never `**`, so they vanish after the first component and nothing shifts from
//! one pattern into the next. `**` matches zero or more components; two in a row are written as one. A trailing
//! `**` therefore matches the directory itself as well as everything below it.
//!
//! Each accepted bit that ends a pattern leads to an [`Accept`] entry at index `word * 64 + bit`.
//!
//! # Limits
//!
//! No limit fails open: a path deeper than [`DEPTH_MAX`] or a name that cannot be read is "unresolved", and an
//! unresolved object is denied if [`Table::unresolved_rule`] is set.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// 64-bit words in a [`Mask`].
pub const WORDS: usize = 16;
/// Components that the kernel walks before it calls a path unresolved.
pub const DEPTH_MAX: usize = 64;
/// Distinct component globs other than `*` (such as `*.pem`), each tried against names that are in no rule.
pub const WILD_MAX: usize = 16;
/// Literal bytes of a component glob.
pub const WILD_LEN_MAX: usize = 32;
/// Entries of the `MASKS` table: distinct literal component names over all rules.
pub const NAMES_MAX: u32 = 4096;
/// Entries of the `DEVICES` table: distinct filesystems that rules name.
pub const DEVICES_MAX: u32 = 256;
/// Rules of one policy.
pub const RULES_MAX: u32 = 1024;
/// Generations of tables that the maps hold at once. Array tables keep slot `s` at `s * size`, keys carry the slot
/// (or, for names, the seed); the agent fills the idle slot and then switches with one write to `ACTIVE`.
pub const SLOTS: u32 = 2;
/// No rule; also "rule index + 1" is 0.
pub const NO_RULE: u32 = 0;

/// A set of token positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Mask {
    /// The words; a pattern lies within one.
    pub words: [u64; WORDS],
}

impl Mask {
    /// The empty set.
    pub const EMPTY: Self = Self { words: [0; WORDS] };
}

impl Default for Mask {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// Operations on a file, as bit numbers of [`Rule::operations`] and indices of [`Table::operation`].
pub struct Operation;

impl Operation {
    /// Open for reading, or a directory for listing.
    pub const READ: u32 = 0;
    /// Open for writing, truncation, or a change of attributes.
    pub const WRITE: u32 = 1;
    /// A new name for a new object: create, mkdir, mknod, symlink.
    pub const CREATE: u32 = 2;
    /// Removal of a name: unlink, rmdir.
    pub const DELETE: u32 = 3;
    /// Rename, from and to.
    pub const RENAME: u32 = 4;
    /// Hard link, from and to.
    pub const LINK: u32 = 5;
    /// Execution.
    pub const EXEC: u32 = 6;
    /// Connect to a unix socket by path.
    pub const CONNECT: u32 = 7;
    /// The executable of a subject, for exceptions: an [`Accept`] of this operation names an exception set.
    pub const SUBJECT: u32 = 8;
    /// How many there are.
    pub const COUNT: usize = 9;
}

/// Component glob with at most one `*`: `prefix*suffix`. Others are compiled to several or refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Wild {
    /// Bytes of the prefix that are in use.
    pub prefix_len: u32,
    /// Bytes of the suffix that are in use.
    pub suffix_len: u32,
    /// The name starts with these bytes.
    pub prefix: [u8; WILD_LEN_MAX],
    /// The name ends with these bytes, and is at least `prefix_len + suffix_len` long.
    pub suffix: [u8; WILD_LEN_MAX],
    /// Token positions that such a name matches (without those of [`Table::any`]).
    pub mask: Mask,
}

/// A [`Wild`] as the kernel programs compare it: eight bytes at a time, under masks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct WildWords {
    /// First [`WILD_LEN_MAX`] bytes of a matching name under `prefix_mask`, little-endian.
    pub prefix: [u64; WILD_LEN_MAX / 8],
    /// Which bits of `prefix` count.
    pub prefix_mask: [u64; WILD_LEN_MAX / 8],
    /// Last [`WILD_LEN_MAX`] bytes of a matching name, aligned to the end.
    pub suffix: [u64; WILD_LEN_MAX / 8],
    /// Which bits of `suffix` count.
    pub suffix_mask: [u64; WILD_LEN_MAX / 8],
    /// Shortest matching name in bytes.
    pub len_min: u32,
    /// Explicit padding.
    pub pad: u32,
    /// Token positions that such a name matches.
    pub mask: Mask,
}

impl From<&Wild> for WildWords {
    fn from(wild: &Wild) -> Self {
        let prefix_len = (wild.prefix_len as usize).min(WILD_LEN_MAX);
        let suffix_len = (wild.suffix_len as usize).min(WILD_LEN_MAX);
        let mut bytes = [[0u8; WILD_LEN_MAX]; 4];
        bytes[0][..prefix_len].copy_from_slice(&wild.prefix[..prefix_len]);
        bytes[1][..prefix_len].fill(0xff);
        bytes[2][WILD_LEN_MAX - suffix_len..].copy_from_slice(&wild.suffix[..suffix_len]);
        bytes[3][WILD_LEN_MAX - suffix_len..].fill(0xff);
        let words = bytes.map(|row| {
            let mut out = [0u64; WILD_LEN_MAX / 8];
            for (word, chunk) in out.iter_mut().zip(row.chunks_exact(8)) {
                let mut le = [0u8; 8];
                le.copy_from_slice(chunk);
                *word = u64::from_le_bytes(le);
            }
            out
        });
        Self {
            prefix: words[0],
            prefix_mask: words[1],
            suffix: words[2],
            suffix_mask: words[3],
            len_min: wild.prefix_len + wild.suffix_len,
            pad: 0,
            mask: wild.mask,
        }
    }
}

/// The head of one generation of path tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Table {
    /// Policy generation, never 0 in a table in force.
    pub generation: u64,
    /// Seed of [`crate::name::hash`] for this generation.
    pub seed: u64,
    /// Words of each mask that are in use, at most [`WORDS`].
    pub words: u32,
    /// Entries of the `WILDS` table in use, at most [`WILD_MAX`].
    pub wilds: u32,
    /// Rule index + 1 of the rule that denies unresolved objects, or 0 when no rule is in `enforce`.
    pub unresolved_rule: u32,
    /// 1 when any rule is in `enforce`: a hook that has no working memory then refuses.
    pub enforcing: u32,
    /// State before the first component.
    pub start: Mask,
    /// Positions of `**` tokens.
    pub star: Mask,
    /// Positions of `*` tokens: what a name matches that no rule spells out.
    pub any: Mask,
    /// Accepting positions of patterns that hold on every filesystem.
    pub any_device: Mask,
    /// Accepting positions by [`Operation`].
    pub operation: [Mask; Operation::COUNT],
}

/// Key of the `DEVICES` table; its value is the [`Mask`] of patterns that may accept on this filesystem, those of
/// [`Table::any_device`] included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DeviceKey {
    /// Slot of the table in force.
    pub slot: u32,
    /// `s_dev` as the kernel encodes it (`major << 20 | minor`).
    pub device: u32,
}

/// What an accepting position means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Accept {
    /// For operations up to [`Operation::CONNECT`]: the rule's index in `RULES`. For [`Operation::SUBJECT`]: the
    /// number of an exception set, 0 to 63.
    pub index: u32,
    /// Explicit padding.
    pub pad: u32,
}

/// One rule, whatever table leads to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Rule {
    /// Bit set of the exception sets (see [`Accept::index`]) that lift this rule, 0 for none.
    pub exceptions: u64,
    /// Bit set over [`Operation`], and [`Rule::BY_ADDRESS`].
    pub operations: u32,
    /// 1 when a match denies, 0 when it is only recorded (`monitor`).
    pub enforce: u32,
}

impl Rule {
    /// Bit of [`Rule::operations`]: a connect rule that names addresses.
    pub const BY_ADDRESS: u32 = 1 << 31;
}

/// Key of the `IMAGES` table: an executable or script by identity, for rules by SHA-256.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FileKey {
    /// `s_dev` of the superblock, as the kernel encodes it (`major << 20 | minor`).
    pub device: u32,
    /// Explicit padding.
    pub pad: u32,
    /// Inode number.
    pub inode: u64,
    /// Size in bytes.
    pub size: u64,
    /// Change time, nanoseconds since the epoch.
    pub ctime_ns: u64,
}

/// Value of the `IMAGES` table: what a file's known content means to the policy in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ImageRules {
    /// Exception sets that this content belongs to.
    pub exceptions: u64,
    /// Rule index + 1 of the exec rule that this content falls under, or 0.
    pub exec_rule: u32,
    /// Explicit padding.
    pub pad: u32,
}

/// Directories above what rules protect, by slot.
pub const ANCESTORS_MAX: u32 = 4096;

/// Key of the `ANCESTORS` table: a directory above a protected place, or the root of its filesystem. Its value is the
/// rule index + 1 of one rule that protects something below.
///
/// Who moves such a directory away, puts another in its place or mounts over it changes what the rule's paths mean. It
/// is found by [`crate::name::hash`] of each name up to the root, folded with [`crate::name::mix`] from 0 in the order
/// in which the kernel walks; the root itself is 0.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(C)]
pub struct AncestorKey {
    /// Slot of the table in force.
    pub slot: u32,
    /// `s_dev` as the kernel encodes it.
    pub device: u32,
    /// The names, folded.
    pub names: u64,
}

const _: () = assert!(size_of::<AncestorKey>() == 16);

/// Objects with several names that rules protect under one of them.
pub const ALIASES_MAX: u32 = 8192;
/// Rules of one such object; the agent keeps those that refuse when there are more.
pub const RULES_PER_ALIAS_MAX: usize = 4;

/// Key of the `ALIASES` table: a protected file that has more than one hard link, by identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AliasKey {
    /// Slot of the table in force.
    pub slot: u32,
    /// `s_dev` as the kernel encodes it.
    pub device: u32,
    /// Inode number.
    pub inode: u64,
}

/// Value of the `ALIASES` table: the rules that hold for the object, whatever name it is reached by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AliasRules {
    /// Rule index + 1 each, 0 for none.
    pub rules: [u32; RULES_PER_ALIAS_MAX],
}

const _: () = assert!(size_of::<AliasKey>() == 16);
const _: () = assert!(size_of::<AliasRules>() == 16);
const _: () = assert!(size_of::<Mask>() == 128);
const _: () = assert!(size_of::<Wild>() == 200);
const _: () = assert!(size_of::<WildWords>() == 264);
const _: () = assert!(size_of::<Table>() == 32 + 128 * 4 + 128 * Operation::COUNT);
const _: () = assert!(size_of::<Accept>() == 8);
const _: () = assert!(size_of::<Rule>() == 16);
const _: () = assert!(size_of::<FileKey>() == 32);
const _: () = assert!(size_of::<ImageRules>() == 16);
