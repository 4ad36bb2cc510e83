//! A shell with job control on a terminal of its own, typed at and read by a test.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    path::Path,
    process::{Child, Command},
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{Mode, OFlags, open},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
};

/// How long a test waits for words on the screen; a busy machine takes its time to start a sensor.
const PATIENCE: Duration = Duration::from_secs(60);

/// Pieces of the screen that wait for the test; what prints more has to wait, as it would for a slow terminal.
const SCREENS_MAX: usize = 1024;

/// An interactive bash.
pub struct Terminal {
    shell: Child,
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    /// Starts the shell in a directory, with these variables.
    ///
    /// # Panics
    /// When there is no terminal to be had.
    #[must_use]
    pub fn new(dir: &Path, environment: &[(&str, &Path)]) -> Self {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("it is ours");
        let name = ptsname(&master, Vec::new()).expect("it has a name");
        let slave: OwnedFd = open(&*name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())
            .expect("it can be opened");
        let end = || slave.try_clone().expect("a descriptor");
        let mut command = Command::new("setsid");
        // Tests that run in the background have keys' signals ignored, which the shell would hand on.
        command.args(["--ctty", "env", "--default-signal=INT,QUIT"]);
        command.args(["bash", "--norc", "--noprofile", "-i"]).current_dir(dir);
        command.env("PS1", "> ").env("TERM", "dumb").env_remove("TREELINE_SOCKET");
        // Set by `cargo test`; under a tracked tree it would void every exception.
        command.env_remove("LD_LIBRARY_PATH").envs(environment.iter().copied());
        let shell = command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("`setsid` of util-linux");
        let keyboard = File::from(master);
        let mut reader = keyboard.try_clone().expect("a descriptor");
        let (printed, screen) = sync_channel(SCREENS_MAX);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(len) = reader.read(&mut bytes)
                && len > 0
                && printed.send(bytes[..len].to_vec()).is_ok()
            {}
        });
        Self { shell, keyboard, screen, seen: String::new() }
    }

    /// Presses keys.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("somebody has the terminal open");
    }

    /// Waits until these words come, and takes everything up to them off the screen.
    ///
    /// # Panics
    /// When they do not come.
    pub fn expect(&mut self, words: &str) -> String {
        let started = Instant::now();
        loop {
            if let Some(at) = self.seen.find(words) {
                let rest = self.seen.split_off(at + words.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            match self.screen.recv_timeout(PATIENCE.saturating_sub(started.elapsed())) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("`{words}` did not come, but: {}", self.seen)
                }
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The shell passes the hang-up on to its jobs, and continues the stopped ones.
        let pid = rustix::process::Pid::from_child(&self.shell);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::HUP);
        for _ in 0..50 {
            if matches!(self.shell.try_wait(), Ok(Some(_))) {
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}
