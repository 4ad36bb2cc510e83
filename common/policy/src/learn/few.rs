//! The first few of many, in their order.

use std::collections::BTreeSet;

/// At most `MAX` items, and whether there were more. Which are kept does not depend on when they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Few<T, const MAX: usize> {
    items: BTreeSet<T>,
    has_more: bool,
}

impl<T, const MAX: usize> Default for Few<T, MAX> {
    fn default() -> Self {
        Self { items: BTreeSet::new(), has_more: false }
    }
}

impl<T: Ord + Clone, const MAX: usize> Few<T, MAX> {
    pub(super) fn add(&mut self, item: T) {
        self.items.insert(item);
        if self.items.len() > MAX {
            self.items.pop_last();
            self.has_more = true;
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        other.items.iter().for_each(|item| self.add(item.clone()));
        self.has_more |= other.has_more;
    }

    /// Those that are kept.
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &T> {
        self.items.iter()
    }

    /// The only one there is.
    pub(super) fn one(&self) -> Option<&T> {
        self.items.first().filter(|_| self.items.len() == 1 && !self.has_more)
    }

    /// How many, with `+` behind where there were more.
    pub(super) fn count(&self) -> String {
        format!("{}{}", self.items.len(), if self.has_more { "+" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_few_in_any_order() {
        let of = |items: &[u8]| {
            let mut few = Few::<u8, 2>::default();
            items.iter().for_each(|item| few.add(*item));
            few
        };
        assert_eq!(of(&[3, 1, 2, 3]), of(&[1, 2, 3]));
        assert_eq!((of(&[1, 2, 3]).count().as_str(), of(&[2, 1]).count().as_str()), ("2+", "2"));
        assert_eq!((of(&[1, 1]).one(), of(&[1, 2]).one(), of(&[]).one()), (Some(&1), None, None));
        let mut merged = of(&[3]);
        merged.merge(&of(&[1, 2]));
        assert_eq!(merged, of(&[1, 2, 3]));
    }
}
