//! Asking the process that takes shell commands apart, and ending it when it is late.

use std::{
    io::{self, Read as _, Write as _},
    os::fd::AsFd,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
};
use treeline_policy::{
    Features,
    tool::{Opaque, ToolReader, Workplace},
};
use treeline_shell::{Shell, of_call, secrets};

use super::worker::{Question, READY, VERB};
use crate::control::proto::{decode, encode, frame_len};

/// What an answer may take. An ordinary command takes a tenth of a millisecond; the longest that is looked at, some ten.
const ANSWER_DEADLINE: Duration = Duration::from_millis(250);
/// What starting may take, on a machine that is busy.
const START_DEADLINE: Duration = Duration::from_secs(5);
/// How long nothing is started after a start has failed: twice as long after each, so that not every question waits for one.
const REST_MIN: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(60);

/// A process that takes commands apart, started when it is needed and started anew when it has failed.
#[derive(Debug)]
pub struct Reader {
    /// Makes the process.
    start: fn() -> Command,
    answer_deadline: Duration,
    running: Option<Running>,
    /// Since the last start failed.
    rest: Option<Rest>,
}

#[derive(Clone, Copy, Debug)]
struct Rest {
    until: Instant,
    len: Duration,
}

#[derive(Debug)]
struct Running {
    child: Child,
    questions: ChildStdin,
    answers: ChildStdout,
}

impl Reader {
    /// One that is this program.
    #[must_use]
    pub fn new() -> Self {
        Self::of(itself, ANSWER_DEADLINE)
    }

    fn of(start: fn() -> Command, answer_deadline: Duration) -> Self {
        Self { start, answer_deadline, running: None, rest: None }
    }

    /// Starts the process, so that the first question does not wait for that.
    ///
    /// # Errors
    /// It cannot be started, or is not ready in time, or was not a moment ago.
    pub fn start(&mut self) -> io::Result<()> {
        if self.running.is_some() {
            return Ok(());
        }
        if self.rest.is_some_and(|rest| Instant::now() < rest.until) {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        match Running::start((self.start)()) {
            Ok(running) => {
                (self.running, self.rest) = (Some(running), None);
                Ok(())
            }
            Err(error) => {
                let len = self.rest.map_or(REST_MIN, |rest| (rest.len * 2).min(REST_MAX));
                tracing::warn!("cannot start the reader of shell commands: {error}; next try in {len:?}");
                self.rest = Some(Rest { until: Instant::now() + len, len });
                Err(error)
            }
        }
    }

    /// Asks, and asks a new process once more if this one has ended instead of being late: its time was up, maybe, with earlier
    /// questions.
    fn ask(&mut self, question: &Question) -> io::Result<Features> {
        match self.ask_once(question) {
            Err(error) if self.running.is_none() && has_ended(&error) => self.ask_once(question),
            result => result,
        }
    }

    fn ask_once(&mut self, question: &Question) -> io::Result<Features> {
        self.start()?;
        let Some(running) = &mut self.running else { return Err(io::ErrorKind::NotConnected.into()) };
        let answer = running.ask(question, Instant::now() + self.answer_deadline);
        if answer.is_err() {
            // Dropped, it is ended; what it still says would be taken for the next answer.
            self.running = None;
        }
        answer
    }
}

impl Default for Reader {
    fn default() -> Self {
        Self::new()
    }
}

impl Shell for Reader {
    fn command(&mut self, command: &str, place: &Workplace) -> Features {
        // What is longer is not asked: the answer is known.
        let why = if command.len() > treeline_shell::COMMAND_LEN_MAX {
            Opaque::Bounds
        } else {
            let question = Question { command: command.to_owned(), place: place.clone() };
            match self.ask(&question) {
                Ok(features) => return features,
                Err(error) => {
                    tracing::debug!("the reader of shell commands did not answer: {error}");
                    Opaque::Parser
                }
            }
        };
        Features {
            secrets: secrets::kinds(command),
            repository: place.repository.clone(),
            ..Features::unknown(why)
        }
    }
}

impl ToolReader for Reader {
    fn features(&mut self, tool: &str, input: &serde_json::Value, place: &Workplace) -> Features {
        of_call(tool, input, place, self)
    }
}

/// Whether an error is that the process is gone.
fn has_ended(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe)
}

/// This program, with nothing of the environment but its own path.
fn itself() -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg(VERB).env_clear().current_dir("/");
    command
}

impl Running {
    fn start(mut command: Command) -> io::Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let (Some(questions), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let mut running = Self { child, questions, answers };
        is_never_waited_for(&running.questions)?;
        is_never_waited_for(&running.answers)?;
        let mut ready = [0];
        running.read(&mut ready, Instant::now() + START_DEADLINE)?;
        if ready == [READY] { Ok(running) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    fn ask(&mut self, question: &Question, deadline: Instant) -> io::Result<Features> {
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        self.write(&encode(question).map_err(invalid)?, deadline)?;
        let mut head = [0; 4];
        self.read(&mut head, deadline)?;
        let mut body = vec![0; frame_len(head).map_err(invalid)?];
        self.read(&mut body, deadline)?;
        decode(&body).map_err(invalid)
    }

    fn write(&mut self, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.questions.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => bytes = &bytes[written..],
                Err(error) => again(error, &self.questions, PollFlags::OUT, deadline)?,
            }
        }
        Ok(())
    }

    fn read(&mut self, mut bytes: &mut [u8], deadline: Instant) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.answers.read(bytes) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => bytes = &mut bytes[read..],
                Err(error) => again(error, &self.answers, PollFlags::IN, deadline)?,
            }
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may hang, so it is not asked to end. That it has ended already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_never_waited_for(fd: impl AsFd) -> io::Result<()> {
    let flags = fcntl_getfl(&fd)?;
    Ok(fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?)
}

/// Waits until a descriptor is ready, if that is what an error is about.
fn again(error: io::Error, fd: impl AsFd, flags: PollFlags, deadline: Instant) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::Interrupted => return Ok(()),
        io::ErrorKind::WouldBlock => {}
        _ => return Err(error),
    }
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
    match poll(&mut [PollFd::new(&fd, flags)], Some(&left)) {
        Ok(0) => Err(io::ErrorKind::TimedOut.into()),
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    /// Whoever fails in one way or another is answered for, and is asked again the next time.
    #[test]
    fn what_does_not_answer_is_ended() {
        let check = |start: fn() -> Command, command: &str, expect: Opaque| {
            let mut reader = Reader::of(start, Duration::from_millis(50));
            let context = Workplace { repository: Some("/w".into()), ..Workplace::default() };
            for _ in 0..2 {
                let found = reader.command(command, &context);
                assert_eq!((found.opaque, found.repository), (vec![expect], Some("/w".to_owned())));
                assert!(reader.running.is_none());
            }
        };
        check(|| sh("printf .; exec sleep 60"), "a", Opaque::Parser);
        // Its input is never read, and takes no more than a pipe holds.
        check(|| sh("printf .; exec sleep 60"), &"a".repeat(60_000), Opaque::Parser);
        check(|| sh("printf .; exec cat"), "a", Opaque::Parser);
        check(|| sh("printf .; printf '\\377\\377\\377\\377'; exec sleep 60"), "a", Opaque::Parser);
        check(|| sh("printf .; read -r x; exit 1"), "a", Opaque::Parser);
        check(|| sh("printf x"), "a", Opaque::Parser);
        check(|| sh("exit"), "a", Opaque::Parser);
        check(|| Command::new("/nonexistent"), "a", Opaque::Parser);
        check(|| sh("exit"), &"a".repeat(100_000), Opaque::Bounds);
    }

    /// The first process ends instead of answering.
    #[test]
    fn who_ended_is_followed_by_another() {
        static STARTS: AtomicU32 = AtomicU32::new(0);
        fn start() -> Command {
            if STARTS.fetch_add(1, Ordering::Relaxed) == 0 {
                return sh("printf .; head -c 1 > /dev/null");
            }
            let answer = encode(&Features::default()).expect("a short answer");
            let bytes: String = answer.iter().map(|byte| format!("\\{byte:03o}")).collect();
            sh(&format!("printf .; head -c 1 > /dev/null; printf '{bytes}'; exec sleep 60"))
        }
        let mut reader = Reader::of(start, Duration::from_secs(10));
        assert_eq!(reader.command("a", &Workplace::default()), Features::default());
        assert_eq!(STARTS.load(Ordering::Relaxed), 2);
    }

    /// Nobody waits for it again and again.
    #[test]
    fn who_never_gets_ready_is_not_started_for_each_question() {
        static STARTS: AtomicU32 = AtomicU32::new(0);
        let start: fn() -> Command = || {
            STARTS.fetch_add(1, Ordering::Relaxed);
            sh("exit")
        };
        let mut reader = Reader::of(start, Duration::from_secs(10));
        let ask = |reader: &mut Reader| reader.command("a", &Workplace::default()).opaque;
        for _ in 0..5 {
            assert_eq!(ask(&mut reader), [Opaque::Parser]);
        }
        assert_eq!(STARTS.load(Ordering::Relaxed), 1);
        let rest = reader.rest.as_mut().expect("it failed");
        assert_eq!(rest.len, REST_MIN);
        rest.until = Instant::now();
        ask(&mut reader);
        assert_eq!(STARTS.load(Ordering::Relaxed), 2);
        assert_eq!(reader.rest.map(|rest| rest.len), Some(REST_MIN * 2));
    }

    #[test]
    fn secrets_are_found_all_the_same() {
        let mut reader = Reader::of(|| sh("exit"), Duration::from_millis(50));
        let command = format!("x ghp_{}", "a1B2".repeat(9));
        assert_eq!(reader.command(&command, &Workplace::default()).secrets.len(), 1);
    }
}
