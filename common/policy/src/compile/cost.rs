//! What it takes the kernel programs to judge one operation: how much work at most, and an estimate in instructions.
//!
//! The work is counted by the algorithm of [`crate::matcher`]. The instructions are a **guess**: one number was measured, that
//! of `lsm/file_open` in a session with the shipped policy on Linux 6.12 (`cargo xtask bench --guest 6.12`,
//! `SPECIFICATION.md`), and it was never told apart what of it each step takes. The shares below are read off the code; what
//! they leave of the measured number is [`BASE`], which is therefore the call of the program, the label and the record. Good
//! for comparing two policies; not for promising a time.

use serde::Serialize;
use treeline_abi::paths::{Accept, Table};

use super::Tables;

/// Instructions of one run of `lsm/file_open`, as they were measured.
pub const MEASURED: u64 = 10_415;
/// Components of a path that the estimate is for: `/home/USER/PROJECT/src/DIR/FILE`.
pub const COMPONENTS: usize = 6;

/// What is left of [`MEASURED`] without the walk that the shipped policy makes necessary.
const BASE: u64 = 6_000;
/// A name is hashed and looked up, or an edge is.
const LOOKUP: u64 = 150;
/// A word of the machine takes one step.
const WORD_STEP: u64 = 25;
/// A name is compared with a component glob, eight bytes at a time.
const WILD: u64 = 80;
/// A rule is weighed: its operation, and who is asked for.
const RULE: u64 = 50;

/// What one decision takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// What is judged.
    pub operation: &'static str,
    /// Lookups in hash tables and trees, at most.
    pub lookups: usize,
    /// Steps of words of the machine, at most.
    pub word_steps: usize,
    /// Comparisons with component globs, at most.
    pub wilds: usize,
    /// Rules that are weighed: of a path those of the longest list and one for each word of the machine, of an address those
    /// of the block with the most. What falls under more of them takes more.
    pub rules: usize,
    /// A guess, see the module.
    pub instructions: u64,
}

impl Cost {
    fn of(operation: &'static str, [lookups, word_steps, wilds, rules]: [usize; 4]) -> Self {
        let times = |count: usize, each: u64| (count as u64).saturating_mul(each);
        let work =
            times(lookups, LOOKUP) + times(word_steps, WORD_STEP) + times(wilds, WILD) + times(rules, RULE);
        Self { operation, lookups, word_steps, wilds, rules, instructions: BASE + work }
    }
}

impl Tables {
    /// What decisions take: about a path of [`COMPONENTS`] components, an address, an abstract name, and access to a process.
    #[must_use]
    pub fn costs(&self) -> Vec<Cost> {
        // The head of the tables and the filesystem; of each name its own entry, and an edge, or two where `*` stands beside
        // names.
        let beside = self.edges.iter().any(|(_, edge)| edge.any == 1)
            || self.devices.iter().any(|(_, device)| device.root.any == 1);
        let edges = if self.edges.is_empty() { 0 } else { 1 + usize::from(beside) };
        let path = [
            2 + COMPONENTS * (1 + edges),
            COMPONENTS * self.table.words as usize,
            COMPONENTS * candidates(&self.table),
            self.longest_list() + self.accepts.len().min(self.table.words as usize),
        ];
        let prefixes = self.prefixes4.iter().map(|(_, _, rules)| rules.count);
        let of_block =
            prefixes.chain(self.prefixes6.iter().map(|(_, _, rules)| rules.count)).max().unwrap_or(0);
        vec![
            Cost::of("path", path),
            Cost::of("address", [2, 0, 0, of_block as usize]),
            Cost::of("abstract name", [1, 0, 0, self.abstracts.len()]),
            Cost::of("process", [1, 0, 0, self.rules.len()]),
        ]
    }

    /// Entries of the longest list that a name or an edge leads to.
    fn longest_list(&self) -> usize {
        let lists = self.lists.split_inclusive(|entry| entry.operations & Accept::LAST != 0);
        lists.map(<[Accept]>::len).max().unwrap_or(0)
    }
}

/// Component globs that one name is compared with, at most.
fn candidates(table: &Table) -> usize {
    let pairs = table
        .wilds_by_first
        .iter()
        .flat_map(|first| table.wilds_by_last.iter().map(move |last| (first & last).count_ones() as usize));
    pairs.max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Home, Host, MountTable, Target, compile, parse};

    fn tables(text: &str) -> Tables {
        let policy = parse("p", text).unwrap_or_else(|found| panic!("{found}"));
        let host = Host { homes: vec![Home { uid: 0, path: b"/root".to_vec() }] };
        let target = Target { seed: 1, generation: 1, slot: 0 };
        compile(&policy, &host, &MountTable::single(1), target).unwrap_or_else(|found| panic!("{found}"))
    }

    #[test]
    fn the_shipped_policy_takes_about_what_was_measured() {
        let tables = tables(include_str!("../../../../policies/baseline.yaml"));
        let path = tables.costs()[0];
        assert!(path.instructions.abs_diff(MEASURED) < MEASURED / 10, "{path:?}: adjust `BASE`");
    }

    #[test]
    fn work() {
        let check = |rules: &str, expect: [usize; 4]| {
            let Cost { lookups, word_steps, wilds, rules: weighed, .. } =
                tables(&format!("version: 1\nname: t\nrules: [{rules}]\n")).costs()[0];
            assert_eq!([lookups, word_steps, wilds, weighed], expect, "{rules}");
        };
        check("", [8, 0, 0, 0]);
        check("{id: a, kind: file, reason: r, paths: [/a/b]}", [14, 0, 0, 1]);
        check("{id: a, kind: file, reason: r, paths: [\"/a/*/b\", /a/c/d]}", [20, 6, 0, 2]);
        check("{id: a, kind: file, reason: r, paths: [\"/a/*x\"]}", [8, 6, 6, 1]);
    }

    #[test]
    fn maps_are_within_their_bounds() {
        let tables = tables(include_str!("../../../../policies/baseline.yaml"));
        let maps = tables.maps();
        assert!(maps.iter().all(|map| map.entries <= map.entries_max && map.bytes() <= map.bytes_max()));
        let rules = maps.iter().find(|map| map.map == "RULES").expect("a map of rules");
        assert_eq!((rules.entries, rules.entry_bytes), (tables.rules.len(), 24));
    }
}
