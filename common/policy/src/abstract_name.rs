//! Patterns for the abstract names of unix sockets.
//!
//! An abstract name is a flat string of up to 107 bytes that is in no filesystem: `/` separates nothing in it and a NUL
//! byte ends nothing. A pattern is the name itself, or a name with one `*` that stands for any bytes.

use std::fmt;

use treeline_abi::network::ABSTRACT_LEN_MAX;

use crate::glob::GlobError;

/// A pattern for abstract names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AbstractGlob {
    /// What the name begins with, or is.
    pub prefix: Vec<u8>,
    /// What follows `*`: the name ends with it, without overlapping the prefix.
    pub suffix: Option<Vec<u8>>,
}

impl AbstractGlob {
    /// Reads a pattern, the `@` in front of it included.
    ///
    /// # Errors
    /// A text that does not begin with `@`, an empty name, more than one `*`, a character that other tools give a meaning
    /// (`?`, `[`, `]`, `{`, `}`, `\`), a control character, or more bytes than an abstract name can have.
    pub fn parse(text: &str) -> Result<Self, GlobError> {
        let fail = |range, message: String, help: Option<&str>| {
            Err(GlobError { range, message, help: help.map(str::to_owned) })
        };
        let whole = (0, text.len());
        let Some(name) = text.strip_prefix('@') else {
            return fail(whole, format!("`{text}` is not an abstract name"), Some("begin with `@`"));
        };
        if name.is_empty() {
            let help = "write `@*` for every abstract name";
            return fail(whole, "an abstract name cannot be empty".into(), Some(help));
        }
        if let Some(bad) = name.chars().find(|c| c.is_control()) {
            let help = "let `*` stand for it";
            return fail(
                whole,
                format!("control character U+{:04X} in an abstract name", u32::from(bad)),
                Some(help),
            );
        }
        if let Some(bad) = name.chars().find(|c| "?[]{}\\".contains(*c)) {
            let help = "a name can have one `*`, which stands for any bytes";
            return fail(whole, format!("`{bad}` cannot be used in a pattern"), Some(help));
        }
        if name.len() > ABSTRACT_LEN_MAX {
            let message = format!("{} bytes; an abstract name has at most {ABSTRACT_LEN_MAX}", name.len());
            return fail(whole, message, None);
        }
        match name.split_once('*') {
            None => Ok(Self { prefix: name.into(), suffix: None }),
            Some((_, suffix)) if suffix.contains('*') => {
                let help = "`*` stands for any bytes, `/` among them; one is enough";
                fail(whole, format!("`{text}` has more than one `*`"), Some(help))
            }
            Some((prefix, suffix)) => Ok(Self { prefix: prefix.into(), suffix: Some(suffix.into()) }),
        }
    }

    /// Whether a name, without `@`, matches.
    #[must_use]
    pub fn matches(&self, name: &[u8]) -> bool {
        match &self.suffix {
            None => name == self.prefix,
            Some(suffix) => {
                name.strip_prefix(self.prefix.as_slice()).is_some_and(|rest| rest.ends_with(suffix))
            }
        }
    }

    /// Whether it matches every name that `other` matches. `true` is certain.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (&self.suffix, &other.suffix) {
            (_, None) => self.matches(&other.prefix),
            (None, Some(_)) => false,
            (Some(suffix), Some(ends)) => other.prefix.starts_with(&self.prefix) && ends.ends_with(suffix),
        }
    }
}

impl fmt::Display for AbstractGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}", String::from_utf8_lossy(&self.prefix))?;
        match &self.suffix {
            Some(suffix) => write!(f, "*{}", String::from_utf8_lossy(suffix)),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for AbstractGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, name: &[u8], expect: bool) {
        let pattern = AbstractGlob::parse(pattern).expect("a valid pattern");
        assert_eq!(pattern.matches(name), expect, "{pattern} {}", name.escape_ascii());
    }

    #[test]
    fn matching() {
        check("@bus", b"bus", true);
        check("@bus", b"bus\0", false);
        check("@bus", b"busy", false);
        check("@bus*", b"bus\0\0", true);
        check("@/tmp/.X11-unix/*", b"/tmp/.X11-unix/X0", true);
        check("@/tmp/.X11-unix/*", b"/tmp/.X11-unix/a/b\xff", true);
        check("@/tmp/.X11-unix/*", b"tmp/.X11-unix/X0", false);
        check("@a*a", b"a", false);
        check("@a*a", b"aa", true);
        check("@*", b"", true);
        check("@*", b"0001f", true);
    }

    #[test]
    fn refusals() {
        for (text, message) in [
            ("bus", "not an abstract name"),
            ("@", "cannot be empty"),
            ("@a**", "more than one"),
            ("@a\0", "U+0000"),
            ("@a?", "`?`"),
            (&format!("@{}", "x".repeat(108)), "108 bytes"),
        ] {
            let error = AbstractGlob::parse(text).expect_err("an invalid pattern");
            assert!(error.message.contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn display_is_the_text() {
        for text in ["@bus", "@/tmp/.X11-unix/*", "@a*b", "@*"] {
            assert_eq!(AbstractGlob::parse(text).expect("a valid pattern").to_string(), text);
        }
    }
}
