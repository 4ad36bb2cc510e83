//! The highest revision of a signed policy that was to come into force: nobody brings back what was replaced.

use std::{
    cmp::Ordering,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    keep,
    signature::{SignatureError, Signed},
};

/// In the state directory, apart from the copy of the policy: it says what it says whoever signed that, and whether or not
/// this version understands it.
const NAME: &str = "policy.revision.json";

/// Bytes of it that are read.
const LEN_MAX: u64 = 4096;

/// What a policy must not be older than.
#[derive(Debug)]
pub struct Floor {
    path: PathBuf,
    mark: Option<Mark>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    revision: u64,
    /// SHA-256 of what was signed.
    statement: String,
}

/// Why it is not known how old a policy may be.
#[derive(Debug, thiserror::Error)]
pub enum FloorError {
    /// It is there and cannot be read.
    #[error(
        "cannot tell which revision was in force: `{}` cannot be read; put it back from a backup, or remove it to begin anew with any revision",
        path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Signatures were asked for, and no longer are.
    #[error(
        "policies had to be signed here (revision {revision} was in force), and the configuration has no `policy_keys`: put them back, or remove `{}` to give that up",
        path.display()
    )]
    NoKeys {
        /// The file.
        path: PathBuf,
        /// The highest.
        revision: u64,
    },
}

impl Floor {
    /// As the state directory has it; none where there is no file.
    ///
    /// # Errors
    /// [`FloorError::Unreadable`].
    pub fn read(state_dir: &Path) -> Result<Self, FloorError> {
        use io::Read as _;
        let path = state_dir.join(NAME);
        let read = || {
            let mut text = String::new();
            fs::File::open(&path)?.take(LEN_MAX).read_to_string(&mut text)?;
            serde_json::from_str(&text).map_err(io::Error::from)
        };
        match read() {
            Ok(mark) => Ok(Self { path, mark: Some(mark) }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self { path, mark: None }),
            Err(source) => Err(FloorError::Unreadable { path, source }),
        }
    }

    /// Whether this sensor may go without keys: no other one here had some.
    ///
    /// # Errors
    /// [`FloorError::NoKeys`].
    pub fn allows_unsigned(&self) -> Result<(), FloorError> {
        match &self.mark {
            None => Ok(()),
            Some(mark) => Err(FloorError::NoKeys { path: self.path.clone(), revision: mark.revision }),
        }
    }

    /// Whether a policy may come after what was in force.
    ///
    /// # Errors
    /// [`SignatureError::Older`], [`SignatureError::SameRevision`].
    pub fn admits(&self, signed: &Signed) -> Result<(), SignatureError> {
        let Some(Mark { revision: in_force, statement }) = &self.mark else { return Ok(()) };
        let revision = signed.revision;
        match revision.cmp(in_force) {
            Ordering::Less => Err(SignatureError::Older { revision, in_force: *in_force }),
            Ordering::Equal if signed.statement != *statement => {
                Err(SignatureError::SameRevision { revision })
            }
            Ordering::Equal | Ordering::Greater => Ok(()),
        }
    }

    /// Takes a policy as one that comes into force. To be called before it does: what the next start would not know of
    /// could be replaced by something older then.
    ///
    /// # Errors
    /// It cannot be written; nothing has changed.
    pub fn raise(&mut self, signed: &Signed) -> io::Result<()> {
        let mark = Mark { revision: signed.revision, statement: signed.statement.clone() };
        if self.mark.as_ref().is_none_or(|before| before.revision < mark.revision) {
            keep(&self.path, &mark)?;
            self.mark = Some(mark);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(revision: u64, statement: &str) -> Signed {
        Signed { revision, key: "k".to_owned(), statement: statement.to_owned() }
    }

    #[test]
    fn nothing_older_comes_after_what_was_in_force() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut floor = Floor::read(dir.path()).expect("there is none");
        let check = |floor: &Floor, signed: Signed, expect: Option<&str>| {
            let found = floor.admits(&signed).err().map(|error| error.to_string());
            assert_eq!(found.is_some(), expect.is_some(), "{found:?}");
            assert!(found.zip(expect).is_none_or(|(found, words)| found.contains(words)));
        };
        check(&floor, signed(1, "a"), None);
        assert!(floor.allows_unsigned().is_ok());
        floor.raise(&signed(7, "a")).expect("it is written");
        floor.raise(&signed(6, "b")).expect("nothing is written");
        for floor in [&floor, &Floor::read(dir.path()).expect("what was written")] {
            check(floor, signed(6, "b"), Some("its revision 6 is older than 7"));
            check(floor, signed(7, "a"), None);
            check(floor, signed(7, "b"), Some("another text was in force here as revision 7"));
            check(floor, signed(8, "b"), None);
            let error = floor.allows_unsigned().expect_err("there were keys").to_string();
            assert!(error.contains("revision 7 was in force") && error.contains(NAME), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_told_is_not_taken_for_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join(NAME), "{").expect("a file");
        let error = Floor::read(dir.path()).expect_err("it is damaged").to_string();
        assert!(error.contains("cannot tell which revision") && error.contains("remove it"), "{error}");
        let mut floor = Floor::read(&dir.path().join("missing")).expect("there is none");
        floor.raise(&signed(7, "a")).expect_err("there is no directory");
        assert!(floor.allows_unsigned().is_ok(), "nothing has changed");
    }
}
