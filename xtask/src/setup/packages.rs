//! The Debian packages, all in this list, each with its reason. What is there in another form is left as it is.

use super::probe::Probe;

/// One package, or several that are of use only together.
#[derive(Debug)]
pub(crate) struct Package {
    /// Debian's names.
    pub(crate) names: &'static [&'static str],
    /// How to tell that what they bring is there, from wherever it came.
    pub(crate) probe: Probe,
    /// What needs it.
    pub(crate) why: &'static str,
    stage: Stage,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    Build,
    Test,
}

/// A compiler with the sources of `core`: rustup's toolchains may lack them, and sources and compiler must be of the same
/// release. Debian ships a pair that is.
pub(crate) const KERNEL_COMPILER: &[&str] = &["rustc-web", "cargo-web", "rust-web-src"];

/// What libFuzzer needs; Rust programs are linked by the C compiler.
pub(crate) const CPP_COMPILER: Package =
    test(&["g++"], Probe::Program("c++"), "compiles the engine of the fuzz targets");

/// Everything else.
pub(crate) const ALL: &[Package] = &[
    build(&["gcc", "libc6-dev"], Probe::Program("cc"), "links Rust programs and compiles ring's assembly"),
    CPP_COMPILER,
    test(&["qemu-system-x86"], Probe::Program("qemu-system-x86_64"), "boots the guests of the kernel matrix"),
    test(&["busybox-static"], Probe::StaticProgram("busybox"), "the guests' shell and mount"),
    test(&["cpio"], Probe::Program("cpio"), "packs the guests' initramfs"),
    test(&["xz-utils"], Probe::Program("xz"), "unpacks kernels and modules compressed with xz"),
    test(&["zstd"], Probe::Program("zstd"), "unpacks kernels and modules compressed with zstd"),
    test(&["lz4"], Probe::Program("lz4"), "unpacks kernels compressed with lz4"),
    test(&["kmod"], Probe::Program("depmod"), "orders the guests' modules by dependency"),
    test(&["mmdebstrap"], Probe::Program("mmdebstrap"), "installs the distribution guests' Debian"),
    test(&["e2fsprogs"], Probe::Program("mkfs.ext4"), "makes the disks of the guests"),
    test(&["golang-go"], Probe::Program("go"), "builds the independent verifier of our logs"),
    test(
        &["golang-golang-x-mod-dev"],
        Probe::Path("/usr/share/gocode/src/golang.org/x/mod/sumdb/tlog"),
        "the transparency-log code of that verifier",
    ),
    test(&["strace"], Probe::Program("strace"), "shows in tests what a command really asked the kernel"),
    test(&["python3", "python3-venv"], Probe::PythonModule("ensurepip"), "runs the OCSF schema validator"),
    test(&["nodejs", "npm"], Probe::Program("npm"), "installs the real Claude Code for the demo"),
    test(&["iproute2"], Probe::Program("ip"), "brings up loopback in the demo's network namespace"),
    test(
        &["util-linux"],
        Probe::Program("unshare"),
        "makes the namespaces of the demo and the lineage tests",
    ),
];

const fn build(names: &'static [&'static str], probe: Probe, why: &'static str) -> Package {
    Package { names, probe, why, stage: Stage::Build }
}

const fn test(names: &'static [&'static str], probe: Probe, why: &'static str) -> Package {
    Package { names, probe, why, stage: Stage::Test }
}

impl Package {
    /// Whether what it brings is there.
    pub(crate) fn is_there(&self) -> bool {
        self.probe.is_met()
    }

    /// Whether a build needs it; the others are for tests and the demo.
    pub(crate) fn is_for_building(&self) -> bool {
        self.stage == Stage::Build
    }
}
