//! Shells that are not bash: of what only bash has, they make something else.

use crate::{lex::Cursor, unit::Token};

/// Which shell reads a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Bash,
    /// `sh`, which is dash on Debian, ash in busybox, and bash elsewhere: what all of them have.
    Posix,
}

/// Operators that only bash has, or that are two to others.
const OPERATORS: [&str; 6] = ["&>", "&>>", "|&", "<<<", ";&", ";;&"];
/// Words that begin something in bash alone, and name a program elsewhere.
const WORDS: [&str; 5] = ["[[", "function", "time", "coproc", "select"];

/// Whether a text has something in it that only bash reads as bash does.
pub(crate) fn is_bash_only(tokens: &[Token<'_>]) -> bool {
    let mut pairs = tokens.iter().zip(tokens.iter().skip(1));
    // `((` is a command within a command, and `<(` no file.
    let is_joined = |(first, second): (&Token<'_>, &Token<'_>)| {
        let is_double = matches!(first.text, "(" | "<" | ">") && second.text == "(";
        is_double && !first.is_word && first.start + 1 == second.start
    };
    let is_own = |token: &Token<'_>| match token.is_word {
        true => is_word(token.text),
        false => OPERATORS.contains(&token.text),
    };
    tokens.iter().any(is_own) || pairs.any(is_joined)
}

fn is_word(text: &str) -> bool {
    let name = text.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
    let is_assignment = name.len() < text.len() && name.starts_with(['+', '['].as_slice());
    WORDS.contains(&text) || is_assignment && text.contains('=') || has_dollar_quotes(text)
}

/// Whether there is a `$'...'` or `$"..."` in a word. What cannot be read is refused elsewhere.
fn has_dollar_quotes(word: &str) -> bool {
    let mut cursor = Cursor::new(word, 0);
    while let Some(next) = cursor.peek() {
        let start = cursor.at;
        let read = match next {
            '$' if cursor.next_is("$'") || cursor.next_is("$\"") => return true,
            '$' => cursor.dollar(false),
            '\'' => cursor.single(),
            '"' => cursor.double(),
            '`' => cursor.backquoted(),
            '\\' => {
                cursor.take();
                cursor.take();
                Ok(())
            }
            _ => {
                cursor.take();
                Ok(())
            }
        };
        // Within braces the same counts; what is in parentheses is read as a text of its own.
        let whole = &word[start..cursor.at];
        let is_within = whole.starts_with("${") && (whole.contains("$'") || whole.contains("$\""));
        if read.is_err() || is_within {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lex::lex;

    #[test]
    fn what_only_bash_has() {
        let check = |text: &str, expect: bool| {
            let lexed = lex(text).expect("a good text");
            assert_eq!(is_bash_only(&lexed.tokens), expect, "{text}");
        };
        for text in [
            "a &>x b",
            "a &>>x",
            "[[ a || rm > x ]]",
            "rm=1; ((rm))",
            "a |& b",
            "a <<<b",
            "a <(b)",
            "a > >(b)",
            "function f { a; }",
            "time a",
            "coproc a",
            "a $'b'",
            "a\"b\"$\"c\"",
            "a ${x:-$'b'}",
            "x+=1 a",
            "x[1]=2 a",
            "case x in x) a;& y) b;; esac",
        ] {
            check(text, true);
        }
        for text in [
            "a 'b$' | c \"$'\" && d \\$'e'",
            "a > x 2>&1 < y << E\n$'\nE\n",
            "( (a); b ); f() { c; }",
            "$(a) ${x:-y} $((1+(2)))",
            "if [ -f a ]; then b [c] =d; fi",
            "find . -exec a {} +",
        ] {
            check(text, false);
        }
    }
}
