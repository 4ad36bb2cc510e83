//! Sending where nothing must be sent: without a connect, by other calls, by addresses that stand for others, and by
//! sockets that do not say where they lead.

use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixStream};

use rustix::net::{
    AddressFamily, MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, SocketType, ipproto, sendmmsg,
    sendmsg_addr, socket,
};

use super::InFallback::{Recorded, RefusedByCgroup, Unseen};
use super::{Case, denied, works};
use crate::act::tool;
use crate::suite::stage::{
    ABSTRACT, ALLOWED_ADDRESS, FORBIDDEN_ADDRESS, FORBIDDEN_DATAGRAMS, LOOPBACK_PORT, PORT, TRUSTED,
};

pub(super) const CASES: &[Case] = &[
    denied("sendto", "network", || send_to((FORBIDDEN_ADDRESS, PORT))).in_fallback(RefusedByCgroup),
    denied("sendto-mapped", "network", || send_to(("::ffff:127.0.0.2", PORT))).in_fallback(RefusedByCgroup),
    denied("sendto-six", "loopback", || send_to(("::1", LOOPBACK_PORT))).in_fallback(RefusedByCgroup),
    denied("sendmsg", "network", send_message).in_fallback(RefusedByCgroup),
    denied("sendmmsg", "network", send_messages).in_fallback(RefusedByCgroup),
    denied("sendto-without-family", "network", || python("without-family")).in_fallback(RefusedByCgroup),
    denied("fast-open", "network", || python("fast-open")).in_fallback(RefusedByCgroup),
    denied("ring-connect", "network", || python("ring-connect")).in_fallback(RefusedByCgroup),
    denied("ring-connect-polled", "network", || python("ring-connect-polled")).in_fallback(RefusedByCgroup),
    denied("ring-send", "network", || python("ring-send")).in_fallback(RefusedByCgroup),
    denied("ring-send-polled", "network", || python("ring-send-polled")).in_fallback(RefusedByCgroup),
    denied("raw-socket", "lan", || raw(AddressFamily::INET, SocketType::RAW)).in_fallback(RefusedByCgroup),
    denied("raw-socket-six", "lan", || raw(AddressFamily::INET6, SocketType::RAW))
        .in_fallback(RefusedByCgroup),
    denied("packet-socket", "lan", || raw(AddressFamily::PACKET, SocketType::RAW)).in_fallback(Unseen),
    denied("packet-socket-cooked", "lan", || raw(AddressFamily::PACKET, SocketType::DGRAM))
        .in_fallback(Unseen),
    denied("connect-six", "loopback", || connect("[::1]")).in_fallback(RefusedByCgroup),
    denied("connect-unspecified", "loopback", || connect("0.0.0.0")).in_fallback(RefusedByCgroup),
    denied("connect-unspecified-six", "loopback", || connect("[::]")).in_fallback(RefusedByCgroup),
    denied("connect-unspecified-mapped", "loopback", || connect("[::ffff:0.0.0.0]"))
        .in_fallback(RefusedByCgroup),
    denied("sendto-unspecified", "loopback", || send_to(("0.0.0.0", LOOPBACK_PORT)))
        .in_fallback(RefusedByCgroup),
    denied("connect-beside-the-exception", "lan", || TcpStream::connect("127.0.1.6:4242").map(drop))
        .in_fallback(RefusedByCgroup),
    denied("connect-other-port-of-the-exception", "lan", || {
        TcpStream::connect(("127.0.1.7", LOOPBACK_PORT)).map(drop)
    })
    .in_fallback(RefusedByCgroup),
    works("connect-to-the-exception", || TcpStream::connect("127.0.1.7:4242").map(drop)),
    works("sendto-elsewhere", || send_to((ALLOWED_ADDRESS, PORT))),
    works("sendto-the-exception", || send_to(("127.0.1.7", PORT))),
    works("a-socket-of-netlink", || {
        socket(AddressFamily::NETLINK, SocketType::RAW, None).map(drop).map_err(Into::into)
    }),
    denied("abstract-name", "abstract-names", || stream(ABSTRACT[0])).in_fallback(Recorded),
    denied("abstract-bytes", "abstract-names", || stream(ABSTRACT[1])).in_fallback(Recorded),
    denied("abstract-exactly", "abstract-names", || stream(ABSTRACT[2])).in_fallback(Recorded),
    works("abstract-longer", || stream(ABSTRACT[3])),
    denied("abstract-datagram", "abstract-names", abstract_datagram).in_fallback(Unseen),
    Case { program: TRUSTED, ..works("excepted-address", || TcpStream::connect("127.0.1.6:4242").map(drop)) },
    Case { program: TRUSTED, ..works("excepted-abstract-name", || stream(ABSTRACT[0])) },
    // Every rule by address counts, and the others have no exception.
    Case {
        program: TRUSTED,
        ..denied("excepted-raw-socket", "loopback", || raw(AddressFamily::INET, SocketType::RAW))
            .in_fallback(RefusedByCgroup)
    },
    denied("datagram-to-path", "socket", || {
        UnixDatagram::unbound()?.send_to(b"x", FORBIDDEN_DATAGRAMS).map(drop)
    })
    .in_fallback(Unseen),
    denied("datagram-connected-to-path", "socket", || UnixDatagram::unbound()?.connect(FORBIDDEN_DATAGRAMS))
        .in_fallback(Recorded),
];

const FORBIDDEN: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 2), PORT);

fn send_to(to: (&str, u16)) -> io::Result<()> {
    let own = if to.0.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
    UdpSocket::bind(own)?.send_to(b"x", to).map(drop)
}

fn send_message() -> io::Result<()> {
    let own = UdpSocket::bind("0.0.0.0:0")?;
    let mut control = SendAncillaryBuffer::default();
    sendmsg_addr(&own, &FORBIDDEN, &[IoSlice::new(b"x")], &mut control, SendFlags::empty())?;
    Ok(())
}

/// The first goes where it may, so that the second is the one that is refused.
fn send_messages() -> io::Result<()> {
    let own = UdpSocket::bind("0.0.0.0:0")?;
    let allowed = SocketAddr::from(([127, 0, 0, 1], PORT));
    let [allowed, forbidden] = [SocketAddrAny::from(allowed), SocketAddrAny::from(FORBIDDEN)];
    let (mut first, mut second) = (SendAncillaryBuffer::default(), SendAncillaryBuffer::default());
    let text = [IoSlice::new(b"x")];
    let mut messages = [
        MMsgHdr::new_with_addr(&allowed, &text, &mut first),
        MMsgHdr::new_with_addr(&forbidden, &text, &mut second),
    ];
    // What was sent before a refusal is counted, and the refusal is kept for the next call.
    let sent = sendmmsg(&own, &mut messages, SendFlags::empty())?;
    if sent == 2 {
        Ok(())
    } else {
        sendmmsg(&own, &mut messages[1..], SendFlags::empty()).map(drop).map_err(Into::into)
    }
}

fn raw(family: AddressFamily, kind: SocketType) -> io::Result<()> {
    let protocol = if family == AddressFamily::PACKET { None } else { Some(ipproto::ICMP) };
    socket(family, kind, protocol).map(drop).map_err(Into::into)
}

fn connect(address: &str) -> io::Result<()> {
    TcpStream::connect(format!("{address}:{LOOPBACK_PORT}")).map(drop)
}

fn stream(name: &[u8]) -> io::Result<()> {
    UnixStream::connect_addr(&UnixAddr::from_abstract_name(name)?).map(drop)
}

fn abstract_datagram() -> io::Result<()> {
    let to = UnixAddr::from_abstract_name(b"forbidden/datagrams")?;
    UnixDatagram::unbound()?.send_to_addr(b"x", &to).map(drop)
}

fn python(way: &str) -> io::Result<()> {
    let port = PORT.to_string();
    tool(&["/usr/bin/python3", "-I", "-S", "-c", include_str!("network.py"), way, FORBIDDEN_ADDRESS, &port])
}
