//! `treeline policy key`, `sign` and `verify`: who answers for a policy, and in which revision.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail, ensure};
use serde_json::json;
use treeline_policy::policy::Level;
use treeline_tlog::{Note, Signer as _, VerifierKey, note};

use crate::{
    config::Config,
    daemon::{
        policy::{
            self, LoadedFile,
            signature::{SignatureError, Trust, note_of, read_note},
            statement::Statement,
        },
        sensor::chain,
    },
    durable,
    log::SoftwareKey,
};

/// Arguments of `treeline policy key`.
#[derive(Debug, clap::Args)]
pub(super) struct KeyArgs {
    /// The file for the private key; the public one is put beside it, with `.pub` behind its name
    file: PathBuf,
    /// Its name, which signatures show, such as `acme.example/policies`
    #[arg(long)]
    name: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `treeline policy sign`.
#[derive(Debug, clap::Args)]
pub(super) struct SignArgs {
    /// The policy
    file: PathBuf,
    /// The private key that `treeline policy key` made
    #[arg(long, value_name = "FILE", required_unless_present = "print")]
    key: Option<PathBuf>,
    /// Print what is to be signed, for a key that is kept elsewhere, and sign nothing
    #[arg(long, conflicts_with = "key")]
    print: bool,
    /// Whose policy it is to be where several hold together
    #[arg(long, value_enum, default_value_t)]
    level: SignedLevel,
    /// Sign it also when the note is about another text of this revision, or a later one, which machines may have by now
    #[arg(long)]
    force: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "print")]
    json: bool,
}

/// A level of which policies are signed: what is local need not be.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum SignedLevel {
    /// That of the organisation, or the only one
    #[default]
    Organisation,
    /// One of a team
    Team,
}

impl From<SignedLevel> for Level {
    fn from(level: SignedLevel) -> Self {
        match level {
            SignedLevel::Organisation => Self::Organisation,
            SignedLevel::Team => Self::Team,
        }
    }
}

/// Arguments of `treeline policy verify`.
#[derive(Debug, clap::Args)]
pub(super) struct VerifyArgs {
    /// The policy
    file: PathBuf,
    /// A public key that is trusted, as its line of text; may be given several times [default: as configured]
    #[arg(long, value_name = "KEY")]
    key: Vec<VerifierKey>,
    /// Whose policy it is to be where several hold together
    #[arg(long, value_enum, default_value_t)]
    level: SignedLevel,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Makes a key.
pub(super) fn make_key(args: &KeyArgs, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let key = SoftwareKey::create(&args.file, &args.name)?;
    if args.json {
        let file = args.file.display().to_string();
        writeln!(out, "{}", json!({ "file": file, "name": args.name, "public": key.public().to_string() }))?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "{}", key.public())?;
    eprintln!(
        "the private key is in `{}`; the line above belongs into `policy_keys` of the configuration",
        args.file.display()
    );
    Ok(ExitCode::SUCCESS)
}

/// Signs a policy: what others signed of the same text stays.
pub(super) fn sign(args: &SignArgs, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let file = &args.file;
    let loaded = policy::load(file, &Trust::default())?;
    let statement = Statement::of(&loaded.policy, &loaded.bundle, args.level.into())
        .with_context(|| format!("`{}` cannot be signed", file.display()))?;
    let text = statement.to_string();
    ensure!(text.parse() == Ok(statement.clone()), "a name in `{}` has a line break in it", file.display());
    let Some(key) = &args.key else {
        write!(out, "{text}")?;
        return Ok(ExitCode::SUCCESS);
    };
    let key = SoftwareKey::read(key)?;
    let path = note_of(file);
    let signed = note::sign(&text, &key)?;
    let whole = match read_note(file) {
        Ok(before) => {
            if !args.force {
                refuse_earlier(&before, &statement, &path)?;
            }
            with_others(&before, signed, &text, &key)?
        }
        Err(SignatureError::NoNote { .. }) => signed,
        Err(error) => return Err(error.into()),
    };
    // Everybody may check it, as everybody may check a policy.
    durable::replace(&path, whole.as_bytes(), 0o644)
        .with_context(|| format!("cannot write `{}`", path.display()))?;
    if args.json {
        let by = format!("{}+{:08x}", key.name(), key.id());
        let (file, note) = (file.display().to_string(), path.display().to_string());
        writeln!(
            out,
            "{}",
            json!({ "file": file, "note": note, "revision": statement.revision, "signed_by": by })
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(
        out,
        "`{}` signed as revision {} by {}+{:08x}: `{}`",
        file.display(),
        statement.revision,
        key.name(),
        key.id(),
        path.display()
    )?;
    Ok(ExitCode::SUCCESS)
}

/// A number stands for one text: no machine takes another one under it, nor a lower one.
fn refuse_earlier(before: &str, statement: &Statement, path: &Path) -> anyhow::Result<()> {
    let Ok(note) = Note::parse(before.as_bytes()) else { return Ok(()) };
    let Ok(earlier) = note.unverified_text().parse::<Statement>() else { return Ok(()) };
    ensure!(
        earlier == *statement || earlier.revision < statement.revision,
        "`{}` is about another text, of revision {}: raise `revision` above it, or use `--force` if no machine has it",
        path.display(),
        earlier.revision
    );
    Ok(())
}

/// A note with the signatures of others, if they signed the same.
fn with_others(before: &str, signed: String, text: &str, key: &SoftwareKey) -> anyhow::Result<String> {
    let Ok(note) = Note::parse(before.as_bytes()) else { return Ok(signed) };
    if note.unverified_text() != text {
        return Ok(signed);
    }
    let is_of_another = |line: &&str| {
        let one = format!("{text}\n{line}\n");
        Note::parse(one.as_bytes()).is_ok_and(|note| {
            note.signatures().iter().any(|one| one.name != key.name() || one.id != key.id())
        })
    };
    let lines = before.get(text.len() + 1..).unwrap_or_default().lines().filter(is_of_another);
    let whole = lines.fold(signed, |whole, line| whole + line + "\n");
    Note::parse(whole.as_bytes()).context("the note would have too many signatures")?;
    Ok(whole)
}

/// Says whether a key that is trusted signed a policy.
pub(super) fn verify(
    args: &VerifyArgs,
    config: Option<&Path>,
    out: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    let trust = match args.key.as_slice() {
        [] => Config::load_as_user(config)?.trust(),
        keys => Trust::new(keys),
    }
    .at(args.level.into());
    if !trust.asks_for_signatures() {
        bail!("no key is trusted: name one with `--key`, or in `policy_keys` of the configuration");
    }
    let (loaded, why) = match policy::load(&args.file, &trust) {
        Ok(loaded) => (loaded, None),
        // It is a policy, but not the one that was signed.
        Err(error) => match policy::load(&args.file, &Trust::default()) {
            Ok(loaded) => (loaded, Some(chain(&error))),
            Err(error) => return Err(error.into()),
        },
    };
    let LoadedFile { policy, sha256, signed, .. } = &loaded;
    let file = args.file.display();
    if args.json {
        let answer = json!({
            "file": file.to_string(),
            "name": policy.name,
            "revision": policy.revision,
            "sha256": sha256,
            "signed_by": signed.as_ref().map(|signed| &signed.key),
            "error": why,
        });
        writeln!(out, "{answer}")?;
    } else if let Some(signed) = signed {
        writeln!(out, "`{file}`: `{}`, revision {}, signed by {}", policy.name, signed.revision, signed.key)?;
    }
    match why {
        None => Ok(ExitCode::SUCCESS),
        Some(error) => {
            if !args.json {
                eprintln!("{error}");
            }
            Ok(ExitCode::from(1))
        }
    }
}
