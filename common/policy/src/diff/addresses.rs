//! Addresses and ports on which two policies decide differently: all of them, since blocks and ranges have few ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

use super::decisions::Differing;
use crate::{
    policy::{Kind, Policy, PortRange, Rule},
    request::Object,
};

/// Ranges of ports of one change that are told.
const RANGES_MAX: usize = 4;
/// The port of an example, where it is among those that differ.
const LIKELY_PORT: u16 = 443;

/// Addresses and ports for which the same differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// A block or a range, with the ports where these are not all.
    pub(super) text: String,
    pub(super) example: Object,
    pub(super) differing: Differing,
}

/// Addresses one after the other, of which no block has only some, as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Span {
    is_v6: bool,
    first: u128,
    last: u128,
}

impl Span {
    fn of(net: IpNet) -> Self {
        let number = |address: IpAddr| match address {
            IpAddr::V4(address) => u32::from(address).into(),
            IpAddr::V6(address) => address.into(),
        };
        let is_v6 = matches!(net, IpNet::V6(_));
        Self { is_v6, first: number(net.network()), last: number(net.broadcast()) }
    }

    fn address(self, number: u128) -> IpAddr {
        match u32::try_from(number) {
            Ok(number) if !self.is_v6 => IpAddr::V4(number.into()),
            _ => IpAddr::V6(number.into()),
        }
    }

    /// Whether the kernel goes to other addresses than these: what is decided of them is decided of those.
    fn is_for_others(self) -> bool {
        match self.address(self.first) {
            IpAddr::V4(address) => address.is_unspecified(),
            IpAddr::V6(address) => address.is_unspecified() || address.to_ipv4_mapped().is_some(),
        }
    }

    fn has(self, other: Self) -> bool {
        self.is_v6 == other.is_v6 && self.first <= other.first && other.last <= self.last
    }
}

/// As a policy would have it, if it can.
impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [first, last] = [self.first, self.last].map(|number| self.address(number));
        let rest = self.last - self.first;
        let is_block = rest & rest.wrapping_add(1) == 0 && self.first & rest == 0;
        let bits = if self.is_v6 { 128 } else { 32 };
        match is_block {
            true => write!(f, "{first}/{}", bits - rest.count_ones()),
            false => write!(f, "{first}-{last}"),
        }
    }
}

/// What differs. Only where a rule that has changed names an address it is asked about.
pub(super) fn changes(
    policies: [&Policy; 2],
    is_changed: impl Fn(&Rule) -> bool,
    mut differing: impl FnMut(&Object) -> Vec<Differing>,
) -> Vec<Found> {
    let rules = || policies.into_iter().flat_map(|policy| &policy.rules);
    let nets: BTreeSet<Span> = rules().flat_map(blocks).map(Span::of).collect();
    let spans = pieces(&nets);
    let mut found: BTreeMap<(Differing, Vec<PortRange>), BTreeSet<usize>> = BTreeMap::new();
    for (at, span) in spans.iter().enumerate().filter(|(_, span)| !span.is_for_others()) {
        let address = span.address(span.first);
        let naming: Vec<&Rule> =
            rules().filter(|rule| blocks(rule).any(|net| net.contains(&address))).collect();
        if !naming.iter().any(|rule| is_changed(rule)) {
            continue;
        }
        let mut here: BTreeMap<Differing, Vec<PortRange>> = BTreeMap::new();
        for ports in ranges(&naming) {
            for one in differing(&Object::Connect { address, port: ports.first }) {
                here.entry(one).or_default().push(ports);
            }
        }
        for (one, ports) in here {
            found.entry((one, PortRange::union(ports))).or_default().insert(at);
        }
    }
    let mut told = Vec::new();
    for ((differing, ports), members) in found {
        let (words, port) = (words(&ports), example(&ports));
        for span in named(&members, &spans, &nets) {
            let begin = spans.partition_point(|piece| (piece.is_v6, piece.first) < (span.is_v6, span.first));
            let asked = spans[begin..].iter();
            let first = asked.copied().find(|piece| !piece.is_for_others()).unwrap_or(span);
            let example = Object::Connect { address: span.address(first.first), port };
            told.push(Found { text: format!("{span}{words}"), example, differing: differing.clone() });
        }
    }
    told
}

/// The blocks that a rule names, also to take them out.
fn blocks(rule: &Rule) -> impl Iterator<Item = IpNet> {
    let (to, except) = match &rule.kind {
        Kind::Connect { to, except_to, .. } => (&to[..], &except_to[..]),
        _ => Default::default(),
    };
    to.iter().chain(except.iter().flat_map(|except| &except.to)).map(|net| net.value)
}

/// What blocks have, cut where one begins or ends, and where addresses are for others.
fn pieces(nets: &BTreeSet<Span>) -> Vec<Span> {
    let mapped = u128::from(std::net::Ipv4Addr::UNSPECIFIED.to_ipv6_mapped());
    let behind = mapped + (1 << 32);
    let mut spans = Vec::new();
    for is_v6 in [false, true] {
        let own: Vec<&Span> = nets.iter().filter(|net| net.is_v6 == is_v6).collect();
        let ends = own.iter().flat_map(|net| [Some(net.first), net.last.checked_add(1)]).flatten();
        let cuts: BTreeSet<u128> =
            ends.chain([0, 1]).chain(is_v6.then_some([mapped, behind]).into_iter().flatten()).collect();
        let last = if is_v6 { u128::MAX } else { u32::MAX.into() };
        let nexts = cuts.iter().skip(1).map(|next| next - 1).chain([last]);
        // Blocks lie in one another or apart, so one that has a piece begins before it and none behind it has begun.
        let mut open: Vec<&Span> = Vec::new();
        let mut beginning = own.into_iter().peekable();
        for (first, last) in cuts.iter().copied().zip(nexts).filter(|(first, last)| first <= last) {
            while let Some(net) = beginning.next_if(|net| net.first <= first) {
                open.push(net);
            }
            open.retain(|net| net.last >= first);
            if !open.is_empty() {
                spans.push(Span { is_v6, first, last });
            }
        }
    }
    spans
}

/// Ports, cut where a range of one of these rules begins or ends.
fn ranges(naming: &[&Rule]) -> Vec<PortRange> {
    let mut cuts = BTreeSet::from([0]);
    for rule in naming {
        let Kind::Connect { ports, except_to, .. } = &rule.kind else { continue };
        for range in ports.iter().chain(except_to.iter().flat_map(|except| &except.ports)) {
            cuts.insert(range.first);
            cuts.extend(range.last.checked_add(1));
        }
    }
    let nexts = cuts.iter().skip(1).map(|next| next - 1).chain([u16::MAX]);
    cuts.iter().copied().zip(nexts).map(|(first, last)| PortRange { first, last }).collect()
}

/// Pieces as the blocks that are named and lie in them, the widest of those, and the rest as what is left.
fn named(members: &BTreeSet<usize>, spans: &[Span], nets: &BTreeSet<Span>) -> Vec<Span> {
    let mut told: Vec<Span> = Vec::new();
    let mut left = members.clone();
    let mut widest: Vec<Span> = nets.iter().copied().collect();
    widest.sort_by_key(|net| (net.is_v6, net.first, std::cmp::Reverse(net.last)));
    for net in widest {
        let begin = spans.partition_point(|span| (span.is_v6, span.first) < (net.is_v6, net.first));
        let inside = || (begin..spans.len()).take_while(|at| net.has(spans[*at]));
        let mut asked = inside().filter(|at| !spans[*at].is_for_others()).peekable();
        if asked.peek().is_none_or(|at| !left.contains(at)) || !asked.all(|at| members.contains(&at)) {
            continue;
        }
        left.retain(|at| !net.has(spans[*at]));
        told.push(net);
    }
    let mut rest: Vec<(Span, usize)> = Vec::new();
    for at in left {
        let span = spans[at];
        match rest.last_mut() {
            Some((run, end)) if continues(*run, *end, at, spans) => (run.last, *end) = (span.last, at),
            _ => rest.push((span, at)),
        }
    }
    told.extend(rest.into_iter().map(|(run, _)| run));
    told.sort_unstable();
    told
}

/// Whether a piece follows the last one of a run, with nothing in between but what is for others.
fn continues(run: Span, end: usize, at: usize, spans: &[Span]) -> bool {
    let between = &spans[end + 1..at];
    let mut next = run.last;
    between.iter().all(|span| span.is_for_others())
        && between.iter().chain([&spans[at]]).all(|span| {
            let follows = span.is_v6 == run.is_v6 && next.checked_add(1) == Some(span.first);
            next = span.last;
            follows
        })
}

fn words(ports: &[PortRange]) -> String {
    if ports == [PortRange::ALL] {
        return String::new();
    }
    let is_one = matches!(ports, [PortRange { first, last }] if first == last);
    let shown: Vec<String> = ports.iter().take(RANGES_MAX).map(ToString::to_string).collect();
    let more = match ports.len().saturating_sub(RANGES_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(" {} {}{more}", if is_one { "port" } else { "ports" }, shown.join(", "))
}

/// One of them, and not 0 where there is another.
fn example(ports: &[PortRange]) -> u16 {
    if ports.iter().any(|range| range.contains(LIKELY_PORT)) {
        return LIKELY_PORT;
    }
    let firsts = ports.iter().map(|range| range.first.max(1).min(range.last));
    firsts.into_iter().find(|port| *port > 0).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(text: &str) -> Span {
        Span::of(text.parse().expect("a block"))
    }

    #[test]
    fn spans_are_told_as_blocks_where_they_are_some() {
        let check = |from: &str, to: &str, expect: &str| {
            let run = Span { last: span(to).last, ..span(from) };
            assert_eq!(run.to_string(), expect);
        };
        check("10.0.0.0/32", "10.255.255.255/32", "10.0.0.0/8");
        check("10.0.0.1/32", "10.0.0.1/32", "10.0.0.1/32");
        check("10.0.0.1/32", "10.0.0.2/32", "10.0.0.1-10.0.0.2");
        check("0.0.0.0/0", "0.0.0.0/0", "0.0.0.0/0");
        check("::/0", "::/0", "::/0");
        check("8000::/1", "8000::/1", "8000::/1");
        check("::1/128", "::1/128", "::1/128");
    }

    #[test]
    fn blocks_are_cut_where_others_begin_and_end() {
        let check = |nets: &[&str], expect: &[&str]| {
            let spans = pieces(&nets.iter().map(|net| span(net)).collect());
            assert_eq!(spans.iter().map(Span::to_string).collect::<Vec<_>>(), expect, "{nets:?}");
        };
        check(&[], &[]);
        check(&["10.0.0.0/8"], &["10.0.0.0/8"]);
        check(&["10.0.0.0/8", "10.0.0.0/9"], &["10.0.0.0/9", "10.128.0.0/9"]);
        check(&["10.0.0.0/8", "10.1.0.0/16"], &["10.0.0.0/16", "10.1.0.0/16", "10.2.0.0-10.255.255.255"]);
        check(&["255.0.0.0/8", "9.0.0.0/8"], &["9.0.0.0/8", "255.0.0.0/8"]);
        check(&["0.0.0.0/1"], &["0.0.0.0/32", "0.0.0.1-127.255.255.255"]);
        check(&["::/127", "ffff::/16"], &["::/128", "::1/128", "ffff::/16"]);
        check(&["::fffe:0:0/95"], &["::fffe:0:0/96", "::ffff:0.0.0.0/96"]);
    }

    #[test]
    fn ports_are_told_and_one_of_them_shown() {
        let check = |ports: &[(u16, u16)], expect: &str, port: u16| {
            let ports: Vec<_> =
                ports.iter().map(|(first, last)| PortRange { first: *first, last: *last }).collect();
            assert_eq!((words(&ports).as_str(), example(&ports)), (expect, port));
        };
        check(&[(0, u16::MAX)], "", 443);
        check(&[(22, 22)], " port 22", 22);
        check(&[(0, 0)], " port 0", 0);
        check(&[(0, 0), (80, 81)], " ports 0, 80-81", 80);
        check(&[(0, 442), (444, u16::MAX)], " ports 0-442, 444-65535", 1);
        check(&[(1, 1), (3, 3), (5, 5), (7, 7), (9, 9)], " ports 1, 3, 5, 7 and 1 more", 1);
    }
}
