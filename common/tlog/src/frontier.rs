//! The right edge of a tree: what has to be remembered to append an entry and to know the root.

use crate::hash::{EMPTY_ROOT, Hash, node_hash};

/// The perfect subtrees that a tree of `size` entries is made of, the largest first.
///
/// There is one for every set bit of `size`, so never more than 64.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    subtrees: Vec<Hash>,
}

impl Frontier {
    /// A tree of `size` entries from its perfect subtrees, the largest first.
    ///
    /// `None` if their number is not the number of set bits of `size`.
    #[must_use]
    pub fn from_subtrees(size: u64, subtrees: Vec<Hash>) -> Option<Self> {
        (subtrees.len() == size.count_ones() as usize).then_some(Self { size, subtrees })
    }

    /// The number of entries.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends the hash of an entry.
    pub fn append(&mut self, leaf: Hash) {
        self.append_with(leaf, |_, _| {});
    }

    /// Appends the hash of an entry and reports every subtree that it completes, by height, the leaf (height 0) first.
    pub fn append_with(&mut self, leaf: Hash, mut completed: impl FnMut(u32, &Hash)) {
        let mut node = leaf;
        completed(0, &node);
        for height in 1..=self.size.trailing_ones() {
            let left = self.subtrees.pop().expect("one subtree for each set bit of the size");
            node = node_hash(&left, &node);
            completed(height, &node);
        }
        self.subtrees.push(node);
        self.size += 1;
    }

    /// The root hash of RFC 6962.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.subtrees
            .iter()
            .rev()
            .copied()
            .reduce(|right, left| node_hash(&left, &right))
            .unwrap_or(EMPTY_ROOT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leaf_hash;

    /// The definition of RFC 6962, section 2.1, word for word.
    fn definition(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => EMPTY_ROOT,
            [leaf] => *leaf,
            _ => {
                let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
                node_hash(&definition(left), &definition(right))
            }
        }
    }

    #[test]
    fn root_is_the_definitions_root_at_every_size() {
        let leaves: Vec<Hash> = (0..300_u32).map(|i| leaf_hash(&i.to_le_bytes())).collect();
        let mut frontier = Frontier::default();
        for size in 0..leaves.len() {
            assert_eq!(frontier.root(), definition(&leaves[..size]), "size {size}");
            frontier.append(leaves[size]);
        }
    }

    #[test]
    fn completed_subtrees_are_reported_with_their_height() {
        let leaves: Vec<Hash> = (0..8_u8).map(|i| leaf_hash(&[i])).collect();
        let mut frontier = Frontier::default();
        let mut last = Vec::new();
        for leaf in &leaves {
            last.clear();
            frontier.append_with(*leaf, |height, hash| last.push((height, *hash)));
        }
        let expect: Vec<(u32, Hash)> =
            (0..=3).map(|height| (height, definition(&leaves[8 - (1 << height)..]))).collect();
        assert_eq!(last, expect);
    }

    #[test]
    fn a_wrong_number_of_subtrees_is_refused() {
        assert!(Frontier::from_subtrees(3, vec![EMPTY_ROOT]).is_none());
        assert!(Frontier::from_subtrees(3, vec![EMPTY_ROOT; 2]).is_some());
    }
}
