//! The oracle: what a policy says, by its definition, on paths as text. It shares no step with the compiler.

use std::net::{IpAddr, Ipv6Addr};

use treeline_event::{Mode, Verdict};

use crate::{
    glob::Glob,
    host::Host,
    policy::{Exception, Kind, Policy, Rule},
    request::{Decision, Object, Request, Subject},
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
        (Kind::Connect { to, ports, .. }, Object::Connect { address, port }) => {
            let address = canonical(*address);
            to.iter().any(|net| net.value.contains(&address))
                && ports.iter().any(|range| range.contains(*port))
        }
        (Kind::Connect { unix, .. }, Object::ConnectUnix { path }) => {
            unix.iter().any(|glob| glob_matches(&glob.value, host, path))
        }
        _ => false,
    }
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

/// An IPv4-mapped IPv6 address is the IPv4 address that the kernel connects to.
pub(crate) fn canonical(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6_canonical(v6),
        v4 => v4,
    }
}

fn v6_canonical(address: Ipv6Addr) -> IpAddr {
    address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4)
}

pub(crate) fn glob_matches(glob: &Glob, host: &Host, path: &[u8]) -> bool {
    glob.matches(host.home_paths(), path)
}
