//! Reading the key: by programs, by every other name that it has or can be given.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::{Case, denied};
use crate::act::tool;
use crate::suite::stage::{KEY, KEYS, WORK};

pub(super) const CASES: &[Case] = &[
    denied("read-by-cat", "keys", || tool(&["/usr/bin/cat", KEY])),
    denied("read-by-shell", "keys", || {
        tool(&["/usr/bin/bash", "-c", "read -r line < /home/dev/.ssh/id_ed25519"])
    }),
    denied("read-by-python", "keys", || {
        tool(&["/usr/bin/python3", "-I", "-S", "-c", "open('/home/dev/.ssh/id_ed25519').read()"])
    }),
    denied("copy-by-cp", "keys", || tool(&["/usr/bin/cp", KEY, "/home/dev/work/copied"])),
    denied("read-directly", "keys", || read(KEY)),
    denied("list-the-directory", "keys", || fs::read_dir(KEYS).map(drop)),
    denied("read-through-symlink", "keys", || read("/home/dev/work/soft")),
    denied("read-through-symlinked-directory", "keys", || read("/home/dev/work/soft-directory/id_ed25519")),
    denied("copy-through-symlink", "keys", || {
        tool(&["/usr/bin/cp", "-L", "/home/dev/work/soft", "/home/dev/work/copied"])
    }),
    denied("read-through-hard-link", "keys", || read("/home/dev/work/hard")),
    denied("read-through-dots", "keys", || read("/home/dev/work/.././.ssh//id_ed25519")),
    denied("read-through-proc-self-root", "keys", || read("/proc/self/root/home/dev/.ssh/id_ed25519")),
    denied("read-through-proc-self-cwd", "keys", || {
        std::env::set_current_dir(WORK)?;
        read("/proc/self/cwd/../.ssh/id_ed25519")
    }),
    denied("read-relative-to-directory", "keys", relative),
    denied("read-after-chroot", "keys", || {
        rustix::process::chroot("/home/dev")?;
        read("/.ssh/id_ed25519")
    }),
    denied("reopen-path-descriptor", "keys", reopen),
    denied("read-through-bind-mount-of-directory", "keys", || {
        in_private_namespace("mount --bind /home/dev/.ssh /mnt && cat /mnt/id_ed25519")
    }),
    denied("read-through-bind-mount-of-parent", "keys", || {
        in_private_namespace("mount --bind /home/dev /mnt && cat /mnt/.ssh/id_ed25519")
    }),
    denied("read-through-bind-mount-of-file", "keys", || {
        in_private_namespace(
            "touch /tmp/innocent && mount --bind /home/dev/.ssh/id_ed25519 /tmp/innocent && cat /tmp/innocent",
        )
    }),
    denied("read-in-user-namespace", "keys", || {
        tool(&["/usr/bin/unshare", "--user", "--map-root-user", "--mount", "/usr/bin/cat", KEY])
    }),
];

fn read(path: &str) -> io::Result<()> {
    fs::read(path).map(drop)
}

/// `openat` from a descriptor of the directory above: no path that a string comparison would know.
fn relative() -> io::Result<()> {
    let directory = openat(CWD, "/home/dev", OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
    openat(&directory, ".ssh/id_ed25519", OFlags::RDONLY, Mode::empty())?;
    Ok(())
}

/// A descriptor that may not read is opened again through `/proc`, which asks for no name.
fn reopen() -> io::Result<()> {
    let path = openat(CWD, KEY, OFlags::PATH, Mode::empty())?;
    File::open(format!("/proc/self/fd/{}", path.as_raw_fd())).map(drop)
}

fn in_private_namespace(script: &str) -> io::Result<()> {
    tool(&["/usr/bin/unshare", "--mount", "--propagation", "private", "/usr/bin/bash", "-c", script])
}
