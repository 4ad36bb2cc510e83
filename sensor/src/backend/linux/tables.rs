//! Compiled policy tables in kernel maps: the idle slot is filled, then one write puts it in force.

use std::{borrow::Borrow, collections::BTreeSet, path::Path, time::Duration};

use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, lpm_trie},
};
use rustix::thread::{MembarrierCommand, membarrier};
use treeline_abi::{
    grant::{Grant, GrantKey},
    lift::{LIFTS_MAX, Lift},
    network::{ABSTRACTS_MAX, AbstractRule},
    paths::{
        self, ALIASES_MAX, Accept, AliasKey, AliasRules, AncestorKey, Device, Edge, EdgeKey, LISTS_MAX, Name,
        RULES_MAX, Rule, Table, WILD_MAX, WORDS, WildWords,
    },
};
use treeline_policy::compile::Tables;
use zerocopy::{FromBytes as _, FromZeros, Immutable, IntoBytes};

use super::{pins, sessions::Sessions};
use crate::backend::BackendError;

/// How long a hook may still look at a slot after another one was put in force, where the kernel cannot be asked to wait
/// for those that do: hooks run without sleeping, but can be preempted. The slot is only refilled after that.
const GRACE: Duration = Duration::from_secs(1);

/// Waits until no hook looks at a slot that is not in force any more. Programs run as RCU readers, and this command
/// waits for all of them (Linux 4.3); not with a single CPU or where CPUs run without a tick.
fn wait_for_hooks() {
    let cpu_count = std::thread::available_parallelism().map_or(1, usize::from);
    if cpu_count < 2 || membarrier(MembarrierCommand::Global).is_err() {
        std::thread::sleep(GRACE);
    }
}

/// What the kernel holds of one slot, so that it can be taken out again.
#[derive(Default)]
struct Filled {
    names: Vec<u64>,
    devices: Vec<[u8; 8]>,
    ancestors: Vec<[u8; size_of::<AncestorKey>()]>,
    edges: Vec<[u8; size_of::<EdgeKey>()]>,
    prefixes4: Vec<(u32, [u8; 8])>,
    prefixes6: Vec<(u32, [u8; 20])>,
    grants: BTreeSet<[u8; size_of::<GrantKey>()]>,
    /// Rules, from the first on.
    rules: u32,
}

/// The kernel's tables.
#[derive(Default)]
pub(super) struct KernelTables {
    filled: [Filled; paths::SLOTS as usize],
    aliases: BTreeSet<[u8; size_of::<AliasKey>()]>,
    /// The slot in force.
    active: Option<u32>,
}

impl KernelTables {
    /// The mark of the policy that another process has put in force, and its slot.
    ///
    /// # Errors
    /// [`BackendError::Io`] when they cannot be read.
    pub(super) fn policy_in_force(ebpf: &mut Ebpf) -> Result<Option<(u64, u32)>, BackendError> {
        let active = slot_in_force(&array(ebpf, "ACTIVE")?).map_err(io)?;
        let head = Self { active, ..Self::default() }.head(ebpf)?;
        Ok(head.map(|head| head.policy).zip(active))
    }

    /// The slot that the next policy goes to.
    pub(super) fn idle(&self) -> u32 {
        self.active.map_or(0, |slot| (slot + 1) % paths::SLOTS)
    }

    /// Those of this process, or of another one whose programs are taken over.
    ///
    /// # Errors
    /// [`BackendError::Io`] when they cannot be read.
    pub(super) fn begin(ebpf: &mut Ebpf, is_taken_over: bool) -> Result<Self, BackendError> {
        if is_taken_over { Self::take_over(ebpf) } else { Ok(Self::default()) }
    }

    /// Takes over tables that another process has filled, whichever slot is in force.
    fn take_over(ebpf: &mut Ebpf) -> Result<Self, BackendError> {
        let active = slot_in_force(&array(ebpf, "ACTIVE")?).map_err(io)?;
        let mut filled = <[Filled; paths::SLOTS as usize]>::default();
        for slot in &mut filled {
            slot.rules = RULES_MAX;
        }
        // Names do not say whose they are, and a later generation hashes with another seed: they go with this slot.
        filled[active.unwrap_or(0) as usize % paths::SLOTS as usize].names =
            keys(hash_map::<u64, [u8; size_of::<Name>()]>(ebpf, "NAMES")?.keys())?;
        for key in keys(hash_map::<[u8; 8], [u8; size_of::<Device>()]>(ebpf, "DEVICES")?.keys())? {
            filled[slot_of(&key)].devices.push(key);
        }
        for key in keys(hash_map::<[u8; size_of::<AncestorKey>()], u32>(ebpf, "ANCESTORS")?.keys())? {
            filled[slot_of(&key)].ancestors.push(key);
        }
        for key in keys(edge_map(ebpf)?.keys())? {
            filled[slot_of(&key)].edges.push(key);
        }
        for key in keys(lpm::<8>(ebpf, "PREFIXES4")?.keys())? {
            filled[slot_of(&key.data())].prefixes4.push((key.prefix_len(), key.data()));
        }
        for key in keys(lpm::<20>(ebpf, "PREFIXES6")?.keys())? {
            filled[slot_of(&key.data())].prefixes6.push((key.prefix_len(), key.data()));
        }
        for key in keys(grant_map(ebpf)?.keys())? {
            filled[slot_of(&key)].grants.insert(key);
        }
        let aliases = keys(alias_map(ebpf)?.keys())?.into_iter().collect();
        Ok(Self { filled, aliases, active })
    }

    /// The head of the table in force, if there is one.
    ///
    /// # Errors
    /// [`BackendError::Io`] when it cannot be read.
    pub(super) fn head(&self, ebpf: &mut Ebpf) -> Result<Option<Table>, BackendError> {
        let Some(slot) = self.active else { return Ok(None) };
        head_in(&array(ebpf, "TABLES")?, slot).map_err(io)
    }

    /// Fills the idle slot, with what was approved of, and puts it in force.
    ///
    /// # Errors
    /// [`BackendError::Io`] when the kernel refuses an entry; the slot in force is untouched then.
    pub(super) fn install(
        &mut self,
        ebpf: &mut Ebpf,
        tables: &Tables,
        sessions: &Sessions,
        grants: &[(GrantKey, Grant)],
    ) -> Result<(), BackendError> {
        let slot = tables.slot;
        // Before the first policy no slot was ever in force.
        if self.active.is_some() {
            wait_for_hooks();
        }
        self.empty(ebpf, slot)?;
        sessions.prepare(tables)?;
        self.put_grants(ebpf, slot, grants)?;
        let filled = &mut self.filled[slot as usize];
        let rules_before = filled.rules;
        filled.rules = rules_before.max(tables.rules.len() as u32);
        fill_paths(ebpf, tables, filled)?;
        for (len, key, rules) in &tables.prefixes4 {
            filled.prefixes4.push((*len, bytes(key)));
            lpm::<8>(ebpf, "PREFIXES4")?
                .insert(&lpm_trie::Key::new(*len, bytes(key)), bytes(rules), 0)
                .map_err(io)?;
        }
        for (len, key, rules) in &tables.prefixes6 {
            filled.prefixes6.push((*len, bytes(key)));
            lpm::<20>(ebpf, "PREFIXES6")?
                .insert(&lpm_trie::Key::new(*len, bytes(key)), bytes(rules), 0)
                .map_err(io)?;
        }
        let mut accepts = array::<{ size_of::<Accept>() }>(ebpf, "ACCEPTS")?;
        for (position, accept) in &tables.accepts {
            accepts.set(slot * (WORDS as u32 * 64) + position, bytes::<_, 8>(accept), 0).map_err(io)?;
        }
        let mut rules = array::<{ size_of::<Rule>() }>(ebpf, "RULES")?;
        for (index, rule) in tables.rules.iter().enumerate() {
            rules.set(slot * RULES_MAX + index as u32, bytes(rule), 0).map_err(io)?;
        }
        // A raw socket is judged by all rules of the slot, so none may be left of the policy that it held before.
        for index in tables.rules.len() as u32..rules_before {
            rules.set(slot * RULES_MAX + index, [0; size_of::<Rule>()], 0).map_err(io)?;
        }
        let mut lifts = array::<{ size_of::<Lift>() }>(ebpf, "LIFTS")?;
        for (number, lift) in tables.lifts.iter().take(LIFTS_MAX as usize).enumerate() {
            lifts.set(slot * LIFTS_MAX + number as u32, bytes(lift), 0).map_err(io)?;
        }
        let mut abstracts = array::<{ size_of::<AbstractRule>() }>(ebpf, "ABSTRACTS")?;
        let ends = std::iter::once(&AbstractRule::NONE);
        for (index, rule) in tables.abstracts.iter().chain(ends).take(ABSTRACTS_MAX as usize).enumerate() {
            abstracts.set(slot * ABSTRACTS_MAX + index as u32, bytes(rule), 0).map_err(io)?;
        }
        array::<{ size_of::<Table>() }>(ebpf, "TABLES")?.set(slot, bytes(&tables.table), 0).map_err(io)?;
        array::<4>(ebpf, "ACTIVE")?.set(0, (slot + 1).to_ne_bytes(), 0).map_err(io)?;
        self.active = Some(slot);
        Ok(())
    }

    /// Puts these grants into a slot, and takes out all others of it. Those that stay hold meanwhile.
    ///
    /// # Errors
    /// [`BackendError::Io`].
    pub(super) fn put_grants(
        &mut self,
        ebpf: &mut Ebpf,
        slot: u32,
        grants: &[(GrantKey, Grant)],
    ) -> Result<(), BackendError> {
        let wanted: BTreeSet<[u8; size_of::<GrantKey>()]> =
            grants.iter().map(|(key, _)| bytes(key)).collect();
        let filled = &mut self.filled[slot as usize].grants;
        let mut map = grant_map(ebpf)?;
        // Room is made first: there is no more than for one such list in each slot.
        for key in filled.difference(&wanted).copied().collect::<Vec<_>>() {
            map.remove(&key).map_err(io)?;
            filled.remove(&key);
        }
        for (key, grant) in grants {
            let key = bytes(key);
            map.insert(key, bytes::<_, { size_of::<Grant>() }>(grant), 0).map_err(io)?;
            filled.insert(key);
        }
        Ok(())
    }

    /// Adds files with several names, at most [`ALIASES_MAX`]. Keys carry their slot, so the slot in force can keep its own
    /// meanwhile.
    ///
    /// # Errors
    /// [`BackendError::Io`].
    pub(super) fn add_aliases(
        &mut self,
        ebpf: &mut Ebpf,
        aliases: &[(AliasKey, AliasRules)],
    ) -> Result<(), BackendError> {
        let mut map = alias_map(ebpf)?;
        for (key, rules) in aliases.iter().take(ALIASES_MAX as usize) {
            map.insert(bytes::<_, 16>(key), bytes::<_, 16>(rules), 0).map_err(io)?;
            self.aliases.insert(bytes(key));
        }
        Ok(())
    }

    /// Removes those that are not among these.
    ///
    /// # Errors
    /// [`BackendError::Io`].
    pub(super) fn keep_aliases(
        &mut self,
        ebpf: &mut Ebpf,
        aliases: &[(AliasKey, AliasRules)],
    ) -> Result<(), BackendError> {
        let wanted: BTreeSet<[u8; size_of::<AliasKey>()]> =
            aliases.iter().map(|(key, _)| bytes(key)).collect();
        let mut map = alias_map(ebpf)?;
        let others: Vec<_> = self.aliases.difference(&wanted).copied().collect();
        for key in others {
            map.remove(&key).map_err(io)?;
            self.aliases.remove(&key);
        }
        Ok(())
    }

    fn empty(&mut self, ebpf: &mut Ebpf, slot: u32) -> Result<(), BackendError> {
        let filled = std::mem::take(&mut self.filled[slot as usize]);
        // Rules are written over, not taken out.
        self.filled[slot as usize].rules = filled.rules;
        for hash in &filled.names {
            hash_map::<u64, [u8; size_of::<Name>()]>(ebpf, "NAMES")?.remove(hash).map_err(io)?;
        }
        let mut edges = edge_map(ebpf)?;
        for key in &filled.edges {
            edges.remove(key).map_err(io)?;
        }
        for key in &filled.devices {
            hash_map::<[u8; 8], [u8; size_of::<Device>()]>(ebpf, "DEVICES")?.remove(key).map_err(io)?;
        }
        for key in &filled.ancestors {
            let mut map = hash_map::<[u8; size_of::<AncestorKey>()], u32>(ebpf, "ANCESTORS")?;
            map.remove(key).map_err(io)?;
        }
        for key in &filled.grants {
            grant_map(ebpf)?.remove(key).map_err(io)?;
        }
        for (len, key) in &filled.prefixes4 {
            lpm::<8>(ebpf, "PREFIXES4")?.remove(&lpm_trie::Key::new(*len, *key)).map_err(io)?;
        }
        for (len, key) in &filled.prefixes6 {
            lpm::<20>(ebpf, "PREFIXES6")?.remove(&lpm_trie::Key::new(*len, *key)).map_err(io)?;
        }
        Ok(())
    }
}

/// The head of the tables in force in a set of pins whose tables are laid out as this build's.
///
/// # Errors
/// They cannot be read.
pub(super) fn head_of(set: &Path) -> Result<Option<Table>, MapError> {
    let map = |name| Ok::<_, MapError>(Map::Array(MapData::from_pin(pins::map_of(set, name))?));
    let Some(slot) = slot_in_force(&Array::try_from(map("ACTIVE")?)?)? else { return Ok(None) };
    head_in(&Array::try_from(map("TABLES")?)?, slot)
}

/// Whether a set has a policy in force; so it is said of one that cannot be read.
pub(super) fn is_in_force(set: &Path) -> bool {
    head_of(set).map_or(true, |head| head.is_some())
}

fn slot_in_force(active: &Array<impl Borrow<MapData>, [u8; 4]>) -> Result<Option<u32>, MapError> {
    Ok(u32::from_ne_bytes(active.get(&0, 0)?).checked_sub(1))
}

fn head_in(
    tables: &Array<impl Borrow<MapData>, [u8; size_of::<Table>()]>,
    slot: u32,
) -> Result<Option<Table>, MapError> {
    Ok(Table::read_from_bytes(&tables.get(&slot, 0)?).ok())
}

type Prefixes<'e, const K: usize> = LpmTrie<&'e mut MapData, [u8; K], [u8; 136]>;

fn hash_map<'e, K: Pod, V: Pod>(
    ebpf: &'e mut Ebpf,
    name: &'static str,
) -> Result<HashMap<&'e mut MapData, K, V>, BackendError> {
    HashMap::try_from(ebpf.map_mut(name).ok_or_else(|| missing(name))?).map_err(io)
}

/// Fills the tables of the tree and the machine, see `treeline_abi::paths`.
fn fill_paths(ebpf: &mut Ebpf, tables: &Tables, filled: &mut Filled) -> Result<(), BackendError> {
    let slot = tables.slot;
    let mut names = hash_map::<u64, [u8; size_of::<Name>()]>(ebpf, "NAMES")?;
    for (hash, name) in &tables.names {
        filled.names.push(*hash);
        names.insert(hash, bytes(name), 0).map_err(io)?;
    }
    let mut edges = edge_map(ebpf)?;
    for (key, edge) in &tables.edges {
        filled.edges.push(bytes(key));
        edges.insert(bytes::<_, 16>(key), bytes::<_, 16>(edge), 0).map_err(io)?;
    }
    let mut lists = array::<{ size_of::<Accept>() }>(ebpf, "LISTS")?;
    for (index, entry) in tables.lists.iter().enumerate() {
        lists.set(slot * LISTS_MAX + index as u32, bytes::<_, 8>(entry), 0).map_err(io)?;
    }
    for (key, device) in &tables.devices {
        filled.devices.push(bytes(key));
        let mut map = hash_map::<[u8; 8], [u8; size_of::<Device>()]>(ebpf, "DEVICES")?;
        map.insert(bytes::<_, 8>(key), bytes(device), 0).map_err(io)?;
    }
    for (key, rule) in &tables.ancestors {
        filled.ancestors.push(bytes(key));
        let mut map = hash_map::<[u8; size_of::<AncestorKey>()], u32>(ebpf, "ANCESTORS")?;
        map.insert(bytes::<_, 16>(key), rule, 0).map_err(io)?;
    }
    let mut wilds = array::<{ size_of::<WildWords>() }>(ebpf, "WILDS")?;
    for (index, wild) in tables.wilds.iter().enumerate() {
        wilds
            .set(
                slot * WILD_MAX as u32 + index as u32,
                bytes::<_, { size_of::<WildWords>() }>(&WildWords::from(wild)),
                0,
            )
            .map_err(io)?;
    }
    Ok(())
}

type Edges<'e> = HashMap<&'e mut MapData, [u8; size_of::<EdgeKey>()], [u8; size_of::<Edge>()]>;

fn edge_map(ebpf: &mut Ebpf) -> Result<Edges<'_>, BackendError> {
    hash_map(ebpf, "EDGES")
}

type Aliases<'e> = HashMap<&'e mut MapData, [u8; size_of::<AliasKey>()], [u8; size_of::<AliasRules>()]>;

fn alias_map(ebpf: &mut Ebpf) -> Result<Aliases<'_>, BackendError> {
    hash_map(ebpf, "ALIASES")
}

type Grants<'e> = HashMap<&'e mut MapData, [u8; size_of::<GrantKey>()], [u8; size_of::<Grant>()]>;

fn grant_map(ebpf: &mut Ebpf) -> Result<Grants<'_>, BackendError> {
    hash_map(ebpf, "GRANTS")
}

fn lpm<'e, const K: usize>(ebpf: &'e mut Ebpf, name: &'static str) -> Result<Prefixes<'e, K>, BackendError> {
    LpmTrie::try_from(ebpf.map_mut(name).ok_or_else(|| missing(name))?).map_err(io)
}

fn array<'e, const V: usize>(
    ebpf: &'e mut Ebpf,
    name: &'static str,
) -> Result<Array<&'e mut MapData, [u8; V]>, BackendError> {
    Array::try_from(ebpf.map_mut(name).ok_or_else(|| missing(name))?).map_err(io)
}

/// A value's bytes as an array, which is what aya's maps take without further promises.
fn bytes<T: IntoBytes + Immutable, const N: usize>(value: &T) -> [u8; N] {
    let mut out = <[u8; N]>::new_zeroed();
    out.copy_from_slice(value.as_bytes());
    out
}

/// Which slot a key belongs to; all that carry one begin with it.
fn slot_of(key: &[u8]) -> usize {
    let slot = key.first_chunk().map_or(0, |slot| u32::from_ne_bytes(*slot));
    slot as usize % paths::SLOTS as usize
}

fn keys<K>(keys: impl Iterator<Item = Result<K, MapError>>) -> Result<Vec<K>, BackendError> {
    keys.collect::<Result<_, _>>().map_err(io)
}

fn missing(name: &str) -> BackendError {
    BackendError::Unsupported(format!(
        "the kernel object has no map `{name}`: rebuild with `cargo xtask build`"
    ))
}

fn io(error: MapError) -> BackendError {
    BackendError::Io {
        attempt: "fill the kernel's policy tables".to_owned(),
        source: std::io::Error::other(error),
    }
}
