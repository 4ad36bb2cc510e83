//! YAML as a tree of nodes that know where they were written.
//!
//! Only what a policy needs: one document of mappings, sequences and scalars. Aliases, anchors and tags are
//! refused: they hide from a reviewer what is said where, and aliases grow without bound.

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError};

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
    pub(crate) span: Span,
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
            Value::Scalar { text, .. } => match text.as_str() {
                "" | "~" | "null" | "Null" | "NULL" => "nothing",
                "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => "a boolean",
                number if number.parse::<f64>().is_ok() => "a number",
                _ => "a string",
            },
        }
    }
}

/// A container that is being read.
enum Open {
    Sequence(usize, Vec<Node>),
    /// With the key whose value comes next.
    Mapping(usize, Vec<(Spanned<String>, Node)>, Option<Spanned<String>>),
}

/// Reads the one document of a text of `diagnostics`. Reports what it finds; `None` when there is nothing to go on with.
pub(crate) fn parse(file: FileId, diagnostics: &mut Diagnostics) -> Option<Node> {
    let source = diagnostics.sources().file(file).clone();
    let text = source.text();
    let mut reader =
        Reader { file, offsets: offsets(text), open: Vec::new(), root: None, documents: 0, diagnostics };
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

/// An error after which the tree would make no sense; it has been reported.
struct Stop;

struct Reader<'a> {
    file: FileId,
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
                let plain = style == ScalarStyle::Plain;
                self.node(Node { value: Value::Scalar { text: text.into_owned(), plain }, span })
            }
            Event::SequenceStart(anchor, tag) => {
                self.plain(span, anchor, tag.is_some())?;
                self.enter(Open::Sequence(span.start, Vec::new()), span)
            }
            Event::MappingStart(anchor, tag) => {
                self.plain(span, anchor, tag.is_some())?;
                self.enter(Open::Mapping(span.start, Vec::new(), None), span)
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::Sequence(start, items)) => self.close(start, span, Value::Sequence(items)),
                Some(Open::Mapping(start, entries, _)) => self.close(start, span, Value::Mapping(entries)),
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

    fn close(&mut self, start: usize, end: Span, value: Value) -> Result<(), Stop> {
        self.node(Node { value, span: Span { start, end: end.end.max(start), ..end } })
    }

    fn node(&mut self, node: Node) -> Result<(), Stop> {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::Sequence(_, items)) => items.push(node),
            Some(Open::Mapping(_, entries, key)) => match (key.take(), node.value) {
                (Some(key), value) => entries.push((key, Node { value, span: node.span })),
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
