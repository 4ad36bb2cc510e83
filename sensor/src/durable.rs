//! Files that are there whole or not at all.

use std::{
    fs::{File, Permissions},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

/// Replaces a file so that a crash leaves the old or the new one, with these permission bits.
///
/// # Errors
/// It cannot be written, or its directory is missing; the one before is still there.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        for (text, mode) in [("first", 0o600), ("2", 0o644)] {
            replace(&path, text.as_bytes(), mode).expect("it is written");
            let found = fs::metadata(&path).expect("it is there").permissions().mode() & 0o777;
            assert_eq!((fs::read_to_string(&path).expect("text").as_str(), found), (text, mode));
        }
        assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 1, "nothing else is left");
        let missing = dir.path().join("missing/file");
        assert!(replace(&missing, b"", 0o600).is_err() && !missing.exists());
    }
}
