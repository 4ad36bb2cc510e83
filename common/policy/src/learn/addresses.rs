//! Addresses that were connected to, as few blocks.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::seen::Facts;
use crate::policy::{Kind, Mode, Policy, PortRange};

/// Ports of one address that are listed. A range stands for more of them: the kernel holds 16 for an address, of all rules
/// together.
const PORTS_MAX: usize = 6;
/// Length of the block that stands for several addresses.
const BLOCK_V4_LEN: u8 = 24;
const BLOCK_V6_LEN: u8 = 64;

/// Addresses and ports with what they were made from.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) net: IpNet,
    /// Sorted and disjoint.
    pub(super) ports: Vec<PortRange>,
    pub(super) facts: Facts,
}

/// Ports of an address by who alone connected to them.
type Ports = BTreeMap<Option<Arc<[u8]>>, BTreeMap<u16, Facts>>;

/// What addresses have in common that a block can stand for: where it would be, for whom, and the ports.
type Likeness = (IpNet, Option<Arc<[u8]>>, Vec<PortRange>);

/// The addresses of all acts.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    seen: BTreeMap<IpAddr, BTreeMap<u16, Facts>>,
}

impl Addresses {
    pub(super) fn add(&mut self, address: IpAddr, port: u16, facts: &Facts) {
        self.seen.entry(address).or_default().entry(port).or_default().merge(facts);
    }

    /// The blocks, in their order. From `least` addresses on with the same ports, a block stands for them.
    pub(super) fn finish(self, protected: &Policy, least: usize) -> Vec<Block> {
        let mut alike: BTreeMap<Likeness, Vec<(IpAddr, Facts)>> = BTreeMap::new();
        for (address, ports) in self.seen {
            let mut by: Ports = BTreeMap::new();
            for (port, facts) in ports {
                by.entry(facts.sole_program().cloned()).or_default().insert(port, facts);
            }
            for (sole, ports) in by {
                let ranges = ranges(address, &ports.keys().copied().collect(), protected);
                let mut facts = Facts::default();
                ports.values().for_each(|of_port| facts.merge(of_port));
                alike.entry((block_of(address), sole, ranges)).or_default().push((address, facts));
            }
        }
        let mut blocks = Vec::new();
        for ((net, _, ports), members) in alike {
            if members.len() >= least && !is_protected(protected, net, &ports) {
                let mut facts = Facts::default();
                members.iter().for_each(|(_, of_member)| facts.merge(of_member));
                blocks.push(Block { net, ports, facts });
            } else {
                let one = |(address, facts)| Block { net: IpNet::from(address), ports: ports.clone(), facts };
                blocks.extend(members.into_iter().map(one));
            }
        }
        blocks.sort_by(|one, other| (one.net, &one.ports).cmp(&(other.net, &other.ports)));
        blocks
    }
}

/// The block that an address is in. Loopback is this machine, and every address of it another service.
fn block_of(address: IpAddr) -> IpNet {
    let net = match address {
        _ if address.is_loopback() => return address.into(),
        IpAddr::V4(v4) => Ipv4Net::new(v4, BLOCK_V4_LEN).map(|net| IpNet::V4(net.trunc())),
        IpAddr::V6(v6) => Ipv6Net::new(v6, BLOCK_V6_LEN).map(|net| IpNet::V6(net.trunc())),
    };
    net.unwrap_or_else(|_| address.into())
}

/// Ports as ranges: each alone, or where they are many, one from the first to the last.
fn ranges(address: IpAddr, ports: &BTreeSet<u16>, protected: &Policy) -> Vec<PortRange> {
    let mut listed: Vec<PortRange> = Vec::new();
    for port in ports {
        match listed.last_mut() {
            Some(last) if last.last.checked_add(1) == Some(*port) => last.last = *port,
            _ => listed.push(PortRange { first: *port, last: *port }),
        }
    }
    if let [first, .., last] = listed.as_slice()
        && listed.len() > PORTS_MAX
    {
        let whole = vec![PortRange { first: first.first, last: last.last }];
        if !is_protected(protected, address.into(), &whole) {
            return whole;
        }
    }
    listed
}

/// Whether a rule that refuses is about some of this.
fn is_protected(policy: &Policy, net: IpNet, wanted: &[PortRange]) -> bool {
    let is_shared = |other: &IpNet| other.contains(&net) || net.contains(other);
    let overlaps =
        |range: &PortRange| wanted.iter().any(|one| one.first <= range.last && range.first <= one.last);
    policy.rules.iter().filter(|rule| rule.mode == Mode::Enforce && !rule.allows).any(|rule| {
        match &rule.kind {
            Kind::Connect { to, ports, .. } => {
                to.iter().any(|to| is_shared(&to.value)) && ports.iter().any(overlaps)
            }
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    const METADATA: &str =
        "version: 1\nname: p\nrules: [{id: a, kind: connect, to: [169.254.169.254], reason: r}]\n";

    #[track_caller]
    fn check(seen: &[(&str, u16)], expect: &[&str]) {
        let protected = parse("p", METADATA).expect("valid");
        let mut addresses = Addresses::default();
        for (address, port) in seen {
            addresses.add(address.parse().expect("an address"), *port, &Facts::default());
        }
        let found = addresses.finish(&protected, 4);
        let found: Vec<String> = found
            .iter()
            .map(|block| {
                let ports: Vec<String> = block.ports.iter().map(ToString::to_string).collect();
                format!("{} {}", block.net, ports.join(","))
            })
            .collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn several_addresses_of_a_block_are_the_block() {
        check(&[("10.0.0.1", 443), ("10.0.0.2", 443)], &["10.0.0.1/32 443", "10.0.0.2/32 443"]);
        let four = ["1", "2", "3", "4"];
        let of = |block: &str, ports: [u16; 4]| -> Vec<(String, u16)> {
            four.iter().zip(ports).map(|(last, port)| (format!("{block}{last}"), port)).collect()
        };
        let check = |seen: &[(String, u16)], expect: &[&str]| {
            let seen: Vec<(&str, u16)> =
                seen.iter().map(|(address, port)| (address.as_str(), *port)).collect();
            check(&seen, expect);
        };
        check(&of("10.0.0.", [443; 4]), &["10.0.0.0/24 443"]);
        check(&of("2001:db8::", [443; 4]), &["2001:db8::/64 443"]);
        check(
            &of("127.0.0.", [80; 4]),
            &["127.0.0.1/32 80", "127.0.0.2/32 80", "127.0.0.3/32 80", "127.0.0.4/32 80"],
        );
        let mixed = ["10.0.0.1/32 443", "10.0.0.2/32 443", "10.0.0.3/32 443", "10.0.0.4/32 80"];
        check(&of("10.0.0.", [443, 443, 443, 80]), &mixed);
        let beside =
            ["169.254.169.1/32 80", "169.254.169.2/32 80", "169.254.169.3/32 80", "169.254.169.4/32 80"];
        check(&of("169.254.169.", [80; 4]), &beside);
    }

    #[test]
    fn many_ports_are_a_range() {
        let ports = |ports: &[u16]| ports.iter().map(|port| ("127.0.0.1", *port)).collect::<Vec<_>>();
        check(&ports(&[80, 81, 443]), &["127.0.0.1/32 80-81,443"]);
        check(&ports(&[10, 20, 30, 40, 50, 60, 70]), &["127.0.0.1/32 10-70"]);
    }
}
