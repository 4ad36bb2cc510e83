//! The guest's own machinery: PID 1, the runner, the serial port, the kernel's log.

pub(crate) mod first_stage;
pub(crate) mod group;
pub(crate) mod init;
pub(crate) mod kernel_log;
pub(crate) mod mounts;
pub(crate) mod port;
pub(crate) mod processes;
pub(crate) mod runner;
pub(crate) mod stuck;
