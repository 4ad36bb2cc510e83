//! Connect rules: longest-prefix-match entries that already hold every rule of every covering prefix.

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
    /// Rule index (see [`crate::paths::Rule`]).
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

const _: () = assert!(size_of::<Prefix4>() == 8);
const _: () = assert!(size_of::<Prefix6>() == 20);
