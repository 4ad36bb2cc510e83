//! Paths as the kernel has them: bytes, not text.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::text;

/// A path or file name, any bytes but NUL.
///
/// Its text form is the path itself when it is UTF-8 without control characters or `\x` sequences of its own;
/// otherwise each offending byte is written `\xHH` and each backslash `\\`, so that the form is lossless and safe
/// for terminals.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PathBytes(Vec<u8>);

impl PathBytes {
    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The last component, or everything when there is no slash.
    #[must_use]
    pub fn file_name(&self) -> Self {
        let start = self.0.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        Self(self.0[start..].to_vec())
    }

    /// The reverse of the text form.
    ///
    /// # Errors
    /// Says where an escape is malformed.
    pub fn from_text(text: &str) -> Result<Self, String> {
        let mut rest = text.as_bytes();
        if !rest.contains(&b'\\') {
            return Ok(Self(rest.to_vec()));
        }
        let mut bytes = Vec::with_capacity(text.len());
        while let Some((&byte, tail)) = rest.split_first() {
            rest = tail;
            if byte != b'\\' {
                bytes.push(byte);
                continue;
            }
            let at = text.len() - rest.len() - 1;
            if let [b'\\', tail @ ..] = rest {
                bytes.push(b'\\');
                rest = tail;
            } else if let [b'x', high, low, tail @ ..] = rest {
                let digit = |hex: u8| char::from(hex).to_digit(16);
                let (Some(high), Some(low)) = (digit(*high), digit(*low)) else {
                    return Err(format!("bad escape at byte {at}"));
                };
                bytes.push((high * 16 + low) as u8);
                rest = tail;
            } else {
                return Err(format!("bad escape at byte {at}"));
            }
        }
        Ok(Self(bytes))
    }
}

impl From<&[u8]> for PathBytes {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl From<Vec<u8>> for PathBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<&str> for PathBytes {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl fmt::Display for PathBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |text: &str| !text.chars().any(|c| c.is_control() || c == '\\');
        if let Ok(text) = std::str::from_utf8(&self.0)
            && plain(text)
        {
            return f.write_str(text);
        }
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\\' => f.write_str("\\\\")?,
                    c if c.is_control() => {
                        for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                            write!(f, "\\x{byte:02x}")?;
                        }
                    }
                    c => write!(f, "{c}")?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for PathBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

impl Serialize for PathBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // The usual case without going through `fmt`: paths are most of an entry.
        match std::str::from_utf8(&self.0) {
            Ok(text) if !text.chars().any(|c| c.is_control() || c == '\\') => serializer.serialize_str(text),
            _ => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for PathBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::read(deserializer, "a path", Self::from_text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], text: &str) {
        assert_eq!(PathBytes::from(bytes).to_string(), text);
        assert_eq!(PathBytes::from_text(text), Ok(PathBytes::from(bytes)));
    }

    #[test]
    fn text_form() {
        check(b"/home/u/.ssh/id_ed25519", "/home/u/.ssh/id_ed25519");
        check("/tmp/ключ".as_bytes(), "/tmp/ключ");
        check(b"/tmp/\xff\xfe", "/tmp/\\xff\\xfe");
        check(b"/tmp/a\\b", "/tmp/a\\\\b");
        check(b"/tmp/a\nb\x1b[31m", "/tmp/a\\x0ab\\x1b[31m");
        check(b"", "");
    }

    #[test]
    fn malformed_escapes_are_refused() {
        for text in ["\\", "\\x", "\\x1", "\\xgg", "\\n", "a\\"] {
            assert!(PathBytes::from_text(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_form_is_lossless(bytes: Vec<u8>) {
            let path = PathBytes::from(bytes);
            prop_assert_eq!(PathBytes::from_text(&path.to_string()), Ok(path));
        }
    }
}
