//! Loading the object and attaching its programs, hook by hook: what the kernel refuses is written down, not fatal.

use std::{
    os::fd::{AsFd, BorrowedFd},
    path::PathBuf,
};

use aya::{
    Btf, Ebpf, EbpfLoader,
    programs::{
        BtfTracePoint, CgroupAttachMode, CgroupSock, CgroupSockAddr, FExit, Lsm, Program, ProgramError,
    },
};
use treeline_abi::{Offsets, Settings};
use treeline_event::{HookState, HookStatus};
use zerocopy::IntoBytes;

use super::hooks::{Hook, HookKind};
use crate::backend::BackendError;

/// Loads the object with this kernel's offsets and with the maps that are pinned already. No program is in the kernel
/// yet. The map of labels that the programs do not use here is as small as can be.
///
/// # Errors
/// [`BackendError::Unsupported`] with aya's words: a map that the kernel refuses, no permission...
pub(super) fn load(
    object: &[u8],
    globals: &Globals<'_>,
    unused_labels: &str,
    pinned: &[(String, PathBuf)],
) -> Result<Ebpf, BackendError> {
    let mut loader = EbpfLoader::new();
    loader.allow_unsupported_maps().map_max_entries(unused_labels, 1);
    for (name, path) in pinned {
        loader.map_pin_path(name.as_str(), path.as_path());
    }
    for (name, bytes) in globals {
        loader.override_global(name, *bytes, true);
    }
    loader.load(object).map_err(|error| {
        BackendError::Unsupported(format!("cannot load the kernel programs: {}", chain(&error)))
    })
}

/// What the programs find in their frozen globals, by name.
pub(super) type Globals<'a> = [(&'static str, &'a [u8]); 2];

/// The globals that tell of this kernel.
pub(super) fn globals<'a>(offsets: &'a Offsets, settings: &'a Settings) -> Globals<'a> {
    [("OFFSETS", offsets.as_bytes()), ("SETTINGS", settings.as_bytes())]
}

/// Loads and attaches one hook.
pub(super) fn attach(ebpf: &mut Ebpf, hook: &Hook, btf: &Btf) -> HookStatus {
    let state = match try_attach(ebpf, hook, btf) {
        Ok(()) => HookState::Attached,
        Err(error) => HookState::Failed { error },
    };
    HookStatus { hook: hook.name(), state }
}

/// The program of a hook that was loaded.
pub(super) fn program<'a>(ebpf: &'a Ebpf, hook: &Hook) -> Option<BorrowedFd<'a>> {
    Some(ebpf.program(hook.program)?.fd().ok()?.as_fd())
}

fn try_attach(ebpf: &mut Ebpf, hook: &Hook, btf: &Btf) -> Result<(), String> {
    let program = ebpf
        .program_mut(hook.program)
        .ok_or_else(|| format!("the object has no program `{}`", hook.program))?;
    let result = match hook.kind {
        HookKind::Tracepoint => attach_tracepoint(program, hook.target, btf),
        HookKind::Lsm => attach_lsm(program, hook.target, btf),
        HookKind::Exit => attach_exit(program, hook.target, btf),
        HookKind::ModifyReturn => return Err("aya cannot load this kind of program".to_owned()),
        HookKind::CgroupAddress => attach_cgroup_address(program),
        HookKind::CgroupSocket => attach_cgroup_socket(program),
    };
    result.map_err(|error| describe(&error))
}

fn attach_tracepoint(program: &mut Program, target: &str, btf: &Btf) -> Result<(), ProgramError> {
    let program: &mut BtfTracePoint = program.try_into()?;
    program.load(target, btf)?;
    program.attach().map(drop)
}

fn attach_lsm(program: &mut Program, target: &str, btf: &Btf) -> Result<(), ProgramError> {
    let program: &mut Lsm = program.try_into()?;
    program.load(target, btf)?;
    program.attach().map(drop)
}

fn attach_exit(program: &mut Program, target: &str, btf: &Btf) -> Result<(), ProgramError> {
    let program: &mut FExit = program.try_into()?;
    program.load(target, btf)?;
    program.attach().map(drop)
}

/// Attaches to the root of the unified hierarchy: the program itself leaves everybody without a label alone.
fn attach_cgroup_address(program: &mut Program) -> Result<(), ProgramError> {
    let program: &mut CgroupSockAddr = program.try_into()?;
    program.load()?;
    program.attach(root_cgroup()?, CgroupAttachMode::Single).map(drop)
}

/// As above.
fn attach_cgroup_socket(program: &mut Program) -> Result<(), ProgramError> {
    let program: &mut CgroupSock = program.try_into()?;
    program.load()?;
    program.attach(root_cgroup()?, CgroupAttachMode::Single).map(drop)
}

fn root_cgroup() -> Result<std::fs::File, ProgramError> {
    let root = super::mounts::cgroup2_root().map_err(ProgramError::IOError)?;
    std::fs::File::open(root).map_err(ProgramError::IOError)
}

/// The kernel's own words: the error and, for a refused program, the last lines of the verifier's log.
fn describe(error: &ProgramError) -> String {
    if let ProgramError::LoadError { io_error, verifier_log } = error {
        return with_log(io_error, &verifier_log.to_string());
    }
    chain(error)
}

/// The kernel's error and the last lines of the verifier's log.
pub(super) fn with_log(error: &std::io::Error, log: &str) -> String {
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    let tail = lines[lines.len().saturating_sub(12)..].join(" | ");
    if tail.is_empty() { error.to_string() } else { format!("{error}: {tail}") }
}

/// An error and its causes, without the repetitions that transparent wrappers make.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = cause.source();
    }
    text
}
