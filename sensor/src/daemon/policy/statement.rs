//! What is signed of a policy: its name, its revision, and the hashes of its texts, as lines.

use std::{collections::BTreeMap, fmt, str::FromStr};

use treeline_policy::{Policy, policy::Level};

use super::{
    bundle::{Bundle, digest},
    signature::SignatureError,
};

/// The first line of what is signed.
const FIRST_LINE: &str = "treeline.policy/v1";

/// What a note beside a policy says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The policy's name.
    pub name: String,
    /// Its number among all policies of the signer.
    pub revision: u64,
    /// SHA-256 of the policy's own text, lower-case hexadecimal.
    pub sha256: String,
    /// Whose policy it is to be: in the place of the organisation's, one of a team would take away what that says.
    pub level: Level,
    /// The same for what it includes, by paths relative to its directory.
    pub included: BTreeMap<String, String>,
}

impl Statement {
    /// What is to be signed of a policy that was read, to be one of this level.
    ///
    /// # Errors
    /// [`SignatureError::NoRevision`].
    pub fn of(policy: &Policy, bundle: &Bundle, level: Level) -> Result<Self, SignatureError> {
        let revision = policy.revision.ok_or(SignatureError::NoRevision)?;
        let included = bundle.included.iter().map(|(path, text)| (path.clone(), digest(text))).collect();
        Ok(Self { name: policy.name.clone(), revision, sha256: digest(&bundle.text), level, included })
    }

    /// Whether this is the text that was signed; to be asked before anything is made of it.
    ///
    /// # Errors
    /// [`SignatureError::Changed`].
    pub fn covers(&self, text: &str) -> Result<(), SignatureError> {
        let is_same = digest(text) == self.sha256;
        if is_same { Ok(()) } else { Err(SignatureError::Changed { revision: self.revision }) }
    }

    /// Whether what was read, as one of this level, is all that was signed.
    ///
    /// # Errors
    /// [`SignatureError::About`], [`SignatureError::NoRevision`].
    pub fn is_about(&self, policy: &Policy, bundle: &Bundle, level: Level) -> Result<(), SignatureError> {
        let read = Self::of(policy, bundle, level)?;
        if read == *self {
            return Ok(());
        }
        let Self { name, revision, .. } = self;
        if self.level != level {
            let [signed, here] = [self.level.name(), level.name()];
            return Err(SignatureError::About(format!(
                "a policy of level `{signed}`, and here it is one of `{here}`; `treeline policy sign --level {here}` signs it as that"
            )));
        }
        let missing = self.included.keys().find(|path| !read.included.contains_key(*path));
        Err(SignatureError::About(match missing {
            Some(path) => format!("a policy that includes `{path}`, and this one does not"),
            None => format!(
                "policy `{name}` of revision {revision}, and this is `{}` of revision {}",
                read.name, read.revision
            ),
        }))
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, revision, sha256, level, included } = self;
        write!(f, "{FIRST_LINE}\nname {name}\nrevision {revision}\nsha256 {sha256}\n")?;
        if *level != Level::default() {
            writeln!(f, "level {}", level.name())?;
        }
        included.iter().try_for_each(|(path, sha256)| writeln!(f, "included {sha256} {path}"))
    }
}

/// Only what [`Statement`] prints is read: there is one text for each.
impl FromStr for Statement {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut lines = text.strip_suffix('\n').ok_or("it does not end in a newline")?.split('\n');
        if lines.next() != Some(FIRST_LINE) {
            return Err("it is about something else than a policy, or of another version");
        }
        let mut field = |name: &str| {
            let line = lines.next().and_then(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.ok_or("it does not say name, revision and sha256")
        };
        let (name, revision, sha256) = (field("name")?, field("revision")?, field("sha256")?);
        let revision = revision.parse().map_err(|_| "its revision is no number")?;
        let file = |line: &str| {
            let (sha256, path) = line.strip_prefix("included ")?.split_once(' ')?;
            Some((path.to_owned(), sha256.to_owned()))
        };
        let mut lines = lines.peekable();
        let level = match lines.next_if(|line| line.starts_with("level ")) {
            None => Level::default(),
            Some(line) => {
                let known = Level::WORDS.iter().find(|(word, _)| line.strip_prefix("level ") == Some(word));
                known.ok_or("its level is none that is known")?.1
            }
        };
        let included: Option<BTreeMap<_, _>> = lines.map(file).collect();
        let included = included.ok_or("a line of a file is not understood")?;
        let statement = Self { name: name.to_owned(), revision, sha256: sha256.to_owned(), level, included };
        if statement.to_string() == text {
            Ok(statement)
        } else {
            Err("it is not in the one form that it has")
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn statement() -> Statement {
        Statement {
            name: "acme base".to_owned(),
            revision: 42,
            sha256: "ab".repeat(32),
            level: Level::Organisation,
            included: [("c/a b.yaml", "cd"), ("d.yaml", "ef")]
                .map(|(path, sha256)| (path.to_owned(), sha256.repeat(32)))
                .into(),
        }
    }

    #[test]
    fn there_is_one_text_of_each() {
        let text = statement().to_string();
        assert_eq!(
            text,
            format!(
                "treeline.policy/v1\nname acme base\nrevision 42\nsha256 {}\nincluded {} c/a b.yaml\nincluded {} d.yaml\n",
                "ab".repeat(32),
                "cd".repeat(32),
                "ef".repeat(32)
            )
        );
        assert_eq!(text.parse(), Ok(statement()));
        let check = |from: &str, to: &str, expect: &str| {
            let changed = text.replace(from, to);
            assert_ne!(changed, text);
            assert_eq!(changed.parse::<Statement>(), Err(expect), "{changed}");
        };
        check("/v1", "/v2", "it is about something else than a policy, or of another version");
        check("name ", "", "it does not say name, revision and sha256");
        check(" 42", " x", "its revision is no number");
        check(" 42", " 042", "it is not in the one form that it has");
        check(" d.yaml", " a.yaml", "it is not in the one form that it has");
        check("included", "includes", "a line of a file is not understood");
        check("included cd", "level x\nincluded cd", "its level is none that is known");
        check("included cd", "level organisation\nincluded cd", "it is not in the one form that it has");
        let team = Statement { level: Level::Team, ..statement() };
        assert_eq!(team.to_string(), text.replacen("included", "level team\nincluded", 1));
        assert_eq!(team.to_string().parse(), Ok(team));
        assert_eq!(text.trim_end().parse::<Statement>(), Err("it does not end in a newline"));
    }

    #[test]
    fn a_name_cannot_bring_lines_of_its_own() {
        let hostile = Statement { name: "a\nrevision 9".to_owned(), ..statement() };
        assert_ne!(hostile.to_string().parse(), Ok(hostile));
    }

    proptest! {
        #[test]
        fn what_is_read_is_printed_as_it_was(at in 0..300_usize, put in "[ -~\n]{0,3}", cut in 0..3_usize) {
            let mut text = statement().to_string();
            let at = at.min(text.len());
            let end = (at + cut).min(text.len());
            text.replace_range(at..end, &put);
            if let Ok(read) = text.parse::<Statement>() {
                prop_assert_eq!(&read.to_string(), &text);
                prop_assert_eq!(read == statement(), text == statement().to_string());
            }
        }

        #[test]
        fn every_statement_is_read_again(
            name in "[^\n]{0,9}", revision: u64, files in prop::collection::btree_map("[^\n]{1,9}", "[0-9a-f]{4}", 0..4),
        ) {
            let level = if revision % 2 == 0 { Level::Organisation } else { Level::Team };
            let own = Statement { name, revision, sha256: "ab".to_owned(), level, included: files };
            prop_assert_eq!(own.to_string().parse(), Ok(own));
        }
    }
}
