//! A service on loopback that the agent is allowed to talk to.

use std::{
    io::{self, Write},
    net::{Ipv4Addr, TcpListener},
    thread,
};

/// What it says to everyone.
pub(super) const GREETING: &str = "hello from the loopback listener";

/// Starts it; it ends with the process. Returns its port.
pub(super) fn start() -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    thread::Builder::new().name("listener".into()).spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // Who has hung up already does not want the greeting.
            let _ = stream.write_all(format!("{GREETING}\n").as_bytes());
        }
    })?;
    Ok(port)
}
