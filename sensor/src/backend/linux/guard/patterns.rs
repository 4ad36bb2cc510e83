//! What a policy's patterns ask for: where to look, for what, and for which events.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use nix::sys::fanotify::MaskFlags;
use treeline_event::{Mode, is_own_rule};
use treeline_policy::{
    Host, Policy,
    glob::{Component, Glob},
    policy::FileOperation,
    roots::{LiteralRoot, Shape, literal_roots},
};

/// What is still to be matched below a directory, and which events matter there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) rest: Vec<Component>,
    pub(super) mask: MaskFlags,
    /// Where it is.
    pub(super) directory: PathBuf,
    /// What the rule calls it: different behind a symbolic link.
    pub(super) named: PathBuf,
    /// Which pattern it came from.
    pub(super) pattern: usize,
}

/// One pattern of one rule.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    /// Position of the rule in the policy.
    pub(super) rule: usize,
    /// Where it begins, for messages.
    pub(super) directory: PathBuf,
    /// Trees that the rule spares, and where homes are.
    spared: Vec<Glob>,
    homes: Vec<Vec<u8>>,
    /// Objects that were looked at for it since the latest search.
    pub(super) objects: usize,
}

impl Pattern {
    /// Whether the rule spares a directory and all that is below it.
    pub(super) fn spares(&self, directory: &Path) -> bool {
        let path = directory.as_os_str().as_bytes();
        self.spared.iter().any(|glob| glob.matches(self.homes.iter().map(Vec::as_slice), path))
    }
}

impl Wish {
    /// The wish for an entry of this directory.
    pub(super) fn below(&self, name: &[u8], rest: Vec<Component>) -> Self {
        let name = OsStr::from_bytes(name);
        let (directory, named) = (self.directory.join(name), self.named.join(name));
        Self { rest, mask: self.mask, directory, named, pattern: self.pattern }
    }
}

/// What of the sensor's own files gets no mark: PID 1 opens units, and every program what the loader preloads. If this
/// process stood still, PID 1 would wait for it, who alone could start it again.
const UNMARKED: [&str; 5] =
    ["/etc/systemd", "/run/systemd", "/usr/lib/systemd", "/usr/local/lib/systemd", "/etc/ld.so.preload"];

fn is_unmarked(rule: &str, root: &LiteralRoot) -> bool {
    let directory = Path::new(OsStr::from_bytes(&root.directory));
    let path = match &root.shape {
        Shape::Name(name) => directory.join(OsStr::from_bytes(name)),
        _ => directory.to_owned(),
    };
    is_own_rule(rule) && UNMARKED.iter().any(|place| path.starts_with(place))
}

/// The places that rules in `enforce` name, for operations that a permission event precedes.
pub(super) fn roots(policy: &Policy, host: &Host) -> (Vec<Pattern>, Vec<Wish>) {
    let (mut patterns, mut wishes) = (Vec::new(), Vec::new());
    let enforced = policy.rules.iter().enumerate().filter(|(_, rule)| rule.mode == Mode::Enforce);
    for (index, rule) in enforced {
        let mask = match &rule.kind {
            treeline_policy::policy::Kind::File { operations, .. }
                if operations.contains(FileOperation::Read) || operations.contains(FileOperation::Write) =>
            {
                MaskFlags::FAN_OPEN_PERM
            }
            treeline_policy::policy::Kind::Exec { .. } => MaskFlags::FAN_OPEN_EXEC_PERM,
            _ => continue,
        };
        for root in literal_roots(rule, host).into_iter().filter(|root| root.anchored) {
            if is_unmarked(&rule.id, &root) {
                continue;
            }
            let rest = root.shape.into_components();
            let directory = PathBuf::from(OsStr::from_bytes(&root.directory));
            let pattern = patterns.len();
            let spared = rule.spares.paths.iter().map(|glob| glob.value.clone());
            let spared = spared.filter(|glob| glob.components.last() == Some(&Component::Globstar)).collect();
            let homes = host.home_paths().map(<[u8]>::to_vec).collect();
            patterns.push(Pattern { rule: index, directory: directory.clone(), spared, homes, objects: 0 });
            wishes.push(Wish { rest, mask, named: directory.clone(), directory, pattern });
        }
    }
    (patterns, wishes)
}

#[cfg(test)]
mod tests {
    use treeline_event::{LOCKS_RULE, SELF_RULE};

    use super::*;

    #[test]
    fn what_pid_1_opens_has_no_mark() {
        let check = |id: &str, path: &str, expect: usize| {
            let text = format!(
                "version: 1\nname: t\nmode: enforce\nrules:\n  - {{id: a, kind: file, reason: r, paths: [\"{path}\"]}}\n"
            );
            let mut policy = treeline_policy::parse("t", &text).expect("well-formed");
            policy.rules[0].id = id.to_owned();
            assert_eq!(roots(&policy, &Host::default()).1.len(), expect, "{id} {path}");
        };
        check(SELF_RULE, "/etc/systemd/system/treeline.service", 0);
        check(SELF_RULE, "/run/systemd/system/treeline.service.d/**", 0);
        check(SELF_RULE, "/etc/ld.so.preload", 0);
        check(SELF_RULE, "/etc/treeline/policy.yaml", 1);
        check(LOCKS_RULE, "/var/lib/treeline/lock", 1);
        check("units", "/etc/systemd/system/**", 1);
    }
}
