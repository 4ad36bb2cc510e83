//! The addresses and ports of a rule.

use ipnet::IpNet;

use super::cover::Comparer;
use crate::{
    policy::{AddressException, Kind, PortRange},
    source::Spanned,
};

/// What a rule about connects has besides sockets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses<'p> {
    pub(super) to: &'p [Spanned<IpNet>],
    pub(super) ports: &'p [PortRange],
    pub(super) except: &'p [AddressException],
}

impl<'p> Addresses<'p> {
    /// Those of a kind; none where there are none.
    pub(super) fn of(kind: &'p Kind) -> Option<Self> {
        match kind {
            Kind::Connect { to, ports, except_to, .. } if !to.is_empty() => {
                Some(Self { to, ports, except: except_to })
            }
            Kind::File { .. }
            | Kind::Exec { .. }
            | Kind::Connect { .. }
            | Kind::Trace
            | Kind::Tool { .. }
            | Kind::Mcp { .. }
            | Kind::Posture { .. } => None,
        }
    }

    /// Whether all that is left of others is left of these.
    pub(super) fn covers(&self, others: &Self, comparer: &Comparer) -> bool {
        let has = |net: &Spanned<IpNet>| comparer.any(self.to, |wide| wide.value.contains(&net.value));
        // What is taken out here is taken out there, or was never there.
        let is_out = |net: IpNet, ports: &[PortRange]| {
            let ports = common(ports, others.ports);
            let parts = others.to.iter().filter_map(|to| smaller(net, to.value));
            ports.is_empty()
                || parts.into_iter().all(|part| {
                    comparer.any(others.except, |except| {
                        let has = except.to.iter().any(|except| except.value.contains(&part));
                        has && PortRange::difference(&ports, &except.ports).is_empty()
                    })
                })
        };
        PortRange::difference(others.ports, self.ports).is_empty()
            && others.to.iter().all(has)
            && self.except.iter().all(|except| except.to.iter().all(|net| is_out(net.value, &except.ports)))
    }

    /// The items of `except_to` that take out the whole of a block, together.
    pub(super) fn taking_out(&self, net: IpNet) -> Option<Vec<&'p Spanned<IpNet>>> {
        let mut left = self.ports.to_vec();
        let mut by = Vec::new();
        for except in self.except {
            let Some(item) = except.to.iter().find(|item| item.value.contains(&net)) else { continue };
            let rest = PortRange::difference(&left, &except.ports);
            if rest != left {
                by.push(item);
            }
            left = rest;
        }
        left.is_empty().then_some(by)
    }

    /// Whether an exception takes anything out.
    pub(super) fn meets(&self, except: &AddressException) -> bool {
        let meets = |net: &Spanned<IpNet>| self.to.iter().any(|to| smaller(net.value, to.value).is_some());
        !common(&except.ports, self.ports).is_empty() && except.to.iter().any(meets)
    }
}

/// What two blocks have in common: of two that have anything, one is in the other.
fn smaller(one: IpNet, other: IpNet) -> Option<IpNet> {
    match (one.contains(&other), other.contains(&one)) {
        (true, _) => Some(other),
        (_, true) => Some(one),
        _ => None,
    }
}

/// The ports that are in both; each is sorted and disjoint.
fn common(one: &[PortRange], other: &[PortRange]) -> Vec<PortRange> {
    PortRange::difference(one, &PortRange::difference(&[PortRange::ALL], other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{parse, policy::Policy};

    fn policy(rules: [&str; 2]) -> Policy {
        let [a, b] = rules;
        let text = format!(
            "version: 1\nname: t\nrules: [{{id: a, kind: connect, reason: r, {a}}}, {{id: b, kind: connect, reason: r, {b}}}]\n"
        );
        parse("t", &text).unwrap_or_else(|found| panic!("{found}"))
    }

    #[test]
    fn covering() {
        let check = |wide: &str, other: &str, expect: bool| {
            let policy = policy([wide, other]);
            let of = |index: usize| Addresses::of(&policy.rules[index].kind).expect("addresses");
            assert_eq!(of(0).covers(&of(1), &Comparer::new()), expect, "{wide} {other}");
        };
        check("to: [10.0.0.0/8]", "to: [10.1.0.0/16, 10.2.3.4]", true);
        check("to: [10.1.0.0/16]", "to: [10.0.0.0/8]", false);
        check("to: [0.0.0.0/0]", "to: [\"fd00::/8\"]", false);
        check("to: [10.0.0.0/8], ports: [80]", "to: [10.0.0.0/8]", false);
        check("to: [10.0.0.0/8]", "to: [10.0.0.0/8], ports: [80]", true);
        let except = "to: [10.0.0.0/8], except_to: [{to: [10.1.0.0/16], ports: [80]}]";
        check(except, "to: [10.0.0.0/8]", false);
        check("to: [10.0.0.0/8]", except, true);
        check(except, except, true);
        check(except, "to: [10.2.0.0/16]", true);
        check(except, "to: [10.1.2.0/24]", false);
        check(except, "to: [10.1.2.0/24], ports: [81]", true);
        check(except, "to: [10.0.0.0/8], except_to: [{to: [10.0.0.0/9]}]", true);
        check(except, "to: [10.0.0.0/8], except_to: [{to: [10.1.2.0/24]}]", false);
    }
}
