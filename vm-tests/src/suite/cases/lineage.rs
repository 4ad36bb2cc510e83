//! Leaving the tree does not: the label was set when the process was created.

use super::{Case, denied};
use crate::act::{lineage::escape, tool};
use crate::suite::stage::{ACT, KEY, WORK};

pub(super) const CASES: &[Case] = &[
    denied("after-reparenting", "keys", || escape("after-reparenting", "orphan", &[])),
    denied("after-double-fork-and-setsid", "keys", || {
        escape("after-double-fork-and-setsid", "orphan,setsid", &["/usr/bin/setsid", "--fork"])
    }),
    denied("after-cgroup-move", "keys", || escape("after-cgroup-move", "orphan,cgroup", &[])),
    denied("after-unshare", "keys", || {
        let namespaces = ["--mount", "--uts", "--ipc", "--net", "--pid", "--fork", "--cgroup"];
        escape("after-unshare", "orphan", &[&["/usr/bin/unshare"][..], &namespaces].concat())
    }),
    denied("after-exec-by-thread", "keys", || tool(&[ACT, "act", "by-thread", WORK, "/usr/bin/cat", KEY])),
    denied("after-nohup", "keys", || escape("after-nohup", "orphan,setsid,cgroup", &["/usr/bin/nohup"])),
];
