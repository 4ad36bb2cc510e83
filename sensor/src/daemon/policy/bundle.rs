//! The texts of a policy as one thing: what is kept of it, and its digest.

use std::{cell::RefCell, collections::BTreeMap};

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

impl Bundle {
    /// SHA-256 in lower-case hexadecimal: that of the file, if it is the only one. Else that of what sha256sum(1) prints
    /// in its directory for all files, of which its own is the first and the others are sorted by their paths' bytes.
    #[must_use]
    pub fn sha256(&self) -> String {
        let own = hex::encode(Sha256::digest(&self.text));
        if self.included.is_empty() {
            return own;
        }
        let mut all = Sha256::new();
        all.update(line(&own, &self.name));
        for (path, text) in &self.included {
            all.update(line(&hex::encode(Sha256::digest(text)), path));
        }
        hex::encode(all.finalize())
    }
}

fn line(sha256: &str, path: &str) -> String {
    format!("{sha256}  {path}\n")
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
pub(super) struct Recorder<L> {
    from: L,
    found: RefCell<BTreeMap<String, String>>,
}

impl<L> Recorder<L> {
    pub(super) fn new(from: L) -> Self {
        Self { from, found: RefCell::default() }
    }

    /// What was loaded so far.
    pub(super) fn included(self) -> BTreeMap<String, String> {
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
