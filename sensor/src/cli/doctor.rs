//! `treeline doctor`: what this machine offers, what is missing, and what to do about it.

mod attachment;
mod pins;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use treeline_policy::Policy;

use self::attachment::Attachment;
use super::{Globals, output};
use crate::{
    backend::linux::{self, Check, CheckState},
    config::{self, Config},
    control::client::{Client, ClientError},
    daemon::{
        Status,
        policy::{
            self,
            set::{PolicyFiles, load_all},
        },
    },
};

/// Free space below which a log will soon be in trouble, bytes.
const FREE_LEN_MIN: u64 = 512 << 20;

/// Arguments of `treeline doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Say what the rules of this policy amount to here [default: the daemon's, else as configured]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
}

/// What was found, as `--json` prints it.
#[derive(Debug, serde::Serialize)]
struct Report {
    checks: Vec<Check>,
    /// None when nobody could look.
    attachment: Option<Attachment>,
}

/// Prints the checks. Exit code 1 when something needs action.
///
/// # Errors
/// The answer cannot be printed.
pub fn run(args: &Args, globals: &Globals) -> Result<ExitCode> {
    let mut checks = linux::checks();
    let (check, config) = configuration(globals.config.as_deref());
    let daemon = Client::connect(&config.socket).and_then(|mut client| client.status());
    let (policy_check, policy) = policy_file(args.policy.as_deref(), &config);
    checks.extend([check, group(&config), socket(&config, &daemon), policy_check]);
    checks.push(pins::look(&config, daemon.is_ok()));
    checks
        .extend([("log", &config.log_dir), ("state", &config.state_dir)].map(|(name, dir)| space(name, dir)));
    let (more, attachment) = attachment::look(&config, &daemon, policy.as_ref(), args.policy.is_some());
    checks.extend(more);
    let bad = checks.iter().any(|check| check.state == CheckState::Bad);
    let report = Report { checks, attachment };
    if args.json {
        output::print(&format!("{}\n", serde_json::to_string_pretty(&report)?))?;
    } else {
        let colour = output::is_coloured(&std::io::stdout());
        let mut text: String = report.checks.iter().map(|check| render(check, colour)).collect();
        text.extend(report.attachment.as_ref().map(attachment::render));
        output::print(&text)?;
    }
    Ok(ExitCode::from(u8::from(bad)))
}

fn render(check: &Check, colour: bool) -> String {
    let (word, accent) = match check.state {
        CheckState::Ok => ("ok  ", "\x1b[32m"),
        CheckState::Note => ("note", "\x1b[33m"),
        CheckState::Bad => ("BAD ", "\x1b[1;31m"),
    };
    let (accent, plain) = if colour { (accent, "\x1b[0m") } else { ("", "") };
    let advice = check.advice.as_ref().map(|advice| format!("     -> {advice}\n"));
    format!("{accent}{word}{plain} {}: {}\n{}", check.name, check.found, advice.unwrap_or_default())
}

fn check(name: &'static str, state: CheckState, found: impl Into<String>, advice: Option<String>) -> Check {
    Check { name, state, found: found.into(), advice }
}

fn configuration(named: Option<&Path>) -> (Check, Config) {
    let path = named.unwrap_or(Path::new(config::DEFAULT_PATH)).display();
    match Config::load_as_user(named) {
        Ok(config) => {
            let found =
                if config == Config::default() { "the defaults".to_owned() } else { format!("`{path}`") };
            (check("configuration", CheckState::Ok, found, None), config)
        }
        Err(error) => {
            let advice = Some("mend the file; the daemon does not start with it".to_owned());
            (check("configuration", CheckState::Bad, error.to_string(), advice), Config::default())
        }
    }
}

fn group(config: &Config) -> Check {
    let name = &config.socket_group;
    let Some(group) = uzers::get_group_by_name(name) else {
        let advice = Some(format!(
            "`groupadd --system {name}` and `usermod -aG {name} USER`, then restart the daemon"
        ));
        return check(
            "group",
            CheckState::Note,
            format!("there is no group `{name}`: only root can launch"),
            advice,
        );
    };
    let member = rustix::process::geteuid().is_root()
        || uzers::group_access_list().is_ok_and(|groups| groups.iter().any(|g| g.gid() == group.gid()));
    if member {
        check("group", CheckState::Ok, format!("this user may use the socket (group `{name}`)"), None)
    } else {
        let advice = Some(format!("`usermod -aG {name} USER` as root, then log in again"));
        check("group", CheckState::Bad, format!("this user is not in the group `{name}`"), advice)
    }
}

fn socket(config: &Config, daemon: &Result<Status, ClientError>) -> Check {
    let path = config.socket.display();
    match daemon {
        Ok(_) => check("daemon", CheckState::Ok, format!("it answers at `{path}`"), None),
        Err(error) => {
            let advice = match error {
                ClientError::Connect { source, .. }
                    if source.kind() == std::io::ErrorKind::PermissionDenied =>
                {
                    "this user may not use the socket; see `group`"
                }
                error if error.is_unavailable() => "`systemctl start treeline`",
                _ => "`systemctl restart treeline`",
            };
            let found = crate::daemon::sensor::chain(error);
            check("daemon", CheckState::Note, found, Some(advice.to_owned()))
        }
    }
}

fn policy_file(named: Option<&Path>, config: &Config) -> (Check, Option<Policy>) {
    let files = named.map_or_else(|| config.policies(), PolicyFiles::alone);
    let words = files.organisation.display();
    let error = match load_all(&files, &config.trust()) {
        Ok(loaded) => {
            let policy = loaded.policy.at(policy::now());
            let others = match loaded.parts.len() {
                0 | 1 => String::new(),
                count => format!(" in {count} policies"),
            };
            let found = format!("`{words}`: {} with {} rules{others}", policy.name, policy.rules.len());
            return (check("policy", CheckState::Ok, found, None), Some(policy));
        }
        Err(error) => error,
    };
    let kind = match &error {
        policy::LoadError::Read { path, source } if named.is_none() && *path == files.organisation => {
            Some(source.kind())
        }
        _ => None,
    };
    let check = match kind {
        Some(std::io::ErrorKind::NotFound) => {
            let advice = Some("start with the `baseline.yaml` that Treeline ships".to_owned());
            check("policy", CheckState::Note, format!("there is no `{words}`: nothing is refused"), advice)
        }
        Some(std::io::ErrorKind::PermissionDenied) => {
            check("policy", CheckState::Ok, format!("`{words}` is not for this user to read"), None)
        }
        _ => {
            let verb = if matches!(error, policy::LoadError::Signature { .. }) { "verify" } else { "check" };
            let advice = Some(format!("`treeline policy {verb}` says more"));
            check("policy", CheckState::Bad, crate::daemon::sensor::chain(&error), advice)
        }
    };
    (check, None)
}

/// How much room there is where the directory is or will be.
fn space(name: &'static str, dir: &Path) -> Check {
    let there = dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
    match rustix::fs::statvfs(there) {
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let found = format!("`{}` has {} MiB free", dir.display(), free >> 20);
            if free < FREE_LEN_MIN {
                let advice = format!("make room, or move it (`{name}_dir` in the configuration)");
                check(name, CheckState::Bad, found, Some(advice))
            } else {
                check(name, CheckState::Ok, found, None)
            }
        }
        Err(error) => {
            let found = format!("cannot look at `{}`: {error}", there.display());
            check(name, CheckState::Bad, found, Some("look at the file system".to_owned()))
        }
    }
}
