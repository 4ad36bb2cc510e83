//! The highest revisions of signed policies that were to come into force: nobody brings back what was replaced. The policies that
//! were the organisation's are one row of numbers; those of teams one for each name.

use std::{
    cmp::Ordering,
    collections::BTreeMap,
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

/// Names of teams' policies that are remembered, also of those that are not here any more.
const TEAMS_MAX: usize = 1024;

/// Bytes of it that are read: so many of the longest names fit.
const LEN_MAX: u64 = 1 << 20;

/// What policies must not be older than.
#[derive(Debug)]
pub struct Floor {
    path: PathBuf,
    marks: Marks,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored")]
struct Marks {
    /// Of the organisation.
    #[serde(flatten)]
    organisation: Option<Mark>,
    /// Of teams, by the names of their policies.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    teams: BTreeMap<String, Mark>,
}

/// The file: as it was when there was one policy, with what teams have beside it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    revision: Option<u64>,
    statement: Option<String>,
    #[serde(default)]
    teams: BTreeMap<String, Mark>,
}

impl TryFrom<Stored> for Marks {
    type Error = &'static str;

    /// A half of a mark is none, and a file without any was not written here.
    fn try_from(Stored { revision, statement, teams }: Stored) -> Result<Self, Self::Error> {
        let organisation = match (revision, statement) {
            (Some(revision), Some(statement)) => Some(Mark { revision, statement }),
            (None, None) if !teams.is_empty() => None,
            _ => return Err("it does not say which revision was in force"),
        };
        Ok(Self { organisation, teams })
    }
}

/// Which row of numbers a policy is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row<'a> {
    /// The organisation's.
    Organisation,
    /// That of a team's policy, by its name.
    Team(&'a str),
}

impl Marks {
    fn of(&self, row: Row<'_>) -> Option<&Mark> {
        match row {
            Row::Organisation => self.organisation.as_ref(),
            Row::Team(name) => self.teams.get(name),
        }
    }

    fn put(&mut self, row: Row<'_>, mark: Mark) {
        match row {
            Row::Organisation => self.organisation = Some(mark),
            Row::Team(name) => _ = self.teams.insert(name.to_owned(), mark),
        }
    }
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
            Ok(marks) => Ok(Self { path, marks }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(Self { path, marks: Marks::default() })
            }
            Err(source) => Err(FloorError::Unreadable { path, source }),
        }
    }

    /// Whether this sensor may go without keys: no other one here had some.
    ///
    /// # Errors
    /// [`FloorError::NoKeys`].
    pub fn allows_unsigned(&self) -> Result<(), FloorError> {
        match self.marks.organisation.as_ref().or_else(|| self.marks.teams.values().next()) {
            None => Ok(()),
            Some(mark) => Err(FloorError::NoKeys { path: self.path.clone(), revision: mark.revision }),
        }
    }

    /// Whether a policy may come after what was in force.
    ///
    /// # Errors
    /// [`SignatureError::Older`], [`SignatureError::SameRevision`].
    pub fn admits(&self, row: Row<'_>, signed: &Signed) -> Result<(), SignatureError> {
        let Some(Mark { revision: in_force, statement }) = self.marks.of(row) else { return Ok(()) };
        let revision = signed.revision;
        match revision.cmp(in_force) {
            Ordering::Less => Err(SignatureError::Older { revision, in_force: *in_force }),
            Ordering::Equal if signed.statement != *statement => {
                Err(SignatureError::SameRevision { revision })
            }
            Ordering::Equal | Ordering::Greater => Ok(()),
        }
    }

    /// Takes policies as those that come into force together. To be called before they do: what the next start would not know
    /// of could be replaced by something older then.
    ///
    /// # Errors
    /// It cannot be written; nothing has changed.
    pub fn raise<'a>(&mut self, all: impl IntoIterator<Item = (Row<'a>, &'a Signed)>) -> io::Result<()> {
        let mut marks = self.marks.clone();
        for (row, Signed { revision, statement, .. }) in all {
            if marks.of(row).is_none_or(|before| before.revision < *revision) {
                marks.put(row, Mark { revision: *revision, statement: statement.clone() });
            }
        }
        if marks.teams.len() > TEAMS_MAX {
            let why = format!("policies of more than {TEAMS_MAX} names were in force here");
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, why));
        }
        if marks != self.marks {
            keep(&self.path, &marks)?;
            self.marks = marks;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: Row<'_> = Row::Organisation;

    fn signed(revision: u64, statement: &str) -> Signed {
        Signed { revision, key: "k".to_owned(), statement: statement.to_owned() }
    }

    #[test]
    fn nothing_older_comes_after_what_was_in_force() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut floor = Floor::read(dir.path()).expect("there is none");
        let check = |floor: &Floor, signed: Signed, expect: Option<&str>| {
            let found = floor.admits(ROW, &signed).err().map(|error| error.to_string());
            assert_eq!(found.is_some(), expect.is_some(), "{found:?}");
            assert!(found.zip(expect).is_none_or(|(found, words)| found.contains(words)));
        };
        check(&floor, signed(1, "a"), None);
        assert!(floor.allows_unsigned().is_ok());
        floor.raise([(ROW, &signed(7, "a"))]).expect("it is written");
        floor.raise([(ROW, &signed(6, "b"))]).expect("nothing is written");
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
    fn each_team_has_numbers_of_its_own() {
        let dir = tempfile::tempdir().expect("a directory");
        // As it was when there was one policy.
        let before = "{\"revision\":7,\"statement\":\"a\"}";
        fs::write(dir.path().join(NAME), before).expect("a file");
        let mut floor = Floor::read(dir.path()).expect("it is there");
        let [build, web] = ["build", "web"].map(Row::Team);
        assert!(floor.admits(ROW, &signed(6, "x")).is_err() && floor.admits(build, &signed(1, "x")).is_ok());
        floor.raise([(ROW, &signed(7, "a"))]).expect("nothing is written");
        assert_eq!(fs::read_to_string(dir.path().join(NAME)).expect("a file"), before);
        floor.raise([(ROW, &signed(8, "b")), (build, &signed(3, "c"))]).expect("it is written");
        for floor in [&floor, &Floor::read(dir.path()).expect("what was written")] {
            assert!(
                floor.admits(ROW, &signed(7, "a")).is_err() && floor.admits(build, &signed(2, "x")).is_err()
            );
            assert!(
                floor.admits(build, &signed(3, "c")).is_ok() && floor.admits(web, &signed(1, "x")).is_ok()
            );
        }
    }

    #[test]
    fn what_cannot_be_told_is_not_taken_for_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        for damaged in
            ["{", "{}", "{\"revision\":7}", "{\"revision\":7,\"teams\":{}}", "{\"teams\":{\"a\":{}}}"]
        {
            fs::write(dir.path().join(NAME), damaged).expect("a file");
            let error = Floor::read(dir.path()).expect_err("it is damaged").to_string();
            assert!(error.contains("cannot tell which revision") && error.contains("remove it"), "{error}");
        }
        let mut floor = Floor::read(&dir.path().join("missing")).expect("there is none");
        let names: Vec<String> = (0..=TEAMS_MAX).map(|number| number.to_string()).collect();
        let one = signed(1, "a");
        let many = names.iter().map(|name| (Row::Team(name), &one));
        assert!(floor.raise(many).expect_err("too many").to_string().contains("more than 1024 names"));
        floor.raise([(ROW, &signed(7, "a"))]).expect_err("there is no directory");
        assert!(floor.allows_unsigned().is_ok(), "nothing has changed");
    }
}
