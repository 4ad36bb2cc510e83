//! What rules about calls of tools and servers, and about the machine, ask for.

use std::fmt;

use crate::{
    glob::Glob,
    mcp::Registry,
    posture::Trait,
    source::Spanned,
    tool::{Opaque, Secret},
    url::Url,
};

/// Names of tools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Names {
    /// All.
    Any,
    /// These.
    Of(Vec<String>),
}

impl Names {
    /// Whether a name is one of them.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Of(names) => names.iter().any(|known| known == name),
        }
    }
}

/// What the arguments of a call have to say. What is not asked for is none; with nothing asked for it is about every call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct When {
    /// A command.
    pub command: Option<CommandPattern>,
    /// A file that is read.
    pub reads: Option<Files>,
    /// A file that is written.
    pub writes: Option<Files>,
    /// A host.
    pub hosts: Option<Vec<HostPattern>>,
    /// Secrets of one of these kinds.
    pub secrets: Option<Vec<Secret>>,
    /// Something that cannot be followed, of one of these kinds.
    pub opaque: Option<Vec<Opaque>>,
}

/// A command of which all of this holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandPattern {
    /// Its program is one of these: names, or absolute paths. Any without it.
    pub programs: Vec<String>,
    /// It has each of these words.
    pub words: Vec<String>,
    /// It has one of these flags. Without it, whatever it has.
    pub flags: Vec<String>,
}

/// Files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Files {
    /// Those in the repository.
    InsideRepository,
    /// All others.
    OutsideRepository,
    /// Those that match.
    Globs(Vec<Spanned<Glob>>),
}

impl Files {
    /// The words for those that are no patterns.
    pub const WORDS: [(&'static str, bool); 2] = [("inside_repository", true), ("outside_repository", false)];
}

/// A host, or all below a domain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostPattern {
    /// This one.
    Is(String),
    /// `*.` and a domain: each host below it.
    Below(String),
}

impl HostPattern {
    /// Whether a host, in lower case, is meant.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Is(name) => name == host,
            Self::Below(domain) => {
                host.strip_suffix(domain.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(name) => f.write_str(name),
            Self::Below(domain) => write!(f, "*.{domain}"),
        }
    }
}

/// A server of which all of this holds. Something is always asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerPattern {
    /// Its package.
    pub package: Option<PackagePattern>,
    /// The path of what it executes.
    pub interpreter: Option<Glob>,
    /// What that holds.
    pub interpreter_sha256: Option<Vec<[u8; 32]>>,
    /// What its script holds.
    pub script_sha256: Option<Vec<[u8; 32]>>,
    /// Its address, or one above it.
    pub url: Option<Url>,
}

/// A package, in one version or in any.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PackagePattern {
    /// The registry.
    pub registry: Registry,
    /// Its name there.
    pub name: String,
    /// Its version.
    pub version: Option<String>,
}

/// What a machine has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// Of what.
    pub of: Trait,
    /// Whether it has to have it.
    pub has: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let check = |pattern: HostPattern, host: &str, expect: bool| {
            assert_eq!(pattern.matches(host), expect, "{pattern} {host}");
        };
        check(HostPattern::Is("a.b".into()), "a.b", true);
        check(HostPattern::Is("a.b".into()), "x.a.b", false);
        check(HostPattern::Below("a.b".into()), "x.a.b", true);
        check(HostPattern::Below("a.b".into()), "y.x.a.b", true);
        check(HostPattern::Below("a.b".into()), "a.b", false);
        check(HostPattern::Below("a.b".into()), "xa.b", false);
        check(HostPattern::Below("a.b".into()), ".a.b", false);
    }
}
