//! The parser's tree of a text, whose words are looked up in our own reading of it.
//!
//! The parser is trusted with the structure alone. Where it takes the text apart into other tokens than we do, the text is refused.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

use brush_parser::{ParserOptions, Token as Parsed, ast, parse_tokens, uncached_tokenize_str};
use treeline_policy::tool::Opaque;

use crate::{
    dialect::{Dialect, is_bash_only},
    lex::lex,
    unit::{HereDoc, Lexed, Token},
};

/// A text that was parsed.
pub(crate) struct Tree<'t> {
    pub(crate) program: ast::Program,
    lexed: Lexed<'t>,
    /// Places of words in `lexed` by the character that they begin with, according to the parser.
    places: BTreeMap<usize, usize>,
}

/// Parses a text.
pub(crate) fn parse(text: &str, dialect: Dialect) -> Result<Tree<'_>, Opaque> {
    let lexed = lex(text)?;
    if dialect == Dialect::Posix && is_bash_only(&lexed.tokens) {
        return Err(Opaque::Shell);
    }
    // bash has extended patterns only when it is told to, and then another grammar.
    let options = ParserOptions { enable_extended_globbing: false, ..ParserOptions::default() };
    // It is a foreign reader of foreign bytes; it runs in a process that may end, but not everybody's does.
    let parsed = catch_unwind(AssertUnwindSafe(|| {
        let tokens = uncached_tokenize_str(text, &options.tokenizer_options()).map_err(|_| Opaque::Syntax)?;
        let program = parse_tokens(&tokens, &options).map_err(|_| Opaque::Syntax)?;
        Ok((tokens, program))
    }));
    let (tokens, program) = parsed.unwrap_or(Err(Opaque::Parser))?;
    let places = agree(text, &lexed, &tokens).ok_or(Opaque::Syntax)?;
    Ok(Tree { program, lexed, places })
}

/// The places of words, if both readers have the same tokens.
fn agree(text: &str, lexed: &Lexed<'_>, tokens: &[Parsed]) -> Option<BTreeMap<usize, usize>> {
    let mut tokens = tokens.iter();
    let mut places = BTreeMap::new();
    // How many characters are before the place `at`, and before the end of the last token.
    let (mut at, mut chars, mut end) = (0, 0, 0);
    let mut wants_tag = false;
    for (place, own) in lexed.tokens.iter().enumerate() {
        let theirs = tokens.next()?;
        chars += text.get(at..own.start)?.chars().count();
        at = own.start;
        if matches!(theirs, Parsed::Word(..)) != own.is_word || !is_same(own, theirs) {
            return None;
        }
        let start = theirs.location().start.index;
        // What it drops before a word, as joined lines, it counts in or does not.
        if own.is_word && (!(end..=chars).contains(&start) || places.insert(start, place).is_some()) {
            return None;
        }
        end = chars + own.text.chars().count();
        if wants_tag {
            // Behind the end's name it has the body and the end.
            tokens.next()?;
            tokens.next()?;
        }
        wants_tag = !own.is_word && matches!(own.text, "<<" | "<<-");
    }
    tokens.next().is_none().then_some(places)
}

fn is_same(own: &Token<'_>, theirs: &Parsed) -> bool {
    // What it makes of what is nested need not be as it was written.
    let is_plain = !own.is_word || !own.text.contains(['$', '`']) && !own.text.contains("\\\n");
    !is_plain || theirs.to_str() == own.text
}

impl<'t> Tree<'t> {
    /// A word as it is written.
    pub(crate) fn word<'a>(&'a self, word: &'a ast::Word) -> Result<&'a str, Opaque> {
        match &word.loc {
            Some(span) => Ok(self.token(span.start.index)?.text),
            // Such a word has been put together, and lost what it cannot say.
            None if word.value.contains(['$', '`', '\\']) => Err(Opaque::Syntax),
            None => Ok(&word.value),
        }
    }

    fn token(&self, start: usize) -> Result<&Token<'t>, Opaque> {
        let place = self.places.get(&start).ok_or(Opaque::Syntax)?;
        self.lexed.tokens.get(*place).ok_or(Opaque::Syntax)
    }

    /// The words between two places: what is in an array.
    pub(crate) fn words(&self, start: usize, end: usize) -> impl Iterator<Item = &'t str> {
        let places = self.places.range(start + 1..end.max(start + 1));
        places.filter_map(|(_, place)| self.lexed.tokens.get(*place)).map(|token| token.text)
    }

    /// A here-document, by the word behind `<<`.
    pub(crate) fn heredoc(&self, end: &ast::Word) -> Result<HereDoc<'t>, Opaque> {
        let start = end.loc.as_ref().ok_or(Opaque::Syntax)?.start.index;
        self.lexed.heredocs.get(&self.token(start)?.start).copied().ok_or(Opaque::Syntax)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_readers_agree_on_what_people_write() {
        for text in [
            "ls -l | wc -l && a; b &\nc",
            "git commit -m \"$(cat <<'EOF'\nfix: it's (done)\n\n* x\nEOF\n)\" && ls",
            "# c\nls a # d\nrm ü \"ß\" é",
            "cat <<A <<-'B' | x\n$(y)\nA\n\tz\n\tB\nd",
            "if a; then b; elif c; then d; else e; fi >f",
            "for i in 1 2 3; do echo $i; done; while read -r l; do x; done < f",
            "case $x in a|b) c;; *) d;; esac",
            "f() { a; }; function g { b; }",
            "x=1 y+=(a b) z[1]=c cmd 2>&1 >/dev/null <in",
            "[[ -f a && ! $b == c* || d =~ ^e$ ]] && (cd x; y)",
            "((i++)); for ((i=0;i<3;i++)); do a; done",
            "diff <(a) <(b) > >(c)",
            "a \\\n  --b \\\n  c",
            "! a |& b; time c; { d; e; } 2>x",
        ] {
            assert!(parse(text, Dialect::Bash).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_is_no_program_is_refused() {
        for text in ["if", "a &&", "(a", "a)", "<<", "{ a", "for", "|", "a () b", "select x in a; do b; done"]
        {
            assert!(parse(text, Dialect::Bash).is_err(), "{text}");
        }
    }
}
