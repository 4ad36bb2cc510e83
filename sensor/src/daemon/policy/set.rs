//! The policies that hold together on a machine: of the organisation, of teams, and local ones.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use treeline_event::PolicyPart;
use treeline_policy::{Diagnostics, Moment, Policy, compose, policy::Level, source::TEXT_LEN_MAX};

use super::{
    LoadError, LoadedFile,
    bundle::{Bundle, digest},
    load, read, rendered,
    signature::{SignatureError, Signed, Trust, note_of},
};

/// Bytes of a kept copy that are read: what JSON makes of the longest texts.
const KEPT_LEN_MAX: u64 = 8 * TEXT_LEN_MAX as u64;

/// Where they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyFiles {
    /// The organisation's.
    pub organisation: PathBuf,
    /// Those of teams.
    pub team: Vec<PathBuf>,
    /// Those of the machine; one that is not there says nothing.
    pub local: Vec<PathBuf>,
}

impl PolicyFiles {
    /// One policy, with none below it.
    #[must_use]
    pub fn alone(file: impl Into<PathBuf>) -> Self {
        Self { organisation: file.into(), team: Vec::new(), local: Vec::new() }
    }

    /// Whether there is one only.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.team.is_empty() && self.local.is_empty()
    }

    /// Each of them.
    pub fn all(&self) -> impl Iterator<Item = (Level, &Path)> {
        let organisation = [(Level::Organisation, self.organisation.as_path())].into_iter();
        let team = self.team.iter().map(|path| (Level::Team, path.as_path()));
        organisation.chain(team).chain(self.local.iter().map(|path| (Level::Local, path.as_path())))
    }
}

/// One of them.
#[derive(Clone, Debug)]
pub struct Part {
    /// Whose it is.
    pub level: Level,
    /// Its own file.
    pub path: PathBuf,
    /// Its name.
    pub name: String,
    /// Its number among its revisions.
    pub revision: Option<u64>,
    /// Its texts.
    pub bundle: Bundle,
    /// Their digest, see [`Bundle::sha256`].
    pub sha256: String,
    /// Who signed it, where signatures are asked for.
    pub signed: Option<Signed>,
}

impl Part {
    fn said(&self) -> PolicyPart {
        PolicyPart {
            name: self.name.clone(),
            level: self.level,
            sha256: self.sha256.clone(),
            revision: self.revision,
            signed_by: self.signed.as_ref().map(|signed| signed.key.clone()),
        }
    }
}

/// The digest of several policies that hold together: that of a line for each, with its digest, two spaces, its level, a space and
/// its name; the higher level first, and of one level by name.
#[must_use]
pub fn sha256_of(parts: &[PolicyPart]) -> String {
    let line = |part: &PolicyPart| format!("{}  {} {}\n", part.sha256, part.level.name(), part.name);
    digest(&parts.iter().map(line).collect::<String>())
}

/// What all of them say together.
#[derive(Clone, Debug)]
pub struct LoadedPolicy {
    /// The policy. Which of its rules are in force depends on the time: [`Self::at`].
    pub policy: Policy,
    /// What it consists of, the higher level first.
    pub parts: Vec<Part>,
    /// The digest of the only part, or [`sha256_of`] them.
    pub sha256: String,
}

impl LoadedPolicy {
    /// What policies of these levels say together.
    ///
    /// # Errors
    /// [`LoadError::Together`].
    pub fn of(files: Vec<(Level, PathBuf, LoadedFile)>) -> Result<Self, LoadError> {
        let (mut parts, mut policies) = (Vec::new(), Vec::new());
        for (level, path, LoadedFile { policy, bundle, sha256, signed }) in files {
            let (name, revision) = (policy.name.clone(), policy.revision);
            parts.push(Part { level, path, name, revision, bundle, sha256, signed });
            policies.push((level, policy));
        }
        parts.sort_by(|left, right| (right.level, &left.name).cmp(&(left.level, &right.name)));
        let sha256 = match parts.as_slice() {
            [alone] => alone.sha256.clone(),
            parts => sha256_of(&parts.iter().map(Part::said).collect::<Vec<_>>()),
        };
        let refused = |found: Diagnostics| LoadError::Together {
            sha256: sha256.clone(),
            diagnostics: rendered(&found),
        };
        let policy = compose(policies).map_err(refused)?;
        Ok(Self { policy, parts, sha256 })
    }

    /// The same with the rules that have not expired.
    #[must_use]
    pub fn at(&self, now: Moment) -> Self {
        let mut at = self.clone();
        at.policy = at.policy.at(now);
        at
    }

    /// What `status` and the log say of the parts; nothing of one that is alone.
    #[must_use]
    pub fn parts(&self) -> Vec<PolicyPart> {
        if self.parts.len() > 1 { self.parts.iter().map(Part::said).collect() } else { Vec::new() }
    }

    /// What is kept of it.
    #[must_use]
    pub fn kept(&self) -> Kept {
        match self.parts.as_slice() {
            [Part { level: Level::Organisation, bundle, .. }] => Kept::Alone(bundle.clone()),
            parts => Kept::Several { parts: parts.iter().map(KeptPart::of).collect() },
        }
    }
}

/// Reads and checks all of them, and who signed those that can loosen anything, if that is asked for.
///
/// # Errors
/// [`LoadError`]; that a local one is not there is none.
pub fn load_all(files: &PolicyFiles, trust: &Trust) -> Result<LoadedPolicy, LoadError> {
    let mut loaded = Vec::new();
    for (level, path) in files.all() {
        match load(path, &trust.at(level)) {
            Ok(file) => loaded.push((level, path.to_owned(), file)),
            Err(LoadError::Read { source, .. })
                if level == Level::Local && source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    LoadedPolicy::of(loaded)
}

/// The copy of what was in force, in the state directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Kept {
    /// Several.
    Several {
        /// Each.
        parts: Vec<KeptPart>,
    },
    /// That of the organisation alone.
    Alone(Bundle),
}

/// One of several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptPart {
    level: Level,
    path: PathBuf,
    bundle: Bundle,
}

impl KeptPart {
    fn of(part: &Part) -> Self {
        Self { level: part.level, path: part.path.clone(), bundle: part.bundle.clone() }
    }
}

/// Reads a copy, with its signatures, if they are asked for. `organisation` is where that of the organisation was.
///
/// # Errors
/// There is none, or it is none.
pub fn kept(copy: &Path, organisation: &Path, trust: &Trust) -> anyhow::Result<LoadedPolicy> {
    let mut text = String::new();
    fs::File::open(copy)?.take(KEPT_LEN_MAX).read_to_string(&mut text)?;
    let parts = match serde_json::from_str(&text)? {
        Kept::Several { parts } => parts,
        Kept::Alone(bundle) => {
            let path = organisation.to_owned();
            vec![KeptPart { level: Level::Organisation, path, bundle }]
        }
    };
    let mut files = Vec::new();
    for KeptPart { level, path, bundle } in parts {
        let trust = trust.at(level);
        let own = Path::new(&bundle.name);
        let note = trust.asks_for_signatures().then(|| {
            let none = || SignatureError::NoNote { policy: own.to_owned(), note: note_of(own) };
            bundle.note.clone().ok_or_else(none)
        });
        let file = read(own, &bundle.text, bundle.clone(), note, &trust)?;
        files.push((level, path, file));
    }
    Ok(LoadedPolicy::of(files)?)
}

#[cfg(test)]
mod tests {
    use treeline_policy::Alone;

    use super::{
        super::{check, keep},
        *,
    };

    struct Files(tempfile::TempDir);

    impl Files {
        fn new() -> Self {
            let files = Self(tempfile::tempdir().expect("a directory"));
            files.write("o.yaml", &policy("o", "[]"));
            files.write("t.yaml", &policy("t", "[{id: a, kind: file, paths: [/x], reason: r}]"));
            files
        }

        fn at(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.at(name), text).expect("a file");
        }

        fn all(&self) -> PolicyFiles {
            let [team, local] = ["t.yaml", "l.yaml"].map(|name| vec![self.at(name)]);
            PolicyFiles { organisation: self.at("o.yaml"), team, local }
        }

        fn load(&self) -> Result<LoadedPolicy, LoadError> {
            load_all(&self.all(), &Trust::default())
        }
    }

    fn policy(name: &str, rules: &str) -> String {
        format!("version: 1\nname: {name}\nrules: {rules}\n")
    }

    fn names(loaded: &LoadedPolicy) -> Vec<(Level, &str)> {
        loaded.parts.iter().map(|part| (part.level, part.name.as_str())).collect()
    }

    #[test]
    fn those_that_are_there_hold_together() {
        let files = Files::new();
        let two = files.load().expect("a local one need not be there");
        assert_eq!(names(&two), [(Level::Organisation, "o"), (Level::Team, "t")]);
        files.write("l.yaml", &policy("l", "[{id: b, kind: file, paths: [/y], reason: r}]"));
        let three = files.load().expect("all are in order");
        assert_eq!(names(&three)[2..], [(Level::Local, "l")]);
        assert_eq!((three.policy.rules.len(), three.policy.name.as_str()), (2, "o"));
        let lines = format!(
            "{}  organisation o\n{}  team t\n{}  local l\n",
            three.parts[0].sha256, three.parts[1].sha256, three.parts[2].sha256
        );
        assert_eq!(three.sha256, digest(&lines));
        let alone = load_all(&PolicyFiles::alone(files.at("t.yaml")), &Trust::default()).expect("a policy");
        assert_eq!((&alone.sha256, alone.parts().len()), (&three.parts[1].sha256, 0));
    }

    #[test]
    fn what_is_wrong_with_one_is_said_of_it() {
        let files = Files::new();
        let refused = |words: &str| {
            let error = files.load().expect_err(words).to_string();
            assert!(error.contains(words), "`{words}` is not in: {error}");
        };
        files.write("l.yaml", &policy("l", "[{id: a, kind: file, paths: [/y], reason: r}]"));
        refused("the policies cannot hold together:\nerror[duplicate-id]");
        files.write("l.yaml", &policy("l", "[{id: b, kind: file, action: allow, paths: [/y], reason: r}]"));
        refused("l.yaml:3:14");
        files.write("l.yaml", "nothing");
        refused("/l.yaml` is refused:\n");
        fs::remove_file(files.at("l.yaml"))
            .and_then(|()| fs::remove_file(files.at("t.yaml")))
            .expect("files");
        refused("cannot read the policy `");
    }

    #[test]
    fn all_are_kept() {
        let files = Files::new();
        files.write("l.yaml", "version: 1\nname: l\ninclude: [more.yaml]\n");
        files.write("more.yaml", "version: 1\nrules: [{id: c, kind: file, paths: [/z], reason: r}]\n");
        let loaded = files.load().expect("all are in order");
        let copy = files.at("copy");
        keep(&copy, &loaded.kept()).expect("a copy");
        let again = kept(&copy, &files.at("o.yaml"), &Trust::default()).expect("the copy");
        assert_eq!((&again.sha256, names(&again)), (&loaded.sha256, names(&loaded)));
        assert_eq!(again.parts[2].path, files.at("l.yaml"));
        assert!(again.policy.rule("c").is_some_and(|rule| rule.level == Level::Local));
    }

    #[test]
    fn a_policy_is_kept_with_what_it_includes() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        let own = PolicyFiles::alone(at("p.yaml"));
        let load = || load_all(&own, &Trust::default());
        let kept = || kept(&at("copy"), &at("p.yaml"), &Trust::default());
        fs::write(at("p.yaml"), "version: 1\nname: p\ninclude: [more.yaml]\n").expect("a file");
        let more =
            "version: 1\nrules:\n  - {id: a, kind: file, paths: [/x], reason: r, expires: 2027-03-01}\n";
        fs::write(at("more.yaml"), more).expect("a file");
        let loaded = load().expect("a good policy");
        keep(&at("copy"), &loaded.kept()).expect("a copy");
        let text = fs::read_to_string(at("copy")).expect("a copy");
        assert!(text.starts_with("{\"name\":\"p.yaml\",\"text\":"), "as before there were several: {text}");
        fs::remove_file(at("more.yaml")).expect("it was there");
        let copy = kept().expect("the copy");
        assert_eq!((&copy.sha256, &copy.kept()), (&loaded.sha256, &loaded.kept()));
        let rules = |text: &str| copy.at(text.parse().expect("a moment")).policy.rules.len();
        assert_eq!((rules("2027-02-28T23:59:59Z"), rules("2027-03-01")), (1, 0));
        let error = load().expect_err("a file is missing");
        assert!(error.to_string().contains("`more.yaml` cannot be included"), "{error}");
        assert_ne!(error.sha256(), loaded.sha256);
        fs::write(at("copy"), "{}").expect("a file");
        assert!(kept().is_err());
        fs::write(at("copy"), "{\"parts\": []}").expect("a file");
        assert!(kept().is_err(), "nothing is no policy");
        assert!(check(&at("p.yaml"), "nothing", Alone).is_err());
    }
}
