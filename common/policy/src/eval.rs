//! The oracle: what a policy says, by its definition, on paths as text. It shares no step with the compiler.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use treeline_event::{Mode, Verdict};

use crate::{
    glob::Glob,
    host::Host,
    policy::{Exception, Kind, Policy, PortRange, Rule},
    request::{Decision, Object, Request, Subject},
    source::Spanned,
};

/// Decides a request: deny if a rule in `enforce` matches and is not lifted, else audit if a rule in `monitor`
/// does, else allow. Of several such rules, the first by id is named.
#[must_use]
pub fn eval(policy: &Policy, host: &Host, request: &Request) -> Decision {
    let first = |mode: Mode| {
        policy.rules.iter().position(|rule| {
            rule.mode == mode
                && rule_matches(rule, host, &request.object)
                && lifted_by(rule, host, &request.subject).is_none()
        })
    };
    if let Some(rule) = first(Mode::Enforce) {
        return Decision { verdict: Verdict::Deny, rule: Some(rule) };
    }
    match first(Mode::Monitor) {
        Some(rule) => Decision { verdict: Verdict::Audit, rule: Some(rule) },
        None => Decision::ALLOW,
    }
}

/// Whether a rule matches an object, exceptions aside.
#[must_use]
pub fn rule_matches(rule: &Rule, host: &Host, object: &Object) -> bool {
    match (&rule.kind, object) {
        (Kind::File { paths, operations }, Object::File { path, operation }) => {
            operations.contains(*operation) && paths.iter().any(|glob| glob_matches(&glob.value, host, path))
        }
        (Kind::Exec { paths, sha256 }, Object::Exec { path, sha256: content }) => {
            paths.iter().any(|glob| glob_matches(&glob.value, host, path))
                || sha256.iter().any(|digest| Some(digest.value) == *content)
        }
        (Kind::Connect { to, ports, except_to, .. }, Object::Connect { address, port }) => {
            destinations(*address).any(|address| {
                meant(to, ports, address, *port)
                    && !except_to.iter().any(|except| meant(&except.to, &except.ports, address, *port))
            })
        }
        (Kind::Connect { unix, .. }, Object::ConnectUnix { path }) => {
            unix.iter().any(|glob| glob_matches(&glob.value, host, path))
        }
        (Kind::Connect { abstracts, .. }, Object::ConnectAbstract { name }) => {
            abstracts.iter().any(|glob| glob.value.matches(name))
        }
        // Where it leads cannot be looked at, so every address is meant.
        (Kind::Connect { to, .. }, Object::RawSocket) => !to.is_empty(),
        (Kind::Trace, Object::Trace) => true,
        _ => false,
    }
}

/// Whether an address is in a block and a port in a range.
pub(crate) fn meant(to: &[Spanned<IpNet>], ports: &[PortRange], address: IpAddr, port: u16) -> bool {
    to.iter().any(|net| net.value.contains(&address)) && ports.iter().any(|range| range.contains(port))
}

/// The exception that lifts a rule for a subject.
#[must_use]
pub fn lifted_by<'a>(rule: &'a Rule, host: &Host, subject: &Subject) -> Option<&'a Exception> {
    rule.exceptions.iter().find(|exception| {
        let by_path =
            exception.executable.as_ref().is_none_or(|glob| glob_matches(glob, host, &subject.executable));
        let by_content = exception.sha256.is_none_or(|digest| Some(digest) == subject.sha256);
        by_path && by_content
    })
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
