//! `treeline policy explain`.

mod call;
mod event;
mod session;

use std::{
    ffi::{OsStr, OsString},
    io::Write,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context as _, bail};
use serde::Serialize;
use treeline_event::{PathBytes, Verdict};
use treeline_policy::{
    Executed, Explanation, Features, Host, Lineage, Moment, Object, Policy, Request, Subject, explain,
    explain::{Considered, Of, Outcome},
    mcp::McpServer,
    object::{ObjectError, own_path},
    policy::{FileOperation, Rule},
};

use super::{homes, lower::Lower, now, valid};
use crate::view::EntrySource;

/// Arguments of `treeline policy explain`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("object").required(true))]
pub(super) struct Args {
    /// The policy
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    lower: Lower,
    /// What is done, in the words of test files: `read /etc/shadow`, `connect 10.0.0.1:443`, `unix @bus`, `trace`...
    #[arg(long = "do", value_name = "WORDS", group = "object")]
    words: Option<Object>,
    /// What an event recorded, by its index in `treeline events`: who did what then
    #[arg(
        long,
        value_name = "INDEX",
        group = "object",
        conflicts_with_all = ["executable", "loads_code", "ancestor", "root", "uid", "input", "server"]
    )]
    pub(super) event: Option<u64>,
    /// Open for reading, or list a directory
    #[arg(long, value_name = "PATH", group = "object")]
    read: Option<PathBuf>,
    /// Open for writing, truncate, change attributes
    #[arg(long, value_name = "PATH", group = "object")]
    write: Option<PathBuf>,
    /// Create a file, directory or symbolic link
    #[arg(long, value_name = "PATH", group = "object")]
    create: Option<PathBuf>,
    /// Remove a name
    #[arg(long, value_name = "PATH", group = "object")]
    delete: Option<PathBuf>,
    /// Rename, from or to
    #[arg(long, value_name = "PATH", group = "object")]
    rename: Option<PathBuf>,
    /// Make a hard link, from or to
    #[arg(long, value_name = "PATH", group = "object")]
    link: Option<PathBuf>,
    /// Execute a file
    #[arg(long, value_name = "PATH", group = "object")]
    exec: Option<PathBuf>,
    /// Connect to an address; an IPv6 address in brackets
    #[arg(long, value_name = "ADDRESS:PORT", group = "object")]
    connect: Option<OsString>,
    /// Connect to a unix socket, by path or by abstract name
    #[arg(long, value_name = "PATH|@NAME", group = "object")]
    unix: Option<PathBuf>,
    /// Make a socket that does not say where it leads: raw, packet, SCTP, vsock...
    #[arg(long, group = "object")]
    raw_socket: bool,
    /// Trace a process outside of the session, use its memory or take its descriptors
    #[arg(long, group = "object")]
    trace: bool,
    /// Call a tool of the agent, by its name; with `--input` what it is given
    #[arg(long, value_name = "NAME", group = "object", requires = "input")]
    tool: Option<String>,
    /// What the tool is given: a file with a JSON object, or `-` for standard input
    #[arg(long, value_name = "FILE.json", requires = "tool")]
    input: Option<PathBuf>,
    /// Call a tool of a server, by the name that the server has for it; with `--server` what the server is
    #[arg(long, value_name = "NAME", group = "object")]
    mcp: Option<String>,
    /// What the server is: a file with a JSON object as `server` of a test, or `-` for standard input. Without it nothing is known
    #[arg(long, value_name = "FILE.json", requires = "mcp")]
    server: Option<PathBuf>,
    /// The directory that the tool is called in [default: the working directory]
    #[arg(long, value_name = "DIR", requires = "tool")]
    cwd: Option<PathBuf>,
    /// The root of the repository that the agent works in [default: the one that the directory is in]
    #[arg(long, value_name = "DIR", requires = "tool")]
    repository: Option<PathBuf>,
    /// SHA-256 of the file that is executed
    #[arg(long, value_name = "HEX", value_parser = sha256)]
    sha256: Option<Digest>,
    /// The executable of the process that acts [default: one that no exception names]
    #[arg(long, value_name = "PATH")]
    executable: Option<PathBuf>,
    /// SHA-256 of that executable
    #[arg(long, value_name = "HEX", requires = "executable", value_parser = sha256)]
    executable_sha256: Option<Digest>,
    /// That executable was started with a variable that puts other code into it, such as `LD_PRELOAD`
    #[arg(long, requires = "executable")]
    loads_code: bool,
    /// An executable in the lineage of that process, with its SHA-256 if it is known; give every one, in any order. Without
    /// it nothing is known of the lineage
    #[arg(long, value_name = "PATH[,HEX]", value_parser = ancestor)]
    ancestor: Vec<Ancestor>,
    /// There is nothing before that process in its lineage: it is the session's root
    #[arg(long, conflicts_with = "ancestor")]
    root: bool,
    /// What is known of the session, such as `user=ada` or `group=contractors`; give everything, in any order. Without it nothing is known of it
    #[arg(long, value_name = "KEY=VALUE", value_parser = session::fact)]
    session: Vec<session::Fact>,
    /// User id of the process that acts [default: your own]
    #[arg(long, value_name = "UID")]
    uid: Option<u32>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug)]
struct Digest([u8; 32]);

fn sha256(text: &str) -> Result<Digest, String> {
    let mut digest = [0; 32];
    hex::decode_to_slice(text, &mut digest).map_err(|_| "a SHA-256 has 64 hexadecimal digits".to_owned())?;
    Ok(Digest(digest))
}

#[derive(Clone, Debug)]
struct Ancestor {
    path: PathBuf,
    sha256: Option<Digest>,
}

fn ancestor(text: &str) -> Result<Ancestor, String> {
    let (path, digest) = match text.rsplit_once(',') {
        Some((path, digest)) if digest.len() == 64 => (path, Some(sha256(digest)?)),
        _ => (text, None),
    };
    Ok(Ancestor { path: path.into(), sha256: digest })
}

/// The answer with its question, for machines.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    object: String,
    executable: Option<PathBytes>,
    lineage: Vec<PathBytes>,
    uid: u32,
    /// What was said of the session.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    session: Vec<&'a str>,
    /// Rules that are not asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    expired: Vec<String>,
    /// What the arguments of a tool say.
    #[serde(skip_serializing_if = "Option::is_none")]
    features: Option<Features>,
    /// What a server is.
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<&'a McpServer>,
    #[serde(flatten)]
    explanation: &'a Explanation,
}

/// A policy as it is in force now, and the rules of it that are not any more.
struct InForce {
    policy: Policy,
    expired: Vec<Considered>,
}

impl InForce {
    fn read(args: &Args) -> anyhow::Result<Self> {
        Ok(Self::at(valid(&args.file, &args.lower)?, now()))
    }

    fn at(policy: Policy, now: Moment) -> Self {
        let considered = |rule: &Rule| Considered {
            rule: rule.id.clone(),
            mode: (!rule.allows).then_some(rule.mode),
            adopts: rule.adopts,
            allows: rule.allows,
            of: Of::several(&policy, rule),
            outcome: Outcome::Differs { why: "has expired".to_owned() },
        };
        let expired = policy.rules.iter().filter(|rule| rule.has_expired(now)).map(considered).collect();
        Self { policy: policy.at(now), expired }
    }

    /// What the policy says, with the rules that are not asked in their places.
    fn explain(&self, host: &Host, request: &Request) -> Explanation {
        let mut explanation = explain(&self.policy, host, request);
        explanation.considered.extend(self.expired.iter().cloned());
        explanation.considered.sort_by(|left, right| left.rule.cmp(&right.rule));
        explanation
    }

    /// The ids of the rules that are not asked.
    fn expired(&self) -> Vec<String> {
        self.expired.iter().map(|considered| considered.rule.clone()).collect()
    }
}

/// Explains the event that is asked for.
///
/// # Errors
/// As [`event::run`].
pub(super) fn run_event(
    args: &Args,
    source: &mut dyn EntrySource,
    out: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    let Some(index) = args.event else { bail!("name an event, as `--event INDEX`") };
    event::run(args, index, &InForce::read(args)?, source, out)
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let request = Request { subject: subject(args)?, object: object(args)? };
    let in_force = InForce::read(args)?;
    let mut explanation = in_force.explain(&Host { homes: homes() }, &request);
    if matches!(request.object, Object::Tool(_)) {
        call::shown(&mut explanation);
    }
    let executable =
        args.executable.is_some().then(|| PathBytes::from(request.subject.executable.as_slice()));
    let known: Vec<&str> = args.session.iter().map(|fact| fact.text.as_str()).collect();
    if args.json {
        let answer = Answer {
            object: request.object.to_string(),
            executable,
            lineage: lineage(&request.subject),
            uid: request.subject.uid,
            session: known.clone(),
            expired: in_force.expired(),
            features: call::features(&request.object),
            server: call::server(&request.object),
            explanation: &explanation,
        };
        serde_json::to_writer_pretty(&mut *out, &answer).context("cannot write to standard output")?;
        writeln!(out)?;
    } else {
        // With the paths as they were resolved: what a symbolic link is called does not count.
        match executable {
            Some(executable) => writeln!(out, "{} by {executable}", request.object)?,
            None => writeln!(out, "{} by any executable", request.object)?,
        }
        match lineage(&request.subject).as_slice() {
            [] if args.root => writeln!(out, "as the session's root")?,
            [] => {}
            names => {
                let names: Vec<String> = names.iter().map(PathBytes::to_string).collect();
                writeln!(out, "below {}", names.join(", "))?;
            }
        }
        if !known.is_empty() {
            writeln!(out, "in a session of which is known {}", known.join(", "))?;
        }
        call::print(&request.object, out)?;
        write!(out, "{explanation}")?;
    }
    Ok(if explanation.verdict == Verdict::Deny { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn subject(args: &Args) -> anyhow::Result<Subject> {
    let path = match &args.executable {
        Some(path) => executable(path)?,
        None => Vec::new(),
    };
    let own =
        Executed { path, sha256: args.executable_sha256.map(|digest| digest.0), loads_code: args.loads_code };
    let before = args.ancestor.iter().map(|ancestor| {
        let path = executable(&ancestor.path)?;
        let sha256 = ancestor.sha256.map(|digest| digest.0);
        Ok(Executed { path, sha256, loads_code: false })
    });
    let images = before.chain([Ok(own.clone())]).collect::<anyhow::Result<_>>()?;
    Ok(Subject {
        executable: own.path,
        sha256: own.sha256,
        uid: args.uid.unwrap_or_else(uzers::get_current_uid),
        loads_code: own.loads_code,
        lineage: Lineage::Images { images, complete: args.root || !args.ancestor.is_empty() },
        session: Arc::new(session::session(&args.session)),
    })
}

/// What was executed before the subject's own executable, as it was resolved.
fn lineage(subject: &Subject) -> Vec<PathBytes> {
    let Lineage::Images { images, .. } = &subject.lineage else { return Vec::new() };
    let before = images.split_last().map_or(&[][..], |(_, before)| before);
    before.iter().map(|image| PathBytes::from(image.path.as_slice())).collect()
}

/// What is done, with the paths as they are resolved on this machine.
fn object(args: &Args) -> anyhow::Result<Object> {
    // What it requires is in a group with what is there instead, and then clap does not ask for it.
    let of = [("--input", &args.input, "--tool", &args.tool), ("--server", &args.server, "--mcp", &args.mcp)];
    if let Some((option, _, call, _)) =
        of.into_iter().find(|(_, file, _, name)| file.is_some() && name.is_none())
    {
        bail!("`{option}` is that of `{call}`; no such call is asked about here");
    }
    let mut object = match (&args.words, named(args)) {
        _ if args.tool.is_some() || args.mcp.is_some() => return call::object(args),
        (Some(words), _) => words.clone(),
        (None, Some((word, what))) => Object::named(word, what.as_bytes())?,
        (None, None) => bail!("name an operation, such as `--read PATH`"),
    };
    let follow = match &object {
        Object::File { operation: FileOperation::Read | FileOperation::Write, .. } => Follow::Last,
        Object::File { .. } => Follow::Parents,
        _ => Follow::Last,
    };
    if let Some(path) = object.path_mut() {
        *path = resolved(Path::new(OsStr::from_bytes(path)), follow);
    }
    match (&mut object, args.sha256) {
        (Object::Exec { sha256, .. }, digest) => *sha256 = digest.map(|digest| digest.0),
        (_, Some(_)) => bail!("`--sha256` is that of a file that is executed; nothing is executed here"),
        (_, None) => {}
    }
    Ok(object)
}

/// The word for what is done and what follows the word, by the options for single ones.
fn named(args: &Args) -> Option<(&'static str, &OsStr)> {
    let paths = [
        ("read", &args.read),
        ("write", &args.write),
        ("create", &args.create),
        ("delete", &args.delete),
        ("rename", &args.rename),
        ("link", &args.link),
        ("exec", &args.exec),
        ("unix", &args.unix),
    ];
    let path = paths.into_iter().find_map(|(word, path)| Some((word, path.as_ref()?.as_os_str())));
    let nothing = OsStr::new("");
    path.or_else(|| Some(("connect", args.connect.as_deref()?)))
        .or_else(|| args.raw_socket.then_some(("raw-socket", nothing)))
        .or_else(|| args.trace.then_some(("trace", nothing)))
}

/// Whether the last component of a path is followed when it is a symbolic link.
#[derive(Clone, Copy)]
enum Follow {
    /// As open, exec and connect do.
    Last,
    /// Not the last: these operations are on the name itself.
    Parents,
}

/// The file's own path, which rules are matched against, of an executable.
fn executable(path: &Path) -> Result<Vec<u8>, ObjectError> {
    let path = own_path(path.as_os_str().as_bytes())?;
    Ok(resolved(Path::new(OsStr::from_bytes(&path)), Follow::Last))
}

/// Symbolic links resolved as far as the path exists.
fn resolved(path: &Path, follow: Follow) -> Vec<u8> {
    let resolved = match follow {
        Follow::Last => path.canonicalize().ok(),
        Follow::Parents => None,
    };
    let resolved = resolved.or_else(|| {
        // The deepest directory that exists, then the rest as it is.
        path.ancestors().skip(1).find_map(|parent| {
            let rest = path.strip_prefix(parent).ok()?;
            Some(parent.canonicalize().ok()?.join(rest))
        })
    });
    resolved.as_deref().unwrap_or(path).as_os_str().as_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    const POLICY: &str = "\
version: 1
name: t
rules:
  - {id: secret, kind: file, paths: [/nonexistent/secret/**], reason: hands off, except: [{executable: /nonexistent/ssh}]}
  - {id: seen, kind: exec, mode: monitor, sha256: [1111111111111111111111111111111111111111111111111111111111111111], reason: seen}
  - {id: cloud, kind: connect, to: [169.254.169.254], reason: cloud}
  - {id: aws, kind: file, paths: [/nonexistent/aws], reason: aws, only: [{descendant_of: {executable: /nonexistent/npm}}], except: [{descendant_of: {executable: /nonexistent/terraform}}]}
  - {id: others, kind: broker, brokers: [ptrace], reason: others}
  - {id: past, kind: file, paths: [/nonexistent/past], reason: past, expires: 1999-12-31}
";

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    /// Runs with a policy and checks the exit status and a part of the output, or of the error.
    #[track_caller]
    fn check(arguments: &[&str], expect: Result<(ExitCode, &str), &str>) {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("p.yaml");
        std::fs::write(&file, POLICY).expect("a file");
        let all =
            ["explain".as_ref(), file.as_os_str()].into_iter().chain(arguments.iter().map(AsRef::as_ref));
        let mut out = Vec::new();
        let result =
            Cli::try_parse_from(all).map_err(anyhow::Error::from).and_then(|cli| run(&cli.args, &mut out));
        let out = String::from_utf8(out).expect("text");
        match (result, expect) {
            (Ok(code), Ok((expect, part))) => {
                assert_eq!(code, expect, "{out}");
                assert!(out.contains(part), "{out}");
            }
            (Err(error), Err(part)) => assert!(format!("{error:#}").contains(part), "{error:#}"),
            (result, expect) => panic!("{result:?}, expected {expect:?}"),
        }
    }

    #[test]
    fn answers() {
        let key = "/nonexistent/secret/key";
        check(
            &["--read", key],
            Ok((ExitCode::FAILURE, "read /nonexistent/secret/key by any executable\ndeny by `secret`")),
        );
        check(
            &["--read", key, "--executable", "/nonexistent/ssh"],
            Ok((ExitCode::SUCCESS, "lifted for `/nonexistent/ssh`")),
        );
        check(&["--delete", key], Ok((ExitCode::FAILURE, "reason: hands off")));
        check(&["--connect", "169.254.169.254:80"], Ok((ExitCode::FAILURE, "deny by `cloud`")));
        check(&["--connect", "[::1]:80"], Ok((ExitCode::SUCCESS, "no address block matches")));
        check(&["--unix", "/nonexistent/s", "--json"], Ok((ExitCode::SUCCESS, "\"verdict\": \"allow\"")));
        check(
            &["--read", "/nonexistent/past"],
            Ok((
                ExitCode::SUCCESS,
                "\n  past           enforce  - has expired\n  secret         enforce  - ",
            )),
        );
        check(
            &["--read", "/nonexistent/past", "--json"],
            Ok((ExitCode::SUCCESS, "\"expired\": [\n    \"past\"")),
        );
        check(&["--trace"], Ok((ExitCode::FAILURE, "trace by any executable\ndeny by `others/ptrace`")));
        check(
            &["--do", "read /nonexistent//secret/key"],
            Ok((ExitCode::FAILURE, "read /nonexistent/secret/key by")),
        );
        check(&["--do", "unix @x"], Ok((ExitCode::SUCCESS, "unix @x by any executable\nallow")));
        check(
            &["--do", "exec /nonexistent/x", "--sha256", &"1".repeat(64)],
            Ok((ExitCode::SUCCESS, "audit by `seen`")),
        );
        let content = ["--exec", "/nonexistent/x", "--sha256", &"1".repeat(64)];
        check(&content, Ok((ExitCode::SUCCESS, "audit by `seen`")));
    }

    #[test]
    fn lineages() {
        let by = |arguments: &[&str], expect| {
            let all =
                [&["--read", "/nonexistent/aws", "--executable", "/nonexistent/cat"], arguments].concat();
            check(&all, expect);
        };
        let only = "for `descendant of /nonexistent/npm";
        by(&[], Ok((ExitCode::FAILURE, "which cannot be told and counts")));
        by(&["--root"], Ok((ExitCode::SUCCESS, "is only for `descendant of /nonexistent/npm`")));
        by(&["--ancestor", "/nonexistent/sh"], Ok((ExitCode::SUCCESS, "below /nonexistent/sh\nallow")));
        by(&["--ancestor", "/nonexistent/npm"], Ok((ExitCode::FAILURE, only)));
        let both = ["--ancestor", "/nonexistent/npm", "--ancestor", "/nonexistent/terraform"];
        by(&both, Ok((ExitCode::SUCCESS, "lifted for `descendant of /nonexistent/terraform`")));
        by(&[&both[..], &["--loads-code"]].concat(), Ok((ExitCode::FAILURE, only)));
        by(&["--ancestor", "npm"], Err("not absolute"));
    }

    #[test]
    fn questions_that_make_no_sense() {
        check(&[], Err("required"));
        check(&["--read", "/x", "--write", "/x"], Err("cannot be used with"));
        check(&["--read", "x"], Err("not absolute"));
        check(&["--read", "/x/../y"], Err("`..`"));
        check(&["--connect", "example.com:80"], Err("not an address and a port"));
        check(&["--exec", "/x", "--sha256", "12"], Err("64 hexadecimal digits"));
        check(&["--read", "/x", "--sha256", &"1".repeat(64)], Err("nothing is executed"));
        check(&["--do", "raed /x"], Err("did you mean `read`?"));
        check(&["--do", "read /x", "--trace"], Err("cannot be used with"));
        check(&["--trace", "--input", "-"], Err("`--input` is that of `--tool`"));
        check(&["--trace", "--server", "-"], Err("`--server` is that of `--mcp`"));
        check(&["--mcp", "a b"], Err("no name of a tool"));
        check(&["--do", "tool mcp__x__y"], Err("asked about as `mcp`"));
    }

    #[test]
    fn symbolic_links_do_not_count() {
        let dir = tempfile::tempdir().expect("a directory");
        let base = dir.path().canonicalize().expect("its own path");
        std::fs::create_dir(base.join("real")).expect("a directory");
        std::os::unix::fs::symlink(base.join("real"), base.join("link")).expect("a link");
        let own = |path: PathBuf, follow| resolved(&path, follow);
        let bytes = |path: PathBuf| path.into_os_string().into_encoded_bytes();
        assert_eq!(own(base.join("link"), Follow::Last), bytes(base.join("real")));
        assert_eq!(own(base.join("link"), Follow::Parents), bytes(base.join("link")));
        assert_eq!(own(base.join("link/new/file"), Follow::Last), bytes(base.join("real/new/file")));
    }
}
