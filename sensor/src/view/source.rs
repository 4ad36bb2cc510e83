//! Where entries come from.

use std::{collections::VecDeque, io};

use thiserror::Error;
use treeline_event::{DecodeError, Decoder, Entry};

/// Entries in order: the log's directory, or the daemon's socket.
pub trait EntrySource {
    /// Puts the next entry in the place of what is in `entry`, and gives its index; none when there is none now.
    ///
    /// # Errors
    /// When the log or the socket cannot be read.
    fn next_entry(&mut self, entry: &mut Vec<u8>) -> io::Result<Option<u64>>;

    /// Waits until there may be more; `false` when there never will be.
    ///
    /// # Errors
    /// When the log or the socket cannot be waited for.
    fn wait(&mut self) -> io::Result<bool>;
}

/// Entries that are already in memory.
#[derive(Debug, Default)]
pub struct MemorySource(pub VecDeque<(u64, Vec<u8>)>);

impl EntrySource for MemorySource {
    fn next_entry(&mut self, entry: &mut Vec<u8>) -> io::Result<Option<u64>> {
        Ok(self.0.pop_front().map(|(index, bytes)| {
            *entry = bytes;
            index
        }))
    }

    fn wait(&mut self) -> io::Result<bool> {
        Ok(false)
    }
}

/// Why entries could not be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The source failed.
    #[error("cannot read the entries")]
    Source(#[source] io::Error),
    /// An entry could not be understood.
    #[error("cannot read entry {index}; `treeline log verify` says whether the log is whole")]
    Decode {
        /// Which.
        index: u64,
        /// Why.
        #[source]
        source: DecodeError,
    },
}

/// Gives every entry that is there now to `each`, with its stored bytes, until it
/// returns `false`.
///
/// # Errors
/// When the source fails or an entry cannot be understood.
pub fn read(
    source: &mut dyn EntrySource,
    mut each: impl FnMut(&Entry, &[u8]) -> bool,
) -> Result<(), ReadError> {
    let (mut decoder, mut bytes) = (Decoder::default(), Vec::new());
    while let Some(index) = source.next_entry(&mut bytes).map_err(ReadError::Source)? {
        let entry = decoder.decode(&bytes).map_err(|source| ReadError::Decode { index, source })?;
        if !each(&entry, &bytes) {
            break;
        }
    }
    Ok(())
}
