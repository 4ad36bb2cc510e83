//! `treeline doctor`: what this machine offers, what is missing, and what to do about it.

use std::{path::Path, process::ExitCode};

use anyhow::Result;

use super::{Globals, output};
use crate::{
    backend::linux::{self, Check, CheckState},
    config::{self, Config},
    control::client::{Client, ClientError},
    daemon::policy,
};

/// Free space below which a log will soon be in trouble, bytes.
const FREE_LEN_MIN: u64 = 512 << 20;

/// Arguments of `treeline doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints the checks. Exit code 1 when something needs action.
///
/// # Errors
/// The answer cannot be printed.
pub fn run(args: &Args, globals: &Globals) -> Result<ExitCode> {
    let mut checks = linux::checks();
    let (check, config) = configuration(globals.config.as_deref());
    checks.push(check);
    checks.extend([group(&config), socket(&config), policy_file(&config)]);
    checks
        .extend([("log", &config.log_dir), ("state", &config.state_dir)].map(|(name, dir)| space(name, dir)));
    if args.json {
        output::print(&format!("{}\n", serde_json::to_string_pretty(&checks)?))?;
    } else {
        let colour = output::is_coloured(&std::io::stdout());
        output::print(&checks.iter().map(|check| render(check, colour)).collect::<String>())?;
    }
    let bad = checks.iter().any(|check| check.state == CheckState::Bad);
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

fn socket(config: &Config) -> Check {
    let path = config.socket.display();
    match Client::connect(&config.socket).and_then(|mut client| client.ping()) {
        Ok(()) => check("daemon", CheckState::Ok, format!("it answers at `{path}`"), None),
        Err(error) => {
            let advice = match &error {
                ClientError::Connect { source, .. }
                    if source.kind() == std::io::ErrorKind::PermissionDenied =>
                {
                    "this user may not use the socket; see `group`"
                }
                error if error.is_unavailable() => "`systemctl start treeline`",
                _ => "`systemctl restart treeline`",
            };
            let found = crate::daemon::sensor::chain(&error);
            check("daemon", CheckState::Note, found, Some(advice.to_owned()))
        }
    }
}

fn policy_file(config: &Config) -> Check {
    let path = config.policy.display();
    match policy::load(&config.policy) {
        Ok(loaded) => {
            let found = format!("`{path}`: {} with {} rules", loaded.policy.name, loaded.policy.rules.len());
            check("policy", CheckState::Ok, found, None)
        }
        Err(policy::LoadError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            let advice = Some("start with the `baseline.yaml` that Treeline ships".to_owned());
            check("policy", CheckState::Note, format!("there is no `{path}`: nothing is refused"), advice)
        }
        Err(policy::LoadError::Read { source, .. })
            if source.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            check("policy", CheckState::Ok, format!("`{path}` is not for this user to read"), None)
        }
        Err(error) => {
            let advice = Some("`treeline policy check` shows the places".to_owned());
            check("policy", CheckState::Bad, error.to_string(), advice)
        }
    }
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
