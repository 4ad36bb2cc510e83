//! Protected files that have more than one name: the kernel judges those by identity as well as by path.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt},
    },
    path::Path,
};

use treeline_abi::paths::{AliasKey, AliasRules, RULES_PER_ALIAS_MAX};
use treeline_event::Mode;
use treeline_policy::{Host, Policy, glob::Component, policy::Kind, roots::literal_roots};

use super::mounts::MountTable;

/// Directory entries that are looked at for one pattern. What lies beyond is only protected by path.
const ENTRIES_MAX: usize = 32_768;
/// Directory levels below a pattern's literal part.
const DEPTH_MAX: usize = 64;

/// A search for files with several names.
struct Search<'m> {
    mounts: &'m MountTable,
    slot: u32,
    entries: usize,
    found: BTreeMap<(u32, u64), Vec<(bool, u32)>>,
    rule: (bool, u32),
}

/// What a search found.
pub(super) struct Aliases {
    /// Files with several names, and the rules that hold for them.
    pub(super) files: Vec<(AliasKey, AliasRules)>,
    /// Rules, by position in the policy, for which not everything was looked at, and why.
    pub(super) problems: Vec<(usize, String)>,
}

/// Every protected regular file with at least two links, and the rules that hold for it.
///
/// Patterns that hold everywhere are left out: a link to such a file has a name that matches them or was made for
/// that purpose, and making one is refused.
pub(super) fn aliases(policy: &Policy, host: &Host, mounts: &MountTable, slot: u32) -> Aliases {
    let mut problems = Vec::new();
    let mut search = Search { mounts, slot, entries: 0, found: BTreeMap::new(), rule: (false, 0) };
    for (index, rule) in policy.rules.iter().enumerate() {
        if matches!(rule.kind, Kind::Connect { .. }) {
            continue;
        }
        search.rule = (rule.mode == Mode::Enforce, index as u32 + 1);
        for root in literal_roots(rule, host).into_iter().filter(|root| root.anchored) {
            let rest = root.shape.into_components();
            let directory = Path::new(OsStr::from_bytes(&root.directory));
            search.entries = 0;
            search.visit(directory, &rest, 0);
            if search.entries > ENTRIES_MAX {
                let text = format!(
                    "{}: more than {ENTRIES_MAX} files and directories; other names of those beyond are not protected",
                    directory.display()
                );
                problems.push((index, text));
            }
        }
    }
    Aliases { files: search.finish(), problems }
}

impl Search<'_> {
    fn visit(&mut self, path: &Path, rest: &[Component], depth: usize) {
        self.entries += 1;
        if self.entries > ENTRIES_MAX || depth > DEPTH_MAX {
            return;
        }
        let Ok(metadata) = fs::metadata(path) else { return };
        match rest.split_first() {
            None => self.add(path, &metadata),
            Some((Component::Globstar, after)) => {
                if after.is_empty() {
                    self.add(path, &metadata);
                } else {
                    self.visit(path, after, depth + 1);
                }
                self.below(path, &metadata, depth, |_| true, rest);
            }
            Some((Component::Literal(name), after)) if metadata.is_dir() => {
                self.visit(&path.join(OsStr::from_bytes(name)), after, depth + 1);
            }
            Some((component, after)) => {
                self.below(path, &metadata, depth, |name| component.matches(name), after);
            }
        }
    }

    fn below(
        &mut self,
        path: &Path,
        metadata: &fs::Metadata,
        depth: usize,
        wanted: impl Fn(&[u8]) -> bool,
        rest: &[Component],
    ) {
        if !metadata.is_dir() {
            return;
        }
        let Ok(listing) = fs::read_dir(path) else { return };
        for entry in listing.flatten() {
            if self.entries > ENTRIES_MAX {
                return;
            }
            let kind = entry.file_type().ok();
            let skipped = kind.is_none_or(|kind| kind.is_symlink() || kind.is_socket() || kind.is_fifo());
            if !skipped && wanted(entry.file_name().as_bytes()) {
                self.visit(&entry.path(), rest, depth + 1);
            }
        }
    }

    fn add(&mut self, path: &Path, metadata: &fs::Metadata) {
        if !metadata.is_file() || metadata.nlink() < 2 {
            return;
        }
        let Ok(real) = path.canonicalize() else { return };
        let Some((device, _)) = self.mounts.locate(real.as_os_str().as_bytes()) else { return };
        let rules = self.found.entry((device, metadata.ino())).or_default();
        if !rules.contains(&self.rule) {
            rules.push(self.rule);
        }
    }

    fn finish(self) -> Vec<(AliasKey, AliasRules)> {
        let entry = |((device, inode), mut rules): ((u32, u64), Vec<(bool, u32)>)| {
            // Those that refuse first: there is room for a few only.
            rules.sort_unstable_by_key(|(enforce, number)| (!enforce, *number));
            let mut value = AliasRules { rules: [0; RULES_PER_ALIAS_MAX] };
            for (slot, (_, number)) in value.rules.iter_mut().zip(rules) {
                *slot = number;
            }
            (AliasKey { slot: self.slot, device, inode }, value)
        };
        self.found.into_iter().map(entry).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_with_several_names_are_found() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let base = scratch.path().canonicalize().expect("it exists");
        let keys = base.join("home/.ssh");
        fs::create_dir_all(keys.join("deep")).expect("directories");
        for name in ["one", "two", "deep/three"] {
            fs::write(keys.join(name), name).expect("a file");
        }
        fs::hard_link(keys.join("two"), base.join("other")).expect("a link");
        fs::hard_link(keys.join("deep/three"), base.join("third")).expect("a link");
        let text = format!(
            "version: 1\nname: t\nmode: enforce\nrules:\n  - id: a\n    kind: file\n    paths: [\"{0}/home/.ssh/**\"]\n    \
             reason: r\n  - id: b\n    kind: file\n    mode: monitor\n    paths: [\"{0}/home/.ssh/t*\"]\n    reason: r\n",
            base.display()
        );
        let policy = treeline_policy::parse("t", &text).expect("well-formed");
        let mounts = MountTable::read().expect("/proc is mounted");
        let found = aliases(&policy, &Host::default(), &mounts, 1);
        let inode = |name: &str| fs::metadata(base.join(name)).expect("it exists").ino();
        let mut expect = vec![(inode("other"), [1, 2, 0, 0]), (inode("third"), [1, 0, 0, 0])];
        expect.sort_unstable();
        let found = found.files;
        let mut got: Vec<_> = found.iter().map(|(key, value)| (key.inode, value.rules)).collect();
        got.sort_unstable();
        assert_eq!(got, expect);
        assert!(found.iter().all(|(key, _)| key.slot == 1));
    }
}
