//! Changing what is protected: every operation that makes, removes or moves a name, or changes content.

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};

use super::InFallback::{Recorded, RefusedInPart};
use super::{Case, denied};
use crate::act::tool;
use crate::suite::stage::{KEY, KEYS, STARTUP};

pub(super) const CASES: &[Case] = &[
    denied("open-for-writing", "keys", || OpenOptions::new().write(true).open(KEY).map(drop)),
    denied("truncate-on-open", "keys", || File::create("/home/dev/.ssh/config").map(drop)),
    denied("change-mode", "keys", || fs::set_permissions(KEY, Permissions::from_mode(0o644)))
        .in_fallback(Recorded),
    denied("create-file", "keys", || File::create("/home/dev/.ssh/new").map(drop)),
    denied("create-directory", "keys", || fs::create_dir("/home/dev/.ssh/directory")).in_fallback(Recorded),
    denied("create-symlink", "keys", || symlink("/etc/passwd", "/home/dev/.ssh/symlink"))
        .in_fallback(Recorded),
    denied("create-by-touch", "keys", || tool(&["/usr/bin/touch", "/home/dev/.ssh/touched"]))
        .in_fallback(RefusedInPart),
    denied("link-from", "keys", || fs::hard_link(KEY, "/home/dev/work/alias")).in_fallback(Recorded),
    denied("link-from-by-ln", "keys", || tool(&["/usr/bin/ln", KEY, "/home/dev/work/alias-by-ln"]))
        .in_fallback(Recorded),
    denied("link-into", "keys", || fs::hard_link("/home/dev/work/notes", "/home/dev/.ssh/linked"))
        .in_fallback(Recorded),
    denied("rename-from", "keys", || fs::rename("/home/dev/.ssh/moved", "/home/dev/work/moved"))
        .in_fallback(Recorded),
    denied("rename-into", "keys", || fs::rename("/home/dev/work/into", "/home/dev/.ssh/into"))
        .in_fallback(Recorded),
    denied("rename-over", "keys", || fs::rename("/home/dev/work/over", "/home/dev/.ssh/replaced"))
        .in_fallback(Recorded),
    denied("rename-by-mv", "keys", || tool(&["/usr/bin/mv", "/home/dev/.ssh/moved-by-mv", "/home/dev/work"]))
        .in_fallback(Recorded),
    denied("unlink", "keys", || fs::remove_file("/home/dev/.ssh/removed")).in_fallback(Recorded),
    denied("unlink-by-rm", "keys", || tool(&["/usr/bin/rm", "-f", "/home/dev/.ssh/removed-by-rm"]))
        .in_fallback(Recorded),
    denied("rename-the-directory", "keys", || fs::rename(KEYS, "/home/dev/work/keys")).in_fallback(Recorded),
    denied("start-up-file-append", "startup", || OpenOptions::new().append(true).open(STARTUP).map(drop)),
    denied("start-up-file-append-by-shell", "startup", || {
        tool(&["/usr/bin/bash", "-c", "echo evil >> /home/dev/.bashrc"])
    }),
    denied("start-up-file-rename-over", "startup", || fs::rename("/home/dev/work/old", STARTUP))
        .in_fallback(Recorded),
    denied("start-up-file-unlink", "startup", || fs::remove_file(STARTUP)).in_fallback(Recorded),
];
