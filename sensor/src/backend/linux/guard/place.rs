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
        Arc, PoisonError,
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

/// Marks of one policy; each costs the kernel about 1 KiB. Beyond it a rule is reported as only partly enforced.
const MARKS_MAX: usize = 65_536;
/// Directory levels below a protected subtree.
const DEPTH_MAX: usize = 64;

/// Protected objects by device and inode, with the paths under which they were found.
#[derive(Default)]
pub(super) struct Identities(HashMap<(u64, u64), Vec<PathBytes>>);

impl Identities {
    pub(super) fn paths(&self, stat: &Stat) -> &[PathBytes] {
        self.0.get(&(stat.st_dev, stat.st_ino)).map_or(&[], Vec::as_slice)
    }

    fn add(&mut self, stat: &Stat, path: PathBytes) {
        let paths = self.0.entry((stat.st_dev, stat.st_ino)).or_default();
        if !paths.contains(&path) {
            paths.push(path);
        }
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
}

impl Wish {
    /// The wish for an entry of this directory.
    fn below(&self, name: &[u8], rest: Vec<Component>) -> Self {
        let name = OsStr::from_bytes(name);
        Self { rest, mask: self.mask, directory: self.directory.join(name), named: self.named.join(name) }
    }
}

/// Places marks and keeps them complete.
pub(super) struct Placer {
    group: Arc<Fanotify>,
    protected: Protected,
    watches: OwnedFd,
    wishes: HashMap<i32, Vec<Wish>>,
    roots: Vec<Wish>,
    marks: usize,
    problems: Vec<String>,
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
        let roots = roots(policy, host);
        Ok(Self { group, protected, watches, wishes: HashMap::new(), roots, marks: 0, problems: Vec::new() })
    }

    /// Marks everything that exists.
    pub(super) fn place_all(&mut self) {
        for root in self.roots.clone() {
            self.enter(root, 0);
        }
    }

    pub(super) fn marks(&self) -> usize {
        self.marks
    }

    pub(super) fn problems(&self) -> &[String] {
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
                self.place_all();
            }
        }
    }

    /// A directory (or, when nothing is left to match, an object) that a wish has reached.
    fn enter(&mut self, wish: Wish, depth: usize) {
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
            self.problem(format!(
                "{}: deeper than {DEPTH_MAX} levels below its rule",
                wish.directory.display()
            ));
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
        self.watch(&Wish { rest: missing, mask: wish.mask, directory, named });
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
            Err(error) => self
                .problem(format!("{}: cannot be watched for new files: {error}", wish.directory.display())),
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
        if self.marks >= MARKS_MAX {
            self.problem(format!("{}: more than {MARKS_MAX} protected objects", path.display()));
            return;
        }
        let named = PathBytes::from(wish.named.as_os_str().as_bytes());
        self.protected.lock().unwrap_or_else(PoisonError::into_inner).add(stat, named);
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
            Err(error) => self.problem(format!("{}: cannot be marked: {error}", path.display())),
        }
    }

    fn problem(&mut self, text: String) {
        tracing::warn!("{text}");
        if self.problems.len() < 100 {
            self.problems.push(text);
        }
    }
}

/// The places that rules in `enforce` name, for operations that a permission event precedes.
fn roots(policy: &Policy, host: &Host) -> Vec<Wish> {
    let mut wishes = Vec::new();
    for rule in policy.rules.iter().filter(|rule| rule.mode == Mode::Enforce) {
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
            wishes.push(Wish { rest, mask, named: directory.clone(), directory });
        }
    }
    wishes
}
