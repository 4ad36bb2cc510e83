//! Which attach mode, which hooks and which rules this machine gives: what the running daemon has, else what a trial
//! finds, which loads and attaches everything, looks, and detaches. No process is labelled and no file is marked
//! meanwhile, so that nothing is watched or refused.

use std::fmt::Write as _;

use serde::Serialize;
use treeline_event::{AttachMode, HookState, HookStatus, Mode, RuleState, RuleStatus};
use treeline_policy::Policy;

use super::{
    super::status::{render_hook, render_rule},
    check,
};
use crate::{
    backend::{
        Capabilities, StartReport,
        linux::{self, Check, CheckState},
    },
    config::{Config, Unenforceable},
    control::client::ClientError,
    daemon::{Status, adapters, sensor::chain},
};

/// Who says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Source {
    /// The running daemon.
    Daemon,
    /// A trial of this process.
    Trial,
}

/// How the sensor is or would be attached.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Attachment {
    source: Source,
    mode: AttachMode,
    hooks: Vec<HookStatus>,
    /// What each rule of the policy amounts to; none without a policy.
    rules: Option<Vec<RuleStatus>>,
    /// What the trial took; only a trial knows.
    start: Option<StartReport>,
}

/// Asks the daemon or tries it.
pub(super) fn look(
    config: &Config,
    daemon: &Result<Status, ClientError>,
    policy: Option<&Policy>,
    named: bool,
) -> (Vec<Check>, Option<Attachment>) {
    let attachment = match daemon {
        Ok(status) => Ok(of_daemon(status, policy.filter(|_| named))),
        Err(error) if !error.is_unavailable() => {
            Err(unknown("the daemon cannot be asked", "see `daemon`; what it has is not guessed here"))
        }
        Err(_) if !rustix::process::geteuid().is_root() => Err(unknown(
            "not looked at: no daemon runs, and only root can load kernel programs",
            "`sudo treeline doctor` loads and attaches them, looks, and detaches them",
        )),
        Err(_) => match adapters::kernel_backend(config.mode, None) {
            Ok(backend) => Ok(of_trial(backend.capabilities(), policy)),
            Err(error) => Err(Check {
                state: CheckState::Bad,
                ..unknown(
                    &chain(&error),
                    "the kernel's words say what it refuses; the other checks, what is missing",
                )
            }),
        },
    };
    match attachment {
        Ok(attachment) => {
            let mut checks = vec![mode(&attachment), hooks(&attachment)];
            checks.extend(rules(&attachment, policy, config.unenforceable));
            (checks, Some(attachment))
        }
        Err(check) => (vec![check], None),
    }
}

fn unknown(found: &str, advice: &str) -> Check {
    check("attach mode", CheckState::Note, found, Some(advice.to_owned()))
}

/// The policy in force, or what another one would amount to.
fn of_daemon(status: &Status, other: Option<&Policy>) -> Attachment {
    let (mode, hooks) = (status.mode, status.hooks.clone());
    let rules = match other {
        Some(policy) => Some(linux::coverage_of(policy, mode, &hooks)),
        None => status.policy.as_ref().map(|policy| policy.rules.clone()),
    };
    Attachment { source: Source::Daemon, mode, hooks, rules, start: None }
}

fn of_trial(Capabilities { mode, hooks, start, .. }: Capabilities, policy: Option<&Policy>) -> Attachment {
    let rules = policy.map(|policy| linux::coverage_of(policy, mode, &hooks));
    Attachment { source: Source::Trial, mode, hooks, rules, start }
}

fn mode(attachment: &Attachment) -> Check {
    let how = match attachment.source {
        Source::Daemon => "as the running daemon is attached",
        Source::Trial => "as a trial found",
    };
    let found = format!("{}, {how}", attachment.mode);
    match attachment.mode {
        AttachMode::Fallback => {
            let advice =
                "it enforces less than `lsm`: the hooks say why `lsm` cannot be had, the rules what it means";
            check("attach mode", CheckState::Note, found, Some(advice.to_owned()))
        }
        AttachMode::FmodRet => {
            let advice = "where the kernel preempts itself it can leave runs of programs out, and a hostile session can bring \
                          that about; each is counted as lost. Boot with `bpf` among the security modules: mode `lsm` has no \
                          such gap";
            check("attach mode", CheckState::Note, found, Some(advice.to_owned()))
        }
        _ => check("attach mode", CheckState::Ok, found, None),
    }
}

fn hooks(attachment: &Attachment) -> Check {
    // Modes that were tried and refused are listed with the hooks, but are none.
    let of_mode: Vec<_> = attachment.hooks.iter().filter(|hook| !hook.hook.starts_with("mode/")).collect();
    let attached = of_mode.iter().filter(|hook| hook.state == HookState::Attached).count();
    let found = format!("{attached} of {} attached", of_mode.len());
    if attached == of_mode.len() {
        return check("hooks", CheckState::Ok, found, None);
    }
    let advice = "the list below has the kernel's words; the rules that it concerns say so".to_owned();
    check("hooks", CheckState::Note, found, Some(advice))
}

fn rules(attachment: &Attachment, policy: Option<&Policy>, unenforceable: Unenforceable) -> Option<Check> {
    let rules = attachment.rules.as_ref()?;
    let is_monitor = |rule: &RuleStatus| {
        policy.is_some_and(|p| {
            p.rules.iter().any(|r| r.id == rule.rule && r.mode == Mode::Monitor && r.adopts.is_none())
        })
    };
    let weak = |rule: &&RuleStatus| linux::is_hopeless(rule) && !is_monitor(rule);
    let weak: Vec<_> = rules.iter().filter(weak).map(|rule| rule.rule.as_str()).collect();
    let enforced = rules.iter().filter(|rule| rule.state == RuleState::Enforced).count();
    let partly = rules.iter().filter(|rule| rule.state == RuleState::Partly).count();
    // What allows is nothing to enforce.
    let allow = rules.iter().filter(|rule| rule.state == RuleState::Allows).count();
    let others = if allow > 0 { format!(", {allow} to allow") } else { String::new() };
    let found = format!("{enforced} of {} enforced, {partly} in part{others}", rules.len() - allow);
    if weak.is_empty() {
        return Some(check("rules", CheckState::Ok, found, None));
    }
    let found = format!("{found}; not enforceable here: {}", weak.join(", "));
    // What is in force was accepted, and what is configured to be observed only is as somebody decided.
    let accepted = attachment.source == Source::Daemon || unenforceable == Unenforceable::Observe;
    let (state, advice) = if accepted {
        (CheckState::Note, "they only record; the list below says why")
    } else {
        (
            CheckState::Bad,
            "the daemon refuses such a policy: set them to `mode: monitor`, or `unenforceable = \"observe\"` in the \
             configuration",
        )
    };
    Some(check("rules", state, found, Some(advice.to_owned())))
}

/// The lists of hooks and rules.
pub(super) fn render(attachment: &Attachment) -> String {
    let mut out = String::from("hooks\n");
    for hook in &attachment.hooks {
        render_hook(hook, &mut out);
    }
    match &attachment.rules {
        None => {
            let _ = writeln!(out, "rules: no policy");
        }
        Some(rules) => {
            let _ = writeln!(out, "rules");
            for rule in rules {
                render_rule(rule, &mut out);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::fixture;

    const POLICY: &str = "version: 1\nname: t\nmode: enforce\nrules:\n  - id: keys\n    kind: file\n    paths: \
                          [\"/keys/**\"]\n    reason: Keys.\n  - id: named\n    kind: file\n    operations: [rename]\n    \
                          paths: [\"/keys/**\"]\n    reason: Names.\n";

    fn policy() -> Policy {
        treeline_policy::parse("t.yaml", POLICY).expect("it is good")
    }

    fn states(attachment: &Attachment) -> Vec<(&str, RuleState)> {
        attachment.rules.iter().flatten().map(|rule| (rule.rule.as_str(), rule.state)).collect()
    }

    #[test]
    fn a_daemon_says_what_is_in_force_and_another_policy_is_weighed() {
        let (config, status, policy) = (Config::default(), Ok(fixture::status()), policy());
        let (_, in_force) = look(&config, &status, Some(&policy), false);
        let in_force = in_force.expect("the daemon answered");
        assert_eq!(states(&in_force).first().map(|(rule, _)| *rule), Some("keys"));
        assert_eq!(in_force.rules.as_ref().map(Vec::len), fixture::status().policy.map(|p| p.rules.len()));
        let (checks, other) = look(&config, &status, Some(&policy), true);
        let other = other.expect("the daemon answered");
        assert_eq!(states(&other), [("keys", RuleState::Partly), ("named", RuleState::Observed)]);
        let rules = checks.iter().find(|check| check.name == "rules").expect("there are rules");
        assert!(rules.found.ends_with("not enforceable here: named"), "{}", rules.found);
    }

    #[test]
    fn a_mode_that_is_not_the_best_says_what_is_missing() {
        let check = |attach, expect: CheckState, said: &str| {
            let (hooks, source) = (Vec::new(), Source::Trial);
            let check = mode(&Attachment { source, mode: attach, hooks, rules: None, start: None });
            assert_eq!(check.state, expect, "{attach}");
            assert!(check.advice.unwrap_or_default().contains(said), "{attach}");
        };
        check(AttachMode::Lsm, CheckState::Ok, "");
        check(AttachMode::FmodRet, CheckState::Note, "leave runs of programs out");
        check(AttachMode::Fallback, CheckState::Note, "enforces less");
    }

    #[test]
    fn what_would_be_refused_is_bad_unless_it_is_configured() {
        let policy = policy();
        let attachment = of_trial(
            Capabilities {
                mode: AttachMode::Fallback,
                kernel: String::new(),
                hooks: Vec::new(),
                start: None,
            },
            Some(&policy),
        );
        let state = |unenforceable| rules(&attachment, Some(&policy), unenforceable).map(|check| check.state);
        assert_eq!(state(Unenforceable::Refuse), Some(CheckState::Bad));
        assert_eq!(state(Unenforceable::Observe), Some(CheckState::Note));
        let text = render(&attachment);
        assert!(text.contains("observed only; observed: rename"), "{text}");
        let more =
            "  - id: free\n    kind: file\n    action: allow\n    paths: [\"/keys/**\"]\n    reason: Free.\n";
        let policy = treeline_policy::parse("t.yaml", &format!("{POLICY}{more}")).expect("it is good");
        let rules_of = linux::full_coverage_of(&policy, AttachMode::Fallback);
        let attachment = Attachment { rules: Some(rules_of), ..attachment };
        let found = rules(&attachment, Some(&policy), Unenforceable::Refuse).map(|check| check.found);
        let expect = "0 of 2 enforced, 1 in part, 1 to allow; not enforceable here: named";
        assert_eq!(found.as_deref(), Some(expect));
    }

    #[test]
    fn a_daemon_that_does_not_answer_is_not_replaced_by_a_guess() {
        let (checks, attachment) = look(&Config::default(), &Err(ClientError::TimedOut), None, false);
        assert!(attachment.is_none());
        assert_eq!((checks.len(), checks[0].found.as_str()), (1, "the daemon cannot be asked"));
    }
}
