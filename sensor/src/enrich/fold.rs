//! Folding of repeated opens into one event with an exact count.
//!
//! The first open of a kind is reported at once. Its repeats within the window are held back and reported as one event
//! when the window ends, when the process execs or exits, or at the latest when the sensor stops. So the counts of all
//! reported opens add up to the opens that were seen, always.

use std::collections::HashMap;

use treeline_event::{Action, Body, Event, FileId, FileRef, OpenFlags, Outcome, PathBytes, ProcessKey};

/// What makes two opens of a process the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Same {
    object: Object,
    flags: OpenFlags,
    outcome: (u8, i32),
}

/// Which object an open meant: what it is, or what it was called when nothing was reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Object {
    Id(FileId),
    Path(PathBytes),
}

impl Same {
    fn new(file: &FileRef, flags: OpenFlags, outcome: Outcome) -> Self {
        let object = file.id.map_or_else(|| Object::Path(file.path.clone()), Object::Id);
        let outcome = match outcome {
            Outcome::Ok => (0, 0),
            Outcome::Errno(errno) => (1, errno),
            Outcome::Unknown => (2, 0),
        };
        Self { object, flags, outcome }
    }
}

#[derive(Debug)]
struct Window {
    opened_ns: u64,
    held: Option<Event>,
}

/// The opens that are being folded.
#[derive(Debug)]
pub struct Folds {
    window_ns: u64,
    windows_max: usize,
    windows: usize,
    by_process: HashMap<ProcessKey, HashMap<Same, Window>>,
}

impl Folds {
    /// Nothing yet.
    #[must_use]
    pub fn new(window_ns: u64, windows_max: usize) -> Self {
        Self { window_ns, windows_max, windows: 0, by_process: HashMap::new() }
    }

    /// Takes an event that may be folded: the event itself when it is to be reported now, and before it the event that
    /// its kind held back, when a window ended with it.
    pub fn offer(&mut self, event: Event, events: &mut Vec<Event>) {
        let Body::Act { subject, action: Action::Open { file, flags, outcome, count }, .. } = &event.body
        else {
            events.push(event);
            return;
        };
        let (process, count) = (subject.process.key, *count);
        let same = Same::new(file, *flags, *outcome);
        let time_ns = event.time.boot_ns;
        if let Some(window) = self.by_process.get_mut(&process).and_then(|windows| windows.get_mut(&same)) {
            if time_ns.saturating_sub(window.opened_ns) < self.window_ns {
                window.hold(event, count);
                return;
            }
            events.extend(window.held.take());
            window.opened_ns = time_ns;
        } else if self.windows < self.windows_max {
            self.by_process
                .entry(process)
                .or_default()
                .insert(same, Window { opened_ns: time_ns, held: None });
            self.windows += 1;
        }
        events.push(event);
    }

    /// Ends the windows of one process: it execs or exits.
    pub fn end(&mut self, process: ProcessKey, events: &mut Vec<Event>) {
        if let Some(windows) = self.by_process.remove(&process) {
            self.windows -= windows.len();
            events.extend(windows.into_values().filter_map(|window| window.held));
        }
    }

    /// Ends the windows that are older than their length.
    pub fn expire(&mut self, now_ns: u64, events: &mut Vec<Event>) {
        let window_ns = self.window_ns;
        let mut left = 0;
        self.by_process.retain(|_, windows| {
            windows.retain(|_, window| {
                let open = now_ns.saturating_sub(window.opened_ns) < window_ns;
                if !open {
                    events.extend(window.held.take());
                }
                open
            });
            left += windows.len();
            !windows.is_empty()
        });
        self.windows = left;
    }

    /// Ends every window.
    pub fn end_all(&mut self, events: &mut Vec<Event>) {
        self.expire(u64::MAX, events);
    }
}

impl Window {
    fn hold(&mut self, event: Event, count: u64) {
        let Some(held) = &mut self.held else {
            self.held = Some(event);
            return;
        };
        held.time = held.time.max(event.time);
        if let Body::Act { action: Action::Open { count: total, .. }, .. } = &mut held.body {
            *total = total.saturating_add(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use treeline_event::{Process, Subject, Timestamp, Verdict};

    use super::*;

    fn open(pid: u32, path: &str, time_ns: u64) -> Event {
        let key = ProcessKey { pid, start_ticks: 1 };
        let process = Process { key, ..Process::default() };
        let file = FileRef { path: path.into(), ..FileRef::default() };
        Event {
            time: Timestamp { boot_ns: time_ns, wall_ms: 0 },
            session: None,
            body: Body::Act {
                subject: Subject { process: Arc::new(process), ancestry: Vec::new() },
                action: Action::Open { file, flags: OpenFlags(0), outcome: Outcome::Ok, count: 1 },
                verdict: Verdict::Allow,
                rule: None,
            },
        }
    }

    fn counts(events: &[Event]) -> Vec<u64> {
        let count = |event: &Event| match &event.body {
            Body::Act { action: Action::Open { count, .. }, .. } => *count,
            _ => 0,
        };
        events.iter().map(count).collect()
    }

    #[test]
    fn first_at_once_repeats_at_the_end() {
        let (mut folds, mut events) = (Folds::new(100, 8), Vec::new());
        for time_ns in [0, 1, 2, 3] {
            folds.offer(open(1, "/a", time_ns), &mut events);
        }
        folds.offer(open(2, "/a", 3), &mut events);
        assert_eq!(counts(&events), [1, 1]);
        folds.expire(99, &mut events);
        assert_eq!(events.len(), 2);
        folds.expire(100, &mut events);
        assert_eq!(counts(&events), [1, 1, 3]);
        assert_eq!(events[2].time.boot_ns, 3);
    }

    #[test]
    fn exit_ends_the_window() {
        let (mut folds, mut events) = (Folds::new(100, 8), Vec::new());
        folds.offer(open(1, "/a", 0), &mut events);
        folds.offer(open(1, "/a", 1), &mut events);
        folds.end(ProcessKey { pid: 1, start_ticks: 1 }, &mut events);
        assert_eq!(counts(&events), [1, 1]);
        assert_eq!(folds.windows, 0);
    }

    proptest! {
        #[test]
        fn counts_add_up(steps in proptest::collection::vec((0u32..3, 0u8..4, 0u64..80, 0u8..8), 0..200)) {
            let (mut folds, mut events) = (Folds::new(100, 5), Vec::new());
            let (mut now_ns, mut offered) = (0, 0);
            for (pid, name, later_ns, what) in steps {
                now_ns += later_ns;
                match what {
                    0 => folds.end(ProcessKey { pid, start_ticks: 1 }, &mut events),
                    1 => folds.expire(now_ns, &mut events),
                    _ => {
                        folds.offer(open(pid, &format!("/{name}"), now_ns), &mut events);
                        offered += 1;
                    }
                }
                prop_assert!(folds.windows <= 5);
            }
            folds.end_all(&mut events);
            prop_assert_eq!(folds.windows, 0);
            prop_assert_eq!(counts(&events).iter().sum::<u64>(), offered);
        }
    }
}
