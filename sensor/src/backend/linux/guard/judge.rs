//! The answer to one permission event.

mod content;

use std::{
    fs, io,
    os::fd::{AsRawFd, BorrowedFd},
    os::unix::ffi::OsStringExt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError},
};

use nix::sys::fanotify::MaskFlags;
use rustix::fs::Stat;
use treeline_abi::{Label, LabelFlags, paths::Operation};
use treeline_event::{
    Action, FileId, FileRef, OpenFlags, Outcome, PathBytes, ProcessKey, SessionId, Verdict,
};
use treeline_policy::{
    Host, Object, Policy, Request, Subject, approval::refusing, compile::LineageReader, eval,
    policy::FileOperation,
};

use super::{
    Orders, Protected,
    identities::Object as Found,
    subject::{self, Access},
};
use crate::backend::{
    Approved, ApprovedObject, FileNumber, Observation, Seen,
    linux::{Known, grants::Approvals, labels::Labels, rings::boot_ns, sessions::Sessions},
};

/// What becomes of one event.
pub(super) enum Answer {
    /// The access may go on.
    Allow,
    /// It may not. The record is missing only when nobody knows who asked.
    Deny(Option<Box<Observation>>),
    /// It cannot be told yet: the thread is still on its way to where it waits.
    Later,
}

/// Whether an event may be put off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// What cannot be told yet is asked again.
    Some,
    /// What cannot be told now is refused, as far as a rule refuses it.
    None,
}

/// What decides.
pub(in crate::backend::linux) struct Judge {
    policy: Arc<Policy>,
    host: Host,
    generation: u64,
    rule_indices: Vec<u32>,
    lineage: LineageReader,
    sessions: Sessions,
    approvals: Approvals,
    labels: Labels,
    protected: Protected,
    known: Known,
    own_pid: i32,
}

/// A decision that refuses.
struct Refusal {
    rule: usize,
    file: FileRef,
    exec: bool,
    access: Access,
}

impl Judge {
    pub(super) fn new(orders: &Orders, labels: Labels, known: Known, protected: Protected) -> Self {
        Self {
            policy: Arc::clone(&orders.policy),
            host: orders.host.clone(),
            generation: orders.generation,
            rule_indices: orders.rule_indices.clone(),
            lineage: orders.lineage.clone(),
            sessions: orders.sessions.clone(),
            approvals: Arc::clone(&orders.approvals),
            labels,
            protected,
            known,
            own_pid: rustix::process::getpid().as_raw_nonzero().get(),
        }
    }

    /// Decides one event.
    pub(super) fn decide(
        &self,
        file: BorrowedFd<'_>,
        tid: i32,
        mask: MaskFlags,
        patience: Patience,
    ) -> Answer {
        let (pid, label) = match self.tracked(tid) {
            Ok(Some(tracked)) => tracked,
            Ok(None) => return Answer::Allow,
            // It was killed while it waited: nobody gets the answer.
            Err(error) if is_gone(&error) => return Answer::Allow,
            Err(_) if patience == Patience::Some => return Answer::Later,
            Err(error) => {
                tracing::error!(%error, tid, "cannot tell who opens a protected file; it is refused");
                return Answer::Deny(None);
            }
        };
        let exec = mask.contains(MaskFlags::FAN_OPEN_EXEC_PERM);
        let access = match exec {
            true => Access::Exec,
            // Its registers are those with which somebody once entered the kernel.
            false if subject::is_io_worker(tid) => Access::Unknown,
            false => subject::access(tid),
        };
        // Whoever waits must get an answer: a panic over one event is a refusal of that one.
        let judged = catch_unwind(AssertUnwindSafe(|| self.judge(file, pid, access, exec, &label)));
        let refusal = judged.unwrap_or_else(|_| {
            tracing::error!(pid, "a permission event could not be judged; it is refused");
            self.refusal_of_unresolved(FileRef { unresolved: true, ..FileRef::default() }, exec, access)
        });
        match refusal {
            None => Answer::Allow,
            // As reading and writing it is refused; what it really is may be allowed.
            Some(_) if access == Access::Unsettled && patience == Patience::Some => Answer::Later,
            Some(refusal) => Answer::Deny(Some(Box::new(self.observation(pid, tid, &label, refusal)))),
        }
    }

    /// What becomes of an object that cannot be resolved.
    fn refusal_of_unresolved(&self, file: FileRef, exec: bool, access: Access) -> Option<Refusal> {
        let operation = if exec { Operation::EXEC } else { Operation::READ };
        let rule = self.policy.unresolved_rule(operation)?;
        Some(Refusal { rule, file, exec, access })
    }

    /// The process of a thread and its label; nothing for whom no session has.
    fn tracked(&self, tid: i32) -> io::Result<Option<(i32, Label)>> {
        let pid = subject::process_of(tid)?;
        if pid == self.own_pid {
            return Ok(None);
        }
        let pidfd = subject::pidfd(pid)?;
        let label = self.labels.label(rustix::fd::AsFd::as_fd(&pidfd))?;
        Ok(label.map(|label| (pid, label)))
    }

    fn judge(
        &self,
        file: BorrowedFd<'_>,
        pid: i32,
        access: Access,
        exec: bool,
        label: &Label,
    ) -> Option<Refusal> {
        let found = match Found::open(file) {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%error, pid, "cannot look at a protected file; the access is refused");
                let file = FileRef { unresolved: true, ..FileRef::default() };
                return self.refusal_of_unresolved(file, exec, access);
            }
        };
        let paths = self.paths(file, &found);
        let stat = found.stat;
        let reference = |path: PathBytes, unresolved| FileRef {
            path,
            id: Some(identity(&stat)),
            mode: Some(stat.st_mode),
            unresolved,
            ..FileRef::default()
        };
        if paths.is_empty() {
            let named = link_target(file).unwrap_or_default();
            return self.refusal_of_unresolved(reference(named, true), exec, access);
        }
        let subject = self.subject(pid, label);
        let mut worst: Option<(usize, &PathBytes)> = None;
        for path in &paths {
            for object in objects(path, access, exec) {
                let decision = eval(&self.policy, &self.host, &Request { subject: subject.clone(), object });
                if decision.verdict == Verdict::Deny
                    && let Some(rule) = decision.rule
                    && worst.is_none_or(|(other, _)| self.index(rule) < self.index(other))
                {
                    worst = Some((rule, path));
                }
            }
        }
        let (rule, path) = worst?;
        let refused = || self.refusing(&subject, &paths, access, exec);
        if self.is_approved(pid, label, &paths, &stat, refused) {
            return None;
        }
        Some(Refusal { rule, file: reference(path.clone(), false), exec, access })
    }

    /// Every rule that refuses an access, each with the bit of the operation.
    fn refusing(
        &self,
        subject: &Subject,
        paths: &[PathBytes],
        access: Access,
        exec: bool,
    ) -> Vec<(usize, u32)> {
        let of = |object: Object| {
            let operation = bit(&object);
            let request = Request { subject: subject.clone(), object };
            let rules = refusing(&self.policy, &self.host, &request);
            rules.into_iter().map(move |rule| (rule, operation))
        };
        paths.iter().flat_map(|path| objects(path, access, exec)).flat_map(of).collect()
    }

    /// Whether somebody has approved of all that is refused; see `treeline_abi::grant`, which says the same.
    fn is_approved(
        &self,
        pid: i32,
        label: &Label,
        paths: &[PathBytes],
        stat: &Stat,
        refused: impl FnOnce() -> Vec<(usize, u32)>,
    ) -> bool {
        let approvals = self.approvals.lock().unwrap_or_else(PoisonError::into_inner);
        if approvals.is_empty() || label.flags & LabelFlags::LOADER_ENV != 0 {
            return false;
        }
        let is_directory = stat.st_mode & libc::S_IFMT == libc::S_IFDIR;
        if stat.st_nlink > 1 && !is_directory {
            return false;
        }
        let Ok(executed) = rustix::fs::stat(format!("/proc/{pid}/exe").as_str()) else { return false };
        let now = boot_ns();
        let is_for = |one: &&Approved| {
            one.session.0 == label.session
                && one.image == number(&executed)
                && (one.image.device, one.image.inode) == (label.image.device, label.image.inode)
                && now < one.until_ns
                && is_object(&one.object, paths, stat)
        };
        let here: Vec<&Approved> = approvals.iter().filter(is_for).collect();
        let refused = refused();
        !refused.is_empty()
            && refused.iter().all(|(rule, operation)| {
                let id = &self.policy.rules[*rule].id;
                here.iter().any(|one| one.operations & operation != 0 && one.rules.contains(id))
            })
    }

    /// The object's own paths: those under which it was protected, and the one that was used if it leads to it.
    fn paths(&self, file: BorrowedFd<'_>, found: &Found) -> Vec<PathBytes> {
        let known = self.protected.lock().unwrap_or_else(PoisonError::into_inner);
        let mut paths = known.paths(found).to_vec();
        if let Some(path) = link_target(file)
            && leads_to(&path, &found.stat)
        {
            let (directory, name) = split(&path);
            let parents =
                Found::at(directory).map(|parent| known.paths(&parent).to_vec()).unwrap_or_default();
            for parent in parents {
                paths.push([parent.as_bytes(), b"/", name].concat().into());
            }
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
        paths
    }

    /// The subject's executable, unknown when it cannot be read, and its lineage, as its label has it.
    fn subject(&self, pid: i32, label: &Label) -> Subject {
        let lineage = self.lineage.read(Some(&label.lineage));
        let loads_code = label.flags & LabelFlags::LOADER_ENV != 0;
        let session = self.sessions.get(SessionId(label.session));
        let unknown = Subject { loads_code, lineage, session, ..Subject::default() };
        let link = format!("/proc/{pid}/exe");
        let Ok(stat) = rustix::fs::stat(link.as_str()) else { return unknown };
        let path = fs::read_link(link).map(|path| path.into_os_string().into_vec()).unwrap_or_default();
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let sha256 = known.sha256(&identity(&stat));
        drop(known);
        // A private mount namespace can put another file at this path: the name counts only if it leads to the same
        // file.
        let genuine = leads_to(&path.clone().into(), &stat);
        Subject { executable: if genuine { path } else { Vec::new() }, sha256, ..unknown }
    }

    fn index(&self, rule: usize) -> u32 {
        self.rule_indices.get(rule).copied().unwrap_or(u32::MAX)
    }

    fn observation(&self, pid: i32, tid: i32, label: &Label, refusal: Refusal) -> Observation {
        let start_ticks = subject::start_ticks(pid).unwrap_or_default();
        let action = if refusal.exec {
            Action::ExecDenied { file: refusal.file }
        } else {
            Action::Open {
                file: refusal.file,
                flags: OpenFlags(refusal.access.flags()),
                outcome: Outcome::Errno(libc::EPERM),
                count: 1,
            }
        };
        Observation {
            time_ns: boot_ns(),
            session: SessionId(label.session),
            subject: ProcessKey { pid: pid as u32, start_ticks },
            subject_start_ns: start_ticks * treeline_event::process::NANOS_PER_TICK,
            tid: tid as u32,
            verdict: Verdict::Deny,
            rule: Some(self.index(refusal.rule)),
            approved: false,
            generation: self.generation,
            seen: Seen::Act(Box::new(action)),
        }
    }
}

fn number(stat: &Stat) -> FileNumber {
    let device = rustix::fs::major(stat.st_dev) << 20 | rustix::fs::minor(stat.st_dev);
    FileNumber { device, inode: stat.st_ino }
}

fn is_object(object: &ApprovedObject, paths: &[PathBytes], stat: &Stat) -> bool {
    match object {
        ApprovedObject::File { path, inode, device } => {
            let found = number(stat);
            // By each of its paths, another rule may be about it.
            paths.iter().all(|one| one == path)
                && found.inode == *inode
                && device.is_none_or(|device| device == found.device)
        }
        ApprovedObject::Address(_) | ApprovedObject::Abstract(_) => false,
    }
}

/// The bit of an operation on a file.
fn bit(object: &Object) -> u32 {
    match object {
        Object::File { operation, .. } => 1 << *operation as u32,
        _ => 1 << Operation::EXEC,
    }
}

/// What the policy is asked for an access.
fn objects(path: &PathBytes, access: Access, exec: bool) -> Vec<Object> {
    let path = path.as_bytes().to_vec();
    if exec {
        return vec![Object::Exec { path, sha256: None }];
    }
    let mut objects = Vec::new();
    if access.reads() {
        objects.push(Object::File { path: path.clone(), operation: FileOperation::Read });
    }
    if access.writes() {
        objects.push(Object::File { path, operation: FileOperation::Write });
    }
    objects
}

/// Directory and name.
fn split(path: &PathBytes) -> (&[u8], &[u8]) {
    let bytes = path.as_bytes();
    let slash = bytes.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    (if slash == 0 { b"/" } else { &bytes[..slash] }, bytes.get(slash + 1..).unwrap_or_default())
}

fn link_target(file: BorrowedFd<'_>) -> Option<PathBytes> {
    let link = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
    Some(link.into_os_string().into_vec().into())
}

/// Whether a path of the sensor's own mount namespace leads to this object.
pub(in crate::backend::linux) fn leads_to(path: &PathBytes, stat: &Stat) -> bool {
    let found: io::Result<Stat> = rustix::fs::lstat(path.as_bytes()).map_err(io::Error::from);
    found.is_ok_and(|found| (found.st_dev, found.st_ino) == (stat.st_dev, stat.st_ino))
}

/// Whether an error says that a process is no more.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENOENT))
}

fn nanos(seconds: i64, nanos: u64) -> u64 {
    (seconds as u64).wrapping_mul(1_000_000_000).wrapping_add(nanos)
}

/// Identity of a file.
pub(in crate::backend::linux) fn identity(stat: &Stat) -> FileId {
    FileId {
        major: rustix::fs::major(stat.st_dev),
        minor: rustix::fs::minor(stat.st_dev),
        inode: stat.st_ino,
        size: stat.st_size as u64,
        mtime_ns: nanos(stat.st_mtime, stat.st_mtime_nsec),
        ctime_ns: nanos(stat.st_ctime, stat.st_ctime_nsec),
    }
}
