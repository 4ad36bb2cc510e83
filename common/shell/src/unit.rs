//! What is read up to an end of its own: the tokens of a text or of a substitution, its here-documents, and how deep it nests.

use std::collections::BTreeMap;

use treeline_policy::tool::Opaque;

use crate::lex::DEPTH_MAX;

/// Parentheses and `case` within one another: the parser reads what is in them twice, and in what is in them twice again.
const DOUBLINGS_MAX: usize = 12;
/// `&&` and `||` in a text with `[[ ... ]]`: in there, each is within the one behind it.
const JOINS_MAX: usize = 256;
/// Words that begin a construct, and those that end one.
const OPENING: [&str; 7] = ["if", "while", "until", "for", "select", "case", "{"];
const CLOSING: [&str; 4] = ["fi", "done", "esac", "}"];

/// A token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token<'t> {
    pub(crate) is_word: bool,
    /// As it is written.
    pub(crate) text: &'t str,
    /// The byte of the text that it begins with.
    pub(crate) start: usize,
}

/// A here-document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HereDoc<'t> {
    pub(crate) body: &'t str,
    /// Whether what stands for something else in it is replaced.
    pub(crate) expands: bool,
}

/// A text taken apart.
#[derive(Debug, Default)]
pub(crate) struct Lexed<'t> {
    /// Without the bodies of here-documents and the lines that end them.
    pub(crate) tokens: Vec<Token<'t>>,
    /// By where the word behind `<<` begins.
    pub(crate) heredocs: BTreeMap<usize, HereDoc<'t>>,
}

/// A here-document whose body has not come yet.
pub(crate) struct Pending {
    pub(crate) start: usize,
    pub(crate) tag: String,
    pub(crate) expands: bool,
    pub(crate) tabs: bool,
}

/// What is being read.
#[derive(Default)]
pub(crate) struct Unit<'t> {
    pub(crate) nested: bool,
    pub(crate) lexed: Lexed<'t>,
    pub(crate) pending: Vec<Pending>,
    /// The next word is the end of a here-document; whether tabs before its lines are dropped.
    wants_tag: Option<bool>,
    pub(crate) parens: usize,
    open: usize,
    cases: usize,
    /// `!` one behind another, of which each negates what is behind it.
    nots: usize,
    /// All of `coproc`, which can be within one another without anything between them.
    coprocs: usize,
    /// Joins since the first `[[`, if there was one: of a word like `]]` it is not certain that it ends a test.
    joins: Option<usize>,
    pub(crate) has_comment: bool,
    pub(crate) has_double: bool,
    has_in: bool,
    has_raw: bool,
}

impl<'t> Unit<'t> {
    pub(crate) fn new(nested: bool) -> Self {
        Self { nested, ..Self::default() }
    }

    pub(crate) fn operator(&mut self, token: Token<'t>) -> Result<(), Opaque> {
        if self.wants_tag.is_some() {
            return Err(Opaque::Syntax);
        }
        match token.text {
            "(" => self.parens += 1,
            // The one behind a pattern of `case` closes nothing.
            ")" if self.cases == 0 => self.parens = self.parens.saturating_sub(1),
            "<<" => self.wants_tag = Some(false),
            "<<-" => self.wants_tag = Some(true),
            "&&" | "||" => self.joins = self.joins.map(|joins| joins + 1),
            _ => {}
        }
        self.push(token)
    }

    pub(crate) fn word(&mut self, token: Token<'t>) -> Result<(), Opaque> {
        if let Some(tabs) = self.wants_tag.take() {
            let (tag, expands) = tag(token.text).ok_or(Opaque::Syntax)?;
            self.pending.push(Pending { start: token.start, tag, expands, tabs });
        } else if !self.pending.is_empty() && token.text.contains('\n') {
            // Which line its bodies begin with is not the same to all.
            return Err(Opaque::Syntax);
        }
        if OPENING.contains(&token.text) {
            self.open += 1;
        } else if CLOSING.contains(&token.text) {
            self.open = self.open.saturating_sub(1);
        }
        self.nots = if token.text == "!" { self.nots + 1 } else { 0 };
        match token.text {
            "coproc" => self.coprocs += 1,
            "[[" => self.joins = Some(self.joins.unwrap_or(0)),
            // All of them: an `esac` can be a word like others, and end nothing.
            "case" => self.cases += 1,
            "=~" => self.has_raw = true,
            "in" => self.has_in = true,
            _ => {}
        }
        self.push(token)
    }

    fn push(&mut self, token: Token<'t>) -> Result<(), Opaque> {
        self.lexed.tokens.push(token);
        let is_deep = self.parens + self.open + self.nots + self.coprocs > DEPTH_MAX
            || self.parens + self.cases > DOUBLINGS_MAX
            || self.joins.is_some_and(|joins| joins > JOINS_MAX);
        if is_deep { Err(Opaque::Bounds) } else { Ok(()) }
    }

    pub(crate) fn finish(self) -> Result<Lexed<'t>, Opaque> {
        // A pattern of `case` ends with a `)` that would be taken for the end of the substitution.
        let is_cut = self.nested && self.cases > 0 && self.has_in;
        let is_raw = self.has_comment && (self.has_double || self.has_raw);
        if is_cut || is_raw || !self.pending.is_empty() || self.wants_tag.is_some() {
            return Err(Opaque::Syntax);
        }
        Ok(self.lexed)
    }
}

/// The line that ends a here-document, and whether the body is expanded. The parser hangs on ends with expansions in them, and a
/// shell does not expand them.
fn tag(word: &str) -> Option<(String, bool)> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.+!%@:".contains(c);
    let quoted = ['\'', '"']
        .into_iter()
        .find_map(|quote| word.strip_prefix(quote)?.strip_suffix(quote))
        .or_else(|| word.strip_prefix('\\'));
    let bare = quoted.unwrap_or(word);
    (!bare.is_empty() && bare.chars().all(is_plain)).then(|| (bare.to_owned(), quoted.is_none()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_here_documents() {
        let check = |word: &str, expect: Option<(&str, bool)>| {
            assert_eq!(tag(word), expect.map(|(tag, expands)| (tag.to_owned(), expands)), "{word}");
        };
        check("E", Some(("E", true)));
        check("'E'", Some(("E", false)));
        check("\"E.F\"", Some(("E.F", false)));
        check("\\E", Some(("E", false)));
        check("E$x", None);
        check("'a b'", None);
        check("''", None);
        check("'E", None);
    }
}
