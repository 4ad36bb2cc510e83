//! What a recorded action asks of a policy: what the hooks asked when it happened.

use std::net::IpAddr;

use serde::Serialize;
use treeline_event::{
    Action, AttachMode, Destination, Digest, FileId, FileRef, Image, Mode, Outcome, PathBytes, Process,
    ProcessKey, RuleHit, SessionId, Verdict,
};

use super::{Who, contents::Contents};
use crate::{
    glob::split,
    host::normal,
    policy::FileOperation,
    request::{Object, Request},
};

/// Names that a path may have at most to be judged: the root takes the last round of the kernel's walk.
const NAMES_MAX: usize = treeline_abi::paths::DEPTH_MAX - 1;

/// Type bits of a mode, and two of the types.
const TYPE: u32 = 0o170_000;
const DIRECTORY: u32 = 0o040_000;
const SYMLINK: u32 = 0o120_000;

/// Why the log does not tell for certain what a policy says of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Doubt {
    /// The path is the one that the caller named. The file's own may be another.
    AsNamed,
    /// The path could not be resolved, or is too deep to be judged.
    Unresolved,
    /// A directory or a link got another name, a link was made, or something was mounted: that is also judged by what
    /// lies below.
    Above,
    /// No entry says what the file that was executed holds.
    Content,
}

impl Doubt {
    /// Each of them.
    pub const ALL: [Self; 4] = [Self::AsNamed, Self::Unresolved, Self::Above, Self::Content];
}

/// One object that a policy is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The object.
    pub object: Object,
    /// What is not certain about it.
    pub doubts: Vec<Doubt>,
    /// The file whose content it is asked by, where that was not known when the entry was written.
    pub(super) pending: Option<FileId>,
}

/// What was decided when it happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Then {
    /// What.
    pub verdict: Verdict,
    /// By which rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// In which mode that rule was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// The rule refused it, and somebody had approved of it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub approved: bool,
}

impl Then {
    pub(super) fn of(verdict: Verdict, rule: Option<&RuleHit>) -> Self {
        Self {
            verdict,
            rule: rule.map(|hit| hit.rule.clone()),
            mode: rule.map(|hit| hit.mode),
            approved: rule.is_some_and(|hit| hit.approved),
        }
    }
}

/// A recorded action, as questions to a policy.
#[derive(Clone, Debug)]
pub struct Past {
    /// Index of its entry.
    pub index: u64,
    /// When, milliseconds since the epoch.
    pub time_ms: u64,
    /// In which session.
    pub session: Option<SessionId>,
    /// The process.
    pub process: ProcessKey,
    /// Who it was.
    pub who: Who,
    /// What is asked; nothing for what no rule can be about.
    pub asked: Vec<Asked>,
    /// How many actions the entry stands for, at least 1.
    pub times: u64,
    /// What was decided.
    pub then: Then,
    /// It failed, and not by a rule: there was nothing to refuse.
    pub failed: bool,
}

impl Asked {
    /// Takes what the file turned out to hold.
    fn learn(&mut self, digest: Digest) {
        self.pending = None;
        if let (Object::Exec { sha256, .. }, Digest::Sha256(found)) = (&mut self.object, digest) {
            *sha256 = Some(found);
            self.doubts.retain(|doubt| *doubt != Doubt::Content);
        }
    }
}

impl Past {
    /// The file whose content a later entry may say.
    #[must_use]
    pub fn pending(&self) -> Option<FileId> {
        self.asked.iter().find_map(|asked| asked.pending)
    }

    /// Takes what a file turned out to hold, or that nobody can say.
    pub fn learn(&mut self, image: &Image) {
        let of_file = self.asked.iter_mut().filter(|asked| asked.pending == Some(image.file));
        of_file.for_each(|asked| asked.learn(image.digest));
    }

    /// The questions. `contents` is what is known now.
    pub(super) fn requests(&self, contents: &Contents) -> Vec<Request> {
        let subject = self.who.subject(contents);
        let request = |asked: &Asked| Request { subject: subject.clone(), object: asked.object.clone() };
        self.asked.iter().map(request).collect()
    }
}

/// Collects the objects of an action.
struct Asking<'c> {
    asked: Vec<Asked>,
    contents: &'c Contents,
}

/// What an action asks about. `judged` are files whose execution has an entry of its own.
pub(super) fn asked(
    process: &Process,
    action: &Action,
    attached: Option<AttachMode>,
    judged: &[PathBytes],
    contents: &Contents,
) -> Vec<Asked> {
    let mut asking = Asking { asked: Vec::new(), contents };
    match action {
        Action::Exec => {
            let program = &process.program;
            let images = program.script.iter().chain([&program.image]);
            images.filter(|image| !judged.contains(&image.path)).for_each(|image| asking.image(image));
        }
        Action::ExecDenied { file } | Action::Map { file, .. } => asking.executed(file),
        Action::Open { file, flags, .. } | Action::Receive { file, flags, .. } => {
            let ways = [(flags.reads(), FileOperation::Read), (flags.writes(), FileOperation::Write)];
            for (_, operation) in ways.into_iter().filter(|(is_asked, _)| *is_asked) {
                asking.file(file, operation, false);
            }
        }
        Action::Connect { to, .. } => asking.destination(to, attached),
        Action::Trace { .. } => asking.push(Object::Trace, Vec::new()),
        // Whatever changes what is found at the place.
        Action::Mount { at, .. } => {
            let changes = FileOperation::WORDS.into_iter().map(|(_, operation)| operation);
            for operation in changes.filter(|operation| *operation != FileOperation::Read) {
                asking.file(at, operation, true);
            }
        }
        action => {
            let (files, operation) = names(action).unwrap_or((Vec::new(), FileOperation::Read));
            let above = is_above(action);
            files.into_iter().for_each(|file| asking.file(file, operation, above));
        }
    }
    asking.asked
}

/// The files that an operation on names is about, and which operation it is; nothing for other actions.
#[must_use]
pub fn names(action: &Action) -> Option<(Vec<&FileRef>, FileOperation)> {
    Some(match action {
        Action::Create { file, .. } => (vec![file], FileOperation::Create),
        Action::Delete { file, .. } => (vec![file], FileOperation::Delete),
        Action::Modify { file, .. } => (vec![file], FileOperation::Write),
        Action::Rename { from, to, .. } => (vec![from, to], FileOperation::Rename),
        Action::Link { from, to, .. } => (vec![from, to], FileOperation::Link),
        _ => return None,
    })
}

/// Whether an operation on names may change the paths of other files.
fn is_above(action: &Action) -> bool {
    match action {
        // A type that is not known may be each of them.
        Action::Rename { from, .. } => {
            from.mode.is_none_or(|mode| matches!(mode & TYPE, DIRECTORY | SYMLINK))
        }
        Action::Create { target, .. } => target.is_some(),
        _ => false,
    }
}

/// Whether an action failed of itself. What a rule refused did not; connects and accesses to other processes are
/// judged before it is known how they end, and so are mappings.
pub(super) fn has_failed(action: &Action, verdict: Verdict) -> bool {
    let is_judged_before =
        matches!(action, Action::Connect { .. } | Action::Trace { .. } | Action::Map { .. });
    verdict == Verdict::Allow && !is_judged_before && matches!(action.outcome(), Outcome::Errno(_))
}

impl Asking<'_> {
    fn push(&mut self, object: Object, doubts: Vec<Doubt>) {
        self.asked.push(Asked { object, doubts, pending: None });
    }

    fn file(&mut self, file: &FileRef, operation: FileOperation, above: bool) {
        let (path, mut doubts) = own_path(&file.path, file.as_named, file.unresolved);
        doubts.extend(above.then_some(Doubt::Above));
        self.push(Object::File { path, operation }, doubts);
    }

    fn executed(&mut self, file: &FileRef) {
        let (path, mut doubts) = own_path(&file.path, file.as_named, file.unresolved);
        let sha256 = file.id.as_ref().and_then(|id| self.contents.sha256(id));
        doubts.extend(sha256.is_none().then_some(Doubt::Content));
        let pending = file.id.filter(|_| sha256.is_none());
        self.asked.push(Asked { object: Object::Exec { path, sha256 }, doubts, pending });
    }

    fn image(&mut self, image: &Image) {
        let (path, mut doubts) = own_path(&image.path, !image.seen_by_kernel, false);
        let sha256 = match image.digest {
            Digest::Sha256(sha256) => Some(sha256),
            _ => self.contents.sha256(&image.file),
        };
        doubts.extend(sha256.is_none().then_some(Doubt::Content));
        let pending = (image.digest == Digest::Pending && sha256.is_none()).then_some(image.file);
        self.asked.push(Asked { object: Object::Exec { path, sha256 }, doubts, pending });
    }

    fn destination(&mut self, to: &Destination, attached: Option<AttachMode>) {
        let to_address = |address: IpAddr, port: &u16| Object::Connect { address, port: *port };
        match to {
            Destination::V4(address, port) => self.push(to_address((*address).into(), port), Vec::new()),
            Destination::V6(address, port) => self.push(to_address((*address).into(), port), Vec::new()),
            Destination::Abstract(name) => {
                self.push(Object::ConnectAbstract { name: name.as_bytes().to_vec() }, Vec::new());
            }
            Destination::Socket(_) => self.push(Object::RawSocket, Vec::new()),
            // A socket without a name, of a pair, is nobody's.
            Destination::Unix(path) if path.is_empty() => {}
            Destination::Unix(path) => {
                let as_named = !attached.is_some_and(AttachMode::judges_in_kernel);
                let (path, doubts) = own_path(path, as_named, false);
                self.push(Object::ConnectUnix { path }, doubts);
            }
        }
    }
}

/// The path that rules are matched against, and what is not certain about it.
fn own_path(path: &PathBytes, as_named: bool, unresolved: bool) -> (Vec<u8>, Vec<Doubt>) {
    let bytes = path.as_bytes();
    let mut doubts = Vec::new();
    // What is only in memory has no path, and that is known.
    let is_path = bytes.first() == Some(&b'/') || bytes.starts_with(b"memfd:");
    if unresolved || !is_path || split(bytes).count() > NAMES_MAX {
        doubts.push(Doubt::Unresolved);
    }
    if !as_named {
        return (bytes.to_vec(), doubts);
    }
    doubts.push(Doubt::AsNamed);
    (normal(bytes), doubts)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use treeline_event::{OpenFlags, Program, SocketKind};

    use super::*;

    fn process(script: Option<&str>) -> Process {
        let image = |path: &str| Image {
            path: path.into(),
            digest: Digest::Sha256([1; 32]),
            seen_by_kernel: true,
            ..Image::default()
        };
        let program = Program { image: image("/bin/sh"), script: script.map(image), ..Program::default() };
        Process { program: Arc::new(program), ..Process::default() }
    }

    /// The objects in words, each with its doubts.
    #[track_caller]
    fn check(action: Action, expect: &[(&str, &[Doubt])]) {
        let process = process(Some("/srv/deploy"));
        let found = asked(&process, &action, Some(AttachMode::Lsm), &[], &Contents::default());
        let found: Vec<_> = found.iter().map(|one| (one.object.to_string(), one.doubts.clone())).collect();
        let expect: Vec<_> =
            expect.iter().map(|(words, doubts)| ((*words).to_owned(), doubts.to_vec())).collect();
        assert_eq!(found, expect, "{action:?}");
    }

    fn file(path: &str) -> FileRef {
        FileRef { path: path.into(), mode: Some(0o100_644), ..FileRef::default() }
    }

    const OK: Outcome = Outcome::Ok;

    #[test]
    fn actions_ask_what_their_hooks_ask() {
        let open =
            |flags, path| Action::Open { file: file(path), flags: OpenFlags(flags), outcome: OK, count: 1 };
        check(open(0, "/a"), &[("read /a", &[])]);
        check(open(1, "/a"), &[("write /a", &[])]);
        check(open(2, "/a"), &[("read /a", &[]), ("write /a", &[])]);
        check(open(0o1000, "/a"), &[("read /a", &[]), ("write /a", &[])]);
        check(open(0o10_000_002, "/a"), &[]);
        let flags = OpenFlags(1);
        check(Action::Receive { file: file("/a"), flags, outcome: OK }, &[("write /a", &[])]);
        check(Action::Create { file: file("/a"), target: None, outcome: OK }, &[("create /a", &[])]);
        check(Action::Delete { file: file("/a"), outcome: OK }, &[("delete /a", &[])]);
        check(Action::Modify { file: file("/a"), outcome: OK }, &[("write /a", &[])]);
        let (from, to) = (file("/a"), file("/b"));
        check(
            Action::Rename { from: from.clone(), to: to.clone(), outcome: OK },
            &[("rename /a", &[]), ("rename /b", &[])],
        );
        check(Action::Link { from, to, outcome: OK }, &[("link /a", &[]), ("link /b", &[])]);
        check(Action::Exec, &[("exec /srv/deploy", &[]), ("exec /bin/sh", &[])]);
        check(Action::ExecDenied { file: file("/a") }, &[("exec /a", &[Doubt::Content])]);
        check(Action::Map { file: file("/a"), outcome: OK }, &[("exec /a", &[Doubt::Content])]);
        let target = ProcessKey::default();
        check(Action::Trace { target, mode: 2, outcome: OK }, &[("trace", &[])]);
        check(Action::Exit { code: Some(0), signal: None }, &[]);
        check(Action::Fork { creator: target }, &[]);
    }

    #[test]
    fn destinations() {
        let connect = |to| Action::Connect { to, outcome: Outcome::Errno(111) };
        check(connect(Destination::V4([10, 0, 0, 1].into(), 443)), &[("connect 10.0.0.1:443", &[])]);
        check(connect(Destination::V6([0; 16].into(), 1)), &[("connect [::]:1", &[])]);
        check(connect(Destination::Unix("/run/s".into())), &[("unix /run/s", &[])]);
        check(connect(Destination::Unix(PathBytes::default())), &[]);
        check(connect(Destination::Abstract("x".into())), &[("unix @x", &[])]);
        let kind = SocketKind { family: 17, kind: 3, protocol: 768 };
        check(connect(Destination::Socket(kind)), &[("raw-socket", &[])]);
    }

    #[test]
    fn what_is_not_certain() {
        let delete = |file| Action::Delete { file, outcome: OK };
        let as_named = FileRef { as_named: true, ..file("/a/./../b//c") };
        check(delete(as_named), &[("delete /b/c", &[Doubt::AsNamed])]);
        let unresolved = FileRef { unresolved: true, ..file("/a") };
        check(delete(unresolved), &[("delete /a", &[Doubt::Unresolved])]);
        check(delete(file("a")), &[("delete a", &[Doubt::Unresolved])]);
        check(delete(file("memfd:a")), &[("delete memfd:a", &[])]);
        let deep = "/d".repeat(NAMES_MAX);
        check(delete(file(&deep)), &[(&format!("delete {deep}"), &[])]);
        let deeper = "/d".repeat(NAMES_MAX + 1);
        check(delete(file(&deeper)), &[(&format!("delete {deeper}"), &[Doubt::Unresolved])]);
        let directory = FileRef { mode: Some(0o040_755), ..file("/a") };
        check(
            Action::Rename { from: directory, to: file("/b"), outcome: OK },
            &[("rename /a", &[Doubt::Above]), ("rename /b", &[Doubt::Above])],
        );
        let target = Some("/x".into());
        check(Action::Create { file: file("/a"), target, outcome: OK }, &[("create /a", &[Doubt::Above])]);
        let mount = Action::Mount { at: file("/a"), source: PathBytes::default(), outcome: OK };
        let above: &[Doubt] = &[Doubt::Above];
        let changes = ["write /a", "create /a", "delete /a", "rename /a", "link /a"];
        check(mount, &changes.map(|words| (words, above)));
    }

    #[test]
    fn what_failed_of_itself() {
        let open = |outcome| Action::Open { file: file("/a"), flags: OpenFlags(0), outcome, count: 1 };
        let refused = Outcome::Errno(1);
        assert!(has_failed(&open(Outcome::Errno(2)), Verdict::Allow));
        assert!(!has_failed(&open(refused), Verdict::Deny) && !has_failed(&open(OK), Verdict::Allow));
        let to = Destination::V4([127, 0, 0, 1].into(), 1);
        assert!(!has_failed(&Action::Connect { to, outcome: Outcome::Errno(111) }, Verdict::Allow));
    }
}
