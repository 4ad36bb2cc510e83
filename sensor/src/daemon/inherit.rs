//! What a sensor that ended left in force, and what is made of it: its sessions go on.

use std::collections::BTreeMap;

use treeline_event::{ProcessKey, SessionId};

use super::{policy::LoadedPolicy, status::SessionStatus};
use crate::{backend::Inherited, enrich::procfs::ProcFs};

/// Where a session that another sensor began comes from, as far as this one knows; the log has its first entry.
const ORIGIN: &str = "resumed";

/// A session and the processes of it that live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resumed {
    /// As `status` shows it.
    pub status: SessionStatus,
    /// The processes, the root included.
    pub members: Vec<ProcessKey>,
}

/// The sessions that go on. The eldest of a session's processes counts as its root.
pub fn sessions(members: &[(SessionId, ProcessKey)], proc: &ProcFs) -> Vec<Resumed> {
    let mut by_session: BTreeMap<SessionId, Vec<ProcessKey>> = BTreeMap::new();
    for (session, key) in members {
        by_session.entry(*session).or_default().push(*key);
    }
    let resumed = |(session, members): (SessionId, Vec<ProcessKey>)| {
        let root = *members.iter().min_by_key(|key| (key.start_ticks, key.pid))?;
        let command = proc.argv(root.pid).map(|(argv, _)| argv).unwrap_or_default();
        let status = SessionStatus {
            session,
            uid: proc.ids(root.pid).unwrap_or_default().uid,
            origin: ORIGIN.to_owned(),
            command: command.iter().map(|word| word.to_string()).collect(),
            root,
            live: members.len(),
        };
        Some(Resumed { status, members })
    };
    by_session.into_iter().filter_map(resumed).collect()
}

/// The policy of the rules that are in force, if the copy that is kept is that policy.
pub fn policy<'a>(inherited: &Inherited, kept: Option<&'a LoadedPolicy>) -> Option<&'a LoadedPolicy> {
    kept.filter(|kept| mark(&kept.sha256) == Some(inherited.policy))
}

/// What the kernel's tables have of a policy, by the SHA-256 of its text in hexadecimal.
#[must_use]
pub fn mark(sha256: &str) -> Option<u64> {
    u64::from_str_radix(sha256.get(..16)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_eldest_is_the_root() {
        let key = |pid, start_ticks| ProcessKey { pid, start_ticks };
        let members = [
            (SessionId(2), key(70, 9)),
            (SessionId(1), key(90, 5)),
            (SessionId(1), key(80, 4)),
            (SessionId(1), key(10, 6)),
        ];
        let found = sessions(&members, &ProcFs::new("/nonexistent"));
        let roots: Vec<_> =
            found.iter().map(|one| (one.status.session, one.status.root, one.members.len())).collect();
        assert_eq!(roots, [(SessionId(1), key(80, 4), 3), (SessionId(2), key(70, 9), 1)]);
        assert!(sessions(&[], &ProcFs::new("/nonexistent")).is_empty());
    }

    #[test]
    fn a_copy_of_another_policy_does_not_count() {
        let text = "version: 1\nname: n\nmode: monitor\nrules: []\n";
        let kept = super::super::policy::parse(std::path::Path::new("p"), text).expect("a good policy");
        let check = |policy, expect| {
            let inherited = Inherited { generation: 1, policy, members: Vec::new() };
            assert_eq!(super::policy(&inherited, Some(&kept)).is_some(), expect, "{policy:x}");
        };
        check(mark(&kept.sha256).expect("hexadecimal"), true);
        check(0, false);
        assert_eq!(mark("00000000000000ffab"), Some(0xff));
        assert_eq!(mark("short"), None);
    }
}
