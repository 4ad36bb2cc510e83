//! The configuration file: what an administrator decides once for a machine.
//!
//! TOML, read by the daemon and, where it is readable, by `treeline run`. Unknown keys are errors: a setting that is
//! misspelt must not be a setting that is silently off.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use treeline_event::AttachMode;
use treeline_tlog::VerifierKey;

use crate::daemon::policy::{set::PolicyFiles, signature::Trust};

/// Where the configuration is looked for unless the command line names another.
pub const DEFAULT_PATH: &str = "/etc/treeline/treeline.toml";

/// Bytes of a configuration file. Ten settings need far less; a bound keeps a wrong file from filling memory.
const CONFIG_LEN_MAX: u64 = 64 << 10;

/// What `treeline run` does when there is no daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenUnavailable {
    /// It does not run the command.
    #[default]
    Refuse,
    /// It warns and runs the command unobserved.
    RunUnobserved,
}

/// What becomes of an `enforce` rule that this machine cannot enforce.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Unenforceable {
    /// The policy is refused.
    #[default]
    Refuse,
    /// The rule only records, and `treeline status` says so.
    Observe,
}

/// The attach modes that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum ModeChoice {
    /// BPF LSM programs.
    Lsm,
    /// The same programs on `security_*` functions.
    #[value(name = "fmod_ret")]
    FmodRet,
    /// Tracepoints, fanotify permission marks and cgroup programs.
    Fallback,
}

impl From<ModeChoice> for AttachMode {
    fn from(choice: ModeChoice) -> Self {
        match choice {
            ModeChoice::Lsm => Self::Lsm,
            ModeChoice::FmodRet => Self::FmodRet,
            ModeChoice::Fallback => Self::Fallback,
        }
    }
}

/// Where the daemon keeps things.
const DEFAULT_STATE: &str = "/var/lib/treeline";

/// Where the machine's daemon pins.
pub const DEFAULT_PINS: &str = "/sys/fs/bpf/treeline";

/// A public key, as its line of text.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PolicyKey(pub VerifierKey);

impl TryFrom<String> for PolicyKey {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let key = text.parse().map_err(|error| format!("`{text}` is no public key of a policy: {error}"))?;
        Ok(Self(key))
    }
}

/// Where the policy is.
const DEFAULT_POLICY: &str = "/etc/treeline/policy.yaml";

/// Policies by whose they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Several {
    organisation: Option<PathBuf>,
    team: Vec<PathBuf>,
    local: Vec<PathBuf>,
}

/// The settings, every one with its default.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The unix socket of the daemon.
    pub socket: PathBuf,
    /// The group whose members may use the socket.
    pub socket_group: String,
    /// Directory of the evidence log.
    pub log_dir: PathBuf,
    /// Directory of everything else that outlives the daemon.
    pub state_dir: PathBuf,
    /// Where kernel programs are pinned, in bpffs, so that they stay in force when the daemon ends; nothing is pinned
    /// when it is empty. Without this key [`DEFAULT_PINS`] is used with the default `state_dir`, and nothing with
    /// another: what is pinned belongs to the machine's one daemon.
    pub pin_dir: Option<PathBuf>,
    /// The policy of the organisation, if there are no others: see [`Self::policies`].
    pub(crate) policy: Option<PathBuf>,
    /// Policies that hold together.
    #[serde(rename = "policies")]
    pub(crate) several: Several,
    /// Who may sign policies. With a key here no other policy is put in force, and none that is older than one that was.
    pub policy_keys: Vec<PolicyKey>,
    /// What `treeline run` does when there is no daemon.
    pub when_unavailable: WhenUnavailable,
    /// What becomes of `enforce` rules that this machine cannot enforce.
    pub unenforceable: Unenforceable,
    /// The attach mode; the best one that works when none is named.
    pub mode: Option<ModeChoice>,
    /// The Claude Code executable that `treeline claude` starts; the first in `PATH` when none is named.
    pub claude_path: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            socket: "/run/treeline/treeline.sock".into(),
            socket_group: "treeline".into(),
            log_dir: "/var/lib/treeline/log".into(),
            state_dir: DEFAULT_STATE.into(),
            pin_dir: None,
            policy: None,
            several: Several::default(),
            policy_keys: Vec::new(),
            when_unavailable: WhenUnavailable::default(),
            unenforceable: Unenforceable::default(),
            mode: None,
            claude_path: None,
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration `{}`", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The file is larger than any configuration.
    #[error("the configuration `{}` has {len} bytes; the bound is {CONFIG_LEN_MAX}", path.display())]
    TooLong {
        /// Which.
        path: PathBuf,
        /// Its bytes.
        len: u64,
    },
    /// The text is wrong.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Parse {
        /// Which.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// What is wrong, and what would be right.
        message: String,
    },
}

impl Config {
    /// Reads the configuration: the file that was named, which must be there, or the default one, which need not.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(named: Option<&Path>) -> Result<Self, ConfigError> {
        let path = named.unwrap_or(Path::new(DEFAULT_PATH));
        match Self::read(path) {
            Err(ConfigError::Read { source, .. })
                if named.is_none() && source.kind() == io::ErrorKind::NotFound =>
            {
                Ok(Self::default())
            }
            result => result,
        }
    }

    /// As [`Self::load`], for the launcher: a default file that this user may not read counts as absent, since it is
    /// the administrator's choice whether users see it.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load_as_user(named: Option<&Path>) -> Result<Self, ConfigError> {
        match Self::load(named) {
            Err(ConfigError::Read { source, .. })
                if named.is_none() && source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Ok(Self::default())
            }
            result => result,
        }
    }

    fn read(path: &Path) -> Result<Self, ConfigError> {
        let failed = |source| ConfigError::Read { path: path.to_owned(), source };
        let len = fs::metadata(path).map_err(failed)?.len();
        if len > CONFIG_LEN_MAX {
            return Err(ConfigError::TooLong { path: path.to_owned(), len });
        }
        Self::parse(path, &fs::read_to_string(path).map_err(failed)?)
    }

    /// Checks a text; `path` is what messages call it.
    ///
    /// # Errors
    /// [`ConfigError::Parse`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|e| {
            let (line, column) = position(text, e.span().map_or(0, |span| span.start));
            ConfigError::Parse { path: path.to_owned(), line, column, message: e.message().to_owned() }
        })?;
        if config.policy.is_some() && config.several != Several::default() {
            let (line, column) = position(text, key_offset(text, "policy"));
            let message = "`policy` beside `[policies]`: write it there, as `organisation`".to_owned();
            return Err(ConfigError::Parse { path: path.to_owned(), line, column, message });
        }
        for (key, value) in config.paths() {
            if !value.is_absolute() {
                let (line, column) = position(text, key_offset(text, key));
                let message = format!("`{key}` must be an absolute path, not `{}`", value.display());
                return Err(ConfigError::Parse { path: path.to_owned(), line, column, message });
            }
        }
        Ok(config)
    }

    /// Where the policies are.
    #[must_use]
    pub fn policies(&self) -> PolicyFiles {
        let Several { organisation, team, local } = self.several.clone();
        let organisation = organisation.or_else(|| self.policy.clone());
        PolicyFiles { organisation: organisation.unwrap_or_else(|| DEFAULT_POLICY.into()), team, local }
    }

    /// Whose policies are put in force.
    #[must_use]
    pub fn trust(&self) -> Trust {
        let keys: Vec<_> = self.policy_keys.iter().map(|key| key.0.clone()).collect();
        Trust::new(&keys)
    }

    /// Where a daemon with this state directory pins, if it does.
    #[must_use]
    pub fn pins(&self, state_dir: &Path) -> Option<PathBuf> {
        match &self.pin_dir {
            Some(path) => Some(path.clone()).filter(|path| !path.as_os_str().is_empty()),
            None => (state_dir == Path::new(DEFAULT_STATE)).then(|| DEFAULT_PINS.into()),
        }
    }

    fn paths(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        [
            ("socket", Some(&self.socket)),
            ("log_dir", Some(&self.log_dir)),
            ("state_dir", Some(&self.state_dir)),
            ("pin_dir", self.pin_dir.as_ref().filter(|path| !path.as_os_str().is_empty())),
            ("policy", self.policy.as_ref()),
            ("organisation", self.several.organisation.as_ref()),
            ("claude_path", self.claude_path.as_ref()),
        ]
        .into_iter()
        .chain(self.several.team.iter().map(|path| ("team", Some(path))))
        .chain(self.several.local.iter().map(|path| ("local", Some(path))))
        .filter_map(|(key, path)| Some((key, path?.as_path())))
    }
}

/// Where a key of the top level is written.
fn key_offset(text: &str, key: &str) -> usize {
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let indent = line.len() - line.trim_start().len();
        let rest = line.trim_start().trim_start_matches(['"', '\'']);
        if rest
            .strip_prefix(key)
            .is_some_and(|rest| rest.trim_start_matches(['"', '\'']).trim_start().starts_with('='))
        {
            return offset + indent;
        }
        offset += line.len();
    }
    0
}

fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: Result<Config, &str>) {
        let result = Config::parse(Path::new("t.toml"), text).map_err(|e| e.to_string());
        match expect {
            Ok(config) => assert_eq!(result, Ok(config)),
            Err(part) => {
                let error = result.expect_err("an error was expected");
                assert!(error.starts_with(part), "`{error}` does not begin with `{part}`");
            }
        }
    }

    #[test]
    fn good_ones() {
        check("", Ok(Config::default()));
        check(
            "socket = \"/run/t.sock\"\nwhen_unavailable = \"run_unobserved\"\nmode = \"fallback\"\n",
            Ok(Config {
                socket: "/run/t.sock".into(),
                when_unavailable: WhenUnavailable::RunUnobserved,
                mode: Some(ModeChoice::Fallback),
                ..Config::default()
            }),
        );
    }

    #[test]
    fn bad_ones_are_named_with_their_place() {
        check("sokcet = \"/x\"\n", Err("t.toml:1:1: unknown field `sokcet`, expected one of `socket`"));
        check(
            "\n\nmode = \"best\"\n",
            Err("t.toml:3:8: unknown variant `best`, expected one of `lsm`, `fmod_ret`, `fallback`"),
        );
        check("socket = 3\n", Err("t.toml:1:10: invalid type: integer `3`"));
        check("# é\n  policy = \"policy.yaml\"\n", Err("t.toml:2:3: `policy` must be an absolute path"));
        check("socket = \"/a\"\nsocket = \"/b\"\n", Err("t.toml:2:1: duplicate key"));
        check("socket = \"/a\n", Err("t.toml:1:"));
        check(
            "\npolicy_keys = [\"acme+00000000+AAAA\"]\n",
            Err("t.toml:2:15: `acme+00000000+AAAA` is no public key of a policy: "),
        );
        check("[section]\n", Err("t.toml:1:2: unknown field `section`"));
        check(
            "policy = \"/p\"\n[policies]\nlocal = [\"/l\"]\n",
            Err("t.toml:1:1: `policy` beside `[policies]`: write it there, as `organisation`"),
        );
        check(
            "[policies]\nteams = []\n",
            Err("t.toml:2:1: unknown field `teams`, expected one of `organisation`"),
        );
        check("[policies]\nteam = \"/t\"\n", Err("t.toml:2:8: invalid type: string"));
        check(
            "[policies]\nteam = [\"/t\"]\nlocal = [\"/l\", \"l\"]\n",
            Err("t.toml:3:1: `local` must be an absolute path, not `l`"),
        );
    }

    #[test]
    fn policies_by_whose_they_are() {
        let check = |text: &str, organisation: &str, team: &[&str], local: &[&str]| {
            let config = Config::parse(Path::new("t.toml"), text).expect("it is valid");
            let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect();
            let expect =
                PolicyFiles { organisation: organisation.into(), team: paths(team), local: paths(local) };
            assert_eq!(config.policies(), expect, "{text}");
        };
        check("", DEFAULT_POLICY, &[], &[]);
        check("policy = \"/p\"\n", "/p", &[], &[]);
        check("[policies]\norganisation = \"/o\"\nteam = [\"/t\", \"/u\"]\n", "/o", &["/t", "/u"], &[]);
        check("[policies]\nlocal = [\"/l\"]\n", DEFAULT_POLICY, &[], &["/l"]);
    }

    #[test]
    fn the_shipped_file_says_the_defaults() {
        let text = include_str!("../../packaging/treeline.toml");
        check(text, Ok(Config::default()));
        // Every setting, also when its comment sign is removed.
        let uncommented: String = text
            .lines()
            .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
            .map(|line| format!("{line}\n"))
            .collect();
        let config =
            Config::parse(Path::new("t.toml"), &uncommented).expect("the shipped settings are valid");
        assert_eq!(config.mode, Some(ModeChoice::Fallback));
        assert_eq!(config.pin_dir.as_deref(), Some(Path::new(DEFAULT_PINS)));
        assert!(config.trust().asks_for_signatures());
        assert_eq!(config.policies(), Config::default().policies());
        assert_eq!(
            Config {
                mode: None,
                claude_path: None,
                pin_dir: None,
                policy: None,
                policy_keys: vec![],
                ..config
            },
            Config::default()
        );
    }

    #[test]
    fn a_named_file_must_be_there() {
        let error = Config::load(Some(Path::new("/nonexistent/t.toml"))).expect_err("it is not there");
        assert_eq!(error.to_string(), "cannot read the configuration `/nonexistent/t.toml`");
    }
}
