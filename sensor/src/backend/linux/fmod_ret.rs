//! Attach mode `fmod_ret`: the programs of the LSM hooks, attached to the kernel's `security_*` functions, where `bpf`
//! is not among the security modules.
//!
//! Such a program runs before the function, and the function is left out when the program returns something else than
//! 0: a refusal is what the caller sees. The modules in the list have not been asked yet, so a program may let through
//! (and record) what one of them then refuses. What stands behind the arguments in the program's context is the result
//! of the program before it on this function, 0 for the first: as with LSM hooks, which are attached with the same kind
//! of trampoline (`BPF_TRAMP_MODIFY_RETURN`). A program finds it by the number of the arguments, which must
//! therefore be right.
//!
//! The kernel leaves a program of this type out where it would run within itself on one CPU (`programs.rs`); LSM programs
//! are exempt from that.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use aya::Ebpf;
use treeline_event::{AttachMode, HookState, HookStatus};

use super::{
    bpf,
    hooks::Hook,
    load::Globals,
    offsets::Kernel,
    relocated::{As, Relocated},
};
use crate::backend::BackendError;

/// Programs for functions that take other arguments than the LSM hook of the program: program, number of arguments of
/// the function, program to take.
const VARIANTS: [(&str, usize, &str); 4] = [
    // `flags` comes last; the hook is called twice for an exchange instead.
    ("inode_rename", 5, "inode_rename_flags"),
    ("inode_rename_above", 5, "inode_rename_above_flags"),
    // The function does not know yet what protection will come of the one that is asked for.
    ("mmap_file", 3, "mmap_file_function"),
    // The function has the mount's id map since Linux 6.0, the hook since 6.9.
    ("inode_setattr_plain", 3, "inode_setattr"),
];

/// Attaches programs to functions, and keeps them there as long as it lives.
pub(super) struct Modifying {
    programs: Relocated,
    attached: Vec<Attached>,
}

/// One of them.
struct Attached {
    program: OwnedFd,
    _link: OwnedFd,
}

impl Modifying {
    /// Makes the programs ready, in the mode that needs them.
    ///
    /// # Errors
    /// [`BackendError::Unsupported`]: the object cannot be relocated, or the kernel does not take its types.
    pub(super) fn of(
        mode: AttachMode,
        object: &[u8],
        globals: &Globals<'_>,
        ebpf: &Ebpf,
    ) -> Result<Option<Self>, BackendError> {
        if mode != AttachMode::FmodRet {
            return Ok(None);
        }
        let programs = Relocated::of(object, globals, ebpf).map_err(BackendError::Unsupported)?;
        Ok(Some(Self { programs, attached: Vec::new() }))
    }

    /// The program that was attached last.
    pub(super) fn latest(&self) -> Option<BorrowedFd<'_>> {
        self.attached.last().map(|attached| attached.program.as_fd())
    }

    /// Attaches the program of an LSM hook to the hook's function.
    pub(super) fn attach(&mut self, hook: &Hook, kernel: &Kernel) -> HookStatus {
        let state = match try_attach(&self.programs, hook, kernel) {
            Ok((program, link)) => {
                self.attached.push(Attached { program, _link: link });
                HookState::Attached
            }
            Err(error) => HookState::Failed { error },
        };
        HookStatus { hook: hook.name(), state }
    }
}

/// The kernel function behind an LSM hook.
pub(super) fn function(hook: &str) -> String {
    match hook {
        "bprm_check_security" => "security_bprm_check".to_owned(),
        hook => format!("security_{hook}"),
    }
}

fn try_attach(programs: &Relocated, hook: &Hook, kernel: &Kernel) -> Result<(OwnedFd, OwnedFd), String> {
    let function = function(hook.target);
    let target = kernel.function(&function).ok_or_else(|| format!("this kernel has no `{function}`"))?;
    let of_hook = kernel.parameters(&format!("bpf_lsm_{}", hook.target));
    let program = fitting(hook.program, of_hook, target.parameters).ok_or_else(|| {
        format!(
            "`{function}` takes {} arguments here, which no variant of `{}` is for",
            target.parameters, hook.program
        )
    })?;
    let wanted = As { program, kind: bpf::TRACING, attach_kind: bpf::MODIFY_RETURN, target: target.id };
    let program = programs.load(&wanted)?;
    let link = bpf::attach(program.as_fd()).map_err(|error| format!("cannot be attached: {error}"))?;
    Ok((program, link))
}

/// The variant of a hook's program for a function of so many arguments.
fn fitting(program: &'static str, of_hook: Option<usize>, of_function: usize) -> Option<&'static str> {
    if of_hook == Some(of_function) {
        return Some(program);
    }
    VARIANTS
        .iter()
        .find(|(of, arguments, _)| *of == program && *arguments == of_function)
        .map(|(_, _, variant)| *variant)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(program: &'static str, of_hook: Option<usize>, of_function: usize, expect: Option<&str>) {
        assert_eq!(fitting(program, of_hook, of_function), expect, "{program} {of_hook:?} {of_function}");
    }

    #[test]
    fn a_program_is_for_so_many_arguments() {
        check("file_open", Some(1), 1, Some("file_open"));
        check("file_open", Some(1), 2, None);
        check("file_open", None, 1, None);
        check("inode_rename", Some(4), 5, Some("inode_rename_flags"));
        check("inode_rename", Some(4), 4, Some("inode_rename"));
        check("inode_setattr_plain", Some(2), 3, Some("inode_setattr"));
        check("inode_setattr_plain", Some(2), 2, Some("inode_setattr_plain"));
        check("inode_setattr", Some(3), 3, Some("inode_setattr"));
    }

    #[test]
    fn functions_are_named_after_hooks() {
        assert_eq!(function("file_open"), "security_file_open");
        assert_eq!(function("bprm_check_security"), "security_bprm_check");
    }
}
