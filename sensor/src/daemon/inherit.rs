//! What a sensor that ended left in force, and what is made of it: its sessions go on.

use std::collections::{BTreeMap, BTreeSet};

use treeline_event::{ProcessKey, SessionId};
use treeline_policy::Moment;

use super::{policy::set::LoadedPolicy, status::SessionStatus};
use crate::{
    backend::{Inherited, policy_mark},
    enrich::procfs::ProcFs,
};

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

/// The policy of the rules that are in force, if the copy that is kept is that policy. Rules may have ended since, whose
/// places the kernel's records still count.
pub fn policy(inherited: &Inherited, kept: Option<&LoadedPolicy>) -> Option<LoadedPolicy> {
    let kept = kept?;
    let ends = kept.policy.rules.iter().filter_map(|rule| Some(rule.expires.as_ref()?.value));
    let ends: BTreeSet<Moment> = ends.chain([Moment(0)]).collect();
    let in_force = ends.into_iter().map(|moment| kept.at(moment));
    in_force.into_iter().find(|kept| policy_mark(&kept.sha256, &kept.policy) == inherited.policy)
}

#[cfg(test)]
mod tests {
    use treeline_policy::{Alone, policy::Level};

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
        let rule =
            |id: &str, more: &str| format!("  - {{id: {id}, kind: file, paths: [/x], reason: r{more}}}\n");
        let rules = [rule("a", ", expires: 2027-03-01"), rule("b", ""), rule("c", ", expires: 2027-04-01")];
        let text = format!("version: 1\nname: n\nrules:\n{}", rules.concat());
        let file = super::super::policy::check(std::path::Path::new("p"), &text, Alone);
        let file = (Level::Organisation, "p".into(), file.expect("a good policy"));
        let kept = LoadedPolicy::of(vec![file]).expect("one holds");
        let check = |policy, expect: Option<usize>| {
            let inherited = Inherited { generation: 1, policy, members: Vec::new() };
            let found = super::policy(&inherited, Some(&kept)).map(|found| found.policy.rules.len());
            assert_eq!(found, expect, "{policy:x}");
        };
        let at = |text: &str| policy_mark(&kept.sha256, &kept.at(text.parse().expect("a moment")).policy);
        check(at("2027-02-01"), Some(3));
        check(at("2027-03-01"), Some(2));
        check(at("2027-05-01"), Some(1));
        check(policy_mark("another", &kept.policy), None);
        check(0, None);
    }
}
