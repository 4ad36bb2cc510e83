//! Where the marks go: every object that a rule protects, those that appear later included.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsStr,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::FileTypeExt},
    },
    path::Path,
    sync::{
        Arc, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use crossbeam_channel::{Receiver, Sender};

use nix::sys::fanotify::{Fanotify, MarkFlags, MaskFlags};
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{
        FileType,
        inotify::{self, CreateFlags, ReadFlags, WatchFlags},
    },
};
use treeline_event::{Mode, PathBytes};
use treeline_policy::{
    Host, Object as Asked, Policy, eval::rule_matches, glob::Component, policy::FileOperation,
};

use super::{
    Protected,
    identities::{Identities, Missing, Object, marked_inodes},
    patterns::{Pattern, Wish, roots},
};
use crate::backend::BackendError;

/// Objects that are looked at for one pattern, of which each may get a mark and a watch: some 1 KiB of the kernel's
/// memory. Beyond it the rule is reported as only partly enforced. It is counted for each pattern, so that a wide one
/// takes nothing from the others.
const OBJECTS_MAX: usize = 32_768;
/// Problems that are kept as text; the rest would repeat them.
const PROBLEMS_MAX: usize = 100;
/// Directory levels below a protected subtree.
const DEPTH_MAX: usize = 64;

/// Something that could not be protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::backend::linux) struct Problem {
    /// Position of the rule in the policy.
    pub(in crate::backend::linux) rule: usize,
    /// What, and why.
    pub(in crate::backend::linux) text: String,
}

/// An order to protect what a policy names, and nothing else.
pub(super) struct Search {
    pub(super) policy: Arc<Policy>,
    pub(super) host: Host,
    pub(super) reply: Sender<Placed>,
}

/// What a search for everything came to.
pub(in crate::backend::linux) struct Placed {
    /// How many objects carry a mark for the policy.
    pub(in crate::backend::linux) marks: usize,
    /// What could not be protected.
    pub(in crate::backend::linux) problems: Vec<Problem>,
}

/// Places marks and keeps them complete.
pub(super) struct Placer {
    group: Arc<Fanotify>,
    protected: Protected,
    watches: OwnedFd,
    wishes: HashMap<i32, Vec<Wish>>,
    policy: Option<(Arc<Policy>, Host)>,
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
    pub(super) fn new(group: Arc<Fanotify>, protected: Protected) -> Result<Self, BackendError> {
        let watches = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(|error| {
            BackendError::Io { attempt: "watch directories (inotify_init)".into(), source: error.into() }
        })?;
        Ok(Self {
            group,
            protected,
            watches,
            wishes: HashMap::new(),
            policy: None,
            roots: Vec::new(),
            patterns: Vec::new(),
            marks: 0,
            problems: Vec::new(),
            searching: false,
            recount: false,
        })
    }

    /// Does what is ordered and marks what appears, until stopped.
    pub(super) fn serve(&mut self, orders: &Receiver<Search>, stop: &AtomicBool, wake: &OwnedFd) {
        let mut buffer = vec![std::mem::MaybeUninit::uninit(); 64 * 1024];
        while !stop.load(Ordering::Acquire) {
            let mut waiting = [PollFd::new(&self.watches, PollFlags::IN), PollFd::new(wake, PollFlags::IN)];
            if poll(&mut waiting, None).is_err() {
                continue;
            }
            // Whoever writes to it has ordered before, so an order that comes later wakes the next round.
            let _ = rustix::io::read(wake, &mut [0u8; 8]);
            for Search { policy, host, reply } in orders.try_iter() {
                let _ = reply.send(self.place(policy, host));
            }
            self.follow(&mut buffer);
        }
    }

    /// Marks everything that a policy names and that exists.
    fn place(&mut self, policy: Arc<Policy>, host: Host) -> Placed {
        (self.patterns, self.roots) = roots(&policy, &host);
        self.policy = Some((policy, host));
        let before: HashSet<i32> = std::mem::take(&mut self.wishes).into_keys().collect();
        self.place_all();
        for watch in before {
            if !self.wishes.contains_key(&watch) {
                // It may be gone already, with its directory.
                let _ = inotify::remove_watch(&self.watches, watch);
            }
        }
        Placed { marks: self.marks, problems: self.problems.clone() }
    }

    /// Marks what is there, again where it was before.
    fn place_all(&mut self) {
        self.patterns.iter_mut().for_each(|pattern| pattern.objects = 0);
        self.problems.clear();
        self.identities().start_search();
        (self.marks, self.searching, self.recount) = (0, true, false);
        for root in self.roots.clone() {
            self.enter(root, 0);
        }
        self.searching = false;
        self.sort_out_the_rest();
    }

    /// Goes through what the latest search did not find. An object that was moved away stays protected; one that the
    /// policy does not name any more, or that is gone, does not.
    fn sort_out_the_rest(&self) {
        let missing = self.identities().not_found();
        if missing.is_empty() {
            return;
        }
        let alive = marked_inodes(self.group.as_fd());
        for Missing { key, paths, is_listed } in missing {
            let is_gone = is_listed && alive.as_ref().is_some_and(|alive| !alive.contains(&key.1));
            if is_gone || (!paths.iter().any(|path| self.is_named(path)) && self.unmark(key, &paths)) {
                self.identities().forget(key);
            }
        }
    }

    /// Whether a rule in `enforce` names a path.
    fn is_named(&self, path: &PathBytes) -> bool {
        let Some((policy, host)) = &self.policy else { return false };
        let path = path.as_bytes().to_vec();
        let operations = [FileOperation::Read, FileOperation::Write];
        let mut asked = operations.map(|operation| Asked::File { path: path.clone(), operation }).to_vec();
        asked.push(Asked::Exec { path, sha256: None });
        let mut enforced = policy.rules.iter().filter(|rule| rule.mode == Mode::Enforce);
        enforced.any(|rule| asked.iter().any(|object| rule_matches(rule, host, object)))
    }

    /// Takes the mark from an object that is still where it was found.
    fn unmark(&self, key: (u64, u64), paths: &[PathBytes]) -> bool {
        let everything = MaskFlags::FAN_OPEN_PERM | MaskFlags::FAN_OPEN_EXEC_PERM;
        let flags = MarkFlags::FAN_MARK_REMOVE | MarkFlags::FAN_MARK_DONT_FOLLOW;
        paths.iter().any(|path| {
            let path = Path::new(OsStr::from_bytes(path.as_bytes()));
            let Ok(found) = Object::at(path) else { return false };
            if (found.stat.st_dev, found.stat.st_ino) != key {
                return false;
            }
            let mut mask = everything;
            if FileType::from_raw_mode(found.stat.st_mode).is_dir() {
                mask |= MaskFlags::FAN_ONDIR | MaskFlags::FAN_EVENT_ON_CHILD;
            }
            self.group.mark(flags, mask, rustix::fs::CWD, Some(path)).is_ok()
        })
    }

    fn identities(&self) -> MutexGuard<'_, Identities> {
        self.protected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks what has appeared.
    fn follow(&mut self, buffer: &mut [std::mem::MaybeUninit<u8>]) {
        let mut appeared = Vec::new();
        let mut overflow = false;
        let Ok(descriptor) = self.watches.try_clone() else { return };
        let mut reader = inotify::Reader::new(&descriptor, buffer);
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

    /// A directory (or, when nothing is left to match, an object) that a wish has reached.
    fn enter(&mut self, wish: Wish, depth: usize) {
        // It may be much more than what is protected.
        if self.patterns[wish.pattern].spares(&wish.directory) || !self.is_within_bounds(wish.pattern) {
            return;
        }
        let Ok(object) = Object::at(wish.directory.as_path()) else {
            self.wait_for(wish);
            return;
        };
        let kind = FileType::from_raw_mode(object.stat.st_mode);
        if kind.is_symlink() {
            // What the link leads to is protected in its own place; the link itself cannot be opened.
            if let Ok(target) = wish.directory.canonicalize() {
                self.enter(Wish { directory: target, ..wish }, depth + 1);
            }
            return;
        }
        let is_directory = kind.is_dir();
        match wish.rest.split_first() {
            None => self.mark(&wish, &object, false),
            Some((Component::Globstar, rest)) => {
                if rest.is_empty() {
                    self.mark(&wish, &object, is_directory);
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
                    self.mark(&wish, &object, true);
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

    fn mark(&mut self, wish: &Wish, object: &Object, children: bool) {
        let path = wish.directory.as_path();
        if std::fs::symlink_metadata(path)
            .is_ok_and(|found| found.file_type().is_socket() || found.file_type().is_fifo())
        {
            // Their opens are not file accesses; a mark on a FIFO would block its peers.
            return;
        }
        let named = PathBytes::from(wish.named.as_os_str().as_bytes());
        self.identities().add(object, named);
        let mut mask = wish.mask;
        if FileType::from_raw_mode(object.stat.st_mode).is_dir() {
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use nix::sys::fanotify::{EventFFlags, InitFlags};

    use super::*;
    use crate::backend::linux::guard::{answer::Answering, event_fd};

    /// With somebody who lets every access through: the placer itself opens what it has marked.
    fn with_placer(test: &str, body: impl FnOnce(Placer)) {
        let flags = InitFlags::FAN_CLASS_CONTENT
            | InitFlags::FAN_CLOEXEC
            | InitFlags::FAN_NONBLOCK
            | InitFlags::FAN_UNLIMITED_MARKS;
        let Ok(group) = Fanotify::init(flags, EventFFlags::O_RDONLY) else {
            eprintln!("skipped: {test}: fanotify needs CAP_SYS_ADMIN");
            return;
        };
        let group = Arc::new(group);
        let (denials, _collected) = crossbeam_channel::bounded(1);
        let (stop, wake) = (AtomicBool::new(false), event_fd().expect("an eventfd"));
        let notify = Arc::new(event_fd().expect("an eventfd"));
        let mut answering = Answering::new(Arc::clone(&group), denials, Arc::default(), notify);
        let placer = Placer::new(group, Protected::default()).expect("inotify");
        std::thread::scope(|scope| {
            scope.spawn(|| answering.serve(&Mutex::new(None), &stop, &wake));
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(placer)));
            stop.store(true, Ordering::Release);
            rustix::io::write(&wake, &1u64.to_ne_bytes()).expect("it wakes the thread");
            outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
    }

    fn policy(pattern: &str) -> Arc<Policy> {
        let text = format!(
            "version: 1\nname: t\nmode: enforce\nrules:\n  - {{id: a, kind: file, reason: r, paths: [/x]}}\n  - {{id: b, \
             kind: file, reason: r, paths: [\"{pattern}\"]}}\n"
        );
        Arc::new(treeline_policy::parse("t", &text).expect("well-formed"))
    }

    #[test]
    fn a_pattern_has_a_bound_of_what_there_is() {
        with_placer("a_pattern_has_a_bound_of_what_there_is", bound_of_what_there_is);
    }

    fn bound_of_what_there_is(mut placer: Placer) {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        std::fs::write(scratch.path().join("key"), "").expect("a file");
        let policy = policy(&format!("{}/**/key", scratch.path().display()));
        let placed = placer.place(Arc::clone(&policy), Host::default());
        assert!(placed.marks > 0 && placed.problems.is_empty());
        let pattern = placer.roots.last().expect("a root").pattern;
        placer.patterns[pattern].objects = OBJECTS_MAX;
        assert!(!placer.is_within_bounds(pattern), "this one has to wait");
        assert!(placer.recount && placer.problems.is_empty(), "files that are gone are no problem");
        placer.place_all();
        assert!(placer.patterns[pattern].objects < 10 && !placer.recount);
        for name in 0..=OBJECTS_MAX {
            std::fs::write(scratch.path().join(name.to_string()), "").expect("a file");
        }
        let placed = placer.place(policy, Host::default());
        assert_eq!(placed.problems.len(), 1);
        assert_eq!(placed.problems[0].rule, 1);
        assert!(placed.problems[0].text.contains("narrower"), "{:?}", placed.problems);
    }

    #[test]
    fn what_was_moved_away_stays_known_until_it_is_gone_or_named_no_more() {
        with_placer(
            "what_was_moved_away_stays_known_until_it_is_gone_or_named_no_more",
            moved_away_and_named_no_more,
        );
    }

    fn moved_away_and_named_no_more(mut placer: Placer) {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let path = |name: &str| scratch.path().join(name);
        std::fs::create_dir(path("keys")).expect("a directory");
        for name in ["keys/one", "keys/two"] {
            std::fs::write(path(name), "").expect("a file");
        }
        let keys = policy(&format!("{}/keys/**", scratch.path().display()));
        let place = |placer: &mut Placer, policy: &Arc<Policy>| {
            placer.place(Arc::clone(policy), Host::default()).marks
        };
        let known = |placer: &Placer, name: &str| {
            let object = Object::at(path(name).as_path()).expect("it exists");
            !placer.identities().paths(&object).is_empty()
        };
        let marked = |placer: &Placer| marked_inodes(placer.group.as_fd()).expect("fdinfo").len();
        assert_eq!(place(&mut placer, &keys), 3);
        std::fs::rename(path("keys/one"), path("moved")).expect("the same file system");
        std::fs::remove_file(path("keys/two")).expect("a file");
        assert_eq!(place(&mut placer, &keys), 1);
        assert!(known(&placer, "moved") && known(&placer, "keys"));
        assert_eq!(placer.identities().not_found().len(), 1, "what is gone is forgotten");
        assert_eq!(marked(&placer), 2);
        let other = policy(&format!("{}/other/**", scratch.path().display()));
        place(&mut placer, &other);
        assert!(!known(&placer, "keys"), "nobody asks for it any more");
        assert!(known(&placer, "moved"), "its mark cannot be taken away; whoever opens it is let through");
        place(&mut placer, &keys);
        assert!(known(&placer, "moved"));
    }
}
