//! Between the pipeline and the log: what happens when the disk is full.
//!
//! Entries that the log does not take wait in memory, in order, up to a bound; what is beyond it is counted as lost
//! at the site `log`, by kind, and said in the log as soon as there is room.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use treeline_event::{Body, Event, Notice};

use super::{
    queue::kind_of_action,
    seams::{Record, RecordError},
    status::Board,
};

/// Bytes of entries that wait for room on the disk: some ten thousand entries, within the memory budget.
const WAITING_LEN_MAX: usize = 16 << 20;

struct Loss {
    count: u64,
    first_ns: u64,
    last_ns: u64,
}

/// Records events, come what may.
pub struct Recorder {
    log: Box<dyn Record>,
    board: Arc<Board>,
    entry: Vec<u8>,
    waiting: VecDeque<(&'static str, u64, Vec<u8>)>,
    waiting_len: usize,
    waiting_len_max: usize,
    lost: BTreeMap<&'static str, Loss>,
    trouble: bool,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

impl Recorder {
    /// Records to this log and shows its state on the board.
    #[must_use]
    pub fn new(log: Box<dyn Record>, board: Arc<Board>) -> Self {
        Self {
            log,
            board,
            entry: Vec::new(),
            waiting: VecDeque::new(),
            waiting_len: 0,
            waiting_len_max: WAITING_LEN_MAX,
            lost: BTreeMap::new(),
            trouble: false,
        }
    }

    /// Records an event, now or as soon as there is room, or counts it.
    ///
    /// # Errors
    /// [`RecordError::Broken`] only.
    pub fn record(&mut self, event: &Event) -> Result<(), RecordError> {
        let mut entry = std::mem::take(&mut self.entry);
        entry.clear();
        let index = self.log.sizes().0 + self.waiting.len() as u64;
        self.log.encode(event, index, &mut entry);
        let kind = kind_of_event(event);
        let result = if self.waiting.is_empty() {
            match self.log.append(&entry) {
                Ok(_) => Ok(()),
                Err(RecordError::Refused(words)) => {
                    self.show_trouble(&words);
                    self.wait(kind, event.time.boot_ns, &entry);
                    Ok(())
                }
                Err(RecordError::Unfit(words)) => {
                    tracing::error!(kind, "an entry was not recorded: {words}");
                    self.count_loss(kind, event.time.boot_ns);
                    Ok(())
                }
                Err(broken) => Err(broken),
            }
        } else {
            self.wait(kind, event.time.boot_ns, &entry);
            Ok(())
        };
        self.entry = entry;
        result
    }

    /// Tries again what waits. Returns what there is to say about loss once nothing waits any more.
    ///
    /// # Errors
    /// [`RecordError::Broken`] only.
    pub fn retry(&mut self) -> Result<Vec<Notice>, RecordError> {
        while let Some((kind, time_ns, entry)) = self.waiting.front() {
            match self.log.append(entry) {
                Ok(_) => {}
                Err(RecordError::Refused(_)) => return Ok(Vec::new()),
                Err(RecordError::Unfit(_)) => {
                    let (kind, time_ns) = (*kind, *time_ns);
                    self.count_loss(kind, time_ns);
                }
                Err(broken) => return Err(broken),
            }
            let taken = self.waiting.pop_front().map_or(0, |(_, _, entry)| entry.len());
            self.waiting_len -= taken;
        }
        self.show_sizes();
        let lost = std::mem::take(&mut self.lost);
        Ok(lost
            .into_iter()
            .map(|(kind, Loss { count, first_ns, last_ns })| Notice::Lost {
                kind: kind.to_owned(),
                site: "log".to_owned(),
                count,
                first_ns,
                last_ns,
            })
            .collect())
    }

    /// See [`Record::checkpoint_if_due`]. A full disk is no error here.
    ///
    /// # Errors
    /// [`RecordError::Broken`] only.
    pub fn checkpoint_if_due(&mut self) -> Result<(), RecordError> {
        let result = self.log.checkpoint_if_due();
        self.after_checkpoint(result)
    }

    /// See [`Record::checkpoint_now`]. A full disk is no error here.
    ///
    /// # Errors
    /// [`RecordError::Broken`] only.
    pub fn checkpoint_now(&mut self) -> Result<(), RecordError> {
        let result = self.log.checkpoint_now();
        self.after_checkpoint(result)
    }

    /// Whether what was recorded until the latest checkpoint was due is in the log, or said to be lost.
    #[must_use]
    pub fn is_up_to_date(&self) -> bool {
        self.waiting.is_empty() && self.lost.is_empty() && !self.trouble
    }

    fn after_checkpoint(&mut self, result: Result<(), RecordError>) -> Result<(), RecordError> {
        match result {
            Ok(()) => {
                if self.trouble && self.waiting.is_empty() {
                    self.trouble = false;
                    tracing::warn!("the log takes entries again");
                    self.board.update(|status| status.log.trouble = None);
                }
            }
            Err(RecordError::Refused(words) | RecordError::Unfit(words)) => self.show_trouble(&words),
            Err(broken) => return Err(broken),
        }
        self.show_sizes();
        Ok(())
    }

    fn wait(&mut self, kind: &'static str, time_ns: u64, entry: &[u8]) {
        if self.waiting_len + entry.len() > self.waiting_len_max {
            self.count_loss(kind, time_ns);
        } else {
            self.waiting_len += entry.len();
            self.waiting.push_back((kind, time_ns, entry.to_vec()));
        }
    }

    fn count_loss(&mut self, kind: &'static str, time_ns: u64) {
        self.board.count_loss("log", kind, 1);
        let loss = self.lost.entry(kind).or_insert(Loss { count: 0, first_ns: time_ns, last_ns: time_ns });
        loss.count += 1;
        loss.first_ns = loss.first_ns.min(time_ns);
        loss.last_ns = loss.last_ns.max(time_ns);
    }

    fn show_trouble(&mut self, words: &str) {
        if !self.trouble {
            self.trouble = true;
            tracing::error!("the log takes no entries: {words}");
            self.board.update(|status| status.log.trouble = Some(words.to_owned()));
        }
    }

    fn show_sizes(&self) {
        let (size, signed_size) = self.log.sizes();
        let waiting = self.waiting.len();
        self.board.update(|status| {
            status.log.size = size;
            status.log.signed_size = signed_size;
            status.log.waiting = waiting;
        });
    }
}

fn kind_of_event(event: &Event) -> &'static str {
    match &event.body {
        Body::Act { action, .. } => kind_of_action(action),
        Body::Notice(_) => "notice",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use treeline_event::{AttachMode, Timestamp};

    use super::*;
    use crate::daemon::status::{LogStatus, Status};

    /// A log with room for so many entries.
    #[derive(Clone, Default)]
    struct Disk(Arc<Mutex<(usize, Vec<Vec<u8>>)>>);

    impl Record for Disk {
        fn encode(&mut self, event: &Event, _index: u64, entry: &mut Vec<u8>) {
            entry.extend(format!("{:?}", event.body).bytes());
        }
        fn append(&mut self, entry: &[u8]) -> Result<u64, RecordError> {
            let mut disk = self.0.lock().expect("no test panics with it");
            if disk.0 == 0 {
                return Err(RecordError::Refused("no space".to_owned()));
            }
            disk.0 -= 1;
            disk.1.push(entry.to_vec());
            Ok(disk.1.len() as u64 - 1)
        }
        fn checkpoint_if_due(&mut self) -> Result<(), RecordError> {
            Ok(())
        }
        fn checkpoint_now(&mut self) -> Result<(), RecordError> {
            Ok(())
        }
        fn sizes(&self) -> (u64, u64) {
            (self.0.lock().expect("no test panics with it").1.len() as u64, 0)
        }
    }

    fn event(boot_ns: u64) -> Event {
        let notice = Notice::Stopped { reason: boot_ns.to_string() };
        Event { time: Timestamp { boot_ns, wall_ms: 0 }, session: None, body: Body::Notice(notice) }
    }

    fn board() -> Arc<Board> {
        Arc::new(Board::new(Status {
            version: String::new(),
            pid: 1,
            mode: AttachMode::Replay,
            kernel: String::new(),
            hooks: Vec::new(),
            policy: None,
            policy_refused: None,
            sessions: Vec::new(),
            log: LogStatus::default(),
            denied: 0,
            loss: Vec::new(),
            queued: 0,
            records: Vec::new(),
            programs: Vec::new(),
        }))
    }

    #[test]
    fn a_full_disk_keeps_order_and_counts_what_does_not_fit() {
        let (disk, board) = (Disk::default(), board());
        disk.0.lock().expect("no test panics with it").0 = 1;
        let mut recorder = Recorder::new(Box::new(disk.clone()), Arc::clone(&board));
        recorder.waiting_len_max = 100;
        for boot_ns in 1..=9 {
            recorder.record(&event(boot_ns)).expect("a full disk is no error");
        }
        assert_eq!(board.snapshot().log.trouble.as_deref(), Some("no space"));
        assert_eq!(recorder.retry().expect("a full disk is no error"), []);

        disk.0.lock().expect("no test panics with it").0 = 100;
        let notices = recorder.retry().expect("there is room");
        let entries = disk.0.lock().expect("no test panics with it").1.clone();
        let Some(Notice::Lost { kind, site, count, last_ns, .. }) = notices.first() else {
            panic!("{notices:?}")
        };
        assert_eq!(
            (kind.as_str(), site.as_str(), *last_ns, entries.len() as u64 + count),
            ("notice", "log", 9, 9)
        );
        let expected: Vec<Vec<u8>> =
            (1..=entries.len() as u64).map(|n| format!("{:?}", event(n).body).into_bytes()).collect();
        assert_eq!(entries, expected);
        recorder.checkpoint_now().expect("there is room");
        let status = board.snapshot();
        assert_eq!((status.log.trouble, status.log.waiting, status.loss[0].count), (None, 0, *count));
    }
}
