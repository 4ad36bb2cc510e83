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

impl Registry {
    /// Each with the word for it.
    pub const WORDS: [(&'static str, Self); 2] = [("npm", Self::Npm), ("pypi", Self::Pypi)];

    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::WORDS[self as usize].0
    }
}
