//! A file whose text is replaced as a whole.
//!
//! The new text is written beside the file and renamed over it, so that a crash, a full disk and a reload of the daemon in
//! between see the old text or the new one. A symbolic link stays what it is: what it leads to is replaced. Mode and owner are
//! kept. A file that would lose something else (other names, an access list, attributes), or that cannot be written, is left
//! as it is.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use rustix::{
    fs::{Access, AtFlags, CWD, accessat, flistxattr, fremovexattr},
    io::Errno,
};
use treeline_policy::source::TEXT_LEN_MAX;

/// The attribute that has a POSIX access list.
const ACCESS_LIST: &str = "system.posix_acl_access";
/// Bytes that the names of all attributes of a file take at most (`XATTR_LIST_MAX` of Linux).
const NAMES_LEN_MAX: usize = 64 * 1024;

/// A file that was read, and what has to be as it was when it is replaced.
#[derive(Debug)]
pub(super) struct Replaceable {
    /// Without symbolic links.
    path: PathBuf,
    opened: File,
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
    let mut bytes = Vec::new();
    (&opened).take(TEXT_LEN_MAX as u64 + 1).read_to_end(&mut bytes)?;
    let is_too_long = bytes.len() > TEXT_LEN_MAX;
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(_) if is_too_long => " ".repeat(TEXT_LEN_MAX + 1),
        Err(error) => return Err(error).context("it is not UTF-8"),
    };
    Ok((text, Replaceable { path, opened, state: State::of(&metadata) }))
}

impl Replaceable {
    /// Its path, without symbolic links.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the text.
    ///
    /// # Errors
    /// It would lose something, is not to be written, was changed since it was read, or cannot be replaced; it is as it was then.
    pub(super) fn replace(&self, text: &str) -> anyhow::Result<()> {
        self.refuse_losses()?;
        self.refuse_unwritable()?;
        let directory = self.path.parent().context("it has no directory")?;
        // Before the file is replaced: afterwards it would be an error about what has been done.
        let opened = File::open(directory).context("its directory cannot be opened")?;
        let mut new = tempfile::Builder::new().prefix(".treeline-fmt-").tempfile_in(directory)?;
        self.keep(new.as_file()).context("its mode and owner cannot be kept")?;
        new.write_all(text.as_bytes())?;
        new.as_file().sync_all()?;
        ensure!(
            State::of(&fs::symlink_metadata(&self.path)?) == self.state,
            "it was changed while it was read; try again"
        );
        new.persist(&self.path)?;
        opened.sync_all().context("it is written, but a crash can bring the old text back")?;
        Ok(())
    }

    /// What a new file in its place would not have.
    fn refuse_losses(&self) -> anyhow::Result<()> {
        let count = self.opened.metadata()?.nlink();
        ensure!(
            count == 1,
            "it has {count} names (hard links), and the others would keep the old text; give it as `-` and write it yourself"
        );
        for name in attributes(&self.opened).context("its extended attributes cannot be read")? {
            if name == ACCESS_LIST {
                bail!(
                    "it has a POSIX access list (`getfacl` prints it), which a new file in its place would not have; give it as `-` and write it yourself"
                );
            }
            // Those of `security` are the kernel's to give. Others of `system` are what a file system says of every file.
            ensure!(
                !name.starts_with("user.") && !name.starts_with("trusted."),
                "it has the extended attribute `{name}`, which a new file in its place would not have; give it as `-` and write it yourself"
            );
        }
        Ok(())
    }

    /// A new file in its place only needs a directory that can be written. Nobody may write what has no such right at all: for
    /// root, who is not asked for rights, it is what the owner wants all the same.
    fn refuse_unwritable(&self) -> anyhow::Result<()> {
        ensure!(
            self.state.mode & 0o222 != 0,
            "it is read-only (mode {:04o}); `chmod u+w` lets it be written",
            self.state.mode & 0o7777
        );
        accessat(CWD, &self.path, Access::WRITE_OK, AtFlags::EACCESS).context("it cannot be written")
    }

    /// Gives a new file the mode and the owner of this one, and no access list, which it can have of its directory. The owner
    /// first: a change of it takes bits of the mode away.
    fn keep(&self, new: &File) -> io::Result<()> {
        let State { owner, mode, .. } = self.state;
        let metadata = new.metadata()?;
        if (metadata.uid(), metadata.gid()) != owner {
            fchown(new, Some(owner.0), Some(owner.1))?;
        }
        match fremovexattr(new, ACCESS_LIST) {
            Ok(()) | Err(Errno::NODATA | Errno::NOTSUP) => {}
            Err(error) => return Err(error.into()),
        }
        new.set_permissions(fs::Permissions::from_mode(mode & 0o7777))
    }
}

/// The names of the extended attributes of a file; none where the file system has no such thing.
fn attributes(file: &File) -> io::Result<Vec<String>> {
    let mut names = vec![0; NAMES_LEN_MAX];
    let len = match flistxattr(file, names.as_mut_slice()) {
        Err(Errno::NOTSUP | Errno::NOSYS) => 0,
        listed => listed?,
    };
    let names = names[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names.map(|name| String::from_utf8_lossy(name).into_owned()).collect())
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

    use rustix::fs::{XattrFlags, setxattr};

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
        fs::write(dir.path().join("bytes"), b"a: \xff").expect("a file");
        check(&dir.path().join("bytes"), "not UTF-8");
    }

    #[track_caller]
    fn check_left(dir: &Path, file: &Path, words: &str) {
        let (_, place) = read(file).expect("it can be read and checked");
        let error = place.replace("new").expect_err("it is left");
        assert!(format!("{error:#}").contains(words), "{error:#}");
        assert_eq!(fs::read_to_string(file).expect("a file"), "old");
        let is_new = |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(b".treeline");
        let left = fs::read_dir(dir).expect("a directory").filter_map(Result::ok);
        assert_eq!(left.filter(|entry| is_new(&entry.file_name())).count(), 0);
    }

    #[test]
    fn what_would_lose_something_is_left() {
        let (dir, file) = directory();
        fs::hard_link(&file, dir.path().join("second")).expect("a link");
        check_left(dir.path(), &file, "2 names");
        let (dir, file) = directory();
        setxattr(&file, "user.review", b"done", XattrFlags::empty()).expect("an attribute");
        check_left(dir.path(), &file, "`user.review`");
        let (dir, file) = directory();
        setxattr(&file, ACCESS_LIST, &access_list(), XattrFlags::empty()).expect("an access list");
        check_left(dir.path(), &file, "POSIX access list");
        let (dir, file) = directory();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o444)).expect("a mode");
        check_left(dir.path(), &file, "read-only (mode 0444)");
    }

    #[test]
    fn no_access_list_comes_of_the_directory() {
        let (dir, file) = directory();
        setxattr(dir.path(), "system.posix_acl_default", &access_list(), XattrFlags::empty())
            .expect("a list");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o664)).expect("a mode");
        read(&file).expect("a file").1.replace("new").expect("it is replaced");
        let new = File::open(&file).expect("a file");
        assert_eq!(attributes(&new).expect("a list"), Vec::<String>::new());
        assert_eq!(new.metadata().expect("a file").mode() & 0o7777, 0o664);
    }

    /// The owner and the user 4242 may read and write, the group and others nothing.
    fn access_list() -> Vec<u8> {
        let entries: [(u16, u16, u32); 5] =
            [(1, 6, u32::MAX), (2, 6, 4242), (4, 0, u32::MAX), (0x10, 6, u32::MAX), (0x20, 0, u32::MAX)];
        let entries = entries.into_iter().flat_map(|(tag, rights, id)| {
            [tag.to_le_bytes().as_slice(), &rights.to_le_bytes(), &id.to_le_bytes()].concat()
        });
        2_u32.to_le_bytes().into_iter().chain(entries).collect()
    }
}
