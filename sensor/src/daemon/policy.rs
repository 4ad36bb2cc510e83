//! Reading a policy file.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};
use treeline_policy::{
    Code, Diagnostics, Loader, NotLoaded, Policy, parse_with,
    source::{Source, TEXT_LEN_MAX},
};

/// A checked policy and what it was read from.
#[derive(Clone, Debug)]
pub struct LoadedPolicy {
    /// The policy.
    pub policy: Policy,
    /// SHA-256 of its text, lower-case hexadecimal.
    pub sha256: String,
}

/// Why a policy was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read the policy `{}`", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The file is larger than any policy.
    #[error("the policy `{}` has {len} bytes; the bound is {TEXT_LEN_MAX}", path.display())]
    TooLong {
        /// Which.
        path: PathBuf,
        /// Its bytes.
        len: u64,
    },
    /// The text is wrong.
    #[error("the policy `{}` is refused:\n{diagnostics}", path.display())]
    Refused {
        /// Which.
        path: PathBuf,
        /// SHA-256 of the text.
        sha256: String,
        /// What is wrong, with line and column.
        diagnostics: String,
    },
}

impl LoadError {
    /// SHA-256 of the text, empty when there was none.
    #[must_use]
    pub fn sha256(&self) -> String {
        match self {
            Self::Refused { sha256, .. } => sha256.clone(),
            Self::Read { .. } | Self::TooLong { .. } => String::new(),
        }
    }
}

/// Reads and checks a policy.
///
/// # Errors
/// [`LoadError`].
pub fn load(path: &Path) -> Result<LoadedPolicy, LoadError> {
    let failed = |source| LoadError::Read { path: path.to_owned(), source };
    let len = fs::metadata(path).map_err(failed)?.len();
    if len > TEXT_LEN_MAX as u64 {
        return Err(LoadError::TooLong { path: path.to_owned(), len });
    }
    parse(path, &fs::read_to_string(path).map_err(failed)?)
}

/// Checks a text; `path` is what messages call it.
///
/// # Errors
/// [`LoadError::Refused`].
pub fn parse(path: &Path, text: &str) -> Result<LoadedPolicy, LoadError> {
    let sha256 = hex::encode(Sha256::digest(text));
    let source = Source::new(&path.display().to_string(), text);
    match parse_with(&OneFile, source, None).and_then(supported) {
        Ok(policy) => Ok(LoadedPolicy { policy, sha256 }),
        Err(diagnostics) => {
            let diagnostics = diagnostics.render(false).trim_end().to_owned();
            Err(LoadError::Refused { path: path.to_owned(), sha256, diagnostics })
        }
    }
}

/// The last good policy, the mark by which a daemon knows its predecessor's, and the hash in the log are of one file.
struct OneFile;

impl Loader for OneFile {
    fn load(&self, _: &str) -> Result<Source, NotLoaded> {
        let help =
            "write what it holds into the policy's own file; `treeline policy check` reads several already";
        Err(NotLoaded { why: "the daemon reads only one file yet".to_owned(), help: Some(help.to_owned()) })
    }
}

/// Refuses what the daemon would not do: nothing here looks at the time once a policy is in force, so a rule that has
/// expired would go on.
fn supported(policy: Policy) -> Result<Policy, Diagnostics> {
    let mut found = policy.warnings.clone();
    for expires in policy.rules.iter().filter_map(|rule| rule.expires.as_ref()) {
        if !found.items().iter().any(|item| item.span == expires.span) {
            let help = "remove the key, and the rule itself when its time has come";
            let message = "the daemon does not end rules by themselves yet";
            found.error(Code::Unsupported, expires.span, message, Some(help.to_owned()));
        }
    }
    if found.has_errors() { Err(found) } else { Ok(policy) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_daemon_does_not_do_is_refused() {
        let check = |head: &str, more: &str, expect: &[&str]| {
            let rule = format!("{{id: a, kind: broker, reason: r, brokers: [ssh]{more}}}");
            let text = format!("version: 1\nname: t\n{head}rules:\n  - {rule}\n");
            let error = parse(Path::new("p"), &text).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(expect.iter().all(|words| error.matches(words).count() == 1), "{error}");
            assert_eq!(error.is_empty(), expect.is_empty(), "{error}");
        };
        check("", "", &[]);
        check("", ", expires: 2027-03-01", &["error[unsupported]", "p:4:63", "remove the key"]);
        let only_one = "`x.yaml` cannot be included: the daemon reads only one file yet";
        check(
            "include: [x.yaml]\n",
            "",
            &["error[cannot-include]", only_one, "p:3:11", "write what it holds into"],
        );
    }
}
