//! The chain of executables behind a process.

use std::{
    collections::{HashMap, VecDeque},
    fmt::Write as _,
    sync::Arc,
};

use serde::Serialize;
use treeline_event::{Ancestry, Digest, Entry, EntryBody, Link, Notice, Process, ProcessKey, Timestamp};

use super::{
    hashes::Hashes,
    text::{command_line, safe},
    time::utc,
};
use crate::enrich::table::{is_unknown, unknown};

/// Processes that are remembered while entries are read, oldest forgotten first: some 100 MiB at the most. A step
/// beyond it is shown by key and hash only.
const PROCESSES_MAX: usize = 65_536;

/// Whose ancestry is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Of the latest process with this pid.
    Pid(u32),
    /// Of this process.
    Key(ProcessKey),
    /// Of the subject of the entry with this index.
    Index(u64),
}

impl Wanted {
    fn is(self, key: ProcessKey) -> bool {
        match self {
            Self::Pid(pid) => key.pid == pid,
            Self::Key(wanted) => key == wanted,
            Self::Index(_) => false,
        }
    }
}

/// One step.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// The process and what it ran; pending hashes are completed from later entries.
    pub process: Process,
    /// Creation, milliseconds since the epoch.
    pub started_ms: u64,
    /// When it began to run this executable, milliseconds since the epoch; none when it was before the sensor.
    pub exec_ms: Option<u64>,
    /// Nothing is known but the key and perhaps the hash.
    pub gap: bool,
}

/// A process and the chain behind it, nearest first, back to pid 1.
#[derive(Clone, Debug, Serialize)]
pub struct AncestryView {
    /// Index of the entry that says so.
    pub index: u64,
    /// When that was.
    pub time: Timestamp,
    /// The steps, the process itself first.
    pub steps: Vec<Step>,
}

/// Looks for an ancestry in entries that are given in order, oldest first.
#[derive(Debug)]
pub struct AncestrySearch {
    wanted: Wanted,
    boot_id: String,
    known: HashMap<ProcessKey, Arc<Process>>,
    order: VecDeque<ProcessKey>,
    hashes: Hashes,
    /// From an entry of the process itself.
    direct: Option<Found>,
    /// From an entry of a descendant.
    indirect: Option<Found>,
}

#[derive(Debug)]
struct Found {
    index: u64,
    time: Timestamp,
    steps: Vec<Process>,
}

impl AncestrySearch {
    /// Begins a search.
    #[must_use]
    pub fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            boot_id: String::new(),
            known: HashMap::new(),
            order: VecDeque::new(),
            hashes: Hashes::default(),
            direct: None,
            indirect: None,
        }
    }

    /// Takes the next entry.
    pub fn add(&mut self, entry: &Entry) {
        if self.boot_id != entry.origin.boot_id {
            // Keys are unique within one boot only.
            self.boot_id.clone_from(&entry.origin.boot_id);
            self.known.clear();
            self.order.clear();
        }
        match &entry.body {
            EntryBody::Notice(Notice::ImageHashed { image }) => self.hashes.learn(image),
            EntryBody::Notice(_) => {}
            EntryBody::Act { process, ancestry, .. } => {
                if let Ancestry::Full(ancestry) = ancestry {
                    ancestry.iter().rev().for_each(|step| self.remember(step));
                }
                self.remember(process);
                self.look(entry, process, ancestry);
            }
        }
    }

    fn remember(&mut self, process: &Arc<Process>) {
        if is_unknown(process) {
            return;
        }
        if self.known.insert(process.key, Arc::clone(process)).is_none() {
            self.order.push_back(process.key);
        }
        if self.order.len() > PROCESSES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    fn look(&mut self, entry: &Entry, process: &Arc<Process>, ancestry: &Ancestry) {
        let direct = self.wanted == Wanted::Index(entry.index) || self.wanted.is(process.key);
        // A process that never acted itself is known from those that it started.
        let at = match ancestry {
            _ if direct => Some(0),
            Ancestry::Full(steps) => steps.iter().position(|step| self.wanted.is(step.key)),
            Ancestry::Links(steps) => steps.iter().position(|step| self.wanted.is(step.key)),
        };
        let Some(at) = at else { return };
        let mut steps: Vec<Process> = match ancestry {
            Ancestry::Full(steps) => steps[at..].iter().map(|step| Process::clone(step)).collect(),
            Ancestry::Links(steps) => steps[at..].iter().map(|link| self.resolve(link)).collect(),
        };
        if direct {
            steps.insert(0, Process::clone(process));
        }
        let found = Some(Found { index: entry.index, time: entry.time, steps });
        if direct {
            self.direct = found;
        } else {
            self.indirect = found;
        }
    }

    /// The step behind a link: what an earlier entry said of it, unless it ran something else by then.
    fn resolve(&self, link: &Link) -> Process {
        let mut process = match self.known.get(&link.key) {
            Some(known) if may_be(known.program.image.digest, link.sha256) => Process::clone(known),
            _ => unknown(link.key),
        };
        let program = Arc::make_mut(&mut process.program);
        if is_hash(link.sha256) || program.image.path.is_empty() {
            program.image.digest = link.sha256;
        }
        if let (Some(script), Some(digest)) = (&mut program.script, link.script)
            && is_hash(digest.0)
            && may_be(script.digest, digest.0)
        {
            script.digest = digest.0;
        }
        process
    }

    /// What was found.
    #[must_use]
    pub fn finish(self) -> Option<AncestryView> {
        let Found { index, time, steps } = self.direct.or(self.indirect)?;
        let wall_ms =
            |boot_ns: u64| time.wall_ms.saturating_sub(time.boot_ns.saturating_sub(boot_ns) / 1_000_000);
        let steps = steps.into_iter().map(|mut process| {
            self.hashes.complete_process(&mut process);
            let exec_ns = process.program.exec_ns;
            Step {
                started_ms: wall_ms(process.started_ns),
                exec_ms: (exec_ns > 0).then(|| wall_ms(exec_ns)),
                gap: is_unknown(&process),
                process,
            }
        });
        Some(AncestryView { index, time, steps: steps.collect() })
    }
}

fn is_hash(digest: Digest) -> bool {
    matches!(digest, Digest::Sha256(_))
}

/// Whether two statements can be about the same content: two different hashes cannot.
fn may_be(one: Digest, other: Digest) -> bool {
    one == other || !is_hash(one) || !is_hash(other)
}

impl AncestryView {
    /// For people: a paragraph a step.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = format!("event {}, {}\n", self.index, utc(self.time.wall_ms));
        for step in &self.steps {
            step.write(&mut out);
        }
        if self.steps.last().is_some_and(|step| step.process.key.pid != 1) {
            out.push_str("the chain ends here: nothing is known of what is behind it\n");
        }
        out
    }
}

impl Step {
    fn write(&self, out: &mut String) {
        let Process { key, program, .. } = &self.process;
        if self.gap {
            let _ =
                writeln!(out, "{key}  not known (it ended before the sensor saw it, or a record was lost)");
            let _ = writeln!(out, "    sha256    {}", program.image.digest);
            return;
        }
        if program.image.path.is_empty() {
            let _ = writeln!(out, "{key}  executable not known (the kernel does not show it)");
        } else {
            let _ = writeln!(out, "{key}  {}", program.image.path);
        }
        let _ = writeln!(out, "    sha256    {}", program.image.digest);
        if let Some(build_id) = &program.image.build_id {
            let _ = writeln!(out, "    build-id  {}", safe(build_id));
        }
        if let Some(script) = &program.script {
            let _ = writeln!(out, "    script    {}\n              {}", script.path, script.digest);
        }
        let cut = if program.argv_cut { " ..." } else { "" };
        let _ = writeln!(out, "    argv      {}{cut}", command_line(&program.argv));
        let user = self.process.user.as_ref().map(|user| format!(" ({})", safe(user)));
        let _ = writeln!(out, "    user      {}{}", self.process.uid, user.unwrap_or_default());
        let _ = writeln!(out, "    started   {}", utc(self.started_ms));
        if let Some(exec_ms) = self.exec_ms {
            let _ = writeln!(out, "    exec      {}", utc(exec_ms));
        }
    }
}

#[cfg(test)]
mod tests {
    use treeline_event::{Action, FileId, Image, SessionId, Verdict};

    use super::*;
    use crate::view::fixture::{act, key, notice, process};

    fn search(entries: &[Entry], wanted: Wanted) -> Option<AncestryView> {
        let mut search = AncestrySearch::new(wanted);
        entries.iter().for_each(|entry| search.add(entry));
        search.finish()
    }

    fn pids(view: &AncestryView) -> Vec<u32> {
        view.steps.iter().map(|step| step.process.key.pid).collect()
    }

    fn exec(pid: u32, parent: Option<u32>) -> Entry {
        act(SessionId(1), pid, parent, Action::Exec, Verdict::Allow)
    }

    /// The exit of process 6, with a link to process 5 and one to pid 1.
    fn exit(index: u64, sha256: Digest) -> Entry {
        let link = |pid, sha256| Link { key: key(pid), sha256, script: None };
        let ended = Action::Exit { code: Some(0), signal: None };
        let mut entry = act(SessionId(1), 6, Some(5), ended, Verdict::Allow);
        if let EntryBody::Act { ancestry, .. } = &mut entry.body {
            *ancestry = Ancestry::Links([link(5, sha256), link(1, Digest::Pending)].into());
        }
        entry.index = index;
        entry.time = Timestamp { boot_ns: 3_000_000_000, wall_ms: 10_000 };
        entry
    }

    #[test]
    fn links_are_resolved_and_pending_hashes_completed() {
        let hashed = Image {
            digest: Digest::Sha256([0xab; 32]),
            build_id: Some("c0ffee".into()),
            file: FileId::default(),
            ..Image::default()
        };
        let entries =
            [exec(5, Some(1)), exit(7, Digest::Pending), notice(Notice::ImageHashed { image: hashed })];
        for wanted in [Wanted::Pid(6), Wanted::Key(key(6)), Wanted::Index(7)] {
            let view = search(&entries, wanted).expect("a chain");
            assert_eq!((pids(&view), view.index), (vec![6, 5, 1], 7), "{wanted:?}");
            let text = view.text();
            assert_eq!(text.matches(&"ab".repeat(32)).count(), 3, "{text}");
            for part in ["/usr/bin/cat", "build-id  c0ffee", "argv      cat x", "user      1000"] {
                assert_eq!(text.matches(part).count(), 3, "{part}: {text}");
            }
            assert!(text.contains("started   1970-01-01T00:00:07.000Z"), "{text}");
            assert!(!text.contains("ends here"), "{text}");
        }
        assert!(search(&entries, Wanted::Pid(9)).is_none());
        assert!(search(&entries, Wanted::Index(9)).is_none());
    }

    #[test]
    fn a_process_that_never_acted_is_known_from_its_children() {
        let view = search(&[exit(0, Digest::Pending)], Wanted::Pid(5)).expect("a chain");
        assert_eq!(pids(&view), [5, 1]);
        let view = search(&[exec(5, Some(1)), exit(1, Digest::Pending)], Wanted::Pid(5)).expect("a chain");
        assert_eq!((pids(&view), view.index), (vec![5, 1], 0), "its own entry says more");
    }

    #[test]
    fn a_link_to_another_program_is_a_gap_with_its_hash() {
        let mut ran = exec(5, Some(1));
        if let EntryBody::Act { process, .. } = &mut ran.body {
            let process = Arc::make_mut(process);
            Arc::make_mut(&mut process.program).image.digest = Digest::Sha256([1; 32]);
        }
        let view = search(&[ran, exit(1, Digest::Sha256([2; 32]))], Wanted::Pid(6)).expect("a chain");
        assert!(view.steps[1].gap && !view.steps[2].gap, "{view:?}");
        assert_eq!(view.steps[1].process.program.image.digest, Digest::Sha256([2; 32]));
        assert!(view.text().contains("5:1  not known"), "{}", view.text());
    }

    #[test]
    fn an_executable_that_the_kernel_does_not_show_is_no_gap() {
        let mut ran = exec(5, None);
        if let EntryBody::Act { process, .. } = &mut ran.body {
            let program = Arc::make_mut(&mut Arc::make_mut(process).program);
            program.image = Image { digest: Digest::Unreadable, ..Image::default() };
        }
        let view = search(&[ran], Wanted::Pid(5)).expect("a chain");
        assert!(!view.steps[0].gap);
        let text = view.text();
        for part in ["5:1  executable not known", "sha256    unreadable", "argv      cat x", "user      1000"]
        {
            assert!(text.contains(part), "`{part}` is not in:\n{text}");
        }
    }

    #[test]
    fn what_was_known_of_another_boot_is_not_used() {
        let mut later = exit(1, Digest::Pending);
        Arc::make_mut(&mut later.origin).boot_id = "other".to_owned();
        let view = search(&[exec(5, Some(1)), later], Wanted::Pid(6)).expect("a chain");
        assert!(view.steps[1].gap, "{view:?}");
    }

    #[test]
    fn memory_is_bounded() {
        let mut search = AncestrySearch::new(Wanted::Pid(1));
        for pid in 0..=u32::try_from(PROCESSES_MAX).expect("fits") {
            search.remember(&process(pid, None));
        }
        assert_eq!((search.known.len(), search.order.len()), (PROCESSES_MAX, PROCESSES_MAX));
        assert!(!search.known.contains_key(&key(0)));
    }
}
