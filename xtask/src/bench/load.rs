//! The loops that are timed, each in a process of its own so that it can be inside or outside a session.

use std::{
    fs::File,
    io::{self, ErrorKind, Read},
    net::{Ipv4Addr, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, ensure};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Parts of a loop; the median part counts, so that a neighbour's burst does not.
const BATCHES: u64 = 15;
/// How long a process waits before it begins: what its own start set off is over then.
const SETTLE: Duration = Duration::from_millis(150);
/// The longest that a process of the memory measurement lives if nobody ends it, seconds.
const SLEEP_S: &str = "300";
/// Ticks of /proc/PID/stat in a second, the same on every Linux that we build for.
const TICKS_PER_S: u64 = 100;

/// A loop.
#[derive(clap::Subcommand, Clone, Debug)]
pub(crate) enum Load {
    /// Start a program and wait for it
    Exec { count: u64, program: PathBuf },
    /// Open and close one file; refusals are counted
    Open { count: u64, file: PathBuf },
    /// Open and close the files of a directory in turn
    OpenEach { count: u64, dir: PathBuf },
    /// Connect to a loopback port
    ConnectTcp { count: u64, port: u16 },
    /// Connect to a unix socket
    ConnectUnix { count: u64, path: PathBuf },
    /// Open the files of a directory in turn, so many a second
    Paced { count: u64, per_s: u64, dir: PathBuf },
    /// Keep so many processes alive until standard input ends
    Live { count: u32 },
    /// Print the time
    Now,
}

/// What a loop took.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Timing {
    /// Operations that were timed.
    pub(super) count: u64,
    /// Of these, refused by policy.
    pub(super) refused: u64,
    /// Nanoseconds on the clock per operation, of the median part.
    pub(super) wall_ns: f64,
    /// Nanoseconds of CPU per operation, its own and its children's, over all parts.
    pub(super) cpu_ns: f64,
}

/// Runs a loop and prints its timing as JSON.
pub(crate) fn run(load: &Load) -> Result<()> {
    let timing = match load {
        Load::Exec { count, program } => timed(*count, |_| exec(program))?,
        Load::Open { count, file } => timed(*count, |_| open(file))?,
        Load::OpenEach { count, dir } => {
            let files = files(dir)?;
            timed(*count, |i| open(&files[i as usize % files.len()]))?
        }
        Load::ConnectTcp { count, port } => timed(*count, |_| connect_tcp(*port))?,
        Load::ConnectUnix { count, path } => timed(*count, |_| UnixStream::connect(path).map(drop))?,
        Load::Paced { count, per_s, dir } => paced(*count, *per_s, &files(dir)?)?,
        Load::Live { count } => return live(*count),
        Load::Now => {
            println!("{}", now_ns()?);
            return Ok(());
        }
    };
    println!("{}", serde_json::to_string(&timing)?);
    Ok(())
}

/// Nanoseconds since 1970: comparable between processes.
pub(super) fn now_ns() -> Result<u64> {
    let since =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).context("the clock is before 1970")?;
    Ok(since.as_nanos() as u64)
}

/// Times `count` operations in parts, after a tenth as many that are not timed.
fn timed(count: u64, mut operation: impl FnMut(u64) -> io::Result<()>) -> Result<Timing> {
    let batch_count = (count / BATCHES).max(1);
    thread::sleep(SETTLE);
    for i in 0..count.div_ceil(10) {
        is_refused(operation(i))?;
    }
    let mut refused = 0;
    let (cpu_before, mut walls) = (cpu_ns()?, Vec::new());
    for batch in 0..BATCHES {
        let begun = Instant::now();
        for i in 0..batch_count {
            refused += u64::from(is_refused(operation(batch * batch_count + i))?);
        }
        walls.push(begun.elapsed().as_nanos() as f64 / batch_count as f64);
    }
    let count = BATCHES * batch_count;
    let cpu_ns = (cpu_ns()? - cpu_before) as f64 / count as f64;
    walls.sort_by(f64::total_cmp);
    Ok(Timing { count, refused, wall_ns: walls[walls.len() / 2], cpu_ns })
}

/// Whether policy refused an operation; any other failure ends the measurement.
fn is_refused(result: io::Result<()>) -> Result<bool> {
    match result {
        Ok(()) => Ok(false),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(true),
        Err(error) => Err(error).context("an operation of the workload failed"),
    }
}

fn exec(program: &Path) -> io::Result<()> {
    let status = Command::new(program).status()?;
    status
        .success()
        .then_some(())
        .ok_or_else(|| io::Error::other(format!("`{}`: {status}", program.display())))
}

fn open(file: &Path) -> io::Result<()> {
    File::open(file).map(drop)
}

/// Closes with a reset: closed ports in TIME_WAIT would run out.
fn connect_tcp(port: u16) -> io::Result<()> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
    Ok(())
}

fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let read = || dir.read_dir()?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>();
    let files = read().with_context(|| format!("cannot list `{}`", dir.display()))?;
    ensure!(!files.is_empty(), "`{}` is empty", dir.display());
    Ok(files)
}

/// Opens at a rate, in steps of a millisecond. The timing is of the whole: what it took longer than planned shows.
fn paced(count: u64, per_s: u64, files: &[PathBuf]) -> Result<Timing> {
    thread::sleep(SETTLE);
    let per_step = (per_s / 1000).max(1);
    let (begun, cpu_before) = (Instant::now(), cpu_ns()?);
    for i in 0..count {
        open(&files[i as usize % files.len()])?;
        if i % per_step == 0 {
            let due = Duration::from_nanos(i * 1_000_000_000 / per_s);
            thread::sleep(due.saturating_sub(begun.elapsed()));
        }
    }
    let each = |ns: u64| ns as f64 / count as f64;
    let wall_ns = each(begun.elapsed().as_nanos() as u64);
    Ok(Timing { count, refused: 0, wall_ns, cpu_ns: each(cpu_ns()? - cpu_before) })
}

/// CPU time of this process and of its children that have ended.
fn cpu_ns() -> Result<u64> {
    let own = clock_gettime(ClockId::ProcessCPUTime);
    Ok(own.tv_sec as u64 * 1_000_000_000 + own.tv_nsec as u64 + children_ns()?)
}

/// CPU time of the children that have ended, to 10 ms.
pub(super) fn children_ns() -> Result<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").context("cannot read `/proc/self/stat`")?;
    let ticks = children_ticks(&stat).context("`/proc/self/stat` is not understood")?;
    Ok(ticks * (1_000_000_000 / TICKS_PER_S))
}

/// `cutime` and `cstime`: fields 16 and 17, counted after the name, which may hold blanks.
fn children_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(13);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

/// Starts sleepers, says so, and ends them when standard input ends.
fn live(count: u32) -> Result<()> {
    let mut sleepers: Vec<Child> = Vec::new();
    let started = (0..count).try_for_each(|_| {
        let mut sleep = Command::new("sleep");
        sleep.arg(SLEEP_S).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        sleepers.push(sleep.spawn().context("cannot start another process")?);
        anyhow::Ok(())
    });
    if started.is_ok() {
        println!("{}", sleepers.len());
        // Whoever waits for us holds the other end.
        let _ = io::stdin().read(&mut [0]);
    }
    for sleeper in &mut sleepers {
        // One that has ended already is as good.
        let _ = sleeper.kill();
    }
    for sleeper in &mut sleepers {
        sleeper.wait().context("cannot wait for a process")?;
    }
    started
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn childrens_time_is_read_after_the_name() {
        let stat = "7 (a ) b) R 1 7 7 0 -1 4194304 100 200 0 0 11 12 13 14 20 0 1 0 5 6 7";
        assert_eq!(children_ticks(stat), Some(27));
        assert_eq!(children_ticks("7 (a"), None);
    }

    #[test]
    fn refusals_are_counted_and_other_errors_end_it() {
        let timing = timed(150, |i| match i % 2 {
            0 => Ok(()),
            _ => Err(ErrorKind::PermissionDenied.into()),
        });
        let timing = timing.unwrap();
        assert_eq!((timing.count, timing.refused), (150, 75));
        assert!(timed(15, |_| Err(ErrorKind::NotFound.into())).is_err());
    }
}
