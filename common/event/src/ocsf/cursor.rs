//! A place in the text of an entry, as the encoder writes it: between values, which serde_json reads.

use serde::Deserialize;

/// What is left of a text. Each step is `None` for what the encoder does not write, even where JSON allows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn skip(&mut self, len: usize) {
        self.rest = &self.rest[len..];
    }

    /// The value that comes next.
    pub(super) fn value<T: Deserialize<'a>>(&mut self) -> Option<T> {
        let mut values = serde_json::Deserializer::from_slice(self.rest).into_iter();
        let value = values.next()?.ok()?;
        self.rest = &self.rest[values.byte_offset()..];
        Some(value)
    }

    /// An object: `field` gets each name, with the cursor before the value, and takes that.
    pub(super) fn object(&mut self, mut field: impl FnMut(&mut Self, &'a [u8]) -> Option<()>) -> Option<()> {
        self.list(b'{', b'}', |cursor| {
            let name = cursor.name()?;
            field(cursor, name)
        })
    }

    /// An array: `item` gets the cursor before each value, and takes that.
    pub(super) fn array(&mut self, item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.list(b'[', b']', item)
    }

    fn list(&mut self, open: u8, close: u8, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.take(open)?;
        if self.take(close).is_some() {
            return Some(());
        }
        loop {
            item(self)?;
            if self.take(close).is_some() {
                return Some(());
            }
            self.take(b',')?;
        }
    }

    /// A name with its colon. The encoder has none with anything but small letters, digits and `_`.
    fn name(&mut self) -> Option<&'a [u8]> {
        self.take(b'"')?;
        let is_plain = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
        let end = self.rest.iter().position(|byte| !is_plain(byte))?;
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        self.take(b'"')?;
        self.take(b':')?;
        Some(name)
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        let (first, rest) = self.rest.split_first()?;
        (*first == byte).then(|| self.rest = rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names and values of an object, if there is nothing behind it.
    fn fields(text: &str) -> Option<Vec<(String, u64)>> {
        let mut cursor = Cursor::new(text.as_bytes());
        let mut found = Vec::new();
        cursor.object(|cursor, name| {
            found.push((String::from_utf8_lossy(name).into_owned(), cursor.value()?));
            Some(())
        })?;
        cursor.rest().is_empty().then_some(found)
    }

    #[test]
    fn objects_as_the_encoder_writes_them() {
        let check = |text: &str, expect: Option<&[(&str, u64)]>| {
            let expect = expect.map(|all| all.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect());
            assert_eq!(fields(text), expect, "{text}");
        };
        check("{}", Some(&[]));
        check("{\"a\":1}", Some(&[("a", 1)]));
        check("{\"a_1\":1,\"b\":23}", Some(&[("a_1", 1), ("b", 23)]));
        for other in [
            "",
            "{",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1",
            "{\"a\":1,}",
            "{,\"a\":1}",
            "{\"a\":1\"b\":2}",
            "{\"a\":1}}",
            "{ }",
            "{\"a\" :1}",
            "{\"a\":1 }",
            "{\"\\u0061\":1}",
            "{\"A\":1}",
            "{\"a\":01}",
            "{\"a\":1.5}",
            "[]",
        ] {
            check(other, None);
        }
    }
}
