//! `cargo xtask soak`: half an hour of mixed load in a session, in a guest; what grew, and what was lost.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use treeline_vm_tests::{Line, MINUTES_PARAMETER};

use super::accelerator;
use super::catalogue::Catalogue;
use super::cpio::Archive;
use super::debs::Debs;
use super::guest::{Guest, Run};
use super::kernel::Kernel;
use super::mode::Mode;
use super::run::build_guest;
use super::{initramfs, report};
use crate::{build, checkout::Checkout, outcome::Outcome};

const GROUP: &str = "soak";
/// A compiler and what it works on are in memory, too.
const MEMORY_MB: u32 = 4096;
const BOOT_LIMIT: Duration = Duration::from_secs(600);
/// Beyond the soak itself: the start, and ending what runs.
const MORE: Duration = Duration::from_secs(1200);

const PACKAGES: &[&str] = &[
    "stress-ng",
    "libipsec-mb1",
    "libjudydebian1",
    "libsctp1",
    "make",
    "gcc-12",
    "cpp-12",
    "libgcc-12-dev",
    "libc6-dev",
    "linux-libc-dev",
    "binutils-x86-64-linux-gnu",
    "libbinutils",
    "libctf0",
    "libctf-nobfd0",
    "libgprofng0",
    "libisl23",
    "libmpc3",
    "libmpfr6",
    "libgmp10",
    "libjansson4",
    "libcc1-0",
    "libgcc-s1",
];
const SOURCES: &[&str] = &["lua5.4"];
/// With their libraries: what a compilation starts.
const PROGRAMS: &[(&str, &str)] = &[
    ("usr/bin/stress-ng", "/usr/bin/stress-ng"),
    ("usr/bin/make", "/usr/bin/make"),
    ("usr/bin/x86_64-linux-gnu-gcc-12", "/usr/bin/gcc-12"),
    ("usr/lib/gcc/x86_64-linux-gnu/12/cc1", "/usr/lib/gcc/x86_64-linux-gnu/12/cc1"),
    ("usr/lib/gcc/x86_64-linux-gnu/12/collect2", "/usr/lib/gcc/x86_64-linux-gnu/12/collect2"),
    ("usr/bin/x86_64-linux-gnu-as", "/usr/bin/as"),
    ("usr/bin/x86_64-linux-gnu-ld.bfd", "/usr/bin/ld"),
    ("usr/bin/x86_64-linux-gnu-ar", "/usr/bin/ar"),
    ("usr/bin/x86_64-linux-gnu-ranlib", "/usr/bin/ranlib"),
];
/// Files of a compiler for C; the rest of its directory is for other languages and sanitizers.
const COMPILER: &[&str] = &[
    "crtbegin.o",
    "crtbeginS.o",
    "crtbeginT.o",
    "crtend.o",
    "crtendS.o",
    "libgcc.a",
    "libgcc_eh.a",
    "libgcc_s.so",
    "liblto_plugin.so",
];
const COMPILER_DIRECTORY: &str = "usr/lib/gcc/x86_64-linux-gnu/12";

/// How long, and where.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How long the load lasts, in minutes of the guest
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=180))]
    minutes: u64,
    /// The kernel series to boot
    #[arg(long, value_name = "SERIES", default_value = "6.12")]
    kernel: String,
    /// The sensor under test [default: a release build of this tree]
    #[arg(long, value_name = "BINARY")]
    treeline: Option<PathBuf>,
}

/// Runs the verb; the findings are checks that failed.
///
/// # Errors
/// When the guest cannot be had.
pub(crate) fn run(checkout: &Checkout, args: &Args) -> Result<Outcome> {
    let treeline = match &args.treeline {
        Some(path) => path.clone(),
        None => {
            build::run(checkout)?;
            checkout.treeline()
        }
    };
    let catalogue = Catalogue::read(&checkout.root().join("vm-tests/kernels.toml"))?;
    let cache = checkout.root().join(".cache/kernels");
    let pins = catalogue.choose(std::slice::from_ref(&args.kernel))?;
    let kernel = Kernel::open(&cache, pins.first().context("a series has a kernel")?)?;
    let logs = checkout.logs();
    fs::create_dir_all(&logs).with_context(|| format!("creating {}", logs.display()))?;
    let path = logs.join("vm-soak.cpio");
    let common = initramfs::common(&build_guest(checkout)?, Some(&treeline))?;
    fs::write(&path, [common, initramfs::modules(&kernel, initramfs::MODULES)?, load(&cache)?].concat())
        .with_context(|| format!("writing {}", path.display()))?;
    let choice = accelerator::choose(None);
    let guest = Guest {
        kernel: &kernel.image(),
        initramfs: &path,
        disk: None,
        lsm_list: &kernel.lsm_list(Mode::Lsm.wants_bpf())?,
        mode: Mode::Lsm,
        only: &[GROUP.to_owned()],
        parameters: format!(" {MINUTES_PARAMETER}{}", args.minutes),
        memory_mb: MEMORY_MB,
        accelerator: choice.accelerator,
        is_counting: false,
        log: logs.join("vm-soak.log"),
        boot_limit: BOOT_LIMIT,
        limit: Duration::from_secs(args.minutes * 60) + MORE,
    };
    println!("soak: {}: {} minutes; console: {}", kernel.release, args.minutes, guest.log.display());
    let run = guest.run()?;
    fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
    Ok(show(&kernel.release, &guest, &run))
}

fn show(release: &str, guest: &Guest<'_>, run: &Run) -> Outcome {
    // Of the samples, those that show the course.
    let samples: Vec<&Line> =
        run.lines.iter().filter(|line| matches!(line, Line::Note { name, .. } if name == GROUP)).collect();
    let step = samples.len().div_ceil(8).max(1);
    for line in samples.iter().skip(step - 1).step_by(step) {
        if let Line::Note { text, .. } = line {
            println!("soak: {text}");
        }
    }
    let lines =
        run.lines.iter().filter(|line| !matches!(line, Line::Note { name, .. } if name == GROUP)).cloned();
    let rest = Run { end: run.end, boot: run.boot, lines: lines.collect() };
    let (text, totals) = report::describe(release, "soak", guest.accelerator, &rest);
    print!("{text}");
    Outcome::from_count(totals.failed_count)
}

/// stress-ng, a compiler, and something to build.
fn load(cache: &Path) -> Result<Vec<u8>> {
    let debs = Debs::open(cache, "soak", PACKAGES, SOURCES)?;
    let mut archive = Archive::new(initramfs::now_s()?);
    for (path, guest_path) in PROGRAMS {
        debs.add_program(&mut archive, path, guest_path)?;
    }
    for name in COMPILER {
        let path = format!("{COMPILER_DIRECTORY}/{name}");
        let content = fs::read(debs.path(&path)).with_context(|| format!("reading {path}"))?;
        archive.file(&format!("/{path}"), 0o644, &content);
    }
    for tree in [&format!("{COMPILER_DIRECTORY}/include"), "usr/include", "usr/src/lua5.4"] {
        debs.add_tree(&mut archive, tree)?;
    }
    archive.link("/usr/src/lua", "lua5.4");
    let libraries = "usr/lib/x86_64-linux-gnu";
    for name in ["crt1.o", "crti.o", "crtn.o", "Scrt1.o", "libc.so", "libc_nonshared.a", "libm.so"] {
        let content =
            fs::read(debs.path(&format!("{libraries}/{name}"))).with_context(|| format!("reading {name}"))?;
        archive.file(&format!("/{libraries}/{name}"), 0o644, &content);
    }
    // `libm.so` names it, and no program of the guest brings it: as theirs, it is this machine's.
    let vectors = "libmvec.so.1";
    let content =
        fs::read(format!("/{libraries}/{vectors}")).with_context(|| format!("reading {vectors}"))?;
    archive.file(&format!("/{libraries}/{vectors}"), 0o644, &content);
    Ok(archive.finish())
}
