//! Whether a call of `sed` only edits: its language can run commands and write files.

use crate::word::Word;

/// Whether every script among the arguments is one that is followed to its end and runs and writes nothing.
pub(crate) fn is_harmless(arguments: &[Word]) -> bool {
    let mut scripts = Vec::new();
    let mut first = None;
    let mut words = arguments.iter();
    let mut has_file = false;
    while let Some(word) = words.next() {
        if word.is_many && !word.is_glob {
            return false;
        }
        match word.text() {
            Some("-e" | "--expression" | "-ne" | "-re" | "-Ee") => scripts.push(words.next()),
            Some("-f" | "--file") => has_file = words.next().is_some(),
            Some(text) if text.starts_with("--") => {
                if !matches!(
                    text,
                    "--quiet" | "--silent" | "--regexp-extended" | "--in-place" | "--sandbox" | "--null-data"
                ) {
                    return false;
                }
            }
            Some(text) if text.len() > 1 && text.starts_with('-') => {
                // What is behind `-i` is a suffix.
                let letters = text[1..].split('i').next().unwrap_or_default();
                if letters.contains(|c| !"nrEsuz".contains(c)) {
                    return false;
                }
            }
            _ => _ = first.get_or_insert(word),
        }
    }
    if scripts.is_empty() && !has_file {
        scripts.push(first);
    }
    scripts.into_iter().all(|script| script.and_then(Word::text).is_some_and(is_edit))
}

/// Whether a script only edits.
fn is_edit(script: &str) -> bool {
    let mut rest = script;
    loop {
        rest = rest.trim_start_matches(|c: char| {
            c.is_ascii_whitespace() || ";{}!".contains(c) || c.is_ascii_digit() || "$,~+".contains(c)
        });
        let Some(next) = rest.chars().next() else { return true };
        rest = &rest[next.len_utf8()..];
        let behind = match next {
            '/' => delimited(rest, '/').map(|rest| rest.trim_start_matches(['I', 'M'])),
            's' => substitution(rest),
            'y' => two(rest),
            'p' | 'd' | 'q' | '=' | 'n' | 'N' | 'h' | 'H' | 'g' | 'G' | 'x' | 'D' | 'P' | 'l' => Some(rest),
            // The text is the rest of the line, and further ones behind a backslash.
            'a' | 'i' | 'c' => return !script.contains('\n'),
            '#' => Some(rest.split_once('\n').map_or("", |(_, rest)| rest)),
            _ => None,
        };
        match behind {
            Some(behind) => rest = behind,
            None => return false,
        }
    }
}

fn substitution(rest: &str) -> Option<&str> {
    let behind = two(rest)?;
    let flags = behind.len() - behind.trim_start_matches(|c: char| c.is_ascii_alphanumeric()).len();
    behind[..flags].chars().all(|flag| "gpiIM0123456789".contains(flag)).then(|| &behind[flags..])
}

/// What is behind two parts with a delimiter of their own.
fn two(rest: &str) -> Option<&str> {
    let delimiter = rest.chars().next().filter(|c| *c != '\\' && *c != '\n')?;
    delimited(delimited(&rest[delimiter.len_utf8()..], delimiter)?, delimiter)
}

/// What is behind the next delimiter. In brackets some readers take it for a character, so there must be none, and no brackets of
/// which it is not clear where they end.
fn delimited(rest: &str, delimiter: char) -> Option<&str> {
    let mut is_escaped = false;
    let mut in_brackets = false;
    let mut chars = rest.char_indices();
    while let Some((at, next)) = chars.next() {
        let behind = &rest[at + next.len_utf8()..];
        match next {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '\n' => return None,
            _ if next == delimiter && in_brackets => return None,
            _ if next == delimiter => return Some(behind),
            // A bracket at the beginning is one of the characters.
            '[' if !in_brackets => {
                if behind.trim_start_matches('^').starts_with(']') {
                    return None;
                }
                in_brackets = true;
            }
            // `[:alpha:]`, whose end is not that of the brackets.
            '[' if behind.starts_with([':', '.', '=']) => {
                let end = [behind.get(..1)?, "]"].concat();
                let class = &behind[..behind[1..].find(&end)? + 1 + end.len()];
                if class.contains([delimiter, '\\', '\n']) {
                    return None;
                }
                let is_before = |(index, _): &(usize, char)| *index < at + 1 + class.len();
                while chars.clone().next().as_ref().is_some_and(is_before) {
                    chars.next();
                }
            }
            ']' => in_brackets = false,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts() {
        let check = |script: &str, expect: bool| assert_eq!(is_edit(script), expect, "{script}");
        for script in [
            "1,5p",
            "$d",
            "s/a/b/g",
            "s|a/b|c|;s/x/y/2",
            "/re/d",
            "/a/,/b/{s/[^ ]*/x/;p}",
            "5q",
            "y/a/b/",
            "$!N",
            "1i\\x",
            "s/[[:space:]]*$//;s/[^[:alpha:]_]/x/g",
            "",
        ] {
            check(script, true);
        }
        for script in [
            "s/a/b/e",
            "e",
            "1e id",
            "w out",
            "s/a/b/w out",
            "r /etc/passwd",
            "s/[/]e/b/",
            "s/a",
            "s/a/b/;e",
            "1i\\\nx\ne",
            "R x",
            "s/[]/]/p/;e rm x;/d",
            "s/[^]/]/p/;e rm x;/d",
            "s/[[:alpha:]/]/p/;e rm x;/d",
            "s/[[:a/]/p/;e rm x;/d",
            "M",
        ] {
            check(script, false);
        }
    }

    #[test]
    fn calls() {
        let check = |words: &[&str], expect: bool| {
            let words: Vec<Word> = words.iter().map(|word| Word::of(*word)).collect();
            assert_eq!(is_harmless(&words), expect, "{words:?}");
        };
        check(&["-n", "1,5p", "file"], true);
        check(&["-i.bak", "-E", "s/a/b/", "file"], true);
        check(&["-e", "s/a/b/", "-e", "e"], false);
        check(&["-f", "script", "file"], true);
        check(&["--expression=e"], false);
        check(&["-ne", "p"], true);
        check(&[], false);
        assert!(!is_harmless(&[Word::unknown()]));
        assert!(!is_harmless(&[Word { is_many: false, ..Word::unknown() }]));
    }
}
