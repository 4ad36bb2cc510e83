//! The unix socket between the daemon and everybody else on the machine.

pub mod client;
pub mod line;
pub mod peer;
pub mod proto;
pub mod server;
mod visible;
