//! The rules by which the sensor's own files are protected, whatever the policy says: they are added to every policy.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use treeline_event::{LOCKS_RULE, SELF_RULE};
use treeline_policy::{
    Policy,
    glob::{Anchor, Component, Glob},
    lint::Silences,
    policy::{About, FileOperation, Kind, Level, Mode, OWN_PRIORITY, Operations, Rule, Severity, Spared},
    source::{Span, Spanned},
};

/// What agents may do with the sensor's files is read them.
const OPERATIONS: [FileOperation; 5] = [
    FileOperation::Write,
    FileOperation::Create,
    FileOperation::Delete,
    FileOperation::Rename,
    FileOperation::Link,
];

/// As many as the kernel follows (`MAXSYMLINKS`).
const LINKS_MAX: usize = 40;

/// The sensor's files.
#[derive(Clone, Debug, Default)]
pub struct OwnFiles {
    /// Directories that are its own, with all that is in them.
    pub directories: Vec<PathBuf>,
    /// Single files.
    pub files: Vec<PathBuf>,
    /// Files that it locks, which nobody else needs to read: flock(2) asks for no more, and whoever has the lock when this
    /// sensor ends keeps the next one from starting.
    pub locks: Vec<PathBuf>,
}

impl OwnFiles {
    /// Adds the rules, in their places.
    pub fn protect(&self, policy: &mut Policy) {
        let directories = self.directories.iter().filter_map(|path| glob(path, true));
        let files = self.files.iter().chain(&self.locks).filter_map(|path| glob(path, false));
        let all = self.directories.iter().chain(&self.files).chain(&self.locks);
        // Who puts another link in the place of one has the sensor read what it likes.
        let links: BTreeSet<PathBuf> = all.flat_map(|path| links(path)).collect();
        let links = links.iter().filter_map(|path| literal(path, false));
        add(policy, SELF_RULE, directories.chain(files).chain(links).collect(), &OPERATIONS);
        let locks = self.locks.iter().filter_map(|path| glob(path, false));
        add(policy, LOCKS_RULE, locks.collect(), &[FileOperation::Read]);
    }
}

fn add(policy: &mut Policy, id: &str, paths: Vec<Spanned<Glob>>, operations: &[FileOperation]) {
    if paths.is_empty() || policy.rule(id).is_some() {
        return;
    }
    let kind = Kind::File { paths, operations: operations.iter().copied().collect::<Operations>() };
    policy.add(Rule {
        id: id.to_owned(),
        mode: Mode::Enforce,
        adopts: None,
        allows: false,
        priority: OWN_PRIORITY,
        severity: Severity::High,
        reason: "the sensor protects itself".to_owned(),
        about: About::default(),
        level: Level::default(),
        policy: policy.name.as_str().into(),
        loosened_by: Vec::new(),
        expires: None,
        silences: Silences::default(),
        kind,
        spares: Spared::default(),
        exceptions: Vec::new(),
        only: Vec::new(),
        span: Span::default(),
    });
}

/// A file's own path as a pattern, without meaning to its characters; nothing for the root.
fn glob(path: &Path, with_content: bool) -> Option<Spanned<Glob>> {
    // Links are followed: rules are about files' own paths. What will be made later stands below a directory that is there.
    let there = path.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)));
    let (above, own) = there?;
    literal(&own.join(path.strip_prefix(above).ok()?), with_content)
}

/// A path as a pattern, as it is written.
fn literal(path: &Path, with_content: bool) -> Option<Spanned<Glob>> {
    use std::os::unix::ffi::OsStrExt as _;
    let names = path.components().filter_map(|part| match part {
        std::path::Component::Normal(name) => Some(Component::Literal(name.as_bytes().to_vec())),
        _ => None,
    });
    let mut components: Vec<_> = names.collect();
    if components.is_empty() {
        return None;
    }
    if with_content {
        components.push(Component::Globstar);
    }
    Some(Spanned { value: Glob { anchor: Anchor::Root, components }, span: Span::default() })
}

/// The symbolic links that a path leads through, by their own paths.
fn links(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut next = std::path::absolute(path).ok();
    while let Some(path) = next.take()
        && found.len() < LINKS_MAX
    {
        let mut at = PathBuf::from("/");
        let mut parts = path.components();
        while let Some(part) = parts.next() {
            match part {
                std::path::Component::ParentDir => _ = at.pop(),
                std::path::Component::Normal(name) => at.push(name),
                _ => {}
            }
            if let Ok(target) = std::fs::read_link(&at) {
                next = at.parent().map(|parent| parent.join(target).join(parts.as_path()));
                found.push(at);
                break;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_on_the_way_are_its_own_too() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().canonicalize().expect("it is there");
        let at = |path: &str| root.join(path);
        std::fs::create_dir(at("v2")).expect("a directory");
        std::fs::write(at("v2/p.yaml"), "").expect("a file");
        let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, at(name)).expect("a link");
        link("v2", "current");
        link("current/p.yaml", "policy.yaml");
        link("round", "round");
        let check = |path: &str, expect: &[&str]| {
            let expect: Vec<PathBuf> = expect.iter().map(|path| at(path)).collect();
            assert_eq!(links(&at(path)), expect, "{path}");
        };
        check("v2/p.yaml", &[]);
        check("current/p.yaml", &["current"]);
        check("v2/../policy.yaml", &["policy.yaml", "current"]);
        check("missing/p.yaml", &[]);
        assert_eq!(links(&at("round")).len(), LINKS_MAX);
        let mut policy = treeline_policy::parse("test", TEXT).expect("a good policy");
        OwnFiles { files: vec![at("policy.yaml")], ..OwnFiles::default() }.protect(&mut policy);
        let rule = policy.rule(SELF_RULE).expect("found by its id");
        let globs: BTreeSet<String> = rule.kind.globs().iter().map(|glob| glob.value.to_string()).collect();
        let expect = ["policy.yaml", "current", "v2/p.yaml"].map(|path| at(path).display().to_string());
        assert_eq!(globs, BTreeSet::from(expect));
    }

    const TEXT: &str = "\
version: 1
name: test
mode: monitor
rules:
  - {id: zoo, kind: file, paths: [/zoo/**], reason: x}
  - {id: ant, kind: file, paths: [/ant/**], reason: x}
";

    #[test]
    fn the_rule_is_in_its_place_once() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let own = OwnFiles {
            directories: vec![dir.path().into()],
            files: vec![dir.path().join("socket*")],
            locks: vec![dir.path().join("lock")],
        };
        let mut policy = treeline_policy::parse("test", TEXT).expect("a good policy");
        own.protect(&mut policy);
        own.protect(&mut policy);
        let ids: Vec<_> = policy.rules.iter().map(|rule| rule.id.as_str()).collect();
        assert_eq!(ids, [SELF_RULE, LOCKS_RULE, "ant", "zoo"]);
        let rule = policy.rule(SELF_RULE).expect("found by its id");
        assert_eq!(rule.mode, Mode::Enforce);
        let matches =
            |path: &str| rule.kind.globs().iter().any(|glob| glob.value.matches([], path.as_bytes()));
        let path = dir.path().canonicalize().expect("it is there");
        let path = path.to_str().expect("UTF-8");
        assert!(matches(&format!("{path}/a/b")) && matches(path));
        assert!(!matches("/tmp") && !matches("/"));
        let Kind::File { operations, .. } = &policy.rule(LOCKS_RULE).expect("found by its id").kind else {
            panic!("it is about files");
        };
        assert!(operations.contains(FileOperation::Read), "who reads can lock");
    }

    #[test]
    fn nothing_to_protect_makes_no_rule() {
        let mut policy = treeline_policy::parse("test", TEXT).expect("a good policy");
        OwnFiles { directories: vec!["/".into()], ..OwnFiles::default() }.protect(&mut policy);
        assert_eq!(policy.rules.len(), 2);
    }
}
