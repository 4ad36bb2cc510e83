//! Entry bundles: each entry behind its length, a big-endian `u16`.

use thiserror::Error;

/// The longest entry in bytes: its length has to fit in 16 bits.
pub const ENTRY_LEN_MAX: usize = 65_535;

/// The longest bundle in bytes: 256 entries of the longest length.
pub const BUNDLE_LEN_MAX: usize = 256 * (2 + ENTRY_LEN_MAX);

/// Why bytes are not a bundle, or an entry does not go into one.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BundleError {
    /// The entry does not fit.
    #[error("an entry has {0} bytes and may have at most 65535")]
    EntryTooLong(usize),
    /// The bytes end inside an entry or its length.
    #[error("the bundle ends inside its entry {0}")]
    CutShort(usize),
    /// The bytes hold another number of entries.
    #[error("the bundle holds {found} entries and should hold {expected}")]
    WrongCount {
        /// How many there are.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
}

/// Appends an entry to the bytes of a bundle.
///
/// # Errors
/// [`BundleError::EntryTooLong`] beyond [`ENTRY_LEN_MAX`]; the bytes are then unchanged.
pub fn push_entry(bundle: &mut Vec<u8>, entry: &[u8]) -> Result<(), BundleError> {
    let len = u16::try_from(entry.len()).map_err(|_| BundleError::EntryTooLong(entry.len()))?;
    bundle.extend_from_slice(&len.to_be_bytes());
    bundle.extend_from_slice(entry);
    Ok(())
}

/// The entries of a bundle, in order. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Bundle<'a> {
    rest: &'a [u8],
    read: usize,
}

impl<'a> Bundle<'a> {
    /// Reads from the start of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, read: 0 }
    }

    /// Checks that the bytes hold exactly `expected` whole entries.
    ///
    /// # Errors
    /// [`BundleError::CutShort`] or [`BundleError::WrongCount`].
    pub fn check(bytes: &[u8], expected: usize) -> Result<(), BundleError> {
        let mut found = 0;
        for entry in Bundle::new(bytes) {
            entry?;
            found += 1;
        }
        if found == expected { Ok(()) } else { Err(BundleError::WrongCount { found, expected }) }
    }
}

impl<'a> Iterator for Bundle<'a> {
    type Item = Result<&'a [u8], BundleError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let entry = self.rest.split_first_chunk::<2>().and_then(|(len, rest)| {
            let len = usize::from(u16::from_be_bytes(*len));
            (len <= rest.len()).then(|| rest.split_at(len))
        });
        match entry {
            Some((entry, rest)) => {
                self.rest = rest;
                self.read += 1;
                Some(Ok(entry))
            }
            None => {
                self.rest = &[];
                Some(Err(BundleError::CutShort(self.read)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bounds_are_named() {
        let mut bundle = Vec::new();
        assert_eq!(push_entry(&mut bundle, &vec![0; 65_536]), Err(BundleError::EntryTooLong(65_536)));
        assert!(bundle.is_empty());
        assert_eq!(push_entry(&mut bundle, &vec![0; 65_535]), Ok(()));
        assert_eq!(Bundle::check(&bundle, 1), Ok(()));
        assert_eq!(Bundle::check(&bundle, 2), Err(BundleError::WrongCount { found: 1, expected: 2 }));
        assert_eq!(Bundle::check(&bundle[..100], 1), Err(BundleError::CutShort(0)));
        assert_eq!(Bundle::check(&[0], 1), Err(BundleError::CutShort(0)));
    }

    proptest! {
        #[test]
        fn entries_are_read_back(entries in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..40)) {
            let mut bundle = Vec::new();
            for entry in &entries {
                push_entry(&mut bundle, entry).expect("short");
            }
            let read: Result<Vec<_>, _> = Bundle::new(&bundle).map(|e| e.map(<[u8]>::to_vec)).collect();
            prop_assert_eq!(read.expect("whole"), entries);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = Bundle::check(&bytes, 3);
        }
    }
}
