//! The daemon: a running sensor, its socket, systemd, and signals.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use sd_notify::NotifyState;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::spawn_blocking,
    time::interval,
};

use super::start::Running;
use crate::control::server::Server;

/// How often the threads are looked after: a thread that ended ends the daemon within this time.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// How often the watchdog is fed in the time after which it bites: systemd's manual asks for twice at least.
const FEEDINGS: u32 = 4;

/// How often systemd's status line is renewed.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);

/// Blocking threads: each serves a request that waits for the sensor or for files.
const BLOCKING_THREADS_MAX: usize = 16;

/// Where and for whom the socket is.
#[derive(Clone, Debug)]
pub struct SocketSettings {
    /// Its path.
    pub path: PathBuf,
    /// Its group; root only when there is none.
    pub group: Option<u32>,
}

/// Serves until a signal, or until a thread of the sensor ends.
///
/// # Errors
/// What a thread ended with, or why the socket could not be made.
pub fn serve(running: Running, socket: &SocketSettings) -> Result<()> {
    let running = Arc::new(running);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build()
        .context("cannot start the control thread")?;
    let reason = runtime.block_on(serve_until_end(&running, socket));
    tell(&[NotifyState::Stopping]);
    // Requests that still wait get their answer from the stopping sensor or find it stopped.
    runtime.shutdown_timeout(Duration::from_secs(1));
    let words = reason.as_ref().map_or_else(|error| format!("{error:#}"), |reason| (*reason).to_owned());
    tracing::info!("stopping: {words}");
    let stopped = running.sensor.stop(&words);
    reason?;
    Ok(stopped?)
}

async fn serve_until_end(running: &Arc<Running>, socket: &SocketSettings) -> Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot catch SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot catch SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot catch SIGHUP")?;
    let server = Server::bind(&socket.path, socket.group, Arc::clone(running))?;
    let mut look = interval(LOOK_INTERVAL);
    let mut systemd = Systemd::of_unit();
    tell(&[NotifyState::Ready]);
    tracing::info!(socket = %socket.path.display(), "ready");
    let serve = server.serve();
    tokio::pin!(serve);
    loop {
        tokio::select! {
            () = &mut serve => unreachable!("the server ends only by being dropped"),
            _ = terminate.recv() => return Ok("SIGTERM"),
            _ = interrupt.recv() => return Ok("SIGINT"),
            _ = hangup.recv() => reload(Arc::clone(running)),
            _ = look.tick() => {
                if running.sensor.has_ended() {
                    return Ok("a thread ended");
                }
                systemd.look_after(running);
            }
        }
    }
}

/// Reloads on a thread of its own: the watchdog must not wait for it.
fn reload(running: Arc<Running>) {
    drop(spawn_blocking(move || match running.reload() {
        Ok(()) => tracing::info!("the policy was read again and is in force"),
        Err(error) => tracing::error!("the policy stays as it was: {error:#}"),
    }));
}

/// What systemd is told, no oftener than it asks for: a message that its socket has no room for would be waited for.
struct Systemd {
    /// How often the watchdog is fed; none where there is none.
    feeding: Option<Duration>,
    fed: Option<Instant>,
    reported: Option<Instant>,
}

impl Systemd {
    fn of_unit() -> Self {
        let feeding = sd_notify::watchdog_enabled().map(|period| period / FEEDINGS);
        Self { feeding, fed: None, reported: None }
    }

    /// The watchdog is fed as long as every thread goes round.
    fn look_after(&mut self, running: &Running) {
        if running.sensor.is_stuck() {
            tracing::error!("a thread of the sensor hangs; the watchdog is no longer fed");
            return;
        }
        let is_due = |at: Option<Instant>, interval| at.is_none_or(|at| at.elapsed() >= interval);
        if self.feeding.is_some_and(|interval| is_due(self.fed, interval)) {
            self.fed = Some(Instant::now());
            tell(&[NotifyState::Watchdog]);
        }
        if is_due(self.reported, STATUS_INTERVAL) {
            self.reported = Some(Instant::now());
            tell(&[NotifyState::Status(&line(running))]);
        }
    }
}

fn line(running: &Running) -> String {
    let status = running.sensor.status();
    let trouble = status.log.trouble.map_or_else(String::new, |words| format!("; LOG IN TROUBLE: {words}"));
    let live = status.sessions.iter().filter(|session| session.live > 0).count();
    format!("{live} sessions, {} entries, {} refused{trouble}", status.log.size, status.denied)
}

/// Without systemd there is nobody to tell.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!("cannot notify systemd: {error}");
    }
}
