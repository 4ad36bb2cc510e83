//! Leaving the tree does not: the label was set when the process was created.

use std::io;

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
    denied("in-a-storm-of-forks", "keys", storm),
    denied("after-nohup", "keys", || escape("after-nohup", "orphan,setsid,cgroup", &["/usr/bin/nohup"])),
];

/// More processes than processors create children that each try to read the key: tasks are preempted in every place,
/// and each child has to have its label all the same. One that read the key makes the whole a success.
fn storm() -> io::Result<()> {
    const STORM: &str = "
import os, sys
def attempt():
    try:
        with open(sys.argv[1]) as key:
            key.read()
        return 1
    except PermissionError:
        return 0
def work():
    successes = 0
    for _ in range(50):
        child = os.fork()
        if child == 0:
            os._exit(attempt())
        successes += os.waitpid(child, 0)[1] >> 8
    return successes
workers = [os.fork() or os._exit(work()) for _ in range(6)]
successes = sum(os.waitpid(worker, 0)[1] >> 8 for worker in workers)
if successes == 0:
    sys.exit('Operation not permitted, to every child')
print(successes)
";
    tool(&["/usr/bin/python3", "-I", "-S", "-c", STORM, KEY])
}
