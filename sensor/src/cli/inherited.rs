//! What a command would bring into its session: descriptors that are open already.
//!
//! Reading through a descriptor asks no hook, so a protected file that somebody opened outside and hands over (`treeline
//! run -- CMD < ~/.ssh/id_ed25519`) would be read past every rule. The launcher, which carries the label by now, asks
//! the kernel about each of them once more: it hands the descriptor to itself, which modes `lsm` and `fmod_ret` judge as
//! one that is received, and it opens the file anew, which every mode judges. So it is the policy in force that decides
//! and the kernel that refuses, and the entry is like every other.

use std::{
    fs,
    os::{fd::OwnedFd, unix::fs::FileTypeExt as _},
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open},
};

use super::output::Hinted;

/// Looks at every descriptor that the command would have.
///
/// # Errors
/// One of them leads to what the policy in force refuses to this session, or they cannot be listed.
pub(super) fn check() -> Result<()> {
    // Without one (before Linux 5.6) there is no hook for what is received, either.
    let own = pidfd_open(getpid(), PidfdFlags::empty()).ok();
    for descriptor in open_files()? {
        if descriptor.is_refused(own.as_ref()) {
            return Err(Hinted::new(
                format!(
                    "descriptor {} is open on `{}`, which the policy keeps sessions from",
                    descriptor.number,
                    descriptor.target.display()
                ),
                "start the command without it; `treeline events --denied` names the rule",
            )
            .into());
        }
    }
    Ok(())
}

/// A descriptor that stays open across the exec, of a file or directory.
#[derive(Debug, PartialEq)]
struct Descriptor {
    number: i32,
    target: PathBuf,
    flags: OFlags,
}

impl Descriptor {
    /// Whether the kernel says "you may not". Any other error is about something else, such as a file that only its
    /// opener may open.
    fn is_refused(&self, own: Option<&OwnedFd>) -> bool {
        let received = own.map(|own| pidfd_getfd(own, self.number, PidfdGetfdFlags::empty()));
        if received.is_some_and(|received| received.err() == Some(Errno::PERM)) {
            return true;
        }
        let flags = self.flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let opened = rustix::fs::open(format!("/proc/self/fd/{}", self.number), flags, Mode::empty());
        opened.err() == Some(Errno::PERM)
    }
}

fn open_files() -> Result<Vec<Descriptor>> {
    const LIST: &str = "/proc/self/fdinfo";
    let listing = fs::read_dir(LIST).with_context(|| format!("cannot list {LIST}"))?;
    let numbers = listing.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    Ok(numbers.filter_map(descriptor).collect())
}

/// What is to be asked about a descriptor; nothing for one that ends with the exec, and for terminals, pipes, sockets
/// and devices, whose opening would do something.
fn descriptor(number: i32) -> Option<Descriptor> {
    let link = format!("/proc/self/fd/{number}");
    let flags = flags(&fs::read_to_string(format!("/proc/self/fdinfo/{number}")).ok()?)?;
    let kind = fs::metadata(&link).ok()?.file_type();
    let is_special = kind.is_fifo() || kind.is_socket() || kind.is_char_device() || kind.is_block_device();
    if is_special || flags.intersects(OFlags::CLOEXEC | OFlags::PATH) {
        return None;
    }
    // What was done once when it was opened, such as truncating, is not to be done again.
    let kept = OFlags::RWMODE | OFlags::APPEND;
    Some(Descriptor { number, target: fs::read_link(&link).unwrap_or_default(), flags: flags & kept })
}

/// The line `flags:` of `/proc/PID/fdinfo/N`, which is octal.
fn flags(text: &str) -> Option<OFlags> {
    let digits = text.lines().find_map(|line| line.strip_prefix("flags:"))?.trim();
    Some(OFlags::from_bits_retain(u32::from_str_radix(digits, 8).ok()?))
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::AsRawFd as _};

    use rustix::io::{FdFlags, fcntl_setfd};

    use super::*;

    #[test]
    fn flags_are_octal() {
        let check = |text: &str, expect| assert_eq!(flags(text), expect, "{text:?}");
        check("pos:\t0\nflags:\t0100000\nmnt_id:\t29\n", Some(OFlags::from_bits_retain(0o100_000)));
        check("flags:\t02100001\n", Some(OFlags::from_bits_retain(0o2_100_001)));
        check("flags:\t09\n", None);
        check("pos:\t0\n", None);
    }

    #[test]
    fn what_the_command_would_have_is_listed() {
        let folder = tempfile::tempdir().expect("a scratch directory");
        let path = folder.path().join("kept");
        let kept = File::create(&path).expect("a file");
        fcntl_setfd(&kept, FdFlags::empty()).expect("a descriptor");
        let closed = File::open(&path).expect("the file");
        let found = open_files().expect("a list");
        let by_number = |file: &File| found.iter().find(|found| found.number == file.as_raw_fd());
        let expect = Descriptor { number: kept.as_raw_fd(), target: path, flags: OFlags::WRONLY };
        assert_eq!(by_number(&kept), Some(&expect));
        assert_eq!(by_number(&closed), None, "it ends with the exec");
        // No sensor is here that could refuse it.
        assert!(!expect.is_refused(pidfd_open(getpid(), PidfdFlags::empty()).ok().as_ref()));
    }
}
