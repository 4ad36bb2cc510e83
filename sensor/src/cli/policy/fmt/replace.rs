//! A file whose text is replaced as a whole.
//!
//! The new text is written beside the file and renamed over it, so that a crash, a full disk and a reload of the daemon in
//! between see the old text or the new one. A symbolic link stays what it is: what it leads to is replaced. Mode and owner are kept; where
//! they cannot be, nothing is replaced.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use treeline_policy::source::TEXT_LEN_MAX;

/// A file that was read, and that it can be replaced.
#[derive(Debug)]
pub(super) struct Replaceable {
    /// Without symbolic links.
    path: PathBuf,
    state: State,
}

/// What changes with a file.
#[derive(Debug, PartialEq, Eq)]
struct State {
    identity: (u64, u64),
    len: u64,
    modified_ns: (i64, i64),
    mode: u32,
    owner: (u32, u32),
}

/// Reads a file that is to be replaced, or so much of it that it is known to be too long.
pub(super) fn read(file: &Path) -> anyhow::Result<(String, Replaceable)> {
    let path = fs::canonicalize(file)?;
    // Opening another kind of file can wait, or do something.
    ensure!(fs::metadata(&path)?.is_file(), "it is no regular file");
    let opened = File::open(&path)?;
    let metadata = opened.metadata()?;
    ensure!(
        metadata.nlink() == 1,
        "it has {} names (hard links), and the others would keep the old text; give it as `-` and write it yourself",
        metadata.nlink()
    );
    let mut bytes = Vec::new();
    opened.take(TEXT_LEN_MAX as u64 + 1).read_to_end(&mut bytes)?;
    let is_too_long = bytes.len() > TEXT_LEN_MAX;
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(_) if is_too_long => " ".repeat(TEXT_LEN_MAX + 1),
        Err(error) => return Err(error).context("it is not UTF-8"),
    };
    Ok((text, Replaceable { path, state: State::of(&metadata) }))
}

impl Replaceable {
    /// Replaces the text.
    pub(super) fn replace(&self, text: &str) -> anyhow::Result<()> {
        let directory = self.path.parent().context("it has no directory")?;
        let mut new = tempfile::Builder::new().prefix(".treeline-fmt-").tempfile_in(directory)?;
        new.write_all(text.as_bytes())?;
        self.keep(new.as_file()).context("its mode and owner cannot be kept")?;
        new.as_file().sync_all()?;
        ensure!(
            State::of(&fs::symlink_metadata(&self.path)?) == self.state,
            "it was changed while it was read; try again"
        );
        new.persist(&self.path)?;
        File::open(directory)?.sync_all()?;
        Ok(())
    }

    /// Gives a new file the mode and the owner of this one. The owner first: a change of it takes bits of the mode away.
    fn keep(&self, new: &File) -> io::Result<()> {
        let State { owner, mode, .. } = self.state;
        let metadata = new.metadata()?;
        if (metadata.uid(), metadata.gid()) != owner {
            fchown(new, Some(owner.0), Some(owner.1))?;
        }
        new.set_permissions(fs::Permissions::from_mode(mode & 0o7777))
    }
}

impl State {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            identity: (metadata.dev(), metadata.ino()),
            len: metadata.len(),
            modified_ns: (metadata.mtime(), metadata.mtime_nsec()),
            mode: metadata.mode(),
            owner: (metadata.uid(), metadata.gid()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn directory() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("p.yaml");
        fs::write(&file, "old").expect("a file");
        (dir, file)
    }

    #[test]
    fn mode_and_owner_are_kept_and_nothing_else_is_left() {
        let (dir, file) = directory();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("a mode");
        // Only root can give a file away.
        let owner = if rustix::process::geteuid().is_root() {
            (4242, 4243)
        } else {
            State::of(&fs::metadata(&file).expect("a file")).owner
        };
        std::os::unix::fs::chown(&file, Some(owner.0), Some(owner.1)).expect("an owner");
        let (text, place) = read(&file).expect("a file");
        assert_eq!(text, "old");
        place.replace("new").expect("it is replaced");
        let after = fs::metadata(&file).expect("a file");
        assert_eq!((after.mode() & 0o7777, (after.uid(), after.gid())), (0o640, owner));
        assert_eq!(fs::read_to_string(&file).expect("a file"), "new");
        assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 1);
    }

    #[test]
    fn a_link_stays_and_what_it_leads_to_is_replaced() {
        let (dir, file) = directory();
        let link = dir.path().join("link");
        symlink("p.yaml", &link).expect("a link");
        read(&link).expect("a file").1.replace("new").expect("it is replaced");
        assert_eq!(fs::read_link(&link).expect("a link"), Path::new("p.yaml"));
        assert_eq!(fs::read_to_string(&file).expect("a file"), "new");
    }

    #[test]
    fn what_is_not_replaced() {
        let (dir, file) = directory();
        let check = |path: &Path, words: &str| {
            let error = read(path).expect_err("it is refused");
            assert!(format!("{error:#}").contains(words), "{error:#}");
        };
        check(dir.path(), "no regular file");
        check(&dir.path().join("gone"), "No such file");
        let place = read(&file).expect("a file").1;
        fs::write(&file, "other text").expect("a file");
        let error = place.replace("new").expect_err("it was changed");
        assert!(error.to_string().contains("changed while"), "{error}");
        assert_eq!(fs::read_to_string(&file).expect("a file"), "other text");
        assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 1);
        fs::hard_link(&file, dir.path().join("second")).expect("a link");
        check(&file, "2 names");
        fs::write(dir.path().join("bytes"), b"a: \xff").expect("a file");
        check(&dir.path().join("bytes"), "not UTF-8");
    }
}
