//! What the process that takes shell commands apart gives up before it reads one: it reads what an agent wrote, with a foreign
//! parser.

use std::{collections::BTreeMap, io};

use anyhow::{Context as _, Result};
use rustix::{
    fs::{Gid, Uid},
    process::{Resource, Rlimit, getuid, setrlimit},
    thread::{
        CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs, set_thread_groups,
        set_thread_res_gid, set_thread_res_uid,
    },
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

/// Address space: what the binary takes, and some hundred times what an ordinary command needs.
const MEMORY_LEN_MAX: u64 = 256 << 20;
/// Seconds of processor time, after which it is started anew.
const CPU_SECONDS_MAX: u64 = 60;
/// Descriptors have lower numbers: input, output and messages, so no further one can be made.
const FILES_MAX: u64 = 3;
/// `nobody`.
const NOBODY: u32 = 65534;

/// System calls by which nothing is reached outside of the process.
const HARMLESS: [libc::c_long; 16] = [
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_sched_yield,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigprocmask,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_close,
    libc::SYS_gettid,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Leaves this process, which has one thread, its descriptors, some memory and some time.
///
/// # Errors
/// Something cannot be given up.
pub(super) fn confine() -> Result<()> {
    limit().context("cannot set limits")?;
    set_no_new_privs(true).context("cannot give up privileges of executables")?;
    drop_user().context("cannot become nobody")?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
        .context("cannot give up capabilities")?;
    apply_filter(&filter()?).context("cannot give up system calls")
}

fn limit() -> rustix::io::Result<()> {
    let limits = [
        (Resource::As, MEMORY_LEN_MAX),
        (Resource::Cpu, CPU_SECONDS_MAX),
        (Resource::Nofile, FILES_MAX),
        (Resource::Fsize, 0),
        (Resource::Core, 0),
        // The kernel does not hold root to it. Nobody is, and no system call is left that makes a process.
        (Resource::Nproc, 0),
    ];
    for (resource, value) in limits {
        setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) })?;
    }
    Ok(())
}

/// Becomes `nobody`, if it is root and may. The unit's sensor may not: without capabilities it is a root who can open what root owns,
/// and no system call is left that opens anything.
fn drop_user() -> io::Result<()> {
    use rustix::io::Errno;
    if !getuid().is_root() {
        return Ok(());
    }
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    let dropped = set_thread_groups(&[])
        .and_then(|()| set_thread_res_gid(group, group, group))
        .and_then(|()| set_thread_res_uid(user, user, user));
    match dropped {
        // No capability for it, or no such user in this namespace.
        Err(Errno::PERM | Errno::INVAL) => Ok(()),
        result => Ok(result?),
    }
}

/// Whatever else it calls ends it.
fn filter() -> Result<BpfProgram> {
    let is = |argument, op, value| SeccompCondition::new(argument, Dword, op, value);
    let rule = |condition| SeccompRule::new(vec![condition]);
    // No memory whose bytes could be run.
    let executable = u64::try_from(libc::PROT_EXEC)?;
    let plain_memory = || is(2, SeccompCmpOp::MaskedEq(executable), 0).and_then(rule);
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        HARMLESS.into_iter().map(|call| (call, Vec::new())).collect();
    rules.insert(libc::SYS_read, vec![rule(is(0, SeccompCmpOp::Eq, 0)?)?]);
    rules.insert(
        libc::SYS_write,
        vec![rule(is(0, SeccompCmpOp::Eq, 1)?)?, rule(is(0, SeccompCmpOp::Eq, 2)?)?],
    );
    rules.insert(libc::SYS_mmap, vec![plain_memory()?]);
    rules.insert(libc::SYS_mprotect, vec![plain_memory()?]);
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        std::env::consts::ARCH.try_into()?,
    )?;
    Ok(filter.try_into()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_is_one() {
        assert!(filter().expect("known system calls").len() > HARMLESS.len());
    }
}
