//! The guest itself: that what the other groups rely on is there.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::Group;
use crate::guest::group::Report;

struct Case {
    name: &'static str,
    check: fn() -> Result<()>,
}

const CASES: &[Case] = &[
    Case { name: "btf-is-there", check: btf },
    Case { name: "bpf-file-system", check: || is_directory("/sys/fs/bpf") },
    Case { name: "unified-cgroups", check: || is_file("/sys/fs/cgroup/cgroup.procs") },
    Case { name: "clock-is-sane", check: clock },
    Case { name: "loopback-works", check: loopback },
    Case { name: "programs-run", check: programs },
];

pub(super) const GROUP: Group =
    Group { name: "boot", cases: names, run, needs_sensor: false, timeout_s: 120 };

/// Not built into every kernel, and a host without kmod's tools cannot ship the module.
const OVERLAY: &str = "overlay-is-there";

fn names() -> Vec<String> {
    CASES.iter().map(|case| case.name).chain([OVERLAY]).map(str::to_owned).collect()
}

fn run(report: &Report) -> Result<()> {
    for case in CASES {
        report.case(case.name, (case.check)());
    }
    let kinds = fs::read_to_string("/proc/filesystems").context("reading /proc/filesystems")?;
    if kinds.lines().any(|line| line.split_whitespace().last() == Some("overlay")) {
        report.case(OVERLAY, Ok(()));
    } else {
        report.skip(OVERLAY, "this kernel has no overlay file system and its module did not load");
    }
    Ok(())
}

fn btf() -> Result<()> {
    let size = fs::metadata("/sys/kernel/btf/vmlinux").context("reading /sys/kernel/btf/vmlinux")?.len();
    ensure!(size > 1 << 20, "BTF of the kernel has only {size} bytes");
    Ok(())
}

fn is_directory(path: &str) -> Result<()> {
    ensure!(Path::new(path).is_dir(), "{path} is no directory");
    Ok(())
}

fn is_file(path: &str) -> Result<()> {
    ensure!(Path::new(path).is_file(), "{path} is no file");
    Ok(())
}

fn clock() -> Result<()> {
    let now_s = std::time::UNIX_EPOCH.elapsed().context("the clock is before 1970")?.as_secs();
    // 2026-01-01: older than any guest that this suite can be in.
    ensure!(now_s > 1_767_225_600, "the clock says {now_s} s since 1970");
    Ok(())
}

fn loopback() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").context("listening on loopback")?;
    let address = listener.local_addr().context("asking for the port")?;
    TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
    Ok(())
}

/// Every program that the host has copied starts here: a missing library shows now, by name, and not as an odd
/// failure of some later test.
fn programs() -> Result<()> {
    let list = fs::read_to_string("/etc/treeline-guest/programs").context("reading the list of programs")?;
    let mut broken = Vec::new();
    for program in list.lines() {
        match Command::new(program).arg("--version").output() {
            // 127 is the dynamic loader's status for a missing library. Some programs know no `--version`.
            Ok(output) if output.status.code() != Some(127) => {}
            Ok(output) => broken.push(format!("{program}: {}", String::from_utf8_lossy(&output.stderr))),
            Err(error) => broken.push(format!("{program}: {error}")),
        }
    }
    if !broken.is_empty() {
        bail!("{}", broken.join("; "));
    }
    Ok(())
}
