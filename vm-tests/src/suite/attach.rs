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
}
