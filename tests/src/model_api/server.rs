//! The server: accepts, answers, keeps what it was sent.

use std::{
    io::{self, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::json;

use super::{
    answer,
    conversation::{Conversation, ToolResult},
    http::{Request, read_request},
    script::Script,
};

/// Most connections at a time. Claude Code holds one or two.
const CONNECTION_COUNT_MAX: usize = 16;
/// Most requests that are kept, and so answered.
const REQUEST_COUNT_MAX: usize = 256;
/// Most bytes of bodies that are kept, and so answered.
const KEPT_BYTES_MAX: usize = 128 * 1024 * 1024;
/// How long a connection may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// A request that arrived.
#[derive(Clone, Debug)]
pub struct Received {
    /// Such as `POST`.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The session that it names in `x-claude-code-session-id`.
    pub session: Option<String>,
    /// Its body as it came.
    pub body: Vec<u8>,
    /// The status of the answer.
    pub status: u16,
}

/// A running server; it ends when this is dropped.
#[derive(Debug)]
pub struct ModelApi {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<thread::JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    script: Script,
    stop: AtomicBool,
    connections: AtomicUsize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    requests: Vec<Received>,
    bytes: usize,
    faults: Vec<String>,
}

impl ModelApi {
    /// Starts a server on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When the script breaks a bound, or there is no loopback.
    pub fn start(script: Script) -> io::Result<Self> {
        script.check().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            script,
            stop: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            kept: Mutex::default(),
        });
        let theirs = Arc::clone(&shared);
        let accepting =
            thread::Builder::new().name("model-api".into()).spawn(move || accept(&listener, &theirs))?;
        Ok(Self { address, shared, accepting: Some(accepting) })
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Everything that arrived so far, in order.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.shared.kept().requests.clone()
    }

    /// What went wrong so far: requests that were refused, and why.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        self.shared.kept().faults.clone()
    }

    /// The results of the script's calls, by label and in the script's order, each as it first arrived.
    #[must_use]
    pub fn results(&self) -> Vec<(String, ToolResult)> {
        let kept = self.shared.kept();
        let told: Vec<ToolResult> = kept
            .requests
            .iter()
            .filter_map(|request| Conversation::parse(&request.body))
            .flat_map(|conversation| conversation.results)
            .collect();
        let first = |id| told.iter().find(|result| result.id == id).cloned();
        self.shared.script.calls().filter_map(|(id, call)| Some((call.label.clone(), first(id)?))).collect()
    }
}

impl Drop for ModelApi {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // `accept` has no time-out: a connection of our own wakes it.
        let woken = TcpStream::connect(self.address).is_ok();
        if let Some(accepting) = self.accepting.take().filter(|_| woken) {
            drop(accepting.join());
        }
    }
}

impl Shared {
    /// The recording stays usable when a connection's thread panicked: each push is whole or absent.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self, text: String) {
        self.kept().fault(text);
    }
}

impl Kept {
    /// The first faults tell what is wrong; more of them would only fill memory.
    fn fault(&mut self, text: String) {
        if self.faults.len() < REQUEST_COUNT_MAX {
            self.faults.push(text);
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        if shared.connections.load(Ordering::SeqCst) == CONNECTION_COUNT_MAX {
            shared.fault(format!("a connection beyond {CONNECTION_COUNT_MAX} at a time"));
            continue;
        }
        shared.connections.fetch_add(1, Ordering::SeqCst);
        let theirs = Arc::clone(shared);
        let spawned = thread::Builder::new().name("model-api-connection".into()).spawn(move || {
            if let Err(error) = serve(&stream, &theirs) {
                theirs.fault(format!("{error:#}"));
            }
            theirs.connections.fetch_sub(1, Ordering::SeqCst);
        });
        if spawned.is_err() {
            shared.connections.fetch_sub(1, Ordering::SeqCst);
            shared.fault("no thread for a connection".into());
        }
    }
}

fn serve(stream: &TcpStream, shared: &Shared) -> anyhow::Result<()> {
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    stream.set_write_timeout(Some(SILENCE_MAX))?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    loop {
        match read_request(&mut reader) {
            Ok(None) => return Ok(()),
            Ok(Some(request)) => Reply::to(request, shared).send(stream)?,
            Err(error) => {
                Reply::error(400, &error.to_string()).send(stream)?;
                return Err(error.into());
            }
        }
    }
}

struct Reply {
    status: u16,
    kind: &'static str,
    body: String,
}

impl Reply {
    fn to(request: Request, shared: &Shared) -> Self {
        let mut kept = shared.kept();
        let number = kept.requests.len();
        if number == REQUEST_COUNT_MAX || kept.bytes + request.body.len() > KEPT_BYTES_MAX {
            kept.fault("a request beyond what the model API keeps".into());
            return Self::error(529, "more requests than are kept");
        }
        let reply = match (request.method.as_str(), request.path(), Conversation::parse(&request.body)) {
            ("POST", "/v1/messages", Some(asked)) => {
                let message = answer::message(&shared.script, &asked, number);
                if asked.stream {
                    Self { status: 200, kind: "text/event-stream", body: answer::events(&message) }
                } else {
                    Self { status: 200, kind: "application/json", body: message.to_string() }
                }
            }
            ("POST", "/v1/messages", None) => Self::error(400, "the body is not a request for a message"),
            _ => Self::error(404, "only POST /v1/messages is answered"),
        };
        kept.bytes += request.body.len();
        kept.requests.push(Received {
            session: request.header("x-claude-code-session-id").map(str::to_owned),
            method: request.method,
            target: request.target,
            body: request.body,
            status: reply.status,
        });
        reply
    }

    fn error(status: u16, message: &str) -> Self {
        let body = json!({"type": "error", "error": {"type": "invalid_request_error", "message": message}});
        Self { status, kind: "application/json", body: body.to_string() }
    }

    fn send(&self, mut stream: &TcpStream) -> io::Result<()> {
        let reason = if self.status == 200 { "OK" } else { "Error" };
        let (kind, bytes) = (self.kind, self.body.len());
        let close = if self.status == 400 { "Connection: close\r\n" } else { "" };
        let head = format!(
            "HTTP/1.1 {} {reason}\r\nContent-Type: {kind}\r\n{close}Content-Length: {bytes}\r\n\r\n",
            self.status
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(self.body.as_bytes())
    }
}
