//! `treeline status`.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use treeline_event::{HookState, HookStatus, PolicyPart, RuleState, RuleStatus};

use super::{Globals, output::print, run::explain};
use crate::{
    config::Config,
    control::client::Client,
    daemon::{Status, adapters},
    view::text::{command_line, shortened},
};

/// Characters of a command that are shown.
const COMMAND_LEN_MAX: usize = 64;

/// Arguments of `treeline status`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Show what this log says of the latest start instead of asking the daemon
    #[arg(long, value_name = "DIR", conflicts_with = "socket")]
    log: Option<PathBuf>,
    /// The daemon's socket [default: as configured]
    #[arg(long, value_name = "PATH", env = "TREELINE_SOCKET")]
    socket: Option<PathBuf>,
}

/// Prints the state. Exit code 1 when the log is in trouble or a policy was refused.
///
/// # Errors
/// The daemon is not there, or the log cannot be read.
pub fn run(args: &Args, globals: &Globals) -> Result<ExitCode> {
    let status = match &args.log {
        Some(dir) => of_log(dir)?,
        None => {
            let config = Config::load_as_user(globals.config.as_deref())?;
            let socket = args.socket.as_deref().unwrap_or(&config.socket);
            Client::connect(socket).and_then(|mut client| client.status()).map_err(explain)?
        }
    };
    if args.json {
        print(&format!("{}\n", serde_json::to_string_pretty(&status)?))?;
    } else {
        print(&render(&status))?;
    }
    let finding = status.log.trouble.is_some() || status.policy_refused.is_some();
    Ok(ExitCode::from(u8::from(finding)))
}

fn of_log(dir: &Path) -> Result<Status> {
    let status =
        adapters::status_of_log(dir).with_context(|| format!("cannot read the log `{}`", dir.display()))?;
    status.with_context(|| format!("the log `{}` does not say that a sensor ever started", dir.display()))
}

fn render(status: &Status) -> String {
    let mut out = String::new();
    let Status { version, pid, kernel, .. } = status;
    let mode = name_of(&status.mode);
    let process = if *pid == 0 { String::new() } else { format!(", pid {pid}") };
    let _ = writeln!(out, "treeline {version}{process}, mode {mode}, kernel {kernel}");
    render_log(status, &mut out);
    render_policy(status, &mut out);
    let _ = writeln!(out, "hooks");
    for hook in &status.hooks {
        render_hook(hook, &mut out);
    }
    let _ = writeln!(out, "sessions: {}", status.sessions.len());
    for session in &status.sessions {
        // The words are the client's.
        let command = shortened(&command_line(&session.command), COMMAND_LEN_MAX);
        let _ = writeln!(
            out,
            "  {}  uid {}  {}  root {}  {} processes  {command}",
            session.session, session.uid, session.origin, session.root, session.live
        );
    }
    let _ = writeln!(out, "refused: {}", status.denied);
    if status.loss.is_empty() {
        let _ = writeln!(out, "lost: nothing");
    }
    for loss in &status.loss {
        let _ = writeln!(out, "lost: {} {} at {}", loss.count, loss.kind, loss.site);
    }
    out
}

fn render_log(status: &Status, out: &mut String) {
    let log = &status.log;
    let _ = writeln!(out, "log {}: {} entries, {} of them signed", log.dir, log.size, log.signed_size);
    if let Some(trouble) = &log.trouble {
        let _ = writeln!(out, "  TROUBLE: {trouble}; {} entries wait in memory", log.waiting);
    }
}

fn render_policy(status: &Status, out: &mut String) {
    match &status.policy {
        None => {
            let _ = writeln!(out, "policy: none, nothing is refused");
        }
        Some(policy) => {
            let revision = policy.revision.map_or_else(String::new, |number| format!(", revision {number}"));
            let signed =
                policy.signed_by.as_ref().map_or_else(String::new, |key| format!(", signed by {key}"));
            let _ = writeln!(
                out,
                "policy {}{revision}, generation {}, sha256 {}{signed}",
                policy.name, policy.generation, policy.sha256
            );
            for PolicyPart { name, level, sha256, revision, signed_by } in &policy.parts {
                let revision = revision.map_or_else(String::new, |number| format!(", revision {number}"));
                let signed = signed_by.as_ref().map_or_else(String::new, |key| format!(", signed by {key}"));
                let _ = writeln!(out, "  {} {name}{revision}, sha256 {sha256}{signed}", level.name());
            }
            for rule in &policy.rules {
                render_rule(rule, out);
            }
        }
    }
    if let Some(error) = &status.policy_refused {
        let _ = writeln!(out, "  REFUSED since: {error}");
    }
}

/// One line on what a rule amounts to.
pub(super) fn render_rule(rule: &RuleStatus, out: &mut String) {
    let state = match rule.state {
        RuleState::Enforced => "enforced",
        RuleState::Partly => "partly enforced",
        RuleState::Observed => "observed only",
        RuleState::Impossible => "impossible here",
        RuleState::Allows => "allows",
    };
    let _ = write!(out, "  {:<28} {state}", rule.rule);
    // What is enforced is worth a list only when it is not everything.
    if rule.state == RuleState::Partly && !rule.enforced.is_empty() {
        let _ = write!(out, ": {}", rule.enforced.join(", "));
    }
    for (word, operations) in [("observed", &rule.observed), ("unseen", &rule.unseen)] {
        if !operations.is_empty() {
            let _ = write!(out, "; {word}: {}", operations.join(", "));
        }
    }
    if let Some(policy) = &rule.policy {
        let _ = write!(out, "; of {policy}");
    }
    let reason = rule.reason.as_ref().map_or_else(String::new, |reason| format!(" ({reason})"));
    let _ = writeln!(out, "{reason}");
}

/// One line on a hook.
pub(super) fn render_hook(hook: &HookStatus, out: &mut String) {
    let state = match &hook.state {
        HookState::Attached => "attached".to_owned(),
        HookState::Failed { error } => format!("FAILED: {error}"),
        HookState::Unsupported { reason } => format!("unsupported: {reason}"),
    };
    let _ = writeln!(out, "  {:<40} {state}", hook.hook);
}

/// The stored name of an attach mode.
fn name_of(mode: &treeline_event::AttachMode) -> String {
    serde_json::to_value(mode).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use treeline_event::Level;

    use super::*;
    use crate::view::fixture;

    fn part((name, level): (&str, Level)) -> PolicyPart {
        let signed_by = Some("k".to_owned());
        PolicyPart { name: name.to_owned(), level, sha256: "cd".to_owned(), revision: Some(4), signed_by }
    }

    #[test]
    fn everything_is_shown() {
        let mut status = fixture::status();
        status.log.trouble = Some("full".to_owned());
        status.policy_refused = Some("bad".to_owned());
        if let Some(policy) = &mut status.policy {
            policy.parts = [("p", Level::Organisation), ("web", Level::Team)].map(part).into();
            policy.rules[0].policy = Some("web".to_owned());
        }
        let text = render(&status);
        for part in [
            "treeline 1.2.3, pid 7, mode fallback, kernel 6.18",
            "log /l: 5 entries, 4 of them signed\n  TROUBLE: full; 1 entries wait",
            "policy p, generation 3",
            "generation 3, sha256 ab\n  organisation p, revision 4, sha256 cd, signed by k\n  team web, ",
            "partly enforced: read; observed: rename; of web (no hook)",
            "REFUSED since: bad",
            "FAILED: EPERM",
            "unsupported: too old",
            "refused: 2\nlost: 9 open at ring",
        ] {
            assert!(text.contains(part), "`{part}` is not in:\n{text}");
        }
    }
}
