//! PID 1 of a distribution guest, until the distribution's own takes over: mounts the disk, puts what is under test onto
//! it, and makes it the root.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::mount::{MountFlags, mount, mount_move};

/// The only disk.
const DISK: &str = "/dev/vda";
/// The driver has loaded, but the device comes when the kernel has asked it.
const DISK_PATIENCE: Duration = Duration::from_secs(60);
const ROOT: &str = "/newroot";
/// What the host wants on the disk, at the paths that it has below here.
const PAYLOAD: &str = "/payload";
const INIT: &str = "/sbin/init";

/// Becomes the distribution's PID 1; returns only why that failed.
pub(crate) fn hand_over() -> Result<()> {
    fs::create_dir_all("/dev").context("creating /dev")?;
    mount("devtmpfs", "/dev", "devtmpfs", MountFlags::empty(), None).or_else(|error| match error {
        rustix::io::Errno::BUSY => Ok(()),
        error => Err(error).context("mounting devtmpfs"),
    })?;
    super::init::load_modules()?;
    wait_for_disk()?;
    fs::create_dir_all(ROOT).with_context(|| format!("creating {ROOT}"))?;
    mount(DISK, ROOT, "ext4", MountFlags::NOATIME, None).with_context(|| format!("mounting {DISK}"))?;
    copy(Path::new(PAYLOAD), Path::new(ROOT))?;
    // The initramfs stays in memory as long as its files do.
    fs::remove_dir_all(PAYLOAD).with_context(|| format!("removing {PAYLOAD}"))?;
    mount_move("/dev", format!("{ROOT}/dev")).context("moving /dev")?;
    std::env::set_current_dir(ROOT).with_context(|| format!("entering {ROOT}"))?;
    mount_move(".", "/").context("moving the root")?;
    rustix::process::chroot(".").context("changing the root")?;
    std::env::set_current_dir("/").context("entering the root")?;
    Err(Command::new(INIT).env_clear().exec()).with_context(|| format!("executing {INIT}"))
}

fn wait_for_disk() -> Result<()> {
    let started = Instant::now();
    while !Path::new(DISK).exists() {
        ensure!(started.elapsed() < DISK_PATIENCE, "there is no {DISK}");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Copies what is below `from` over what is below `to`. A link of the disk's that leads elsewhere is followed for
/// directories: `/bin` is one.
fn copy(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("listing {}", from.display()))? {
        let entry = entry.with_context(|| format!("listing {}", from.display()))?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        let what = || format!("putting {} onto the disk", path.display());
        let kind = entry.file_type().with_context(what)?;
        if kind.is_dir() {
            fs::create_dir_all(&target).with_context(what)?;
            copy(&path, &target)?;
        } else if kind.is_symlink() {
            let _ = fs::remove_file(&target);
            symlink(fs::read_link(&path).with_context(what)?, &target).with_context(what)?;
        } else {
            fs::copy(&path, &target).with_context(what)?;
            let mode = fs::metadata(&path).with_context(what)?.permissions().mode();
            fs::set_permissions(&target, fs::Permissions::from_mode(mode)).with_context(what)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_replaced_and_the_rest_stays() {
        let scratch = std::env::temp_dir().join(format!("treeline-first-stage-{}", std::process::id()));
        let (from, to) = (scratch.join("from"), scratch.join("to"));
        for directory in [from.join("usr/bin"), to.join("usr/bin")] {
            fs::create_dir_all(directory).expect("a directory");
        }
        symlink("usr/bin", to.join("bin")).expect("a link");
        fs::create_dir_all(from.join("bin")).expect("a directory");
        fs::write(from.join("bin/new"), "new").expect("a file");
        fs::write(to.join("usr/bin/new"), "old").expect("a file");
        fs::write(to.join("usr/bin/other"), "other").expect("a file");
        symlink("nowhere", from.join("usr/link")).expect("a link");
        copy(&from, &to).expect("it is copied");
        let read = |path: &str| fs::read_to_string(to.join(path)).expect("it is there");
        assert_eq!((read("usr/bin/new").as_str(), read("usr/bin/other").as_str()), ("new", "other"));
        assert_eq!(fs::read_link(to.join("usr/link")).expect("a link"), Path::new("nowhere"));
        fs::remove_dir_all(scratch).expect("it is removed");
    }
}
