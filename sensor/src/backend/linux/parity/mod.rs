//! Does the running kernel decide as the policy says? Random policies go through compiler, maps and kernel programs;
//! random cases are then decided there and by `treeline_policy::eval`, which shares no step with them.

mod random;
mod rate;

use std::os::fd::{AsFd, BorrowedFd};

use aya::{Ebpf, maps::Array, programs::RawTracePoint};
use treeline_abi::{
    LabelFlags,
    parity::{Case, Executable, NAME_BYTES, NAMES_PER_PATH, Path},
    subject::{Facts, Lineage as LabelLineage},
};
use treeline_event::SessionId;
use treeline_policy::{
    Decision, Executed, Host, Lineage, Located, MountTable, Object, Policy, Request, Resolver, Tables,
    Target, compile, eval, parse, policy::FileOperation,
};
use zerocopy::{FromZeros, IntoBytes};

pub(crate) use self::rate::{DecisionRate, decision_rate, sample_rule};

use self::random::Random;
use super::{hooks, labels, load, object, offsets, sessions::Sessions, suited, sys, tables::KernelTables};
use crate::backend::BackendError;

/// Cases of one policy: putting one in force takes a tenth of a second.
const CASES_PER_POLICY: u64 = 1000;

/// The bytes of a [`Case`].
type CaseBytes = [u8; size_of::<Case>()];

/// Compares `cases` random cases, from `seed` on, and returns how many policies there were.
///
/// # Errors
/// The first case that differs, with its policy, or that the kernel refuses.
pub fn parity(seed: u64, cases: u64) -> Result<u64, BackendError> {
    let mut ebpf = loaded()?;
    let mut kernel_tables = KernelTables::default();
    let sessions = Sessions::of(&ebpf)?;
    for (number, known) in (1..).zip(random::sessions()) {
        sessions.begin(SessionId(number), known)?;
    }
    let policies = cases.div_ceil(CASES_PER_POLICY);
    for number in 0..policies {
        let mut random = Random::new(seed.wrapping_add(number));
        let text = random.policy();
        let policy =
            parse("random", &text).map_err(|error| BackendError::Policy(format!("{error}\n{text}")))?;
        let target = Target { seed: random.next(), generation: number + 1, slot: kernel_tables.idle() };
        let (host, mounts) = random::machine();
        let tables = match compile(&policy, &host, &mounts, target) {
            Ok(tables) => tables,
            Err(diagnostics) => return Err(BackendError::Policy(diagnostics.render(false))),
        };
        kernel_tables.install(&mut ebpf, &tables, &sessions, &[])?;
        let part = Part { policy: &policy, tables: &tables, mounts: &mounts };
        for _ in 0..CASES_PER_POLICY.min(cases - number * CASES_PER_POLICY) {
            let request = random.request();
            let also = random.also(&request.object);
            let decided = part.in_kernel(&mut ebpf, &request, also)?;
            let expected = part.expected(&request, also, &host);
            if decided != expected {
                let smaller = part.smallest(&mut ebpf, &request, also, &host)?;
                let seed = seed.wrapping_add(number);
                return Err(BackendError::Policy(format!(
                    "seed {seed}: the kernel decides {decided:?}, the policy {expected:?}\n{request:?} and {also:?}\nas does {smaller:?}\n{text}"
                )));
            }
        }
    }
    Ok(policies)
}

/// The maps, and of the programs the one that is only run from here.
fn loaded() -> Result<Ebpf, BackendError> {
    let unsupported = |error: &dyn std::error::Error| BackendError::Unsupported(load::chain(error));
    let object = object::required().map_err(|error| unsupported(&error))?;
    let kernel = offsets::Kernel::read(offsets::BTF_PATH).map_err(|error| unsupported(&error))?;
    let found = kernel.offsets().map_err(|error| unsupported(&error))?;
    let settings = hooks::settings(&kernel);
    let suited = suited::suited(object, &settings).map_err(|error| unsupported(&error))?;
    let (_, unused) = labels::names(&settings);
    let mut ebpf = load::load(suited.bytes(), &load::globals(&found, &settings), unused, &[])?;
    load_program(&mut ebpf).map_err(|error| unsupported(&error))?;
    Ok(ebpf)
}

fn load_program(ebpf: &mut Ebpf) -> Result<(), aya::programs::ProgramError> {
    let program = ebpf.program_mut("parity").ok_or(aya::programs::ProgramError::NotLoaded)?;
    let program: &mut RawTracePoint = program.try_into()?;
    program.load()
}

/// A policy in force.
struct Part<'p> {
    policy: &'p Policy,
    tables: &'p Tables,
    mounts: &'p MountTable,
}

impl Part<'_> {
    fn in_kernel(
        &self,
        ebpf: &mut Ebpf,
        request: &Request,
        also: Option<FileOperation>,
    ) -> Result<Decision, BackendError> {
        let io = |attempt: &str, source| BackendError::Io { attempt: attempt.to_owned(), source };
        let case = self.case(request, also);
        let mut bytes: CaseBytes = case.as_bytes().try_into().map_err(|_| wrong("the size of a case"))?;
        {
            let map = ebpf.map_mut("CASE").ok_or_else(|| wrong("no map `CASE`"))?;
            let mut map: Array<_, CaseBytes> =
                Array::try_from(map).map_err(|error| wrong(&error.to_string()))?;
            map.set(0, bytes, 0).map_err(|error| wrong(&error.to_string()))?;
        }
        {
            let status =
                sys::run_program(program(ebpf)?).map_err(|error| io("run the program `parity`", error))?;
            if status != 0 {
                return Err(wrong(&format!("the program `parity` ended with {status}")));
            }
        }
        let map = ebpf.map("CASE").ok_or_else(|| wrong("no map `CASE`"))?;
        let map: Array<_, CaseBytes> = Array::try_from(map).map_err(|error| wrong(&error.to_string()))?;
        bytes = map.get(&0, 0).map_err(|error| wrong(&error.to_string()))?;
        let mut done = Case::new_zeroed();
        done.as_mut_bytes().copy_from_slice(&bytes);
        let verdict = match done.answer >> 32 {
            0 => treeline_event::Verdict::Allow,
            1 => treeline_event::Verdict::Audit,
            _ => treeline_event::Verdict::Deny,
        };
        Ok(Decision { verdict, rule: (done.answer as u32 as usize).checked_sub(1) })
    }

    /// What the policy says of each operation by itself: the severest, and of these the first rule.
    fn expected(&self, request: &Request, also: Option<FileOperation>, host: &Host) -> Decision {
        let one = eval(self.policy, host, request);
        let (Some(operation), Object::File { path, .. }) = (also, &request.object) else { return one };
        let object = Object::File { path: path.clone(), operation };
        let other = eval(self.policy, host, &Request { subject: request.subject.clone(), object });
        let is_first = other.verdict == one.verdict && other.rule < one.rule;
        if other.verdict > one.verdict || is_first { other } else { one }
    }

    fn case(&self, request: &Request, also: Option<FileOperation>) -> Case {
        let mut case = Case::new_zeroed();
        let (path, operation) = match &request.object {
            Object::File { path, operation } => (path, *operation as u32),
            Object::Exec { path, .. } => (path, treeline_abi::paths::Operation::EXEC),
            Object::ConnectUnix { path } => (path, treeline_abi::paths::Operation::CONNECT),
            Object::Connect { .. }
            | Object::ConnectAbstract { .. }
            | Object::RawSocket
            | Object::Trace
            | Object::Tool(_)
            | Object::Mcp(_)
            | Object::Posture(_) => return case,
        };
        case.object = names(&self.locate(path));
        case.operations = 1 << operation | also.map_or(0, |also| 1 << also as u32);
        if let Lineage::Images { images, complete } = &request.subject.lineage {
            let facts = if *complete { Facts::default() } else { Facts::UNKNOWN };
            case.lineage = LabelLineage { facts, since: self.tables.table.subjects.since };
            // The last one is the subject's own.
            let (own, before) =
                images.split_last().map_or((None, &[][..]), |(own, before)| (Some(own), before));
            for (slot, image) in case.ancestors.iter_mut().zip(before) {
                *slot = self.executable(image);
            }
            case.subject = own.map_or_else(Executable::new_zeroed, |own| self.executable(own));
        }
        let number = random::sessions().iter().position(|known| *known == request.subject.session);
        case.session = number.map_or(0, |number| number as u64 + 1);
        case
    }

    fn executable(&self, image: &Executed) -> Executable {
        let content = image.sha256.map(|digest| self.tables.image_rules(&digest, Some(&image.path)).subject);
        Executable {
            path: names(&self.locate(&image.path)),
            content: content.unwrap_or_default(),
            label_flags: if image.loads_code { LabelFlags::LOADER_ENV } else { 0 },
            is_there: 1,
        }
    }

    fn locate(&self, path: &[u8]) -> Located {
        self.mounts.locate(path).remove(0)
    }

    /// The same request with as short a path as still differs.
    fn smallest(
        &self,
        ebpf: &mut Ebpf,
        request: &Request,
        also: Option<FileOperation>,
        host: &Host,
    ) -> Result<Request, BackendError> {
        let mut smallest = request.clone();
        loop {
            let Object::File { path, operation } = &smallest.object else { return Ok(smallest) };
            let Some(end) = path.iter().rposition(|byte| *byte == b'/').filter(|end| *end > 0) else {
                return Ok(smallest);
            };
            let object = Object::File { path: path[..end].to_vec(), operation: *operation };
            let shorter = Request { subject: smallest.subject.clone(), object };
            if self.in_kernel(ebpf, &shorter, also)? == self.expected(&shorter, also, host) {
                return Ok(smallest);
            }
            smallest = shorter;
        }
    }
}

fn program(ebpf: &Ebpf) -> Result<BorrowedFd<'_>, BackendError> {
    let program = ebpf.program("parity").ok_or_else(|| wrong("no program `parity`"))?;
    let program: &RawTracePoint = program.try_into().map_err(|_| wrong("`parity` is no raw tracepoint"))?;
    Ok(program.fd().map_err(|_| wrong("`parity` is not loaded"))?.as_fd())
}

fn names(located: &Located) -> Path {
    let mut path = Path::new_zeroed();
    path.device = located.device;
    let names: Vec<&[u8]> =
        located.inner.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).collect();
    for (slot, name) in path.names.iter_mut().zip(names.iter().rev()).take(NAMES_PER_PATH) {
        slot.len = name.len().min(NAME_BYTES) as u32;
        slot.bytes[..slot.len as usize].copy_from_slice(&name[..slot.len as usize]);
        path.count += 1;
    }
    path
}

fn wrong(what: &str) -> BackendError {
    BackendError::Unsupported(what.to_owned())
}
