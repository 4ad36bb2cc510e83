//! The bytes of a journal segment, `journal/<index of the first entry, 20 digits>`; little-endian.
//!
//! ```text
//! offset  bytes
//!      0      8  magic, `treeline`
//!      8      4  version, 1
//!     12      4  zero
//!     16      8  index of the first entry, a multiple of 256
//!     24      8  the first bytes of the SHA-256 of the 24 bytes before
//! then for each entry
//!      0      4  length n, at most 65535
//!      4      4  the first bytes of the entry's RFC 6962 leaf hash
//!      8      n  the entry
//! ```
//!
//! The leaf hash is computed anyway, covers every byte, and is not zero for an entry of zeros: a page that the disk
//! never got is not taken for entries.

use std::io;

use sha2::{Digest as _, Sha256};
use treeline_tlog::{ENTRY_LEN_MAX, Hash, leaf_hash};

use super::storage::Source;

pub(super) const DIR: &str = "journal";
pub(super) const HEADER_LEN: usize = 32;
const RECORD_HEADER_LEN: usize = 8;
const MAGIC: &[u8; 8] = b"treeline";
const VERSION: u32 = 1;

/// How much is read at once. Larger than the longest record, so that one read always brings a whole one.
const CHUNK_LEN: usize = 1 << 20;

pub(super) fn path(first: u64) -> String {
    format!("{DIR}/{first:020}")
}

/// The first indices of the segments that there are, ascending. Other names are not ours and are left alone.
pub(super) fn segments(source: &dyn Source) -> io::Result<Vec<u64>> {
    let names = source.list(DIR)?;
    let mut firsts: Vec<u64> =
        names.iter().filter(|n| n.len() == 20).filter_map(|n| n.parse().ok()).collect();
    firsts.sort_unstable();
    Ok(firsts)
}

pub(super) fn header(first: u64) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[16..24].copy_from_slice(&first.to_le_bytes());
    let check = Sha256::digest(&header[..24]);
    header[24..].copy_from_slice(&check[..8]);
    header
}

/// Appends one record. The entry's length has been checked.
pub(super) fn push_record(bytes: &mut Vec<u8>, entry: &[u8], leaf: &Hash) {
    let len = u32::try_from(entry.len()).expect("entries have at most 65535 bytes");
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(&leaf[..4]);
    bytes.extend_from_slice(entry);
}

pub(super) fn record_len(entry: &[u8]) -> usize {
    RECORD_HEADER_LEN + entry.len()
}

/// Length and leaf hash of the entry whose record `bytes` begin with; `None` if that is not whole or not valid.
fn parse_record(bytes: &[u8]) -> Option<(usize, Hash)> {
    let (header, rest) = bytes.split_first_chunk::<RECORD_HEADER_LEN>()?;
    let len = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
    let entry = rest.get(..len).filter(|_| len <= ENTRY_LEN_MAX)?;
    let leaf = leaf_hash(entry);
    (leaf[..4] == header[4..]).then_some((len, leaf))
}

/// Reads a segment from its start, in bounded memory. At the end of what is valid it stays, and goes on when there
/// is more: a live segment can be followed.
#[derive(Debug)]
pub(super) struct SegmentReader {
    path: String,
    /// Where the next record begins, and its index.
    offset: u64,
    index: u64,
    buffer: Vec<u8>,
    position: usize,
}

impl SegmentReader {
    /// Checks the header. `None` if it is not valid.
    pub(super) fn open(source: &dyn Source, first: u64) -> io::Result<Option<Self>> {
        let path = path(first);
        let mut buffer = Vec::new();
        source.read_at(&path, 0, HEADER_LEN, &mut buffer)?;
        if buffer != header(first) {
            return Ok(None);
        }
        buffer.clear();
        Ok(Some(Self { path, offset: HEADER_LEN as u64, index: first, buffer, position: 0 }))
    }

    /// Index of the entry that [`Self::next`] returns.
    pub(super) fn index(&self) -> u64 {
        self.index
    }

    /// Length of the segment up to the end of the last entry that was returned.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next entry and its leaf hash; `None` where no whole and valid record follows.
    pub(super) fn next(&mut self, source: &dyn Source) -> io::Result<Option<(&[u8], Hash)>> {
        let mut record = parse_record(&self.buffer[self.position..]);
        if record.is_none() {
            source.read_at(&self.path, self.offset, CHUNK_LEN, &mut self.buffer)?;
            self.position = 0;
            record = parse_record(&self.buffer);
        }
        let Some((len, leaf)) = record else {
            return Ok(None);
        };
        let start = self.position + RECORD_HEADER_LEN;
        self.position = start + len;
        self.offset += (RECORD_HEADER_LEN + len) as u64;
        self.index += 1;
        Ok(Some((&self.buffer[start..start + len], leaf)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::model::ModelStorage;
    use proptest::prelude::*;

    fn read_all(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
        let storage = ModelStorage::with_file(&path(0), bytes);
        let mut reader = SegmentReader::open(&storage, 0).expect("there is a file")?;
        let mut entries = Vec::new();
        while let Some((entry, leaf)) = reader.next(&storage).expect("there is a file") {
            assert_eq!(leaf, leaf_hash(entry));
            entries.push(entry.to_vec());
        }
        Some(entries)
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_all(&bytes);
            let _ = read_all(&[&header(0)[..], &bytes].concat());
        }

        #[test]
        fn a_damaged_segment_yields_a_prefix(
            entries in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..30), 1..20),
            place: prop::sample::Index,
            flip in 1_u8..,
        ) {
            let mut bytes = header(0).to_vec();
            for entry in &entries {
                push_record(&mut bytes, entry, &leaf_hash(entry));
            }
            prop_assert_eq!(read_all(&bytes), Some(entries.clone()));
            let place = place.index(bytes.len());
            prop_assert!(read_all(&bytes[..place]).is_none_or(|read| entries.starts_with(&read)));
            bytes[place] ^= flip;
            prop_assert!(read_all(&bytes).is_none_or(|read| entries.starts_with(&read)));
        }
    }
}
