//! The sensor that is measured: a daemon with a socket, a log and a state of its own.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead, BufReader},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::scene::Scene;

/// Far longer than any start so far.
const START_MAX: Duration = Duration::from_secs(60);
/// The daemon empties its queues and signs the log first.
const STOP_MAX: Duration = Duration::from_secs(60);
/// How finely the start is timed.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// How much of its output is shown when it does not start.
const TAIL_LINES: usize = 10;

/// A daemon.
#[derive(Debug)]
pub(super) struct Sensor {
    treeline: PathBuf,
    child: Child,
    dir: PathBuf,
    /// From the start of the process until its socket answered.
    pub(super) start_ms: f64,
}

/// What a sensor recorded from start to end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Recorded {
    /// Entries of its log.
    pub(super) entries: u64,
    /// Lost events as its log says, by site and kind.
    pub(super) lost: BTreeMap<String, u64>,
}

/// How often a kernel program ran, and for how long in all.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Runs {
    pub(super) hook: String,
    pub(super) runs: u64,
    pub(super) run_ns: u64,
}

/// Memory of a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Memory {
    /// All of it: also the kernel's rings, which are mapped (their data twice, so that a record never wraps), and what is
    /// used of the executable file.
    pub(super) resident_kib: u64,
    /// Its own data.
    pub(super) anonymous_kib: u64,
}

impl Sensor {
    /// Starts it and waits until it answers.
    pub(super) fn start(treeline: &Path, scene: &Scene) -> Result<Self> {
        let dir = scene.fresh("sensor-")?;
        // The machine's own configuration has no say here.
        fs::write(dir.join("treeline.toml"), "unenforceable = \"observe\"\n")?;
        let output = File::create(dir.join("output"))?;
        let begun = Instant::now();
        let child = Command::new(treeline)
            .arg("--config")
            .arg(dir.join("treeline.toml"))
            .args(["daemon", "--mode", "fallback", "--policy"])
            .arg(&scene.policy)
            .arg("--log")
            .arg(dir.join("log"))
            .arg("--state")
            .arg(dir.join("state"))
            .arg("--socket")
            .arg(dir.join("socket"))
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start `{} daemon`", treeline.display()))?;
        let mut sensor = Self { treeline: treeline.to_owned(), child, dir, start_ms: 0.0 };
        while UnixStream::connect(sensor.dir.join("socket")).is_err() {
            if let Some(status) = sensor.child.try_wait()? {
                bail!("the daemon ended ({status}):\n{}", sensor.output_tail());
            }
            ensure!(begun.elapsed() < START_MAX, "the daemon does not answer:\n{}", sensor.output_tail());
            thread::sleep(LOOK_EVERY);
        }
        sensor.start_ms = begun.elapsed().as_secs_f64() * 1e3;
        Ok(sensor)
    }

    /// The start of a command line that runs something inside a session.
    pub(super) fn run(&self) -> Command {
        let mut command = Command::new(&self.treeline);
        command.arg("--config").arg(self.dir.join("treeline.toml"));
        command.args(["run", "--socket"]).arg(self.dir.join("socket")).arg("--");
        command
    }

    /// Runs of its kernel programs, as far as it has asked the kernel.
    pub(super) fn runs(&self) -> Result<Vec<Runs>> {
        #[derive(Deserialize)]
        struct Status {
            programs: Vec<Runs>,
        }
        let output = Command::new(&self.treeline)
            .args(["status", "--json", "--socket"])
            .arg(self.dir.join("socket"))
            .output()
            .context("cannot ask the daemon")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let status: Status = serde_json::from_str(&text)
            .with_context(|| format!("the daemon's status is not understood: `{}`", text.trim()))?;
        Ok(status.programs)
    }

    /// Its memory now.
    pub(super) fn memory(&self) -> Result<Memory> {
        let path = format!("/proc/{}/status", self.child.id());
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read `{path}`"))?;
        Memory::of(&text).with_context(|| format!("`{path}` is not understood"))
    }

    /// Entries of the log that are signed.
    pub(super) fn signed(&self) -> Result<u64> {
        let path = self.dir.join("log/checkpoint");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        text.lines().nth(1).and_then(|line| line.parse().ok()).context("the checkpoint has no size")
    }

    /// Waits until the log has not grown for a second, and says how long it grew.
    pub(super) fn settle(&self) -> Result<Duration> {
        let begun = Instant::now();
        let (mut size, mut grown) = (self.signed()?, begun);
        while grown.elapsed() < Duration::from_millis(1500) && begun.elapsed() < STOP_MAX {
            thread::sleep(Duration::from_millis(50));
            let now = self.signed()?;
            if now != size {
                (size, grown) = (now, Instant::now());
            }
        }
        Ok(grown.duration_since(begun))
    }

    /// Stops it and says what it recorded.
    pub(super) fn stop(mut self) -> Result<Recorded> {
        self.terminate()?;
        let recorded = self.recorded()?;
        fs::remove_dir_all(&self.dir).with_context(|| format!("cannot remove `{}`", self.dir.display()))?;
        Ok(recorded)
    }

    fn terminate(&mut self) -> Result<()> {
        let pid = Pid::from_raw(self.child.id().cast_signed()).context("the daemon has no pid")?;
        kill_process(pid, Signal::TERM).context("cannot stop the daemon")?;
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            ensure!(begun.elapsed() < STOP_MAX, "the daemon does not stop:\n{}", self.output_tail());
            thread::sleep(Duration::from_millis(10));
        };
        ensure!(status.success(), "the daemon ended with {status}:\n{}", self.output_tail());
        Ok(())
    }

    fn recorded(&self) -> Result<Recorded> {
        let mut cat = Command::new(&self.treeline)
            .args(["log", "cat", "--log"])
            .arg(self.dir.join("log"))
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot read the log")?;
        let mut recorded = Recorded::default();
        for line in BufReader::new(cat.stdout.take().context("`log cat` has no output")?).lines() {
            recorded.entries += 1;
            if let Some((what, count)) = lost(&line?) {
                *recorded.lost.entry(what).or_default() += count;
            }
        }
        ensure!(cat.wait()?.success(), "`treeline log cat` failed");
        Ok(recorded)
    }

    fn output_tail(&self) -> String {
        let text = fs::read_to_string(self.dir.join("output")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }
}

impl Drop for Sensor {
    fn drop(&mut self) {
        // An error in between must not leave a sensor behind; one that was stopped is gone already.
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Memory {
    /// From the text of /proc/PID/status.
    fn of(status: &str) -> Option<Self> {
        let field = |name: &str| {
            status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
        };
        Some(Self { resident_kib: field("VmRSS:")?, anonymous_kib: field("RssAnon:")? })
    }
}

/// What an entry says was lost, as `site/kind`, and how much of it.
fn lost(line: &str) -> Option<(String, u64)> {
    // Most entries are something else: they need no parser.
    if !line.contains("\"lost\"") {
        return None;
    }
    let entry: serde_json::Value = serde_json::from_str(line).ok()?;
    let lost = &entry["unmapped"]["treeline"]["notice"]["lost"];
    let (site, kind) = (lost["site"].as_str()?, lost["kind"].as_str()?);
    Some((format!("{site}/{kind}"), lost["count"].as_u64()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_is_read_from_entries() {
        let check = |line: &str, expect: Option<(&str, u64)>| {
            assert_eq!(lost(line), expect.map(|(what, count)| (what.to_owned(), count)), "{line}");
        };
        let notice = r#"{"lost":{"kind":"open","site":"ring","count":7,"first_ns":1,"last_ns":2}}"#;
        check(
            &format!(r#"{{"unmapped":{{"treeline":{{"kind":"lost","notice":{notice}}}}}}}"#),
            Some(("ring/open", 7)),
        );
        check(r#"{"unmapped":{"treeline":{"kind":"exec","process":{"argv":["\"lost\""]}}}}"#, None);
        check(r#"{"unmapped":{"treeline":{"kind":"open"}}}"#, None);
    }

    #[test]
    fn memory_is_read_by_name() {
        let status = "VmHWM:\t  900 kB\nVmRSS:\t   800 kB\nRssAnon:\t     70 kB\n";
        assert_eq!(Memory::of(status), Some(Memory { resident_kib: 800, anonymous_kib: 70 }));
        assert_eq!(Memory::of("VmRSS: x kB"), None);
    }
}
