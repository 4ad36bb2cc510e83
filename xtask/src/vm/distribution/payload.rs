//! What is put onto the disk when a guest boots: the sensor as a package would install it, and the suite as a service.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use treeline_vm_tests::{DISTRIBUTION_POLICY, DISTRIBUTION_POLICY_PATH, DISTRIBUTION_SUITE_PATH};

use crate::checkout::Checkout;
use crate::vm::cpio::Archive;
use crate::vm::initramfs;
use crate::vm::mode::Mode;

/// Where the first stage finds it.
const AT: &str = "/payload";
const UNIT: &str = "packaging/systemd/treeline.service";

/// In an emulated guest the kernel checks the sensor's programs for a minute or more; on a machine it takes seconds. The
/// unit itself is as it ships.
const PATIENCE: &str = "[Service]\nTimeoutStartSec=900\n";

/// The suite begins while the machine still starts, so that a start that hangs is a case that failed. The guest powers
/// off when it is done, however it ended.
const SUITE_UNIT: &str = "\
[Unit]
Description=The suite of Treeline's distribution guests
SuccessAction=poweroff-force
FailureAction=poweroff-force

[Service]
Type=exec
ExecStart=/usr/lib/treeline-guest/guest suite
Environment=HOME=/root RUST_BACKTRACE=1 PATH=/usr/sbin:/usr/bin:/sbin:/bin
StandardInput=null
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
# What cases leave running must not be ended with the suite's own processes, nor hold them up.
KillMode=process
";

/// The archive: PID 1, and what it puts onto the disk.
pub(in crate::vm) fn archive(
    checkout: &Checkout,
    guest: &Path,
    treeline: &Path,
    mode: Mode,
) -> Result<Vec<u8>> {
    let mut archive = Archive::new(initramfs::now_s()?);
    for directory in ["/dev", "/proc", "/newroot"] {
        archive.directory(directory);
    }
    archive.device("/dev/console", 5, 1);
    let read = |path: &Path| fs::read(path).with_context(|| format!("reading {}", path.display()));
    let binary = read(guest)?;
    archive.file("/init", 0o755, &binary);
    let mut put = |path: &str, permissions: u32, content: &[u8]| {
        archive.file(&format!("{AT}{path}"), permissions, content);
    };
    put(DISTRIBUTION_SUITE_PATH, 0o755, &binary);
    put("/usr/bin/treeline", 0o755, &read(treeline)?);
    put("/usr/lib/systemd/system/treeline.service", 0o644, &read(&checkout.root().join(UNIT))?);
    put("/etc/systemd/system/treeline.service.d/guest.conf", 0o644, PATIENCE.as_bytes());
    put("/etc/systemd/system/treeline-guest.service", 0o644, SUITE_UNIT.as_bytes());
    put("/etc/treeline/treeline.toml", 0o644, configuration(mode).as_bytes());
    put(DISTRIBUTION_POLICY_PATH, 0o644, DISTRIBUTION_POLICY.as_bytes());
    for unit in ["/usr/lib/systemd/system/treeline.service", "/etc/systemd/system/treeline-guest.service"] {
        let name = unit.rsplit('/').next().unwrap_or_default();
        archive.link(&format!("{AT}/etc/systemd/system/multi-user.target.wants/{name}"), unit);
    }
    Ok(archive.finish())
}

/// The sensor finds the mode by itself, but for `fallback`, which every kernel of the matrix can do better than. What
/// that one cannot refuse is recorded.
fn configuration(mode: Mode) -> String {
    match mode {
        Mode::Lsm | Mode::FmodRet => String::new(),
        Mode::Fallback => format!("mode = \"{}\"\nunenforceable = \"observe\"\n", mode.word()),
    }
}
