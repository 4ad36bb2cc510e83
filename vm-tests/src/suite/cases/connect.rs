//! Connecting where nothing must connect.

use std::io;
use std::net::{TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;

use super::{Case, denied};
use crate::act::tool;
use crate::suite::stage::{FORBIDDEN_ADDRESS, FORBIDDEN_SOCKET, PORT};

pub(super) const CASES: &[Case] = &[
    denied("connect-tcp", "network", || TcpStream::connect((FORBIDDEN_ADDRESS, PORT)).map(drop)),
    // The same address in the clothes of the other family.
    denied("connect-tcp-mapped", "network", || TcpStream::connect(("::ffff:127.0.0.2", PORT)).map(drop)),
    denied("connect-udp", "network", connect_udp),
    denied("connect-by-shell", "network", || {
        tool(&["/usr/bin/bash", "-c", "exec 3<> /dev/tcp/127.0.0.2/4242"])
    }),
    denied("connect-by-python", "network", || {
        let program = "import socket; socket.create_connection(('127.0.0.2', 4242))";
        tool(&["/usr/bin/python3", "-I", "-S", "-c", program])
    }),
    denied("connect-unix", "socket", || UnixStream::connect(FORBIDDEN_SOCKET).map(drop)),
    denied("connect-unix-through-symlink", "socket", || {
        UnixStream::connect("/home/dev/work/socket").map(drop)
    }),
];

fn connect_udp() -> io::Result<()> {
    UdpSocket::bind("127.0.0.1:0")?.connect((FORBIDDEN_ADDRESS, PORT))
}
