//! Who is at the other end of a connection.
//!
//! A pid is a name that can come to mean somebody else. Linux 6.5 gives a descriptor of the very process that called
//! connect(2) (`SO_PEERPIDFD`), and that is the end of it.
//!
//! Older kernels only say the pid. Its process may have ended and the pid been given to another one before it was
//! opened. So the client says its own start time, and after the pid was opened, while that descriptor shows that
//! its process lives, /proc has to say the same start time and the peer's user. Pids are not given twice within one
//! tick of 10 ms short of wrapping around the whole pid space, so an honest client's check fails if the process is another one.
//! A client that lies can at most have a process of its own user observed, which [`adopt`](super::proto::Request::Adopt)
//! gives it anyway.

use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
};

use nix::sys::socket::{getsockopt, sockopt};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};
use treeline_event::ProcessKey;

/// A process that was opened.
#[derive(Debug)]
pub struct Opened {
    /// What it is held by.
    pub pidfd: OwnedFd,
    /// Its identity.
    pub key: ProcessKey,
    /// Its real user.
    pub uid: u32,
    /// The groups that it is in, its effective one first.
    pub groups: Vec<u32>,
}

/// Why a process was not opened.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// It is gone, or another one has its pid.
    #[error("process {pid} has ended")]
    Gone {
        /// Its pid.
        pid: u32,
    },
    /// The peer is in a pid namespace that this process cannot see into.
    #[error("the peer's process cannot be named from here: it runs in another pid namespace")]
    Nameless,
    /// A call failed.
    #[error("cannot {attempt} of process {pid}")]
    Io {
        /// What was attempted.
        attempt: &'static str,
        /// Its pid.
        pid: u32,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// Opens the process at the other end of a connection.
///
/// # Errors
/// [`PeerError`].
pub fn open(socket: &impl AsFd, pid: u32, uid: u32, start_ticks: u64) -> Result<Opened, PeerError> {
    if pid == 0 {
        return Err(PeerError::Nameless);
    }
    match getsockopt(socket, sockopt::PeerPidfd) {
        Ok(pidfd) => inspect(pidfd, pid),
        Err(nix::errno::Errno::ENOPROTOOPT) => {
            let opened = open_pid(pid)?;
            let same = opened.key.start_ticks == start_ticks && opened.uid == uid;
            if same { Ok(opened) } else { Err(PeerError::Gone { pid }) }
        }
        Err(nix::errno::Errno::ESRCH | nix::errno::Errno::EINVAL | nix::errno::Errno::ENODATA) => {
            Err(PeerError::Gone { pid })
        }
        Err(error) => Err(PeerError::Io { attempt: "open the descriptor", pid, source: error.into() }),
    }
}

/// Opens a process by its pid, for whoever may name processes by pid.
///
/// # Errors
/// [`PeerError`].
pub fn open_pid(pid: u32) -> Result<Opened, PeerError> {
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(PeerError::Gone { pid })?;
    match pidfd_open(raw, PidfdFlags::empty()) {
        Ok(pidfd) => inspect(pidfd, pid),
        Err(rustix::io::Errno::SRCH) => Err(PeerError::Gone { pid }),
        Err(error) => Err(PeerError::Io { attempt: "open the descriptor", pid, source: error.into() }),
    }
}

/// Reads what /proc says of the process, which has to live afterwards: then it was this one that /proc spoke of.
fn inspect(pidfd: OwnedFd, pid: u32) -> Result<Opened, PeerError> {
    let key = process_key(pid);
    let credentials = credentials(pid);
    if has_ended(&pidfd) {
        return Err(PeerError::Gone { pid });
    }
    let failed = |attempt| move |source| PeerError::Io { attempt, pid, source };
    let (uid, groups) = credentials.map_err(failed("read the user"))?;
    Ok(Opened { pidfd, key: key.map_err(failed("read the start time"))?, uid, groups })
}

/// A pidfd is readable once its process has ended.
fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    !matches!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(0))
}

/// The identity of the process that has this pid now.
///
/// # Errors
/// /proc cannot be read or is not understood.
pub fn process_key(pid: u32) -> io::Result<ProcessKey> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let start_ticks = start_ticks_of(&stat).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat is malformed"))
    })?;
    Ok(ProcessKey { pid, start_ticks })
}

/// Field 22; the name in field 2 may contain anything, so counting begins behind its last parenthesis.
fn start_ticks_of(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Real user, and the groups that it is in.
fn credentials(pid: u32) -> io::Result<(u32, Vec<u32>)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    credentials_in(&status)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/status is malformed")))
}

fn credentials_in(status: &str) -> Option<(u32, Vec<u32>)> {
    let numbers = |name: &str| -> Option<Vec<u32>> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().map(|number| number.parse().ok()).collect()
    };
    // Real, effective, saved and of filesystems.
    let (uid, group) = (*numbers("Uid:")?.first()?, *numbers("Gid:")?.get(1)?);
    let others = numbers("Groups:")?.into_iter().filter(|other| *other != group);
    Some((uid, [group].into_iter().chain(others).collect()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn start_times() {
        let fields = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 0";
        assert_eq!(start_ticks_of(&format!("7 (sh) {fields}")), Some(4711));
        assert_eq!(start_ticks_of(&format!("7 (a) b) {fields}")), Some(4711));
        for wrong in ["", "7 (sh", "7 (sh) S 1", "7 (sh) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 x"] {
            assert_eq!(start_ticks_of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn users_and_groups() {
        let check = |text: &str, expect: Option<(u32, &[u32])>| {
            let found = credentials_in(text);
            assert_eq!(found.as_ref().map(|(uid, groups)| (*uid, groups.as_slice())), expect, "{text}");
        };
        let ids = "Name:\tUid: x\nUid:\t7\t8\t9\t9\nGid:\t1\t2\t3\t3\n";
        check(&format!("{ids}Groups:\t2 27 \n"), Some((7, &[2, 27])));
        check(&format!("{ids}Groups:\t\n"), Some((7, &[2])));
        check(ids, None);
        check(&format!("{ids}Groups:\tx\n"), None);
        check("", None);
    }

    #[test]
    fn the_peer_of_our_own_socket_is_us() {
        let (one, _other) = UnixStream::pair().expect("a pair of sockets");
        let uid = rustix::process::getuid().as_raw();
        let key = process_key(std::process::id()).expect("we have a start time");
        let opened = open(&one, key.pid, uid, key.start_ticks).expect("we live");
        assert_eq!((opened.key, opened.uid), (key, uid));
    }

    #[test]
    fn a_process_that_has_ended_is_gone() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("there is `sleep`");
        let pidfd = open_pid(child.id()).expect("it is not reaped yet").pidfd;
        child.kill().and_then(|()| child.wait()).expect("it ends");
        assert!(matches!(inspect(pidfd, child.id()), Err(PeerError::Gone { .. })));
        assert!(matches!(open_pid(child.id()), Err(PeerError::Gone { .. })));
    }
}
