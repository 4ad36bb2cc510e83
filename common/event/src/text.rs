//! Values whose stored form is a text, read where the text stands: an entry has some fifty of them.

use std::fmt;

use serde::{Deserializer, de};

/// Reads what `parse` makes of a text. `what` says what is expected.
pub(crate) fn read<'de, T, D: Deserializer<'de>>(
    deserializer: D,
    what: &'static str,
    parse: fn(&str) -> Result<T, String>,
) -> Result<T, D::Error> {
    deserializer.deserialize_str(Text { what, parse })
}

struct Text<T> {
    what: &'static str,
    parse: fn(&str) -> Result<T, String>,
}

impl<T> de::Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).map_err(E::custom)
    }
}
