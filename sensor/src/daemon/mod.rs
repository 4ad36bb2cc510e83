//! The sensor as a running thing: threads, queues, and the daemon around them.
//!
//! Three threads. The *source* owns the backend and does nothing but move what it delivers into a bounded queue; it
//! never waits for anybody, because in some attach modes it also answers permission events. The *pipeline* enriches,
//! encodes and appends to the log, which it owns. The *control server* talks to users. The latter two ask the former
//! through closed enums that carry a place for the answer.
//!
//! Invariant: a slow log makes loss, counted by kind, and never a wait in a hook.

pub mod adapters;
mod approvals;
pub mod approve;
pub mod attempts;
pub mod detach;
mod expiry;
pub mod homes;
pub mod inherit;
pub mod itself;
pub mod lock;
pub mod main_loop;
pub mod marks;
pub mod pipeline;
pub mod policy;
pub mod pulse;
pub mod queue;
pub mod recorder;
pub mod seams;
pub mod sensor;
pub mod sessions;
pub mod shares;
pub mod source;
pub mod start;
pub mod status;

pub use sensor::{Sensor, SensorError};
pub use status::Status;
