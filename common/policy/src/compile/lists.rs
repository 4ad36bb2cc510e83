//! Rows of accepting entries, each kept once.

use std::collections::{BTreeMap, BTreeSet};

use treeline_abi::paths::{Accept, NO_LIST};

use super::layout::Owner;

/// Every list of a policy, one after the other.
#[derive(Debug, Default)]
pub(super) struct Lists {
    entries: Vec<Accept>,
    known: BTreeMap<BTreeSet<Owner>, u32>,
}

impl Lists {
    /// The number of the list of these owners, [`NO_LIST`] for none.
    pub(super) fn number(&mut self, owners: &BTreeSet<Owner>) -> u32 {
        if owners.is_empty() {
            return NO_LIST;
        }
        if let Some(known) = self.known.get(owners) {
            return *known;
        }
        let number = self.entries.len() as u32 + 1;
        self.entries
            .extend(owners.iter().map(|owner| Accept { index: owner.index, operations: owner.operations }));
        if let Some(last) = self.entries.last_mut() {
            last.operations |= Accept::LAST;
        }
        self.known.insert(owners.clone(), number);
        number
    }

    /// Entries so far.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The table.
    pub(super) fn into_entries(self) -> Vec<Accept> {
        self.entries
    }
}
