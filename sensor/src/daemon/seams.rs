//! What the pipeline needs of its neighbours, as traits: the enrichment, the encoding and the log behind one roof each.

use std::collections::HashMap;

use treeline_event::{Event, Notice, ProcessKey, SessionId};
use treeline_policy::Policy;

use crate::backend::Observation;

/// Turns observations into events.
pub trait Enrich: Send {
    /// What a tracked process did.
    fn observe(&mut self, observation: Observation, events: &mut Vec<Event>);

    /// What the sensor says.
    fn notice(&mut self, notice: Notice) -> Event;

    /// Time went on: hashes may be ready.
    fn tick(&mut self, events: &mut Vec<Event>);

    /// Observations may carry verdicts of this policy from now on. Those before stay known as long as they may come.
    fn policy_known(&mut self, generation: u64, policy: &Policy);

    /// These processes are members of a session: its root, or all that an adopted one had.
    fn tracked(&mut self, session: SessionId, root: ProcessKey, members: &[ProcessKey]);

    /// How many processes of each session live.
    fn live(&self) -> HashMap<SessionId, usize>;

    /// The last events before the sensor stops.
    fn finish(&mut self, events: &mut Vec<Event>);
}

/// Why an entry was not recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Not now: there is no room, or the file system has an error. What was taken is kept, and trying again is right.
    #[error("{0}")]
    Refused(String),
    /// This entry can never be recorded.
    #[error("{0}")]
    Unfit(String),
    /// The log cannot go on.
    #[error("{0}")]
    Broken(String),
}

/// Appends to the log. Encodes, too, so that the pipeline knows one error type.
pub trait Record: Send {
    /// The one stored form of an event that will be the entry of this index.
    fn encode(&mut self, event: &Event, index: u64, entry: &mut Vec<u8>);

    /// Takes an entry.
    ///
    /// # Errors
    /// [`RecordError`]; everything taken before is kept.
    fn append(&mut self, entry: &[u8]) -> Result<u64, RecordError>;

    /// Hands entries over to the kernel, and signs a checkpoint if it is time.
    ///
    /// # Errors
    /// [`RecordError`].
    fn checkpoint_if_due(&mut self) -> Result<(), RecordError>;

    /// Signs a checkpoint over everything that was taken.
    ///
    /// # Errors
    /// [`RecordError`].
    fn checkpoint_now(&mut self) -> Result<(), RecordError>;

    /// Entries in the log, and those of them that are signed.
    fn sizes(&self) -> (u64, u64);
}
