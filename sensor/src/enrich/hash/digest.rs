//! The digest of exactly the file that the kernel saw, or why there is none.

use std::{
    fs::File,
    io::{self, ErrorKind, Read},
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::fs::{Advice, OFlags, fadvise, fstatfs};
use sha2::{Digest as _, Sha256};
use treeline_event::{Digest, FileId};

use super::{build_id::build_id, identity::matches};
use crate::enrich::procfs::hold;

/// Bytes that are read at once: large enough for the disk, small enough for the cache of the processor.
const READ_LEN: usize = 128 * 1024;

/// A file system in user space: its server chooses what stat(2) says, so its files have no identity to remember.
const FUSE_SUPER_MAGIC: i64 = 0x6573_5546;

/// What is known of a file's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Its digest, never [`Digest::Pending`].
    pub digest: Digest,
    /// Its build-id.
    pub build_id: Option<String>,
    /// The identity stands for the content from now on, so the digest may be remembered.
    pub lasting: bool,
}

impl Content {
    fn none(digest: Digest) -> Self {
        Self { digest, build_id: None, lasting: false }
    }
}

/// Where a file may be found.
#[derive(Debug, Default)]
pub struct Places {
    /// Held since it was seen.
    pub held: Option<OwnedFd>,
    /// Names to try then, in this order.
    pub paths: Vec<PathBuf>,
}

/// Finds the file with this identity at one of the places and hashes it.
///
/// Only regular files are opened, so that neither a FIFO nor a device can stall or be disturbed.
#[must_use]
pub fn content(places: &Places, expect: &FileId) -> Content {
    let mut best = Digest::Gone;
    let mut attempt = |found: io::Result<Option<Content>>| match found {
        Ok(Some(content)) => Some(content),
        Ok(None) => {
            best = Digest::Changed;
            None
        }
        Err(error) => {
            if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) && best == Digest::Gone
            {
                best = if error.kind() == ErrorKind::InvalidInput {
                    Digest::Changed
                } else {
                    Digest::Unreadable
                };
            }
            None
        }
    };
    if let Some(held) = &places.held
        && let Some(content) = attempt(read(held, expect))
    {
        return content;
    }
    for path in &places.paths {
        if let Some(content) = attempt(hold(path, OFlags::NOFOLLOW).and_then(|held| read(&held, expect))) {
            return content;
        }
    }
    Content::none(best)
}

/// None when it is another file, or another content took its place.
fn read(held: &OwnedFd, expect: &FileId) -> io::Result<Option<Content>> {
    if !matches(held, expect)? {
        return Ok(None);
    }
    let mut file = reopen(held)?;
    let build_id = build_id(&file);
    // Advice: a refusal changes nothing but speed.
    let _ = fadvise(&file, 0, None, Advice::Sequential);
    let mut hasher = Sha256::new();
    let mut buffer = vec![0u8; READ_LEN];
    let mut left = expect.size;
    loop {
        let count = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        // More than the kernel saw: it grows, and may grow for ever.
        let Some(rest) = left.checked_sub(count as u64) else { return Ok(None) };
        left = rest;
        hasher.update(&buffer[..count]);
    }
    if left != 0 || !matches(&file, expect)? {
        return Ok(None);
    }
    let lasting = fstatfs(&file).is_ok_and(|stat| stat.f_type != FUSE_SUPER_MAGIC);
    Ok(Some(Content { digest: Digest::Sha256(hasher.finalize().into()), build_id, lasting }))
}

/// Opens for reading what is held, whatever its names mean by now.
pub(crate) fn reopen(held: &OwnedFd) -> io::Result<File> {
    let path = format!("/proc/self/fd/{}", held.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(Path::new(&path), flags, rustix::fs::Mode::empty())?))
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::{super::identity::identity, *};

    fn id(path: &Path) -> FileId {
        identity(hold(path, OFlags::empty()).expect("held")).expect("identity")
    }

    fn at(path: &Path) -> Places {
        Places { held: None, paths: vec![path.to_owned()] }
    }

    #[test]
    fn agrees_with_sha256sum() {
        let python = fs::canonicalize("/usr/bin/python3");
        let files =
            [fs::canonicalize("/bin/bash"), fs::canonicalize("/bin/sh"), std::env::current_exe(), python];
        let mut checked = 0;
        for path in files.into_iter().flatten() {
            let Ok(output) = Command::new("sha256sum").arg(&path).output() else { return };
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let found = content(&at(&path), &id(&path));
            assert_eq!(Some(found.digest.to_string().as_str()), text.split(' ').next(), "{}", path.display());
            assert!(found.lasting);
            checked += 1;
        }
        assert!(checked > 1);
    }

    #[test]
    fn never_the_hash_of_something_else() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("a");
        let write = |text: &str| fs::write(&path, text).expect("written");
        write("one");
        let seen = id(&path);
        let sound = content(&at(&path), &seen);
        assert!(matches!(sound.digest, Digest::Sha256(_)));
        // By another name of the same object: a link made before the kernel's record.
        let link = dir.path().join("link");
        fs::hard_link(&path, &link).expect("link");
        assert_eq!(content(&at(&path), &seen).digest, Digest::Changed, "the link changed ctime");
        let seen = id(&path);
        assert_eq!(content(&at(&link), &seen), sound);
        // A symbolic link in the last place is not what the kernel resolved.
        let symlink = dir.path().join("symlink");
        std::os::unix::fs::symlink(&path, &symlink).expect("symlink");
        assert_ne!(content(&at(&symlink), &seen).digest, sound.digest);
        // Changed in place, same size.
        write("two");
        assert_eq!(content(&at(&path), &seen).digest, Digest::Changed);
        // Swapped by rename.
        let seen = id(&path);
        let other = dir.path().join("other");
        fs::write(&other, "two").expect("written");
        fs::rename(&other, &path).expect("renamed");
        assert_eq!(content(&at(&path), &seen).digest, Digest::Changed);
        fs::remove_file(&path).expect("removed");
        assert_eq!(content(&at(&path), &seen).digest, Digest::Gone);
        assert_eq!(content(&at(dir.path()), &seen).digest, Digest::Changed);
    }

    #[test]
    fn held_files_outlive_their_name() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("a");
        fs::write(&path, "one").expect("written");
        let held = hold(&path, OFlags::empty()).expect("held");
        fs::remove_file(&path).expect("removed");
        let seen = identity(&held).expect("identity");
        let found = content(&Places { held: Some(held), paths: Vec::new() }, &seen);
        assert!(matches!(found.digest, Digest::Sha256(_)));
    }

    #[test]
    fn what_cannot_be_read_says_so() {
        // A regular file whose first byte cannot be read, by root either: nothing is mapped there.
        let path = Path::new("/proc/self/mem");
        let found = content(&at(path), &id(path));
        assert_eq!((found.digest, found.lasting), (Digest::Unreadable, false));
    }

    #[test]
    fn fifos_and_devices_are_not_opened() {
        let expect = FileId::default();
        assert_eq!(content(&at(Path::new("/dev/zero")), &expect).digest, Digest::Changed);
    }
}
