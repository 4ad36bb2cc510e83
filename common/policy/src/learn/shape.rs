//! What of a name is of one run only: process ids, times, hashes, versions, random letters.
//!
//! A name is looked at part by part, a part being letters and digits that follow each other. From the first part that is of
//! one run to the last one, `*` stands for it: the kernel's patterns have one in a name.

use treeline_abi::{
    name::NAME_LEN_MAX,
    paths::{ANY_BYTE, WILD_LEN_MAX},
};

use crate::{
    glob::{Component, Wild},
    render::is_deceiving,
};

/// Digits of a number that is a process id, a time or a counter wherever it stands.
const DIGITS_MIN: usize = 4;
/// Characters of a hash with digits and letters in it.
const HASH_LEN_MIN: usize = 8;
/// Characters of a random part.
const RANDOM_LEN_MIN: usize = 6;
/// Characters of a part with letters and digits that is taken for random beside another one.
const MIXED_LEN_MIN: usize = 5;
/// Changes between small letters, capitals and digits that no word has.
const CHANGES_MIN: usize = 3;
/// Characters that Python's `tempfile` puts behind `tmp`.
const TEMPFILE_LEN: usize = 8;

/// A name as a pattern for itself; with `?` for each byte that a pattern cannot have.
pub(super) fn exact(name: &[u8]) -> Component {
    let mut shown = Vec::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            let stays = !(c.is_control() || is_deceiving(c) || "?*[]{}\\".contains(c) || is_no_character(c));
            let mut bytes = [0; 4];
            match c.encode_utf8(&mut bytes).as_bytes() {
                bytes if stays => shown.extend_from_slice(bytes),
                bytes => shown.extend(bytes.iter().map(|_| ANY_BYTE)),
            }
        }
        shown.extend(chunk.invalid().iter().map(|_| ANY_BYTE));
    }
    // No file has these names, and no pattern.
    if matches!(name, b"." | b"..") {
        shown.fill(ANY_BYTE);
    }
    // Spaces at the end of a text are none of it.
    if let Some((at, last)) =
        name.utf8_chunks().last().filter(|chunk| chunk.invalid().is_empty()).and_then(|chunk| {
            let last = chunk.valid().chars().last().filter(|c| c.is_whitespace())?;
            Some((shown.len().saturating_sub(last.len_utf8()), last))
        })
    {
        shown.truncate(at);
        shown.extend(std::iter::repeat_n(ANY_BYTE, last.len_utf8()));
    }
    match String::from_utf8(shown) {
        Ok(shown) if !shown.contains(char::from(ANY_BYTE)) && (1..=NAME_LEN_MAX).contains(&shown.len()) => {
            Component::Literal(shown.into())
        }
        Ok(shown) if (1..=2 * WILD_LEN_MAX).contains(&shown.len()) => {
            let (prefix, suffix) = shown.as_bytes().split_at(shown.len().min(WILD_LEN_MAX));
            Component::Wild(Wild { prefix: prefix.into(), suffix: suffix.into(), gap: false })
        }
        Ok(shown) => starred(&shown, WILD_LEN_MAX, shown.len().saturating_sub(WILD_LEN_MAX)),
        Err(_) => Component::Any,
    }
}

/// What is no character to readers of YAML.
fn is_no_character(c: char) -> bool {
    u32::from(c) & 0xfffe == 0xfffe || ('\u{fdd0}'..='\u{fdef}').contains(&c)
}

/// The pattern for a name of which a part is surely of one run; none if there is no such part. `parent` is the name before it.
pub(super) fn of_one_run(name: &[u8], parent: &[u8]) -> Option<Component> {
    let text = text(name)?;
    if parent == b"proc" || parent == b"task" || parent == b"pts" || parent == b"fd" {
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        return is_number.then_some(Component::Any);
    }
    if is_tempfile(text) {
        return Some(starred(text, "tmp".len(), text.len()));
    }
    if let Some((start, end)) = version(text) {
        return Some(starred(text, start, end));
    }
    let parts = || parts(text).filter(|(start, end)| start < end);
    parts().find(|(start, end)| is_volatile(&text[*start..*end]))?;
    // Beside a part of one run, one of letters and digits is likely another.
    let mut spans = parts().filter(|(start, end)| {
        let part = &text[*start..*end];
        is_volatile(part)
            || part.len() >= MIXED_LEN_MIN && changes(part) > 0 && part.contains(|c: char| c.is_ascii_digit())
    });
    let first = spans.next()?;
    let last = spans.last().unwrap_or(first);
    Some(starred(text, first.0, last.1))
}

/// The pattern for a name with digits in it; none without them. Only several names that have it in common show that it is
/// meant.
pub(super) fn numbered(name: &[u8]) -> Option<Component> {
    let text = text(name)?;
    let start = text.find(|c: char| c.is_ascii_digit())?;
    let end = text.rfind(|c: char| c.is_ascii_digit())? + 1;
    Some(starred(text, start, end))
}

/// A name that a pattern can have as it is.
fn text(name: &[u8]) -> Option<&str> {
    matches!(exact(name), Component::Literal(_)).then(|| std::str::from_utf8(name).ok()).flatten()
}

/// A name with `*` from `start` to `end`, and with no more around it than a pattern holds.
fn starred(text: &str, start: usize, end: usize) -> Component {
    let prefix = &text[..text.floor_char_boundary(start.min(WILD_LEN_MAX))];
    let suffix = &text[text.ceil_char_boundary(end.max(text.len().saturating_sub(WILD_LEN_MAX)))..];
    if prefix.is_empty() && suffix.is_empty() {
        return Component::Any;
    }
    Component::Wild(Wild { prefix: prefix.into(), suffix: suffix.into(), gap: true })
}

/// Where letters and digits follow each other.
fn parts(text: &str) -> impl Iterator<Item = (usize, usize)> {
    let mut at = 0;
    text.as_bytes().split(|byte| !byte.is_ascii_alphanumeric()).map(move |part| {
        let start = at;
        at += part.len() + 1;
        (start, start + part.len())
    })
}

fn is_volatile(part: &str) -> bool {
    let digits = part.bytes().filter(u8::is_ascii_digit).count();
    let is_hex = |ranges: fn(&u8) -> bool| part.bytes().all(|byte| byte.is_ascii_digit() || ranges(&byte));
    let has_one_case =
        is_hex(|byte| matches!(byte, b'a'..=b'f')) || is_hex(|byte| matches!(byte, b'A'..=b'F'));
    let is_number = digits == part.len() && digits >= DIGITS_MIN;
    let is_hash = has_one_case && part.len() >= HASH_LEN_MIN && digits > 0;
    is_number || is_hash || part.len() >= RANDOM_LEN_MIN && changes(part) >= CHANGES_MIN
}

/// How often the kind of a character changes. A capital and what follows it are one word.
fn changes(part: &str) -> usize {
    let kinds: Vec<u8> = part
        .bytes()
        .map(|byte| match byte {
            b'0'..=b'9' => 0,
            b'a'..=b'z' => 1,
            _ => 2,
        })
        .collect();
    kinds.windows(2).filter(|pair| pair[0] != pair[1] && pair != &[2, 1]).count()
}

fn is_tempfile(text: &str) -> bool {
    let is_random = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    text.strip_prefix("tmp").is_some_and(|rest| rest.len() == TEMPFILE_LEN && rest.bytes().all(is_random))
}

/// Where a version of three numbers or more stands (`1.2.3`, `v2.1.330`), or of two that are all of the name.
fn version(text: &str) -> Option<(usize, usize)> {
    let is_part = |c: char| c.is_ascii_digit() || c == '.';
    let start = text.find(|c: char| c.is_ascii_digit())?;
    let len = text[start..].find(|c: char| !is_part(c)).unwrap_or(text.len() - start);
    let found = text[start..start + len].trim_end_matches('.');
    let numbers = found.split('.').filter(|number| !number.is_empty()).count();
    let is_whole = text[..start].trim_start_matches('v').is_empty() && start + len == text.len();
    (numbers >= 3 || numbers == 2 && is_whole).then_some((start, start + found.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::learn::place::write;

    fn shown(component: Option<Component>) -> String {
        component.map_or("-".to_owned(), |component| write(None, &[component]))
    }

    #[track_caller]
    fn check(name: &str, expect: &str) {
        assert_eq!(shown(of_one_run(name.as_bytes(), b"d")), expect, "{name}");
    }

    #[test]
    fn what_is_of_one_run() {
        check("12345", "/*");
        check("1234.sock", "/*.sock");
        check("claude-1000", "/claude-*");
        check("snapshot-bash-1764500000000-ab12cd.sh", "/snapshot-bash-*.sh");
        check("foo-1a2b3c4d5e6f7a8b.d", "/foo-*.d");
        check("c0ffee00-1234-4abc-8def-0123456789ab.jsonl", "/*.jsonl");
        check("tmp.aB3dE9fG1h", "/tmp.*");
        check("tmpk3j2_x9q", "/tmp*");
        check("2.1.330", "/*");
        check("v20.1", "/v*");
        check("node-v20.1.0-linux", "/node-v*-linux");
        check("libfoo.so.1.2.3", "/libfoo.so.*");
        for name in [
            "README.md",
            "id_ed25519",
            "python3.13",
            "libc.so.6",
            "x86_64-linux-gnu",
            "TypeScript",
            "tmpfiles",
        ] {
            check(name, "-");
        }
        assert_eq!(shown(of_one_run(b"7", b"proc")), "/*");
        assert_eq!(shown(of_one_run(b"self", b"proc")), "-");
    }

    #[test]
    fn names_as_they_are() {
        let check = |name: &[u8], expect: &str| assert_eq!(shown(Some(exact(name))), expect);
        check(b"a b", "/a b");
        check(b"a*b", "/a?b");
        check(b"a\xffb", "/a?b");
        check(b"a ", "/a?");
        check(b"..", "/??");
        check("a\u{202e}b".as_bytes(), "/a???b");
        check("é".as_bytes(), "/é");
        check(&[b'['; 80], &format!("/{}*{}", "?".repeat(32), "?".repeat(32)));
        check(&[b'a'; 200], &format!("/{}", "a".repeat(200)));
        assert_eq!(shown(numbered(b"lib1.so.2")), "/lib*");
        assert_eq!(shown(numbered(b"lib")), "-");
    }

    proptest! {
        #[test]
        fn a_pattern_matches_its_name(name in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(&b"019afGZ.-_?*"[..])], 1..255)) {
            prop_assume!(!name.contains(&b'/') && !name.contains(&0));
            let found = [Some(exact(&name)), of_one_run(&name, b"d"), of_one_run(&name, b"proc"), numbered(&name)];
            for component in found.into_iter().flatten() {
                prop_assert!(component.matches(&name), "{component:?}");
                let text = write(None, std::slice::from_ref(&component));
                prop_assert_eq!(crate::glob::Glob::parse(&text).map(|glob| glob.components), Ok(vec![component]));
            }
        }
    }
}
