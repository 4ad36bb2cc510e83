//! Why a policy decides as it does: every rule, and what came of it.

mod call;

use std::{fmt, net::IpAddr};

use ipnet::IpNet;
use serde::Serialize;
use treeline_event::{Level, Mode, Verdict};

use crate::{
    eval::{
        asked_for, destinations, eval, glob_matches, holds, lifted_by, meant, rule_matches, surely_holds,
    },
    eval_allow::Allowed,
    glob::Glob,
    host::Host,
    policy::{About, Adoption, Executable, Kind, Policy, PortRange, Rule, SubjectItem},
    request::{Decision, Holds, Object, Request},
    source::Spanned,
};

/// A decision with its reasons.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The policy.
    pub policy: String,
    /// What is decided.
    pub verdict: Verdict,
    /// Id of the rule that decides.
    pub rule: Option<String>,
    /// Its reason.
    pub reason: Option<String>,
    /// What else it says of itself.
    #[serde(flatten)]
    pub about: Option<About>,
    /// Every rule, those with a higher priority first and else by id.
    pub considered: Vec<Considered>,
}

/// One rule and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Considered {
    /// Its id.
    pub rule: String,
    /// Its mode; none for a rule that allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// By which link it adopts whoever takes up what matches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adopts: Option<Adoption>,
    /// Whether it allows.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub allows: bool,
    /// Where it is written, of several policies that hold together.
    #[serde(flatten)]
    pub of: Option<Of>,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// One of several policies that hold together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Of {
    /// Its name.
    pub policy: String,
    /// Whose it is.
    pub level: Level,
}

impl Of {
    /// The one that a rule is in, if there are several.
    #[must_use]
    pub fn several(policy: &Policy, rule: &Rule) -> Option<Self> {
        policy.is_composed().then(|| Self { policy: rule.policy.to_string(), level: rule.level })
    }
}

/// What came of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It holds.
    Matches {
        /// The part of the rule that matches.
        by: String,
        /// The item of `only` that holds, for a rule that is not for everybody.
        #[serde(skip_serializing_if = "Option::is_none")]
        only: Option<String>,
        /// The rule that would allow it, were it in a policy of a higher level.
        #[serde(skip_serializing_if = "Option::is_none")]
        kept_from: Option<String>,
    },
    /// It would hold, but an exception lifts it for this subject.
    Lifted {
        /// The part of the rule that matches.
        by: String,
        /// The exception.
        exception: String,
        /// Its reason.
        exception_reason: Option<String>,
    },
    /// It would hold, but a rule with a higher priority allows.
    Allowed {
        /// The part of the rule that matches.
        by: String,
        /// The rule that allows.
        allowed_by: String,
    },
    /// It does not hold.
    Differs {
        /// Why not.
        why: String,
    },
}

/// Decides a request and says how each rule came into it.
#[must_use]
pub fn explain(policy: &Policy, host: &Host, request: &Request) -> Explanation {
    let Decision { verdict, rule } = eval(policy, host, request);
    let allowed = Allowed::of(&policy.rules, host, &request.subject, &request.object);
    let rule = rule.map(|index| &policy.rules[index]);
    Explanation {
        policy: rule.map_or_else(|| policy.name.clone(), |rule| rule.policy.to_string()),
        verdict,
        rule: rule.map(|rule| rule.id.clone()),
        reason: rule.map(|rule| rule.reason.clone()),
        about: rule.map(|rule| rule.about.clone()),
        considered: policy.rules.iter().map(|rule| consider(policy, rule, host, request, &allowed)).collect(),
    }
}

/// What came of a rule. `allowed` is what is allowed of the request.
pub(crate) fn consider(
    policy: &Policy,
    rule: &Rule,
    host: &Host,
    request: &Request,
    allowed: &Allowed<'_, '_>,
) -> Considered {
    let Request { subject, object } = request;
    let matched = match_by(rule, host, object).and_then(|by| not_spared(rule, host, object, by));
    let outcome = match matched {
        Err(why) => Outcome::Differs { why },
        Ok(by) => match (asked_for(rule, host, subject), lifted_by(rule, host, subject)) {
            (Err(_), _) => Outcome::Differs { why: for_others(rule, &by) },
            (Ok(_), Some(exception)) => Outcome::Lifted {
                by,
                exception: describe(exception),
                exception_reason: exception.reason.clone(),
            },
            (Ok(_), None) if rule.allows && !surely_holds(rule, host, subject, object) => Outcome::Differs {
                why: format!("`{by}` matches, but it is not certain that it is for who acts"),
            },
            (Ok(item), None) if rule.allows => allows(policy, rule, (by, item.map(asked_by)), host, request),
            (Ok(item), None) => match allowed.against(rule) {
                Some(allows) => Outcome::Allowed { by, allowed_by: allows.id.clone() },
                None => {
                    let kept_from = allowed.kept_from(rule).map(|allows| allows.id.clone());
                    Outcome::Matches { by, only: item.map(asked_by), kept_from }
                }
            },
        },
    };
    let Rule { id, mode, adopts, allows, .. } = rule;
    let of = Of::several(policy, rule);
    let mode = (!allows).then_some(*mode);
    Considered { rule: id.clone(), mode, adopts: *adopts, allows: *allows, of, outcome }
}

/// What comes of a rule that allows and holds: whether there is anything that it takes away.
fn allows(
    policy: &Policy,
    rule: &Rule,
    (by, only): (String, Option<String>),
    host: &Host,
    Request { subject, object }: &Request,
) -> Outcome {
    let alone = Allowed::of([rule], host, subject, object);
    let is_lifted = |other: &&Rule| {
        !other.allows
            && rule_matches(other, host, object)
            && holds(other, host, subject)
            && alone.against(other).is_some()
    };
    match policy.rules.iter().any(|other| is_lifted(&other)) {
        true => Outcome::Matches { by, only, kept_from: None },
        false => Outcome::Differs {
            why: format!(
                "`{by}` matches, but no rule with a lower priority holds that it could lift, and may"
            ),
        },
    }
}

/// The part of a rule that matches an object, or why none does.
fn match_by(rule: &Rule, host: &Host, object: &Object) -> Result<String, String> {
    match (&rule.kind, object) {
        (Kind::File { paths, operations }, Object::File { path, operation }) => {
            if !operations.contains(*operation) {
                return Err(format!(
                    "names {}, not {}",
                    rule.kind.operation_names().join(", "),
                    operation.name()
                ));
            }
            by_path(paths, host, path)
        }
        (Kind::Exec { paths, sha256 }, Object::Exec { path, sha256: content }) => {
            if let Some(digest) = sha256.iter().find(|digest| Some(digest.value) == *content) {
                return Ok(hex(&digest.value));
            }
            match content {
                None if !sha256.is_empty() => by_path(paths, host, path)
                    .map_err(|why| format!("{why}, and the content is not known (give its SHA-256)")),
                _ => by_path(paths, host, path),
            }
        }
        (Kind::Connect { .. }, Object::Connect { address, port }) => {
            let mut why = "no address block matches".to_owned();
            for address in destinations(*address) {
                match by_address(&rule.kind, address, *port) {
                    Ok(by) => return Ok(by),
                    Err(more) => why = more,
                }
            }
            Err(why)
        }
        (Kind::Connect { unix, .. }, Object::ConnectUnix { path }) => by_path(unix, host, path),
        (Kind::Connect { abstracts, .. }, Object::ConnectAbstract { name }) => {
            let matching = abstracts.iter().find(|glob| glob.value.matches(name));
            matching.map(|glob| glob.value.to_string()).ok_or_else(|| "no abstract name matches".to_owned())
        }
        (Kind::Connect { to, .. }, Object::RawSocket) if to.is_empty() => Err("names no address".to_owned()),
        (Kind::Connect { .. }, Object::RawSocket) if rule.allows => {
            Err("where a raw socket leads cannot be looked at, and that allows nothing".to_owned())
        }
        (Kind::Connect { .. }, Object::RawSocket) => {
            Ok("to: where a raw socket leads cannot be looked at".to_owned())
        }
        (Kind::Trace, Object::Trace) => Ok("ptrace".to_owned()),
        (Kind::Tool { .. }, Object::Tool(_))
        | (Kind::Mcp { .. }, Object::Mcp(_))
        | (Kind::Posture { .. }, Object::Posture(_)) => call::match_by(rule, host, object),
        (kind, _) => Err(format!("is a rule of kind `{}`", kind.name())),
    }
}

/// That a part of a rule matches, unless the rule spares the object.
fn not_spared(rule: &Rule, host: &Host, object: &Object, by: String) -> Result<String, String> {
    let spared = match object {
        _ if rule_matches(rule, host, object) => None,
        Object::ConnectAbstract { name } => {
            let spared = rule.spares.abstracts.iter().find(|glob| glob.value.matches(name));
            spared.map(|glob| ("except_unix", glob.value.to_string()))
        }
        Object::ConnectUnix { path } => {
            by_path(&rule.spares.paths, host, path).ok().map(|by| ("except_unix", by))
        }
        Object::File { path, .. } | Object::Exec { path, .. } => {
            by_path(&rule.spares.paths, host, path).ok().map(|by| ("except_paths", by))
        }
        _ => None,
    };
    match spared {
        Some((key, spared)) => Err(format!("`{by}` matches, but `{key}` has `{spared}`")),
        None => Ok(by),
    }
}

/// The part of a connect rule that matches what the kernel connects to.
fn by_address(kind: &Kind, address: IpAddr, port: u16) -> Result<String, String> {
    let Kind::Connect { to, ports, except_to, .. } = kind else { return Err("names no address".into()) };
    let nets = |to: &[Spanned<IpNet>]| {
        to.iter().find(|net| net.value.contains(&address)).map(|net| net.value.to_string())
    };
    let Some(net) = nets(to) else { return Err("no address block matches".into()) };
    let Some(range) = ports.iter().find(|range| range.contains(port)) else {
        return Err(format!("`{net}` matches, but not port {port}"));
    };
    if let Some(except) = except_to.iter().find(|except| meant(&except.to, &except.ports, address, port)) {
        let excepted = nets(&except.to).unwrap_or_default();
        return Err(format!("`{net}` matches, but `except_to` has `{excepted}`"));
    }
    match range {
        &PortRange::ALL => Ok(net),
        PortRange { first, last } => Ok(format!("{net} ports {first}-{last}")),
    }
}

fn by_path(globs: &[Spanned<Glob>], host: &Host, path: &[u8]) -> Result<String, String> {
    let matching = globs.iter().find(|glob| glob_matches(&glob.value, host, path));
    matching.map(|glob| glob.value.to_string()).ok_or_else(|| "no path matches".to_owned())
}

/// Why a rule that matches is not asked.
fn for_others(rule: &Rule, by: &str) -> String {
    let items: Vec<String> = rule.only.iter().map(|item| format!("`{}`", describe(item))).collect();
    format!("`{by}` matches, but the rule is only for {}", items.join(", "))
}

/// The item of `only` by which a rule is asked.
fn asked_by((item, holds): (&SubjectItem, Holds)) -> String {
    let unknown = if holds == Holds::Unknown { ", which cannot be told and counts" } else { "" };
    format!("{}{unknown}", describe(item))
}

/// Whom an item of `except` or `only` is for.
pub(crate) fn describe(item: &SubjectItem) -> String {
    let own = Some(executable(&item.own)).filter(|own| !own.is_empty());
    let lineage = item.descendant_of.as_ref();
    let lineage = lineage.map(|ancestor| format!("descendant of {}", executable(ancestor)));
    let session = item.session.as_ref().map(ToString::to_string);
    own.into_iter().chain(lineage).chain(session).collect::<Vec<_>>().join(", ")
}

fn executable(wanted: &Executable) -> String {
    let parts = [wanted.path.as_ref().map(Glob::to_string), wanted.sha256.as_ref().map(hex)];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" with SHA-256 ")
}

/// The word for a verdict.
pub(crate) fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allow",
        Verdict::Audit => "audit",
        Verdict::Deny => "deny",
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(digest: &[u8; 32]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Explanation {
    /// The rule that allows what another one would refuse or record, of the highest priority, where none decides.
    fn allowing(&self) -> Option<&str> {
        let mut allowed = self.considered.iter().filter_map(|considered| match &considered.outcome {
            Outcome::Allowed { allowed_by, .. } => Some(allowed_by.as_str()),
            _ => None,
        });
        allowed.next().filter(|_| self.rule.is_none())
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = word(self.verdict);
        match &self.rule {
            Some(rule) => writeln!(f, "{verdict} by `{rule}` of policy `{}`", self.policy)?,
            None => match self.allowing() {
                Some(allows) => writeln!(f, "{verdict} by `{allows}` of policy `{}`", self.policy)?,
                None => writeln!(f, "{verdict}: no rule of policy `{}` holds", self.policy)?,
            },
        }
        if let Some(reason) = &self.reason {
            writeln!(f, "reason: {reason}")?;
        }
        if let Some(About { remedy, link, controls }) = &self.about {
            for (what, text) in [("remedy", remedy), ("link", link)] {
                if let Some(text) = text {
                    writeln!(f, "{what}: {text}")?;
                }
            }
            if !controls.is_empty() {
                writeln!(f, "controls: {}", controls.join(", "))?;
            }
        }
        let width = self.considered.iter().map(|considered| considered.rule.len()).max().unwrap_or(0);
        for Considered { rule, mode, adopts, allows, of, outcome } in &self.considered {
            let mode = match (mode, adopts) {
                _ if *allows => "allow  ",
                (_, Some(_)) => "adopt  ",
                (Some(Mode::Monitor) | None, None) => "monitor",
                (Some(Mode::Enforce), None) => "enforce",
            };
            let differs = if matches!(outcome, Outcome::Differs { .. }) { "- " } else { "" };
            let level = of.as_ref().map_or_else(String::new, |of| format!("{:12}  ", of.level.name()));
            writeln!(f, "  {rule:width$}  {level}{mode}  {differs}{outcome}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Matches { by, only, kept_from } => {
                write!(f, "matches `{by}`")?;
                only.as_ref().map_or(Ok(()), |only| write!(f, ", for `{only}`"))?;
                kept_from.as_ref().map_or(Ok(()), |allows| write!(f, "; `{allows}` may not loosen it"))
            }
            Self::Lifted { by, exception, exception_reason } => {
                write!(f, "matches `{by}`, lifted for `{exception}`")?;
                exception_reason.as_ref().map_or(Ok(()), |reason| write!(f, " ({reason})"))
            }
            Self::Allowed { by, allowed_by } => write!(f, "matches `{by}`, allowed by `{allowed_by}`"),
            Self::Differs { why } => f.write_str(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Home, Subject, parse, policy::FileOperation};

    const POLICY: &str = "\
version: 1
name: t
rules:
  - {id: keys, kind: file, paths: [~/.ssh/**], reason: keys, except: [{executable: /usr/bin/ssh}]}
  - {id: seen, kind: file, mode: monitor, paths: [~/**], operations: [read], reason: watched}
  - {id: web, kind: connect, to: [10.0.0.0/8], ports: [443], reason: internal}
";
    const EGRESS: &str = "\
version: 1
name: t
rules:
  - {id: egress, kind: connect, to: [0.0.0.0/0, \"::/0\"], except_to: [{to: [127.0.0.0/8], ports: [80]}], reason: r}
  - {id: names, kind: connect, mode: monitor, unix: [\"@a*\"], reason: r}
";

    #[test]
    fn what_the_rule_that_decides_says_of_itself() {
        let about = ", remedy: ask, link: \"https://example.com/a\", controls: [A-1, A-2]}";
        let text = POLICY.replace(", reason: watched}", &format!(", reason: watched{about}"));
        let policy = parse("t", &text).expect("valid policy");
        let host = Host { homes: vec![Home { uid: 1, path: b"/h".to_vec() }] };
        let said = |path: &[u8]| {
            let object = Object::File { path: path.to_vec(), operation: FileOperation::Read };
            explain(&policy, &host, &Request { subject: Subject::default(), object }).to_string()
        };
        let lines = "reason: watched\nremedy: ask\nlink: https://example.com/a\ncontrols: A-1, A-2\n";
        assert!(said(b"/h/x").contains(lines));
        assert!(!said(b"/h/.ssh/x").contains("remedy"));
    }

    #[test]
    fn connects() {
        let policy = parse("t", EGRESS).expect("valid policy");
        let check = |object: Object, expect: &[&str]| {
            let request = Request { subject: Subject::default(), object };
            let text = explain(&policy, &Host::default(), &request).to_string();
            for words in expect {
                assert!(text.contains(words), "{words}: {text}");
            }
        };
        let to =
            |address: &str, port| Object::Connect { address: address.parse().expect("an address"), port };
        check(
            to("127.0.0.1", 80),
            &["allow: no rule", "`0.0.0.0/0` matches, but `except_to` has `127.0.0.0/8`"],
        );
        check(to("0.0.0.0", 81), &["deny by `egress`", "matches `0.0.0.0/0`"]);
        // `::` can be loopback of either family, and only that of IPv4 is excepted.
        check(to("::", 80), &["deny by `egress`", "matches `::/0`"]);
        check(
            Object::RawSocket,
            &[
                "deny by `egress`",
                "matches `to: where a raw socket leads cannot be looked at`",
                "- names no address",
            ],
        );
        check(Object::ConnectAbstract { name: b"ab".to_vec() }, &["audit by `names`", "matches `@a*`"]);
    }

    #[track_caller]
    fn check(executable: &str, object: Object, expect: &str) {
        let policy = parse("t", POLICY).expect("valid policy");
        let host = Host { homes: vec![Home { uid: 1, path: b"/home/u".to_vec() }] };
        let subject = Subject { executable: executable.into(), ..Subject::default() };
        assert_eq!(explain(&policy, &host, &Request { subject, object }).to_string(), expect);
    }

    #[test]
    fn explanations() {
        let key = |operation| Object::File { path: b"/home/u/.ssh/id".to_vec(), operation };
        check(
            "/usr/bin/cat",
            key(FileOperation::Read),
            "deny by `keys` of policy `t`\nreason: keys\n  keys  enforce  matches `~/.ssh/**`\n  seen  monitor  matches `~/**`\n  web   enforce  - is a rule of kind `connect`\n",
        );
        check(
            "/usr/bin/ssh",
            key(FileOperation::Write),
            "allow: no rule of policy `t` holds\n  keys  enforce  matches `~/.ssh/**`, lifted for `/usr/bin/ssh`\n  seen  monitor  - names read, not write\n  web   enforce  - is a rule of kind `connect`\n",
        );
        let connect = |port| Object::Connect { address: [10, 0, 0, 1].into(), port };
        check(
            "/x",
            connect(80),
            "allow: no rule of policy `t` holds\n  keys  enforce  - is a rule of kind `file`\n  seen  monitor  - is a rule of kind `file`\n  web   enforce  - `10.0.0.0/8` matches, but not port 80\n",
        );
    }
}
