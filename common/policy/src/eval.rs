//! The oracle: what a policy says, by its definition, on paths as text. It shares no step with the compiler.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use treeline_event::{Mode, Verdict};

use crate::{
    abstract_name::AbstractGlob,
    eval_allow::Allowed,
    eval_call::{self, Of},
    glob::Glob,
    host::Host,
    policy::{Executable, Kind, Policy, PortRange, Rule, SubjectItem},
    request::{Decision, Holds, Lineage, Object, Request, Subject},
    source::Spanned,
};

/// Decides a request: deny if a rule in `enforce` matches and is not lifted, else audit if a rule in `monitor`
/// does, else allow. Of several such rules, the one with the highest priority is named, and of these the first by id. A rule is
/// lifted by its own exceptions, and by one that allows and has a higher priority.
#[must_use]
pub fn eval(policy: &Policy, host: &Host, request: &Request) -> Decision {
    let Request { subject, object } = request;
    let allowed = Allowed::of(&policy.rules, host, subject, object);
    among(policy.rules.iter().enumerate(), |rule| {
        rule_matches(rule, host, object) && holds(rule, host, subject) && allowed.against(rule).is_none()
    })
}

/// Decides among rules, each with its index and in the order of the indices, of which some hold.
pub(crate) fn among<'p>(
    rules: impl Iterator<Item = (usize, &'p Rule)> + Clone,
    holds: impl Fn(&Rule) -> bool,
) -> Decision {
    let is_of = |rule: &Rule, mode: Mode| rule.mode == mode && !rule.allows && holds(rule);
    let first = |mode: Mode| rules.clone().find(|(_, rule)| is_of(rule, mode)).map(|(index, _)| index);
    if let Some(rule) = first(Mode::Enforce) {
        return Decision { verdict: Verdict::Deny, rule: Some(rule) };
    }
    match first(Mode::Monitor) {
        Some(rule) => Decision { verdict: Verdict::Audit, rule: Some(rule) },
        None => Decision::ALLOW,
    }
}

/// Whether a rule means an object for its content.
pub(crate) fn is_by_content(rule: &Rule, object: &Object) -> bool {
    match (&rule.kind, object) {
        (Kind::Exec { sha256, .. }, Object::Exec { sha256: content, .. }) => {
            sha256.iter().any(|digest| Some(digest.value) == *content)
        }
        _ => false,
    }
}

/// Whether a rule that allows holds for certain.
pub(crate) fn surely_holds(rule: &Rule, host: &Host, subject: &Subject, object: &Object) -> bool {
    let is_asked = match asked_for(rule, host, subject) {
        Ok(None) => true,
        Ok(Some((_, holds))) => holds == Holds::Yes && !subject.loads_code,
        Err(NotAsked) => false,
    };
    is_asked
        && rule.exceptions.iter().all(|item| item_holds(item, host, subject) == Holds::No)
        && match_holds(rule, host, object) == Holds::Yes
}

/// Whether a call or a machine is what a rule is about; of everything else it is always known.
pub(crate) fn match_holds(rule: &Rule, host: &Host, object: &Object) -> Holds {
    let count = if rule.allows { Of::Each } else { Of::Any };
    match (&rule.kind, object) {
        (Kind::Tool { tools, when }, Object::Tool(call)) => eval_call::tool(tools, when, host, call, count),
        (Kind::Mcp { servers, tools }, Object::Mcp(call)) => eval_call::mcp(servers, tools, host, call),
        (Kind::Posture { require, unknown_counts }, Object::Posture(found)) => {
            eval_call::posture(require, *unknown_counts, found)
        }
        (kind, _) if kind.is_for_the_sensor() => Holds::No,
        _ if rule_matches(rule, host, object) => Holds::Yes,
        _ => Holds::No,
    }
}

/// Whether a rule that matches is for a subject, and is not lifted for it.
pub(crate) fn holds(rule: &Rule, host: &Host, subject: &Subject) -> bool {
    asked_for(rule, host, subject).is_ok() && lifted_by(rule, host, subject).is_none()
}

/// Whether a rule matches an object, whoever acts. What cannot be told matches a rule that refuses or records, and none that
/// allows.
#[must_use]
pub fn rule_matches(rule: &Rule, host: &Host, object: &Object) -> bool {
    match (&rule.kind, object) {
        (Kind::File { paths, operations }, Object::File { path, operation }) => {
            operations.contains(*operation) && names(paths, &rule.spares.paths, host, path)
        }
        (Kind::Exec { paths, .. }, Object::Exec { path, .. }) => {
            // Where a content is asked about alone there is no path.
            let is_named = !path.is_empty() && names(paths, &rule.spares.paths, host, path);
            is_named || is_by_content(rule, object)
        }
        (Kind::Connect { to, ports, except_to, .. }, Object::Connect { address, port }) => {
            destinations(*address).any(|address| {
                meant(to, ports, address, *port)
                    && !except_to.iter().any(|except| meant(&except.to, &except.ports, address, *port))
            })
        }
        (Kind::Connect { unix, .. }, Object::ConnectUnix { path }) => {
            names(unix, &rule.spares.paths, host, path)
        }
        (Kind::Connect { abstracts, .. }, Object::ConnectAbstract { name }) => {
            let has = |globs: &[Spanned<AbstractGlob>]| globs.iter().any(|glob| glob.value.matches(name));
            has(abstracts) && !has(&rule.spares.abstracts)
        }
        // Where it leads cannot be looked at, so every address is meant, and none is allowed.
        (Kind::Connect { to, .. }, Object::RawSocket) => !to.is_empty() && !rule.allows,
        (Kind::Trace, Object::Trace) => true,
        (kind, object) if kind.is_for_the_sensor() && object.is_for_the_sensor() => {
            match_holds(rule, host, object) > if rule.allows { Holds::Unknown } else { Holds::No }
        }
        _ => false,
    }
}

/// Whether one of these globs matches a path, and none of what is spared does.
fn names(globs: &[Spanned<Glob>], spared: &[Spanned<Glob>], host: &Host, path: &[u8]) -> bool {
    let has = |globs: &[Spanned<Glob>]| globs.iter().any(|glob| glob_matches(&glob.value, host, path));
    has(globs) && !has(spared)
}

/// Whether an address is in a block and a port in a range.
pub(crate) fn meant(to: &[Spanned<IpNet>], ports: &[PortRange], address: IpAddr, port: u16) -> bool {
    to.iter().any(|net| net.value.contains(&address)) && ports.iter().any(|range| range.contains(port))
}

/// The exception that lifts a rule for a subject: one that surely holds. None does for a subject into which its
/// environment puts other code.
#[must_use]
pub fn lifted_by<'a>(rule: &'a Rule, host: &Host, subject: &Subject) -> Option<&'a SubjectItem> {
    rule.exceptions.iter().find(|item| lifts(item, host, subject))
}

/// Whether one exception lifts its rule for a subject.
pub(crate) fn lifts(item: &SubjectItem, host: &Host, subject: &Subject) -> bool {
    !subject.loads_code && item_holds(item, host, subject) == Holds::Yes
}

/// The subject does not fall under a rule's `only`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAsked;

/// The item of `only` by which a rule is asked for a subject, and whether that is known to hold; none for a rule that is
/// for everybody. What cannot be told counts.
///
/// # Errors
/// The rule is for others.
pub fn asked_for<'a>(
    rule: &'a Rule,
    host: &Host,
    subject: &Subject,
) -> Result<Option<(&'a SubjectItem, Holds)>, NotAsked> {
    if rule.only.is_empty() {
        return Ok(None);
    }
    let held = rule.only.iter().map(|item| (item, item_holds(item, host, subject)));
    match held.max_by_key(|(_, holds)| *holds) {
        Some((item, holds)) if holds > Holds::No => Ok(Some((item, holds))),
        _ => Err(NotAsked),
    }
}

/// Whether a rule that is asked and not lifted might not be, were more known of the subject.
#[must_use]
pub fn rests_on_unknown(rule: &Rule, host: &Host, subject: &Subject) -> bool {
    let only_unknown = matches!(asked_for(rule, host, subject), Ok(Some((_, Holds::Unknown))));
    let mut lifts = rule.exceptions.iter().filter(|_| !subject.loads_code);
    only_unknown || lifts.any(|item| item_holds(item, host, subject) == Holds::Unknown)
}

/// Whether a rule that allows might hold, were more known of the object or of who acts, and does not.
pub(crate) fn might_allow(allows: &Rule, host: &Host, subject: &Subject, object: &Object) -> bool {
    let is_asked = asked_for(allows, host, subject).is_ok();
    let is_excepted = allows.exceptions.iter().any(|item| item_holds(item, host, subject) == Holds::Yes);
    is_asked
        && !is_excepted
        && !subject.loads_code
        && match_holds(allows, host, object) > Holds::No
        && !surely_holds(allows, host, subject, object)
}

/// Whether all that an item asks for holds of a subject.
fn item_holds(item: &SubjectItem, host: &Host, subject: &Subject) -> Holds {
    let own = executable_holds(&item.own, host, &subject.executable, subject.sha256);
    let lineage = item.descendant_of.as_ref().map(|wanted| lineage_holds(wanted, host, &subject.lineage));
    let session = item.session.as_ref().map(|wanted| wanted.holds(&subject.session));
    own.min(lineage.unwrap_or(Holds::Yes)).min(session.unwrap_or(Holds::Yes))
}

/// Whether one of the images is such a file. One that other code was put into is not surely what it is.
fn lineage_holds(wanted: &Executable, host: &Host, lineage: &Lineage) -> Holds {
    match lineage {
        Lineage::Images { images, complete } => {
            let holds = images.iter().map(|image| {
                let holds = executable_holds(wanted, host, &image.path, image.sha256);
                if image.loads_code { holds.min(Holds::Unknown) } else { holds }
            });
            holds.max().unwrap_or(Holds::No).max(if *complete { Holds::No } else { Holds::Unknown })
        }
        Lineage::Found(found) => found
            .iter()
            .find(|(condition, _)| condition == wanted)
            .map_or(Holds::Unknown, |(_, holds)| *holds),
    }
}

/// Whether a file is one that is asked for. `path` is empty and `sha256` is none where it is not known.
#[must_use]
pub fn executable_holds(wanted: &Executable, host: &Host, path: &[u8], sha256: Option<[u8; 32]>) -> Holds {
    let of = |holds: bool| if holds { Holds::Yes } else { Holds::No };
    let by_path = wanted.path.as_ref().map_or(Holds::Yes, |glob| match path {
        b"" => Holds::Unknown,
        path => of(glob_matches(glob, host, path)),
    });
    let by_content = wanted.sha256.map_or(Holds::Yes, |digest| match sha256 {
        None => Holds::Unknown,
        Some(content) => of(content == digest),
    });
    by_path.min(by_content)
}

/// What the kernel may connect to when this address is named: for an IPv4-mapped IPv6 address the IPv4 one, for
/// `0.0.0.0` and `::` loopback, for `::` that of IPv4, too.
pub(crate) fn destinations(address: IpAddr) -> impl Iterator<Item = IpAddr> {
    let loopback4 = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let v4 = |v4: Ipv4Addr| if v4.is_unspecified() { loopback4 } else { IpAddr::V4(v4) };
    let (first, second) = match address {
        IpAddr::V4(address) => (v4(address), None),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => (IpAddr::V6(Ipv6Addr::LOCALHOST), Some(loopback4)),
        IpAddr::V6(v6) => (v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), v4), None),
    };
    [Some(first), second].into_iter().flatten()
}

pub(crate) fn glob_matches(glob: &Glob, host: &Host, path: &[u8]) -> bool {
    glob.matches(host.home_paths(), path)
}
