//! Processes and sessions.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{image::Image, path::PathBytes, text};

/// Identifies a process beyond the reuse of its pid: pid in the initial namespace and creation time.
///
/// The time is in ticks of 10 ms since boot, field 22 of `/proc/PID/stat` (`USER_HZ` is 100 on every Linux
/// architecture that Treeline supports), so that what the kernel programs report and what /proc says agree. Text form `pid:ticks`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessKey {
    /// Thread group id in the initial pid namespace.
    pub pid: u32,
    /// Creation time, 10 ms ticks of `CLOCK_BOOTTIME`.
    pub start_ticks: u64,
}

/// Nanoseconds in a tick of [`ProcessKey::start_ticks`].
pub const NANOS_PER_TICK: u64 = 10_000_000;

impl ProcessKey {
    /// From the kernel's `start_boottime`.
    #[must_use]
    pub fn from_nanos(pid: u32, start_ns: u64) -> Self {
        Self { pid, start_ticks: start_ns / NANOS_PER_TICK }
    }
}

impl fmt::Display for ProcessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.pid, self.start_ticks)
    }
}

impl FromStr for ProcessKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a process key (`pid:ticks`)");
        let (pid, ticks) = text.split_once(':').ok_or_else(wrong)?;
        Ok(Self { pid: pid.parse().map_err(|_| wrong())?, start_ticks: ticks.parse().map_err(|_| wrong())? })
    }
}

impl Serialize for ProcessKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ProcessKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::read(deserializer, "a process key", str::parse)
    }
}

/// One run of an agent. Random, never 0. Text form: 16 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for SessionId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let valid = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = valid.then(|| u64::from_str_radix(text, 16).ok()).flatten().filter(|id| *id != 0);
        id.map(Self).ok_or_else(|| format!("`{text}` is not a session id (16 hexadecimal digits)"))
    }
}

impl Serialize for SessionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SessionId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::read(deserializer, "a session id", str::parse)
    }
}

/// A process at one moment: who it is and what it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Identity.
    pub key: ProcessKey,
    /// Its creator (for processes older than the sensor: its parent at the time of looking).
    pub parent: Option<ProcessKey>,
    /// Real user id.
    pub uid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Real group id.
    pub gid: u32,
    /// Name of the real user when the machine knows one.
    pub user: Option<String>,
    /// Controlling terminal, such as `pts/3`.
    pub tty: Option<String>,
    /// What it runs since its last exec (a forked child shares its creator's).
    pub program: Arc<Program>,
    /// When it was created, nanoseconds of `CLOCK_BOOTTIME`; exact to the tick only when read from /proc.
    pub started_ns: u64,
}

/// What one successful exec put in place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// The binary that runs: for a script, its interpreter.
    pub image: Image,
    /// The script, when the exec named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<Image>,
    /// The file name that was given to exec.
    #[serde(default)]
    pub name_given: PathBytes,
    /// Argument vector; arguments that are not UTF-8 are written like [`PathBytes`].
    pub argv: Vec<PathBytes>,
    /// The vector was longer than what was recorded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub argv_cut: bool,
    /// Working directory.
    #[serde(default)]
    pub cwd: PathBytes,
    /// Environment variables of the allow-list.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// The environment named variables that make programs load code, such as those of the dynamic loader.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub loader_env: bool,
    /// When it took place, nanoseconds of `CLOCK_BOOTTIME`, 0 when it was before the sensor.
    #[serde(default)]
    pub exec_ns: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_round_trip() {
        let key = ProcessKey::from_nanos(42, 12_345_678_901);
        assert_eq!(key.to_string(), "42:1234");
        assert_eq!("42:1234".parse(), Ok(key));
        for wrong in ["", "42", "42:", ":1", "a:b", "42:1:2", "-1:2"] {
            assert!(wrong.parse::<ProcessKey>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn session_ids_round_trip() {
        assert_eq!("00000000000000ff".parse(), Ok(SessionId(255)));
        assert_eq!(SessionId(255).to_string(), "00000000000000ff");
        for wrong in ["", "ff", "0000000000000000", "00000000000000fg", "+0000000000000ff"] {
            assert!(wrong.parse::<SessionId>().is_err(), "{wrong}");
        }
    }
}
