//! How long the kernel takes to decide about a path: the matcher and the judge of the hooks alone, with no walk up a
//! path and no record, as the kernel's own statistics time it.

use std::sync::Arc;

use serde::Serialize;
use treeline_policy::{
    Executed, Home, Host, Lineage, MountTable, Object, Request, Subject, Target, compile, parse,
    policy::FileOperation,
};

use super::{Part, loaded, program, wrong};
use crate::backend::{
    BackendError,
    linux::{bpf, sessions::Sessions, tables::KernelTables},
};

/// Rules of the policy that is measured: of three patterns each.
const RULES: usize = 300;
/// Different paths of each kind: the next one is decided only when the others were.
const PATHS: usize = 64;

/// What deciding about one kind of path takes.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct DecisionRate {
    /// What the paths are.
    pub(crate) paths: &'static str,
    /// One of them.
    pub(crate) example: String,
    /// Rules of the policy in force.
    pub(crate) rules: usize,
    /// Whether these paths are refused.
    pub(crate) is_denied: bool,
    pub(crate) runs: u64,
    /// Nanoseconds a decision, the kernel's two looks at its clock included.
    pub(crate) ns: f64,
}

type PathOf = fn(usize) -> String;

/// Kinds of paths, by how they meet [`policy`].
const KINDS: [(&str, PathOf); 5] = [
    ("no rule is near", |number| format!("/usr/lib/x86_64-linux-gnu/libtool-{number}.so.6")),
    ("no rule is near, 24 components", |number| format!("/srv{}/file-{number}", "/directory".repeat(22))),
    ("below a directory that a rule names", |number| format!("/home/ada/.tool-{number}/cache/token")),
    ("behind `*`", |number| format!("/home/ada/work/project/secret-{number}/key")),
    ("by its last name", |number| format!("/srv/checkout/application/.env-{number}")),
];

/// Times `rounds` decisions about each of 64 paths of each kind, with one rule in force and with 300.
///
/// # Errors
/// What the kernel refuses: it has timed programs on request since Linux 5.8.
pub(crate) fn decision_rate(rounds: u32) -> Result<Vec<DecisionRate>, BackendError> {
    let mut ebpf = loaded()?;
    let mut kernel_tables = KernelTables::default();
    let host = Host { homes: vec![Home { uid: 1000, path: b"/home/ada".to_vec() }] };
    let mounts = MountTable::single(1);
    let _timing = bpf::time_runs()
        .map_err(|source| BackendError::Io { attempt: "have programs timed".to_owned(), source })?;
    let mut rates = Vec::new();
    for (generation, rules) in [(1, 1), (2, RULES)] {
        let policy = parse("rate", &policy(rules)).map_err(|error| wrong(&error.to_string()))?;
        let target = Target { seed: 1, generation, slot: kernel_tables.idle() };
        let tables = compile(&policy, &host, &mounts, target)
            .map_err(|diagnostics| BackendError::Policy(diagnostics.render(false)))?;
        kernel_tables.install(&mut ebpf, &tables, &Sessions::default(), &[])?;
        let part = Part { policy: &policy, tables: &tables, mounts: &mounts };
        for (paths, path) in KINDS {
            let requests: Vec<Request> = (1..=PATHS).map(|number| read(&path(number))).collect();
            let before = info(&ebpf)?;
            let mut denied = 0;
            for request in (0..rounds).flat_map(|_| &requests) {
                let decided = part.in_kernel(&mut ebpf, request, None)?;
                denied += usize::from(decided.verdict == treeline_event::Verdict::Deny);
            }
            let after = info(&ebpf)?;
            let runs = after.runs.saturating_sub(before.runs);
            let ns = after.run_ns.saturating_sub(before.run_ns) as f64 / runs.max(1) as f64;
            let is_denied = denied == rounds as usize * PATHS;
            rates.push(DecisionRate { paths, example: path(PATHS), rules, is_denied, runs, ns });
        }
    }
    Ok(rates)
}

fn info(ebpf: &aya::Ebpf) -> Result<bpf::Info, BackendError> {
    bpf::info(program(ebpf)?)
        .map_err(|source| BackendError::Io { attempt: "ask about the program `parity`".to_owned(), source })
}

/// A read by a program whose own path is decided about as well, as the hooks do only where a rule has a subject.
fn read(path: &str) -> Request {
    let executable = b"/usr/bin/cat".to_vec();
    let images = vec![Executed { path: executable.clone(), ..Executed::default() }];
    let lineage = Lineage::Images { images, complete: true };
    Request {
        subject: Subject {
            executable,
            sha256: None,
            uid: 1000,
            loads_code: false,
            lineage,
            session: Arc::default(),
        },
        object: Object::File { path: path.into(), operation: FileOperation::Read },
    }
}

fn policy(rules: usize) -> String {
    format!("version: 1\nname: rate\nrules:\n{}", (0..rules).map(sample_rule).collect::<String>())
}

/// A rule of three patterns, one for each way in which they are stored, and every eighth with an exception: what policies
/// that are measured are made of.
pub(crate) fn sample_rule(number: usize) -> String {
    let except = if number.is_multiple_of(8) { ", except: [{executable: /usr/bin/ssh}]" } else { "" };
    format!(
        "  - {{id: r-{number}, kind: file, reason: Not for agents., paths: [\"~/.tool-{number}/**\", \"~/work/*/secret-{number}/**\", \"**/.env-{number}\"]{except}}}\n"
    )
}
