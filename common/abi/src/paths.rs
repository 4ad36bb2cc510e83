//! Path rules as two matchers that the kernel runs over the components of a dentry chain: a tree for patterns that are
//! literal but for `*` components and a final `**`, of which there may be thousands, and a bit-parallel machine for the
//! rest.
//!
//! # The tree
//!
//! It runs from the root down, over the hashes of the names that the walk up has left. A state is what is left to
//! match; an [`Edge`] leads from a state by one name to the next and says which rules end there. What ends with `**`
//! holds for everything below as well, so it is noted on the way and needs no state. One lookup per name, or two where
//! the state has an edge for any name.
//!
//! ```text
//! edge = DEVICES[s_dev of the superblock].root
//! for each component, from the child of the root to the file's own name:
//!     edge  = EDGES[edge.next, name::hash(seed, component)]   or, if edge.any: EDGES[edge.next | ANY_STATE, 0]
//!     lists += edge.below                                      of the root's edge, too
//! lists += edge.here                                           only at the last name
//! ```
//!
//! A list is a row of [`Accept`] entries in the `LISTS` table. Patterns of one literal name that hold everywhere
//! (`**/.env`, `**/.git/**`) need no machine: the entry of a name in `NAMES` says which lists it leads to.
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
//!     mask   = NAMES[name::hash(seed, component)].mask     or: table.any | the masks of the wild globs that match it
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
//! The machine also has the beginnings of patterns, see [`Table::ways`]. They accept no operation; programs compare what
//! of them the old and the new name of a directory match.
//!
//! # Limits
//!
//! No limit fails open: a path deeper than [`DEPTH_MAX`] or a name that cannot be read is "unresolved", and an
//! unresolved object is denied by [`Table::unresolved`].

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::subject::{ByContent, Facts, Subjects};

/// 64-bit words in a [`Mask`].
pub const WORDS: usize = 16;
/// Components that the kernel walks before it calls a path unresolved.
pub const DEPTH_MAX: usize = 64;
/// Distinct component globs other than `*` (such as `*.pem`): the bits of a word. Only those that allow a name's first
/// and last byte are tried.
pub const WILD_MAX: usize = 64;
/// Bytes of a component glob on each side of its `*`.
pub const WILD_LEN_MAX: usize = 32;
/// Entries of the `NAMES` table: distinct literal component names of patterns that the tree cannot hold.
pub const NAMES_MAX: u32 = 4096;
/// Entries of the `EDGES` table: names after each distinct beginning of the patterns in the tree.
pub const EDGES_MAX: u32 = 32_768;
/// Entries of the `LISTS` table, over all distinct lists.
pub const LISTS_MAX: u32 = 16_384;
/// Lists that one walk can lead to: each of [`DEPTH_MAX`] components gives at most one of the tree and one of its name,
/// the last one of each more, and the root one.
pub const LISTED_MAX: usize = 256;
/// With a state in [`EdgeKey::state`]: its edge for any name.
pub const ANY_STATE: u32 = 1 << 31;
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
    /// The executable of a subject: the index of an [`Accept`] of this operation is one of
    /// [`crate::subject::AcceptKind`].
    pub const SUBJECT: u32 = 8;
    /// How many there are.
    pub const COUNT: usize = 9;
}

/// Component glob with at most one `*`: `prefix*suffix`. `?` is any one byte on either side.
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
    /// 1 when there is a `*` between the two; else the name is exactly that long.
    pub gap: u32,
    /// Explicit padding.
    pub pad: u32,
    /// Token positions that such a name matches (without those of [`Table::any`]).
    pub mask: Mask,
}

/// In a [`Wild`]: any byte. No pattern can spell this byte.
pub const ANY_BYTE: u8 = b'?';

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
    /// Longest matching name in bytes.
    pub len_max: u32,
    /// Token positions that such a name matches.
    pub mask: Mask,
}

impl From<&Wild> for WildWords {
    fn from(wild: &Wild) -> Self {
        let prefix_len = (wild.prefix_len as usize).min(WILD_LEN_MAX);
        let suffix_len = (wild.suffix_len as usize).min(WILD_LEN_MAX);
        let mut bytes = [[0u8; WILD_LEN_MAX]; 4];
        let sides =
            [(0, &wild.prefix[..prefix_len]), (WILD_LEN_MAX - suffix_len, &wild.suffix[..suffix_len])];
        for (side, (start, text)) in sides.into_iter().enumerate() {
            for (at, byte) in text.iter().enumerate().filter(|(_, byte)| **byte != ANY_BYTE) {
                bytes[side * 2][start + at] = *byte;
                bytes[side * 2 + 1][start + at] = 0xff;
            }
        }
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
            len_max: if wild.gap == 0 { wild.prefix_len + wild.suffix_len } else { u32::MAX },
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
    /// Which policy it is made of: the first bytes of the SHA-256 of its text. For a sensor that takes over; the kernel
    /// programs do not look at it.
    pub policy: u64,
    /// Seed of [`crate::name::hash`] for this generation.
    pub seed: u64,
    /// Words of each mask that are in use, at most [`WORDS`].
    pub words: u32,
    /// Entries of the `WILDS` table in use, at most [`WILD_MAX`].
    pub wilds: u32,
    /// Rule index + 1 of the rule that denies operations on unresolved files, or 0 when no rule about files is in
    /// `enforce`.
    pub unresolved_files: u32,
    /// The same for execution: the first rule about files or about execution by path.
    pub unresolved_exec: u32,
    /// The same for connects to unix sockets: the first rule about files or about sockets by path.
    pub unresolved_connect: u32,
    /// The same for a ring of io_uring that a process did not make itself: the first rule about what can be asked for in
    /// one, which is all but execution.
    pub foreign_ring: u32,
    /// 1 when any rule is in `enforce`: a hook that has no working memory then refuses.
    pub enforcing: u32,
    /// 1 when some rule is about execution: executable mappings are then judged, too.
    pub judges_mappings: u32,
    /// Rule index + 1 of the rule that adopts by each [`crate::record::Link`] (at its number, less 1), or 0.
    pub adopts: [u32; 3],
    /// Zero.
    pub pad: u32,
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
    /// Accepting positions of the beginnings of patterns, from their first `*` or `**` on: a directory that one of them
    /// matches is on the way to what a rule protects, at 0 one in `monitor` and at 1 one in `enforce`. A rename of a
    /// directory must not change which of them match.
    pub ways: [Mask; 2],
    /// Component globs, as bits, that a name with this first byte can match.
    pub wilds_by_first: [u64; 256],
    /// The same for its last byte.
    pub wilds_by_last: [u64; 256],
    /// What is asked of subjects.
    pub subjects: Subjects,
}

impl Table {
    /// Rule index + 1 of the rule that denies some operation on an unresolved object, or 0. Bits over [`Operation`].
    #[inline(always)]
    #[must_use]
    pub const fn unresolved(&self, operations: u32) -> u32 {
        if operations & 1 << Operation::EXEC != 0 {
            self.unresolved_exec
        } else if operations & 1 << Operation::CONNECT != 0 {
            self.unresolved_connect
        } else {
            self.unresolved_files
        }
    }
}

/// Value of the `NAMES` table: what a name means that a pattern spells out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Name {
    /// Token positions that it matches, those of [`Table::any`] and of every matching [`Wild`] included.
    pub mask: Mask,
    /// List of the patterns that a path with this last name matches, everywhere, or [`NO_LIST`].
    pub last: u32,
    /// List of the patterns that a path with this name anywhere in it matches, or [`NO_LIST`].
    pub inner: u32,
}

/// No list; also "index of the first entry in `LISTS` + 1" is 0.
pub const NO_LIST: u32 = 0;

/// Key of the `EDGES` table.
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
pub struct EdgeKey {
    /// Slot of the table in force.
    pub slot: u32,
    /// The state, from 1, or with [`ANY_STATE`].
    pub state: u32,
    /// [`crate::name::hash`] of the name, 0 with [`ANY_STATE`].
    pub hash: u64,
}

/// Value of the `EDGES` table: where a name leads in the tree.
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
pub struct Edge {
    /// The state that follows, or 0 when nothing below can match.
    pub next: u32,
    /// 1 when that state has an edge for any name.
    pub any: u32,
    /// List of the patterns that end with this name, or [`NO_LIST`].
    pub here: u32,
    /// List of the patterns that hold for this object and everything below it, or [`NO_LIST`].
    pub below: u32,
}

/// Value of the `DEVICES` table: what holds on a filesystem.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Device {
    /// Patterns of the machine that may accept here, those of [`Table::any_device`] included.
    pub mask: Mask,
    /// Where the tree begins; what it says of the root is in `here` and `below`.
    pub root: Edge,
}

/// Key of the `DEVICES` table; its value is a [`Device`].
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
    /// For operations up to [`Operation::CONNECT`]: the rule's index in `RULES`, or a lift's, see [`crate::lift`]. For
    /// [`Operation::SUBJECT`]: see [`crate::subject::AcceptKind`].
    pub index: u32,
    /// In a list: bits over [`Operation`] that it is for, and [`Accept::LAST`]. At a position: 0.
    pub operations: u32,
}

impl Accept {
    /// The list ends with this entry.
    pub const LAST: u32 = 1 << 31;
}

/// One rule, whatever table leads to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Rule {
    /// The subject sets (see [`crate::subject`]) that lift this rule, as bits.
    pub exceptions: u64,
    /// The subject sets that it is for, as bits; 0 for everybody.
    pub only: u64,
    /// Bit set over [`Operation`], with [`Rule::BY_ADDRESS`] and [`Rule::TRACE`].
    pub operations: u32,
    /// 1 when a match denies, 0 when it is only recorded (`monitor`); with [`Rule::LIFTABLE`] and [`Rule::ANYWHERE`].
    pub enforce: u32,
}

impl Rule {
    /// Whether it holds for a subject in these sets.
    #[inline(always)]
    #[must_use]
    pub fn holds_for(&self, sets: &Facts) -> bool {
        sets.fall_under(self.only, self.exceptions)
    }

    /// Bit of [`Rule::enforce`]: a lift may take it away, see [`crate::lift`].
    pub const LIFTABLE: u32 = 1 << 1;
    /// Bit of [`Rule::enforce`]: one of its patterns holds everywhere, so nobody has looked for other names of files that it is
    /// about. What has several names is not read or written by one that a lift is for.
    pub const ANYWHERE: u32 = 1 << 2;
    /// Bit of [`Rule::operations`]: a connect rule that names addresses.
    pub const BY_ADDRESS: u32 = 1 << 31;
    /// Bit of [`Rule::operations`]: a rule about access to processes outside of the session.
    pub const TRACE: u32 = 1 << 30;
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

/// What a file's known content means to one policy; part of [`crate::content::Content`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ImageRules {
    /// What it means for the subject that executes the file.
    pub subject: ByContent,
    /// Rule index + 1 of the exec rule that this content falls under, or 0.
    pub exec_rule: u32,
    /// Explicit padding.
    pub pad: u32,
}

/// Directories above what rules protect, by slot.
pub const ANCESTORS_MAX: u32 = 32_768;

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
const _: () = assert!(size_of::<Name>() == 136);
const _: () = assert!(size_of::<Edge>() == 16);
const _: () = assert!(size_of::<EdgeKey>() == 16);
const _: () = assert!(size_of::<Device>() == 144);
const _: () = assert!(LISTED_MAX >= 2 * DEPTH_MAX + 4);
const _: () = assert!(size_of::<Wild>() == 208);
const _: () = assert!(size_of::<WildWords>() == 264);
const _: () = assert!(
    size_of::<Table>() == 72 + 128 * 6 + 128 * Operation::COUNT + 2 * 256 * 8 + size_of::<Subjects>()
);
const _: () = assert!(size_of::<Accept>() == 8);
const _: () = assert!(size_of::<Rule>() == 24);
const _: () = assert!(size_of::<FileKey>() == 32);
const _: () = assert!(size_of::<ImageRules>() == 32);
