//! What is wrong with a policy, where, and what to write instead.

use std::fmt::{self, Write as _};

use serde::Serialize;

use crate::{
    code::Code,
    render::render,
    source::{FileId, Full, Moved, Position, Source, Sources, Span},
};

/// Diagnostics that one text can have; the rest is counted only, so that a hostile text cannot fill a log.
pub const DIAGNOSTICS_MAX: usize = 64;
/// Other places that one finding can name.
pub const LABELS_MAX: usize = 8;

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
    /// Other places that it is about, [`LABELS_MAX`] at most.
    pub secondary: Vec<Label>,
    /// The next step, when there is one.
    pub help: Option<String>,
}

/// Another place that a finding is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Where.
    pub span: Span,
    /// What is there.
    pub text: String,
}

impl Diagnostic {
    /// An error.
    #[must_use]
    pub fn error(code: Code, span: Span, message: impl Into<String>) -> Self {
        Self { level: Level::Error, code, span, message: message.into(), secondary: Vec::new(), help: None }
    }

    /// A warning.
    #[must_use]
    pub fn warning(code: Code, span: Span, message: impl Into<String>) -> Self {
        Self { level: Level::Warning, ..Self::error(code, span, message) }
    }

    /// With the next step.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// With another place; those beyond [`LABELS_MAX`] are left out.
    #[must_use]
    pub fn label(mut self, span: Span, text: impl Into<String>) -> Self {
        if self.secondary.len() < LABELS_MAX {
            self.secondary.push(Label { span, text: text.into() });
        }
        self
    }
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
    /// Other places that it is about.
    pub related: Vec<Related>,
    /// The next step, when there is one.
    pub help: Option<String>,
}

/// Another place with its position resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Related {
    /// Name of the text.
    pub file: String,
    /// Where it begins.
    #[serde(flatten)]
    pub position: Position,
    /// What is there.
    pub message: String,
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
            let help = Some("write fewer rules".to_owned());
            new.error(Code::TooLong, Span::default(), full.to_string(), help);
        }
        new
    }

    /// Adds a text that findings can be about.
    ///
    /// # Errors
    /// As [`Sources::add`].
    pub fn add(&mut self, source: Source) -> Result<FileId, Full> {
        self.sources.add(source)
    }

    /// Adds an error.
    pub fn error(&mut self, code: Code, span: Span, message: impl Into<String>, help: Option<String>) {
        self.push(Diagnostic { help, ..Diagnostic::error(code, span, message) });
    }

    /// Adds a warning.
    pub fn warning(&mut self, code: Code, span: Span, message: impl Into<String>, help: Option<String>) {
        self.push(Diagnostic { help, ..Diagnostic::warning(code, span, message) });
    }

    /// Adds a finding. An error is never left out in favour of a warning.
    pub fn push(&mut self, item: Diagnostic) {
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

    /// Adds the findings about texts that were added to these.
    pub fn extend(&mut self, others: Self, by: Moved) {
        self.omitted += others.omitted;
        for mut item in others.items {
            item.span = item.span.moved(by);
            for label in &mut item.secondary {
                label.span = label.span.moved(by);
            }
            self.push(item);
        }
    }

    /// The same findings, where other texts come behind these.
    #[must_use]
    pub fn among(self, sources: Sources) -> Self {
        Self { sources, ..self }
    }

    /// Leaves out what is not to be kept. What was counted only stays counted.
    pub fn retain(&mut self, keep: impl FnMut(&Diagnostic) -> bool) {
        self.items.retain(keep);
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
            related: item.secondary.iter().map(|label| self.related(label)).collect(),
            help: item.help.clone(),
        })
    }

    fn related(&self, label: &Label) -> Related {
        Related {
            file: self.sources.file(label.span.file).name().to_owned(),
            position: self.sources.position(label.span),
            message: label.text.clone(),
        }
    }

    /// The findings as text for people, with ANSI colours if `colour`.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let mut out = String::new();
        for item in &self.items {
            out.push_str(&render(item, &self.sources, colour));
            out.push('\n');
        }
        if self.omitted > 0 {
            let _ = writeln!(out, "and {} more", self.omitted);
        }
        out
    }
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
