//! The file systems that a sensor and its subjects expect.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, mount};

struct Mount {
    kind: &'static str,
    at: &'static str,
    /// A kernel without it still runs the suite; the tests that need it say so.
    optional: bool,
}

const MOUNTS: &[Mount] = &[
    Mount { kind: "devtmpfs", at: "/dev", optional: false },
    Mount { kind: "proc", at: "/proc", optional: false },
    Mount { kind: "sysfs", at: "/sys", optional: false },
    Mount { kind: "securityfs", at: "/sys/kernel/security", optional: false },
    Mount { kind: "tracefs", at: "/sys/kernel/tracing", optional: true },
    Mount { kind: "bpf", at: "/sys/fs/bpf", optional: false },
    Mount { kind: "cgroup2", at: "/sys/fs/cgroup", optional: false },
    Mount { kind: "devpts", at: "/dev/pts", optional: true },
    Mount { kind: "tmpfs", at: "/dev/shm", optional: false },
    Mount { kind: "tmpfs", at: "/run", optional: false },
    Mount { kind: "tmpfs", at: "/tmp", optional: false },
    Mount { kind: "tmpfs", at: "/home", optional: false },
    Mount { kind: "tmpfs", at: "/var", optional: false },
];

/// Mounts them all, in order.
pub(crate) fn mount_all() -> Result<()> {
    for Mount { kind, at, optional } in MOUNTS {
        // Directories on kernel file systems exist or cannot be made; `mount` reports the second case.
        if let Err(error) = fs::create_dir_all(at)
            && !Path::new(at).is_dir()
        {
            eprintln!("guest: no directory {at}: {error}");
        }
        let result = mount(*kind, *at, *kind, MountFlags::empty(), None);
        match result {
            // The kernel may have mounted devtmpfs by itself.
            Ok(()) | Err(rustix::io::Errno::BUSY) => {}
            Err(error) if *optional => eprintln!("guest: {kind} at {at}: {error}"),
            Err(error) => return Err(error).with_context(|| format!("mounting {kind} at {at}")),
        }
    }
    Ok(())
}
