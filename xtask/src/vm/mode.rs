//! The attach modes that are tested, and the guest that each needs.

use treeline_vm_tests::MODE_PARAMETER;

/// How the sensor is to be attached in a guest.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(super) enum Mode {
    /// LSM programs: `bpf` is among the security modules.
    Lsm,
    /// Programs on `security_*`: `bpf` is not among them.
    #[value(name = "fmod_ret")]
    FmodRet,
    /// Tracepoints and fanotify, where the configuration asks for it.
    Fallback,
}

impl Mode {
    pub(super) const ALL: [Self; 3] = [Self::Lsm, Self::FmodRet, Self::Fallback];

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Lsm => "lsm",
            Self::FmodRet => "fmod_ret",
            Self::Fallback => "fallback",
        }
    }

    /// Whether the guest boots with `bpf` in the list of security modules.
    pub(super) fn wants_bpf(self) -> bool {
        self != Self::FmodRet
    }

    /// What tells the guest, on the kernel's command line.
    pub(super) fn parameter(self) -> String {
        format!("{MODE_PARAMETER}{}", self.word())
    }
}
