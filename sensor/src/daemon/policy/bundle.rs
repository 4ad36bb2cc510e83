//! The texts of a policy as one thing: what is kept of it, and its digest.

use std::{cell::RefCell, collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use treeline_policy::{Loader, NotLoaded, source::Source};

/// A policy's own file, and those that it includes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// The name of the policy's own file.
    pub name: String,
    /// Its text.
    pub text: String,
    /// What it includes: texts by paths relative to its directory.
    #[serde(default)]
    pub included: BTreeMap<String, String>,
    /// The signed note about it, where signatures are asked for. It is no part of the digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// One of the texts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct File {
    /// From the directory of the policy's own file on.
    pub path: String,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: String,
}

impl Bundle {
    /// A policy that includes nothing.
    #[must_use]
    pub fn alone(file: &Path, text: &str) -> Self {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self { name, text: text.to_owned(), ..Self::default() }
    }

    /// A policy with what was loaded for it.
    #[must_use]
    pub fn of<L>(file: &Path, text: &str, loaded: Recorder<L>) -> Self {
        Self { included: loaded.included(), ..Self::alone(file, text) }
    }

    /// Each file with its digest: the policy's own, and the others sorted by their paths' bytes.
    #[must_use]
    pub fn files(&self) -> Vec<File> {
        let texts = [(&self.name, &self.text)].into_iter().chain(&self.included);
        let file = |(path, text): (&String, &String)| File { path: path.clone(), sha256: digest(text) };
        texts.map(file).collect()
    }

    /// SHA-256 in lower-case hexadecimal: that of the file, if it is the only one. Else that of what sha256sum(1) prints
    /// in its directory for all files, of which its own is the first and the others are sorted by their paths' bytes.
    #[must_use]
    pub fn sha256(&self) -> String {
        match self.files().as_slice() {
            [own] => own.sha256.clone(),
            files => {
                let lines = files.iter().map(|File { path, sha256 }| format!("{sha256}  {path}\n"));
                digest(&lines.collect::<String>())
            }
        }
    }
}

/// SHA-256 of a text in lower-case hexadecimal.
pub(super) fn digest(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

/// What was read once can be read again.
impl Loader for Bundle {
    fn load(&self, path: &str) -> Result<Source, NotLoaded> {
        match self.included.get(path) {
            Some(text) => Ok(Source::new(path, text)),
            None => Err(NotLoaded { why: "the copy of the policy does not have it".to_owned(), help: None }),
        }
    }
}

/// Keeps what another loader gives.
#[derive(Debug)]
pub struct Recorder<L> {
    from: L,
    found: RefCell<BTreeMap<String, String>>,
}

impl<L> Recorder<L> {
    /// With nothing yet.
    #[must_use]
    pub fn new(from: L) -> Self {
        Self { from, found: RefCell::default() }
    }

    /// What was loaded so far.
    #[must_use]
    pub fn included(self) -> BTreeMap<String, String> {
        self.found.into_inner()
    }
}

impl<L: Loader> Loader for Recorder<L> {
    fn load(&self, path: &str) -> Result<Source, NotLoaded> {
        let source = self.from.load(path)?;
        self.found.borrow_mut().insert(path.to_owned(), source.text().to_owned());
        Ok(source)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::*;

    #[test]
    fn the_digest_is_what_sha256sum_says() {
        let dir = tempfile::tempdir().expect("a directory");
        let check = |included: &[(&str, &str)], command: &str| {
            let included = included.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned()));
            let bundle = Bundle {
                name: "p.yaml".into(),
                text: "version: 1\n".into(),
                included: included.collect(),
                note: None,
            };
            fs::write(dir.path().join(&bundle.name), &bundle.text).expect("a file");
            for (path, text) in &bundle.included {
                let file = dir.path().join(path);
                fs::create_dir_all(file.parent().expect("below")).expect("a directory");
                fs::write(file, text).expect("a file");
            }
            let output =
                Command::new("sh").args(["-c", command]).current_dir(&dir).output().expect("sh runs");
            let sum = String::from_utf8(output.stdout).expect("text");
            assert_eq!(Some(bundle.sha256().as_str()), sum.split(' ').next(), "{command}");
        };
        check(&[], "sha256sum p.yaml");
        check(
            &[("b/x.yaml", "rules: []\n"), ("a.yaml", "ключ\n")],
            "sha256sum p.yaml a.yaml b/x.yaml | sha256sum",
        );
    }
}
