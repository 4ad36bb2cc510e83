//! The client's end: blocking, one request at a time.

use std::{
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use treeline_event::{Approval, Claims, SessionId};
use treeline_policy::Period;

use super::{
    peer,
    proto::{
        self, COMMAND_LEN_MAX, COMMAND_WORDS_MAX, EntriesRequest, ErrorKind, FrameError, Origin, Request,
        Response,
    },
};
use crate::daemon::Status;

/// How long the daemon may take for an answer. Adopting a large tree takes a moment; a launch is far below a second.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// Why the daemon did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no daemon, or no way to it.
    #[error("cannot reach the daemon at `{}`", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The connection broke.
    #[error("the connection to the daemon broke")]
    Io(#[source] io::Error),
    /// The daemon is there, but too busy or stopped.
    #[error("the daemon did not answer within {} s", ANSWER_TIMEOUT.as_secs())]
    TimedOut,
    /// The daemon said something that makes no sense.
    #[error("the daemon's answer is malformed")]
    Frame(#[source] FrameError),
    /// The daemon answered another question.
    #[error("the daemon's answer does not belong to the question")]
    Unexpected,
    /// The daemon refused.
    #[error("{message}")]
    Refused {
        /// What kind.
        kind: ErrorKind,
        /// Its words.
        message: String,
    },
}

impl ClientError {
    /// Whether there is no daemon at all, as opposed to one that refuses, is busy or fails: only then may a command run
    /// unobserved, where that is configured.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Connect { source, .. } => {
                matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
            }
            _ => false,
        }
    }
}

/// A time-out of a socket is `EAGAIN`.
fn broken(error: io::Error) -> ClientError {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ClientError::TimedOut,
        _ => ClientError::Io(error),
    }
}

/// A connection on which both sides speak the same version.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
}

impl Client {
    /// Connects and says hello.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(path)
            .map_err(|source| ClientError::Connect { path: path.to_owned(), source })?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(ClientError::Io)?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT)).map_err(ClientError::Io)?;
        let mut client = Self { stream };
        match client.ask(&Request::Hello { version: proto::VERSION })? {
            Response::Welcome { version: proto::VERSION } => Ok(client),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// Makes this process the root of a new session. It must not fork between connecting and executing the command.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn register(
        &mut self,
        origin: &str,
        command: Vec<String>,
        claims: Claims,
    ) -> Result<SessionId, ClientError> {
        let start_ticks = peer::process_key(std::process::id()).map_err(ClientError::Io)?.start_ticks;
        let origin = if origin == Origin::Claude.name() { Origin::Claude } else { Origin::Run };
        self.ask_for_session(&Request::Register {
            origin,
            command: cut(command),
            start_ticks,
            claims: claims.into(),
        })
    }

    /// Has a running process observed.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn adopt(&mut self, pid: u32) -> Result<SessionId, ClientError> {
        self.ask_for_session(&Request::Adopt { pid })
    }

    fn ask_for_session(&mut self, request: &Request) -> Result<SessionId, ClientError> {
        match self.ask(request)? {
            Response::Registered { session } => Ok(session),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// The daemon's state.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn status(&mut self) -> Result<Status, ClientError> {
        let Response::Status { json } = self.ask(&Request::Status)? else {
            return Err(ClientError::Unexpected);
        };
        serde_json::from_str(&json).map_err(|e| ClientError::Frame(FrameError::Malformed(e.to_string())))
    }

    /// Has the daemon read its policy again.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the diagnostics when the policy is bad.
    pub fn reload_policy(&mut self) -> Result<(), ClientError> {
        match self.ask(&Request::ReloadPolicy)? {
            Response::Reloaded => Ok(()),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// Lets what was refused through for a while.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the reason.
    pub fn approve(&mut self, denial: u64, period: Period) -> Result<Approval, ClientError> {
        let start_ticks = peer::process_key(std::process::id()).map_err(ClientError::Io)?.start_ticks;
        let request = Request::Approve { denial, seconds: period.seconds(), start_ticks };
        let Response::Approved { json } = self.ask(&request)? else { return Err(ClientError::Unexpected) };
        serde_json::from_str(&json).map_err(|e| ClientError::Frame(FrameError::Malformed(e.to_string())))
    }

    /// Asks whether the daemon answers.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn ping(&mut self) -> Result<(), ClientError> {
        match self.ask(&Request::Ping)? {
            Response::Pong => Ok(()),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// Hands over entries until they end or `take` returns `false`. Returns where to go on.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn entries(
        &mut self,
        request: EntriesRequest,
        mut take: impl FnMut(u64, &[u8]) -> bool,
    ) -> Result<u64, ClientError> {
        if request.follow {
            self.stream.set_read_timeout(None).map_err(ClientError::Io)?;
        }
        self.send(&Request::Entries(request))?;
        loop {
            match self.receive()? {
                Response::Entry { index, bytes } => {
                    if !take(index, &bytes) {
                        return Ok(index + 1);
                    }
                }
                Response::EndOfEntries { next } => return Ok(next),
                Response::Error { kind, message } => return Err(ClientError::Refused { kind, message }),
                _ => return Err(ClientError::Unexpected),
            }
        }
    }

    fn ask(&mut self, request: &Request) -> Result<Response, ClientError> {
        self.send(request)?;
        match self.receive()? {
            Response::Error { kind, message } => Err(ClientError::Refused { kind, message }),
            response => Ok(response),
        }
    }

    fn send(&mut self, request: &Request) -> Result<(), ClientError> {
        let frame = proto::encode(request).map_err(ClientError::Frame)?;
        match self.stream.write_all(&frame) {
            // A daemon that refuses the connection closes it; what it said is still to be read.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result.map_err(broken),
        }
    }

    fn receive(&mut self) -> Result<Response, ClientError> {
        let mut head = [0; 4];
        self.stream.read_exact(&mut head).map_err(broken)?;
        let mut body = vec![0; proto::frame_len(head).map_err(ClientError::Frame)?];
        self.stream.read_exact(&mut body).map_err(broken)?;
        proto::decode(&body).map_err(ClientError::Frame)
    }
}

/// The beginning of a command, as much as an entry should hold.
fn cut(mut command: Vec<String>) -> Vec<String> {
    let mut len = 0;
    let fits = command.iter().take(COMMAND_WORDS_MAX).take_while(|word| {
        len += word.len();
        len <= COMMAND_LEN_MAX
    });
    let count = fits.count();
    if count < command.len() {
        command.truncate(count);
        command.push("...".to_owned());
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_daemon_that_is_not_there_is_unavailable() {
        let connect = |kind: io::ErrorKind| ClientError::Connect { path: "/s".into(), source: kind.into() };
        for (error, expected) in [
            (connect(io::ErrorKind::NotFound), true),
            (connect(io::ErrorKind::ConnectionRefused), true),
            (connect(io::ErrorKind::PermissionDenied), false),
            (connect(io::ErrorKind::WouldBlock), false),
            (broken(io::ErrorKind::WouldBlock.into()), false),
            (broken(io::ErrorKind::UnexpectedEof.into()), false),
        ] {
            assert_eq!(error.is_unavailable(), expected, "{error:?}");
        }
        assert_eq!(
            broken(io::ErrorKind::WouldBlock.into()).to_string(),
            "the daemon did not answer within 15 s"
        );
    }

    #[test]
    fn long_commands_are_cut() {
        let words = |count: usize, len: usize| vec!["x".repeat(len); count];
        assert_eq!(cut(words(3, 1)), words(3, 1));
        assert_eq!(cut(words(2000, 1)).len(), COMMAND_WORDS_MAX + 1);
        assert_eq!(cut(words(4, 6000)), ["x".repeat(6000), "x".repeat(6000), "...".to_owned()]);
    }
}
