//! What is said on the socket.
//!
//! A frame is its length in four bytes, little-endian, and that many bytes of postcard. The client speaks first, with
//! [`Request::Hello`]; every request is answered by one response, [`Request::Entries`] by many. What does not parse
//! is answered by [`Response::Error`] and the connection ends: nothing after a malformed frame can be trusted.
//! New requests and responses go to the end of their enum; a change of anything else needs a new [`VERSION`].

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use treeline_event::SessionId;

/// Version of this protocol. Daemon and launcher come from one package, so they have to agree exactly.
pub const VERSION: u32 = 2;

/// Bytes of a frame. A command line can have 128 KiB per argument; nothing that a person types comes near.
pub const FRAME_LEN_MAX: usize = 1 << 20;

/// Arguments of a command that are sent. The rest is in the exec's own entry.
pub const COMMAND_WORDS_MAX: usize = 1024;

/// Bytes of these arguments together: an entry of the log holds at most 64 KiB.
pub const COMMAND_LEN_MAX: usize = 16 << 10;

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// The first frame of a connection.
    Hello {
        /// [`VERSION`] of the client.
        version: u32,
    },
    /// Make the peer the root of a new session.
    Register {
        /// How it came to this.
        origin: Origin,
        /// What it is about to execute.
        command: Vec<String>,
        /// Its own start time as in /proc/self/stat, for kernels that cannot name the peer without a race.
        start_ticks: u64,
        /// What it says of itself.
        claims: Claims,
    },
    /// Make a running process, and everything that it starts, a new session.
    Adopt {
        /// Which.
        pid: u32,
    },
    /// The state.
    Status,
    /// Read the policy file again (root).
    ReloadPolicy,
    /// Signed entries that the peer may see.
    Entries(EntriesRequest),
    /// Nothing.
    Ping,
    /// Let what was refused through for a while.
    Approve {
        /// Index of the entry of the denial.
        denial: u64,
        /// For how long.
        seconds: u32,
        /// The peer's own start time, as in `Register`.
        start_ticks: u64,
    },
}

/// What a session says of itself: [`treeline_event::Claims`] with every field, as this encoding wants them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The agent.
    pub agent: Option<String>,
    /// How it is used.
    pub entry_point: Option<String>,
    /// The remotes of the repository that it begins in.
    pub repositories: Option<Vec<String>>,
}

impl From<treeline_event::Claims> for Claims {
    fn from(treeline_event::Claims { agent, entry_point, repositories }: treeline_event::Claims) -> Self {
        Self { agent, entry_point, repositories }
    }
}

impl From<Claims> for treeline_event::Claims {
    fn from(Claims { agent, entry_point, repositories }: Claims) -> Self {
        Self { agent, entry_point, repositories }
    }
}

/// Who launches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// `treeline run`.
    Run,
    /// `treeline claude`.
    Claude,
}

impl Origin {
    /// As it is recorded.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Claude => "claude",
        }
    }
}

/// Which entries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntriesRequest {
    /// From this index on.
    pub from: u64,
    /// At most so many.
    pub max: Option<u64>,
    /// Of this session only.
    pub session: Option<SessionId>,
    /// Go on with those that are still to come.
    pub follow: bool,
}

/// What the daemon answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// To `Hello`.
    Welcome {
        /// [`VERSION`] of the daemon.
        version: u32,
    },
    /// To `Register` and `Adopt`.
    Registered {
        /// The new session.
        session: SessionId,
    },
    /// To `Status`: [`crate::daemon::Status`] as JSON, which may grow without a new version.
    Status {
        /// The JSON.
        json: String,
    },
    /// To `ReloadPolicy`.
    Reloaded,
    /// To `Entries`, repeatedly.
    Entry {
        /// Its index.
        index: u64,
        /// Its bytes, exactly as they are in the log.
        bytes: Vec<u8>,
    },
    /// The end of the entries.
    EndOfEntries {
        /// Where to go on.
        next: u64,
    },
    /// To `Ping`.
    Pong,
    /// The request was not fulfilled. After a malformed or a refused frame the connection ends.
    Error {
        /// What kind.
        kind: ErrorKind,
        /// What is wrong, for people.
        message: String,
    },
    /// To `Approve`: [`treeline_event::Approval`] as JSON, which may grow without a new version.
    Approved {
        /// The JSON.
        json: String,
    },
}

/// Kinds of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorKind {
    /// It was not understood.
    Malformed,
    /// The versions differ.
    Version,
    /// There are too many connections.
    Busy,
    /// This user may not.
    Forbidden,
    /// It was tried and did not work.
    Failed,
    /// The policy is none that can be put in force, and the one before stays.
    Rejected,
}

/// Why bytes are no frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length is beyond the bound.
    #[error("a frame of {0} bytes; the bound is {FRAME_LEN_MAX}")]
    TooLong(usize),
    /// The bytes are not postcard of the type, or more than that.
    #[error("a frame that is not a message: {0}")]
    Malformed(String),
}

/// The length that a frame's first four bytes announce.
///
/// # Errors
/// [`FrameError::TooLong`].
pub fn frame_len(head: [u8; 4]) -> Result<usize, FrameError> {
    let len = u32::from_le_bytes(head) as usize;
    if len > FRAME_LEN_MAX { Err(FrameError::TooLong(len)) } else { Ok(len) }
}

/// The message in a frame's body, which has to be all of it.
///
/// # Errors
/// [`FrameError::Malformed`].
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    match postcard::take_from_bytes(body) {
        Ok((message, [])) => Ok(message),
        Ok((_, rest)) => Err(FrameError::Malformed(format!("{} bytes too many", rest.len()))),
        Err(error) => Err(FrameError::Malformed(error.to_string())),
    }
}

/// A message as a frame.
///
/// # Errors
/// [`FrameError::TooLong`].
///
/// # Panics
/// If a message cannot be serialised, which none of ours can fail at.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let frame =
        postcard::to_extend(message, vec![0; 4]).expect("messages have no types that postcard refuses");
    let len = frame.len() - 4;
    if len > FRAME_LEN_MAX {
        return Err(FrameError::TooLong(len));
    }
    let mut frame = frame;
    frame[..4].copy_from_slice(&u32::try_from(len).expect("it is below the bound").to_le_bytes());
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(message: &T) {
        let frame = encode(message).expect("it is short");
        let len = frame_len(frame[..4].try_into().expect("four bytes")).expect("it is short");
        assert_eq!(len, frame.len() - 4);
        assert_eq!(decode::<T>(&frame[4..]).as_ref(), Ok(message));
        for end in 4..frame.len() {
            assert!(decode::<T>(&frame[4..end]).is_err(), "half a frame was accepted");
        }
        assert!(decode::<T>(&[&frame[4..], &[0]].concat()).is_err(), "a frame with a tail was accepted");
    }

    #[test]
    fn messages_round_trip() {
        check(&Request::Hello { version: 1 });
        check(&Request::Register {
            origin: Origin::Claude,
            command: vec!["claude".to_owned()],
            start_ticks: 42,
            claims: Claims {
                agent: Some("claude-code".to_owned()),
                entry_point: None,
                repositories: Some(vec!["github.com/acme/app".to_owned()]),
            },
        });
        check(&Request::Entries(EntriesRequest {
            from: 7,
            max: Some(1),
            session: Some(SessionId(9)),
            follow: true,
        }));
        check(&Response::Entry { index: 3, bytes: vec![1, 2, 3] });
        check(&Response::Registered { session: SessionId(1) });
        check(&Request::Approve { denial: 7, seconds: 900, start_ticks: 42 });
        check(&Response::Approved { json: "{}".to_owned() });
    }

    #[test]
    fn lengths_are_bounded() {
        assert_eq!(frame_len([0xff; 4]), Err(FrameError::TooLong(0xffff_ffff)));
        assert_eq!(frame_len([0, 0, 16, 0]), Ok(1 << 20));
        let long = Response::Entry { index: 0, bytes: vec![0; FRAME_LEN_MAX] };
        assert!(matches!(encode(&long), Err(FrameError::TooLong(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(bytes: Vec<u8>) {
            if let Ok(request) = decode::<Request>(&bytes) {
                // Integers have more than one form in postcard, so only the meaning has to be the same.
                let again = encode(&request).expect("it came from a short frame");
                prop_assert_eq!(decode::<Request>(&again[4..]), Ok(request));
            }
            drop(decode::<Response>(&bytes));
        }
    }
}
