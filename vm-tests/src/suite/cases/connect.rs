//! Connecting where nothing must connect.

use std::io;
use std::net::{TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;

use super::InFallback::{Recorded, RefusedByCgroup};
use super::{Case, denied};
use crate::act::tool;
use crate::suite::stage::{FORBIDDEN_ADDRESS, FORBIDDEN_ADDRESS6, FORBIDDEN_SOCKET, PORT};

pub(super) const CASES: &[Case] = &[
    denied("connect-tcp", "network", || TcpStream::connect((FORBIDDEN_ADDRESS, PORT)).map(drop))
        .in_fallback(RefusedByCgroup),
    // The same address in the clothes of the other family.
    denied("connect-tcp-mapped", "network", || TcpStream::connect(("::ffff:127.0.0.2", PORT)).map(drop))
        .in_fallback(RefusedByCgroup),
    denied("connect-tcp-ipv6", "network", || TcpStream::connect((FORBIDDEN_ADDRESS6, PORT)).map(drop))
        .in_fallback(RefusedByCgroup),
    denied("connect-udp", "network", connect_udp).in_fallback(RefusedByCgroup),
    denied("connect-by-shell", "network", || {
        tool(&["/usr/bin/bash", "-c", "exec 3<> /dev/tcp/127.0.0.2/4242"])
    })
    .in_fallback(RefusedByCgroup),
    denied("connect-by-python", "network", || {
        let program = "import socket; socket.create_connection(('127.0.0.2', 4242))";
        tool(&["/usr/bin/python3", "-I", "-S", "-c", program])
    })
    .in_fallback(RefusedByCgroup),
    denied("connect-unix", "socket", || UnixStream::connect(FORBIDDEN_SOCKET).map(drop))
        .in_fallback(Recorded),
    denied("connect-unix-through-symlink", "socket", || {
        UnixStream::connect("/home/dev/work/socket").map(drop)
    })
    .in_fallback(Recorded),
];

fn connect_udp() -> io::Result<()> {
    UdpSocket::bind("127.0.0.1:0")?.connect((FORBIDDEN_ADDRESS, PORT))
}
