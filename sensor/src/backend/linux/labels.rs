//! Where labels are: on tasks, or, where the kernel has no task storage for every sort of program, in a hash map by
//! process (`Settings::older`). Only the sensor's way to them differs; what a label is does not.

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
    path::Path,
};

use aya::{Ebpf, maps::Map};
use treeline_abi::{Label, Settings, label::ProcessId};

use super::{pins, sys, track};
use crate::backend::BackendError;

/// The map of labels.
#[derive(Debug)]
pub(super) enum Labels {
    /// Task storage: the kernel takes a pidfd.
    OnTasks(OwnedFd),
    /// A hash map.
    ByProcess(OwnedFd),
}

/// The name of the map that is in use, and of the one that is not.
pub(super) fn names(settings: &Settings) -> (&'static str, &'static str) {
    const NAMES: (&str, &str) = ("LABELS", "LABELS_BY_PROCESS");
    if settings.older == 0 { NAMES } else { (NAMES.1, NAMES.0) }
}

impl Labels {
    /// Those of the programs that were loaded.
    ///
    /// # Errors
    /// [`BackendError`] when the object has no such map.
    pub(super) fn of(ebpf: &Ebpf, settings: &Settings) -> Result<Self, BackendError> {
        let (name, _) = names(settings);
        let fd = match ebpf.map(name) {
            Some(Map::Unsupported(map) | Map::HashMap(map)) => map.fd().as_fd().try_clone_to_owned(),
            _ => {
                return Err(BackendError::Unsupported(format!("the kernel object has no map `{name}`")));
            }
        };
        let fd = fd.map_err(failed)?;
        Ok(if settings.older == 0 { Self::OnTasks(fd) } else { Self::ByProcess(fd) })
    }

    /// Those that a set of pins has, both maps, whichever is in use there.
    ///
    /// # Errors
    /// The kernel's; `EPERM` is what its programs answer to sessions.
    pub(super) fn of_set(set: &Path) -> io::Result<Vec<Self>> {
        let on_tasks = pins::open(&pins::map_of(set, "LABELS"))?.map(Self::OnTasks);
        let by_process = pins::open(&pins::map_of(set, "LABELS_BY_PROCESS"))?.map(Self::ByProcess);
        Ok(on_tasks.into_iter().chain(by_process).collect())
    }

    /// The same, to be used by another thread.
    ///
    /// # Errors
    /// No descriptor is free.
    pub(super) fn try_clone(&self) -> Result<Self, BackendError> {
        Ok(match self {
            Self::OnTasks(map) => Self::OnTasks(map.try_clone().map_err(failed)?),
            Self::ByProcess(map) => Self::ByProcess(map.try_clone().map_err(failed)?),
        })
    }

    /// The label of the process behind a pidfd, or nothing when it has none.
    ///
    /// # Errors
    /// `ESRCH` when the process is gone.
    pub(super) fn label(&self, pidfd: BorrowedFd<'_>) -> io::Result<Option<Label>> {
        match self {
            Self::OnTasks(map) => sys::label(map.as_fd(), &pidfd.as_raw_fd()),
            Self::ByProcess(map) => sys::label(map.as_fd(), &process(pidfd)?),
        }
    }

    /// Puts a label on the process behind a pidfd.
    ///
    /// # Errors
    /// `ESRCH` when the process is gone, `E2BIG` when there is no room for more.
    pub(super) fn set(&self, pidfd: BorrowedFd<'_>, label: &Label) -> io::Result<()> {
        let map = match self {
            Self::OnTasks(map) => return sys::set_label(map.as_fd(), &pidfd.as_raw_fd(), label),
            Self::ByProcess(map) => map.as_fd(),
        };
        let key = process(pidfd)?;
        sys::set_label(map, &key, label)?;
        // The kernel programs take it away when the process ends; if that was before, nobody does.
        if process(pidfd).is_err() || has_ended(key.pid) {
            sys::remove_label(map, &key)?;
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        Ok(())
    }
}

fn failed(source: io::Error) -> BackendError {
    BackendError::Io { attempt: "duplicate the descriptor of the label map".into(), source }
}

/// The process behind a pidfd. A number can come to mean another process: it counts if the pidfd still stands for it when
/// all else has been read.
fn process(pidfd: BorrowedFd<'_>) -> io::Result<ProcessId> {
    let pid = pid_of(pidfd)?;
    let key = track::key_of(pid).map_err(|_| gone())?;
    if pid_of(pidfd)? != pid {
        return Err(gone());
    }
    Ok(ProcessId { pid, pad: 0, start_ticks: key.start_ticks })
}

fn pid_of(pidfd: BorrowedFd<'_>) -> io::Result<u32> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))?;
    pid_in(&info).ok_or_else(gone)
}

/// `-1` stands for a process that is gone, 0 for one of another pid namespace.
fn pid_in(info: &str) -> Option<u32> {
    info.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok()).filter(|pid| *pid != 0)
}

/// Whether all threads of a process have ended, though nobody has waited for it.
fn has_ended(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    // The first thread may have ended before the others.
    stat.is_empty() || threads < 2 && [") Z ", ") X "].iter().any(|state| stat.contains(state))
}

fn gone() -> io::Error {
    io::Error::from_raw_os_error(libc::ESRCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pidfd_says_whose_it_is() {
        let check = |info, expect| assert_eq!(pid_in(info), expect, "{info}");
        check("pos:\t0\nflags:\t02000002\nmnt_id:\t15\nPid:\t4711\nNSpid:\t4711\n", Some(4711));
        check("Pid:\t-1\nNSpid:\t-1\n", None);
        check("Pid:\t0\n", None);
        check("pos:\t0\n", None);
    }

    #[test]
    fn a_process_is_known_by_its_start_until_it_is_gone() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("a process");
        let pid = rustix::process::Pid::from_child(&child);
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).expect("a pidfd");
        let key = process(pidfd.as_fd()).expect("it runs");
        assert_eq!(key.pid, child.id());
        assert_eq!(key.start_ticks, track::key_of(child.id()).expect("it runs").start_ticks);
        assert!(!has_ended(key.pid));
        child.kill().expect("our own child");
        // Until it is waited for, its number stays.
        while !has_ended(key.pid) {
            std::thread::yield_now();
        }
        child.wait().expect("our own child");
        let error = process(pidfd.as_fd()).expect_err("it is gone");
        assert_eq!(error.raw_os_error(), Some(libc::ESRCH));
    }
}
