//! YAML as a tree of nodes that know where they were written.
//!
//! Only what a policy needs: one document of mappings, sequences and scalars. Aliases, anchors and tags are
//! refused: they hide from a reviewer what is said where, and aliases grow without bound.

mod comments;
mod core;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError};

pub(crate) use self::{
    comments::{Comment, comments},
    core::Type,
};
use crate::{
    code::Code,
    diagnostic::Diagnostics,
    source::{FileId, Span, Spanned},
};

/// Deepest nesting; the language itself needs 5.
const DEPTH_MAX: usize = 16;

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) value: Value,
    /// From its first character to its last one; what is only between lines is no part of it.
    pub(crate) span: Span,
    /// Whether it is a container in brackets.
    pub(crate) in_brackets: bool,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// Text, and whether it was written without quotes.
    Scalar {
        text: String,
        plain: bool,
    },
    Sequence(Vec<Node>),
    Mapping(Vec<(Spanned<String>, Node)>),
}

impl Node {
    /// What it is, for messages.
    pub(crate) fn describe(&self) -> &'static str {
        match &self.value {
            Value::Sequence(_) => "a list",
            Value::Mapping(_) => "a mapping",
            Value::Scalar { plain: false, .. } => "a string",
            Value::Scalar { text, .. } => match Type::of_plain(text) {
                Type::Nothing => "nothing",
                Type::Boolean(_) => "a boolean",
                Type::Number => "a number",
                Type::Text => "a string",
            },
        }
    }
}

/// A container that is being read.
enum Open {
    Sequence(Begun, Vec<Node>),
    /// With the key whose value comes next.
    Mapping(Begun, Vec<(Spanned<String>, Node)>, Option<Spanned<String>>),
}

/// Where a container begins.
#[derive(Clone, Copy)]
struct Begun {
    start: usize,
    in_brackets: bool,
}

impl Begun {
    /// What begins with a bracket, is told with its place; what has none, with none.
    fn at(span: Span) -> Self {
        Self { start: span.start, in_brackets: span.start < span.end }
    }
}

/// Reads the one document of a text of `diagnostics`. Reports what it finds; `None` when there is nothing to go on with.
pub(crate) fn parse(file: FileId, diagnostics: &mut Diagnostics) -> Option<Node> {
    let source = diagnostics.sources().file(file).clone();
    let text = source.text();
    let offsets = offsets(text);
    let mut reader = Reader { file, text, offsets, open: Vec::new(), root: None, documents: 0, diagnostics };
    for event in Parser::new_from_str(text) {
        let step = match event {
            Ok((event, span)) => reader.event(event, span),
            Err(error) => Err(reader.syntax(&error)),
        };
        if let Err(Stop) = step {
            return None;
        }
    }
    if reader.root.is_none() {
        let help = Some("`docs/policy.md` has examples".into());
        diagnostics.error(Code::EmptyPolicy, Span { file, ..Span::default() }, "the file is empty", help);
        return None;
    }
    reader.root
}

/// Byte offset of each character, and of the end: the parser counts characters.
fn offsets(text: &str) -> Vec<u32> {
    text.char_indices().map(|(offset, _)| offset).chain([text.len()]).map(|offset| offset as u32).collect()
}

/// The length of a text in quotes, with both of them; `is_escape` is said to two characters that stand for one.
fn closing(text: &str, is_escape: fn(&str) -> bool) -> usize {
    let Some(quote) = text.chars().next() else { return 0 };
    let mut at = quote.len_utf8();
    while let Some(next) = text[at..].chars().next() {
        at += next.len_utf8();
        if is_escape(&text[at - next.len_utf8()..]) {
            at += text[at..].chars().next().map_or(0, char::len_utf8);
        } else if next == quote {
            return at;
        }
    }
    text.len()
}

/// An error after which the tree would make no sense; it has been reported.
struct Stop;

struct Reader<'a> {
    file: FileId,
    text: &'a str,
    offsets: Vec<u32>,
    open: Vec<Open>,
    root: Option<Node>,
    documents: usize,
    diagnostics: &'a mut Diagnostics,
}

impl Reader<'_> {
    fn offset(&self, index: usize) -> usize {
        self.offsets.get(index).or(self.offsets.last()).map_or(0, |offset| *offset as usize)
    }

    fn span(&self, span: saphyr_parser::Span) -> Span {
        let start = self.offset(span.start.index());
        Span { file: self.file, start, end: self.offset(span.end.index()).max(start) }
    }

    fn syntax(&mut self, error: &ScanError) -> Stop {
        let start = self.offset(error.marker().index());
        let span = Span { file: self.file, start, end: start };
        self.diagnostics.error(Code::NotYaml, span, format!("not YAML: {}", error.info()), None);
        Stop
    }

    fn event(&mut self, event: Event<'_>, span: saphyr_parser::Span) -> Result<(), Stop> {
        let span = self.span(span);
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return self.refuse(
                        Code::NotYaml,
                        span,
                        "more than one YAML document",
                        "write each into a file of its own",
                    );
                }
                Ok(())
            }
            Event::Alias(_) => self.refuse(
                Code::YamlFeature,
                span,
                "YAML aliases (`*name`) are not part of the language",
                "quote a pattern that begins with `*`",
            ),
            Event::Scalar(text, style, anchor, tag) => {
                self.plain(span, anchor, tag.is_some())?;
                let span = Span { end: self.end_of(span, style, &text), ..span };
                let value = Value::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain };
                self.node(Node { value, span, in_brackets: false })
            }
            Event::SequenceStart(anchor, tag) => {
                self.plain(span, anchor, tag.is_some())?;
                self.enter(Open::Sequence(Begun::at(span), Vec::new()), span)
            }
            Event::MappingStart(anchor, tag) => {
                self.plain(span, anchor, tag.is_some())?;
                self.enter(Open::Mapping(Begun::at(span), Vec::new(), None), span)
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::Sequence(begun, items)) => self.close(begun, span, Value::Sequence(items)),
                Some(Open::Mapping(begun, entries, _)) => self.close(begun, span, Value::Mapping(entries)),
                None => Err(Stop),
            },
        }
    }

    fn refuse(&mut self, code: Code, span: Span, message: &str, help: &str) -> Result<(), Stop> {
        self.diagnostics.error(code, span, message, Some(help.to_owned()));
        Err(Stop)
    }

    fn plain(&mut self, span: Span, anchor: usize, tagged: bool) -> Result<(), Stop> {
        if anchor != 0 {
            return self.refuse(
                Code::YamlFeature,
                span,
                "YAML anchors (`&name`) are not part of the language",
                "write it out",
            );
        }
        if tagged {
            let help = "remove the tag; quote a string that begins with `!`";
            return self.refuse(
                Code::YamlFeature,
                span,
                "YAML tags (`!name`) are not part of the language",
                help,
            );
        }
        Ok(())
    }

    fn enter(&mut self, open: Open, span: Span) -> Result<(), Stop> {
        if let Some(Open::Mapping(_, _, None)) = self.open.last() {
            return self.refuse(Code::WrongType, span, "a key has to be a word", "remove the brackets");
        }
        if self.open.len() >= DEPTH_MAX {
            return self.refuse(
                Code::NestedTooDeeply,
                span,
                "nested too deeply",
                "no part of a policy nests more than five levels",
            );
        }
        self.open.push(open);
        Ok(())
    }

    fn close(&mut self, begun: Begun, end: Span, value: Value) -> Result<(), Stop> {
        let Begun { start, in_brackets } = begun;
        let last = match &value {
            _ if in_brackets => end.start + 1,
            Value::Sequence(items) => items.last().map_or(start, |item| item.span.end),
            Value::Mapping(entries) => entries.last().map_or(start, |(_, value)| value.span.end),
            Value::Scalar { .. } => end.end,
        };
        self.node(Node { value, span: Span { start, end: last.max(start), ..end }, in_brackets })
    }

    /// Where a scalar ends that says `value`. The parser is beyond that when it knows: behind spaces, a comment, or empty lines.
    /// Of what is not written it has the place of what comes next, which is no part of it.
    fn end_of(&self, span: Span, style: ScalarStyle, value: &str) -> usize {
        let text = self.text.get(span.start..span.end).unwrap_or_default();
        let len = match style {
            ScalarStyle::Plain if value.is_empty() => 0,
            // A block without a line of its own: at the end of a file its span begins with its header, behind which a comment
            // can be; elsewhere behind it, where only white space is.
            ScalarStyle::Literal | ScalarStyle::Folded if value.chars().all(|c| c == '\n') => {
                text.find(char::is_whitespace).unwrap_or(text.len())
            }
            ScalarStyle::Plain => text.len(),
            ScalarStyle::Literal | ScalarStyle::Folded => text.trim_end().len(),
            ScalarStyle::SingleQuoted => closing(text, |rest| rest.starts_with("''")),
            ScalarStyle::DoubleQuoted => closing(text, |rest| rest.starts_with('\\')),
        };
        span.start + len
    }

    fn node(&mut self, node: Node) -> Result<(), Stop> {
        let in_brackets = node.in_brackets;
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::Sequence(_, items)) => items.push(node),
            Some(Open::Mapping(_, entries, key)) => match (key.take(), node.value) {
                (Some(key), value) => entries.push((key, Node { value, span: node.span, in_brackets })),
                (None, Value::Scalar { text, .. }) => *key = Some(Spanned { value: text, span: node.span }),
                (None, _) => {
                    return self.refuse(
                        Code::WrongType,
                        node.span,
                        "a key has to be a word",
                        "remove the brackets",
                    );
                }
            },
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Source;

    #[track_caller]
    fn check_refused(text: &str, line: usize, message: &str) {
        let mut diagnostics = Diagnostics::about(Source::new("p", text));
        assert_eq!(parse(FileId::default(), &mut diagnostics), None, "{text}");
        let report = diagnostics.reports().next().expect("one diagnostic");
        assert!(report.message.contains(message), "{diagnostics}");
        assert_eq!(report.position.line, line, "{diagnostics}");
    }

    #[test]
    fn refusals() {
        check_refused("", 1, "empty");
        check_refused("# only a comment\n", 1, "empty");
        check_refused("a: 1\n---\nb: 2\n", 2, "more than one YAML document");
        check_refused("a: &x 1\nb: *x\n", 1, "anchors");
        check_refused("a:\n  - *x\n", 2, "");
        check_refused("a: !!str 1\n", 1, "tags");
        check_refused("? [1]\n: 2\n", 1, "a key has to be a word");
        check_refused("a: [1\nb: 2\n", 2, "not YAML");
        check_refused(&"[".repeat(40), 1, "nested");
    }

    #[test]
    fn nodes_know_their_place() {
        let source = Source::new("p", "ключ: [a, 'b']\n");
        let mut diagnostics = Diagnostics::about(source.clone());
        let root = parse(FileId::default(), &mut diagnostics);
        let Some(Node { value: Value::Mapping(entries), .. }) = root else {
            panic!("{diagnostics}");
        };
        let (key, Node { value: Value::Sequence(items), .. }) = &entries[0] else { panic!("a list") };
        let text = |span: Span| &source.text()[span.start..span.end];
        assert_eq!(text(key.span), "ключ");
        assert_eq!([text(items[0].span), text(items[1].span)], ["a", "'b'"]);
    }
}
