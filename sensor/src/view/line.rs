//! An entry as one line for people.

use std::{fmt::Write as _, io};

use treeline_policy::Period;

use treeline_event::{
    Action, Approval, Asker, Destination, Entry, EntryBody, FileRef, HookState, Image, Notice, Outcome,
    PolicyPart, Process, RuleHit, RuleState, RuleStatus, Verdict,
};

use super::{
    text::{command_line, safe, shortened},
    time::utc,
};

/// Characters of a command line that are shown: the whole of it is in the entry.
const COMMAND_LEN_MAX: usize = 120;

/// Hexadecimal digits of a hash that are shown where it only has to be recognised.
const HASH_LEN: usize = 12;

const RED: &str = "\x1b[1;31m";
const YELLOW: &str = "\x1b[33m";
const PLAIN: &str = "\x1b[0m";

/// Index, time (UTC), verdict, kind, pid, program and object; texts are escaped, so it is safe for terminals. Colour
/// repeats what the verdict says.
#[must_use]
pub fn line(entry: &Entry, colour: bool) -> String {
    let (pid, verdict, what) = match &entry.body {
        EntryBody::Notice(notice) => (String::new(), "-", statement(notice)),
        EntryBody::Act { process, action, verdict, rule, .. } => {
            let rule = rule.as_deref().map(words);
            let name = name(process);
            let what = format!("{name}  {}{}", object(process, action), rule.unwrap_or_default());
            (process.key.pid.to_string(), verdict_name(*verdict), what)
        }
    };
    let (on, off) = match verdict {
        _ if !colour => ("", ""),
        "deny" => (RED, PLAIN),
        "audit" => (YELLOW, PLAIN),
        _ => ("", ""),
    };
    let time = utc(entry.time.wall_ms);
    let line = format!(
        "{:>8}  {time}  {on}{verdict:<5}{off}  {:<15}  {pid:>7}  {what}",
        entry.index,
        entry.body.kind()
    );
    line.trim_end().to_owned()
}

/// A rule, why it is there, what to do instead, and where there is more about it.
fn words(hit: &RuleHit) -> String {
    let more = [Some(&hit.reason), hit.remedy.as_ref(), hit.link.as_ref()];
    let more: Vec<String> =
        more.into_iter().flatten().map(|text| safe(text.trim_end()).to_string()).collect();
    format!("  [{}: {}]", safe(&hit.rule), more.join(" "))
}

/// File name of what a process runs.
fn name(process: &Process) -> String {
    let path = &process.program.image.path;
    // Of a process that the sensor never saw, or whose executable the kernel does not show.
    if path.is_empty() { "?".to_owned() } else { path.file_name().to_string() }
}

/// As it is stored and typed.
#[must_use]
pub fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allow",
        Verdict::Audit => "audit",
        Verdict::Deny => "deny",
    }
}

/// What an action was done to, and how it ended when it did not succeed.
pub(super) fn object(process: &Process, action: &Action) -> String {
    match action {
        Action::Fork { creator } => format!("by {creator}"),
        Action::Exec => shortened(&command_line(&process.program.argv), COMMAND_LEN_MAX),
        Action::Exit { code: Some(code), .. } => format!("status {code}"),
        Action::Exit { signal: Some(signal), .. } => format!("signal {signal}"),
        Action::Exit { .. } => String::new(),
        Action::Open { file, flags, count, outcome } => {
            let count = if *count > 1 { format!(" x{count}") } else { String::new() };
            format!("{} {}{count}{}", file.path, flags.names(), failure(*outcome))
        }
        Action::Receive { file, flags, outcome } => {
            format!("{} {}{}", file.path, flags.names(), failure(*outcome))
        }
        Action::Mount { at, source, outcome } => format!("{source} at {}{}", at.path, failure(*outcome)),
        Action::ExecDenied { file } => format!("{}{}", file.path, doubt(file)),
        Action::Create { file, target: Some(target), outcome } => {
            format!("{} -> {target}{}", file.path, failure(*outcome))
        }
        Action::Map { file, outcome } => format!("{}{}{}", file.path, doubt(file), failure(*outcome)),
        Action::Create { file, outcome, .. }
        | Action::Delete { file, outcome }
        | Action::Modify { file, outcome } => format!("{}{}", file.path, failure(*outcome)),
        Action::Rename { from, to, outcome } | Action::Link { from, to, outcome } => {
            format!("{} -> {}{}", from.path, to.path, failure(*outcome))
        }
        Action::Tamper { what, target, number } => {
            let target = target.map_or_else(String::new, |target| format!(" of sensor {target}"));
            let number = if *number == 0 { String::new() } else { format!(" {number}") };
            format!("{}{number}{target}", what.name())
        }
        Action::Trace { target, mode, outcome } => format!("{target} mode {mode:#x}{}", failure(*outcome)),
        Action::Adopt { link, by, client, file } => {
            let client = client.as_ref().map(|client| format!(" from {}", destination(client)));
            let file = file.as_ref().map(|file| format!(" {}", file.path));
            format!("by {}{}{} of {by}", link.name(), client.unwrap_or_default(), file.unwrap_or_default())
        }
        Action::Connect { to, outcome } => format!("{}{}", destination(to), failure(*outcome)),
    }
}

fn destination(to: &Destination) -> String {
    match to {
        Destination::V4(ip, port) => format!("{ip}:{port}"),
        Destination::V6(ip, port) => format!("[{ip}]:{port}"),
        Destination::Unix(path) => format!("unix:{path}"),
        Destination::Abstract(name) => format!("unix:@{name}"),
        Destination::Socket(kind) => format!("socket:{kind}"),
    }
}

/// Why a rule by SHA-256 refused a file that may be none of those that it names.
fn doubt(file: &FileRef) -> &'static str {
    if file.content_unknown { "  (its content was not known; try again)" } else { "" }
}

fn failure(outcome: Outcome) -> String {
    match outcome {
        Outcome::Ok | Outcome::Unknown => String::new(),
        Outcome::Errno(errno) => {
            let words = io::Error::from_raw_os_error(errno).to_string();
            format!("  ({})", words.split(" (os error").next().unwrap_or_default())
        }
    }
}

/// What a statement of the sensor says.
fn statement(notice: &Notice) -> String {
    match notice {
        Notice::Started { version, mode, kernel, hooks, recovery } => {
            let attached = hooks.iter().filter(|hook| hook.state == HookState::Attached).count();
            let mut text = format!(
                "treeline {}, mode {mode}, kernel {}, {attached} of {} hooks attached",
                safe(version),
                safe(kernel),
                hooks.len()
            );
            for hook in hooks.iter().filter(|hook| matches!(hook.state, HookState::Failed { .. })) {
                let _ = write!(text, ", FAILED: {}", safe(&hook.hook));
            }
            if let Some(words) = recovery {
                let _ = write!(text, "; the log was mended: {}", safe(words));
            }
            text
        }
        Notice::Stopped { reason } => safe(reason),
        Notice::PolicyApplied { generation, name, sha256, revision, signed_by, parts, rules } => {
            let mut text = safe(name);
            if let Some(revision) = revision {
                let _ = write!(text, ", revision {revision}");
            }
            let _ = write!(
                text,
                ", generation {generation}, {}, sha256 {:.HASH_LEN$}",
                coverage(rules),
                safe(sha256)
            );
            if let Some(key) = signed_by {
                let _ = write!(text, ", signed by {}", safe(key));
            }
            let mut words = ", of ";
            for PolicyPart { level, name, .. } in parts {
                let _ = write!(text, "{words}{} `{}`", level.name(), safe(name));
                words = ", ";
            }
            text
        }
        Notice::PolicyRejected { sha256, error } => format!(
            "sha256 {:.HASH_LEN$}: {}; the policy before it stays in force",
            safe(sha256),
            shortened(error, COMMAND_LEN_MAX)
        ),
        Notice::Lost { kind, site, count, first_ns, last_ns } => format!(
            "{count} {} at {} within {} ms",
            safe(kind),
            safe(site),
            last_ns.saturating_sub(*first_ns) / 1_000_000
        ),
        Notice::SessionStarted { session, root, uid, origin, command, attributes: _ } => format!(
            "{session}, {} by uid {uid}, root {root}: {}",
            safe(origin),
            shortened(&command_line(command), COMMAND_LEN_MAX)
        ),
        Notice::SessionEnded { session } => session.to_string(),
        Notice::ImageHashed { image } => hashed(image),
        Notice::Malformed { what, error } => format!("{}: {}", safe(what), shortened(error, COMMAND_LEN_MAX)),
        Notice::Approved { .. } | Notice::ApprovalEnded { .. } | Notice::ApprovalRefused { .. } => {
            of_approvals(notice)
        }
    }
}

/// What a statement about approvals says.
fn of_approvals(notice: &Notice) -> String {
    match notice {
        Notice::Approved { approval, by } => {
            let Approval { denial, session, executable, rules, operations, object, for_s, .. } = approval;
            format!(
                "denial {denial} for {}, by {}: {} may {} {} in session {session} against {}",
                period(*for_s),
                asker(by),
                executable,
                safe(&operations.join(" and ")),
                safe(object),
                safe(&rules.join(", "))
            )
        }
        Notice::ApprovalEnded { denial, reason, .. } => format!("denial {denial}: {}", safe(reason)),
        Notice::ApprovalRefused { denial, session, by, reason } => {
            let of = session.map_or_else(String::new, |session| format!(" of session {session}"));
            format!("denial {denial}, to {}{of}: {}", asker(by), safe(reason))
        }
        other => other.kind().to_owned(),
    }
}

/// Who has asked, as text.
fn asker(by: &Asker) -> String {
    let Asker { uid, user, process } = by;
    let name = user.as_ref().map(|user| format!(" ({})", safe(user)));
    format!("uid {uid}{}, process {process}", name.unwrap_or_default())
}

/// A time as people write it.
fn period(seconds: u32) -> String {
    Period::of_seconds(seconds).map_or_else(|| format!("{seconds}s"), |period| period.to_string())
}

fn hashed(image: &Image) -> String {
    let build_id = image.build_id.as_ref().map(|id| format!("  build-id {}", safe(id)));
    format!("{}  {}{}", image.path, image.digest, build_id.unwrap_or_default())
}

/// How many rules amount to what on this machine.
fn coverage(rules: &[RuleStatus]) -> String {
    let words = [
        (RuleState::Enforced, "enforced"),
        (RuleState::Partly, "partly enforced"),
        (RuleState::Observed, "observed only"),
        (RuleState::Impossible, "impossible here"),
        (RuleState::Allows, "to allow"),
    ];
    let counts = words.map(|(state, word)| (rules.iter().filter(|rule| rule.state == state).count(), word));
    let mut text = if rules.len() == 1 { "1 rule".to_owned() } else { format!("{} rules", rules.len()) };
    let mut separator = ": ";
    for (count, word) in counts.into_iter().filter(|(count, _)| *count > 0) {
        let _ = write!(text, "{separator}{count} {word}");
        separator = ", ";
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use treeline_event::{AttachMode, Digest, HookStatus, Level, OpenFlags, ProcessKey, SessionId};

    use super::*;
    use crate::view::fixture::{act, hit, notice};

    #[track_caller]
    fn check(said: Notice, expect: &str) {
        let kind = said.kind();
        let text = line(&notice(said), true);
        assert!(text.contains(kind) && text.ends_with(expect), "{text}");
        assert!(text.contains("1970-01-01T00:00:00.000Z") && !text.contains('\u{1b}'), "{text}");
    }

    fn by() -> Asker {
        Asker { uid: 7, user: Some("ada".into()), process: ProcessKey { pid: 9, start_ticks: 1 } }
    }

    fn approval() -> Approval {
        Approval {
            denial: 5,
            session: SessionId(1),
            executable: "/bin/cat".into(),
            rules: vec!["keys".into()],
            operations: vec!["read".into(), "write".into()],
            object: "/k".into(),
            for_s: 900,
            until_ns: 1,
        }
    }

    #[test]
    fn statements_about_the_sensor_say_something() {
        let part = |(name, level): (&str, Level)| PolicyPart {
            name: name.into(),
            level,
            sha256: "ab".repeat(32),
            revision: None,
            signed_by: None,
        };
        let rule = |state| RuleStatus {
            rule: "r".into(),
            state,
            enforced: vec![],
            observed: vec![],
            unseen: vec![],
            reason: None,
            policy: None,
        };
        let hook = |state| HookStatus { hook: "lsm/file_open".into(), state };
        let cases = [
            (
                Notice::Started {
                    version: "1.2".into(),
                    mode: AttachMode::Fallback,
                    kernel: "6.18".into(),
                    hooks: vec![hook(HookState::Attached), hook(HookState::Failed { error: "no".into() })],
                    recovery: Some("2 files".into()),
                },
                "treeline 1.2, mode fallback, kernel 6.18, 1 of 2 hooks attached, FAILED: lsm/file_open; the log was \
                 mended: 2 files",
            ),
            (Notice::Stopped { reason: "SIG\u{1b}TERM".into() }, "SIG\\u{1b}TERM"),
            (
                Notice::PolicyApplied {
                    generation: 3,
                    name: "base".into(),
                    sha256: "ab".repeat(32),
                    revision: None,
                    signed_by: None,
                    parts: vec![],
                    rules: vec![rule(RuleState::Enforced), rule(RuleState::Impossible)],
                },
                "base, generation 3, 2 rules: 1 enforced, 1 impossible here, sha256 abababababab",
            ),
            (
                Notice::PolicyApplied {
                    generation: 3,
                    name: "base".into(),
                    sha256: "ab".repeat(32),
                    revision: Some(42),
                    signed_by: Some("acme+1234\u{1b}".into()),
                    parts: [("base", Level::Organisation), ("web\u{1b}", Level::Team)].map(part).into(),
                    rules: vec![],
                },
                "base, revision 42, generation 3, 0 rules, sha256 abababababab, signed by acme+1234\\u{1b}, of \
                 organisation `base`, team `web\\u{1b}`",
            ),
            (
                Notice::PolicyRejected { sha256: "cd".repeat(32), error: "1:2: no\nmore".into() },
                "sha256 cdcdcdcdcdcd: 1:2: no\\nmore; the policy before it stays in force",
            ),
        ];
        cases.into_iter().for_each(|(said, expect)| check(said, expect));
    }

    #[test]
    fn statements_about_what_was_seen_say_something() {
        let image = Image {
            path: "/usr/bin/cat".into(),
            digest: Digest::Sha256([0xab; 32]),
            build_id: Some("c0ffee".into()),
            ..Image::default()
        };
        let cases = [
            (
                Notice::Lost {
                    kind: "open".into(),
                    site: "ring".into(),
                    count: 9,
                    first_ns: 1_000_000,
                    last_ns: 5_000_000,
                },
                "9 open at ring within 4 ms",
            ),
            (
                Notice::SessionStarted {
                    session: SessionId(1),
                    root: ProcessKey { pid: 5, start_ticks: 2 },
                    uid: 1000,
                    origin: "run".into(),
                    command: vec!["ls".into(), "-l".into()],
                    attributes: Default::default(),
                },
                "0000000000000001, run by uid 1000, root 5:2: ls -l",
            ),
            (Notice::SessionEnded { session: SessionId(1) }, "0000000000000001"),
            (
                Notice::ApprovalEnded { denial: 5, session: SessionId(1), reason: "its time\u{1b}".into() },
                "denial 5: its time\\u{1b}",
            ),
            (
                Notice::ApprovalRefused {
                    denial: 5,
                    session: Some(SessionId(1)),
                    by: by(),
                    reason: "no".into(),
                },
                "denial 5, to uid 7 (ada), process 9:1 of session 0000000000000001: no",
            ),
            (
                Notice::Approved { approval: approval(), by: by() },
                "denial 5 for 15m, by uid 7 (ada), process 9:1: /bin/cat may read and write /k in session 0000000000000001 against keys",
            ),
            (
                Notice::ImageHashed { image },
                "/usr/bin/cat  abababababababababababababababababababababababababababababababab  build-id c0ffee",
            ),
            (Notice::Malformed { what: "ring record".into(), error: "short".into() }, "ring record: short"),
        ];
        cases.into_iter().for_each(|(said, expect)| check(said, expect));
    }

    #[test]
    fn every_action_names_its_object() {
        let file = |path: &str| FileRef { path: path.into(), ..FileRef::default() };
        let ok = Outcome::Ok;
        let cases = [
            (Action::Exec, "cat  cat x"),
            (Action::Exit { code: Some(3), signal: None }, "status 3"),
            (
                Action::Open {
                    file: file("/a\u{1b}"),
                    flags: OpenFlags(1),
                    outcome: Outcome::Errno(2),
                    count: 4,
                },
                "/a\\x1b O_WRONLY x4  (No such file or directory)",
            ),
            (Action::Open { file: file("/a"), flags: OpenFlags(0), outcome: ok, count: 1 }, "/a O_RDONLY"),
            (Action::ExecDenied { file: file("/p") }, "cat  /p"),
            (
                Action::ExecDenied { file: FileRef { content_unknown: true, ..file("/p") } },
                "cat  /p  (its content was not known; try again)",
            ),
            (Action::Create { file: file("/l"), target: Some("/t".into()), outcome: ok }, "/l -> /t"),
            (Action::Rename { from: file("/a"), to: file("/b"), outcome: ok }, "/a -> /b"),
            (
                Action::Connect {
                    to: Destination::V4([127, 0, 0, 1].into(), 80),
                    outcome: Outcome::Errno(111),
                },
                "127.0.0.1:80  (Connection refused)",
            ),
            (Action::Connect { to: Destination::Abstract("x".into()), outcome: ok }, "unix:@x"),
        ];
        for (action, expect) in cases {
            let text = line(&act(SessionId(1), 5, None, action, Verdict::Allow), true);
            assert!(text.ends_with(expect), "{text}");
            assert!(!text.contains('\u{1b}'), "{text}");
        }
    }

    #[test]
    fn colour_only_repeats_the_verdict() {
        let mut entry = act(SessionId(1), 5, None, Action::Exec, Verdict::Deny);
        if let EntryBody::Act { rule, .. } = &mut entry.body {
            *rule = Some(hit("keys"));
        }
        let (plain, coloured) = (line(&entry, false), line(&entry, true));
        assert!(plain.contains("deny") && plain.ends_with("[keys: Because.]"), "{plain}");
        if let EntryBody::Act { rule, .. } = &mut entry.body {
            let remedy = Some("Use\u{1b} yours.\n".to_owned());
            *rule = Some(Arc::new(RuleHit {
                remedy,
                link: Some("https://x".to_owned()),
                ..RuleHit::clone(&hit("keys"))
            }));
        }
        assert!(
            line(&entry, false).ends_with("[keys: Because. Use\\u{1b} yours. https://x]"),
            "{}",
            line(&entry, false)
        );
        assert_eq!(coloured.replace(RED, "").replace(PLAIN, ""), plain);
        assert!(coloured.contains("\u{1b}[1;31mdeny"), "{coloured:?}");
    }
}
