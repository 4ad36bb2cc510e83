//! How a scalar is written: without quotes where it can be.

use std::fmt::Write as _;

use crate::{render::is_deceiving, yaml::Type};

/// Where a scalar stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// On a line of its own, or behind its key.
    Open,
    /// Between brackets.
    InBrackets,
}

/// A scalar on one line. What was plain keeps its type, so `443` stays a number and `"443"` a string.
pub(super) fn on_one_line(text: &str, plain: bool, place: Place) -> String {
    let kind = Type::of_plain(text);
    if plain && kind != Type::Text {
        return if text.is_empty() { "null".to_owned() } else { text.to_owned() };
    }
    // What was written without quotes is no worse without them.
    let is_old = is_old_boolean(text) || !plain && is_old_number(text);
    if kind == Type::Text && !is_old && can_be_plain(text, place) {
        return text.to_owned();
    }
    let is_verbatim = text.chars().all(is_shown);
    if is_verbatim && text.contains(['"', '\\']) && !text.contains('\'') {
        return format!("'{text}'");
    }
    in_quotes(text)
}

/// The lines of a text as a block, and how its last line ends; none if it would not come back as it is.
pub(super) fn as_lines(text: &str) -> Option<(&'static str, Vec<&str>)> {
    let (header, text) = match text.strip_suffix('\n') {
        Some(text) => ("|", text),
        None => ("|-", text),
    };
    let lines: Vec<&str> = text.split('\n').collect();
    let ends = [lines.first()?, lines.last()?];
    let is_line =
        |line: &&str| line.chars().all(is_shown) && !line.starts_with('\t') && !line.ends_with([' ', '\t']);
    let comes_back =
        lines.iter().all(is_line) && ends.iter().all(|line| !line.is_empty()) && !lines[0].starts_with(' ');
    comes_back.then_some((header, lines))
}

/// A text of one line, folded to so many columns; none if it cannot be. It is broken where a single space is.
pub(super) fn folded(text: &str, columns: usize) -> Option<Vec<String>> {
    let can_be = text.chars().all(is_shown) && !text.starts_with(' ') && !text.ends_with(' ');
    if !can_be || text.contains('\t') {
        return None;
    }
    let mut lines: Vec<String> = Vec::new();
    for (word, is_joined) in words(text) {
        let chars = word.chars().count();
        match lines.last_mut() {
            Some(line) if is_joined || line.chars().count() + 1 + chars <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    (lines.len() > 1).then_some(lines)
}

/// The parts of a text between its spaces, each with whether it must stay on the line of the one before: beside a second space
/// a line break would not be one space.
fn words(text: &str) -> impl Iterator<Item = (&str, bool)> {
    let mut last = "";
    text.split(' ').map(move |word| {
        let is_joined = word.is_empty() || last.is_empty();
        last = word;
        (word, is_joined)
    })
}

/// Words that readers of YAML 1.1 take for booleans.
fn is_old_boolean(text: &str) -> bool {
    ["yes", "no", "on", "off", "y", "n"].iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// What readers of YAML 1.1 take for a number or a moment: with `_`, in binary, in base 60, dates.
fn is_old_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let all = |digits: &str, is_digit: fn(u8) -> bool| {
        digits.bytes().any(is_digit) && digits.bytes().all(|byte| byte == b'_' || is_digit(byte))
    };
    if let Some(digits) = unsigned.strip_prefix("0b") {
        return all(digits, |byte| matches!(byte, b'0' | b'1'));
    }
    if let Some(digits) = unsigned.strip_prefix("0x") {
        return all(digits, |byte| byte.is_ascii_hexdigit());
    }
    let is_decimal = |digits: &str| {
        digits.starts_with(|first: char| first.is_ascii_digit()) && all(digits, |byte| byte.is_ascii_digit())
    };
    is_old_date(text) || is_old_decimal(unsigned, is_decimal)
}

/// Such as `1_000`, `1_000.5e+3`, `190:20:30` and `190:20:30.15`.
fn is_old_decimal(text: &str, is_decimal: impl Fn(&str) -> bool) -> bool {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_digit = |byte: u8| byte == b'_' || byte.is_ascii_digit();
    let mut parts = whole.split(':');
    let begins =
        parts.next().is_some_and(|first| is_decimal(first) || first.is_empty() && !fraction.is_empty());
    let is_sixtieth = |part: &str| matches!(part.as_bytes(), [b'0'..=b'9'] | [b'0'..=b'5', b'0'..=b'9']);
    begins && parts.all(is_sixtieth) && fraction.bytes().all(is_digit) && is_decimal(exponent)
}

/// Such as `2099-01-02` and `2099-1-2T6:30:00Z`. What is behind the date is not looked at: no other text begins so.
fn is_old_date(text: &str) -> bool {
    let (date, time) =
        text.split_once(['T', 't', ' ', '\t']).map_or((text, None), |(date, time)| (date, Some(time)));
    let mut parts = date.split('-');
    let mut is_part = |lens: &[usize]| {
        parts
            .next()
            .is_some_and(|part| lens.contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let is_date = is_part(&[4]) && is_part(&[1, 2]) && is_part(&[1, 2]);
    is_date && parts.next().is_none() && time.is_none_or(|time| time.contains(':'))
}

fn can_be_plain(text: &str, place: Place) -> bool {
    let first = text.chars().next();
    let begins = first.is_some_and(|c| c.is_alphanumeric() || "/~$._(+".contains(c));
    let colons = text.match_indices(':').all(|(at, _)| {
        text[at + 1..].chars().next().is_some_and(|next| next.is_alphanumeric() || "/_.".contains(next))
    });
    let brackets = place == Place::InBrackets && text.contains([',', '[', ']', '{', '}']);
    begins
        && colons
        && !brackets
        && !text.starts_with("...")
        && !text.ends_with(' ')
        && !text.contains(" #")
        && text.chars().all(|c| is_shown(c) && c != '\t')
}

/// Whether a character is written as itself.
fn is_shown(c: char) -> bool {
    c == '\t' || !(c.is_control() || is_deceiving(c) || matches!(c, '\u{fffe}' | '\u{ffff}'))
}

fn in_quotes(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        let written = match c {
            '"' | '\\' => write!(quoted, "\\{c}"),
            '\n' => write!(quoted, "\\n"),
            '\t' => write!(quoted, "\\t"),
            c if is_shown(c) => write!(quoted, "{c}"),
            c => match u32::from(c) {
                code @ ..=0xff => write!(quoted, "\\x{code:02x}"),
                code @ ..=0xffff => write!(quoted, "\\u{code:04x}"),
                code => write!(quoted, "\\U{code:08x}"),
            },
        };
        debug_assert!(written.is_ok(), "a string takes everything");
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_where_they_are_needed() {
        let check = |text: &str, open: &str, in_brackets: &str| {
            assert_eq!(on_one_line(text, false, Place::Open), open, "{text}");
            assert_eq!(on_one_line(text, false, Place::InBrackets), in_brackets, "{text}");
        };
        let both = |text: &str, expect: &str| check(text, expect, expect);
        both("/usr/bin/ssh", "/usr/bin/ssh");
        both("~/.ssh/**", "~/.ssh/**");
        both("$keys", "$keys");
        both("/dev/sd?", "/dev/sd?");
        both("10.0.0.0/8", "10.0.0.0/8");
        both("https://example.com/x", "https://example.com/x");
        both("it's `x`", "it's `x`");
        both("**/.env", "\"**/.env\"");
        both("@x", "\"@x\"");
        both("~", "\"~\"");
        both("443", "\"443\"");
        both("true", "\"true\"");
        both("No", "\"No\"");
        both("fd00::/8", "\"fd00::/8\"");
        both("a: b", "\"a: b\"");
        both("a #b", "\"a #b\"");
        both("a ", "\"a \"");
        both("", "\"\"");
        both("-x", "\"-x\"");
        both("...", "\"...\"");
        both("say \"x\\y\"", "say \"x\\y\"");
        both("\"x\"", "'\"x\"'");
        both("'\"", "\"'\\\"\"");
        both("a\nb\u{7}\u{202e}\u{e0001}", "\"a\\nb\\x07\\u202e\\U000e0001\"");
        check("a, b", "a, b", "\"a, b\"");
        check("connect [::1]:443", "\"connect [::1]:443\"", "\"connect [::1]:443\"");
        assert_eq!(on_one_line("443", true, Place::Open), "443");
        assert_eq!(on_one_line("", true, Place::Open), "null");
        assert_eq!(on_one_line("a: b", true, Place::Open), "\"a: b\"");
    }

    #[test]
    fn what_older_readers_take_for_numbers() {
        let both = |text: &str, expect: &str| {
            for place in [Place::Open, Place::InBrackets] {
                assert_eq!(on_one_line(text, false, place), expect, "{text}");
            }
        };
        // Readers of YAML 1.1 take these for something else; without quotes they stay as they are.
        for old in [
            "1:30",
            "190:20:30",
            "190:20:30.15",
            "1_000",
            "1_000.5",
            "0b11",
            "-0b1_0",
            "0x_1F",
            "0_7",
            "2099-01-02",
            "2099-1-2",
            "2099-01-02T06:30:00Z",
            "2099-01-02 6:30:00",
        ] {
            both(old, &format!("\"{old}\""));
            if !old.starts_with('-') {
                assert_eq!(on_one_line(old, true, Place::Open), old);
            }
        }
        for text in [
            "10.0.0.1",
            "10.0.0.1:443",
            "8000-8999",
            "1:60",
            "1:2:x",
            "0b",
            "0b12",
            "_1",
            "1-2-3",
            "2099-01-02x",
            "2099-01-02 was it",
            "2099-01-02-03",
            "12:30pm",
            "1e",
            "abc",
            "0xfg",
            "e5",
        ] {
            both(text, text);
        }
    }

    #[test]
    fn blocks() {
        let lines = |text: &str, expect: Option<&str>| {
            let found = as_lines(text).map(|(header, lines)| format!("{header} {}", lines.join("/")));
            assert_eq!(found.as_deref(), expect, "{text:?}");
        };
        lines("a\nb", Some("|- a/b"));
        lines("a\n\n  b\n", Some("| a//  b"));
        lines("a\n\n", None);
        lines("\na", None);
        lines(" a\nb", None);
        lines("a \nb", None);
        lines("a\n\tb", None);
        lines("a\r\nb", None);
        let fold = |text: &str, expect: Option<&str>| {
            assert_eq!(folded(text, 5).map(|lines| lines.join("/")).as_deref(), expect, "{text}");
        };
        fold("a bc de f", Some("a bc/de f"));
        fold("abcdefg h", Some("abcdefg/h"));
        fold("abc  def g", Some("abc  def/g"));
        fold("abcdefgh", None);
        fold("a b", None);
        fold(" abc def", None);
    }
}
