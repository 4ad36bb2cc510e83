//! Files of /proc: their form is the kernel's, much of their content the process's.

use treeline::{
    enrich::{markers, procfs::parse_exe},
    foreign,
};
use treeline_event::PathBytes;

/// Nothing that is read is longer than what was given, and a place found by a mount table has a name in it.
pub fn run(bytes: &[u8]) -> bool {
    let stat = foreign::stat(bytes);
    let ids = foreign::ids(bytes);
    let (argv, _) = foreign::argv(bytes);
    assert!(argv.iter().map(|word| word.as_bytes().len()).sum::<usize>() <= bytes.len());
    let markers = markers::parse(bytes);
    assert!(markers.len() <= markers::MARKERS.len());
    let (path, is_deleted) = parse_exe(&PathBytes::from(bytes));
    assert!(path.as_bytes().len() < bytes.len() + usize::from(!is_deleted));
    let mut is_mounted = false;
    for path in ["/", "/home/u/.ssh/id", "/proc/self/mountinfo"] {
        let Ok(Some((_, inner, canonical))) = foreign::mountinfo(bytes, path.as_bytes()) else { continue };
        assert!(!inner.is_empty() && !canonical.is_empty());
        is_mounted = true;
    }
    stat.is_some() || ids.is_some() || !argv.is_empty() || !markers.is_empty() || is_mounted
}

/// One of each file.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mounts = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
        23 22 0:21 / /proc rw - proc proc rw\n\
        24 22 0:33 /@home /home rw shared:2 master:3 - btrfs /dev/sdb\\0401 rw,subvol=/@home\n";
    [
        "42 (a) R 1 (b c) S 7 1 1 34817 1 0 0 0 0 0 0 0 0 0 20 0 1 0 777 0 0",
        "Name:\tsh\nUmask:\t0022\nUid:\t1000\t0\t0\t0\nGid:\t100\t5\t5\t5\n",
        "node\0--max-old\0\0x\0",
        "HOME=/root\0CLAUDECODE=1\0CLAUDE_CODE_SESSION_ID=a=b\0AI_AGENT=x\0",
        "/memfd:x (deleted)",
        mounts,
    ]
    .map(Vec::from)
    .into()
}
