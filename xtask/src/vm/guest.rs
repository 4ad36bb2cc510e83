//! One guest: QEMU, its two serial ports, and how it ended.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use treeline_vm_tests::{Line, ONLY_PARAMETER};

use super::accelerator::Accelerator;
use super::mode::Mode;
use super::tool;

/// A guest needs about 200 MB; the rest is for what tests write into tmpfs.
pub(super) const MEMORY_MB: u32 = 1024;
/// From the last result to QEMU's end.
const POWER_OFF_LIMIT: Duration = Duration::from_secs(30);

/// What to boot and for how long.
pub(super) struct Guest<'a> {
    pub(super) kernel: &'a Path,
    pub(super) initramfs: &'a Path,
    /// A disk, of which the guest gets a snapshot that ends with it.
    pub(super) disk: Option<&'a Path>,
    pub(super) lsm_list: &'a str,
    pub(super) mode: Mode,
    /// The groups to run; none for all.
    pub(super) only: &'a [String],
    /// More kernel parameters, each after a space.
    pub(super) parameters: String,
    pub(super) memory_mb: u32,
    pub(super) accelerator: Accelerator,
    /// Whether the guest's clock counts instructions, one a nanosecond.
    pub(super) is_counting: bool,
    /// Where the console goes.
    pub(super) log: PathBuf,
    /// From QEMU's start to the first line of results.
    pub(super) boot_limit: Duration,
    /// From QEMU's start to the last line of results.
    pub(super) limit: Duration,
}

/// How a guest ended: three different things.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    /// All results came; the status is the suite's.
    Exit(u8),
    /// QEMU ended without the last line.
    Crashed,
    /// The last line did not come in time.
    Hung,
}

/// What a guest told.
pub(super) struct Run {
    pub(super) end: End,
    /// From QEMU's start to the first line.
    pub(super) boot: Option<Duration>,
    pub(super) lines: Vec<Line>,
}

impl Guest<'_> {
    /// Boots the guest and returns when it is gone.
    pub(super) fn run(&self) -> Result<Run> {
        let started = Instant::now();
        let mut qemu = self.start()?;
        let received = lines_of(qemu.0.stdout.take().context("QEMU's output is piped")?);
        let mut run = Run { end: End::Hung, boot: None, lines: Vec::new() };
        run.end = loop {
            let limit = if run.boot.is_none() { self.boot_limit } else { self.limit };
            match received.recv_timeout(limit.saturating_sub(started.elapsed())) {
                Ok(Line::Exit { status }) => break End::Exit(status),
                Ok(line) => {
                    run.boot.get_or_insert_with(|| started.elapsed());
                    run.lines.push(line);
                }
                Err(RecvTimeoutError::Disconnected) => break End::Crashed,
                Err(RecvTimeoutError::Timeout) => break End::Hung,
            }
        };
        if matches!(run.end, End::Exit(_)) {
            qemu.wait(POWER_OFF_LIMIT);
        }
        Ok(run)
    }

    /// The command, for `--keep` to print.
    pub(super) fn arguments(&self) -> Vec<OsString> {
        let accelerator = match self.accelerator {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg => "tcg",
        };
        // la57 would make the translator walk a fifth level of page tables for every miss; with erms and fsrm the kernel
        // and the C library copy and clear by instructions that it does byte by byte.
        let processor = "max,la57=off,erms=off,fsrm=off";
        // A panic reboots at once, which -no-reboot turns into QEMU's end: a crash is not waited for.
        let mut command_line =
            format!("console=ttyS0 panic=-1 rdinit=/init loglevel=6 lsm={}", self.lsm_list);
        command_line.push_str(&format!(" {}", self.mode.parameter()));
        if !self.only.is_empty() {
            command_line.push_str(&format!(" {ONLY_PARAMETER}{}", self.only.join(",")));
        }
        command_line.push_str(&self.parameters);
        let memory = self.memory_mb.to_string();
        let console = OsString::from(format!("file:{}", self.log.display()));
        let words: [&str; 22] = [
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-display",
            "none",
            "-nic",
            "none",
            "-M",
            "pc",
            "-smp",
            "1",
            "-m",
            &memory,
            "-accel",
            accelerator,
            "-cpu",
            processor,
            "-append",
            &command_line,
            "-serial",
            "stdio",
            "-kernel",
        ];
        let mut arguments: Vec<OsString> = Vec::new();
        if self.is_counting {
            arguments.extend(["-icount".into(), "shift=0,sleep=off".into()]);
        }
        for word in words {
            // The first port is the console, so it must come before the one that carries results.
            if word == "-serial" {
                arguments.extend(["-serial".into(), console.clone()]);
            }
            arguments.push(word.into());
        }
        arguments.extend([self.kernel.into(), "-initrd".into(), self.initramfs.into()]);
        if let Some(disk) = self.disk {
            // A comma would end the file's name.
            let path = disk.display().to_string().replace(',', ",,");
            arguments
                .extend(["-drive".into(), format!("file={path},format=raw,if=virtio,snapshot=on").into()]);
        }
        arguments
    }

    fn start(&self) -> Result<Qemu> {
        let errors = self.log.with_extension("qemu.log");
        let errors = File::create(&errors).with_context(|| format!("creating {}", errors.display()))?;
        let child = Command::new("qemu-system-x86_64")
            .args(self.arguments())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .with_context(|| tool::missing("qemu-system-x86_64"))?;
        Ok(Qemu(child))
    }
}

/// Decodes the result port in a thread, since the reader waits with a time-out. What is no line of the protocol
/// is dropped; the console log has it when the kernel said it.
fn lines_of(stdout: ChildStdout) -> Receiver<Line> {
    let (sender, receiver) = mpsc::sync_channel(256);
    thread::spawn(move || {
        for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
            if let Some(line) = Line::decode(&String::from_utf8_lossy(&line))
                && sender.send(line).is_err()
            {
                break;
            }
        }
    });
    receiver
}

/// A running QEMU, which does not outlive its guard.
struct Qemu(Child);

impl Qemu {
    fn wait(&mut self, limit: Duration) {
        let started = Instant::now();
        while started.elapsed() < limit && matches!(self.0.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // It has usually ended; then both fail, and nothing is left behind in either case.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
