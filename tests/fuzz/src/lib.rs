//! What the fuzz targets do with bytes. A target panics when a reader of foreign bytes breaks its word.
//!
//! The engine is in `fuzz/`, a workspace of its own: libFuzzer needs a C++ compiler and instrumented code. Everything
//! else is here, so that the unit tests run each target on its seeds wherever they run.
#![forbid(unsafe_code)]

pub mod config;
pub mod control;
pub mod elf;
pub mod event;
pub mod glob;
pub mod learn;
pub mod policy;
pub mod procfs;
pub mod record;
pub mod shell;
mod target;
pub mod tlog;

pub use target::{SEEDS_VARIABLE, TARGETS, Target, leave_seeds};
