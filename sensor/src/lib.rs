//! The Treeline sensor: a library, so that tests drive it without a process.
#![deny(unsafe_code)]

pub mod backend;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
mod durable;
pub mod enrich;
#[doc(hidden)]
pub mod foreign;
pub mod log;
pub mod tools;
pub mod view;
