//! The files of a policy.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use rustix::fs::OFlags;
use treeline_policy::{
    Loader, NotLoaded,
    source::{Source, TEXT_LEN_MAX},
};

/// Bytes of a policy that are read: one more than the language allows, so that a longer one is refused as too long.
const POLICY_LEN_MAX: u64 = TEXT_LEN_MAX as u64 + 1;

/// Reads a text.
///
/// # Errors
/// It cannot be read, or is no UTF-8.
pub fn read(file: &Path) -> anyhow::Result<Source> {
    let text = text(file).with_context(|| format!("cannot read `{}`", file.display()))?;
    Ok(Source::new(&file.display().to_string(), &text))
}

/// Opens a regular file: to open another kind of file can wait for somebody, or do something.
///
/// # Errors
/// It cannot be opened, or is something else.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"))
    }
}

/// The text of a file, or so much of it that it is known to be too long.
///
/// # Errors
/// It cannot be read, is no regular file, or is no UTF-8.
pub(super) fn text(file: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    open(file)?.take(POLICY_LEN_MAX).read_to_end(&mut bytes)?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        // Cut within a character, it is too long in any case.
        Err(error) if error.as_bytes().len() as u64 == POLICY_LEN_MAX => {
            Ok(" ".repeat(error.as_bytes().len()))
        }
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let why = format!("it is not UTF-8: byte {at} is not part of a character");
            Err(io::Error::new(io::ErrorKind::InvalidData, why))
        }
    }
}

/// The files below the directory of a policy's own file.
#[derive(Debug)]
pub struct Below(PathBuf);

impl Below {
    /// Those that `policy` can include.
    #[must_use]
    pub fn directory_of(policy: &Path) -> Self {
        Self(policy.parent().unwrap_or(Path::new("")).to_owned())
    }

    /// Why a file must not be read.
    fn objection(&self, file: &Path) -> anyhow::Result<Option<&'static str>> {
        let directory = if self.0.as_os_str().is_empty() { Path::new(".") } else { &self.0 };
        let own = file.canonicalize()?;
        if !own.starts_with(directory.canonicalize()?) {
            return Ok(Some("a symbolic link leads out of the directory of the policy"));
        }
        // Opening another kind of file can wait, or do something.
        Ok((!own.metadata()?.is_file()).then_some("it is no regular file"))
    }
}

impl Loader for Below {
    fn load(&self, path: &str) -> Result<Source, NotLoaded> {
        let file = self.0.join(path);
        let refused = |why: String, help: &str| NotLoaded { why, help: Some(help.to_owned()) };
        let unreadable = |error: anyhow::Error| {
            let help = "paths are relative to the directory of the file that includes";
            refused(format!("{error:#}"), help)
        };
        match self.objection(&file).map_err(unreadable)? {
            Some(why) => Err(refused(why.to_owned(), "put the file itself there")),
            None => read(&file).map_err(unreadable),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use treeline_policy::parse_with;

    use super::*;
    use crate::daemon::policy::{LoadError, signature::Trust};

    #[test]
    fn what_can_be_included() {
        let outside = tempfile::tempdir().expect("a directory");
        let dir = tempfile::tempdir().expect("a directory");
        let at = |path: &str| dir.path().join(path);
        fs::create_dir(at("common")).expect("a directory");
        let rule = "version: 1\nrules: [{id: a, kind: file, paths: [/x], reason: r}]\n";
        fs::write(at("common/a"), rule).expect("a file");
        fs::write(at("not-text"), b"version: 1\n\xff").expect("a file");
        fs::write(outside.path().join("secret"), rule).expect("a file");
        symlink("a", at("common/link")).expect("a link");
        symlink(outside.path(), at("out")).expect("a link");
        let check = |path: &str, expect: &[&str]| {
            let policy = at("policy.yaml");
            fs::write(&policy, format!("version: 1\nname: t\ninclude: [{path}]\n")).expect("a file");
            let read = parse_with(&Below::directory_of(&policy), read(&policy).expect("a policy"), None);
            match read {
                Ok(policy) => assert_eq!((policy.rules.len(), expect.len()), (1, 0), "{path}"),
                Err(found) => {
                    let text = found.to_string();
                    assert!(!expect.is_empty() && expect.iter().all(|words| text.contains(words)), "{text}");
                    assert!(text.contains("policy.yaml:3:11"), "{text}");
                }
            }
        };
        check("common/a", &[]);
        check("common/link", &[]);
        check("missing", &["`missing` cannot be included: No such file", "relative to the directory"]);
        check("out/secret", &["leads out of the directory"]);
        check("common", &["no regular file"]);
        check("not-text", &["byte 11 is not part of a character"]);
        check("policy.yaml", &["includes itself"]);
    }

    fn make_fifo(path: &Path) {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).expect("a fifo");
    }

    #[test]
    fn what_is_no_regular_file_is_not_waited_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let fifo = dir.path().join("fifo");
        make_fifo(&fifo);
        for file in [fifo.as_path(), dir.path(), Path::new("/dev/null")] {
            let error = read(file).expect_err("no regular file");
            assert!(format!("{error:#}").ends_with("it is no regular file"), "{error:#}");
            let error = super::super::load(file, &Trust::default()).expect_err("no regular file");
            assert!(
                matches!(&error, LoadError::Read { source, .. } if source.to_string() == "it is no regular file")
            );
        }
    }

    #[test]
    fn a_policy_in_the_working_directory_has_files_below_it() {
        let below = Below::directory_of(Path::new("policy.yaml"));
        let error = below.load("no/such/file").expect_err("it is not there");
        assert!(error.why.contains("No such file"), "{}", error.why);
        assert_eq!(below.load("Cargo.toml").expect("of this crate").name(), "Cargo.toml");
    }
}
