//! The processes of a log: what each of them executes, and what was executed before it in its lineage.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use treeline_event::{Digest, FileId, Image, PathBytes, Process, ProcessKey};

use super::contents::Contents;
use crate::{
    request::{Executed, Lineage, Subject},
    session::Session,
};

/// Processes that are known at a time, some 200 bytes each. One more is as if its beginning had not been seen.
const PROCESSES_MAX: usize = 131_072;
/// Processes that have ended and are kept: what they did last may come behind their end.
const ENDED_MAX: usize = 1024;
/// Different images of one lineage. Of one with more, the rest is not known.
const IMAGES_MAX: usize = 256;

/// A file that a process executed.
#[derive(Debug)]
struct Ran {
    path: PathBytes,
    file: FileId,
    digest: Digest,
    loads_code: bool,
}

impl Ran {
    fn of(process: &Process) -> Self {
        let Image { path, file, digest, .. } = &process.program.image;
        Self { path: path.clone(), file: *file, digest: *digest, loads_code: process.program.loader_env }
    }

    fn is(&self, process: &Process) -> bool {
        let program = &process.program;
        (self.file, self.loads_code) == (program.image.file, program.loader_env)
            && self.path == program.image.path
    }

    fn sha256(&self, contents: &Contents) -> Option<[u8; 32]> {
        match self.digest {
            Digest::Sha256(sha256) => Some(sha256),
            Digest::Pending => contents.sha256(&self.file),
            Digest::Changed | Digest::Gone | Digest::Unreadable => None,
        }
    }

    fn executed(&self, contents: &Contents) -> Executed {
        Executed {
            path: self.path.as_bytes().to_vec(),
            sha256: self.sha256(contents),
            loads_code: self.loads_code,
        }
    }
}

/// Who acted, as the log knows it.
#[derive(Clone, Debug, Default)]
pub struct Who {
    /// What it executes; none when that is not known.
    own: Option<Arc<Ran>>,
    /// What was executed in its lineage, each once, in order, its own last.
    images: Arc<Vec<Arc<Ran>>>,
    /// There were no others: the log has the session from its beginning on.
    complete: bool,
    /// Real user id.
    uid: u32,
    /// What is known of the session.
    session: Arc<Session>,
}

impl Who {
    /// Whether all of its lineage was seen.
    #[must_use]
    pub fn has_whole_lineage(&self) -> bool {
        self.complete
    }

    /// The path of what it surely executes: none where that is not known, or where its environment put other code into it.
    pub(crate) fn sure_executable(&self) -> Option<&PathBytes> {
        self.own.as_ref().filter(|own| !own.loads_code).map(|own| &own.path)
    }

    /// The same in this session.
    pub(super) fn of(self, session: Arc<Session>) -> Self {
        Self { session, ..self }
    }

    /// The paths of what was executed in its lineage, in order, its own last.
    pub fn paths(&self) -> impl DoubleEndedIterator<Item = &PathBytes> {
        self.images.iter().map(|ran| &ran.path)
    }

    /// As the subject of a request.
    pub(super) fn subject(&self, contents: &Contents) -> Subject {
        let own = self.own.as_ref().map(|ran| ran.executed(contents)).unwrap_or_default();
        let images = self.images.iter().map(|ran| ran.executed(contents)).collect();
        Subject {
            executable: own.path,
            sha256: own.sha256,
            uid: self.uid,
            loads_code: own.loads_code,
            lineage: Lineage::Images { images, complete: self.complete },
            session: Arc::clone(&self.session),
        }
    }

    /// Takes what it executes now. Where an exec was not seen, there may have been more of them.
    fn see(&mut self, process: &Process) {
        self.uid = process.uid;
        if self.own.as_ref().is_some_and(|own| own.is(process)) {
            return;
        }
        self.complete &= self.own.is_none();
        self.execute(process);
    }

    fn execute(&mut self, process: &Process) {
        if process.program.image.path.is_empty() {
            (self.own, self.complete) = (None, false);
            return;
        }
        let own = match self.images.iter().find(|ran| ran.is(process)) {
            Some(known) => Arc::clone(known),
            None => {
                let own = Arc::new(Ran::of(process));
                if self.images.len() < IMAGES_MAX {
                    Arc::make_mut(&mut self.images).push(Arc::clone(&own));
                } else {
                    self.complete = false;
                }
                own
            }
        };
        self.own = Some(own);
    }
}

/// A process with what is known of it.
#[derive(Clone, Debug, Default)]
struct Known {
    who: Who,
    /// Files whose execution was judged in an entry of its own, since it executed last: the exec's entry is about the same.
    judged: Vec<PathBytes>,
}

/// Every process that may still act.
#[derive(Debug, Default)]
pub(super) struct Processes {
    known: HashMap<ProcessKey, Known>,
    ended: VecDeque<ProcessKey>,
}

impl Processes {
    /// A session begins with this process. One that belongs to another session already keeps its lineage.
    pub(super) fn begin(&mut self, root: ProcessKey) {
        let who = Who { complete: true, ..Who::default() };
        if self.has_room(root) {
            self.known.entry(root).or_insert(Known { who, judged: Vec::new() });
        }
    }

    /// A process was created.
    pub(super) fn fork(&mut self, creator: ProcessKey, child: &Process) {
        let before = self.known.get(&creator).map(|known| known.who.clone()).unwrap_or_default();
        if self.has_room(child.key) {
            self.known.insert(child.key, Known { who: before, judged: Vec::new() });
        }
        self.see(child);
    }

    /// Who it is that acts and executes nothing else by it.
    pub(super) fn see(&mut self, process: &Process) -> Who {
        let mut unseen = Known::default();
        let known = self.known_or(process.key, &mut unseen);
        known.who.see(process);
        known.who.clone()
    }

    /// Who it was that executed what this process executes now, and which files have entries of their own by it.
    pub(super) fn exec(&mut self, process: &Process) -> (Who, Vec<PathBytes>) {
        let mut unseen = Known::default();
        let known = self.known_or(process.key, &mut unseen);
        let before = Who { uid: process.uid, ..known.who.clone() };
        known.who.uid = process.uid;
        known.who.execute(process);
        (before, std::mem::take(&mut known.judged))
    }

    /// The execution of a file has an entry of its own. At most two take part: a script and what runs it.
    pub(super) fn judged(&mut self, process: ProcessKey, file: &PathBytes) {
        if let Some(known) = self.known.get_mut(&process).filter(|known| known.judged.len() < 2) {
            known.judged.push(file.clone());
        }
    }

    /// What a process was taken into the session for says nothing of what it executed before.
    pub(super) fn adopt(&mut self, process: &Process) -> Who {
        let who = self.see(process);
        if let Some(known) = self.known.get_mut(&process.key) {
            known.who.complete = false;
        }
        Who { complete: false, ..who }
    }

    /// A process ended.
    pub(super) fn exit(&mut self, process: ProcessKey) {
        self.ended.push_back(process);
        if self.ended.len() > ENDED_MAX
            && let Some(oldest) = self.ended.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// What is known of a process, with room for more; without room for it, what is given.
    fn known_or<'k>(&'k mut self, process: ProcessKey, unseen: &'k mut Known) -> &'k mut Known {
        if self.has_room(process) { self.known.entry(process).or_default() } else { unseen }
    }

    fn has_room(&self, process: ProcessKey) -> bool {
        self.known.len() < PROCESSES_MAX || self.known.contains_key(&process)
    }
}

#[cfg(test)]
mod tests {
    use treeline_event::Program;

    use super::*;

    fn process(pid: u32, path: &str) -> Process {
        let image = Image { path: path.into(), ..Image::default() };
        Process {
            key: key(pid),
            uid: 1,
            program: Arc::new(Program { image, ..Program::default() }),
            ..Process::default()
        }
    }

    fn key(pid: u32) -> ProcessKey {
        ProcessKey { pid, start_ticks: 1 }
    }

    #[track_caller]
    fn check(who: &Who, expect: &[&str], complete: bool) {
        let paths: Vec<_> = who.paths().map(ToString::to_string).collect();
        let expect: Vec<_> = expect.iter().map(ToString::to_string).collect();
        assert_eq!((paths, who.has_whole_lineage()), (expect, complete));
    }

    #[test]
    fn a_lineage_is_what_was_executed_before_a_process_was_created() {
        let mut processes = Processes::default();
        processes.begin(key(1));
        check(&processes.exec(&process(1, "/sh")).0, &[], true);
        processes.fork(key(1), &process(2, "/sh"));
        check(&processes.exec(&process(1, "/perl")).0, &["/sh"], true);
        check(&processes.exec(&process(2, "/cat")).0, &["/sh"], true);
        check(&processes.see(&process(2, "/cat")), &["/sh", "/cat"], true);
        processes.exec(&process(2, "/sh"));
        check(&processes.see(&process(2, "/sh")), &["/sh", "/cat"], true);
        check(&processes.see(&process(1, "/perl")), &["/sh", "/perl"], true);
        processes.begin(key(2));
        check(&processes.see(&process(2, "/sh")), &["/sh", "/cat"], true);
    }

    #[test]
    fn what_was_not_seen_is_not_known() {
        let mut processes = Processes::default();
        check(&processes.see(&process(1, "/sh")), &["/sh"], false);
        processes.fork(key(1), &process(2, "/sh"));
        check(&processes.see(&process(2, "/sh")), &["/sh"], false);
        processes.fork(key(9), &process(3, "/sh"));
        check(&processes.see(&process(3, "/sh")), &["/sh"], false);
        // What the root of a session executes at its beginning is part of its lineage.
        processes.begin(key(4));
        check(&processes.see(&process(4, "/sh")), &["/sh"], true);
        // An exec that is not in the log.
        check(&processes.see(&process(4, "/cat")), &["/sh", "/cat"], false);
        processes.begin(key(5));
        check(&processes.see(&process(5, "")), &[], false);
        processes.begin(key(6));
        check(&processes.adopt(&process(6, "/sh")), &["/sh"], false);
    }

    #[test]
    fn bounds_hold() {
        let mut processes = Processes::default();
        processes.begin(key(1));
        for number in 0..=IMAGES_MAX {
            processes.exec(&process(1, &format!("/{number}")));
        }
        let who = processes.see(&process(1, &format!("/{IMAGES_MAX}")));
        assert_eq!((who.images.len(), who.complete), (IMAGES_MAX, false));
        for pid in 2..=PROCESSES_MAX as u32 {
            processes.begin(key(pid));
        }
        processes.fork(key(1), &process(0, "/sh"));
        check(&processes.see(&process(0, "/sh")), &["/sh"], false);
        for pid in 1..=ENDED_MAX as u32 + 1 {
            processes.exit(key(pid));
        }
        assert_eq!(processes.known.len(), PROCESSES_MAX - 1);
    }
}
