//! `treeline daemon`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;

use super::{Globals, output, output::Hinted};
use crate::{
    config::{self, Config, ModeChoice, Unenforceable},
    control::server::BindError,
    daemon::{
        adapters,
        detach::{self, FromSession},
        itself::OwnFiles,
        lock::{self, LockError},
        main_loop::{self, SocketSettings},
        policy::set::PolicyFiles,
        start::{Running, Settings},
    },
    log::OpenError,
};

/// Where systemd looks for units (systemd.unit(5)): whoever puts one of this name there, or a drop-in for it or for every
/// service, has it start something else.
const UNIT_DIRECTORIES: [&str; 11] = [
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/run/systemd/generator.early",
    "/etc/systemd/system",
    "/etc/systemd/system.attached",
    "/run/systemd/system",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/run/systemd/generator.late",
];

/// What the dynamic loader loads into every program, the sensor included.
const PRELOAD: &str = "/etc/ld.so.preload";

/// Arguments of `treeline daemon`; each overrides the configuration.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The policy, with none below it
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Directory of the log
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
    /// The unix socket
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Directory of everything else that is kept
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// The attach mode
    #[arg(long, value_name = "MODE")]
    mode: Option<ModeChoice>,
    /// What becomes of `enforce` rules that this machine cannot enforce [default: as configured]
    #[arg(long, value_name = "WHAT")]
    unenforceable: Option<Unenforceable>,
    /// Remove everything that a daemon left in the kernel, and do nothing else
    #[arg(long)]
    detach_all: bool,
}

/// Runs until a signal.
///
/// # Errors
/// It could not start, or a part of it ended.
pub fn run(args: Args, globals: &Globals) -> Result<ExitCode> {
    output::start_notes(["info", "debug", "trace"][usize::from(globals.verbose.min(2))]);
    let config = Config::load(globals.config.as_deref())?;
    if !rustix::process::geteuid().is_root() {
        return Err(Hinted::new("the daemon needs root", "`systemctl start treeline`, or use sudo").into());
    }
    let state_dir = args.state.unwrap_or_else(|| config.state_dir.clone());
    let pins = config.pins(&state_dir);
    if args.detach_all {
        return detach_all(&state_dir, &args.log.unwrap_or(config.log_dir), pins.as_deref());
    }
    let trust = config.trust();
    let policies = args.policy.as_ref().map_or_else(|| config.policies(), PolicyFiles::alone);
    let socket =
        SocketSettings { group: group_id(&config.socket_group), path: args.socket.unwrap_or(config.socket) };
    let settings = Settings {
        policy_required: args.policy.is_some(),
        trust,
        policies,
        log_dir: args.log.unwrap_or(config.log_dir),
        state_dir,
        unenforceable: args.unenforceable.unwrap_or(config.unenforceable),
        own: own_files(globals, &socket.path, pins.as_deref()),
    };
    let mode = args.mode.or(config.mode);
    let running = Running::start(settings, || adapters::kernel_backend(mode, pins)).map_err(explain)?;
    main_loop::serve(running, &socket).map_err(explain_end)?;
    Ok(ExitCode::SUCCESS)
}

fn detach_all(state_dir: &Path, log_dir: &Path, pins: Option<&Path>) -> Result<ExitCode> {
    let Some(pins) = pins else {
        println!("nothing is pinned with this configuration (`pin_dir`)");
        return Ok(ExitCode::SUCCESS);
    };
    let count = detach::detach_all(state_dir, log_dir, pins).map_err(explain_detach)?;
    println!("removed {count} sets of kernel programs from {}", pins.display());
    Ok(ExitCode::SUCCESS)
}

fn explain_detach(error: anyhow::Error) -> anyhow::Error {
    if error.downcast_ref::<FromSession>().is_some() {
        return error.context(Hinted::new(
            "nothing was removed",
            "ask for it as root outside of every session, in a shell that was not started by `treeline run`",
        ));
    }
    match is_taken(&error) {
        true => error.context(Hinted::new(
            "what a running daemon holds cannot be removed",
            "`systemctl stop treeline` stops it; then try again",
        )),
        false => error,
    }
}

/// Whether another sensor has what this one needs.
fn is_taken(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(LockError::Taken { .. }))
        || matches!(error.downcast_ref(), Some(OpenError::Locked { .. }))
}

/// What the daemon has beside its directories.
fn own_files(globals: &Globals, socket: &Path, pins: Option<&Path>) -> OwnFiles {
    let configuration = globals.config.as_deref().unwrap_or(Path::new(config::DEFAULT_PATH));
    let units = UNIT_DIRECTORIES.map(|directory| Path::new(directory).join("treeline.service"));
    let files = [configuration.to_owned(), socket.to_owned(), PRELOAD.into()].into_iter().chain(units);
    let drop_ins = UNIT_DIRECTORIES.iter().flat_map(|directory| {
        ["treeline.service.d", "service.d"].map(|name| Path::new(directory).join(name))
    });
    OwnFiles {
        directories: pins.map(Path::to_owned).into_iter().chain(drop_ins).collect(),
        files: files.chain(std::env::current_exe()).collect(),
        locks: vec![lock::of_socket(socket)],
    }
}

fn explain(error: anyhow::Error) -> anyhow::Error {
    let hint = match is_taken(&error) {
        true => "`treeline status` asks it; `systemctl stop treeline` stops it",
        false => "`treeline doctor` says what this machine lacks",
    };
    error.context(Hinted::new("the daemon cannot start", hint))
}

/// What is known of the socket only when everything else runs.
fn explain_end(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<BindError>() {
        Some(BindError::Lock(LockError::Taken { .. })) => error.context(Hinted::new(
            "the daemon cannot start",
            "`treeline status` asks the other one; `--socket` or `socket` in the configuration names another path",
        )),
        _ => error,
    }
}

/// The group's id. Without the group only root can use the socket.
fn group_id(name: &str) -> Option<u32> {
    let group = uzers::get_group_by_name(name);
    if group.is_none() {
        tracing::warn!(
            "there is no group `{name}`: only root can use the socket (`groupadd --system {name}` makes it)"
        );
    }
    group.map(|group| group.gid())
}
