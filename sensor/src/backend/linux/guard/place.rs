//! Where the marks go: every object that a rule protects, those that appear later included.

use std::{
    collections::HashMap,
    ffi::OsStr,
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt, fs::FileTypeExt},
    },
    path::PathBuf,
    sync::{
        Arc, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use nix::sys::fanotify::{Fanotify, MarkFlags, MaskFlags};
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{
        Stat,
        inotify::{self, CreateFlags, ReadFlags, WatchFlags},
    },
};
use treeline_event::{Mode, PathBytes};
use treeline_policy::{
    Host, Policy,
    glob::Component,
    policy::FileOperation,
    roots::{Shape, literal_roots},
};

use super::Protected;
use crate::backend::BackendError;

/// Objects that are looked at for one pattern, of which each may get a mark and a watch: some 1 KiB of the kernel's
/// memory. Beyond it the rule is reported as only partly enforced. It is counted for each pattern, so that a wide one
/// takes nothing from the others.
const OBJECTS_MAX: usize = 32_768;
/// Problems that are kept as text; the rest would repeat them.
const PROBLEMS_MAX: usize = 100;
/// Directory levels below a protected subtree.
const DEPTH_MAX: usize = 64;

/// Protected objects by device and inode, with the paths under which they were found.
#[derive(Default)]
pub(super) struct Identities {
    known: HashMap<(u64, u64), Identity>,
    /// Counts the searches, to tell what the latest one did not find any more.
    search: u64,
}

#[derive(Default)]
struct Identity {
    paths: Vec<PathBytes>,
    search: u64,
}

impl Identities {
    pub(super) fn paths(&self, stat: &Stat) -> &[PathBytes] {
        self.known.get(&(stat.st_dev, stat.st_ino)).map_or(&[], |identity| &identity.paths)
    }

    fn add(&mut self, stat: &Stat, path: PathBytes) {
        let identity = self.known.entry((stat.st_dev, stat.st_ino)).or_default();
        identity.search = self.search;
        if !identity.paths.contains(&path) {
            identity.paths.push(path);
        }
    }

    fn start_search(&mut self) {
        self.search += 1;
    }

    /// Forgets what the latest search did not find.
    fn end_search(&mut self) {
        self.known.retain(|_, identity| identity.search == self.search);
    }
}

/// Whether two looks saw the same object.
pub(super) fn same_object(one: &Stat, other: &Stat) -> bool {
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}

/// What is still to be matched below a directory, and which events matter there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wish {
    rest: Vec<Component>,
    mask: MaskFlags,
    /// Where it is.
    directory: PathBuf,
    /// What the rule calls it: different behind a symbolic link.
    named: PathBuf,
    /// Which pattern it came from.
    pattern: usize,
}

/// One pattern of one rule.
#[derive(Clone, Debug)]
struct Pattern {
    /// Position of the rule in the policy.
    rule: usize,
    /// Where it begins, for messages.
    directory: PathBuf,
    /// Objects that were looked at for it since the latest search.
    objects: usize,
}

/// Something that could not be protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::backend::linux) struct Problem {
    /// Position of the rule in the policy.
    pub(in crate::backend::linux) rule: usize,
    /// What, and why.
    pub(in crate::backend::linux) text: String,
}

impl Wish {
    /// The wish for an entry of this directory.
    fn below(&self, name: &[u8], rest: Vec<Component>) -> Self {
        let name = OsStr::from_bytes(name);
        let (directory, named) = (self.directory.join(name), self.named.join(name));
        Self { rest, mask: self.mask, directory, named, pattern: self.pattern }
    }
}

/// Places marks and keeps them complete.
pub(super) struct Placer {
    group: Arc<Fanotify>,
    protected: Protected,
    watches: OwnedFd,
    wishes: HashMap<i32, Vec<Wish>>,
    roots: Vec<Wish>,
    patterns: Vec<Pattern>,
    marks: usize,
    problems: Vec<Problem>,
    /// Whether everything is being looked at, and not what is new.
    searching: bool,
    /// A pattern is at its bound, perhaps only because of files that are gone again: what there is has to be counted.
    recount: bool,
}

impl Placer {
    pub(super) fn new(
        group: Arc<Fanotify>,
        protected: Protected,
        policy: &Policy,
        host: &Host,
    ) -> Result<Self, BackendError> {
        let watches = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(|error| {
            BackendError::Io { attempt: "watch directories (inotify_init)".into(), source: error.into() }
        })?;
        let (patterns, roots) = roots(policy, host);
        let (wishes, problems) = (HashMap::new(), Vec::new());
        let (searching, recount) = (false, false);
        Ok(Self {
            group,
            protected,
            watches,
            wishes,
            roots,
            patterns,
            marks: 0,
            problems,
            searching,
            recount,
        })
    }

    /// Marks everything that exists.
    pub(super) fn place_all(&mut self) {
        self.patterns.iter_mut().for_each(|pattern| pattern.objects = 0);
        self.identities().start_search();
        (self.searching, self.recount) = (true, false);
        for root in self.roots.clone() {
            self.enter(root, 0);
        }
        self.identities().end_search();
        self.searching = false;
    }

    fn identities(&self) -> MutexGuard<'_, Identities> {
        self.protected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn marks(&self) -> usize {
        self.marks
    }

    pub(super) fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Marks what appears, until stopped.
    pub(super) fn follow(&mut self, stop: &AtomicBool, wake: &OwnedFd) {
        let mut buffer = vec![std::mem::MaybeUninit::uninit(); 64 * 1024];
        while !stop.load(Ordering::Acquire) {
            let mut waiting = [PollFd::new(&self.watches, PollFlags::IN), PollFd::new(wake, PollFlags::IN)];
            if poll(&mut waiting, None).is_err() || stop.load(Ordering::Acquire) {
                continue;
            }
            let mut appeared = Vec::new();
            let mut overflow = false;
            let Ok(descriptor) = self.watches.try_clone() else { continue };
            let mut reader = inotify::Reader::new(&descriptor, &mut buffer);
            while let Ok(event) = reader.next() {
                overflow |= event.events().contains(ReadFlags::QUEUE_OVERFLOW);
                if event.events().contains(ReadFlags::IGNORED) {
                    // The directory is gone.
                    self.wishes.remove(&event.wd());
                }
                if let Some(name) = event.file_name() {
                    appeared.push((event.wd(), name.to_bytes().to_vec()));
                }
            }
            for (watch, name) in appeared {
                for wish in self.wishes.get(&watch).cloned().unwrap_or_default() {
                    self.entry(&wish, &name, 0);
                }
            }
            if overflow {
                tracing::warn!("too many new files at once: every protected place is searched again");
            }
            if overflow || self.recount {
                self.place_all();
            }
        }
    }

    /// A directory (or, when nothing is left to match, an object) that a wish has reached.
    fn enter(&mut self, wish: Wish, depth: usize) {
        if !self.is_within_bounds(wish.pattern) {
            return;
        }
        let Ok(stat) = rustix::fs::lstat(wish.directory.as_path()) else {
            self.wait_for(wish);
            return;
        };
        if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_symlink() {
            // What the link leads to is protected in its own place; the link itself cannot be opened.
            if let Ok(target) = wish.directory.canonicalize() {
                self.enter(Wish { directory: target, ..wish }, depth + 1);
            }
            return;
        }
        let is_directory = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir();
        match wish.rest.split_first() {
            None => self.mark(&wish, &stat, false),
            Some((Component::Globstar, rest)) => {
                if rest.is_empty() {
                    self.mark(&wish, &stat, is_directory);
                } else {
                    self.enter(Wish { rest: rest.to_vec(), ..wish.clone() }, depth);
                }
                if is_directory {
                    self.entries(&wish, depth);
                }
            }
            Some((component, rest)) if is_directory => {
                if rest.is_empty() && !matches!(component, Component::Literal(_)) {
                    // New entries are refused from their first open on, by the mark on their directory.
                    self.mark(&wish, &stat, true);
                }
                self.entries(&wish, depth);
            }
            Some(_) => {}
        }
    }

    /// Watches a directory for new entries and goes through those that exist.
    fn entries(&mut self, wish: &Wish, depth: usize) {
        self.watch(wish);
        if let [Component::Literal(name), ..] = wish.rest.as_slice() {
            self.entry(wish, &name.clone(), depth);
            return;
        }
        let Ok(listing) = std::fs::read_dir(&wish.directory) else { return };
        for entry in listing.flatten() {
            self.entry(wish, entry.file_name().as_bytes(), depth);
        }
    }

    /// One entry of a directory, there from the start or new.
    fn entry(&mut self, wish: &Wish, name: &[u8], depth: usize) {
        if depth >= DEPTH_MAX {
            let text = format!("{}: deeper than {DEPTH_MAX} levels below its rule", wish.directory.display());
            self.problem(wish.pattern, text);
            return;
        }
        match wish.rest.split_first() {
            Some((Component::Globstar, _)) => {
                let inner = wish.below(name, wish.rest.clone());
                // A link below a protected directory leads elsewhere: that place has its own rules.
                if std::fs::symlink_metadata(&inner.directory)
                    .is_ok_and(|found| !found.file_type().is_symlink())
                {
                    self.enter(inner, depth + 1);
                }
            }
            Some((component, rest)) if component.matches(name) => {
                self.enter(wish.below(name, rest.to_vec()), depth + 1);
            }
            _ => {}
        }
    }

    /// Watches the nearest directory that exists for what is still missing.
    fn wait_for(&mut self, wish: Wish) {
        let mut missing = Vec::new();
        let mut directory = wish.directory.as_path();
        while let (Some(parent), Some(name)) = (directory.parent(), directory.file_name()) {
            missing.push(Component::Literal(name.as_bytes().to_vec()));
            directory = parent;
            if directory.is_dir() {
                break;
            }
        }
        let mut named = wish.named.as_path();
        for _ in &missing {
            named = named.parent().unwrap_or(named);
        }
        missing.reverse();
        missing.extend(wish.rest);
        let (directory, named) = (directory.to_owned(), named.to_owned());
        self.watch(&Wish { rest: missing, mask: wish.mask, directory, named, pattern: wish.pattern });
    }

    fn watch(&mut self, wish: &Wish) {
        let flags = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        match inotify::add_watch(&self.watches, wish.directory.as_path(), flags) {
            Ok(watch) => {
                let wishes = self.wishes.entry(watch).or_default();
                if !wishes.contains(wish) {
                    wishes.push(wish.clone());
                }
            }
            Err(error) => {
                let text = format!("{}: cannot be watched for new files: {error}", wish.directory.display());
                self.problem(wish.pattern, text);
            }
        }
    }

    fn mark(&mut self, wish: &Wish, stat: &Stat, children: bool) {
        let path = wish.directory.as_path();
        if std::fs::symlink_metadata(path)
            .is_ok_and(|found| found.file_type().is_socket() || found.file_type().is_fifo())
        {
            // Their opens are not file accesses; a mark on a FIFO would block its peers.
            return;
        }
        let named = PathBytes::from(wish.named.as_os_str().as_bytes());
        self.identities().add(stat, named);
        let mut mask = wish.mask;
        if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
            mask |= MaskFlags::FAN_ONDIR;
            if children {
                mask |= MaskFlags::FAN_EVENT_ON_CHILD;
            }
        }
        let flags = MarkFlags::FAN_MARK_ADD | MarkFlags::FAN_MARK_DONT_FOLLOW;
        match self.group.mark(flags, mask, rustix::fs::CWD, Some(path)) {
            Ok(()) => self.marks += 1,
            Err(error) => {
                self.problem(wish.pattern, format!("{}: cannot be marked: {error}", path.display()));
            }
        }
    }

    /// Counts an object. Says so once when there are too many.
    fn is_within_bounds(&mut self, pattern: usize) -> bool {
        let this = &mut self.patterns[pattern];
        this.objects += 1;
        if this.objects == OBJECTS_MAX + 1 && !self.searching {
            self.recount = true;
        } else if this.objects == OBJECTS_MAX + 1 {
            let text = format!(
                "{}: more than {OBJECTS_MAX} files and directories; those beyond are not protected, so write a narrower \
                 pattern",
                this.directory.display()
            );
            self.problem(pattern, text);
        }
        self.patterns[pattern].objects <= OBJECTS_MAX
    }

    fn problem(&mut self, pattern: usize, text: String) {
        tracing::warn!("{text}");
        let problem = Problem { rule: self.patterns[pattern].rule, text };
        if self.problems.len() < PROBLEMS_MAX && !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }
}

/// The places that rules in `enforce` name, for operations that a permission event precedes.
fn roots(policy: &Policy, host: &Host) -> (Vec<Pattern>, Vec<Wish>) {
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
            let rest = match root.shape {
                Shape::Name(name) => vec![Component::Literal(name)],
                Shape::Wildcard(component) => vec![component],
                Shape::Subtree => vec![Component::Globstar],
                Shape::Deep(components) => components,
            };
            let directory = PathBuf::from(OsStr::from_bytes(&root.directory));
            let pattern = patterns.len();
            patterns.push(Pattern { rule: index, directory: directory.clone(), objects: 0 });
            wishes.push(Wish { rest, mask, named: directory.clone(), directory, pattern });
        }
    }
    (patterns, wishes)
}

#[cfg(test)]
mod tests {
    use nix::sys::fanotify::{EventFFlags, InitFlags};

    use super::*;

    fn stat(inode: u64) -> Stat {
        let mut stat = rustix::fs::stat("/").expect("there is a root");
        stat.st_ino = inode;
        stat
    }

    #[test]
    fn what_a_search_does_not_find_is_forgotten() {
        let mut identities = Identities::default();
        for (inode, path) in [(1, "/a"), (1, "/b"), (2, "/c")] {
            identities.add(&stat(inode), path.into());
        }
        identities.start_search();
        identities.add(&stat(1), "/b".into());
        assert_eq!(identities.paths(&stat(2)), ["/c".into()], "nothing is forgotten before the search ends");
        identities.end_search();
        assert_eq!(identities.paths(&stat(1)), ["/a".into(), "/b".into()]);
        assert!(identities.paths(&stat(2)).is_empty());
    }

    fn placer(pattern: &str) -> Option<Placer> {
        let flags = InitFlags::FAN_CLASS_CONTENT | InitFlags::FAN_CLOEXEC | InitFlags::FAN_UNLIMITED_MARKS;
        let group = Fanotify::init(flags, EventFFlags::O_RDONLY).ok()?;
        let text = format!(
            "version: 1\nname: t\nmode: enforce\nrules:\n  - {{id: a, kind: file, reason: r, paths: [/x]}}\n  - {{id: \
             b, kind: file, reason: r, paths: [\"{pattern}\"]}}\n"
        );
        let policy = treeline_policy::parse("t", &text).expect("well-formed");
        Some(Placer::new(Arc::new(group), Protected::default(), &policy, &Host::default()).expect("inotify"))
    }

    #[test]
    fn a_pattern_has_a_bound_of_what_there_is() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let pattern = format!("{}/**/key", scratch.path().display());
        let Some(mut placer) = placer(&pattern) else {
            eprintln!("skipped: a_pattern_has_a_bound_of_what_there_is: fanotify needs CAP_SYS_ADMIN");
            return;
        };
        std::fs::write(scratch.path().join("key"), "").expect("a file");
        placer.place_all();
        let (marks, pattern) = (placer.marks(), placer.roots.last().expect("a root").pattern);
        assert!(marks > 0 && placer.problems().is_empty());
        placer.patterns[pattern].objects = OBJECTS_MAX;
        assert!(!placer.is_within_bounds(pattern), "this one has to wait");
        assert!(placer.recount && placer.problems().is_empty(), "files that are gone are no problem");
        placer.place_all();
        assert!(placer.patterns[pattern].objects < 10 && !placer.recount);
        for name in 0..=OBJECTS_MAX {
            std::fs::write(scratch.path().join(name.to_string()), "").expect("a file");
        }
        placer.place_all();
        assert_eq!(placer.problems().len(), 1);
        assert_eq!(placer.problems()[0].rule, 1);
        assert!(placer.problems()[0].text.contains("narrower"), "{:?}", placer.problems());
    }
}
