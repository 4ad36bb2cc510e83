//! Children that cannot outlive their time.

use std::{
    collections::BTreeSet,
    fs, io,
    process::{Child, Command, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpid, pidfd_open, pidfd_send_signal, set_child_subreaper, wait,
};

/// How often a child is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long processes have between the request to end and the end.
const GRACE: Duration = Duration::from_secs(5);
/// Longest chain of parents that is followed; beyond it a process counts as somebody else's.
const DEPTH_MAX: usize = 256;

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself.
    Itself(ExitStatus),
    /// It was still running when its time was up; it has been ended.
    TimedOut,
}

/// Runs a command to its end, for at most `limit`. Give it files, not pipes: nothing reads them meanwhile.
///
/// From here on this process adopts the orphans among its descendants, so that [`end_descendants`] finds all of them.
///
/// # Errors
/// When it cannot be started or waited for.
pub fn run(command: &mut Command, limit: Duration) -> io::Result<Ended> {
    set_child_subreaper(Some(getpid()))?;
    let mut child = command.spawn()?;
    if let Some(status) = wait_until(&mut child, Instant::now() + limit)? {
        return Ok(Ended::Itself(status));
    }
    // SIGTERM first: a launcher passes it on and closes what it has open.
    if let Some(pid) = Pid::from_raw(child.id().cast_signed()) {
        let _ = rustix::process::kill_process(pid, Signal::TERM);
    }
    if wait_until(&mut child, Instant::now() + GRACE)?.is_none() {
        child.kill()?;
        child.wait()?;
    }
    Ok(Ended::TimedOut)
}

fn wait_until(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Ends every process that descends from this one and returns how many there were. Only for a process that has one job and
/// waits for no other child: their exit statuses are consumed.
///
/// # Errors
/// When /proc cannot be read, or one does not end.
pub fn end_descendants() -> io::Result<usize> {
    let (mut ended, deadline) = (BTreeSet::new(), Instant::now() + GRACE);
    loop {
        reap();
        let left = descendants(getpid())?;
        if left.is_empty() {
            return Ok(ended.len());
        }
        if Instant::now() >= deadline {
            return Err(io::Error::other(format!("processes that do not end: {left:?}")));
        }
        for pid in left {
            // The descriptor pins the process before its parentage is checked: a reused pid is not hit.
            let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
            if descends(pid, getpid()) && pidfd_send_signal(&process, Signal::KILL).is_ok() {
                ended.insert(pid.as_raw_nonzero());
            }
        }
        thread::sleep(LOOK_EVERY);
    }
}

fn reap() {
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
}

fn descendants(of: Pid) -> io::Result<Vec<Pid>> {
    let names = fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Ok(names.filter_map(Pid::from_raw).filter(|pid| descends(*pid, of)).collect())
}

fn descends(pid: Pid, from: Pid) -> bool {
    let parents = std::iter::successors(parent(pid), |pid| parent(*pid));
    parents.take(DEPTH_MAX).any(|ancestor| ancestor == from)
}

/// The parent of a process that has not ended.
fn parent(pid: Pid) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    parse_parent(&stat)
}

/// Field 4 of /proc/PID/stat, unless field 3 says that it has ended. The name in field 2 may hold anything, so fields count from its last `)`.
fn parse_parent(stat: &str) -> Option<Pid> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    if matches!(state, "Z" | "X") { None } else { Pid::from_raw(parent) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents() {
        let check = |stat: &str, expect: Option<i32>| {
            assert_eq!(parse_parent(stat).map(|pid| pid.as_raw_nonzero().get()), expect, "{stat}");
        };
        check("12 (sh) S 11 12 12 0", Some(11));
        check("12 (a) Z 9 (b)) R 11 1", Some(11));
        check("12 (sh) Z 11 12", None);
        check("12 (sh) S 0 12", None);
        check("12 (sh", None);
        check("", None);
    }

    #[test]
    fn ends() {
        let soon = run(Command::new("sh").args(["-c", "exit 3"]), Duration::from_secs(30)).expect("started");
        assert!(matches!(soon, Ended::Itself(status) if status.code() == Some(3)));
        let late = run(Command::new("sleep").arg("600"), Duration::from_millis(50)).expect("started");
        assert_eq!(late, Ended::TimedOut);
        run(&mut Command::new("/nonexistent"), Duration::from_secs(1)).expect_err("no such program");
    }
}
