//! The thread that makes entries of what the source delivers. It owns the log.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use treeline_event::{Action, Body, Digest, Event, Image, Notice, ProcessKey, SessionId, Verdict};
use treeline_policy::Policy;

use super::{
    pulse::Pulse,
    recorder::Recorder,
    seams::{Enrich, Record, RecordError},
    source::SourceCommand,
    status::Board,
};
use crate::backend::Delivery;

/// How often hashes are collected and checkpoints looked after when nothing happens.
const TICK: Duration = Duration::from_millis(100);

/// How often live processes are counted, which looks at every one of them.
const COUNT_INTERVAL: Duration = Duration::from_secs(1);

/// Deliveries between two looks at commands and checkpoints.
const BATCH_LEN_MAX: usize = 1024;

/// A denial is signed for sooner than other entries, but not more often than this: an agent that tries again and
/// again must not turn the log into a series of syncs.
const DENIAL_CHECKPOINT_INTERVAL: Duration = Duration::from_millis(200);

/// What the pipeline is asked for. It answers when the entries in question are in the log.
#[derive(Debug)]
pub enum PipelineCommand {
    /// Record a statement.
    Note(Box<Notice>, Sender<()>),
    /// These processes were labelled.
    Tracked(SessionId, ProcessKey, Vec<ProcessKey>, Sender<()>),
    /// A policy that verdicts may refer to from now on.
    PolicyKnown(u64, Box<Policy>, Sender<()>),
    /// Record everything that is in the queue, and sign it.
    Flush(Sender<()>),
    /// Do the same, say that and why the sensor stops, and end.
    Stop(String),
}

/// The pipeline's parts.
pub struct Pipeline {
    /// From the source.
    pub queue: Receiver<Delivery>,
    /// From everybody else.
    pub commands: Receiver<PipelineCommand>,
    /// To the source, about contents.
    pub source: Sender<SourceCommand>,
    /// The enrichment.
    pub enricher: Box<dyn Enrich>,
    /// The log.
    pub recorder: Recorder,
    /// Where the state is shown.
    pub board: Arc<Board>,
    /// Of a batch.
    events: Vec<Event>,
    denied: bool,
    denial_checkpoint: Option<Instant>,
    counted: Option<Instant>,
    /// Deliveries that were taken from the queue, and those of them that are in the log.
    taken: u64,
    recorded: Arc<AtomicU64>,
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline").field("recorder", &self.recorder).finish_non_exhaustive()
    }
}

impl Pipeline {
    /// Puts the parts together.
    #[must_use]
    pub fn new(
        queue: Receiver<Delivery>,
        commands: Receiver<PipelineCommand>,
        source: Sender<SourceCommand>,
        enricher: Box<dyn Enrich>,
        log: Box<dyn Record>,
        board: Arc<Board>,
    ) -> Self {
        let recorder = Recorder::new(log, Arc::clone(&board));
        Self {
            queue,
            commands,
            source,
            enricher,
            recorder,
            board,
            events: Vec::new(),
            denied: false,
            denial_checkpoint: None,
            counted: None,
            taken: 0,
            recorded: Arc::default(),
        }
    }

    /// How many deliveries are in the log, for whoever sends them.
    #[must_use]
    pub fn recorded(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.recorded)
    }

    /// Runs until it is told to stop or the log breaks. Whatever ends it, what was taken is signed if that can be done.
    ///
    /// # Errors
    /// The log's, or the words of a panic.
    pub fn run(mut self, pulse: &Pulse) -> Result<(), RecordError> {
        let result = catch_unwind(AssertUnwindSafe(|| self.serve(pulse)));
        let result =
            result.unwrap_or_else(|panic| Err(RecordError::Broken(super::sensor::panic_words(&*panic))));
        if result.is_err() {
            let checkpoint = catch_unwind(AssertUnwindSafe(|| self.recorder.checkpoint_now()));
            if !matches!(checkpoint, Ok(Ok(()))) {
                tracing::error!(
                    "the last entries could not be signed; the next start recovers what was written"
                );
            }
        }
        result
    }

    fn serve(&mut self, pulse: &Pulse) -> Result<(), RecordError> {
        let mut ticked = Instant::now();
        loop {
            pulse.beat();
            for command in self.commands.try_iter().collect::<Vec<_>>() {
                match command {
                    PipelineCommand::Note(notice, reply) => {
                        self.note(*notice)?;
                        let _ = reply.send(());
                    }
                    PipelineCommand::Tracked(session, root, members, reply) => {
                        self.enricher.tracked(session, root, &members);
                        let _ = reply.send(());
                    }
                    PipelineCommand::PolicyKnown(generation, policy, reply) => {
                        self.enricher.policy_known(generation, &policy);
                        let _ = reply.send(());
                    }
                    PipelineCommand::Flush(reply) => {
                        self.flush()?;
                        let _ = reply.send(());
                    }
                    PipelineCommand::Stop(reason) => {
                        self.flush()?;
                        self.enricher.finish(&mut self.events);
                        self.record_events()?;
                        self.note(Notice::Stopped { reason })?;
                        return self.recorder.checkpoint_now();
                    }
                }
            }
            let idle = match self
                .queue
                .recv_timeout(TICK.saturating_sub(ticked.elapsed()).min(Duration::from_millis(20)))
            {
                Ok(delivery) => {
                    self.take(delivery)?;
                    self.take_waiting(BATCH_LEN_MAX)?;
                    false
                }
                Err(RecvTimeoutError::Timeout) => true,
                // The source ended; its own error says why, and a `Stop` follows.
                Err(RecvTimeoutError::Disconnected) => {
                    std::thread::sleep(Duration::from_millis(5));
                    true
                }
            };
            // A queue that never gets empty must not keep the log from being signed.
            let due = ticked.elapsed() >= TICK;
            if due {
                ticked = Instant::now();
                self.tick()?;
            }
            self.look_after_checkpoints(idle || due)?;
        }
    }

    fn take_waiting(&mut self, max: usize) -> Result<(), RecordError> {
        for _ in 0..max {
            match self.queue.try_recv() {
                Ok(delivery) => self.take(delivery)?,
                Err(_) => break,
            }
        }
        Ok(())
    }

    fn take(&mut self, delivery: Delivery) -> Result<(), RecordError> {
        self.taken += 1;
        match delivery {
            Delivery::Observation(observation) => {
                if observation.verdict == Verdict::Deny {
                    self.denied = true;
                    self.board.update(|status| status.denied += 1);
                }
                self.enricher.observe(*observation, &mut self.events);
                self.record_events()
            }
            Delivery::Loss(loss) => {
                self.board.count_loss(loss.site, loss.kind, loss.count);
                tracing::error!(kind = loss.kind, site = loss.site, count = loss.count, "events were lost");
                self.note(Notice::Lost {
                    kind: loss.kind.to_owned(),
                    site: loss.site.to_owned(),
                    count: loss.count,
                    first_ns: loss.first_ns,
                    last_ns: loss.last_ns,
                })
            }
            Delivery::Malformed { what, error } => {
                self.note(Notice::Malformed { what: what.to_owned(), error })
            }
        }
    }

    fn record_events(&mut self) -> Result<(), RecordError> {
        let mut events = std::mem::take(&mut self.events);
        for event in events.drain(..) {
            self.pass_on_content(&event);
            self.recorder.record(&event)?;
        }
        self.events = events;
        Ok(())
    }

    /// Rules by SHA-256 are decided in the kernel by identity, so it has to learn which identities have which content.
    fn pass_on_content(&self, event: &Event) {
        let pass_on = |image: &Image| {
            if let Digest::Sha256(sha256) = image.digest {
                // The source takes commands at every poll and outlives this thread except when it broke.
                let known = SourceCommand::ContentKnown(image.path.clone(), image.file, sha256);
                drop(self.source.send_timeout(known, Duration::from_secs(1)));
            }
        };
        match &event.body {
            Body::Notice(Notice::ImageHashed { image }) => pass_on(image),
            Body::Act { subject, action: Action::Exec, .. } => {
                pass_on(&subject.process.program.image);
                if let Some(script) = &subject.process.program.script {
                    pass_on(script);
                }
            }
            _ => {}
        }
    }

    fn note(&mut self, notice: Notice) -> Result<(), RecordError> {
        let event = self.enricher.notice(notice);
        self.recorder.record(&event)
    }

    fn tick(&mut self) -> Result<(), RecordError> {
        self.enricher.tick(&mut self.events);
        self.record_events()?;
        for notice in self.recorder.retry()? {
            self.note(notice)?;
        }
        let queued = self.queue.len();
        self.board.update(|status| status.queued = queued);
        if self.counted.is_none_or(|at| at.elapsed() >= COUNT_INTERVAL) {
            self.count_live();
        }
        Ok(())
    }

    fn count_live(&mut self) {
        self.counted = Some(Instant::now());
        let live = self.enricher.live();
        self.board.update(|status| {
            for session in &mut status.sessions {
                session.live = live.get(&session.session).copied().unwrap_or(0);
            }
        });
    }

    fn look_after_checkpoints(&mut self, due: bool) -> Result<(), RecordError> {
        let soon = self.denial_checkpoint.is_none_or(|latest| latest.elapsed() >= DENIAL_CHECKPOINT_INTERVAL);
        if self.denied && soon {
            self.denied = false;
            self.denial_checkpoint = Some(Instant::now());
            self.recorder.checkpoint_now()?;
        } else if due || self.queue.is_empty() {
            self.recorder.checkpoint_if_due()?;
        } else {
            return Ok(());
        }
        if self.recorder.is_up_to_date() {
            self.recorded.store(self.taken, Ordering::Release);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), RecordError> {
        // What comes in meanwhile belongs to the next flush.
        self.take_waiting(self.queue.len())?;
        self.tick()?;
        self.count_live();
        self.recorder.checkpoint_now()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, sync::atomic::Ordering::SeqCst};

    use crossbeam_channel::bounded;
    use treeline_event::{AttachMode, ProcessKey, Timestamp};

    use super::*;
    use crate::{
        backend::Observation,
        daemon::status::{LogStatus, Status},
    };

    /// Makes an entry of every statement.
    struct Plain;

    impl Enrich for Plain {
        fn observe(&mut self, _observation: Observation, _events: &mut Vec<Event>) {}
        fn notice(&mut self, notice: Notice) -> Event {
            Event { time: Timestamp { boot_ns: 0, wall_ms: 0 }, session: None, body: Body::Notice(notice) }
        }
        fn tick(&mut self, _events: &mut Vec<Event>) {}
        fn policy_known(&mut self, _generation: u64, _policy: &Policy) {}
        fn tracked(&mut self, _session: SessionId, _root: ProcessKey, _members: &[ProcessKey]) {}
        fn live(&self) -> HashMap<SessionId, usize> {
            HashMap::new()
        }
        fn finish(&mut self, _events: &mut Vec<Event>) {}
    }

    /// A log that takes entries more slowly than they come and counts how often it could have signed.
    struct Slow(Arc<AtomicU64>);

    impl Record for Slow {
        fn encode(&mut self, _event: &Event, _index: u64, _entry: &mut Vec<u8>) {}
        fn append(&mut self, _entry: &[u8]) -> Result<u64, RecordError> {
            std::thread::sleep(Duration::from_micros(200));
            Ok(0)
        }
        fn checkpoint_if_due(&mut self) -> Result<(), RecordError> {
            self.0.fetch_add(1, SeqCst);
            Ok(())
        }
        fn checkpoint_now(&mut self) -> Result<(), RecordError> {
            Ok(())
        }
        fn sizes(&self) -> (u64, u64) {
            (0, 0)
        }
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
    fn the_log_is_signed_under_endless_load() {
        let (feed, queue) = bounded(64);
        let (control, commands) = bounded(1);
        let (source, _source_commands) = bounded(1);
        let signed = Arc::new(AtomicU64::new(0));
        let pipeline = Pipeline::new(
            queue,
            commands,
            source,
            Box::new(Plain),
            Box::new(Slow(Arc::clone(&signed))),
            board(),
        );
        // Full before the first look and until the last one.
        for _ in 0..64 {
            feed.send(Delivery::Malformed { what: "ring record", error: String::new() })
                .expect("there is room");
        }
        let thread = std::thread::spawn(move || pipeline.run(&Pulse::default()));
        let begun = Instant::now();
        while signed.load(SeqCst) == 0 && begun.elapsed() < Duration::from_secs(10) {
            feed.send(Delivery::Malformed { what: "ring record", error: String::new() })
                .expect("the pipeline runs");
        }
        let under_load = signed.load(SeqCst);
        control.send(PipelineCommand::Stop(String::new())).expect("the pipeline runs");
        thread.join().expect("no panic").expect("no error");
        assert!(under_load > 0, "not once in ten seconds of load");
    }
}
