//! Running what must not run.

use super::{Case, denied};
use crate::act::tool;
use crate::suite::stage::FORBIDDEN;

pub(super) const CASES: &[Case] = &[
    denied("exec-directly", "program", || tool(&[FORBIDDEN])),
    denied("exec-through-symlink", "program", || tool(&["/home/dev/work/innocent"])),
    denied("exec-by-shell", "program", || tool(&["/usr/bin/bash", "-c", "/usr/local/bin/forbidden"])),
    denied("exec-through-proc-self-root", "program", || tool(&["/proc/self/root/usr/local/bin/forbidden"])),
];
