//! What the tables of a policy take in each of the kernel's maps.

use serde::Serialize;
use treeline_abi::{
    lift::{LIFTS_MAX, Lift},
    network::{ABSTRACTS_MAX, AbstractRule, PREFIXES_MAX, Prefix4, Prefix6, PrefixRules},
    paths::{
        ANCESTORS_MAX, Accept, AncestorKey, DEVICES_MAX, Device, DeviceKey, EDGES_MAX, Edge, EdgeKey,
        LISTS_MAX, NAMES_MAX, Name, RULES_MAX, Rule, Table, WILD_MAX, WORDS, WildWords,
    },
};

use super::Tables;

/// What one generation of tables takes in a map. The kernel adds to each entry of a hash table or a tree what it needs to find
/// it, and arrays take their whole size whatever is in them: bytes are those of keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MapUse {
    /// The map's name in the kernel programs.
    pub map: &'static str,
    /// Entries of this policy.
    pub entries: usize,
    /// Entries that a policy can have.
    pub entries_max: usize,
    /// Bytes of a key and a value.
    pub entry_bytes: usize,
}

impl MapUse {
    /// Bytes of this policy's keys and values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.entries * self.entry_bytes
    }

    /// Bytes of the keys and values of a policy that fills the map.
    #[must_use]
    pub fn bytes_max(&self) -> usize {
        self.entries_max * self.entry_bytes
    }
}

impl Tables {
    /// What they take in each map, in the order of the work on a path. What files' contents mean is in none of them: that is
    /// found out file by file.
    #[must_use]
    pub fn maps(&self) -> Vec<MapUse> {
        let array =
            |map, entries, entries_max, value| MapUse { map, entries, entries_max, entry_bytes: value };
        let keyed = |map, entries, entries_max: u32, key: usize, value: usize| MapUse {
            map,
            entries,
            entries_max: entries_max as usize,
            entry_bytes: key + value,
        };
        vec![
            array("TABLES", 1, 1, size_of::<Table>()),
            keyed("NAMES", self.names.len(), NAMES_MAX, size_of::<u64>(), size_of::<Name>()),
            array("WILDS", self.wilds.len(), WILD_MAX, size_of::<WildWords>()),
            keyed("DEVICES", self.devices.len(), DEVICES_MAX, size_of::<DeviceKey>(), size_of::<Device>()),
            keyed("EDGES", self.edges.len(), EDGES_MAX, size_of::<EdgeKey>(), size_of::<Edge>()),
            array("LISTS", self.lists.len(), LISTS_MAX as usize, size_of::<Accept>()),
            array("ACCEPTS", self.accepts.len(), WORDS * 64, size_of::<Accept>()),
            keyed(
                "ANCESTORS",
                self.ancestors.len(),
                ANCESTORS_MAX,
                size_of::<AncestorKey>(),
                size_of::<u32>(),
            ),
            array("RULES", self.rules.len(), RULES_MAX as usize, size_of::<Rule>()),
            array("LIFTS", self.lifts.len(), LIFTS_MAX as usize, size_of::<Lift>()),
            keyed(
                "PREFIXES4",
                self.prefixes4.len(),
                PREFIXES_MAX,
                size_of::<Prefix4>(),
                size_of::<PrefixRules>(),
            ),
            keyed(
                "PREFIXES6",
                self.prefixes6.len(),
                PREFIXES_MAX,
                size_of::<Prefix6>(),
                size_of::<PrefixRules>(),
            ),
            array("ABSTRACTS", self.abstracts.len(), ABSTRACTS_MAX as usize, size_of::<AbstractRule>()),
        ]
    }
}
