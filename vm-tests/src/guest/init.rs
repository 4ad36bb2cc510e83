//! PID 1: makes the guest a machine, starts the suite, reaps, and powers off.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::{fs, thread, time::Duration};

use anyhow::{Context, Result};
use rustix::process::{WaitOptions, wait};
use rustix::system::{RebootCommand, reboot};
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

use super::first_stage;
use crate::suite::stage::FORBIDDEN_ADDRESS6;

/// Never returns: the guest powers off whatever happens, since a guest that waits for a human is a time-out.
pub(crate) fn run() -> ExitCode {
    let done = if is_first_stage() { first_stage::hand_over() } else { machine().and_then(|()| suite()) };
    if let Err(error) = done {
        // Only the console: without `exit` on the result port the host calls this a crash, which it is.
        eprintln!("guest: {error:#}");
    }
    rustix::fs::sync();
    if let Err(error) = reboot(RebootCommand::PowerOff) {
        eprintln!("guest: power-off: {error}");
    }
    loop {
        thread::sleep(Duration::from_secs(1));
    }
}

/// Whether this guest's machine is a distribution's, whose own PID 1 follows. The host leaves
/// what belongs onto its disk there, and only there.
fn is_first_stage() -> bool {
    Path::new("/payload").is_dir()
}

fn machine() -> Result<()> {
    super::mounts::mount_all()?;
    set_clock()?;
    load_modules()?;
    for directory in ["/root", "/var/tmp", "/var/lib", "/var/log", "/home/dev"] {
        fs::create_dir_all(directory).with_context(|| format!("creating {directory}"))?;
    }
    // An address of a block, for connects that stay here.
    let address = format!("{FORBIDDEN_ADDRESS6}/128");
    for words in [&["link", "set", "lo", "up"][..], &["-6", "addr", "add", &address, "dev", "lo"]] {
        let status = Command::new("/bin/busybox").arg("ip").args(words).status();
        let status = status.context("running busybox ip")?;
        anyhow::ensure!(status.success(), "`ip {}` failed", words.join(" "));
    }
    Ok(())
}

/// QEMU's clock is the host's, but a kernel without an RTC driver starts in 1970, and checkpoints and
/// certificates dated then would fail for a reason that no user has.
fn set_clock() -> Result<()> {
    let now = clock_gettime(ClockId::Realtime);
    let built = built_at_s();
    if now.tv_sec < built {
        clock_settime(ClockId::Realtime, Timespec { tv_sec: built, tv_nsec: 0 })
            .context("setting the clock")?;
    }
    Ok(())
}

/// When this guest was put together, in seconds since 1970: the modification time of PID 1 in the initramfs.
fn built_at_s() -> i64 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/init").map_or(0, |meta| meta.mtime())
}

/// Loads what the host has put into `/modules`, named so that sorting gives the load order. A module that the
/// kernel refuses is reported and left out: the tests that need it are skipped by name.
pub(super) fn load_modules() -> Result<()> {
    let Ok(entries) = fs::read_dir("/modules") else { return Ok(()) };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let file = fs::File::open(&path).with_context(|| format!("opening {}", path.display()))?;
        if let Err(error) = rustix::system::finit_module(&file, c"", 0) {
            eprintln!("guest: module {}: {error}", path.display());
        }
    }
    Ok(())
}

/// Runs the suite as a child, so that this process does nothing but reap.
fn suite() -> Result<()> {
    let suite = Command::new("/init")
        .arg("suite")
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/root")
        .env("RUST_BACKTRACE", "1")
        .spawn()
        .context("starting the suite")?;
    loop {
        match wait(WaitOptions::empty()).context("waiting for children")? {
            Some((pid, status)) if pid.as_raw_nonzero().get().unsigned_abs() == suite.id() => {
                anyhow::ensure!(status.exit_status() == Some(0), "the suite ended with {status:?}");
                return Ok(());
            }
            Some(_) | None => {}
        }
    }
}
