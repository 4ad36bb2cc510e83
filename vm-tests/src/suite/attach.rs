//! How the sensor is to be attached in this guest, which the host decides when it boots one.

use std::fs;

use anyhow::{Context, Result, bail};
use treeline_vm_tests::MODE_PARAMETER;

/// The sensor's attach modes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Attach {
    Lsm,
    FmodRet,
    Fallback,
}

impl Attach {
    /// Whether the kernel may leave out runs of programs (THREATS.md): those on functions, and tracepoints where they can be
    /// preempted.
    pub(crate) fn can_be_left_out(self) -> bool {
        self == Self::FmodRet || release() >= (7, 0)
    }

    /// Whether it may leave out runs of any program: mode `lsm` has some at the ends of functions, which can be preempted
    /// where the kernel does so lazily (Linux 6.13).
    pub(crate) fn has_some_left_out(self) -> bool {
        self.can_be_left_out() || release() >= (6, 13)
    }

    /// That of this guest.
    pub(crate) fn of_guest() -> Result<Self> {
        let line = fs::read_to_string("/proc/cmdline").context("reading the kernel's command line")?;
        match line.split_whitespace().find_map(|word| word.strip_prefix(MODE_PARAMETER)) {
            None | Some("lsm") => Ok(Self::Lsm),
            Some("fmod_ret") => Ok(Self::FmodRet),
            Some("fallback") => Ok(Self::Fallback),
            Some(other) => bail!("there is no attach mode `{other}`"),
        }
    }

    /// The sensor's word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Lsm => "lsm",
            Self::FmodRet => "fmod_ret",
            Self::Fallback => "fallback",
        }
    }

    /// The mode that the sensor is asked for. None where it must find the right one by itself: guests for `fmod_ret`
    /// have no `bpf` among their security modules.
    pub(crate) fn asked(self) -> Option<&'static str> {
        match self {
            Self::Lsm | Self::FmodRet => None,
            Self::Fallback => Some(self.word()),
        }
    }

    /// Whether every operation is judged before it happens.
    pub(crate) fn judges_all(self) -> bool {
        self != Self::Fallback
    }

    /// Whether connects and datagrams by address are judged. In mode `fallback` programs of the root cgroup do that, which may ask
    /// for a task's label since Linux 6.16 (`bpf_task_storage_get`), and always where labels are not on tasks.
    pub(crate) fn judges_connects(self) -> bool {
        self.judges_all() || release() >= (6, 16) || release() < (5, 17)
    }

    /// The hooks of this mode that this kernel refuses.
    pub(crate) fn refused_hooks(self) -> &'static [&'static str] {
        match self {
            // They are tried first, and the reason is kept.
            Self::FmodRet => &["mode/lsm"],
            Self::Fallback if !self.judges_connects() => &[
                "cgroup/connect4",
                "cgroup/connect6",
                "cgroup/sendmsg4",
                "cgroup/sendmsg6",
                "cgroup/sock_create",
            ],
            Self::Lsm | Self::Fallback => &[],
        }
    }
}

/// Version and patch level of the running kernel.
pub(super) fn release() -> (u32, u32) {
    let uname = rustix::system::uname();
    numbers(&uname.release().to_string_lossy())
}

fn numbers(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit()).map(str::parse);
    let mut next = || numbers.next().and_then(Result::ok).unwrap_or(0);
    (next(), next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_compare_by_number() {
        for (release, expect) in
            [("6.1.0-56-cloud-amd64", (6, 1)), ("6.12.117+deb13-cloud-amd64", (6, 12)), ("7", (7, 0))]
        {
            assert_eq!(numbers(release), expect);
        }
    }
}
