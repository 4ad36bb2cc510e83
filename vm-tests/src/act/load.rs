//! Loops whose cost is measured: each runs in a process of its own, so that it can be inside or outside a session.

use std::fs::{self, File};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};

use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike,
};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::suite::stage::{ALLOWED_ADDRESS, WORK};

/// The loops, by name, with how often each runs.
pub(crate) const LOADS: &[(&str, u32)] = &[
    ("syscall", 20_000),
    ("open+close", 4_000),
    ("open+close, each another", 4_000),
    ("create+unlink", 1_000),
    ("fork+exec", 60),
    ("connect+accept, tcp", 300),
    ("connect+accept, unix", 600),
];

/// Loops about files that nobody has executed before: small ones and large ones. Each runs a copy that was made before.
pub(crate) const EXEC_LOADS: &[(&str, u32)] = &[("fork+exec", 60), (FIRST_SMALL, 40), (FIRST_LARGE, 2)];
const FIRST_SMALL: &str = "fork+exec, first of a file";
const FIRST_LARGE: &str = "fork+exec, first of 32 MiB";
const LARGE_LEN: u64 = 32 << 20;

const BUSYBOX: &str = "/usr/bin/busybox";

/// Files of the loop that opens another one each time.
const FILE_COUNT: u32 = 500;
/// What is looked at last; the rest fills caches.
const WARM_UP_SHARE: u32 = 5;

/// What one loop took, in nanoseconds of virtual time: under QEMU's `-icount shift=0`, instructions.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Cost {
    /// On the clock, per operation: with one processor, what anybody did meanwhile.
    pub(crate) wall_ns: f64,
    /// On the process's own account and that of its children, per operation.
    pub(crate) own_ns: f64,
}

/// Runs the loop called `name` and prints its [`Cost`]. `login` becomes the audit user id first, so that rules of the
/// kernel's audit can be for this process and what it starts.
pub(crate) fn run(name: &str, login: Option<&str>) -> ExitCode {
    match measure(name, login) {
        Ok(cost) => {
            println!("{}", serde_json::to_string(&cost).unwrap_or_default());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(name: &str, login: Option<&str>) -> io::Result<Cost> {
    if let Some(login) = login {
        fs::write("/proc/self/loginuid", login)?;
    }
    let known = LOADS.iter().chain(EXEC_LOADS).find(|(known, _)| *known == name);
    let (_, count) = known.ok_or_else(|| io::Error::other("there is no such loop"))?;
    let directory = format!("{WORK}/load");
    fs::create_dir_all(&directory)?;
    for index in 0..FILE_COUNT {
        fs::write(format!("{directory}/{index}"), "")?;
    }
    let (one, fresh) = (format!("{directory}/0"), format!("{directory}/fresh"));
    match name {
        "open+close" => timed(*count, |_| File::open(&one).map(drop)),
        "open+close, each another" => {
            timed(*count, |index| File::open(format!("{directory}/{}", index % FILE_COUNT)).map(drop))
        }
        "create+unlink" => timed(*count, |_| File::create(&fresh).and_then(|_| fs::remove_file(&fresh))),
        "fork+exec" => timed(*count, |_| exec(BUSYBOX)),
        FIRST_SMALL | FIRST_LARGE => {
            let len = if name == FIRST_LARGE { LARGE_LEN } else { 0 };
            let copies = copies(&directory, *count + count / WARM_UP_SHARE, len)?;
            // As old as most files are that are executed.
            std::thread::sleep(std::time::Duration::from_secs(1));
            let mut copies = copies.iter();
            timed(*count, |_| exec(copies.next().map_or(BUSYBOX, String::as_str)))
        }
        "connect+accept, tcp" => {
            let listener = TcpListener::bind((ALLOWED_ADDRESS, 0))?;
            let address = listener.local_addr()?;
            timed(*count, |_| both_ends(TcpStream::connect(address)?, listener.accept()))
        }
        "connect+accept, unix" => {
            let path = format!("{directory}/socket-{}", std::process::id());
            let listener = UnixListener::bind(&path)?;
            timed(*count, |_| both_ends(UnixStream::connect(&path)?, listener.accept()))
        }
        _ => timed(*count, |_| fs::symlink_metadata("/").map(drop)),
    }
}

/// Closes both ends of a connection. Both are this process's: with another one at the other end it would depend on who
/// runs first which of the two does the work of closing.
fn both_ends<Client, Server, Address>(
    client: Client,
    server: io::Result<(Server, Address)>,
) -> io::Result<()> {
    drop(server?);
    drop(client);
    Ok(())
}

/// The smallest program that there is: one that is static and ends at once.
fn exec(program: &str) -> io::Result<()> {
    let status = Command::new(program).arg0("busybox").arg("true").stdin(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(status.to_string())) }
}

/// Programs that differ in nothing but their identity, of at least this length.
fn copies(directory: &str, count: u32, len: u64) -> io::Result<Vec<String>> {
    let copy = |index| {
        let path = format!("{directory}/program-{}-{index}", std::process::id());
        fs::copy(BUSYBOX, &path)?;
        let file = File::options().write(true).open(&path)?;
        if len > file.metadata()?.len() {
            file.set_len(len)?;
        }
        Ok(path)
    };
    (0..count).map(copy).collect()
}

fn timed(count: u32, mut operation: impl FnMut(u32) -> io::Result<()>) -> io::Result<Cost> {
    for index in 0..count / WARM_UP_SHARE {
        operation(index)?;
    }
    let (wall, own) = (clock_ns(ClockId::Monotonic), own_ns()?);
    for index in 0..count {
        operation(index)?;
    }
    let per_operation = |ns: u64| ns as f64 / f64::from(count);
    Ok(Cost {
        wall_ns: per_operation(clock_ns(ClockId::Monotonic) - wall),
        own_ns: per_operation(own_ns()? - own),
    })
}

fn clock_ns(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// CPU time of this process and of the children that it has waited for.
fn own_ns() -> io::Result<u64> {
    let mut total_us = 0;
    for who in [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN] {
        let usage = getrusage(who)?;
        total_us += usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    }
    Ok(total_us.unsigned_abs() * 1_000)
}
