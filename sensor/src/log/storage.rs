//! What the log needs of a file system. Paths are relative to the log directory and use `/`.
//!
//! Everything that writes goes through this seam, so that the writer can be tested against a storage that fails or
//! cuts any one of its calls and forgets what was not synced.

use std::io;

/// Reading a log.
pub trait Source: Send {
    /// Replaces `into` by the whole file.
    ///
    /// # Errors
    /// `NotFound`; `FileTooLarge` beyond `len_max` bytes; whatever the file system says.
    fn read(&self, path: &str, len_max: usize, into: &mut Vec<u8>) -> io::Result<()>;

    /// Replaces `into` by up to `len_max` bytes from `offset` on; by fewer only at the end of the file.
    ///
    /// # Errors
    /// `NotFound`; whatever the file system says.
    fn read_at(&self, path: &str, offset: u64, len_max: usize, into: &mut Vec<u8>) -> io::Result<()>;

    /// The names in a directory, sorted; none if there is no such directory.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;
}

/// Writing a log.
pub trait Storage: Source {
    /// Creates a file with its directories, or empties it.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn create(&mut self, path: &str) -> io::Result<Box<dyn StoredFile>>;

    /// Opens a file that exists.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn open_file(&mut self, path: &str) -> io::Result<Box<dyn StoredFile>>;

    /// Renames a file over another, with the directories that the new name needs.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file; not an error if it is not there. A directory of partial tiles goes with its last file.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn remove(&mut self, path: &str) -> io::Result<()>;

    /// Makes the names in a directory durable. The log directory itself is the empty path.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn sync_dir(&mut self, dir: &str) -> io::Result<()>;

    /// Begins to make everything written so far durable: one call for the many small files of a segment.
    ///
    /// # Errors
    /// What keeps it from beginning.
    fn begin_sync(&mut self) -> io::Result<Box<dyn PendingSync>>;
}

/// A sync that goes on in the background. It waits for what others write to the same disk, too, and may take seconds.
pub trait PendingSync: Send {
    /// Whether it has ended, and how; `None` as long as it goes on.
    fn poll(&mut self) -> Option<io::Result<()>>;

    /// Waits for its end.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn wait(self: Box<Self>) -> io::Result<()>;
}

/// An open file.
pub trait StoredFile: Send {
    /// Writes all bytes at an offset. After an error any part of them may have been written.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts the file.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn truncate(&mut self, len: u64) -> io::Result<()>;

    /// Makes the file's bytes and length durable. After an error nothing is known of either.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn sync(&mut self) -> io::Result<()>;
}

/// Where files are written before they get their name.
pub(super) const TEMPORARY_DIR: &str = "tmp";

/// Writes a file so that readers see it whole or not at all. Not durable before the next sync of everything.
pub(super) fn publish(storage: &mut dyn Storage, path: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = format!("{TEMPORARY_DIR}/file");
    storage.create(&temporary)?.write_at(0, bytes)?;
    storage.rename(&temporary, path)
}

/// Writes a file so that readers and crashes see the old or the new one, and the new one once this returns.
///
/// An error before the rename leaves the old file; an error of the last step leaves the new one, perhaps not durable.
pub(super) fn publish_durably(
    storage: &mut dyn Storage,
    path: &str,
    bytes: &[u8],
) -> Result<(), PublishError> {
    let temporary = format!("{TEMPORARY_DIR}/durable");
    let write = |storage: &mut dyn Storage| {
        let mut file = storage.create(&temporary)?;
        file.write_at(0, bytes)?;
        file.sync()?;
        drop(file);
        storage.rename(&temporary, path)
    };
    write(storage).map_err(PublishError::Unchanged)?;
    let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
    storage.sync_dir(dir).map_err(PublishError::Unknown)
}

/// What a failed durable write left behind.
#[derive(Debug)]
pub(super) enum PublishError {
    /// The old file.
    Unchanged(io::Error),
    /// The new file, of which nobody knows whether a crash would undo it.
    Unknown(io::Error),
}
