//! From observations to events.

pub mod markers;
