//! Globs of a policy on paths of a subject's choice: a glob in the first line, a path in the rest.

use treeline_policy::glob::{Glob, split};

const HOMES: [&str; 2] = ["/root", "/home/u"];

/// A glob is read back from its own text, and matches as its text says, read from the other end.
pub fn run(bytes: &[u8]) -> bool {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return false };
    let (Ok(text), path) = (std::str::from_utf8(&bytes[..end]), &bytes[end + 1..]) else { return false };
    let glob = match Glob::parse(text) {
        Ok(glob) => glob,
        Err(error) => {
            assert!(text.get(error.range.0..error.range.1).is_some(), "{text:?}: {error:?}");
            return false;
        }
    };
    assert_eq!(Glob::parse(&glob.to_string()).as_ref(), Ok(&glob), "{text}");
    let matches = glob.matches(HOMES.map(str::as_bytes), path);
    assert_eq!(matches, reference(text, path), "{text} {:?}", String::from_utf8_lossy(path));
    true
}

/// What a glob means, by its text.
fn reference(text: &str, path: &[u8]) -> bool {
    let names: Vec<&[u8]> = split(path).collect();
    let Some(below_home) = text.strip_prefix('~') else { return list_matches(text, &names) };
    HOMES.iter().any(|home| {
        let home: Vec<&[u8]> = split(home.as_bytes()).collect();
        names.strip_prefix(home.as_slice()).is_some_and(|rest| list_matches(below_home, rest))
    })
}

/// `table[j]` after component `i`: the components from `i` on match the names from `j` on.
fn list_matches(components: &str, names: &[&[u8]]) -> bool {
    let mut table = vec![false; names.len() + 1];
    table[names.len()] = true;
    for component in split(components.as_bytes()).collect::<Vec<_>>().into_iter().rev() {
        let after = table.clone();
        for index in (0..=names.len()).rev() {
            table[index] = match (component, names.get(index)) {
                (b"**", name) => after[index] || (name.is_some() && table[index + 1]),
                (_, Some(name)) => after[index + 1] && name_matches(component, name),
                (_, None) => false,
            };
        }
    }
    table[0]
}

fn name_matches(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some((b'*', rest)) => (0..=name.len()).any(|skipped| name_matches(rest, &name[skipped..])),
        Some((b'?', rest)) => name.split_first().is_some_and(|(_, tail)| name_matches(rest, tail)),
        Some((byte, rest)) => {
            name.split_first().is_some_and(|(first, tail)| first == byte && name_matches(rest, tail))
        }
    }
}

/// One of each shape.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let pairs = [
        ("/etc/shadow", "/etc/shadow"),
        ("~", "/home/u"),
        ("~/.ssh/**", "/home/u/.ssh/keys/id"),
        ("**/.env", "/srv/a/.env"),
        ("/home/*/x", "/home/a/x"),
        ("/a/ab*ba", "/a/abba"),
        ("/a/**/b/**/*.c", "/a/x/b/b/y.c"),
        ("/dev/sd?", "/dev/sda"),
        ("/a/?b*?", "/a/xbyz"),
        ("/?aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaѱ", "/xaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaѱ"),
    ];
    pairs.iter().map(|(glob, path)| format!("{glob}\n{path}").into_bytes()).collect()
}
