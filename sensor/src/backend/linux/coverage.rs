//! What each rule amounts to in an attach mode.

use treeline_event::{AttachMode, HookState, HookStatus, Mode, RuleState, RuleStatus, SELF_RULE};
use treeline_policy::{
    Policy,
    policy::{Adoption, Kind, Rule},
};

use super::hooks;

/// What each rule of a policy would amount to, as far as mode and hooks decide it: which of its objects can be protected
/// is known only when it is put in force.
#[must_use]
pub fn coverage_of(policy: &Policy, mode: AttachMode, hooks: &[HookStatus]) -> Vec<RuleStatus> {
    policy.rules.iter().map(|rule| status(rule, mode, hooks, &[])).collect()
}

/// What each rule of a policy amounts to where a mode has all of its hooks, whatever this machine offers.
#[must_use]
pub fn full_coverage_of(policy: &Policy, mode: AttachMode) -> Vec<RuleStatus> {
    coverage_of(policy, mode, &hooks::full(mode))
}

/// Whether a policy with this rule is refused unless it is allowed to be observed only: it is to refuse, or to adopt, and
/// cannot.
#[must_use]
pub fn is_refused(rule: &Rule, status: &RuleStatus) -> bool {
    (rule.mode == Mode::Enforce || rule.adopts.is_some()) && is_hopeless(status)
}

/// What the mode can do with each thing that a rule names.
struct Reach {
    enforced: Vec<String>,
    observed: Vec<String>,
    unseen: Vec<String>,
    reasons: Vec<&'static str>,
}

/// The state of one rule. `problems` are objects of it that could not be protected.
pub(super) fn status(rule: &Rule, mode: AttachMode, hooks: &[HookStatus], problems: &[String]) -> RuleStatus {
    if rule.allows {
        return allows(rule);
    }
    let mut reach = match mode {
        _ if rule.kind.is_for_the_sensor() => not_asked(rule),
        AttachMode::Lsm | AttachMode::FmodRet => in_kernel(rule, hooks),
        AttachMode::Fallback | AttachMode::Replay => in_fallback(rule, hooks),
    };
    if rule.id == SELF_RULE {
        protect_itself(&mut reach, mode, hooks);
    }
    let adopts = rule.adopts.is_some_and(|adoption| adopts(&mut reach, adoption, mode, hooks));
    if rule.mode == Mode::Monitor {
        reach.observed = std::mem::take(&mut reach.enforced).into_iter().chain(reach.observed).collect();
        reach.reasons.push(match rule.adopts {
            Some(_) => "what can be followed is not refused",
            None => "the rule is in `monitor`",
        });
    }
    if adopts {
        reach.enforced.push(ADOPTION.to_owned());
    }
    let state = match (reach.enforced.is_empty(), reach.observed.is_empty(), reach.unseen.is_empty()) {
        (false, _, true) if adopts => RuleState::Enforced,
        (false, true, true) if problems.is_empty() => RuleState::Enforced,
        (false, _, _) => RuleState::Partly,
        (true, false, _) => RuleState::Observed,
        (true, true, _) => RuleState::Impossible,
    };
    let mut reasons: Vec<String> = reach.reasons.iter().map(|reason| (*reason).to_owned()).collect();
    if !reach.enforced.is_empty() {
        reasons.extend(problems.iter().cloned());
    }
    RuleStatus {
        rule: rule.id.clone(),
        state,
        enforced: reach.enforced,
        observed: reach.observed,
        unseen: reach.unseen,
        reason: (!reasons.is_empty()).then(|| reasons.join("; ")),
        policy: None,
    }
}

/// The state of a rule that allows: what it is asked about is what others refuse or record.
fn allows(rule: &Rule) -> RuleStatus {
    let reason = rule.kind.is_for_the_sensor().then(|| not_asked(rule).reasons.join("; "));
    RuleStatus {
        rule: rule.id.clone(),
        state: RuleState::Allows,
        enforced: Vec::new(),
        observed: Vec::new(),
        unseen: Vec::new(),
        reason,
        policy: None,
    }
}

/// What is about calls or the machine: nobody asks.
fn not_asked(rule: &Rule) -> Reach {
    let reason = match rule.kind {
        Kind::Posture { .. } => "nothing asks about the state of the machine yet",
        _ => "nothing asks about tool calls yet",
    };
    let unseen = rule.kind.operation_names().into_iter().map(str::to_owned).collect();
    Reach { enforced: Vec::new(), observed: Vec::new(), unseen, reasons: vec![reason] }
}

/// What a rule does that adopts.
const ADOPTION: &str = "adopt";

/// Whether a link can be followed here; says so if not.
fn adopts(reach: &mut Reach, adoption: Adoption, mode: AttachMode, hooks: &[HookStatus]) -> bool {
    let failed = |wanted: &&str| {
        hooks.iter().any(|hook| hook.hook == **wanted && matches!(hook.state, HookState::Failed { .. }))
    };
    let why = if !mode.judges_in_kernel() {
        "only modes `lsm` and `fmod_ret` have hooks for who takes up a session's work"
    } else if hooks::of_adoption(adoption).iter().any(failed) {
        "a hook by which adoption knows whose work it is, is not attached"
    } else {
        return true;
    };
    reach.unseen.push(ADOPTION.to_owned());
    reach.reasons.push(why);
    false
}

/// What the sensor's own rule amounts to beside its files.
fn protect_itself(reach: &mut Reach, mode: AttachMode, hooks: &[HookStatus]) {
    const WAYS: &str =
        "signals, ptrace, limits, bpf(2), control groups, kernel modules, fanotify, frozen filesystems";
    const UNITS: &str = "units, what the loader preloads";
    let has_failed = |hook: &HookStatus| matches!(hook.state, HookState::Failed { .. });
    if !mode.judges_in_kernel() {
        reach.unseen.extend([WAYS, UNITS].map(str::to_owned));
        reach.reasons.push("only modes `lsm` and `fmod_ret` have hooks for what is not a file");
        reach.reasons.push("PID 1 would wait for an answer when it opens a unit");
        reach.reasons.push("what is marked is let through once the sensor's process has ended");
    } else if hooks.iter().any(|hook| has_failed(hook) && hooks::protects_itself(&hook.hook)) {
        reach.unseen.push(WAYS.to_owned());
        reach.reasons.push("not every hook that protects the sensor is attached");
    } else {
        reach.enforced.push(WAYS.to_owned());
    }
    if hooks.iter().any(|hook| has_failed(hook) && hook.hook == "pins") {
        reach.reasons.push("nothing is pinned: nothing is refused once the sensor's process has ended");
    }
}

fn in_kernel(rule: &Rule, hooks: &[HookStatus]) -> Reach {
    let mut reach =
        Reach { enforced: Vec::new(), observed: Vec::new(), unseen: Vec::new(), reasons: Vec::new() };
    for operation in rule.kind.operation_names() {
        reach.enforced.push(operation.to_owned());
    }
    if matches!(&rule.kind, Kind::Connect { to, .. } if !to.is_empty()) {
        reach.enforced.extend([DATAGRAMS, RAW_SOCKETS].map(str::to_owned));
    }
    if matches!(rule.kind, Kind::Exec { .. }) {
        reach.enforced.push(MAPPINGS.to_owned());
    }
    let refused = |hook: &HookStatus| {
        // Another hook on the same function is there for adoption.
        hook.hook.ends_with("ptrace_access_check")
            && !hook.hook.starts_with("fexit/")
            && matches!(hook.state, HookState::Failed { .. })
    };
    if rule.kind == Kind::Trace && hooks.iter().any(refused) {
        reach.unseen = std::mem::take(&mut reach.enforced);
        reach.reasons.push("the hook for access to processes is not attached");
    }
    if let Kind::Exec { sha256: hashes, .. } = &rule.kind
        && !hashes.is_empty()
    {
        reach.unseen.push(FIRST_MAPPINGS.to_owned());
        reach.reasons.push("a file that is only mapped is read afterwards; from then on it is refused");
    }
    reach
}

/// What an exec rule covers beside execs.
const MAPPINGS: &str = "executable mappings";

/// What a rule by content does not cover where it covers mappings.
const BY_CONTENT: &str = "exec by content";
const FIRST_MAPPINGS: &str = "first mapping of a file that nobody has executed";
/// What it does not cover where nothing but the answer decides.
const MEMORY: &str = "files that are in memory only (memfd)";
const PRIVATE: &str = "filesystems of a private mount namespace, until they are seen";

/// Behind an operation of a rule some of whose patterns hold everywhere.
const BY_THE_OTHERS: &str = " by the patterns that begin with a directory";

/// What writing is beside an open.
const SIZE_AND_MODE: &str = "truncate by name, owner and mode";
const ATTRIBUTES: &str = "extended attributes, ACLs and flags";

/// What a rule by address covers beside connects.
const DATAGRAMS: &str = "datagrams";
const RAW_SOCKETS: &str = "raw sockets";
/// What no cgroup program is asked for.
const PACKET_SOCKETS: &str = "packet sockets";
const PACKETS: &str = "the kernel asks cgroup programs about sockets of IPv4 and IPv6 only";

/// What a rule by address amounts to with these cgroup programs: enforced, and not seen.
fn addresses(attached: &dyn Fn(&str) -> bool) -> (Vec<&'static str>, Vec<&'static str>) {
    let parts: [(&str, &[&str]); 3] = [
        ("connect", &["cgroup/connect4", "cgroup/connect6"]),
        (DATAGRAMS, &["cgroup/sendmsg4", "cgroup/sendmsg6"]),
        (RAW_SOCKETS, &["cgroup/sock_create"]),
    ];
    let (enforced, unseen): (Vec<_>, Vec<_>) =
        parts.into_iter().partition(|(_, hooks)| hooks.iter().all(|hook| attached(hook)));
    let words = |parts: Vec<(&'static str, _)>| parts.into_iter().map(|(word, _)| word).collect();
    (words(enforced), words(unseen))
}

/// Adds an operation before which a marked object is asked about.
fn by_marks(reach: &mut Reach, rule: &Rule, operation: &str) {
    let everywhere = rule.kind.globs().iter().filter(|glob| glob.value.is_everywhere()).count();
    if everywhere == 0 {
        reach.enforced.push(operation.to_owned());
        return;
    }
    if everywhere < rule.kind.globs().len() {
        reach.enforced.push(format!("{operation}{BY_THE_OTHERS}"));
    }
    reach.observed.push(operation.to_owned());
    reach.reasons.push("a pattern that holds everywhere would need a mark on every file");
}

/// Whether a rule in `enforce` refuses nothing here, or nothing by some of its patterns.
#[must_use]
pub fn is_hopeless(status: &RuleStatus) -> bool {
    // What marks decide is only observed where a pattern cannot have any. (A rule that adopts is enforced by adopting.)
    let has_no_marks = |what: &String| matches!(what.as_str(), "read" | "write" | "exec");
    match status.state {
        RuleState::Observed | RuleState::Impossible => true,
        RuleState::Partly => status.observed.iter().any(has_no_marks),
        RuleState::Enforced | RuleState::Allows => false,
    }
}

fn in_fallback(rule: &Rule, hooks: &[HookStatus]) -> Reach {
    let mut reach =
        Reach { enforced: Vec::new(), observed: Vec::new(), unseen: Vec::new(), reasons: Vec::new() };
    let attached =
        |name: &str| hooks.iter().any(|hook| hook.hook == name && hook.state == HookState::Attached);
    for operation in rule.kind.operation_names() {
        if matches!((&rule.kind, operation), (Kind::File { .. }, "write")) {
            reach.observed.push(SIZE_AND_MODE.to_owned());
            reach.unseen.push(ATTRIBUTES.to_owned());
            reach.reasons.push("permission events come with opens only");
        }
        let list = match (&rule.kind, operation) {
            (Kind::File { .. }, "read" | "write") => {
                by_marks(&mut reach, rule, operation);
                continue;
            }
            (Kind::File { .. }, _) => {
                reach.reasons.push("names are seen when the system call returns");
                &mut reach.observed
            }
            (Kind::Exec { sha256: hashes, .. }, _) => {
                if !hashes.is_empty() {
                    reach.unseen.extend([MEMORY, PRIVATE].map(str::to_owned));
                    reach.reasons.push("nothing but marks on filesystems holds an exec by content");
                }
                if !hashes.is_empty() && rule.kind.globs().iter().any(|glob| glob.value.is_everywhere()) {
                    reach.enforced.push(BY_CONTENT.to_owned());
                }
                by_marks(&mut reach, rule, operation);
                continue;
            }
            // Not seen here, and not come to.
            (Kind::Tool { .. } | Kind::Mcp { .. } | Kind::Posture { .. }, name) => {
                reach.unseen.push(name.to_owned());
                continue;
            }
            (Kind::Trace, name) => {
                reach.unseen.push(name.to_owned());
                reach.reasons.push("only modes `lsm` and `fmod_ret` have a hook for access to processes");
                continue;
            }
            (Kind::Connect { .. }, name) if name.contains("unix") => {
                reach.reasons.push("a connect to a unix socket is seen when the system call returns");
                &mut reach.observed
            }
            (Kind::Connect { .. }, _) => {
                let (enforced, unseen) = addresses(&attached);
                reach.enforced.extend(enforced.into_iter().map(str::to_owned));
                if !unseen.is_empty() {
                    reach.reasons.push("not every cgroup program is attached");
                }
                reach.reasons.push(PACKETS);
                reach.unseen.extend(unseen.into_iter().chain([PACKET_SOCKETS]).map(str::to_owned));
                continue;
            }
        };
        list.push(operation.to_owned());
    }
    if matches!(rule.kind, Kind::Exec { .. }) {
        reach.unseen.push(MAPPINGS.to_owned());
        reach.reasons.push("nothing here is asked for mappings: the dynamic loader runs what it is given");
    }
    reach.reasons.sort_unstable();
    reach.reasons.dedup();
    reach
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_that_adopts_says_where_it_cannot() {
        let text = "version: 1\nname: n\nrules: [{id: x, kind: broker, action: adopt, brokers: [at, ptrace, ssh], \
                    reason: r}]\n";
        let policy = treeline_policy::parse("p", text).expect("a good policy");
        let check = |rule: &str, mode, failed: &str, expect: RuleState, said: &str| {
            let failed = HookStatus {
                hook: failed.to_owned(),
                state: HookState::Failed { error: "EPERM".to_owned() },
            };
            let statuses = coverage_of(&policy, mode, &[failed]);
            let status = statuses.iter().find(|status| status.rule == rule).expect("a part");
            assert_eq!(status.state, expect, "{rule} {mode}: {status:?}");
            assert!(status.reason.as_deref().unwrap_or_default().contains(said), "{status:?}");
            assert_eq!(status.enforced.contains(&ADOPTION.to_owned()), expect == RuleState::Enforced);
            assert_eq!(is_hopeless(status), expect != RuleState::Enforced, "{rule} {mode}");
        };
        for mode in [AttachMode::Lsm, AttachMode::FmodRet] {
            for rule in ["x/at-files", "x/ptrace", "x/ssh"] {
                check(rule, mode, "", RuleState::Enforced, "can be followed");
            }
            for rule in ["x/ssh-files", "x/ssh-sockets"] {
                check(rule, mode, "", RuleState::Observed, "monitor");
            }
            check("x/ssh", mode, "fexit/inet_csk_accept", RuleState::Observed, "not attached");
            check("x/ssh", mode, "tp_btf/inet_sock_set_state", RuleState::Observed, "not attached");
            check(
                "x/ptrace",
                mode,
                "fexit/security_ptrace_access_check",
                RuleState::Observed,
                "not attached",
            );
        }
        // Here no cgroup program is attached.
        check("x/ssh", AttachMode::Fallback, "", RuleState::Impossible, "only modes");
        check("x/ssh-sockets", AttachMode::Fallback, "", RuleState::Observed, "monitor");
        check("x/at-files", AttachMode::Fallback, "", RuleState::Observed, "only modes");
        check("x/ptrace", AttachMode::Fallback, "", RuleState::Impossible, "only modes");
    }

    #[test]
    fn nobody_asks_about_calls() {
        let rules = ["kind: tool, tools: [Bash]", "kind: mcp", "kind: posture, require: {secure_boot: true}"];
        for mode in [AttachMode::Lsm, AttachMode::FmodRet, AttachMode::Fallback] {
            for rule in rules {
                let text = format!("version: 1\nname: n\nrules: [{{id: x, {rule}, reason: r}}]\n");
                let policy = treeline_policy::parse("p", &text).expect("a good policy");
                let status = &full_coverage_of(&policy, mode)[0];
                assert_eq!((status.state, status.enforced.len()), (RuleState::Impossible, 0), "{rule}");
                assert!(status.reason.as_deref().is_some_and(|reason| reason.contains("nothing asks")));
                assert!(is_refused(&policy.rules[0], status), "{rule}");
            }
        }
        let text =
            "version: 1\nname: n\nrules: [{id: x, kind: tool, tools: [Bash], action: allow, reason: r}]\n";
        let policy = treeline_policy::parse("p", text).expect("a good policy");
        let status = &full_coverage_of(&policy, AttachMode::Lsm)[0];
        assert!(!is_refused(&policy.rules[0], status), "what allows refuses nothing: {status:?}");
    }

    #[test]
    fn what_allows_is_neither_enforced_nor_observed() {
        for rule in [
            "kind: file, paths: [/x, \"**/y\"]",
            "kind: exec, paths: [/x]",
            "kind: connect, to: [10.0.0.0/8]",
        ] {
            let text = format!("version: 1\nname: n\nrules: [{{id: x, {rule}, action: allow, reason: r}}]\n");
            let policy = treeline_policy::parse("p", &text).expect("a good policy");
            for mode in [AttachMode::Lsm, AttachMode::FmodRet, AttachMode::Fallback] {
                let status = &coverage_of(&policy, mode, &[])[0];
                let said = (status.state, status.observed.len(), status.unseen.len(), &status.reason);
                assert_eq!(said, (RuleState::Allows, 0, 0, &None), "{mode} {rule}");
                assert!(!is_hopeless(status) && !is_refused(&policy.rules[0], status), "{mode} {rule}");
            }
        }
    }

    #[test]
    fn what_a_rule_by_content_amounts_to() {
        let check = |mode, rule: &str, expect: RuleState, enforced: &[&str], unseen: &[&str]| {
            let text = format!("version: 1\nname: n\nrules: [{{id: x, kind: exec, {rule}, reason: r}}]\n");
            let policy = treeline_policy::parse("p", &text).expect("a good policy");
            let status = &coverage_of(&policy, mode, &[])[0];
            assert_eq!(
                (status.state, status.enforced.as_slice()),
                (expect, &*owned(enforced)),
                "{mode} {rule}"
            );
            assert_eq!(status.unseen, owned(unseen), "{mode} {rule}");
            assert_eq!(is_hopeless(status), status.observed == owned(&["exec"]), "{mode} {rule}");
        };
        fn owned(words: &[&str]) -> Vec<String> {
            words.iter().map(|word| (*word).to_owned()).collect()
        }
        let hash = format!("sha256: [{}]", "a".repeat(64));
        let both = format!("paths: [\"**/x\"], {hash}");
        let (lsm, fallback) = (AttachMode::Lsm, AttachMode::Fallback);
        check(lsm, "paths: [/x]", RuleState::Enforced, &["exec", MAPPINGS], &[]);
        check(lsm, &hash, RuleState::Partly, &["exec", MAPPINGS], &[FIRST_MAPPINGS]);
        check(fallback, &hash, RuleState::Partly, &["exec"], &[MEMORY, PRIVATE, MAPPINGS]);
        check(fallback, &both, RuleState::Partly, &[BY_CONTENT], &[MEMORY, PRIVATE, MAPPINGS]);
    }

    #[test]
    fn a_rule_in_fallback_says_which_of_its_patterns_refuse() {
        let check = |rule: &str, expect: RuleState, enforced: &[&str]| {
            let text = format!("version: 1\nname: n\nrules: [{{id: x, {rule}, reason: r}}]\n");
            let policy = treeline_policy::parse("p", &text).expect("a good policy");
            let status = &coverage_of(&policy, AttachMode::Fallback, &[])[0];
            assert_eq!(status.state, expect, "{rule}");
            assert_eq!(status.enforced, enforced, "{rule}");
            // In `enforce` it is an error that some of it cannot be refused at all.
            assert_eq!(is_hopeless(status), expect != RuleState::Enforced, "{rule}");
        };
        let of_others = format!("read{BY_THE_OTHERS}");
        check("kind: file, operations: [read], paths: [/x/*]", RuleState::Enforced, &["read"]);
        check("kind: file, operations: [read], paths: [\"**/x\", /x/*]", RuleState::Partly, &[&of_others]);
        check("kind: file, operations: [read], paths: [\"**/x\"]", RuleState::Observed, &[]);
        let of_others = format!("exec{BY_THE_OTHERS}");
        check("kind: exec, paths: [\"**/x\", /x/*]", RuleState::Partly, &[&of_others]);
    }

    #[test]
    fn the_sensor_s_own_rule_says_what_protects_it() {
        let text =
            "version: 1\nname: n\nmode: monitor\nrules: [{id: x, kind: file, paths: [/x], reason: r}]\n";
        let mut policy = treeline_policy::parse("p", text).expect("a good policy");
        policy.rules[0].id = SELF_RULE.to_owned();
        policy.rules[0].mode = Mode::Enforce;
        let check = |mode, failed: &[&str], expect: RuleState, said: &str| {
            let failed = failed.iter().map(|hook| HookStatus {
                hook: (*hook).to_owned(),
                state: HookState::Failed { error: "EPERM".to_owned() },
            });
            let status = &coverage_of(&policy, mode, &failed.collect::<Vec<_>>())[0];
            assert_eq!(status.state, expect, "{mode}");
            let reason = status.reason.as_deref().unwrap_or_default();
            assert!(reason.contains(said) && (said.is_empty() == reason.is_empty()), "{mode}: {reason}");
        };
        check(AttachMode::Lsm, &[], RuleState::Enforced, "");
        check(AttachMode::Lsm, &["lsm/file_open"], RuleState::Enforced, "");
        check(AttachMode::Lsm, &["lsm/bpf_map"], RuleState::Partly, "not every hook");
        check(AttachMode::FmodRet, &["fmod_ret/security_bpf"], RuleState::Partly, "not every hook");
        check(AttachMode::Lsm, &["pins"], RuleState::Enforced, "nothing is pinned");
        check(AttachMode::Fallback, &[], RuleState::Partly, "once the sensor's process has ended");
    }
}
