//! The daemon's end of the socket.
//!
//! Everything that can wait (the sensor's threads, files) runs on tokio's blocking threads; the connections share one
//! thread. A client can hold only its own connection up, and not for longer than the time-out.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustix::fs::{Gid, chown};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    task,
    time::timeout,
};
use treeline_event::Claims;

use super::{
    peer,
    proto::{self, EntriesRequest, ErrorKind, Request, Response},
    visible::Visible,
};
use crate::{
    daemon::{
        approve::Ask,
        lock::{Lock, LockError},
        sensor::Registration,
        start::Running,
    },
    enrich::clock::{Clock as _, SystemClock},
};
use treeline_event::{Asker, process::NANOS_PER_TICK};
use treeline_policy::{NoPeriod, Period};

/// How long a client may take for a frame that it has begun, or for taking an answer.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection may be silent between requests.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Connections at a time; each holds a descriptor and at most a few frames.
const CONNECTIONS_MAX: usize = 256;

/// Connections of one user at a time, so that nobody can keep others out.
const CONNECTIONS_PER_UID_MAX: usize = 32;

/// How long a follower waits before it looks for new entries: they are signed once a second.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(200);

/// Bytes of a refusal's words.
const MESSAGE_LEN_MAX: usize = 64 << 10;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another sensor serves it.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A file operation failed.
    #[error("cannot {attempt} `{}`", path.display())]
    Io {
        /// What was attempted.
        attempt: &'static str,
        /// The socket.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// The socket of a sensor.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode, by which our own socket is known at the end.
    made: Option<(u64, u64)>,
    service: Arc<Service>,
    _lock: Lock,
}

#[derive(Debug)]
struct Service {
    running: Arc<Running>,
    visible: Visible,
    by_uid: Mutex<HashMap<u32, usize>>,
}

impl Server {
    /// Makes the socket, for root and the group. Whoever holds its lock may replace an old one.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind(path: &Path, group: Option<u32>, running: Arc<Running>) -> Result<Self, BindError> {
        let failed = |attempt| {
            let path = path.to_owned();
            move |source| BindError::Io { attempt, path, source }
        };
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(failed("create the directory of"))?;
        }
        let lock = Lock::of_socket(path)?;
        if fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket()) {
            fs::remove_file(path).map_err(failed("remove the old"))?;
        }
        // Made under another name, so that nobody can connect before owner and mode are right.
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".new");
        let temporary = std::path::PathBuf::from(temporary);
        drop(fs::remove_file(&temporary));
        let listener = UnixListener::bind(&temporary).map_err(failed("bind"))?;
        let mode = if group.is_some() { 0o660 } else { 0o600 };
        fs::set_permissions(&temporary, fs::Permissions::from_mode(mode))
            .map_err(failed("set the mode of"))?;
        if let Some(group) = group {
            let chowned = chown(&temporary, None, Some(Gid::from_raw(group)));
            chowned.map_err(io::Error::from).map_err(failed("give to its group"))?;
        }
        let made = identity(&temporary);
        fs::rename(&temporary, path).map_err(failed("name"))?;
        let visible = Visible::new(Path::new(&running.sensor.status().log.dir));
        let service = Arc::new(Service { running, visible, by_uid: Mutex::default() });
        Ok(Self { listener, path: path.to_owned(), made, service, _lock: lock })
    }

    /// Serves until it is dropped. Must run on a `LocalSet` or any runtime of one thread.
    pub async fn serve(&self) {
        let mut connections = task::JoinSet::new();
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, mostly: those of clients that end come back.
                    tracing::warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            while connections.try_join_next().is_some() {}
            let full = connections.len() >= CONNECTIONS_MAX;
            let service = Arc::clone(&self.service);
            // One more than the bound at most, and only to say so.
            if full && connections.len() > CONNECTIONS_MAX {
                drop(stream);
                continue;
            }
            connections.spawn(async move {
                let mut connection =
                    Connection { stream, service, uid: 0, pid: 0, accepted_ns: SystemClock.boot_ns() };
                connection.run(full).await;
            });
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // An administrator may have put something else there; that is not ours to remove.
        if self.made.is_some() && identity(&self.path) == self.made {
            drop(fs::remove_file(&self.path));
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// A place among the connections of a user.
struct Place {
    service: Arc<Service>,
    uid: u32,
}

impl Place {
    fn take(service: &Arc<Service>, uid: u32) -> Option<Self> {
        let mut by_uid = service.by_uid.lock().unwrap_or_else(PoisonError::into_inner);
        let count = by_uid.entry(uid).or_default();
        if *count >= CONNECTIONS_PER_UID_MAX {
            return None;
        }
        *count += 1;
        Some(Self { service: Arc::clone(service), uid })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_uid = self.service.by_uid.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_uid.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                by_uid.remove(&self.uid);
            }
        }
    }
}

struct Connection {
    stream: UnixStream,
    service: Arc<Service>,
    uid: u32,
    pid: u32,
    /// When it was accepted, `CLOCK_BOOTTIME`.
    accepted_ns: u64,
}

/// The connection ends.
struct End;

fn refusal(kind: ErrorKind, message: impl Into<String>) -> Response {
    let mut message: String = message.into();
    if message.len() > MESSAGE_LEN_MAX {
        message.truncate(message.floor_char_boundary(MESSAGE_LEN_MAX));
    }
    Response::Error { kind, message }
}

fn failed(error: &dyn std::error::Error) -> Response {
    refusal(ErrorKind::Failed, crate::daemon::sensor::chain(error))
}

impl Connection {
    async fn run(&mut self, full: bool) {
        let Ok(credentials) = self.stream.peer_cred() else { return };
        self.uid = credentials.uid();
        self.pid = credentials.pid().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
        let place = Place::take(&self.service, self.uid);
        if full || place.is_none() {
            drop(
                self.say(&refusal(ErrorKind::Busy, "there are too many connections; try again later")).await,
            );
            return;
        }
        if self.greet().await.is_ok() {
            while let Ok(request) = self.hear().await {
                if self.answer(request).await.is_err() {
                    break;
                }
            }
        }
    }

    async fn greet(&mut self) -> Result<(), End> {
        match self.hear().await? {
            Request::Hello { version: proto::VERSION } => {
                self.say(&Response::Welcome { version: proto::VERSION }).await
            }
            Request::Hello { version } => {
                let message = format!(
                    "the daemon speaks version {} of the protocol, not {version}; restart it after an update",
                    proto::VERSION
                );
                self.say(&refusal(ErrorKind::Version, message)).await?;
                Err(End)
            }
            _ => {
                self.say(&refusal(ErrorKind::Malformed, "the first request has to be `Hello`")).await?;
                Err(End)
            }
        }
    }

    /// The next request. What does not parse is answered before the connection ends.
    async fn hear(&mut self) -> Result<Request, End> {
        let mut head = [0; 4];
        match timeout(IDLE_TIMEOUT, self.stream.read(&mut head)).await {
            Ok(Ok(0)) | Ok(Err(_)) | Err(_) => return Err(End),
            Ok(Ok(count)) => self.read_rest(&mut head[count..]).await?,
        }
        let error = match proto::frame_len(head) {
            Ok(len) => {
                // The client's word decides about memory only below the bound.
                let mut body = vec![0; len];
                self.read_rest(&mut body).await?;
                match proto::decode(&body) {
                    Ok(request) => return Ok(request),
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        drop(self.say(&refusal(ErrorKind::Malformed, error.to_string())).await);
        self.leave().await;
        Err(End)
    }

    /// Closing a socket with unread bytes would reset it, and the client might not see why it was refused. So what it
    /// has sent is read first, a frame's worth and a second at most.
    async fn leave(&mut self) {
        let read = async {
            let (mut bytes, mut len) = ([0; 4096], 0);
            while self.stream.shutdown().await.is_ok() && len < proto::FRAME_LEN_MAX {
                match self.stream.read(&mut bytes).await {
                    Ok(0) | Err(_) => return,
                    Ok(count) => len += count,
                }
            }
        };
        drop(timeout(Duration::from_secs(1), read).await);
    }

    async fn read_rest(&mut self, into: &mut [u8]) -> Result<(), End> {
        match timeout(CLIENT_TIMEOUT, self.stream.read_exact(into)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(End),
            Err(_) => {
                drop(self.say(&refusal(ErrorKind::Malformed, "the frame did not arrive within 10 s")).await);
                Err(End)
            }
        }
    }

    async fn say(&mut self, response: &Response) -> Result<(), End> {
        let frame =
            proto::encode(response).or_else(|error| proto::encode(&failed(&error))).map_err(|_| End)?;
        match timeout(CLIENT_TIMEOUT, self.stream.write_all(&frame)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(End),
        }
    }

    async fn answer(&mut self, request: Request) -> Result<(), End> {
        let response = match request {
            Request::Hello { .. } => refusal(ErrorKind::Malformed, "`Hello` was said already"),
            Request::Ping => Response::Pong,
            Request::Status => self.status().await,
            Request::ReloadPolicy if self.uid == 0 => {
                self.ask(|running| match running.reload() {
                    Ok(()) => Response::Reloaded,
                    Err(error) => refusal(ErrorKind::Rejected, format!("{error:#}")),
                })
                .await
            }
            Request::ReloadPolicy => refusal(ErrorKind::Forbidden, "only root may replace the policy"),
            Request::Register { origin, command, start_ticks, claims } => {
                let claims = Claims::from(claims);
                match (peer::open(&self.stream, self.pid, self.uid, start_ticks), claims.fault()) {
                    (_, Some(fault)) => refusal(ErrorKind::Malformed, fault),
                    (Ok(opened), None) => self.register(opened, origin.name(), command, Some(claims)).await,
                    (Err(error), None) => failed(&error),
                }
            }
            Request::Adopt { pid } => match peer::open_pid(pid) {
                Ok(opened) if self.uid == 0 || opened.uid == self.uid => {
                    let command = command_of(pid);
                    self.register(opened, "adopt", command, None).await
                }
                Ok(_) => refusal(ErrorKind::Forbidden, format!("process {pid} belongs to another user")),
                Err(error) => failed(&error),
            },
            Request::Entries(request) => return self.entries(request).await,
            Request::Approve { denial, seconds, start_ticks } => {
                match peer::open(&self.stream, self.pid, self.uid, start_ticks) {
                    Ok(opened) => self.approve(opened, denial, seconds).await,
                    Err(error) => failed(&error),
                }
            }
        };
        self.say(&response).await
    }

    /// Runs what may wait off the connections' thread.
    async fn ask(&self, question: impl FnOnce(&Running) -> Response + Send + 'static) -> Response {
        let running = Arc::clone(&self.service.running);
        let answer = task::spawn_blocking(move || question(&running)).await;
        answer.unwrap_or_else(|_| {
            refusal(ErrorKind::Failed, "the daemon failed at this request; its journal says more")
        })
    }

    async fn register(
        &self,
        opened: peer::Opened,
        origin: &'static str,
        command: Vec<String>,
        claims: Option<Claims>,
    ) -> Response {
        let adopt = claims.is_none();
        // An adopted process stays its own user's, also when root asks.
        let uid = if adopt { opened.uid } else { self.uid };
        let claims = claims.unwrap_or_default();
        let registration =
            Registration { pidfd: opened.pidfd, root: opened.key, uid, origin, command, adopt, claims };
        self.ask(move |running| match running.sensor.register(registration) {
            Ok(session) => Response::Registered { session },
            Err(error) => failed(&error),
        })
        .await
    }

    async fn approve(&self, opened: peer::Opened, denial: u64, seconds: u32) -> Response {
        let Some(period) = Period::of_seconds(seconds) else {
            return refusal(ErrorKind::Malformed, NoPeriod.to_string());
        };
        // A process that began later is not the one that has connected, whoever has its number now.
        if opened.key.start_ticks.saturating_mul(NANOS_PER_TICK) > self.accepted_ns {
            return failed(&peer::PeerError::Gone { pid: opened.key.pid });
        }
        let (service, uid) = (Arc::clone(&self.service), self.uid);
        self.ask(move |running| {
            let found = match service.visible.one(uid, denial) {
                Ok(found) => found,
                Err(error) => return failed(&error),
            };
            let is_readable = found.as_ref().is_some_and(|(_, is_readable)| *is_readable);
            let user = uzers::get_user_by_uid(uid).map(|user| user.name().to_string_lossy().into_owned());
            let group = |gid: u32| {
                let group = uzers::get_group_by_gid(gid);
                (gid, group.map(|group| group.name().to_string_lossy().into_owned()))
            };
            let ask = Ask {
                denial,
                entry: found.map(|(entry, _)| entry),
                is_readable,
                period,
                asker: Asker { uid, user, process: opened.key },
                groups: opened.groups.into_iter().map(group).collect(),
                process: opened.pidfd,
            };
            match running.sensor.approve(&ask) {
                Ok(approval) => match serde_json::to_string(&approval) {
                    Ok(json) => Response::Approved { json },
                    Err(error) => failed(&error),
                },
                Err(error) if error.is_forbidden() => {
                    refusal(ErrorKind::Forbidden, crate::daemon::sensor::chain(&error))
                }
                Err(error) => failed(&error),
            }
        })
        .await
    }

    async fn status(&self) -> Response {
        let uid = self.uid;
        self.ask(move |running| {
            let mut status = running.sensor.status();
            status.sessions.retain(|session| uid == 0 || session.uid == uid);
            match serde_json::to_string(&status) {
                Ok(json) => Response::Status { json },
                Err(error) => failed(&error),
            }
        })
        .await
    }

    async fn entries(&mut self, request: EntriesRequest) -> Result<(), End> {
        let mut next = request.from;
        let mut left = request.max.unwrap_or(u64::MAX);
        while left > 0 {
            let (service, uid, request_of_batch) = (Arc::clone(&self.service), self.uid, request.clone());
            let batch =
                task::spawn_blocking(move || service.visible.batch(uid, &request_of_batch, next)).await;
            let batch = match batch {
                Ok(Ok(batch)) => batch,
                Ok(Err(error)) => return self.say(&failed(&error)).await,
                Err(_) => return self.say(&refusal(ErrorKind::Failed, "the log could not be read")).await,
            };
            next = batch.next;
            for (index, bytes) in batch.entries.into_iter().take(usize::try_from(left).unwrap_or(usize::MAX))
            {
                self.say(&Response::Entry { index, bytes }).await?;
                left -= 1;
                next = if left == 0 { index + 1 } else { next };
            }
            if batch.at_end && !request.follow {
                break;
            }
            if batch.at_end {
                self.wait_for_more().await?;
            }
        }
        self.say(&Response::EndOfEntries { next }).await
    }

    /// A follower that goes away, or that has something to say, ends the stream.
    async fn wait_for_more(&mut self) -> Result<(), End> {
        // Readiness is a guess until a read has confirmed it.
        let spoken = async {
            while self.stream.readable().await.is_ok() {
                match self.stream.try_read(&mut [0]) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    _ => return,
                }
            }
        };
        match timeout(FOLLOW_INTERVAL, spoken).await {
            Err(_) => Ok(()),
            Ok(()) => Err(End),
        }
    }
}

/// What a running process runs, as it says itself.
fn command_of(pid: u32) -> Vec<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = line.split(|byte| *byte == 0).filter(|word| !word.is_empty()).take(64);
    words.map(|word| treeline_event::PathBytes::from(&word[..word.len().min(1024)]).to_string()).collect()
}
