//! Escapes: what a backslash makes of what is behind it.

/// The text between backquotes.
pub(crate) fn unescape(code: &str, in_double: bool) -> String {
    let mut out = String::with_capacity(code.len());
    let mut chars = code.chars().peekable();
    while let Some(next) = chars.next() {
        let escaped = |c: &char| matches!(c, '$' | '`' | '\\') || (in_double && *c == '"');
        match chars.peek().copied().filter(|c| next == '\\' && escaped(c)) {
            Some(escaped) => {
                chars.next();
                out.push(escaped);
            }
            None => out.push(next),
        }
    }
    out
}

/// What `$'...'` stands for; nothing if that is no text.
pub(crate) fn decode(code: &str) -> Option<String> {
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    while let Some((plain, escape)) = rest.split_once('\\') {
        out.push_str(plain);
        let letter = escape.chars().next()?;
        let behind = &escape[letter.len_utf8()..];
        let number = |digits: &'_ str, radix: u32, max: usize| {
            let len = digits.bytes().take(max).take_while(|byte| (*byte as char).is_digit(radix)).count();
            u32::from_str_radix(&digits[..len], radix).ok().map(|value| (value, len))
        };
        let (value, used) = match letter {
            'n' => (10, 0),
            't' => (9, 0),
            'r' => (13, 0),
            'a' => (7, 0),
            'b' => (8, 0),
            'v' => (11, 0),
            'f' => (12, 0),
            'e' | 'E' => (27, 0),
            '\\' | '\'' | '"' | '?' => (u32::from(letter), 0),
            // A byte, which need not be a character.
            'x' => number(behind, 16, 2).filter(|(value, _)| *value < 0x80)?,
            '0'..='7' => {
                let (value, len) = number(escape, 8, 3).filter(|(value, _)| *value < 0x80)?;
                (value, len - 1)
            }
            'u' => number(behind, 16, 4)?,
            'U' => number(behind, 16, 8)?,
            _ => return None,
        };
        // A NUL ends the word for some shells.
        out.push(char::from_u32(value).filter(|c| *c != '\0')?);
        rest = &behind[used..];
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_backquotes() {
        let check = |code: &str, in_double: bool, expect: &str| {
            assert_eq!(unescape(code, in_double), expect, "{code}");
        };
        check("a \\`b\\` \\$c \\\\d", false, "a `b` $c \\d");
        check("a \\\"b\\\"", false, "a \\\"b\\\"");
        check("a \\\"b\\\"", true, "a \"b\"");
        check("\\", false, "\\");
    }

    #[test]
    fn in_dollar_quotes() {
        let check = |code: &str, expect: Option<&str>| assert_eq!(decode(code).as_deref(), expect, "{code}");
        check("a\\tb\\x41\\101\\u00e9\\'", Some("a\tbAA\u{e9}'"));
        check("\\0", None);
        check("\\x", None);
        check("\\xff", None);
        check("\\c", None);
        check("\\", None);
        check("", Some(""));
    }
}
