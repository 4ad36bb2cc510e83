//! What executes the guest's instructions.

use std::fmt;
use std::fs::OpenOptions;

/// How QEMU runs a guest.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum Accelerator {
    /// The processor itself.
    Kvm,
    /// QEMU's translator: runs everywhere, 5 to 12 times slower.
    Tcg,
}

impl fmt::Display for Accelerator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Kvm => "KVM",
            Self::Tcg => "TCG",
        })
    }
}

/// A choice and why it was made.
pub(super) struct Choice {
    pub(super) accelerator: Accelerator,
    pub(super) reason: &'static str,
    /// Whether a guest that does not boot gets a second try with TCG: not when a human has asked for this one.
    pub(super) may_fall_back: bool,
}

/// Takes what is asked for, else KVM where it can be expected to work.
pub(super) fn choose(asked: Option<Accelerator>) -> Choice {
    if let Some(accelerator) = asked {
        return Choice { accelerator, reason: "asked for", may_fall_back: false };
    }
    let opens = OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
    let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    automatic(opens, &processors)
}

/// A device that opens is not enough: some clouds give it to guests whose processor cannot nest, and QEMU then
/// aborts or hangs.
fn automatic(device_opens: bool, processors: &str) -> Choice {
    let can_nest = processors.split_whitespace().any(|flag| flag == "svm" || flag == "vmx");
    let (accelerator, reason) = match (device_opens, can_nest) {
        (true, true) => (Accelerator::Kvm, "/dev/kvm opens and the processor has svm or vmx"),
        (true, false) => (Accelerator::Tcg, "/dev/kvm opens, but the processor has neither svm nor vmx"),
        (false, _) => (Accelerator::Tcg, "/dev/kvm does not open"),
    };
    Choice { accelerator, reason, may_fall_back: accelerator == Accelerator::Kvm }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(device_opens: bool, processors: &str, expect: Accelerator) {
        assert_eq!(automatic(device_opens, processors).accelerator, expect, "{device_opens} {processors}");
    }

    #[test]
    fn kvm_needs_the_device_and_the_flag() {
        check(true, "flags : fpu vmx sse", Accelerator::Kvm);
        check(true, "flags : fpu svm\n", Accelerator::Kvm);
        check(true, "flags : fpu vmxnot", Accelerator::Tcg);
        check(false, "flags : fpu vmx", Accelerator::Tcg);
    }
}
