//! Harness of the end-to-end tests, shared with `cargo xtask demo`: a scripted model API, the environment in which the
//! real Claude Code runs offline, private namespaces, and children that cannot outlive their time.
#![forbid(unsafe_code)]

pub mod child;
pub mod claude;
pub mod model_api;
pub mod namespace;
pub mod samples;
pub mod sensor;
pub mod terminal;
pub mod venv;
