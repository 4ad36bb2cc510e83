//! Texts of others, made safe for terminals.

use std::fmt::Write as _;

/// The text with its control characters, and what turns the direction of writing, escaped.
#[must_use]
pub fn safe(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || turns {
            let _ = write!(out, "{}", c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// The beginning of a text, of at most so many characters, made safe.
#[must_use]
pub fn shortened(text: &str, len_max: usize) -> String {
    let text = safe(text);
    match text.char_indices().nth(len_max) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// Arguments as they could be typed into a shell: those that a shell would take apart are in quotes.
#[must_use]
pub fn command_line<T: ToString>(words: &[T]) -> String {
    let words = words.iter().map(|word| {
        let word = word.to_string();
        let bare = |c: char| c.is_alphanumeric() || "-_./=:@%+,~".contains(c);
        if !word.is_empty() && word.chars().all(bare) {
            return word;
        }
        format!("'{}'", safe(&word).replace('\'', "'\\''"))
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal() {
        assert_eq!(safe("a \"b\" \\ ä\u{1b}[2J\n\u{202e}"), "a \"b\" \\ ä\\u{1b}[2J\\n\\u{202e}");
        assert_eq!(shortened("äöü", 3), "äöü");
        assert_eq!(shortened("äöü!", 3), "äöü...");
    }

    #[test]
    fn words_stay_apart() {
        assert_eq!(command_line(&["sh", "-c", "echo 'a b'", ""]), "sh -c 'echo '\\''a b'\\''' ''");
        assert_eq!(command_line(&["ls", "--x=1", "\u{1b}"]), "ls --x=1 '\\u{1b}'");
        assert_eq!(command_line::<&str>(&[]), "");
    }
}
