//! Reading a policy with what it includes, and all that hold together.

pub mod bundle;
pub mod files;
pub mod floor;
pub mod set;
pub mod signature;
pub mod statement;

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;
use treeline_policy::{
    Diagnostics, Loader, Moment, Policy, parse_with,
    source::{Source, TEXT_LEN_MAX},
};

use self::{
    bundle::{Bundle, Recorder},
    files::Below,
    signature::{OnlySigned, SignatureError, Signed, Trust},
};
use crate::durable;

/// A checked policy and what it was read from.
#[derive(Clone, Debug)]
pub struct LoadedFile {
    /// The policy.
    pub policy: Policy,
    /// Its texts.
    pub bundle: Bundle,
    /// Their digest, see [`Bundle::sha256`].
    pub sha256: String,
    /// Who signed it, where signatures are asked for.
    pub signed: Option<Signed>,
}

/// The time of day.
#[must_use]
pub fn now() -> Moment {
    // A clock before 1970 is wrong; by it nothing has expired.
    Moment(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
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
    /// A text is wrong, or a file that is included cannot be read.
    #[error("the policy `{}` is refused:\n{diagnostics}", path.display())]
    Refused {
        /// Which.
        path: PathBuf,
        /// Digest of the texts that could be read.
        sha256: String,
        /// What is wrong, with line and column.
        diagnostics: String,
    },
    /// Each is in order, and they cannot hold together.
    #[error("the policies cannot hold together:\n{diagnostics}")]
    Together {
        /// Digest of all of them.
        sha256: String,
        /// What is wrong, with line and column.
        diagnostics: String,
    },
    /// Only signed policies are put in force here, and it is none of these or an older one.
    #[error("the policy `{}` is refused", path.display())]
    Signature {
        /// Which.
        path: PathBuf,
        /// Digest of the texts that were read.
        sha256: String,
        /// The cause.
        source: Box<SignatureError>,
    },
}

impl LoadError {
    /// Digest of the texts, empty when there was none.
    #[must_use]
    pub fn sha256(&self) -> String {
        match self {
            Self::Refused { sha256, .. } | Self::Together { sha256, .. } | Self::Signature { sha256, .. } => {
                sha256.clone()
            }
            Self::Read { .. } | Self::TooLong { .. } => String::new(),
        }
    }
}

/// Reads and checks a policy and what it includes, and who signed it, if that is asked for.
///
/// # Errors
/// [`LoadError`].
pub fn load(path: &Path, trust: &Trust) -> Result<LoadedFile, LoadError> {
    let failed = |source| LoadError::Read { path: path.to_owned(), source };
    let len = fs::metadata(path).map_err(failed)?.len();
    if len > TEXT_LEN_MAX as u64 {
        return Err(LoadError::TooLong { path: path.to_owned(), len });
    }
    let text = files::text(path).map_err(failed)?;
    let note = trust.asks_for_signatures().then(|| signature::read_note(path));
    read(path, &text, Below::directory_of(path), note, trust)
}

/// Checks a text that nobody needs to have signed; `path` is what messages call it, and `loader` has what it includes.
///
/// # Errors
/// [`LoadError::Refused`].
pub fn check(path: &Path, text: &str, loader: impl Loader) -> Result<LoadedFile, LoadError> {
    read(path, text, loader, None, &Trust::default())
}

/// The signature is looked at first: nothing is made of a text that nobody answers for.
fn read(
    path: &Path,
    text: &str,
    loader: impl Loader,
    note: Option<Result<String, SignatureError>>,
    trust: &Trust,
) -> Result<LoadedFile, LoadError> {
    let mut bundle = Bundle::alone(path, text);
    let unsigned = |bundle: &Bundle, source: SignatureError| LoadError::Signature {
        path: path.to_owned(),
        sha256: bundle.sha256(),
        source: Box::new(source),
    };
    let mut signed = None;
    if let Some(note) = note {
        let note = note.map_err(|error| unsigned(&bundle, error))?;
        let found = trust.statement(&note).map_err(|error| unsigned(&bundle, error))?;
        found.0.covers(text).map_err(|error| unsigned(&bundle, error))?;
        bundle.note = Some(note);
        signed = Some(found);
    }
    let statement = signed.as_ref().map(|(statement, _)| statement);
    let recorder = Recorder::new(OnlySigned { from: loader, statement });
    let parsed = parse_with(&recorder, Source::new(&path.display().to_string(), text), None);
    bundle.included = recorder.included();
    let sha256 = bundle.sha256();
    let refused = |diagnostics: Diagnostics| LoadError::Refused {
        path: path.to_owned(),
        sha256: sha256.clone(),
        diagnostics: rendered(&diagnostics),
    };
    let policy = parsed.map_err(refused)?;
    if let Some(statement) = statement {
        statement.is_about(&policy, &bundle, trust.level()).map_err(|error| unsigned(&bundle, error))?;
    }
    Ok(LoadedFile { policy, bundle, sha256, signed: signed.map(|(_, signed)| signed) })
}

/// Findings as they are in the log.
fn rendered(diagnostics: &Diagnostics) -> String {
    diagnostics.render(false).trim_end().to_owned()
}

/// Replaces a file of the state directory atomically, such as the copy of a policy.
///
/// # Errors
/// It cannot be written; the one before is still there.
pub fn keep<T: Serialize>(path: &Path, what: &T) -> io::Result<()> {
    durable::replace(path, &serde_json::to_vec(what)?, 0o600)
}
