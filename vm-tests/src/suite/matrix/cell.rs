//! One alias with one operation, what was tried and what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Operations that take the content, or give another one to whoever shares the mounts: the subject itself compares what
/// it had, and nothing is left behind.
const READS: &[&str] = &[
    "aio-read",
    "copy-up-by-append",
    "copy-up-by-chmod",
    "copy-up-by-link",
    "copy-up-by-rename",
    "copy_file_range",
    "install",
    "io_uring-read",
    "mmap",
    "mmap-exec",
    "mount-over",
    "mount-over-by-move_mount",
    "mount-over-by-tmpfs",
    "openat2",
    "read",
    "read-by-shell",
    "read-by-shell-from-input",
    "sendfile",
    "splice",
    "write-in-place",
];

/// What does not work without the sensor either. Anything else that does not is a fault of the test.
struct Absent {
    /// How the alias begins.
    alias: &'static str,
    /// Any when it is empty.
    operation: &'static str,
    errno: u32,
    /// The release from which on it works, if it ever does.
    until: Option<(u32, u32)>,
}

const EPERM: u32 = 1;
const ENOENT: u32 = 2;
const EXDEV: u32 = 18;
const EINVAL: u32 = 22;
const ENOSYS: u32 = 38;
const EOPNOTSUPP: u32 = 95;

const ABSENT: &[Absent] = &[
    // What is read is on another filesystem than what is written.
    Absent { alias: "overlay-", operation: "copy_file_range", errno: EXDEV, until: None },
    Absent { alias: "overlay-", operation: "copy_file_range-to", errno: EXDEV, until: None },
    // Overlays had no `O_TMPFILE`.
    Absent { alias: "overlay-upper", operation: "unnamed", errno: EOPNOTSUPP, until: Some((6, 10)) },
    Absent { alias: "overlay-lower-in-user-namespace", operation: "", errno: EPERM, until: Some((5, 11)) },
    Absent { alias: "overlay-upper-in-user-namespace", operation: "", errno: EPERM, until: Some((5, 11)) },
    // Debian builds its older kernels without the table of letters (`CONFIG_UNICODE`): there is no such filesystem.
    Absent { alias: "case-folding", operation: "", errno: ENOENT, until: Some((5, 11)) },
    // Requests that io_uring does not know yet.
    Absent { alias: "io_uring", operation: "link", errno: EINVAL, until: Some((5, 15)) },
    Absent { alias: "io_uring", operation: "symlink", errno: EINVAL, until: Some((5, 15)) },
    Absent { alias: "io_uring", operation: "mkdir", errno: EINVAL, until: Some((5, 15)) },
    Absent { alias: "io_uring", operation: "xattr", errno: EINVAL, until: Some((5, 19)) },
    Absent { alias: "io_uring", operation: "truncate", errno: EINVAL, until: Some((6, 9)) },
    Absent { alias: "io_uring-registered", operation: "", errno: EINVAL, until: Some((5, 15)) },
    Absent { alias: "io_uring-registered", operation: "install", errno: EINVAL, until: Some((6, 8)) },
    Absent { alias: "sent-to-ring", operation: "", errno: EINVAL, until: Some((6, 0)) },
    Absent { alias: "sent-to-ring", operation: "install", errno: EINVAL, until: Some((6, 8)) },
    Absent { alias: "sent-to-ring", operation: "truncate", errno: EINVAL, until: Some((6, 9)) },
    // A system call that is newer.
    Absent { alias: "", operation: "file_setattr", errno: ENOSYS, until: Some((6, 17)) },
];

/// What is known not to be stopped in modes `lsm` and `fmod_ret` either (THREATS.md), by alias and operation.
const HOLES: &[(&str, &str)] = &[
    // No hook is asked when a file comes into a ring's table from another ring, nor when it is read there.
    ("sent-to-ring", "read"),
    ("sent-to-ring", "splice"),
    ("sent-to-ring", "write"),
];

/// A mapping does not wait: what nobody has executed is read afterwards (docs/policy.md, "By content").
const MAPPINGS: &[&str] = &["execute-by-mapping", "execute-by-mprotect"];
/// What no rule is about begins so: a guard that refuses everything would stop all the rest, too.
const INNOCENT: &str = "innocent-";
/// The ways to content that somebody has tried to execute before.
const KNOWN: &str = "content-that-is-known";

#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Cell {
    pub(super) alias: String,
    pub(super) operation: String,
}

/// What the subject says of a cell.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Tried {
    pub(super) pid: u32,
    /// 0, or an errno.
    pub(super) status: u32,
}

impl Tried {
    /// Whether the content was had, or what was to be changed has changed.
    pub(super) fn works(self, cell: &Cell, changed: &BTreeSet<Cell>) -> bool {
        let is_read = READS.contains(&cell.operation.as_str()) || cell.operation.starts_with("execute");
        self.status == 0 && (is_read || changed.contains(cell))
    }
}

/// What came of a cell inside the session, from the sensor doing the most to it having nothing to do.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Fate {
    /// It had no effect, and the log says that the rule refused it.
    Stopped,
    /// It had no effect, with this errno, and no entry names the rule.
    Silent(u32),
    /// It had its effect, and an entry names the rule.
    Recorded,
    /// It had its effect, and no entry names the rule.
    NotSeen,
    /// It does not work on this kernel without the sensor either, with this errno.
    NotApplicable(u32),
}

impl Fate {
    pub(super) fn is_stopped(self) -> bool {
        matches!(self, Self::Stopped | Self::NotApplicable(_))
    }
}

/// Whether it is known that the cell does not work on a kernel of this release.
pub(super) fn is_absent(cell: &Cell, errno: u32, release: (u32, u32)) -> bool {
    ABSENT.iter().any(|absent| {
        cell.alias.starts_with(absent.alias)
            && (absent.operation.is_empty() || cell.operation == absent.operation)
            && errno == absent.errno
            && absent.until.is_none_or(|until| release < until)
    })
}

/// Whether that is what has to come of the cell in a mode that judges everything. A hole that is stopped is none any more,
/// and to be taken off the list.
pub(super) fn is_expected(cell: &Cell, fate: Fate) -> bool {
    let (alias, operation) = (cell.alias.as_str(), cell.operation.as_str());
    let is_unknown = alias.starts_with("content-") && alias != KNOWN && MAPPINGS.contains(&operation);
    let is_hole = is_unknown || alias.starts_with(INNOCENT) || HOLES.contains(&(alias, operation));
    matches!(fate, Fate::NotApplicable(_)) || fate.is_stopped() != is_hole
}

impl fmt::Display for Fate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Stopped => "stopped",
            Self::Silent(_) => "stopped, not recorded",
            Self::Recorded => "recorded",
            Self::NotSeen => "not seen",
            Self::NotApplicable(_) => "not applicable",
        })
    }
}

/// What the subject printed.
pub(super) fn tried(text: &str) -> BTreeMap<Cell, Tried> {
    let read = |line: &str| {
        let mut words = line.strip_prefix("cell: ")?.split(' ');
        let cell = cell(&mut words)?;
        Some((cell, Tried { pid: words.next()?.parse().ok()?, status: words.next()?.parse().ok()? }))
    };
    text.lines().filter_map(read).collect()
}

/// The cells whose file is not as it was.
pub(super) fn changed(text: &str) -> BTreeSet<Cell> {
    text.lines().filter_map(|line| cell(&mut line.strip_prefix("changed: ")?.split(' '))).collect()
}

fn cell<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Cell> {
    Some(Cell { alias: words.next()?.to_owned(), operation: words.next()?.to_owned() })
}

/// A line for each alias: fates with their operations, `stopped: read, write; not seen: link`.
pub(super) fn rows(fates: &BTreeMap<Cell, Fate>) -> BTreeMap<&str, String> {
    let mut aliases: BTreeMap<&str, BTreeMap<String, Vec<&str>>> = BTreeMap::new();
    for (cell, fate) in fates {
        let row = aliases.entry(&cell.alias).or_default();
        row.entry(fate.to_string()).or_default().push(&cell.operation);
    }
    let text = |row: BTreeMap<String, Vec<&str>>| {
        let parts: Vec<String> =
            row.iter().map(|(fate, names)| format!("{fate}: {}", names.join(", "))).collect();
        parts.join("; ")
    };
    aliases.into_iter().map(|(alias, row)| (alias, text(row))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_subject() {
        let found = tried("cell: dots read 12 0\nnoise\ncell: dots link 13 1\ncell: broken\n");
        let expect = |operation: &str| Cell { alias: "dots".into(), operation: operation.into() };
        assert_eq!(found.get(&expect("read")), Some(&Tried { pid: 12, status: 0 }));
        assert_eq!(found.get(&expect("link")), Some(&Tried { pid: 13, status: 1 }));
        assert_eq!(found.len(), 2);
        assert_eq!(changed("changed: dots link\nnoise\n"), BTreeSet::from([expect("link")]));
    }

    #[test]
    fn what_changes_nothing_did_not_work() {
        let check = |operation: &str, status, is_changed, expect| {
            let cell = Cell { alias: "dots".into(), operation: operation.into() };
            let changed = if is_changed { BTreeSet::from([cell.clone()]) } else { BTreeSet::new() };
            assert_eq!(Tried { pid: 1, status }.works(&cell, &changed), expect, "{operation}");
        };
        check("read", 0, false, true);
        check("read", 1, false, false);
        check("write", 0, true, true);
        check("write", 0, false, false);
    }

    #[test]
    fn what_does_not_work_is_known() {
        let check = |alias: &str, operation: &str, errno, release, expect| {
            let cell = Cell { alias: alias.into(), operation: operation.into() };
            assert_eq!(is_absent(&cell, errno, release), expect, "{alias} {operation}");
        };
        check("overlay-upper", "copy_file_range", 18, (7, 3), true);
        check("overlay-upper", "copy_file_range", 2, (7, 3), false);
        check("overlay-lower-in-user-namespace", "read", 1, (5, 10), true);
        check("overlay-lower-in-user-namespace", "read", 1, (6, 1), false);
        check("deep-path", "link", 2, (5, 10), false);
        check("case-folding", "read", 2, (5, 10), true);
        check("case-folding", "read", 2, (6, 1), false);
        check("io_uring-polled", "truncate", 22, (6, 1), true);
        check("io_uring-polled", "truncate", 22, (6, 12), false);
        check("may-be-read", "file_setattr", 38, (6, 12), true);
        check("may-be-read", "setflags", 38, (6, 12), false);
    }

    #[test]
    fn what_is_not_stopped_is_known() {
        let check = |alias: &str, operation: &str, fate, expect| {
            let cell = Cell { alias: alias.into(), operation: operation.into() };
            assert_eq!(is_expected(&cell, fate), expect, "{alias} {operation} {fate}");
        };
        check("dots", "read", Fate::Stopped, true);
        check("dots", "read", Fate::Recorded, false);
        check("sent-to-ring", "read", Fate::NotSeen, true);
        check("sent-to-ring", "read", Fate::Stopped, false);
        check("sent-to-ring", "read", Fate::NotApplicable(22), true);
        check("sent-to-ring", "install", Fate::NotSeen, false);
        check("content-copied", "execute-by-mapping", Fate::NotSeen, true);
        check("innocent-in-overlay-lower", "execute", Fate::NotSeen, true);
        check("innocent-in-overlay-lower", "execute", Fate::Stopped, false);
        check("content-copied", "execute", Fate::NotSeen, false);
        check("content-that-is-known", "execute-by-mapping", Fate::NotSeen, false);
    }

    #[test]
    fn rows_gather_operations() {
        let cell = |operation: &str| Cell { alias: "dots".into(), operation: operation.into() };
        let fates = BTreeMap::from([
            (cell("read"), Fate::Stopped),
            (cell("link"), Fate::NotSeen),
            (cell("write"), Fate::Stopped),
        ]);
        assert_eq!(rows(&fates)["dots"], "not seen: link; stopped: read, write");
    }
}
