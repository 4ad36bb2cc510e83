//! `treeline policy`: check and format a policy, explain and test its decisions, and replay it over what was recorded.

mod bench;
mod check;
mod compile;
mod diff;
mod explain;
mod fmt;
pub mod learn;
mod lower;
mod recorded;
mod replay;
mod schema;
mod sign;
mod test;

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use treeline_policy::{Diagnostics, Home, Policy, parse_with};

use self::{
    files::{Below, read},
    lower::Lower,
};
use super::{
    Globals,
    entries::Asked,
    output::{UntilClosed, is_coloured, print_note},
};
use crate::daemon::{
    homes::Homes,
    policy::{files, now},
};

/// Arguments of `treeline policy`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Check policies: syntax, meaning, and whether the kernel's tables can hold them
    ///
    /// What a policy includes is read, too. With `-v` it says of each rule where it is decided. Exit status: 0 when all are valid, 1 when one is not, 2 when one cannot be read.
    Check(check::Args),
    /// Say what a policy decides for one operation, and how each rule came into it
    ///
    /// Or for an event, as the daemon or a log directory has it. Exit status: 0 for allow and audit, 1 for deny, 2 when the
    /// question or the policy is not valid.
    Explain(Box<Asked<explain::Args>>),
    /// Say what a policy would have decided in recorded sessions, by rule, and what of that the log cannot tell
    ///
    /// Reads what the daemon has, as far as you may see it, or a log directory. Exit status: 0 when nothing would be denied,
    /// 1 when something would, 2 when the policy is not valid or the entries cannot be read.
    Replay(Asked<replay::Args>),
    /// Say what another policy changes: which rules, and which decisions, for whom
    ///
    /// Asks both policies about everything that either names; what is told is shown with an example. Exit status: 0 when
    /// nothing is found that is loosened, 1 when something is, or cannot be told (see `--fail-on`), 2 when a policy is not valid or cannot be read.
    Diff(diff::Args),
    /// Say what the tables of a policy take in the kernel, and guess what an operation costs
    ///
    /// Exit status: 0 when it fits, 1 when it is not valid or does not fit, 2 when it cannot be read.
    Compile(compile::Args),
    /// Make a key to sign policies with
    ///
    /// Prints the public key, as the configuration of the machines that are to trust it has it (`policy_keys`). Exit status: 0, or 2 when it cannot be made.
    Key(sign::KeyArgs),
    /// Sign a policy with what it includes, in a note beside it
    ///
    /// It needs a `revision`. The daemon reads the note where its configuration has `policy_keys`. What others signed of
    /// the same texts stays in the note. Exit status: 0, or 2 when it is not valid or cannot be signed.
    Sign(sign::SignArgs),
    /// Say whether a trusted key signed a policy as it is
    ///
    /// Exit status: 0 when one did, 1 when none did, 2 when the policy is not valid or cannot be read.
    Verify(sign::VerifyArgs),
    /// Print policies, their parts and their tests in one form, with all comments, into the files themselves
    ///
    /// Keys get an order, quotes and brackets are where they are needed, and long lists and texts take several lines. Comments
    /// go with what they are about. Exit status: 0 when all are in that form or were brought into it, 1 when one is not valid
    /// YAML or, with `--check`, would change, 2 when one cannot be read or written.
    Fmt(fmt::Args),
    /// Print the JSON Schema of policies, for editors
    Schema(schema::Args),
    /// Measure how long a policy of 1 000 rules takes to be read and compiled
    #[command(hide = true)]
    Bench(bench::Args),
    /// Run the tests of policies: what they are to decide, one operation at a time
    ///
    /// With `-v` each test is printed, and which rules and exceptions none shows. Exit status: 0 when all pass, 1 when one fails
    /// or cannot be run, 2 when a file cannot be read or there is none.
    Test(test::Args),
}

/// Runs `treeline policy`.
///
/// # Errors
/// A file that cannot be read, a question that makes no sense, an output that cannot be written: exit status 2.
pub fn run(args: Args, globals: &Globals) -> anyhow::Result<ExitCode> {
    let verbose = globals.verbose > 0;
    let mut out = UntilClosed::new(io::stdout().lock());
    let code = match args.verb {
        Verb::Check(args) => check::run(&args, verbose, &mut out)?,
        Verb::Explain(asked) if asked.args().event.is_some() => {
            drop(out);
            return asked.run(globals, |_| false, |args, source, out| explain::run_event(args, source, out));
        }
        Verb::Explain(asked) => explain::run(asked.args(), &mut out)?,
        Verb::Replay(asked) => {
            drop(out);
            return asked.run(globals, |_| false, |args, source, out| replay::run(args, source, out));
        }
        Verb::Diff(args) => diff::run(&args, &mut out)?,
        Verb::Compile(args) => compile::run(&args, &mut out)?,
        Verb::Fmt(args) => fmt::run(&args, &mut out)?,
        Verb::Schema(args) => schema::run(&args, &mut out)?,
        Verb::Bench(args) => bench::run(&args, &mut out)?,
        Verb::Key(args) => sign::make_key(&args, &mut out)?,
        Verb::Sign(args) => sign::sign(&args, &mut out)?,
        Verb::Verify(args) => sign::verify(&args, globals.config.as_deref(), &mut out)?,
        Verb::Test(args) => test::run(&args, verbose, &mut out)?,
    };
    out.flush().context("cannot write to standard output")?;
    Ok(code)
}

/// A policy that is valid, with those of its rules that have expired, and with what holds below it. What is wrong with another
/// one is printed.
///
/// # Errors
/// It cannot be read, or is not valid.
fn valid(file: &Path, lower: &Lower) -> anyhow::Result<Policy> {
    let own = parse_with(&Below::directory_of(file), read(file)?, None);
    let lower = lower.read(None)?;
    own.and_then(|own| lower::composed(own, lower)).map_err(|diagnostics| {
        print_diagnostics(&diagnostics);
        anyhow::anyhow!("`{}` is not a valid policy; `treeline policy check` says why", file.display())
    })
}

fn print_diagnostics(diagnostics: &Diagnostics) {
    print_note(&diagnostics.render(is_coloured(&io::stderr())));
}

/// The homes that `~/` stands for: of root and of people, as /etc/passwd lists them, and of who asks.
fn homes() -> Vec<Home> {
    let mut homes = Homes::of_this_machine();
    homes.learn(uzers::get_current_uid());
    let home = |(uid, path): (u32, PathBuf)| Home { uid, path: path.into_os_string().into_encoded_bytes() };
    homes.list().into_iter().map(home).collect()
}
