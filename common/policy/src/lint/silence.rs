//! Lints that an author wants to keep quiet.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{code::Code, source::Spanned};

/// Why each of some lints is not to be reported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Silences(pub BTreeMap<Code, Spanned<String>>);

/// A finding that is not reported.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Silenced {
    /// The rule that it is about, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// What kind of finding it is.
    pub code: Code,
    /// Why it is not reported.
    pub reason: String,
}
