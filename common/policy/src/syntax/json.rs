//! JSON that keeps the order in which it was made.

use std::borrow::Cow;

use serde::{Serialize, Serializer};

/// A JSON value. Objects keep the order of their keys, so that what is made of it reads well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Json {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Number(i64),
    /// A string.
    Text(Cow<'static, str>),
    /// An array.
    List(Vec<Json>),
    /// An object.
    Object(Vec<(Cow<'static, str>, Json)>),
}

impl Json {
    /// A string.
    pub(crate) fn text(text: impl Into<Cow<'static, str>>) -> Self {
        Self::Text(text.into())
    }

    /// An array of strings.
    pub(crate) fn texts(texts: impl IntoIterator<Item = &'static str>) -> Self {
        Self::List(texts.into_iter().map(Self::text).collect())
    }

    /// An object.
    pub(crate) fn object<const COUNT: usize>(entries: [(&'static str, Self); COUNT]) -> Self {
        Self::Object(entries.into_iter().map(|(key, value)| (key.into(), value)).collect())
    }

    /// An object with an entry more; anything else as it is.
    pub(crate) fn with(mut self, key: impl Into<Cow<'static, str>>, value: Self) -> Self {
        if let Self::Object(entries) = &mut self {
            entries.push((key.into(), value));
        }
        self
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(value) => serializer.serialize_i64(*value),
            Self::Text(value) => serializer.serialize_str(value),
            Self::List(values) => serializer.collect_seq(values),
            Self::Object(entries) => serializer.collect_map(entries.iter().map(|(key, value)| (key, value))),
        }
    }
}
