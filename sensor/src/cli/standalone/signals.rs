//! The signals of the launcher.

use std::{fs, future::poll_fn, task::Poll};

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use tokio::signal::unix::{self, SignalKind, signal};

/// Those of the terminal. It sends them to the group, so the command has them already; the launcher only survives them.
const OF_THE_TERMINAL: [Signal; 4] = [Signal::INT, Signal::QUIT, Signal::TSTP, Signal::TTIN];

/// Those that are sent to the launcher and meant for the command.
const PASSED_ON: [Signal; 4] = [Signal::TERM, Signal::HUP, Signal::USR1, Signal::USR2];

/// What woke the launcher.
pub(super) enum Happened {
    /// A child of its changed.
    Child,
    /// Somebody sent it a signal.
    Sent(Signal),
}

/// The signals that are caught.
pub(super) struct Signals {
    passed_on: Vec<(Signal, unix::Signal)>,
    children: Option<unix::Signal>,
}

impl Signals {
    /// Catches what is not ignored. What is ignored (`nohup`) stays so, here and in the command, which inherits that; a
    /// caught signal is back to its default there.
    pub(super) fn catch() -> Result<Self> {
        let status = fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
        let ignored = ignored(&status).context("/proc/self/status does not say what is ignored")?;
        let is_caught = |signal: &Signal| ignored & 1 << (signal.as_raw() - 1) == 0;
        for number in OF_THE_TERMINAL.into_iter().filter(is_caught) {
            // Never read: the handler, which tokio leaves in place, keeps the default away.
            drop(catch(number)?);
        }
        let passed_on = PASSED_ON.into_iter().filter(is_caught);
        let passed_on = passed_on.map(|number| Ok((number, catch(number)?))).collect::<Result<_>>()?;
        Ok(Self { passed_on, children: None })
    }

    /// Catches what becomes of children.
    pub(super) fn catch_children(&mut self) -> Result<()> {
        self.children = Some(signal(SignalKind::child()).context("cannot catch SIGCHLD")?);
        Ok(())
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) -> Happened {
        poll_fn(|context| {
            for (number, stream) in &mut self.passed_on {
                if stream.poll_recv(context).is_ready() {
                    return Poll::Ready(Happened::Sent(*number));
                }
            }
            match &mut self.children {
                Some(children) => children.poll_recv(context).map(|_| Happened::Child),
                None => Poll::Pending,
            }
        })
        .await
    }
}

fn catch(number: Signal) -> Result<unix::Signal> {
    signal(SignalKind::from_raw(number.as_raw())).with_context(|| format!("cannot catch {number:?}"))
}

/// The set of ignored signals: bit 0 is signal 1.
fn ignored(status: &str) -> Option<u64> {
    let words = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(words.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_signals() {
        assert_eq!(ignored("Name:\tx\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000001003\n"), Some(0x1003));
        for wrong in ["", "SigIgn:", "SigIgn:\tx\n", "SigBlk:\t01\n"] {
            assert_eq!(ignored(wrong), None, "{wrong}");
        }
    }
}
