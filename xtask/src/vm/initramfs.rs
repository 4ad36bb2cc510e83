//! The guest's root file system: archives one behind the other, which the kernel unpacks in this order.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};

use super::cpio::Archive;
use super::filesystems;
use super::kernel::Kernel;
use super::programs::Programs;

/// What the suite uses beyond a cloud kernel's built-in code.
pub(super) const MODULES: &[&str] = &["overlay", "loop", "binfmt_misc"];

const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\ndev:x:1000:1000:A Developer:/home/dev:/bin/bash\n";
const GROUP: &str = "root:x:0:\ndev:x:1000:\ntreeline:x:990:dev\n";
const NSSWITCH: &str = "passwd: files\ngroup: files\nhosts: files\n";

/// The part that is the same for every kernel: programs, PID 1, and the sensor when there is one.
pub(super) fn common(guest: &Path, treeline: Option<&Path>) -> Result<Vec<u8>> {
    let mut archive = Archive::new(now_s()?);
    for directory in
        ["/dev", "/proc", "/sys", "/run", "/tmp", "/home", "/var", "/root", "/usr/lib64", "/usr/sbin"]
    {
        archive.directory(directory);
    }
    for top in ["bin", "sbin", "lib", "lib64"] {
        archive.link(&format!("/{top}"), &format!("usr/{top}"));
    }
    // The kernel opens it for PID 1 before anything is mounted.
    archive.device("/dev/console", 5, 1);
    archive.file("/etc/passwd", 0o644, PASSWD.as_bytes());
    archive.file("/etc/group", 0o644, GROUP.as_bytes());
    archive.file("/etc/nsswitch.conf", 0o644, NSSWITCH.as_bytes());
    archive.file("/etc/hosts", 0o644, b"127.0.0.1 localhost\n");

    let binary = fs::read(guest).with_context(|| format!("reading {}", guest.display()))?;
    archive.file("/init", 0o755, &binary);
    // The subject under test is a file of its own: a rule about it must not be one about PID 1.
    archive.file("/usr/bin/act", 0o755, &binary);
    archive.file("/usr/bin/busybox", 0o755, &busybox()?);
    filesystems::write(&mut archive)?;

    let mut programs = Programs::of_this_machine()?;
    if let Some(treeline) = treeline {
        programs.add(treeline, Path::new("/usr/bin/treeline"))?;
    }
    programs.write(&mut archive)?;
    Ok(archive.finish())
}

/// The part that belongs to one kernel: its modules, named in load order.
pub(super) fn modules(kernel: &Kernel, modules: &[&str]) -> Result<Vec<u8>> {
    let mut archive = Archive::new(now_s()?);
    archive.directory("/modules");
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    for module in modules {
        for (name, content) in kernel.module(module)? {
            if files.iter().all(|(known, _)| *known != name) {
                files.push((name, content));
            }
        }
    }
    for (index, (name, content)) in files.iter().enumerate() {
        archive.file(&format!("/modules/{index:03}-{name}"), 0o644, content);
    }
    Ok(archive.finish())
}

fn busybox() -> Result<Vec<u8>> {
    let path = ["/usr/bin/busybox", "/bin/busybox"].iter().map(Path::new).find(|path| path.is_file());
    let path = path.with_context(|| super::tool::missing("busybox"))?;
    let listing = Command::new("ldd").arg(path).output().with_context(|| super::tool::missing("ldd"))?;
    ensure!(
        !String::from_utf8_lossy(&listing.stdout).contains("=>"),
        "{} is not static; `apt-get install busybox-static` brings the one that is",
        path.display()
    );
    fs::read(path).with_context(|| format!("reading {}", path.display()))
}

/// Now, as archives write it.
pub(super) fn now_s() -> Result<u32> {
    let now = SystemTime::UNIX_EPOCH.elapsed().context("this machine's clock is before 1970")?;
    u32::try_from(now.as_secs()).context("this machine's clock is after 2106")
}
