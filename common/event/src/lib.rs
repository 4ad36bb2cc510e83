//! The model of an event and its one stored form, OCSF JSON.
//!
//! Entries live for years while the kernel records change with every build, so this crate knows nothing of
//! `treeline-abi`.
#![forbid(unsafe_code)]

pub mod action;
pub mod attributes;
pub mod event;
pub mod image;
pub mod kind;
pub mod ocsf;
pub mod path;
pub mod process;
pub mod sensor;
mod text;

pub use action::{
    Action, AdoptedBy, Destination, FileRef, LOCKS_RULE, OWN_RULES, OpenFlags, Outcome, SELF_RULE,
    SocketKind, Subject, Tampering, is_own_rule,
};
pub use attributes::{Claims, Group, SessionAttributes};
pub use event::{Body, Event, Level, Mode, RuleHit, Timestamp, Verdict};
pub use image::{Digest, FileId, Image};
pub use kind::KINDS;
pub use ocsf::{
    Ancestry, Cut, DecodeError, Decoder, ENTRY_BYTES_MAX, Entry, EntryBody, Link, Meta, Origin, decode,
    encode,
};
pub use path::PathBytes;
pub use process::{Process, ProcessKey, Program, SessionId};
pub use sensor::{
    Approval, Asker, AttachMode, HookState, HookStatus, Notice, PolicyPart, RuleState, RuleStatus,
};
