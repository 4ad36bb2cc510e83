//! The texts of a policy and places in them.

use std::sync::Arc;

/// Bytes of all texts of a policy together: a thousand long rules fit, and reading them stays in the milliseconds.
pub const TEXT_LEN_MAX: usize = 1 << 20;
/// Texts of a policy: more than any organisation has teams that write a part of one.
pub const FILES_MAX: usize = 64;

/// Which text of [`Sources`]; the first one is the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileId(u16);

#[cfg(test)]
impl FileId {
    pub(crate) fn new(number: usize) -> Self {
        Self(number as u16)
    }
}

impl FileId {
    /// The same text, where it was added to others.
    #[must_use]
    pub fn moved(self, by: Moved) -> Self {
        Self(self.0.saturating_add(by.0))
    }
}

/// A part of a text, as byte offsets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Which text.
    pub file: FileId,
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
        Self { start: clamp(start), end: clamp(end), ..self }
    }

    /// The same place, where its text was added to others.
    #[must_use]
    pub fn moved(self, by: Moved) -> Self {
        Self { file: self.file.moved(by), ..self }
    }

    /// Its beginning, for what is said of all that comes behind.
    #[must_use]
    pub fn head(self) -> Self {
        Self { end: self.start, ..self }
    }
}

/// By how much the ids of texts change that are added to others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved(u16);

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

/// The texts that a policy is read from, in the order in which they were added. There is always a first one, if only an
/// empty one without a name. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources(Vec<Source>);

/// Why a text was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// With it there would be more than [`FILES_MAX`].
    #[error("more than {FILES_MAX} files")]
    Files,
    /// With it they would be longer than [`TEXT_LEN_MAX`].
    #[error("more than the {TEXT_LEN_MAX} bytes that a policy can have")]
    Bytes {
        /// Length of all with it, as far as it was read.
        len: usize,
    },
}

impl Sources {
    /// One text. One that is too long is replaced by an empty one of the same name, with the reason.
    #[must_use]
    pub fn new(first: Source) -> (Self, Option<Full>) {
        let len = first.text.len();
        if len > TEXT_LEN_MAX {
            return (Self(vec![Source::new(&first.name, "")]), Some(Full::Bytes { len }));
        }
        (Self(vec![first]), None)
    }

    /// Adds a text.
    ///
    /// # Errors
    /// There are too many, or they are too long together; then nothing is added.
    pub fn add(&mut self, source: Source) -> Result<FileId, Full> {
        let len = self.0.iter().chain([&source]).map(|one| one.text.len()).sum();
        if len > TEXT_LEN_MAX {
            return Err(Full::Bytes { len });
        }
        let id = u16::try_from(self.0.len()).ok().filter(|id| usize::from(*id) < FILES_MAX);
        let id = FileId(id.ok_or(Full::Files)?);
        self.0.push(source);
        Ok(id)
    }

    /// Adds all texts of others.
    ///
    /// # Errors
    /// As [`Sources::add`], for all of them together.
    pub fn extend(&mut self, others: &Self) -> Result<Moved, Full> {
        let moved = Moved(self.0.len() as u16);
        let mut all = self.clone();
        for source in &others.0 {
            all.add(source.clone())?;
        }
        *self = all;
        Ok(moved)
    }

    /// The text that names the others.
    #[must_use]
    pub fn first(&self) -> &Source {
        &self.0[0]
    }

    /// A text. An id of other sources than these gives the first one.
    #[must_use]
    pub fn file(&self, id: FileId) -> &Source {
        self.0.get(usize::from(id.0)).unwrap_or(&self.0[0])
    }

    /// All texts.
    #[must_use]
    pub fn files(&self) -> &[Source] {
        &self.0
    }

    /// Where a part of a text begins.
    #[must_use]
    pub fn position(&self, span: Span) -> Position {
        self.file(span.file).position(span.start)
    }
}

impl Default for Sources {
    fn default() -> Self {
        Self(vec![Source::new("", "")])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_of_all_texts_together() {
        let half = "x".repeat(TEXT_LEN_MAX / 2);
        let (mut sources, full) = Sources::new(Source::new("a", &half));
        assert_eq!(full, None);
        assert_eq!(sources.add(Source::new("b", &half)), Ok(FileId(1)));
        assert_eq!(sources.add(Source::new("c", "y")), Err(Full::Bytes { len: TEXT_LEN_MAX + 1 }));
        for id in 2..FILES_MAX as u16 {
            assert_eq!(sources.add(Source::new("empty", "")), Ok(FileId(id)));
        }
        assert_eq!(sources.add(Source::new("one more", "")), Err(Full::Files));
        assert_eq!((sources.files().len(), sources.file(FileId(1)).name()), (FILES_MAX, "b"));
    }

    #[test]
    fn places_in_added_texts() {
        let source = |name: &str| Source::new(name, "x\ny");
        let mut sources = Sources(vec![source("a"), source("b")]);
        let others = Sources(vec![source("c"), source("d")]);
        let span = Span { file: FileId(1), start: 2, end: 3 };
        let moved = sources.extend(&others).expect("room");
        assert_eq!(sources.file(span.moved(moved).file).name(), "d");
        assert_eq!(sources.position(span.moved(moved)), Position { line: 2, column: 1 });
        let mut full = Sources(vec![source("e"); FILES_MAX - 1]);
        assert_eq!(full.extend(&others), Err(Full::Files));
        assert_eq!(full.files().len(), FILES_MAX - 1, "none was added");
    }

    #[test]
    fn a_first_text_that_is_too_long_leaves_its_name() {
        let (sources, full) = Sources::new(Source::new("a", &"x".repeat(TEXT_LEN_MAX + 1)));
        assert_eq!(full, Some(Full::Bytes { len: TEXT_LEN_MAX + 1 }));
        assert_eq!((sources.first().name(), sources.first().text()), ("a", ""));
    }

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
