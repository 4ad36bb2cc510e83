//! What a guest of `cargo xtask vm` says to the machine that booted it.
//!
//! The guest itself is this package's binary; only the lines that cross the serial port are shared.
#![forbid(unsafe_code)]

pub mod line;

pub use line::{Line, Outcome};
