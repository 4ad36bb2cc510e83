//! Path globs.
//!
//! A glob is a list of components: a literal name, `*`, a name with one `*` or with `?` in it, or `**` for zero or more
//! components. Names are bytes to the kernel, so `?` is one byte: a character beyond ASCII takes several. It is absolute, begins with `~/` (the home of every user), or begins with `**/` (everywhere).
//!
//! [`Glob::matches`] works on paths as text and is part of the oracle; the compiler does not use it.

mod cover;
pub(crate) use self::cover::differ;

use std::fmt;

use treeline_abi::{
    name::NAME_LEN_MAX,
    paths::{ANY_BYTE, DEPTH_MAX, WILD_LEN_MAX},
};

/// One component of a glob.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    /// This name.
    Literal(Vec<u8>),
    /// `*`: any name.
    Any,
    /// `prefix*suffix`, or a name with `?` in it.
    Wild(Wild),
    /// `**`: zero or more components.
    Globstar,
}

/// A name with one `*` in it, or with any number of `?`, or both.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wild {
    /// What the name begins with; `?` is any byte.
    pub prefix: Vec<u8>,
    /// What the name ends with; it does not overlap the prefix.
    pub suffix: Vec<u8>,
    /// Whether there is a `*` between the two.
    pub gap: bool,
}

impl Wild {
    /// Whether a name matches.
    #[must_use]
    pub fn matches(&self, name: &[u8]) -> bool {
        let len = self.prefix.len() + self.suffix.len();
        let fits = |part: &[u8], bytes: &[u8]| {
            part.iter().zip(bytes).all(|(want, byte)| *want == ANY_BYTE || want == byte)
        };
        let long_enough = if self.gap { name.len() >= len } else { name.len() == len };
        long_enough && fits(&self.prefix, name) && fits(&self.suffix, &name[name.len() - self.suffix.len()..])
    }

    /// A name that matches.
    #[must_use]
    pub fn example(&self) -> Vec<u8> {
        self.example_with(b"x")
    }

    /// The same with this text for its `*`.
    #[must_use]
    pub fn example_with(&self, gap: &[u8]) -> Vec<u8> {
        let gap = if self.gap { gap } else { b"" };
        let name = [self.prefix.as_slice(), gap, &self.suffix].concat();
        name.into_iter().map(|byte| if byte == ANY_BYTE { b'y' } else { byte }).collect()
    }
}

impl fmt::Display for Wild {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As one text: without a `*`, the two may meet within a character.
        let gap: &[u8] = if self.gap { b"*" } else { b"" };
        f.write_str(&String::from_utf8_lossy(&[&self.prefix, gap, &self.suffix].concat()))
    }
}

impl Component {
    /// Whether one name matches; `**` matches each.
    #[must_use]
    pub fn matches(&self, name: &[u8]) -> bool {
        match self {
            Self::Literal(literal) => literal == name,
            Self::Any | Self::Globstar => true,
            Self::Wild(wild) => wild.matches(name),
        }
    }
}

/// What a glob is relative to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Anchor {
    /// The root directory.
    Root,
    /// The home directory of each user.
    Home,
}

/// A path glob.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Glob {
    /// What it is relative to.
    pub anchor: Anchor,
    /// Its components; no two `**` in a row.
    pub components: Vec<Component>,
}

/// Why a text is not a glob.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct GlobError {
    /// Byte range of the offending part.
    pub range: (usize, usize),
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

impl Glob {
    /// Reads a glob.
    ///
    /// # Errors
    /// A relative path, an empty, `.` or `..` component, more than one `*` in a component, a character that other
    /// tools give a meaning (`[`, `]`, `{`, `}`, `\`), a control character, or more than the kernel can hold.
    pub fn parse(text: &str) -> Result<Self, GlobError> {
        let whole = (0, text.len());
        let fail = |range, message: String, help: Option<&str>| {
            Err(GlobError { range, message, help: help.map(str::to_owned) })
        };
        let (anchor, start) = if text.starts_with("~/") {
            (Anchor::Home, 2)
        } else if text.starts_with('/') {
            (Anchor::Root, 1)
        } else if text == "**" || text.starts_with("**/") {
            (Anchor::Root, 0)
        } else if text == "~" {
            (Anchor::Home, 1)
        } else if text.starts_with('~') {
            return fail(whole, "the home of one user cannot be named".into(), Some(HELP_HOME));
        } else if text.is_empty() {
            return fail(whole, "a path cannot be empty".into(), None);
        } else {
            return fail(whole, format!("`{text}` is not absolute"), Some(HELP_ABSOLUTE));
        };
        let mut components = Vec::new();
        let mut at = start;
        for part in text[start..].split('/') {
            let range = (at, at + part.len());
            at += part.len() + 1;
            if text == "~" {
                break;
            }
            let component = component(part, range, text)?;
            if !(component == Component::Globstar && components.last() == Some(&Component::Globstar)) {
                components.push(component);
            }
        }
        if components.len() >= DEPTH_MAX {
            let message =
                format!("{} components; at most {} can be matched", components.len(), DEPTH_MAX - 1);
            return fail(whole, message, None);
        }
        Ok(Self { anchor, components })
    }

    /// Whether it holds on every filesystem, wherever that is mounted.
    #[must_use]
    pub fn is_everywhere(&self) -> bool {
        self.anchor == Anchor::Root && self.components.first() == Some(&Component::Globstar)
    }

    /// Whether an absolute path matches. `homes` are absolute paths too.
    #[must_use]
    pub fn matches<'a>(&self, homes: impl IntoIterator<Item = &'a [u8]>, path: &[u8]) -> bool {
        match self.anchor {
            Anchor::Root => matches(&self.components, split(path)),
            Anchor::Home => homes.into_iter().any(|home| {
                let mut names = split(path);
                split(home).all(|name| names.next() == Some(name)) && matches(&self.components, names)
            }),
        }
    }
}

const HELP_HOME: &str = "`~/` stands for the home of every user; write one user's home as an absolute path";
const HELP_ABSOLUTE: &str =
    "begin with `/`, with `~/` for the home of every user, or with `**/` for everywhere";

/// The names of a path. Empty ones are skipped, so `/` has none.
pub fn split(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty())
}

fn component(part: &str, range: (usize, usize), text: &str) -> Result<Component, GlobError> {
    let fail = |message: String, help: Option<String>| Err(GlobError { range, message, help });
    if part.is_empty() {
        let last = range.1 >= text.len();
        let dir = text.trim_end_matches('/');
        return match (last, text) {
            (true, "/") => fail("`/` alone names the root directory only".into(), Some("write `/**`".into())),
            (true, _) => fail(
                "a path cannot end with `/`".into(),
                Some(format!(
                    "write `{dir}/**` for the directory and everything below, `{dir}` for its entry alone"
                )),
            ),
            (false, _) => fail("empty path component".into(), Some("write a single `/`".into())),
        };
    }
    if part == "." || part == ".." {
        return fail(
            format!("`{part}` has no meaning in a pattern"),
            Some("write the path without it".into()),
        );
    }
    if let Some(bad) = part.chars().find(|c| c.is_control()) {
        return fail(format!("control character U+{:04X} in a path", u32::from(bad)), None);
    }
    if let Some(bad) = part.chars().find(|c| "[]{}\\".contains(*c)) {
        let help = match bad {
            '{' | '}' => "list the alternatives as patterns of their own",
            _ => "a component is a name, `*`, a name with one `*` or with `?` in it, or `**`",
        };
        return fail(format!("`{bad}` cannot be used in a pattern"), Some(help.into()));
    }
    if part.len() > NAME_LEN_MAX {
        return fail(
            format!("{} bytes in one component; a name has at most {NAME_LEN_MAX}", part.len()),
            None,
        );
    }
    if part == "**" {
        return Ok(Component::Globstar);
    }
    if part == "*" {
        return Ok(Component::Any);
    }
    match part.split_once('*') {
        None if !part.contains(char::from(ANY_BYTE)) => Ok(Component::Literal(part.into())),
        None if part.len() > 2 * WILD_LEN_MAX => fail(
            format!("more than {} bytes in a name with `?`", 2 * WILD_LEN_MAX),
            Some("shorten it".into()),
        ),
        None => {
            let (prefix, suffix) = part.as_bytes().split_at(part.len().min(WILD_LEN_MAX));
            Ok(Component::Wild(Wild { prefix: prefix.into(), suffix: suffix.into(), gap: false }))
        }
        Some((_, suffix)) if suffix.contains('*') => fail(
            format!("`{part}` has more than one `*`"),
            Some("one `*` per component can be matched in the kernel; split it into several patterns".into()),
        ),
        Some((prefix, suffix)) if prefix.len() > WILD_LEN_MAX || suffix.len() > WILD_LEN_MAX => {
            fail(format!("more than {WILD_LEN_MAX} bytes beside `*`"), Some("shorten it".into()))
        }
        Some((prefix, suffix)) => {
            Ok(Component::Wild(Wild { prefix: prefix.into(), suffix: suffix.into(), gap: true }))
        }
    }
}

/// What is not `**` stands for one name: before the first `**` the first ones, behind the last `**` the last ones. Few globs
/// have anything between two of them.
fn matches<'p>(components: &[Component], mut names: impl DoubleEndedIterator<Item = &'p [u8]>) -> bool {
    let is_star = |component: &Component| *component == Component::Globstar;
    let Some(first) = components.iter().position(is_star) else {
        return components.iter().all(|component| names.next().is_some_and(|name| component.matches(name)))
            && names.next().is_none();
    };
    let last = components.iter().rposition(is_star).unwrap_or(first);
    let (before, behind) = (&components[..first], &components[last + 1..]);
    before.iter().all(|component| names.next().is_some_and(|name| component.matches(name)))
        && behind.iter().rev().all(|component| names.next_back().is_some_and(|name| component.matches(name)))
        && (first == last || matches_between(&components[first..=last], names))
}

/// `reachable[i]`: the names so far match the first `i` components.
fn matches_between<'p>(components: &[Component], names: impl Iterator<Item = &'p [u8]>) -> bool {
    let mut reachable = vec![false; components.len() + 1];
    reachable[0] = true;
    skip_globstars(components, &mut reachable);
    let mut next = vec![false; components.len() + 1];
    for name in names {
        next.fill(false);
        for (index, component) in components.iter().enumerate() {
            if reachable[index] && component.matches(name) {
                let stays = *component == Component::Globstar;
                next[if stays { index } else { index + 1 }] = true;
            }
        }
        skip_globstars(components, &mut next);
        std::mem::swap(&mut reachable, &mut next);
    }
    reachable[components.len()]
}

fn skip_globstars(components: &[Component], reachable: &mut [bool]) {
    for (index, component) in components.iter().enumerate() {
        if reachable[index] && *component == Component::Globstar {
            reachable[index + 1] = true;
        }
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.anchor == Anchor::Home {
            f.write_str("~")?;
        }
        for component in &self.components {
            match component {
                Component::Literal(name) => write!(f, "/{}", String::from_utf8_lossy(name))?,
                Component::Any => f.write_str("/*")?,
                Component::Wild(wild) => write!(f, "/{wild}")?,
                Component::Globstar => f.write_str("/**")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOMES: [&[u8]; 2] = [b"/root", b"/home/u"];

    #[track_caller]
    fn check(glob: &str, path: &str, expect: bool) {
        let glob = Glob::parse(glob).expect("valid glob");
        assert_eq!(glob.matches(HOMES, path.as_bytes()), expect, "{glob} {path}");
    }

    #[test]
    fn matching() {
        check("/etc/shadow", "/etc/shadow", true);
        check("/etc/shadow", "/etc/shadow/x", false);
        check("/etc/shadow", "/etc", false);
        check("/**", "/", true);
        check("/**", "/a/b", true);
        check("~/.ssh/**", "/root/.ssh", true);
        check("~/.ssh/**", "/home/u/.ssh/id", true);
        check("~/.ssh/**", "/home/v/.ssh/id", false);
        check("~/.ssh/**", "/home/u/.sshx", false);
        check("~/**", "/home/u", true);
        check("~", "/home/u", true);
        check("~", "/home/u/x", false);
        check("/home/*/x", "/home/a/x", true);
        check("/home/*/x", "/home/x", false);
        check("**/.env", "/.env", true);
        check("/**/.env", "/a/b/.env", true);
        check("/**/.env", "/a/b/.env/c", false);
        check("/a/**/b/**/c", "/a/b/c", true);
        check("/a/**/b/**/c", "/a/x/b/b/y/c", true);
        check("/a/**/b/**/c", "/a/x/c", false);
        check("/a/*.pem", "/a/.pem", true);
        check("/a/id_*.pub", "/a/id_x.pub", true);
        check("/a/ab*ba", "/a/aba", false);
        check("/a/ab*ba", "/a/abba", true);
        check("/a/b?", "/a/bc", true);
        check("/a/b?", "/a/b", false);
        check("/a/b?", "/a/bcd", false);
        check("/a/?*", "/a/b", true);
        check("/a/id_?*.pub", "/a/id_.pub", false);
        check("/a/id_?*.pub", "/a/id_x.pub", true);
        // One byte, not one character.
        check("/a/?", "/a/\u{e9}", false);
        check("/a/??", "/a/\u{e9}", true);
        check(&format!("/a/{}?b", "x".repeat(40)), &format!("/a/{}ab", "x".repeat(40)), true);
        check(&format!("/a/{}?b", "x".repeat(40)), &format!("/a/{}aa", "x".repeat(40)), false);
    }

    proptest! {
        /// All of it by the definition gives what its parts give.
        #[test]
        fn the_ends_of_a_glob_are_matched_as_its_middle_is(
            glob in prop::collection::vec(prop::sample::select(&["a", "b", "*", "a*", "**"][..]), 1..7),
            path in prop::collection::vec(prop::sample::select(&["a", "b", "ab"][..]), 0..7),
        ) {
            let glob = Glob::parse(&format!("/{}", glob.join("/"))).expect("a glob");
            let path = format!("/{}", path.join("/"));
            let whole = matches_between(&glob.components, split(path.as_bytes()));
            prop_assert_eq!(glob.matches([], path.as_bytes()), whole, "{} {}", glob, path);
        }
    }

    #[track_caller]
    fn check_refused(text: &str, range: (usize, usize), message: &str) {
        let error = Glob::parse(text).expect_err("invalid glob");
        assert_eq!(error.range, range, "{text}");
        assert!(error.message.contains(message), "{text}: {error}");
    }

    #[test]
    fn refusals() {
        check_refused("", (0, 0), "empty");
        check_refused("a/b", (0, 3), "not absolute");
        check_refused("~bob/x", (0, 6), "one user");
        check_refused("/", (1, 1), "root directory");
        check_refused("/a/", (3, 3), "cannot end");
        check_refused("~/", (2, 2), "cannot end");
        check_refused("/a//b", (3, 3), "empty path component");
        check_refused("/a/../b", (3, 5), "no meaning");
        check_refused("/a/b[c]", (3, 7), "`[`");
        check_refused(&format!("/?{}", "x".repeat(64)), (1, 66), "64 bytes in a name with `?`");
        check_refused("/a/{b,c}", (3, 8), "`{`");
        check_refused("/a/x*y*z", (3, 8), "more than one");
        check_refused("/a/**b", (3, 6), "more than one");
        check_refused("/a\u{1}", (1, 3), "U+0001");
        check_refused(&format!("/{}", "x".repeat(256)), (1, 257), "256 bytes");
        check_refused(&format!("/{}*", "x".repeat(33)), (1, 35), "beside");
        check_refused(&"/a".repeat(64), (0, 128), "64 components");
    }

    #[test]
    fn display_is_the_text() {
        for text in ["/etc/shadow", "~/.ssh/**", "~", "/home/*/a*b/**/x", "/a/b?c/?*"] {
            assert_eq!(Glob::parse(text).expect("valid glob").to_string(), text);
        }
        assert_eq!(Glob::parse("**/x/**/**/y").expect("valid glob").to_string(), "/**/x/**/y");
        // A character of two bytes, of which the first is in `prefix` and the second in `suffix`.
        let split = format!("/?{}\u{471}", "a".repeat(WILD_LEN_MAX - 2));
        assert_eq!(Glob::parse(&split).expect("valid glob").to_string(), split);
    }
}
