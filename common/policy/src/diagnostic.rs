//! What is wrong with a policy, where, and what to write instead.
//!
//! Rendering is our own: the crates that do it bring graphical reports and error traits, and all that is needed
//! here is one line of source with a caret, safe for terminals and the same in a log.

use std::fmt::{self, Write as _};

use serde::Serialize;

use crate::{
    code::Code,
    source::{Full, Position, Source, Sources, Span},
};

/// Diagnostics that one text can have; the rest is counted only, so that a hostile text cannot fill a log.
pub const DIAGNOSTICS_MAX: usize = 64;
/// Characters of a source line that a snippet shows.
const SNIPPET_CHARS_MAX: usize = 120;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// The policy is refused.
    Error,
    /// The policy is accepted.
    Warning,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub level: Level,
    /// What kind of finding it is.
    pub code: Code,
    /// Where.
    pub span: Span,
    /// What.
    pub message: String,
    /// The next step, when there is one.
    pub help: Option<String>,
}

/// Findings about the texts of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics {
    sources: Sources,
    items: Vec<Diagnostic>,
    omitted: usize,
}

/// A finding with its position resolved, for machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How bad it is.
    pub level: Level,
    /// What kind of finding it is.
    pub code: Code,
    /// Name of the text.
    pub file: String,
    /// Where it begins.
    #[serde(flatten)]
    pub position: Position,
    /// What.
    pub message: String,
    /// The next step, when there is one.
    pub help: Option<String>,
}

impl Diagnostics {
    /// None yet.
    #[must_use]
    pub fn new(sources: Sources) -> Self {
        Self { sources, items: Vec::new(), omitted: 0 }
    }

    /// None yet, about one text. That it is too long is a finding.
    #[must_use]
    pub fn about(source: Source) -> Self {
        let (sources, full) = Sources::new(source);
        let mut new = Self::new(sources);
        if let Some(full) = full {
            new.too_long(Span::default(), full);
        }
        new
    }

    fn too_long(&mut self, span: Span, full: Full) {
        self.error(Code::TooLong, span, full.to_string(), Some("split it or write fewer rules".into()));
    }

    /// Adds an error.
    pub fn error(&mut self, code: Code, span: Span, message: impl Into<String>, help: Option<String>) {
        self.push(Diagnostic { level: Level::Error, code, span, message: message.into(), help });
    }

    /// Adds a warning.
    pub fn warning(&mut self, code: Code, span: Span, message: impl Into<String>, help: Option<String>) {
        self.push(Diagnostic { level: Level::Warning, code, span, message: message.into(), help });
    }

    /// Adds a finding. An error is never left out in favour of a warning.
    fn push(&mut self, item: Diagnostic) {
        if self.items.len() >= DIAGNOSTICS_MAX {
            self.omitted += 1;
            match self.items.iter().rposition(|kept| kept.level > item.level) {
                Some(warning) => self.items[warning] = item,
                None => return,
            }
        } else {
            self.items.push(item);
        }
        self.items.sort_by_key(|kept| (kept.span, kept.level));
    }

    /// The findings, in the order of the text.
    #[must_use]
    pub fn items(&self) -> &[Diagnostic] {
        &self.items
    }

    /// Whether one of them is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.items.iter().any(|item| item.level == Level::Error)
    }

    /// The texts that they are about.
    #[must_use]
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Where a part of a text begins.
    #[must_use]
    pub fn position(&self, span: Span) -> Position {
        self.sources.position(span)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The findings with their positions, for machines.
    pub fn reports(&self) -> impl Iterator<Item = Report> {
        self.items.iter().map(|item| Report {
            level: item.level,
            code: item.code,
            file: self.sources.file(item.span.file).name().to_owned(),
            position: self.sources.position(item.span),
            message: item.message.clone(),
            help: item.help.clone(),
        })
    }

    /// The findings as text for people, with ANSI colours if `colour`.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let mut out = String::new();
        for item in &self.items {
            self.render_one(item, colour, &mut out);
        }
        if self.omitted > 0 {
            let _ = writeln!(out, "and {} more", self.omitted);
        }
        out
    }

    fn render_one(&self, item: &Diagnostic, colour: bool, out: &mut String) {
        let (bold, accent, plain) = match (colour, item.level) {
            (false, _) => ("", "", ""),
            (true, Level::Error) => ("\x1b[1m", "\x1b[1;31m", "\x1b[0m"),
            (true, Level::Warning) => ("\x1b[1m", "\x1b[1;33m", "\x1b[0m"),
        };
        let level = match item.level {
            Level::Error => "error",
            Level::Warning => "warning",
        };
        let Position { line, column } = self.sources.position(item.span);
        let (snippet, indent, width) = self.snippet(item.span, column);
        let gutter = " ".repeat(line.to_string().len());
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "{accent}{level}[{}]{plain}{bold}: {}{plain}",
            item.code.name(),
            printable(&item.message)
        );
        let _ = writeln!(
            out,
            "{gutter}--> {}:{line}:{column}",
            printable(self.sources.file(item.span.file).name())
        );
        let _ = writeln!(out, "{gutter} |\n{line} | {snippet}");
        let _ = writeln!(out, "{gutter} | {}{accent}{}{plain}", " ".repeat(indent), "^".repeat(width));
        if let Some(help) = &item.help {
            let _ = writeln!(out, "{gutter} = help: {}", printable(help));
        }
    }

    /// What to show of the source line, how far the carets are indented and how many there are.
    fn snippet(&self, span: Span, column: usize) -> (String, usize, usize) {
        let source = self.sources.file(span.file);
        let (_, line) = source.line(span.start);
        let wanted = source
            .text()
            .get(span.start..span.end)
            .map_or(1, |text| text.split(['\n', '\r']).next().map_or(1, |first| first.chars().count()));
        let skip = column.saturating_sub(SNIPPET_CHARS_MAX / 2);
        let skip = if line.chars().count() <= SNIPPET_CHARS_MAX { 0 } else { skip };
        let shown: String = line.chars().skip(skip).take(SNIPPET_CHARS_MAX).collect();
        let indent = column - 1 - skip;
        let width = wanted.min(shown.chars().count().saturating_sub(indent)).max(1);
        (printable(&shown), indent, width)
    }
}

/// Control characters would move the cursor or worse; one column each, so that carets stay in place.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\t' => ' ',
            c if c.is_control() => char::REPLACEMENT_CHARACTER,
            c => c,
        })
        .collect()
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render(false).trim_end())
    }
}

impl std::error::Error for Diagnostics {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_snippet_and_help() {
        let mut diagnostics = Diagnostics::about(Source::new("p.yaml", "name: x\n\tpathes: [1]\n"));
        diagnostics.error(
            Code::UnknownKey,
            Span { start: 9, end: 15, ..Span::default() },
            "unknown key `pathes`",
            Some("write `paths`".into()),
        );
        let expect = "error[unknown-key]: unknown key `pathes`\n --> p.yaml:2:2\n  |\n2 |  pathes: [1]\n  |  ^^^^^^\n  = help: write `paths`";
        assert_eq!(diagnostics.to_string(), expect);
    }

    #[test]
    fn long_lines_are_cut_around_the_caret() {
        let text = format!("{}BAD{}", "x".repeat(5000), "y".repeat(5000));
        let mut diagnostics = Diagnostics::about(Source::new("p", &text));
        diagnostics.error(Code::BadId, Span { start: 5000, end: 5003, ..Span::default() }, "bad", None);
        let rendered = diagnostics.to_string();
        assert!(rendered.contains("BAD") && rendered.contains("^^^") && rendered.len() < 600, "{rendered}");
    }

    #[test]
    fn a_flood_is_counted_and_errors_displace_warnings() {
        let mut diagnostics = Diagnostics::about(Source::new("p", "x"));
        for _ in 0..DIAGNOSTICS_MAX {
            diagnostics.warning(Code::WideException, Span::default(), "w", None);
        }
        diagnostics.error(Code::BadId, Span::default(), "e", None);
        assert!(diagnostics.has_errors());
        assert_eq!(diagnostics.items().len(), DIAGNOSTICS_MAX);
        assert!(diagnostics.to_string().ends_with("and 1 more"));
    }
}
