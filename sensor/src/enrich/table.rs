//! Every process that an ancestry may need.
//!
//! An ancestry follows creators (who forked whom), not parents, which a process can change by letting one exit. Its
//! elements are values: a process that execs gets a new [`Process`], so what was recorded before stays true. Of a
//! process that execs several times only the program of the moment is in an ancestry; the ones before it have entries
//! of their own, its `Exec` events.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use treeline_event::{Digest, FileId, Image, Process, ProcessKey, Program, SessionId, Subject};

/// Longest ancestry: a chain of processes deeper than any shell can nest, and an end to a loop in /proc's answers.
pub const ANCESTRY_LEN_MAX: usize = 1024;

/// How long an exited process stays, for records that another ring delivers after its exit.
pub const LINGER_NS: u64 = 2_000_000_000;

#[derive(Debug)]
struct Entry {
    process: Arc<Process>,
    /// Entries whose creator this is.
    children: u32,
    /// When it exited, 0 while it lives.
    exited_ns: u64,
    session: Option<SessionId>,
}

/// The processes of tracked trees and their ancestors.
#[derive(Debug)]
pub struct Table {
    entries: HashMap<ProcessKey, Entry>,
    entries_max: usize,
    /// In the order of exit.
    exited: VecDeque<ProcessKey>,
    overflow: u64,
}

impl Table {
    /// An empty one.
    #[must_use]
    pub fn new(entries_max: usize) -> Self {
        Self { entries: HashMap::new(), entries_max, exited: VecDeque::new(), overflow: 0 }
    }

    /// Number of processes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A process.
    #[must_use]
    pub fn find(&self, key: ProcessKey) -> Option<&Arc<Process>> {
        self.entries.get(&key).map(|entry| &entry.process)
    }

    /// The session of a process.
    #[must_use]
    pub fn session(&self, key: ProcessKey) -> Option<SessionId> {
        self.entries.get(&key)?.session
    }

    /// The process with this pid that lives, or exited last.
    #[must_use]
    pub fn by_pid(&self, pid: u32) -> Option<&Arc<Process>> {
        let same = self.entries.values().filter(|entry| entry.process.key.pid == pid);
        same.max_by_key(|entry| entry.process.key.start_ticks).map(|entry| &entry.process)
    }

    /// The live processes of sessions.
    pub fn members(&self) -> impl Iterator<Item = ProcessKey> + '_ {
        let live = self.entries.values().filter(|entry| entry.exited_ns == 0 && entry.session.is_some());
        live.map(|entry| entry.process.key)
    }

    /// A process with its ancestry. Where knowledge ends before pid 1, the last element is [`unknown`].
    #[must_use]
    pub fn subject(&self, process: Arc<Process>) -> Subject {
        let mut ancestry = Vec::with_capacity(16);
        let mut next = process.parent;
        while let Some(key) = next {
            if ancestry.len() >= ANCESTRY_LEN_MAX {
                break;
            }
            let Some(entry) = self.entries.get(&key) else {
                ancestry.push(Arc::new(unknown(key)));
                break;
            };
            ancestry.push(Arc::clone(&entry.process));
            next = entry.process.parent;
        }
        Subject { process, ancestry }
    }

    /// Adds a process or replaces it by what it is now. A full table forgets who exited first; when all live, the new
    /// one is not kept. Both are counted.
    pub fn put(&mut self, process: Arc<Process>, session: Option<SessionId>) {
        let (key, parent) = (process.key, process.parent);
        if let Some(entry) = self.entries.get_mut(&key) {
            let before = std::mem::replace(&mut entry.process, process).parent;
            entry.session = session.or(entry.session);
            if before != parent {
                self.count_child(parent, 1);
                self.release(before);
            }
            return;
        }
        if self.entries.len() >= self.entries_max {
            self.overflow += 1;
            let Some(oldest) = self.exited.pop_front() else { return };
            self.forget(oldest);
        }
        self.entries.insert(key, Entry { process, children: 0, exited_ns: 0, session });
        self.count_child(parent, 1);
    }

    /// Says that a process exited; it stays while a descendant lives.
    pub fn exit(&mut self, key: ProcessKey, now_ns: u64) {
        if let Some(entry) = self.entries.get_mut(&key)
            && entry.exited_ns == 0
        {
            entry.exited_ns = now_ns.max(1);
            self.exited.push_back(key);
        }
    }

    /// Forgets the exited that nobody needs any more.
    pub fn expire(&mut self, now_ns: u64) {
        for _ in 0..self.exited.len() {
            let Some(key) = self.exited.pop_front() else { break };
            let Some(entry) = self.entries.get(&key) else { continue };
            if now_ns.saturating_sub(entry.exited_ns) < LINGER_NS {
                self.exited.push_front(key);
                break;
            }
            if entry.children == 0 {
                self.forget(key);
            } else {
                self.exited.push_back(key);
            }
        }
    }

    /// Removes a process, and its creator when nobody else needs it.
    fn forget(&mut self, key: ProcessKey) {
        if let Some(entry) = self.entries.remove(&key) {
            self.release(entry.process.parent);
        }
    }

    /// One child less. A creator outside every session has no exit record, so it goes with its last child.
    fn release(&mut self, parent: Option<ProcessKey>) {
        let mut next = parent;
        while let Some(key) = next {
            let Some(entry) = self.entries.get_mut(&key) else { return };
            entry.children = entry.children.saturating_sub(1);
            if entry.children > 0 || entry.session.is_some() {
                return;
            }
            next = self.entries.remove(&key).and_then(|entry| entry.process.parent);
        }
    }

    fn count_child(&mut self, parent: Option<ProcessKey>, more: u32) {
        if let Some(entry) = parent.and_then(|key| self.entries.get_mut(&key)) {
            entry.children = entry.children.saturating_add(more);
        }
    }

    /// Processes that could not be kept, since the last call.
    pub fn overflow(&mut self) -> u64 {
        std::mem::take(&mut self.overflow)
    }

    /// Fills in hashes that have become known. Events of before keep what was known then.
    pub fn fill(&mut self, images: &[Image]) {
        let by_file: HashMap<FileId, &Image> = images.iter().map(|image| (image.file, image)).collect();
        // Programs are shared by the processes that fork; they stay so.
        let mut filled: HashMap<*const Program, Option<Arc<Program>>> = HashMap::new();
        for entry in self.entries.values_mut() {
            let program = &entry.process.program;
            let new = filled.entry(Arc::as_ptr(program)).or_insert_with(|| fill(program, &by_file));
            if let Some(new) = new {
                entry.process = Arc::new(Process { program: Arc::clone(new), ..(*entry.process).clone() });
            }
        }
    }

    /// Sessions with a live member.
    #[must_use]
    pub fn live_sessions(&self) -> HashSet<SessionId> {
        let live = self.entries.values().filter(|entry| entry.exited_ns == 0);
        live.filter_map(|entry| entry.session).collect()
    }
}

fn fill(program: &Program, by_file: &HashMap<FileId, &Image>) -> Option<Arc<Program>> {
    let fresh = |image: &Image| -> Option<Image> {
        let known = by_file.get(&image.file).filter(|_| image.digest == Digest::Pending)?;
        let build_id = known.build_id.clone().or_else(|| image.build_id.clone());
        Some(Image { digest: known.digest, build_id, ..image.clone() })
    };
    let (image, script) = (fresh(&program.image), program.script.as_ref().and_then(fresh));
    if image.is_none() && script.is_none() {
        return None;
    }
    let mut program = program.clone();
    program.image = image.unwrap_or(program.image);
    program.script = script.or(program.script);
    Some(Arc::new(program))
}

/// A process of which nothing but its key is known: it exited before the sensor saw it, or its record was lost. In an
/// ancestry it marks the gap.
#[must_use]
pub fn unknown(key: ProcessKey) -> Process {
    let image = Image { digest: Digest::Gone, seen_by_kernel: false, ..Image::default() };
    Process {
        key,
        parent: None,
        uid: u32::MAX,
        euid: u32::MAX,
        gid: u32::MAX,
        user: None,
        tty: None,
        program: Arc::new(Program { image, ..Program::default() }),
        started_ns: key.start_ticks.saturating_mul(treeline_event::process::NANOS_PER_TICK),
    }
}

/// Whether a process is a gap: [`unknown`].
#[must_use]
pub fn is_unknown(process: &Process) -> bool {
    process.uid == u32::MAX && process.program.image.path.is_empty()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(pid: u32) -> ProcessKey {
        ProcessKey { pid, start_ticks: 1 }
    }

    fn process(pid: u32, parent: Option<u32>) -> Arc<Process> {
        Arc::new(Process { parent: parent.map(key), uid: 0, ..unknown(key(pid)) })
    }

    fn pids(table: &Table, pid: u32) -> Vec<u32> {
        let process = table.find(key(pid)).expect("known").clone();
        table.subject(process).ancestry.iter().map(|process| process.key.pid).collect()
    }

    const SESSION: Option<SessionId> = Some(SessionId(1));

    #[test]
    fn ancestors_stay_while_needed() {
        let mut table = Table::new(16);
        table.put(process(1, None), None);
        table.put(process(2, Some(1)), SESSION);
        table.put(process(3, Some(2)), SESSION);
        table.put(process(4, Some(3)), SESSION);
        table.exit(key(2), 1);
        table.exit(key(3), 1);
        table.expire(LINGER_NS * 2);
        assert_eq!(pids(&table, 4), [3, 2, 1]);
        table.exit(key(4), LINGER_NS * 2);
        table.expire(LINGER_NS * 2);
        assert_eq!(table.len(), 4);
        for _ in 0..3 {
            table.expire(LINGER_NS * 3);
        }
        assert!(table.is_empty(), "{table:?}");
    }

    #[test]
    fn gaps_are_marked_and_loops_end() {
        let mut table = Table::new(16);
        table.put(process(3, Some(2)), SESSION);
        let subject = table.subject(process(4, Some(3)));
        assert!(is_unknown(&subject.ancestry[1]) && !is_unknown(&subject.ancestry[0]));
        table.put(process(2, Some(3)), SESSION);
        assert_eq!(table.subject(process(4, Some(3))).ancestry.len(), ANCESTRY_LEN_MAX);
    }

    #[test]
    fn full_table_forgets_the_exited_first() {
        let mut table = Table::new(2);
        table.put(process(2, None), SESSION);
        table.put(process(3, None), SESSION);
        table.exit(key(3), 1);
        table.put(process(4, None), SESSION);
        assert!(table.find(key(3)).is_none() && table.find(key(4)).is_some());
        table.put(process(5, None), SESSION);
        assert!(table.find(key(5)).is_none());
        assert_eq!((table.overflow(), table.overflow()), (2, 0));
    }

    proptest! {
        #[test]
        fn nothing_is_left_when_all_exit(
            forks in proptest::collection::vec((0u32..20, 0u32..20), 0..60),
            entries_max in 4usize..40,
        ) {
            let mut table = Table::new(entries_max);
            for (parent, child) in forks {
                if table.find(key(child)).is_none() && parent != child {
                    table.put(process(child, Some(parent)), SESSION);
                }
                prop_assert!(table.len() <= entries_max);
            }
            for pid in 0..20 {
                table.exit(key(pid), 1);
            }
            for _ in 0..20 {
                table.expire(LINGER_NS * 2);
            }
            prop_assert_eq!(table.live_sessions().len(), 0);
        }
    }
}
