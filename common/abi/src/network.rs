//! Connect rules: longest-prefix-match entries that already hold every rule of every covering prefix, and the abstract
//! names of unix sockets.
//!
//! Addresses that stand for others are looked up as what the kernel connects to: an IPv4-mapped IPv6 address as IPv4,
//! `0.0.0.0` as `127.0.0.1`, and `::` as `::1` **and** as `127.0.0.1`, which it is for a socket that is bound to a mapped
//! address (`tcp_v6_connect`, since Linux 4.13).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Rules that one address may fall under; the compiler refuses a policy that needs more.
pub const RULES_PER_PREFIX_MAX: usize = 16;
/// Entries of each of the two prefix tables.
pub const PREFIXES_MAX: u32 = 1024;

/// One rule for a port range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PortRule {
    /// First and last port, inclusive, host byte order.
    pub port_first: u16,
    /// See `port_first`.
    pub port_last: u16,
    /// Rule index (see [`crate::paths::Rule`]), or a lift's (see [`crate::lift`]).
    pub rule: u32,
}

/// Value of the prefix tables. The longest prefix wins in the kernel's lookup, so the compiler copies into each
/// entry the rules of all shorter prefixes that cover it: the union decides, whatever the order in the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PrefixRules {
    /// How many of `rules` are in use.
    pub count: u32,
    /// Explicit padding.
    pub pad: u32,
    /// The rules, in no particular order.
    pub rules: [PortRule; RULES_PER_PREFIX_MAX],
}

const _: () = assert!(size_of::<PortRule>() == 8);
const _: () = assert!(size_of::<PrefixRules>() == 136);

/// Key of the IPv4 prefix table. `prefix_len` counts `slot` too: 32 + the prefix's own length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Prefix4 {
    /// Slot of the table in force, see [`crate::paths::SLOTS`].
    pub slot: u32,
    /// Network byte order.
    pub address: [u8; 4],
}

/// Key of the IPv6 prefix table; see [`Prefix4`]. IPv4-mapped addresses are looked up in the IPv4 table only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Prefix6 {
    /// Slot of the table in force.
    pub slot: u32,
    /// Network byte order.
    pub address: [u8; 16],
}

/// Patterns for abstract names.
pub const ABSTRACTS_MAX: u32 = 64;
/// Longest abstract name in bytes: `sun_path` without the NUL byte in front.
pub const ABSTRACT_LEN_MAX: usize = 107;
/// Eight-byte words that hold an abstract name, with slack.
pub const ABSTRACT_WORDS: usize = 16;
/// Words that can hold a byte of one; the rest is slack.
pub const ABSTRACT_WORDS_USED: usize = ABSTRACT_LEN_MAX.div_ceil(8);

/// A pattern for abstract names, `prefix` or `prefix*suffix`, as the kernel programs compare it: eight bytes at a time,
/// under masks. Entries of a slot are filled from its first; the one with [`crate::paths::NO_RULE`] ends them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AbstractRule {
    /// First bytes of a matching name under `prefix_mask`, little-endian.
    pub prefix: [u64; ABSTRACT_WORDS],
    /// Which bits of `prefix` count.
    pub prefix_mask: [u64; ABSTRACT_WORDS],
    /// Last bytes of a matching name, aligned to the end.
    pub suffix: [u64; ABSTRACT_WORDS],
    /// Which bits of `suffix` count.
    pub suffix_mask: [u64; ABSTRACT_WORDS],
    /// Shortest matching name in bytes.
    pub len_min: u32,
    /// Longest matching name in bytes.
    pub len_max: u32,
    /// Rule index, or a lift's (see [`crate::lift`]), + 1, or 0.
    pub rule: u32,
    /// Explicit padding.
    pub pad: u32,
}

impl AbstractRule {
    /// Ends the entries of a slot.
    pub const NONE: Self = Self {
        prefix: [0; ABSTRACT_WORDS],
        prefix_mask: [0; ABSTRACT_WORDS],
        suffix: [0; ABSTRACT_WORDS],
        suffix_mask: [0; ABSTRACT_WORDS],
        len_min: 0,
        len_max: 0,
        rule: crate::paths::NO_RULE,
        pad: 0,
    };

    /// A name as the kernel programs compare it: from its beginning, and aligned to its end. Of a longer name only the
    /// first [`ABSTRACT_LEN_MAX`] bytes count; the kernel has none.
    #[must_use]
    pub fn words_of(name: &[u8]) -> [[u64; ABSTRACT_WORDS]; 2] {
        let name = &name[..name.len().min(ABSTRACT_LEN_MAX)];
        let mut bytes = [[0u8; ABSTRACT_WORDS * 8]; 2];
        bytes[0][..name.len()].copy_from_slice(name);
        bytes[1][ABSTRACT_WORDS * 8 - name.len()..].copy_from_slice(name);
        bytes.map(words)
    }

    /// The entry of a pattern; without a suffix the name is the prefix and nothing else.
    #[must_use]
    pub fn new(prefix: &[u8], suffix: Option<&[u8]>, rule: u32) -> Self {
        let [head, _] = Self::words_of(prefix);
        let [_, tail] = Self::words_of(suffix.unwrap_or_default());
        let mut masks = [[0u8; ABSTRACT_WORDS * 8]; 2];
        masks[0][..prefix.len().min(ABSTRACT_LEN_MAX)].fill(0xff);
        let suffix_len = suffix.map_or(0, <[u8]>::len).min(ABSTRACT_LEN_MAX);
        masks[1][ABSTRACT_WORDS * 8 - suffix_len..].fill(0xff);
        let [prefix_mask, suffix_mask] = masks.map(words);
        let len_min = (prefix.len() + suffix_len) as u32;
        let len_max = if suffix.is_some() { ABSTRACT_LEN_MAX as u32 } else { len_min };
        Self { prefix: head, prefix_mask, suffix: tail, suffix_mask, len_min, len_max, rule, pad: 0 }
    }
}

fn words(bytes: [u8; ABSTRACT_WORDS * 8]) -> [u64; ABSTRACT_WORDS] {
    let mut words = [0; ABSTRACT_WORDS];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        let mut le = [0u8; 8];
        le.copy_from_slice(chunk);
        *word = u64::from_le_bytes(le);
    }
    words
}

const _: () = assert!(size_of::<Prefix4>() == 8);
const _: () = assert!(size_of::<Prefix6>() == 20);
const _: () = assert!(size_of::<AbstractRule>() == 4 * 8 * ABSTRACT_WORDS + 16);
