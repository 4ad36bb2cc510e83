//! What a rule does not mean, and what another one allows: as much as that, and by no other way.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::TcpStream;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::{SocketAddr, UnixStream};

use super::InFallback::{Recorded, RefusedByCgroup, Unseen};
use super::{Case, denied, works};
use crate::act::tool;
use crate::suite::stage::{
    LAB, LIFTED_ABSTRACT, LIFTED_ADDRESS, LIFTED_FOR_TRUSTED, PORT, READABLE, SHUT_ADDRESS, SITE, TRUSTED,
    VAULT,
};

pub(super) const CASES: &[Case] = &[
    works("write-what-is-spared", || append("open/mine")),
    works("write-what-is-spared-by-a-glob", || append("x/out/mine")),
    works("create-in-what-is-spared", || File::create(site("open/new")).map(drop)),
    works("rename-within-what-is-spared", || fs::rename(site("open/old"), site("open/renamed"))),
    works("rename-from-one-to-the-other", || fs::rename(site("open/directory"), site("x/out/directory"))),
    works("remove-what-is-spared", || fs::remove_file(site("open/unwanted"))),
    works("read-what-is-not-to-be-written", || fs::read(site("key")).map(drop)),
    denied("write-beside-what-is-spared", "site", || append("key")),
    denied("write-what-is-spared-elsewhere", "site", || append("out/key")),
    denied("create-beside-what-is-spared", "site", || File::create(site("new")).map(drop)),
    denied("write-through-a-link-in-what-is-spared", "site", || append("open/soft")),
    denied("write-by-a-name-in-what-is-spared", "site", || append("open/alias")),
    denied("link-into-what-is-spared", "site", || fs::hard_link(site("key"), site("open/linked")))
        .in_fallback(Recorded),
    denied("rename-into-what-is-spared", "site", || fs::rename(site("moved"), site("open/moved")))
        .in_fallback(Recorded),
    denied("rename-out-of-what-is-spared", "site", || fs::rename(site("open/out"), site("came-out")))
        .in_fallback(Recorded),
    denied("directory-into-what-is-spared", "site", || fs::rename(site("directory"), site("open/own")))
        .in_fallback(Recorded),
    denied("directory-in-the-place-of-what-is-spared", "site", || {
        fs::rename(site("other"), site("x/out/empty"))
    })
    .in_fallback(Recorded),
    denied("read-deep-below", "lab", || fs::read(format!("{LAB}/a/b/key")).map(drop)),
    denied("directory-on-the-way-into-what-is-spared", "lab", || {
        fs::rename(format!("{LAB}/a/b"), format!("{LAB}/open/b"))
    })
    .in_fallback(Unseen),
    denied("symlink-beside-what-is-spared", "site", || symlink("/etc", site("soft"))).in_fallback(Recorded),
    denied("mount-over-what-is-spared", "site", || {
        let script = format!("mount --bind {SITE} {SITE}/open && echo x >> {SITE}/open/key");
        tool(&["/usr/bin/unshare", "--user", "--map-root-user", "--mount", "/usr/bin/bash", "-c", &script])
    }),
    denied("program-that-is-not-spared", "site-programs", || tool(&["/home/dev/site-bin/tool"])),
    works("program-that-is-spared", || tool(&["/home/dev/site-bin/ok/tool"])),
    works("read-what-may-be-read", || fs::read(READABLE).map(drop)),
    denied("write-what-may-be-read", "read-only", || OpenOptions::new().write(true).open(READABLE).map(drop)),
    denied("read-and-write-what-may-be-read", "read-only", || {
        OpenOptions::new().read(true).write(true).open(READABLE).map(drop)
    }),
    works("read-what-is-spared-everywhere", || fs::read(format!("{VAULT}/open/vault/plain")).map(drop)),
    denied("read-what-is-spared-and-has-another-name", "vaults", || {
        fs::read(format!("{VAULT}/open/vault/alias")).map(drop)
    })
    .in_fallback(Recorded),
    works("remove-a-name-that-is-spared", || fs::remove_file(format!("{VAULT}/open/vault/removed"))),
    denied("read-elsewhere", "vaults", || fs::read(format!("{VAULT}/vault/key")).map(drop))
        .in_fallback(Recorded),
    works("connect-to-what-is-allowed", || connect(LIFTED_ADDRESS, PORT)),
    denied("connect-beside-what-is-allowed", "shut", || connect(SHUT_ADDRESS, PORT))
        .in_fallback(RefusedByCgroup),
    denied("connect-to-what-is-allowed-to-others", "shut", || connect(LIFTED_FOR_TRUSTED, PORT))
        .in_fallback(RefusedByCgroup),
    works("connect-to-what-is-allowed-to-one", || connect(LIFTED_FOR_TRUSTED, PORT)).by(TRUSTED),
    works("name-that-is-allowed", || stream(LIFTED_ABSTRACT[0])),
    denied("name-that-is-not-allowed", "shut-names", || stream(LIFTED_ABSTRACT[1])).in_fallback(Recorded),
];

fn site(name: &str) -> String {
    format!("{SITE}/{name}")
}

fn append(name: &str) -> io::Result<()> {
    OpenOptions::new().append(true).open(site(name)).map(drop)
}

fn connect(address: &str, port: u16) -> io::Result<()> {
    TcpStream::connect((address, port)).map(drop)
}

fn stream(name: &[u8]) -> io::Result<()> {
    UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?).map(drop)
}
