//! Where the files come from that a policy includes.

use crate::source::Source;

/// Gives the text of files.
pub trait Loader {
    /// The text of a file. `path` is relative to the directory of the policy's own file: names with `/` between them,
    /// none of which is empty, `.` or `..`. The name of what comes back is what messages call it.
    ///
    /// # Errors
    /// The file cannot be had, or must not be.
    fn load(&self, path: &str) -> Result<Source, NotLoaded>;
}

/// Why a file was not loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct NotLoaded {
    /// Why, as what follows `cannot be included: `.
    pub why: String,
    /// The next step, when there is one.
    pub help: Option<String>,
}

/// Has no file: a policy that is only a text includes none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Loader for Alone {
    fn load(&self, _: &str) -> Result<Source, NotLoaded> {
        let help = Some("write what it holds into this one".to_owned());
        Err(NotLoaded { why: "only this file is read".to_owned(), help })
    }
}
