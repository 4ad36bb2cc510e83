//! Rules that are for descendants of a program, or not for them.

use std::fs;
use std::io;
use std::net::TcpStream;

use super::InFallback::RefusedByCgroup;
use super::{Case, denied, works};
use crate::act::tool;
use crate::suite::stage::{
    ACT, BELOW_ADDRESS, BELOW_TOOL, BUILDER, CLOUD, INSTALLER, PORT, STATE, TRUSTED_SHELL,
};

pub(super) const CASES: &[Case] = &[
    denied("below-by-itself", "lineage-below", || fs::read(CLOUD).map(drop)).by(INSTALLER),
    denied("below-by-a-grandchild", "lineage-below", || by_shell(CLOUD)).by(INSTALLER),
    denied("below-after-double-fork-and-setsid", "lineage-below", || by_orphan(CLOUD)).by(INSTALLER),
    denied("below-by-exec", "tool-below", || tool(&[BELOW_TOOL, "1"])).by(INSTALLER),
    denied("below-by-connect", "address-below", || TcpStream::connect((BELOW_ADDRESS, PORT)).map(drop))
        .by(INSTALLER)
        .in_fallback(RefusedByCgroup),
    works("beside-by-itself", || fs::read(CLOUD).map(drop)),
    works("beside-by-a-grandchild", || by_shell(CLOUD)),
    works("beside-after-double-fork-and-setsid", || by_orphan(CLOUD)),
    // Long enough for its lineage to be asked for where an exec is judged when it has happened.
    works("beside-by-exec", || tool(&[BELOW_TOOL, "8"])),
    works("beside-by-connect", || TcpStream::connect((BELOW_ADDRESS, PORT)).map(drop)),
    works("excepted-below-by-a-grandchild", || by_shell(STATE)).by(BUILDER),
    works("excepted-below-after-double-fork-and-setsid", || by_orphan(STATE)).by(BUILDER),
    denied("excepted-below-for-nobody-else", "state", || by_shell(STATE)),
    denied("excepted-below-by-one-who-only-starts-it", "state", || {
        tool(&["/usr/bin/bash", "-c", &format!("{BUILDER} act read {ACT}; cat {STATE}")])
    }),
    denied("excepted-below-with-preloaded-library", "state", || {
        // The library would be in the shell; what it starts then has no such variable.
        let command = format!("LD_PRELOAD=/nonexistent exec {TRUSTED_SHELL} -c '{}'", without_preload());
        tool(&["/usr/bin/bash", "-c", &command])
    }),
    works("excepted-below-without-preloaded-library", || tool(&[TRUSTED_SHELL, "-c", &without_preload()])),
];

fn without_preload() -> String {
    format!("unset LD_PRELOAD; /usr/bin/cat {STATE}; exit $?")
}

/// Has a child of a child read the file.
fn by_shell(path: &str) -> io::Result<()> {
    tool(&["/usr/bin/bash", "-c", &format!("/usr/bin/bash -c 'cat {path}; exit $?'; exit $?")])
}

/// Has a process read the file whose parents have ended, in a session of its own.
fn by_orphan(path: &str) -> io::Result<()> {
    const ORPHAN: &str = "
import os, sys, time
told, tell = os.pipe()
own = os.getpid()
if os.fork() == 0:
    os.setsid()
    middle = os.getpid()
    if os.fork():
        os._exit(0)
    while os.getppid() == middle:
        time.sleep(0.01)
    try:
        open(sys.argv[1]).read()
        os.write(tell, b'0')
    except PermissionError:
        os.write(tell, b'1')
    os._exit(0)
os.close(tell)
os.wait()
if os.read(told, 1) == b'1':
    sys.exit('Operation not permitted')
";
    tool(&["/usr/bin/python3", "-I", "-S", "-c", ORPHAN, path])
}
