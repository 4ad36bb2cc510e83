//! The command line: one file per verb.

pub mod adopt;
pub mod ancestry;
pub mod approve;
mod claims;
pub mod claude;
pub mod completions;
pub mod daemon;
pub mod denials;
pub mod doctor;
pub mod entries;
pub mod events;
pub mod exec;
pub mod gate;
mod inherited;
pub mod log;
pub mod man;
pub mod output;
pub mod parity;
pub mod policy;
pub mod reload;
mod repository;
pub mod run;
pub mod session;
pub mod standalone;
pub mod status;
pub mod tree;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{ArgAction, CommandFactory as _, Parser, Subcommand};

use self::entries::Asked;

/// Watches and guards what AI coding agents do, from the kernel
#[derive(Debug, Parser)]
#[command(name = "treeline", version, propagate_version = true, disable_help_subcommand = true)]
pub struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    verb: Verb,
}

/// What every verb takes.
#[derive(Clone, Debug, clap::Args)]
pub struct Globals {
    /// The configuration file [default: /etc/treeline/treeline.toml]
    #[arg(long, global = true, value_name = "FILE", env = "TREELINE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Say more on standard error; twice for even more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a command under observation
    Run(run::Args),
    /// Run Claude Code under observation
    ///
    /// What Treeline does not know goes to Claude Code, and so does everything behind `--`: `treeline claude --version` is
    /// Claude Code's version, `treeline claude -- --help` its help.
    #[command(disable_version_flag = true)]
    Claude(claude::Args),
    /// Observe a process that already runs, and everything that it starts
    Adopt(adopt::Args),
    /// Show what the sensor sees, enforces and has lost
    Status(status::Args),
    /// Check whether this machine is ready, and say what to do
    Doctor(doctor::Args),
    /// Compare what this kernel decides with what random policies say
    #[command(hide = true)]
    Parity(parity::Args),
    /// Have the daemon read its policy again
    ///
    /// Exit status: 0 when it is in force, 1 when it is not valid, not signed or not there and the one before stays, 2 when the
    /// daemon does not answer or you may not.
    Reload(reload::Args),
    /// Show events, stored and live
    Events(Asked<events::Args>),
    /// Show what was refused, why, and what to do next
    Denials(Asked<denials::Args>),
    /// Let what was refused through for a while
    ///
    /// The policy says whose refusals can be approved, by whom and for how long (`approvals`). It is for exactly that program in
    /// that session, and that object; it is in the log, and ends by itself. No session can approve.
    Approve(approve::Args),
    /// List and show sessions
    Session(Asked<session::Args>),
    /// Show the process tree of a session
    Tree(Asked<tree::Args>),
    /// Show the chain of executables behind a process or an event
    Ancestry(Asked<ancestry::Args>),
    /// Verify, print and prove the evidence log
    Log(log::Args),
    /// Check, explain and test policies, and replay them over what was recorded
    Policy(policy::Args),
    /// Propose the tightest policy that recorded sessions would have passed
    ///
    /// Prints a policy with comments to be read before it is used: what was done is allowed, everything else is recorded, or
    /// refused with `--mode enforce`. Secrets that the baseline protects are never learned. Exit status: 0, or 1 when the
    /// entries do not tell enough, 2 when they cannot be read.
    Learn(Asked<policy::learn::Args>),
    /// Run the sensor (root)
    Daemon(daemon::Args),
    /// Print completions for a shell
    Completions(completions::Args),
    /// Print the manual, or write its pages to a directory
    Man(man::Args),
    /// Wait on a descriptor, then execute a command
    #[command(name = gate::VERB, hide = true)]
    Gate(gate::Args),
    /// Watch one command
    #[command(name = standalone::sensor::VERB, hide = true)]
    Sensor(standalone::sensor::Args),
    /// Take shell commands apart
    #[command(name = crate::tools::worker::VERB, hide = true)]
    ShellReader,
    /// End by a signal
    #[command(name = gate::END_VERB, hide = true)]
    End(gate::EndArgs),
}

/// The definition of the command line, for completions and the manual.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the verb of the command line and prints what went wrong, once.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    dispatch(cli).unwrap_or_else(|error| {
        output::print_error(&error);
        ExitCode::from(2)
    })
}

fn dispatch(Cli { globals, verb }: Cli) -> Result<ExitCode> {
    match verb {
        Verb::Run(args) => run::run(args, &globals),
        Verb::Claude(args) => claude::run(args, &globals),
        Verb::Adopt(args) => adopt::run(&args, &globals),
        Verb::Status(args) => status::run(&args, &globals),
        Verb::Doctor(args) => doctor::run(&args, &globals),
        Verb::Parity(args) => parity::run(&args),
        Verb::Reload(args) => reload::run(&args, &globals),
        Verb::Events(asked) => asked.run(&globals, events::Args::follows, |args, source, out| {
            events::run(args, source, out, output::is_coloured(&std::io::stdout()))
        }),
        Verb::Denials(asked) => {
            asked.run(&globals, |_| false, |args, source, out| denials::run(args, source, out))
        }
        Verb::Approve(args) => approve::run(&args, &globals),
        Verb::Session(asked) => {
            asked.run(&globals, |_| false, |args, source, out| session::run(args, source, out))
        }
        Verb::Tree(asked) => asked.run(&globals, |_| false, |args, source, out| tree::run(args, source, out)),
        Verb::Ancestry(asked) => {
            asked.run(&globals, |_| false, |args, source, out| ancestry::run(args, source, out))
        }
        Verb::Log(args) => log::run(args),
        Verb::Policy(args) => policy::run(args, &globals),
        Verb::Learn(asked) => {
            asked.run(&globals, |_| false, |args, source, out| policy::learn::run(args, source, out))
        }
        Verb::Daemon(args) => daemon::run(args, &globals),
        Verb::Completions(args) => completions::run(&args),
        Verb::Man(args) => man::run(&args),
        Verb::Gate(args) => gate::run(&args),
        Verb::Sensor(args) => standalone::sensor::run(args, &globals),
        Verb::ShellReader => {
            crate::tools::worker::run(&mut std::io::stdin().lock(), &mut std::io::stdout().lock())?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::End(args) => gate::end(&args),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_definition_is_consistent() {
        super::command().debug_assert();
    }
}
