//! Protected files that have more than one name: the kernel judges those by identity as well as by path.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fmt, fs,
    io::ErrorKind,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt},
    },
    path::Path,
};

use treeline_abi::paths::{ALIASES_MAX, AliasKey, AliasRules, RULES_PER_ALIAS_MAX};
use treeline_event::Mode;
use treeline_policy::{
    Host, Policy,
    glob::{Component, Glob},
    policy::Kind,
    roots::literal_roots,
    source::Spanned,
};

use super::mounts::MountTable;

/// Directory entries that are looked at for one pattern. What lies beyond is only protected by path.
const ENTRIES_MAX: usize = 32_768;
/// Directory levels below a pattern's literal part.
const DEPTH_MAX: usize = 64;

/// What a rule lacks that is about more files with several names, or about the same as too many others, than fit.
const TOO_MANY: &str = "there are more protected files with several names, or more rules about one, than the kernel's table holds: \
                        other names of some are not protected";

/// A search for files with several names.
struct Search<'m> {
    mounts: &'m MountTable,
    slot: u32,
    entries: usize,
    found: BTreeMap<(u32, u64), Vec<(bool, u32)>>,
    rule: (bool, u32),
    /// What the rule spares, and where homes are.
    spares: (&'m [Spanned<Glob>], &'m Host),
    /// The first thing below a pattern that could not be looked at, and why.
    unseen: Option<String>,
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
    let mut search = Search::new(mounts, slot, host);
    for (index, rule) in policy.rules.iter().enumerate() {
        if rule.allows || matches!(rule.kind, Kind::Connect { .. }) {
            continue;
        }
        search.spares = (&rule.spares.paths, host);
        // What adopts refuses what it cannot follow.
        search.rule = (rule.mode == Mode::Enforce || rule.adopts.is_some(), index as u32 + 1);
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
            let of_unseen = |what| format!("{what}; other names of what is there are not protected");
            problems.extend(search.unseen.take().map(|what| (index, of_unseen(what))));
        }
    }
    let (files, left_out) = search.finish(ALIASES_MAX as usize);
    problems.extend(left_out.into_iter().map(|index| (index, TOO_MANY.to_owned())));
    Aliases { files, problems }
}

impl<'m> Search<'m> {
    fn new(mounts: &'m MountTable, slot: u32, host: &'m Host) -> Self {
        let (found, rule, spares) = (BTreeMap::new(), (false, 0), (&[][..], host));
        Self { mounts, slot, entries: 0, found, rule, spares, unseen: None }
    }

    /// Whether the rule spares a path, and what is below it if that is asked.
    fn is_spared(&self, path: &Path, and_below: bool) -> bool {
        let (globs, host) = self.spares;
        let fits = |glob: &Glob| !and_below || glob.components.last() == Some(&Component::Globstar);
        let matches = |glob: &Glob| glob.matches(host.home_paths(), path.as_os_str().as_bytes());
        globs.iter().any(|glob| fits(&glob.value) && matches(&glob.value))
    }

    fn visit(&mut self, path: &Path, rest: &[Component], depth: usize) {
        // There may be much more of it than of what is protected.
        if self.is_spared(path, true) {
            return;
        }
        self.entries += 1;
        if self.entries > ENTRIES_MAX {
            return;
        }
        if depth > DEPTH_MAX {
            self.note_unseen(path, &format!("more than {DEPTH_MAX} levels below the pattern's beginning"));
            return;
        }
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            // Nothing has this name, or not any more; or it is a link that leads to itself.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return,
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return,
            Err(error) => return self.note_unseen(path, &error),
        };
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
        let listing = match fs::read_dir(path) {
            Ok(listing) => listing,
            Err(error) if error.kind() == ErrorKind::NotFound => return,
            Err(error) => return self.note_unseen(path, &error),
        };
        for entry in listing {
            if self.entries > ENTRIES_MAX {
                return;
            }
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => return self.note_unseen(path, &error),
            };
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
        let real = match path.canonicalize() {
            Ok(real) => real,
            Err(error) if error.kind() == ErrorKind::NotFound => return,
            Err(error) => return self.note_unseen(path, &error),
        };
        // Its other names are for other rules, or found as what they are.
        if self.is_spared(&real, false) {
            return;
        }
        let Some((device, _)) = self.mounts.locate(real.as_os_str().as_bytes()) else {
            return self.note_unseen(path, &"it is on no filesystem that is known yet");
        };
        let rules = self.found.entry((device, metadata.ino())).or_default();
        if !rules.contains(&self.rule) {
            rules.push(self.rule);
        }
    }

    fn note_unseen(&mut self, path: &Path, why: &dyn fmt::Display) {
        self.unseen.get_or_insert_with(|| format!("{}: {why}", path.display()));
    }

    /// As many files as fit into the table, those first that a rule in `enforce` is about; and the rules of this kind, by
    /// position in the policy, for which there was no room.
    fn finish(self, max: usize) -> (Vec<(AliasKey, AliasRules)>, BTreeSet<usize>) {
        let mut found: Vec<_> = self.found.into_iter().collect();
        for (_, rules) in &mut found {
            rules.sort_unstable_by_key(|(enforce, number)| (!enforce, *number));
        }
        found.sort_by_key(|(_, rules)| !rules.first().is_some_and(|(enforce, _)| *enforce));
        let (mut files, mut left_out) = (Vec::new(), BTreeSet::new());
        for (at, ((device, inode), rules)) in found.into_iter().enumerate() {
            let room = if at < max { RULES_PER_ALIAS_MAX.min(rules.len()) } else { 0 };
            let (kept, others) = rules.split_at(room);
            let refusing = others.iter().filter(|(enforce, _)| *enforce);
            left_out.extend(refusing.map(|(_, number)| *number as usize - 1));
            let mut value = AliasRules { rules: [0; RULES_PER_ALIAS_MAX] };
            for (slot, (_, number)) in value.rules.iter_mut().zip(kept) {
                *slot = *number;
            }
            if at < max {
                files.push((AliasKey { slot: self.slot, device, inode }, value));
            }
        }
        (files, left_out)
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

    #[test]
    fn what_a_rule_spares_is_not_looked_at() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let base = scratch.path().canonicalize().expect("it exists");
        fs::create_dir_all(base.join("work/deep")).expect("directories");
        for name in ["key", "work/one", "work/deep/two", "odd"] {
            fs::write(base.join(name), name).expect("a file");
        }
        for (from, to) in
            [("key", "work/key"), ("work/one", "work/other"), ("work/deep/two", "out"), ("odd", "odd2")]
        {
            fs::hard_link(base.join(from), base.join(to)).expect("a link");
        }
        let text = format!(
            "version: 1\nname: t\nmode: enforce\nrules:\n  - id: a\n    kind: file\n    paths: [\"{0}/**\"]\n    \
             except_paths: [\"{0}/work/**\", \"{0}/odd*\"]\n    reason: r\n",
            base.display()
        );
        let policy = treeline_policy::parse("t", &text).expect("well-formed");
        let mounts = MountTable::read().expect("/proc is mounted");
        let found = aliases(&policy, &Host::default(), &mounts, 1).files;
        let inode = |name: &str| fs::metadata(base.join(name)).expect("it exists").ino();
        // One name of each of these is protected.
        let mut expect = vec![inode("key"), inode("out")];
        expect.sort_unstable();
        let mut got: Vec<_> = found.iter().map(|(key, _)| key.inode).collect();
        got.sort_unstable();
        assert_eq!(got, expect);
    }

    #[test]
    fn what_is_too_deep_is_said() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let base = scratch.path().canonicalize().expect("it exists");
        let policy = |pattern: &str| {
            let text = format!(
                "version: 1\nname: t\nmode: enforce\nrules:\n  - id: a\n    kind: file\n    paths: [\"{}/{pattern}\"]\n    reason: r\n",
                base.display()
            );
            treeline_policy::parse("t", &text).expect("well-formed")
        };
        let mounts = MountTable::read().expect("/proc is mounted");
        let mut deep = base.join("keys");
        fs::create_dir(&deep).expect("a directory");
        let problems = |pattern: &str| aliases(&policy(pattern), &Host::default(), &mounts, 1).problems;
        assert_eq!(problems("keys/**"), []);
        assert_eq!(problems("none/*/x"), []);
        for _ in 0..DEPTH_MAX + 1 {
            deep.push("d");
            fs::create_dir(&deep).expect("a directory");
        }
        let found = problems("keys/**");
        assert!(matches!(&found[..], [(0, text)] if text.contains("more than 64 levels")), "{found:?}");
    }

    #[test]
    fn rules_that_refuse_come_first_and_those_without_room_are_named() {
        let mounts = MountTable::read().expect("/proc is mounted");
        let check = |found: &[(u64, &[(bool, u32)])], max, files: &[(u64, [u32; 4])], left_out: &[usize]| {
            let entry = |(inode, rules): &(u64, &[(bool, u32)])| ((1, *inode), rules.to_vec());
            let found = found.iter().map(entry).collect();
            let host = Host::default();
            let search = Search { found, ..Search::new(&mounts, 0, &host) };
            let (got, lacking) = search.finish(max);
            let got: Vec<_> = got.iter().map(|(key, value)| (key.inode, value.rules)).collect();
            assert_eq!((got.as_slice(), lacking), (files, left_out.iter().copied().collect()));
        };
        let refuses = |number| (true, number);
        let records = |number| (false, number);
        check(
            &[(1, &[records(1)]), (2, &[records(1), refuses(2)])],
            2,
            &[(2, [2, 1, 0, 0]), (1, [1, 0, 0, 0])],
            &[],
        );
        check(&[(1, &[records(1)]), (2, &[refuses(2)])], 1, &[(2, [2, 0, 0, 0])], &[]);
        check(&[(1, &[refuses(3)]), (2, &[refuses(2)])], 1, &[(1, [3, 0, 0, 0])], &[1]);
        let five: Vec<_> = (1..=5).map(refuses).collect();
        check(&[(1, &five)], 1, &[(1, [1, 2, 3, 4])], &[4]);
    }
}
