//! The text of a policy and places in it.

use std::sync::Arc;

/// A part of a text, as byte offsets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Span {
    /// The part of this span between two offsets that are relative to its start.
    #[must_use]
    pub fn within(self, start: usize, end: usize) -> Self {
        let clamp = |offset: usize| self.start.saturating_add(offset).min(self.end);
        Self { start: clamp(start), end: clamp(end) }
    }
}

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it was written.
    pub span: Span,
}

/// A line and a column, both counted from 1; columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

/// A named text. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    name: Arc<str>,
    text: Arc<str>,
}

impl Source {
    /// A text with the name that messages call it by, such as its path.
    #[must_use]
    pub fn new(name: &str, text: &str) -> Self {
        Self { name: name.into(), text: text.into() }
    }

    /// What messages call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Line and column of a byte offset; an offset beyond the end is the end.
    #[must_use]
    pub fn position(&self, offset: usize) -> Position {
        let head = &self.text[..self.boundary(offset)];
        let line_start = head.rfind('\n').map_or(0, |newline| newline + 1);
        Position {
            line: head.bytes().filter(|byte| *byte == b'\n').count() + 1,
            column: head[line_start..].chars().count() + 1,
        }
    }

    /// The line that holds a byte offset, without its line break, and the offset of its first byte.
    #[must_use]
    pub fn line(&self, offset: usize) -> (usize, &str) {
        let offset = self.boundary(offset);
        let start = self.text[..offset].rfind('\n').map_or(0, |newline| newline + 1);
        let end = self.text[offset..].find('\n').map_or(self.text.len(), |newline| offset + newline);
        (start, self.text[start..end].trim_end_matches('\r'))
    }

    /// The nearest character boundary at or before an offset.
    fn boundary(&self, offset: usize) -> usize {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions() {
        let source = Source::new("x", "ab\nключ: y\r\n");
        let check = |offset: usize, line: usize, column: usize, text: &str| {
            assert_eq!(source.position(offset), Position { line, column });
            assert_eq!(source.line(offset).1, text);
        };
        check(0, 1, 1, "ab");
        check(2, 1, 3, "ab");
        check(3, 2, 1, "ключ: y");
        check(5, 2, 2, "ключ: y");
        check(6, 2, 2, "ключ: y");
        check(usize::MAX, 3, 1, "");
    }
}
