//! Values that were read before, found again by their text.

use std::hash::{DefaultHasher, Hasher as _};

/// Values that are kept. More processes than this seldom act in turn.
const SLOTS: usize = 256;
/// Longest text whose value is kept. With what was read from it, that is at most 60 KiB a slot, and a few usually.
const TEXT_LEN_MAX: usize = 4096;
/// Bytes at the beginning of a text that choose its slot: as many as it takes to tell whose it is.
const HEAD_LEN: usize = 40;

/// What was read at some place of entries. The last of those with one beginning stays.
#[derive(Debug)]
pub(super) struct Known<T> {
    slots: Vec<Option<(Box<[u8]>, T)>>,
}

impl<T: Clone> Known<T> {
    pub(super) fn new() -> Self {
        Self { slots: (0..SLOTS).map(|_| None).collect() }
    }

    /// The value that `rest` begins with, and how long it is. `read` reads it where it is not known.
    ///
    /// That a text begins with the whole of another tells that they have one value, if it is an object or a list: these say
    /// themselves where they end. Others are not kept.
    pub(super) fn get(
        &mut self,
        rest: &[u8],
        read: impl FnOnce() -> Option<(T, usize)>,
    ) -> Option<(T, usize)> {
        if !matches!(rest.first(), Some(b'{' | b'[')) {
            return read();
        }
        let mut hasher = DefaultHasher::new();
        hasher.write(&rest[..rest.len().min(HEAD_LEN)]);
        let slot = &mut self.slots[(hasher.finish() % SLOTS as u64) as usize];
        if let Some((text, value)) = slot
            && rest.starts_with(text)
        {
            return Some((value.clone(), text.len()));
        }
        let (value, len) = read()?;
        if len <= TEXT_LEN_MAX {
            *slot = Some((rest[..len].into(), value.clone()));
        }
        Some((value, len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks for each text in turn: whether it had to be read.
    #[track_caller]
    fn check(asked: &[(&str, bool)]) {
        let mut known = Known::new();
        for (text, is_read) in asked {
            let rest = format!("{text},\"more\":1");
            let mut was_read = false;
            let found = known.get(rest.as_bytes(), || {
                was_read = true;
                Some(((*text).to_owned(), text.len()))
            });
            assert_eq!(found, Some(((*text).to_owned(), text.len())));
            assert_eq!(was_read, *is_read, "{text}");
        }
    }

    #[test]
    fn what_says_where_it_ends_is_kept() {
        let head = "x".repeat(HEAD_LEN);
        let (one, other) = (format!("{{\"{head}\":1}}"), format!("{{\"{head}\":11}}"));
        check(&[(&one, true), (&one, false), (&other, true), (&other, false), (&one, true)]);
        check(&[("[1]", true), ("[1]", false), ("[2]", true), ("[1]", false)]);
        check(&[("1", true), ("1", true), ("\"a\"", true), ("\"a\"", true)]);
        let long = format!("[\"{}\"]", "x".repeat(TEXT_LEN_MAX));
        check(&[(&long, true), (&long, true)]);
    }

    #[test]
    fn what_cannot_be_read_is_not_kept() {
        let mut known = Known::new();
        assert_eq!(known.get(b"{}", || None), None);
        assert_eq!(known.get(b"", || None), None);
        assert_eq!(known.get(b"{}", || Some((7, 2))), Some((7, 2)));
        assert_eq!(known.get(b"{", || None), None);
    }
}
