//! The verb: builds the guest, gets the kernels, boots each, and sums up.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use treeline_vm_tests::{Line, THOROUGH_PARAMETER};

use super::accelerator::{self, Accelerator, Choice};
use super::catalogue::Catalogue;
use super::crew;
use super::distribution::{self, Disk};
use super::guest::{End, Guest, MEMORY_MB, Run};
use super::initramfs;
use super::kernel::Kernel;
use super::machine::{Asked, Kind, Machine, machines};
use super::matrix::Matrix;
use super::mode::Mode;
use super::report::{self, Totals};
use super::verifier_cost::{self, Start};
use crate::{build, checkout::Checkout, outcome::Outcome, step};

const TARGET: &str = "x86_64-unknown-linux-gnu";
/// How much of the console is shown when a guest fails.
const CONSOLE_LINE_COUNT_SHOWN: usize = 40;

/// Which guests, and with what.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The kernel series to boot, e.g. 6.12, or `all`; may be given several times
    #[arg(long = "kernel", value_name = "SERIES")]
    kernels: Vec<String>,
    /// Who is PID 1; may be given several times [default: `bare`, with --only whichever has the groups]
    #[arg(long = "guest", value_name = "KIND", value_enum)]
    kinds: Vec<Kind>,
    /// The attach mode to test; may be given several times [default: every one]
    #[arg(long = "mode", value_name = "MODE", value_enum)]
    modes: Vec<Mode>,
    /// How many guests run at a time: one more than processors, since each waits for a sixth of its time
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    jobs: usize,
    /// Run these groups of the suite and no others (comma-separated)
    #[arg(long, value_name = "GROUP", value_delimiter = ',')]
    only: Vec<String>,
    /// List the kernels that are pinned and whether they are downloaded, and do nothing else
    #[arg(long)]
    list: bool,
    /// Keep the initramfs and print the command that boots it
    #[arg(long)]
    keep: bool,
    /// What runs the guest's instructions [default: KVM where it works, else TCG]
    #[arg(long, value_enum)]
    accelerator: Option<Accelerator>,
    /// The sensor under test [default: a release build of this tree]
    #[arg(long, value_name = "BINARY")]
    treeline: Option<PathBuf>,
    /// Leave the sensor out: its tests are skipped by name, those of the guest itself run
    #[arg(long, conflicts_with = "treeline")]
    without_sensor: bool,
    /// Write what the guests told of the escape matrix into docs/escape-matrix.md
    #[arg(long)]
    write_matrix: bool,
    /// How long one guest may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    timeout_s: u64,
    /// How long a guest may take until PID 1 reports, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 180)]
    boot_timeout_s: u64,
}

/// Runs the verb; the findings are tests that failed.
///
/// # Errors
/// When a kernel cannot be had or a guest cannot be built.
pub(crate) fn run(checkout: &Checkout, args: &Args) -> Result<Outcome> {
    let catalogue = Catalogue::read(&checkout.root().join("vm-tests/kernels.toml"))?;
    let cache = checkout.root().join(".cache/kernels");
    if args.list {
        list(&catalogue, &cache);
        return Ok(Outcome::Clean);
    }
    let asked = Asked { kernels: &args.kernels, modes: &args.modes, kinds: &args.kinds, only: &args.only };
    let mut machines = machines(&catalogue, asked)?;
    let mut totals = leave_out(args, checkout, &mut machines);
    let choice = accelerator::choose(args.accelerator);
    println!("vm: guests run under {}: {}", choice.accelerator, choice.reason);
    let parts = Parts::get(args, checkout, &machines)?;
    // One after the other: what is downloaded is checked and unpacked, and that must not happen twice at a time.
    let kernels: Vec<Kernel> =
        machines.iter().map(|machine| Kernel::open(&cache, machine.pin)).collect::<Result<_>>()?;
    let kernel_count = machines.iter().map(|machine| &machine.pin.series).collect::<BTreeSet<_>>().len();
    let started = Instant::now();
    let booted: Vec<(Machine<'_>, &Kernel)> = machines.into_iter().zip(&kernels).collect();
    let results = crew::each(booted, args.jobs, |(machine, kernel)| {
        boot(args, checkout, &machine, kernel, &choice, &parts)
    });
    let (mut starts, mut matrix) = (Vec::new(), Matrix::default());
    let guest_count = results.len();
    for result in results {
        let told = result?;
        totals += told.totals;
        matrix.add(&told.series, &told.lines);
        starts.extend(told.start());
    }
    if !starts.is_empty() {
        print!("{}", verifier_cost::report(checkout.root(), &checkout.logs(), &starts)?);
    }
    println!(
        "vm: {guest_count} guests with {} of {} kernels in {} s: {totals}",
        kernel_count,
        catalogue.all().len(),
        started.elapsed().as_secs()
    );
    let differing_count = matrix.settle(checkout.root(), args.write_matrix)?;
    Ok(Outcome::from_count(totals.failed_count + differing_count))
}

/// Takes those guests out of `machines` that cannot be had here, and says why.
fn leave_out(args: &Args, checkout: &Checkout, machines: &mut Vec<Machine<'_>>) -> Totals {
    let why = if args.without_sensor {
        Some("everything in them is about the sensor")
    } else {
        distribution::obstacle(&disks(checkout))
    };
    let count = machines.len();
    if let Some(why) = why {
        machines.retain(|machine| machine.kind != Kind::Distribution);
        if machines.len() < count {
            println!("  skipped  distribution guests: {why}");
        }
    }
    Totals { skipped_count: count - machines.len(), ..Totals::default() }
}

fn disks(checkout: &Checkout) -> PathBuf {
    checkout.root().join(".cache/distribution")
}

fn list(catalogue: &Catalogue, cache: &Path) {
    for pin in catalogue.all() {
        let state = if Kernel::is_cached(cache, pin) { "downloaded" } else { "not downloaded" };
        println!("{:<6} {:<36} {:<18} {state}", pin.series, pin.release, pin.suite);
    }
}

/// What guests are put together from.
struct Parts {
    guest: PathBuf,
    treeline: Option<PathBuf>,
    /// The part of the initramfs that all guests have whose PID 1 is ours.
    common: Vec<u8>,
    /// That of the others.
    disk: Option<Disk>,
}

impl Parts {
    fn get(args: &Args, checkout: &Checkout, machines: &[Machine<'_>]) -> Result<Self> {
        let treeline = match &args.treeline {
            Some(path) => Some(path.clone()),
            None if args.without_sensor => None,
            None => {
                build::run(checkout)?;
                Some(checkout.treeline())
            }
        };
        let guest = build_guest(checkout)?;
        let common = initramfs::common(&guest, treeline.as_deref())?;
        let is_wanted = machines.iter().any(|machine| machine.kind == Kind::Distribution);
        let disk = is_wanted.then(|| Disk::open(checkout, &disks(checkout))).transpose()?;
        Ok(Self { guest, treeline, common, disk })
    }

    /// The initramfs of one guest.
    fn initramfs(&self, checkout: &Checkout, machine: &Machine<'_>, kernel: &Kernel) -> Result<Vec<u8>> {
        match machine.kind {
            Kind::Bare => {
                Ok([self.common.as_slice(), &initramfs::modules(kernel, initramfs::MODULES)?].concat())
            }
            Kind::Distribution => {
                let treeline = self.treeline.as_deref().context("these guests have a sensor")?;
                let payload = distribution::archive(checkout, &self.guest, treeline, machine.mode)?;
                Ok([payload, initramfs::modules(kernel, distribution::MODULES)?].concat())
            }
        }
    }
}

/// PID 1, static so that it needs nothing of the guest. In a target directory of its own: its flags would
/// otherwise make every other build start afresh.
pub(super) fn build_guest(checkout: &Checkout) -> Result<PathBuf> {
    eprintln!("==> the guests' PID 1");
    let target = checkout.root().join("target/vm");
    let mut command = build::cargo();
    command.current_dir(checkout.root());
    command.args(["build", "--locked", "--package", "treeline-vm-tests", "--bin", "treeline-vm-guest"]);
    command.args(["--target", TARGET]).arg("--target-dir").arg(&target);
    command.env("RUSTFLAGS", "-C target-feature=+crt-static").env("CARGO_PROFILE_DEV_OPT_LEVEL", "2");
    // Every guest unpacks it twice, and every session hashes it.
    command.env("CARGO_PROFILE_DEV_DEBUG", "none").env("CARGO_PROFILE_DEV_STRIP", "debuginfo");
    step::run(checkout, "build-vm-guest", &mut command)?;
    Ok(target.join(TARGET).join("debug/treeline-vm-guest"))
}

/// Boots one guest and prints its report.
fn boot(
    args: &Args,
    checkout: &Checkout,
    machine: &Machine<'_>,
    kernel: &Kernel,
    choice: &Choice,
    parts: &Parts,
) -> Result<Told> {
    let Machine { pin, mode, kind, is_thorough } = *machine;
    let series = &pin.series;
    let title = format!("{} {}{}", kernel.release, mode.word(), kind.suffix());
    let name = format!("{series}-{}{}", mode.word(), kind.suffix());
    let logs = checkout.logs();
    fs::create_dir_all(&logs).with_context(|| format!("creating {}", logs.display()))?;
    let log = logs.join(format!("vm-{name}.log"));
    let initramfs = logs.join(format!("vm-{name}.cpio"));
    fs::write(&initramfs, parts.initramfs(checkout, machine, kernel)?)
        .with_context(|| format!("writing {}", initramfs.display()))?;

    let mut guest = Guest {
        kernel: &kernel.image(),
        initramfs: &initramfs,
        disk: (kind == Kind::Distribution).then(|| parts.disk.as_ref().map(Disk::image)).flatten(),
        lsm_list: &kernel.lsm_list(mode.wants_bpf())?,
        mode,
        only: &kind.groups(&args.only),
        parameters: if is_thorough { format!(" {THOROUGH_PARAMETER}") } else { String::new() },
        memory_mb: if kind == Kind::Bare { MEMORY_MB } else { distribution::MEMORY_MB },
        accelerator: choice.accelerator,
        is_counting: false,
        log,
        boot_limit: Duration::from_secs(args.boot_timeout_s),
        limit: Duration::from_secs(args.timeout_s),
    };
    println!("vm: {title}: booting; console: {}", guest.log.display());
    let mut run = guest.run()?;
    if run.boot.is_none() && choice.may_fall_back {
        println!("vm: {title}: does not boot under {}; trying TCG", guest.accelerator);
        guest.accelerator = Accelerator::Tcg;
        run = guest.run()?;
    }
    let totals = show(&title, &name, &guest, &run);
    if args.keep {
        let words: Vec<String> =
            guest.arguments().iter().map(|word| format!("'{}'", word.to_string_lossy())).collect();
        println!("vm: {title}: qemu-system-x86_64 {}", words.join(" "));
    } else {
        fs::remove_file(&initramfs).with_context(|| format!("removing {}", initramfs.display()))?;
    }
    Ok(Told { series: series.clone(), mode, totals, lines: run.lines })
}

/// What a guest told.
struct Told {
    series: String,
    mode: Mode,
    totals: Totals,
    lines: Vec<Line>,
}

impl Told {
    /// What the first start of the sensor took.
    fn start(&self) -> Option<Start> {
        let started = self.lines.iter().find_map(|line| match line {
            Line::Started(started) => Some(started.clone()),
            _ => None,
        })?;
        Some(Start { series: self.series.clone(), mode: self.mode.word(), started })
    }
}

fn show(title: &str, name: &str, guest: &Guest<'_>, run: &Run) -> Totals {
    let (text, totals) = report::describe(title, name, guest.accelerator, run);
    // In one piece: another guest's may come at the same time.
    print!("{text}");
    if totals.failed_count > 0 || !matches!(run.end, End::Exit(_)) {
        for path in [guest.log.with_extension("qemu.log"), guest.log.clone()] {
            show_tail(&path);
        }
    }
    totals
}

fn show_tail(path: &Path) {
    let content = fs::read(path).unwrap_or_default();
    let content = String::from_utf8_lossy(&content);
    let lines: Vec<&str> = content.lines().collect();
    let from = lines.len().saturating_sub(CONSOLE_LINE_COUNT_SHOWN);
    if !lines.is_empty() {
        println!("vm: the end of {}:", path.display());
    }
    for line in &lines[from..] {
        println!("  | {}", line.trim_end());
    }
}
