//! The second serial port, which carries results and nothing else.

use std::fs::{File, OpenOptions};
use std::io::Write;

use anyhow::{Context, Result};
use treeline_vm_tests::Line;

/// ISA serial is built into every kernel of the matrix; virtio consoles are modules in some.
const PATH: &str = "/dev/ttyS1";

/// The open port.
pub(crate) struct Port(File);

impl Port {
    /// Opens the port. The line discipline is left alone: a JSON line has no byte that it would change but the
    /// line end, and the reader trims that.
    pub(crate) fn open() -> Result<Self> {
        let file = OpenOptions::new().write(true).open(PATH).with_context(|| format!("opening {PATH}"))?;
        Ok(Self(file))
    }

    /// Writes one line and waits until it has left the machine, so that a crash right after loses nothing.
    pub(crate) fn send(&mut self, line: &Line) -> Result<()> {
        writeln!(self.0, "{}", line.encode()).with_context(|| format!("writing to {PATH}"))?;
        rustix::termios::tcdrain(&self.0).with_context(|| format!("draining {PATH}"))
    }
}
