//! What the kernel programs and the agent say to each other: ring buffer records and map layouts.
//!
//! Every type is `repr(C)`, made of fixed-width integers with explicit padding, and has its size asserted.
//! Both sides are built from this crate and loaded together, so nothing here is stored: the layout may change
//! with every build. What is stored lives in `treeline-event`.
#![no_std]
#![forbid(unsafe_code)]

pub mod adopt;
pub mod config;
pub mod content;
pub mod environment;
pub mod grant;
pub mod label;
pub mod lift;
pub mod name;
pub mod network;
pub mod parity;
pub mod paths;
pub mod record;
pub mod sensor;
pub mod subject;

pub use config::{Offsets, Settings};
pub use label::{Label, LabelFlags};
pub use record::{Header, Kind, Loss, Verdict};

/// The text of what says how records, counters and the heads of tables are laid out. Builds for which it is the same can
/// read each other's.
pub const RECORD_LAYOUT: [&str; 2] = [include_str!("record.rs"), include_str!("paths.rs")];
