//! What somebody has approved of: one subject, one object, for a while.
//!
//! A grant is looked for only where something was refused. It lifts that refusal, by that rule, if session, executable and
//! object are those that were approved, and its time has not come. Nobody has to take it away: it ends by itself, also while no
//! agent runs.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    label::Image,
    name,
    network::ABSTRACT_WORDS,
    paths::{DEPTH_MAX, Operation},
    subject::borrow,
};

/// Grants of both slots together: some hundred approvals by as many rules each is more than people give in a day.
pub const GRANTS_MAX: u32 = 1024;

/// Operations on files that can be granted, as bits. A rename and a link have two names.
pub const FILE_OPERATIONS: u32 = 1 << Operation::READ
    | 1 << Operation::WRITE
    | 1 << Operation::CREATE
    | 1 << Operation::DELETE
    | 1 << Operation::EXEC
    | 1 << Operation::CONNECT;

/// What the object of a grant is told by; the value of [`GrantKey::object`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ObjectKind {
    /// [`path_hash`], inode number (0 for a name that is to be created), device of the filesystem.
    File = 1,
    /// The address as two words, then port and family.
    Address = 2,
    /// [`abstract_hash`] and nothing else.
    Abstract = 3,
}

/// Key of the `GRANTS` table.
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
pub struct GrantKey {
    /// Slot of the tables, see [`crate::paths::SLOTS`]. It is first, as in every key that has one.
    pub slot: u32,
    /// Rule index + 1 of the refusal.
    pub rule: u32,
    /// The session.
    pub session: u64,
    /// What the subject executes.
    pub image_inode: u64,
    /// See [`Image::device`].
    pub image_device: u32,
    /// [`ObjectKind`].
    pub object: u32,
    /// What it is, by its kind.
    pub identity: [u64; 3],
}

impl GrantKey {
    /// A key without an object.
    #[inline(always)]
    #[must_use]
    pub const fn of(slot: u32, rule: u32, session: u64, image: &Image) -> Self {
        Self {
            slot,
            rule,
            session,
            image_inode: image.inode,
            image_device: image.device,
            object: 0,
            identity: [0; 3],
        }
    }

    /// A hash of all of it.
    #[inline(always)]
    #[must_use]
    pub const fn tag(&self) -> u64 {
        let mut tag = name::mix(self.session, (self.slot as u64) << 32 | self.rule as u64);
        tag = name::mix(tag, self.image_inode);
        tag = name::mix(tag, (self.image_device as u64) << 32 | self.object as u64);
        tag = name::mix(tag, self.identity[0]);
        tag = name::mix(tag, self.identity[1]);
        name::mix(tag, self.identity[2])
    }
}

/// Operations that a grant can be for: those of files, of execution and of connects, by number.
pub const OPERATIONS: usize = 8;

/// Value of the `GRANTS` table.
///
/// The kernel gives the room of an entry that was replaced to the next one, also while a program looks at it. So whoever reads
/// it looks at [`Grant::tag`] when it has read the rest: the writer copies from the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Grant {
    /// [`GrantKey::tag`] of its key.
    pub tag: u64,
    /// By [`Operation`]: `CLOCK_BOOTTIME`, nanoseconds, from which on it does not hold for that; 0 if it is not for that at all.
    pub expires_ns: [u64; OPERATIONS],
}

impl Grant {
    /// For some operations, all for the same time. `operations` is a bit set over [`Operation`].
    #[must_use]
    pub fn of(key: &GrantKey, operations: u32, expires_ns: u64) -> Self {
        let of = |operation: usize| if operations >> operation & 1 != 0 { expires_ns } else { 0 };
        Self { tag: key.tag(), expires_ns: core::array::from_fn(of) }
    }

    /// Two of the same key together: each operation as long as one of them lasts.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let longer = |operation: usize| self.expires_ns[operation].max(other.expires_ns[operation]);
        Self { expires_ns: core::array::from_fn(longer), ..self }
    }

    /// Whether it holds for all of these operations at a time.
    #[inline(always)]
    #[must_use]
    pub fn holds(&self, operations: u32, now_ns: u64) -> bool {
        // Without a branch: the verifier would walk both ways behind each.
        let mut lacks = u64::from(operations >> OPERATIONS);
        let mut operation = 0;
        while operation < OPERATIONS {
            let is_asked = u64::from(operations >> operation) & 1;
            let is_over = core::hint::black_box(borrow(now_ns, self.expires_ns[operation])) ^ 1;
            lacks |= is_asked & is_over;
            operation += 1;
        }
        lacks == 0
    }
}

/// The beginning of a [`path_hash`] of so many components.
#[inline(always)]
#[must_use]
pub const fn path_start(seed: u64, depth: u32) -> u64 {
    name::mix(seed, depth as u64)
}

/// Identity of a file's own path below the root of its filesystem: its components, the last one first, each hashed with the seed
/// of the tables. None of a path that is deeper than what is walked.
#[must_use]
pub fn path_hash(seed: u64, path: &[u8]) -> Option<u64> {
    let components = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
    let depth = components.clone().count();
    if depth == 0 || depth >= DEPTH_MAX {
        return None;
    }
    let start = path_start(seed, depth as u32);
    Some(components.rev().fold(start, |hash, component| name::mix(hash, name::hash(seed, component))))
}

/// Identity of an abstract name, given as it is compared: words from its beginning, padded with zeros.
#[inline(always)]
#[must_use]
pub fn abstract_hash(seed: u64, len: u32, words: &[u64; ABSTRACT_WORDS]) -> u64 {
    let mut hash = name::mix(seed, len as u64);
    let mut word = 0;
    while word < ABSTRACT_WORDS {
        hash = name::mix(hash, words[word]);
        word += 1;
    }
    hash
}

/// The third word of an address's identity.
#[inline(always)]
#[must_use]
pub const fn port_and_family(port: u32, family: u32) -> u64 {
    (port as u64) | (family as u64) << 32
}

const _: () = assert!(size_of::<GrantKey>() == 56);
const _: () = assert!(size_of::<Grant>() == 72);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_holds_for_what_it_is_for_and_not_longer() {
        let grant = Grant::of(&GrantKey::default(), 0b11, 100);
        for (operations, now_ns, expect) in [
            (0b01, 0, true),
            (0b11, 99, true),
            (0b11, 100, false),
            (0b01, 101, false),
            (0b100, 0, false),
            (0b111, 0, false),
        ] {
            assert_eq!(grant.holds(operations, now_ns), expect, "{operations:b} at {now_ns}");
        }
        let both = grant.or(Grant::of(&GrantKey::default(), 0b110, 50));
        for (operations, now_ns, expect) in
            [(0b11, 99, true), (0b110, 49, true), (0b110, 50, false), (0b1000, 0, false)]
        {
            assert_eq!(both.holds(operations, now_ns), expect, "{operations:b} at {now_ns}");
        }
        assert!(!grant.holds(1 << 8, 0));
    }

    #[test]
    fn paths_are_told_apart_by_each_component_and_its_place() {
        let of = |path: &[u8]| path_hash(7, path);
        assert_eq!(of(b"/a/b"), of(b"a/b"));
        for other in [&b"/b/a"[..], b"/a", b"/a/b/c", b"/ab", b"/a/bb"] {
            assert_ne!(of(b"/a/b"), of(other));
        }
        assert_ne!(path_hash(8, b"/a/b"), of(b"/a/b"));
        assert_eq!((of(b"/"), of(b"")), (None, None));
        let deep = [b'/', b'x'];
        let mut path = [0u8; 2 * DEPTH_MAX];
        for (at, byte) in path.iter_mut().enumerate() {
            *byte = deep[at % 2];
        }
        assert_eq!(of(&path), None);
        assert!(of(&path[..2 * DEPTH_MAX - 2]).is_some());
    }
}
