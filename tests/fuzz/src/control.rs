//! Frames of the control socket: bytes of any user of the machine.

use std::fmt::Debug;

use treeline::control::proto::{
    Claims, EntriesRequest, ErrorKind, Origin, Request, Response, decode, encode, frame_len,
};
use treeline_event::SessionId;

/// What is accepted means the same after it was sent again.
pub fn run(bytes: &[u8]) -> bool {
    let Some((head, body)) = bytes.split_first_chunk::<4>() else { return false };
    let Ok(len) = frame_len(*head) else { return false };
    let Some(body) = body.get(..len) else { return false };
    let request = decode::<Request>(body).inspect(again).is_ok();
    let response = decode::<Response>(body).inspect(again).is_ok();
    request || response
}

fn again<T>(message: &T)
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + Debug,
{
    let frame = encode(message).expect("it came from a frame within the bound");
    assert_eq!(decode::<T>(&frame[4..]).as_ref(), Ok(message));
}

/// A frame of each message that has a content.
///
/// # Panics
/// Never: all of them are short.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let words = || vec!["claude".to_owned(), "-p".to_owned(), "é".to_owned()];
    let requests = [
        Request::Hello { version: 1 },
        Request::Register {
            origin: Origin::Claude,
            command: words(),
            start_ticks: 777,
            claims: Claims {
                agent: Some("claude-code".into()),
                entry_point: None,
                repositories: Some(words()),
            },
        },
        Request::Adopt { pid: 4242 },
        Request::Entries(EntriesRequest {
            from: 1000,
            max: Some(7),
            session: Some(SessionId(1 << 40)),
            follow: true,
        }),
        Request::Ping,
    ];
    let responses = [
        Response::Welcome { version: 1 },
        Response::Registered { session: SessionId(9) },
        Response::Status { json: "{}".to_owned() },
        Response::Entry { index: 300, bytes: b"{\"a\":1}".to_vec() },
        Response::EndOfEntries { next: 301 },
        Response::Error { kind: ErrorKind::Forbidden, message: "no".to_owned() },
    ];
    let requests = requests.iter().map(|message| encode(message).expect("short"));
    requests.chain(responses.iter().map(|message| encode(message).expect("short"))).collect()
}
