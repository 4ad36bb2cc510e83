//! Findings as text for people.
//!
//! `annotate-snippets` draws; what it is given is bounded and harmless: few lines of source, each cut to little more than
//! it can show, and no character in them that acts on a terminal or reorders what stands beside it.

use std::{iter, ops::Range};

use annotate_snippets::{Annotation, AnnotationKind, Element, Group, Level, Origin, Renderer, Snippet};

use crate::{
    diagnostic::{self, Diagnostic},
    source::{FileId, Position, Source, Sources, Span},
};

/// Columns of a source line that are shown.
const COLUMNS_MAX: usize = 120;
/// Characters that carets stand below.
const MARKED_CHARS_MAX: usize = 60;
/// Characters of a line up to which a place in it is drawn; behind, only its numbers are printed. The crate wants all
/// that comes before, to count it.
const LINE_CHARS_MAX: usize = 4096;
/// Lines from the first label to the last one up to which they are drawn together, with `...` for what is left out:
/// all lines between them are looked at.
const PART_LINES_MAX: usize = 200;

/// A finding, with ANSI colours if `colour`; without a line break at its end.
pub(crate) fn render(item: &Diagnostic, sources: &Sources, colour: bool) -> String {
    let level = match item.level {
        diagnostic::Level::Error => Level::ERROR,
        diagnostic::Level::Warning => Level::WARNING,
    };
    let renderer = if colour { Renderer::styled().hyperlink(false) } else { Renderer::plain() };
    let title = level.primary_title(printable(&item.message)).id(item.code.name());
    let parts = parts(item, sources);
    let mut group = Group::with_title(title).elements(parts.iter().flat_map(|part| part.elements(sources)));
    if let Some(help) = &item.help {
        group = group.element(Level::HELP.message(printable(help)));
    }
    renderer.term_width(COLUMNS_MAX).render(&[group])
}

/// A label with its place.
struct Mark<'i> {
    kind: AnnotationKind,
    span: Span,
    at: Position,
    text: Option<&'i str>,
}

/// Labels near each other in one file, in the order of their lines.
struct Part<'i> {
    file: FileId,
    marks: Vec<Mark<'i>>,
}

/// The labels of a finding by file and nearness; what the finding is about comes first.
fn parts<'i>(item: &'i Diagnostic, sources: &Sources) -> Vec<Part<'i>> {
    let mark = |kind, span, text| Mark { kind, span, at: sources.position(span), text };
    let primary = mark(AnnotationKind::Primary, item.span, None);
    let mut parts = vec![Part { file: item.span.file, marks: vec![primary] }];
    for label in &item.secondary {
        let mark = mark(AnnotationKind::Context, label.span, Some(label.text.as_str()));
        let near = |other: &Mark<'_>| other.at.line.abs_diff(mark.at.line) < PART_LINES_MAX;
        match parts.iter_mut().find(|part| part.file == mark.span.file && part.marks.iter().all(near)) {
            Some(part) => part.marks.push(mark),
            None => parts.push(Part { file: mark.span.file, marks: vec![mark] }),
        }
    }
    for part in &mut parts {
        part.marks.sort_by_key(|mark| mark.at);
    }
    parts
}

impl Part<'_> {
    fn elements(&self, sources: &Sources) -> Vec<Element<'static>> {
        let source = sources.file(self.file);
        let far = self.marks.iter().any(|mark| mark.at.column > LINE_CHARS_MAX);
        if far { self.places(source) } else { vec![self.snippet(source).into()] }
    }

    /// Where its labels are, without the lines; what the finding is about comes first.
    fn places(&self, source: &Source) -> Vec<Element<'static>> {
        let place = |mark: &Mark<'_>| {
            let origin = Origin::path(printable(source.name())).line(mark.at.line);
            let note = mark.text.map(|text| Level::NOTE.message(printable(text)).into());
            iter::once(origin.char_column(mark.at.column).into()).chain(note)
        };
        let mut marks: Vec<&Mark<'_>> = self.marks.iter().collect();
        marks.sort_by_key(|mark| mark.kind);
        marks.into_iter().flat_map(place).collect()
    }

    fn snippet(&self, source: &Source) -> Snippet<'static, Annotation<'static>> {
        let line_of = |mark: Option<&Mark<'_>>| mark.map_or(1, |mark| mark.at.line);
        let (first, last) = (line_of(self.marks.first()), line_of(self.marks.last()));
        let begin = self.marks.first().map_or(0, |mark| source.line(mark.span.start).0);
        let mut text = String::new();
        let mut annotations = Vec::new();
        for (number, line) in (first..=last).zip(source.text()[begin..].split('\n')) {
            let line = line.trim_end_matches('\r');
            let marks = self.marks.iter().filter(|mark| mark.at.line == number);
            for mark in marks.clone() {
                let marked = marked(source, mark.span);
                let before: String = line.chars().take(mark.at.column - 1).collect();
                let start = text.len() + printable(&before).len();
                let span = start..start + printable(&source.text()[marked]).len();
                let annotation = mark.kind.span(span);
                annotations.push(match mark.text {
                    Some(text) => annotation.label(printable(text)),
                    None => annotation,
                });
            }
            let chars_max = if marks.count() > 0 { LINE_CHARS_MAX + COLUMNS_MAX } else { COLUMNS_MAX };
            text.push_str(&printable(&line.chars().take(chars_max).collect::<String>()));
            text.push('\n');
        }
        text.pop();
        Snippet::source(text).path(printable(source.name())).line_start(first).annotations(annotations)
    }
}

/// What is marked of a span: its part in the line in which it begins, and the beginning of what is longer than can be
/// shown.
fn marked(source: &Source, span: Span) -> Range<usize> {
    let (line_start, line) = source.line(span.start);
    let within = |offset: usize| {
        let offset = offset.saturating_sub(line_start).min(line.len());
        (0..=offset).rev().find(|offset| line.is_char_boundary(*offset)).unwrap_or(0)
    };
    let start = within(span.start);
    let end = within(span.end).max(start);
    let len: usize = line[start..end].chars().take(MARKED_CHARS_MAX).map(char::len_utf8).sum();
    line_start + start..line_start + start + len
}

/// Text without what acts on a terminal, reorders what stands beside it, or is not seen at all; one column each, so
/// that carets stay in place.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\t' => ' ',
            c if c.is_control() || is_deceiving(c) => char::REPLACEMENT_CHARACTER,
            c => c,
        })
        .collect()
}

/// Characters that change the direction or the place of others, or have no width.
pub(crate) fn is_deceiving(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{code::Code, diagnostic::Diagnostics};

    /// A finding about `marked`, which is in the text once, with labels at the others.
    fn shown(texts: &[(&str, &str)], message: &str, marked: &str, labels: &[(&str, &str)]) -> String {
        let mut out = Diagnostics::about(Source::new(texts[0].0, texts[0].1));
        for (name, text) in &texts[1..] {
            out.add(Source::new(name, text)).expect("few and short");
        }
        let place = |marked: &str| {
            let found = out.sources().files().iter().enumerate().find_map(|(file, source)| {
                let start = source.text().find(marked)?;
                Some(Span { file: FileId::new(file), start, end: start + marked.len() })
            });
            found.expect("it is in a text")
        };
        let mut item = Diagnostic::error(Code::BadId, place(marked), message).help("help");
        for (marked, text) in labels {
            item = item.label(place(marked), *text);
        }
        out.push(item);
        out.to_string()
    }

    #[test]
    fn labels_of_one_file_and_of_several() {
        let near = shown(
            &[("p", "a: one\nb: x\nc: two\nd: y\ne: z\nf: three\n")],
            "m",
            "three",
            &[("one", "1"), ("two", "2")],
        );
        assert_eq!(
            near,
            "error[bad-id]: m\n --> p:6:4\n  |\n1 | a: one\n  |    --- 1\n2 | b: x\n3 | c: two\n  |    --- 2\n...\n6 | f: three\n  |    ^^^^^\n  |\n  = help: help"
        );
        let far = format!("a: one\r\n{}b: two\r\n", "\r\n".repeat(PART_LINES_MAX));
        let apart = shown(&[("p", &far), ("q", "x: ключ\n")], "m", "two", &[("one", "1"), ("ключ", "2")]);
        assert_eq!(
            apart,
            "error[bad-id]: m\n   --> p:202:4\n    |\n202 | b: two\n    |    ^^^\n    |\n   ::: p:1:4\n    |\n  1 | a: one\n    |    --- 1\n    |\n   ::: q:1:4\n    |\n  1 | x: ключ\n    |    ---- 2\n    |\n    = help: help"
        );
    }

    #[test]
    fn carets_stand_below_wide_and_replaced_characters() {
        let check = |text: &str, line: &str, carets: &str| {
            let rendered = shown(&[("p", text)], "m", "BAD", &[]);
            let lines: Vec<&str> = rendered.lines().collect();
            assert_eq!((lines[3], lines[4]), (line, carets));
        };
        check("a: 広い BAD x", "1 | a: 広い BAD x", "  |         ^^^");
        check("\ta: BAD", "1 |  a: BAD", "  |     ^^^");
        check("a\u{1b}[0m\r BAD\r\n", "1 | a\u{fffd}[0m\u{fffd} BAD", "  |        ^^^");
        check("e\u{301}\u{202e}: BAD", "1 | e\u{301}\u{fffd}: BAD", "  |     ^^^");
    }

    #[test]
    fn hostile_text_is_not_printed() {
        let hostile: String = ('\0'..' ')
            .chain(['\u{7f}', '\u{9b}', '\u{ad}', '\u{61c}', '\u{feff}'])
            .chain('\u{200b}'..='\u{206f}')
            .collect();
        let one_line = hostile.replace('\n', "");
        let text = format!("{one_line}BAD{one_line}\nx: {one_line}FIRST");
        let rendered = shown(&[(&one_line, &text)], &hostile, "BAD", &[("FIRST", &hostile)]);
        let acts = |c: char| (c.is_control() && c != '\n') || is_deceiving(c);
        assert_eq!(rendered.chars().find(|c| acts(*c)), None, "{rendered:?}");
    }

    #[test]
    fn long_lines_are_cut_around_the_caret() {
        let long = |before: usize| format!("{}BAD{}", "x".repeat(before), "y".repeat(50_000));
        let rendered = shown(&[("p", &long(4000))], "m", "BAD", &[]);
        assert!(rendered.contains("p:1:4001\n") && rendered.contains("xBADy"), "{rendered}");
        assert!(rendered.lines().all(|line| line.len() < 2 * COLUMNS_MAX), "{rendered}");
        let rendered = shown(&[("p", &long(4000))], "m", &long(4000), &[]);
        assert!(rendered.lines().all(|line| line.len() < 2 * COLUMNS_MAX), "{rendered}");
        let rendered = shown(&[("p", &long(5000))], "m", "BAD", &[("BAD", "one"), ("xxx", "two")]);
        assert_eq!(
            rendered,
            "error[bad-id]: m\n--> p:1:5001\n::: p:1:1\n = note: two\n::: p:1:5001\n = note: one\n = help: help"
        );
    }

    #[test]
    fn any_place_can_be_shown() {
        for text in ["", "\n", "\r\n", "ключ\r", "a\n\nb"] {
            for (start, end) in (0..9).flat_map(|start| (0..9).map(move |end| (start, end))) {
                let mut out = Diagnostics::about(Source::new("p", text));
                let span = Span { start, end, ..Span::default() };
                out.push(Diagnostic::error(Code::Empty, span, "m").label(span, "l"));
                assert!(out.to_string().starts_with("error[empty]: m"));
            }
        }
    }
}
