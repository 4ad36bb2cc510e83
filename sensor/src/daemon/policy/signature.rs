//! Signed policies: a note beside the policy (`c2sp.org/signed-note`) says which texts somebody answers for, and as
//! which revision. Where keys are configured, no other policy is put in force, and none that is older.

use std::{
    io,
    path::{Path, PathBuf},
};

use treeline_policy::{Loader, NotLoaded, policy::Level, source::Source};
use treeline_tlog::{Note, NoteError, Verifier as _, VerifierKey, note::NOTE_LEN_MAX};

use super::{bundle::digest, files, statement::Statement};
use crate::log::PublicKey;

/// Where the note of a policy is.
#[must_use]
pub fn note_of(policy: &Path) -> PathBuf {
    policy.with_added_extension("note")
}

/// Reads the note beside a policy.
///
/// # Errors
/// [`SignatureError::NoNote`], [`SignatureError::Unreadable`].
pub fn read_note(policy: &Path) -> Result<String, SignatureError> {
    use io::Read as _;
    let path = note_of(policy);
    let mut note = String::new();
    let read =
        files::open(&path).and_then(|file| file.take(NOTE_LEN_MAX as u64 + 1).read_to_string(&mut note));
    match read {
        Ok(_) => Ok(note),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(SignatureError::NoNote { policy: policy.to_owned(), note: path })
        }
        Err(source) => Err(SignatureError::Unreadable { note: path, source }),
    }
}

/// Why a policy is not put in force where signed ones are asked for.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// Nobody signed it.
    #[error(
        "it is not signed: there is no `{}`; `treeline policy sign --key FILE {}` makes it",
        note.display(), policy.display()
    )]
    NoNote {
        /// The policy.
        policy: PathBuf,
        /// Where its note would be.
        note: PathBuf,
    },
    /// The note cannot be read.
    #[error("cannot read `{}`", note.display())]
    Unreadable {
        /// The note.
        note: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// It is no note, or a signature is wrong.
    #[error("its note is not to be trusted")]
    Note(#[from] NoteError),
    /// Other keys signed it.
    #[error("its note is signed by {found}, and by none of the keys that are trusted here: {trusted}")]
    OtherKeys {
        /// Names and ids of the keys that did.
        found: String,
        /// Those that are trusted.
        trusted: String,
    },
    /// What was signed is no statement about a policy.
    #[error("what its note says is not understood: {0}")]
    Statement(&'static str),
    /// The text is another one.
    #[error(
        "its text is not the one that was signed, of revision {revision}: sign it again, with a higher `revision`"
    )]
    Changed {
        /// Of what was signed.
        revision: u64,
    },
    /// The note says something else of the policy than the policy.
    #[error("its note is about {0}")]
    About(String),
    /// It has no number.
    #[error(
        "it has no `revision`, and a signed policy needs one: add `revision: 1`, and a higher one with each change"
    )]
    NoRevision,
    /// An older one than what was in force.
    #[error(
        "its revision {revision} is older than {in_force}, which was in force here: to go back to an older text, sign it with a revision above {in_force}"
    )]
    Older {
        /// Of this policy.
        revision: u64,
        /// The highest that was in force.
        in_force: u64,
    },
    /// The same number for two things.
    #[error("another text was in force here as revision {revision}: sign this one with a higher revision")]
    SameRevision {
        /// Of both.
        revision: u64,
    },
}

/// Who signed a policy, and as which revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The revision.
    pub revision: u64,
    /// The key, as `NAME+ID`.
    pub key: String,
    /// SHA-256 of what was signed, lower-case hexadecimal.
    pub statement: String,
}

/// Whose policies are put in force.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    keys: Vec<PublicKey>,
    level: Level,
}

impl Trust {
    /// Those that one of these keys signed; everybody's without a key.
    #[must_use]
    pub fn new(keys: &[VerifierKey]) -> Self {
        Self { keys: keys.iter().cloned().map(PublicKey).collect(), level: Level::Organisation }
    }

    /// The same for policies of a level. Nobody needs to have signed what can only tighten.
    #[must_use]
    pub fn at(&self, level: Level) -> Self {
        let keys = if level == Level::Local { Vec::new() } else { self.keys.clone() };
        Self { keys, level }
    }

    /// Whose policies they have to have signed it to be.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// Whether a policy has to be signed.
    #[must_use]
    pub fn asks_for_signatures(&self) -> bool {
        !self.keys.is_empty()
    }

    /// What a trusted key says in a note. One wrong signature of such a key is enough to refuse it.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn statement(&self, note: &str) -> Result<(Statement, Signed), SignatureError> {
        let note = Note::parse(note.as_bytes())?;
        let mut by = None;
        for key in &self.keys {
            match note.verify(key) {
                Ok(_) => by = by.or(Some(key)),
                Err(NoteError::NotSigned { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let Some(by) = by else {
            let found = note.signatures().iter().map(|signature| key(signature.name, signature.id));
            let trusted = self.keys.iter().map(|trusted| key(trusted.name(), trusted.id()));
            return Err(SignatureError::OtherKeys { found: words(found), trusted: words(trusted) });
        };
        let statement: Statement = note.unverified_text().parse().map_err(SignatureError::Statement)?;
        let signed = Signed {
            revision: statement.revision,
            key: key(by.name(), by.id()),
            statement: digest(note.unverified_text()),
        };
        Ok((statement, signed))
    }
}

fn key(name: &str, id: u32) -> String {
    format!("{name}+{id:08x}")
}

fn words(all: impl Iterator<Item = String>) -> String {
    // Anybody can put any name into a note.
    all.map(|one| format!("`{}`", one.escape_default())).collect::<Vec<_>>().join(", ")
}

/// Gives only what was signed.
pub(super) struct OnlySigned<'a, L> {
    pub(super) from: L,
    /// `None` when nothing has to be.
    pub(super) statement: Option<&'a Statement>,
}

impl<L: Loader> Loader for OnlySigned<'_, L> {
    fn load(&self, path: &str) -> Result<Source, NotLoaded> {
        let Some(statement) = self.statement else { return self.from.load(path) };
        let refused = |why: &str| NotLoaded {
            why: why.to_owned(),
            help: Some("sign the policy again, with a higher `revision`".to_owned()),
        };
        let signed =
            statement.included.get(path).ok_or_else(|| refused("it is not among what was signed"))?;
        let source = self.from.load(path)?;
        if digest(source.text()) == *signed {
            Ok(source)
        } else {
            Err(refused("its text is not the one that was signed"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use treeline_tlog::note;

    use super::*;
    use crate::{
        daemon::policy::{
            self, LoadError, LoadedFile,
            set::{LoadedPolicy, PolicyFiles, kept, load_all},
        },
        log::SoftwareKey,
    };

    struct Files(tempfile::TempDir);

    impl Files {
        fn at(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.at(name), text).expect("a file");
        }

        /// Signs what is there.
        fn sign(&self, key: &SoftwareKey) {
            let loaded = policy::load(&self.at("p.yaml"), &Trust::default()).expect("a policy");
            let statement =
                Statement::of(&loaded.policy, &loaded.bundle, Level::Organisation).expect("a revision");
            self.write("p.yaml.note", &note::sign(&statement.to_string(), key).expect("a note"));
        }

        fn load(&self, trust: &Trust) -> Result<LoadedFile, LoadError> {
            policy::load(&self.at("p.yaml"), trust)
        }

        #[track_caller]
        fn refused(&self, trust: &Trust, words: &str) {
            let error = crate::daemon::sensor::chain(&self.load(trust).expect_err("it is not signed so"));
            assert!(error.contains(words), "`{words}` is not in: {error}");
        }
    }

    fn own(revision: u64) -> String {
        format!("version: 1\nname: p\nrevision: {revision}\ninclude: [more.yaml]\n")
    }

    const MORE: &str = "version: 1\nrules: [{id: a, kind: file, paths: [/x], reason: r}]\n";

    fn files() -> Files {
        let files = Files(tempfile::tempdir().expect("a directory"));
        files.write("p.yaml", &own(7));
        files.write("more.yaml", MORE);
        files
    }

    fn keys() -> (SoftwareKey, SoftwareKey, Trust) {
        let key = |name| SoftwareKey::ephemeral(name).expect("a key");
        let (key, other) = (key("acme"), key("other"));
        let trust = Trust::new(&[key.public().clone()]);
        (key, other, trust)
    }

    #[test]
    fn only_what_a_trusted_key_signed_is_loaded() {
        let (files, (key, other, trust)) = (files(), keys());
        files.refused(&trust, "it is not signed: there is no `");
        let made = std::process::Command::new("mkfifo").arg(files.at("p.yaml.note")).status();
        assert!(made.expect("mkfifo runs").success());
        files.refused(&trust, "it is no regular file");
        fs::remove_file(files.at("p.yaml.note")).expect("it was there");
        files.write("p.yaml.note", "nonsense");
        files.refused(&trust, "its note is not to be trusted: not a signed note");
        files.sign(&other);
        files.refused(
            &trust,
            &format!("signed by `other+{:08x}`, and by none of the keys", other.public().id()),
        );
        files.sign(&key);
        let loaded = files.load(&trust).expect("it is signed");
        let signed = loaded.signed.expect("by the key");
        assert_eq!((signed.revision, signed.key), (7, format!("acme+{:08x}", key.public().id())));
        assert!(
            loaded.bundle.note.is_some()
                && files.load(&Trust::default()).is_ok_and(|all| all.signed.is_none())
        );
        files.write("p.yaml", &(own(7) + "# x\n"));
        files.refused(&trust, "its text is not the one that was signed, of revision 7");
        files.write("p.yaml", &own(7));
        files.write("more.yaml", &(MORE.to_owned() + "# x\n"));
        files.refused(&trust, "`more.yaml` cannot be included: its text is not the one that was signed");
    }

    #[test]
    fn a_signature_that_does_not_fit_is_worse_than_none() {
        let (files, (key, other, _)) = (files(), keys());
        files.sign(&key);
        let note = fs::read_to_string(files.at("p.yaml.note")).expect("a note");
        let forged = note.replace("revision 7", "revision 8");
        files.write("p.yaml.note", &forged);
        files.write("p.yaml", &own(8));
        let both = Trust::new(&[other.public().clone(), key.public().clone()]);
        files.refused(&both, "the signature of `acme` does not fit the text");
        // One key's good signature does not make up for it.
        let text = forged.split_once("\n\n").expect("a note").0.to_owned() + "\n";
        let good = note::sign(&text, &other).expect("a note");
        let line = forged.lines().last().expect("a signature");
        files.write("p.yaml.note", &format!("{good}{line}\n"));
        files.refused(&both, "the signature of `acme` does not fit the text");
    }

    #[test]
    fn a_note_of_something_else_does_not_count() {
        let (files, (key, _, trust)) = (files(), keys());
        let loaded = files.load(&Trust::default()).expect("a policy");
        let statement =
            Statement::of(&loaded.policy, &loaded.bundle, Level::Organisation).expect("a revision");
        let check = |statement: Statement, words: &str| {
            files.write("p.yaml.note", &note::sign(&statement.to_string(), &key).expect("a note"));
            files.refused(&trust, words);
        };
        check(Statement { revision: 9, ..statement.clone() }, "its note is about policy `p` of revision 9");
        check(
            Statement { level: Level::Team, ..statement.clone() },
            "its note is about a policy of level `team`",
        );
        check(Statement { included: [].into(), ..statement.clone() }, "it is not among what was signed");
        let mut more = statement.clone();
        more.included.insert("z.yaml".to_owned(), "00".to_owned());
        check(more, "about a policy that includes `z.yaml`, and this one does not");
        files.write("p.yaml.note", &note::sign("a checkpoint\n", &key).expect("a note"));
        files.refused(&trust, "it is about something else than a policy");
        files.write("p.yaml", &own(7).replace("revision: 7\n", ""));
        let loaded = files.load(&Trust::default()).expect("a policy");
        let none = Statement::of(&loaded.policy, &loaded.bundle, Level::Organisation)
            .expect_err("it has no revision");
        assert!(none.to_string().contains("add `revision: 1`"), "{none}");
    }

    #[test]
    fn the_copy_is_worth_what_its_signature_is() {
        let (files, (key, other, trust)) = (files(), keys());
        files.sign(&key);
        let copied = |trust: &Trust| {
            let loaded = load_all(&PolicyFiles::alone(files.at("p.yaml")), trust).expect("a policy");
            policy::keep(&files.at("copy"), &loaded.kept()).expect("a copy");
            loaded
        };
        let kept = |trust: &Trust| kept(&files.at("copy"), &files.at("p.yaml"), trust);
        let signed = |loaded: &LoadedPolicy| loaded.parts[0].signed.clone();
        let loaded = copied(&trust);
        let found = kept(&trust).expect("the copy");
        assert_eq!((signed(&found), found.kept()), (signed(&loaded), loaded.kept()));
        assert!(signed(&found).is_some());
        let others = Trust::new(&[other.public().clone()]);
        let error = kept(&others).expect_err("another key").root_cause().to_string();
        assert!(error.contains("by none of the keys"), "{error}");
        copied(&Trust::default());
        assert!(kept(&trust).is_err() && kept(&Trust::default()).is_ok());
    }

    #[test]
    fn what_can_only_tighten_need_not_be_signed() {
        let (files, (key, _, trust)) = (files(), keys());
        files.sign(&key);
        let rule = |name: &str| {
            format!("version: 1\nname: {name}\nrules: [{{id: {name}, kind: file, paths: [/y], reason: r}}]\n")
        };
        files.write("below.yaml", &rule("below"));
        let organisation = files.at("p.yaml");
        let below = || vec![files.at("below.yaml")];
        let local = PolicyFiles { organisation: organisation.clone(), team: Vec::new(), local: below() };
        let loaded = load_all(&local, &trust).expect("it is signed");
        let signed: Vec<bool> = loaded.parts.iter().map(|part| part.signed.is_some()).collect();
        assert_eq!(signed, [true, false]);
        policy::keep(&files.at("copy"), &loaded.kept()).expect("a copy");
        assert!(kept(&files.at("copy"), &organisation, &trust).is_ok());
        let team = PolicyFiles { organisation, team: below(), local: Vec::new() };
        let error = crate::daemon::sensor::chain(&load_all(&team, &trust).expect_err("it is not signed"));
        assert!(error.contains("below.yaml` is refused: it is not signed"), "{error}");
    }
}
