//! Calls of servers of the Model Context Protocol. What a server is, is its content: its name is the agent's to give.

use serde::{Deserialize, Serialize};
use treeline_event::PathBytes;

use crate::url::Url;

/// A call of a tool of a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct McpCall {
    /// The server.
    pub server: McpServer,
    /// The tool's name, as the server has it.
    pub tool: String,
}

/// A server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum McpServer {
    /// A process that the agent has started.
    Process {
        /// The file that it executes: an interpreter, or the server itself.
        interpreter: Fact<FileIdentity>,
        /// The script that this runs.
        script: Fact<FileIdentity>,
        /// The package that the script is of.
        package: Fact<Package>,
    },
    /// A service at an address.
    Remote {
        /// The address.
        url: Fact<Url>,
    },
    /// It is not known whether it is a process or a service.
    Unknown,
}

/// Something that may be known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact<T> {
    /// It is not known.
    #[default]
    Unknown,
    /// There is none.
    None,
    /// It is this.
    Is(T),
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileIdentity {
    /// Its own absolute path; empty when it is not known.
    pub path: PathBytes,
    /// SHA-256 of its content, when it is known.
    pub sha256: Option<[u8; 32]>,
}

/// A package of a registry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Package {
    /// The registry.
    pub registry: Registry,
    /// Its name there.
    pub name: String,
    /// Its version, when it is known.
    pub version: Option<String>,
}

/// A registry of packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Registry {
    /// npm.
    Npm,
    /// The Python Package Index.
    Pypi,
}

impl Package {
    /// Whether it is the one of this name.
    #[must_use]
    pub fn is_called(&self, registry: Registry, name: &str) -> bool {
        self.registry == registry && registry.normal(&self.name) == registry.normal(name)
    }
}

impl Registry {
    /// The name under which the registry has a package. To PyPI lower case and capitals are the same, and so is each run of `-`, `_`
    /// and `.` (PEP 503); to npm, names that differ are different packages.
    #[must_use]
    pub fn normal(self, name: &str) -> String {
        match self {
            Self::Npm => name.to_owned(),
            Self::Pypi => {
                let parts = name.split(['-', '_', '.']).filter(|part| !part.is_empty());
                parts.collect::<Vec<_>>().join("-").to_ascii_lowercase()
            }
        }
    }

    /// Whether a text is a name that a new package of the registry can have.
    #[must_use]
    pub fn has_name(self, name: &str) -> bool {
        match self {
            Self::Npm => {
                let is_part = |part: &str| {
                    let is_plain = |byte: u8| {
                        byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._~".contains(&byte)
                    };
                    !part.is_empty() && !part.starts_with(['.', '_']) && part.bytes().all(is_plain)
                };
                match name.strip_prefix('@') {
                    Some(scoped) => {
                        scoped.split_once('/').is_some_and(|(scope, name)| is_part(scope) && is_part(name))
                    }
                    None => is_part(name),
                }
            }
            Self::Pypi => {
                let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
                let is_end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
                let bytes = name.as_bytes();
                bytes.iter().all(|byte| is_plain(*byte)) && is_end(bytes.first()) && is_end(bytes.last())
            }
        }
    }

    /// Each with the word for it.
    pub const WORDS: [(&'static str, Self); 2] = [("npm", Self::Npm), ("pypi", Self::Pypi)];

    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::WORDS[self as usize].0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_packages() {
        let check = |registry: Registry, name: &str, expect: Option<&str>| {
            let normal = registry.has_name(name).then(|| registry.normal(name));
            assert_eq!(normal.as_deref(), expect, "{name}");
        };
        check(Registry::Npm, "@acme/mcp-search", Some("@acme/mcp-search"));
        check(Registry::Npm, "left_pad.x~1", Some("left_pad.x~1"));
        for wrong in ["", "A", "@acme", "@acme/", "@/x", "@a/b/c", "a/b", "a b", ".a", "_a", "a@1", "@a/.b"] {
            check(Registry::Npm, wrong, None);
        }
        check(Registry::Pypi, "Mcp_Server--X.y", Some("mcp-server-x-y"));
        for wrong in ["", "-a", "a_", "a b", "@a/b", "a/b", "\u{e9}"] {
            check(Registry::Pypi, wrong, None);
        }
        let package = |registry, name: &str| Package { registry, name: name.into(), version: None };
        assert!(package(Registry::Pypi, "A.B").is_called(Registry::Pypi, "a_b"));
        assert!(!package(Registry::Npm, "a.b").is_called(Registry::Npm, "a_b"));
        assert!(!package(Registry::Npm, "a").is_called(Registry::Pypi, "a"));
    }
}
