//! `treeline policy diff`.

use std::{io::Write, path::PathBuf, process::ExitCode};

use treeline_policy::{Diff, Home, Host, Moment, diff, diff::Effect};

use super::{homes, lower::Lower, now, valid};

/// Arguments of `treeline policy diff`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The policy as it was
    before: PathBuf,
    /// The policy as it is to be
    after: PathBuf,
    #[command(flatten)]
    lower: Lower,
    /// Take the new one as it will be at this time, when rules have expired (`2027-03-01`, `2027-03-01T12:00:00Z`)
    #[arg(long, value_name = "TIME")]
    at: Option<Moment>,
    /// What makes the exit status 1
    #[arg(long, value_enum, default_value_t = FailOn::Loosen)]
    fail_on: FailOn,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum FailOn {
    /// A decision that is loosened, or a rule that matches something else and of which no decision was found that differs
    Loosen,
    /// Any difference
    Any,
    /// Nothing
    Never,
}

/// Compares two policies.
pub(super) fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let before = valid(&args.before, &args.lower)?.at(now());
    let after = valid(&args.after, &args.lower)?.at(args.at.unwrap_or_else(now));
    let found = diff(&before, &after, &Host { homes: own_home() });
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&found)?)?;
    } else {
        write!(out, "{found}")?;
    }
    Ok(ExitCode::from(u8::from(args.fail_on.finds(&found))))
}

impl FailOn {
    fn finds(self, found: &Diff) -> bool {
        match self {
            // Of what was removed and no decision was found it is not known that it loosens nothing.
            Self::Loosen => found.count(Effect::Loosens) > 0 || !found.unexplained.is_empty(),
            Self::Any => !found.is_empty(),
            Self::Never => false,
        }
    }
}

/// Of the homes here the one of who asks: a policy may have it by its path.
fn own_home() -> Vec<Home> {
    let uid = uzers::get_current_uid();
    homes().into_iter().filter(|home| home.uid == uid).collect()
}
