//! What must go on working inside a session: a guard that breaks work is switched off.

use std::fs;
use std::io::{self, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use super::{Case, works};
use crate::act::tool;
use crate::suite::stage::{ALLOWED_ADDRESS, ALLOWED_SOCKET, KEY, PORT, STARTUP, TRUSTED, WORK};

pub(super) const CASES: &[Case] = &[
    Case { program: TRUSTED, ..works("exception-by-executable", read_key) },
    works("read-in-the-project", || fs::read("/home/dev/work/notes").map(drop)),
    works("write-in-the-project", write),
    works("list-the-home-directory", || fs::read_dir("/home/dev").map(drop)),
    works("look-at-the-key", || fs::metadata(KEY).map(drop)),
    works("read-the-start-up-file", || fs::read(STARTUP).map(drop)),
    works("link-in-the-project", || fs::hard_link("/home/dev/work/notes", "/home/dev/work/linked")),
    works("rename-in-the-project", || fs::rename("/home/dev/work/movable", "/home/dev/work/renamed")),
    works("unlink-in-the-project", || fs::remove_file("/home/dev/work/unwanted")),
    works("programs-run", || tool(&["/usr/bin/bash", "-c", "sha256sum /home/dev/work/notes | cat"])),
    works("connect-elsewhere", || TcpStream::connect((ALLOWED_ADDRESS, PORT)).map(drop)),
    works("connect-to-another-unix-socket", || UnixStream::connect(ALLOWED_SOCKET).map(drop)),
];

fn read_key() -> io::Result<()> {
    fs::read(KEY).map(drop)
}

fn write() -> io::Result<()> {
    let path = format!("{WORK}/written");
    fs::File::create(&path)?.write_all(b"text\n")?;
    if fs::read(&path)? == b"text\n" {
        Ok(())
    } else {
        Err(io::Error::other("what was written was not read back"))
    }
}
