//! Where the verbs that answer questions take entries from: the daemon, or a log directory.

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Result;
use crossbeam_channel::{Receiver, bounded};

use super::{Globals, output::Hinted};
use crate::{
    config::Config,
    control::{
        client::{Client, ClientError},
        proto::EntriesRequest,
    },
    log::{Cursor, Extent, LogReader},
    view::EntrySource,
};

/// Entries that are read ahead of the one that is being looked at.
const AHEAD_MAX: usize = 256;
/// How often a log directory is looked at for new entries.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(200);

/// A verb's own arguments, and where its entries come from.
#[derive(Debug, clap::Args)]
pub struct Asked<A: clap::Args> {
    /// Read this log directory instead of asking the daemon
    #[arg(long, global = true, value_name = "DIR", conflicts_with = "socket", help_heading = "Source")]
    log: Option<PathBuf>,
    /// The daemon's socket [default: as configured]
    #[arg(long, global = true, value_name = "PATH", env = "TREELINE_SOCKET", help_heading = "Source")]
    socket: Option<PathBuf>,
    #[command(flatten)]
    args: A,
}

impl<A: clap::Args> Asked<A> {
    /// The verb's own arguments, for what can be answered without entries.
    #[must_use]
    pub fn args(&self) -> &A {
        &self.args
    }

    /// Runs the verb over the entries. The daemon hands out only what the asking user may see.
    ///
    /// # Errors
    /// The daemon is not there, or the log cannot be read.
    pub fn run(
        &self,
        globals: &Globals,
        follow: impl FnOnce(&A) -> bool,
        verb: impl FnOnce(&A, &mut dyn EntrySource, &mut dyn io::Write) -> Result<ExitCode>,
    ) -> Result<ExitCode> {
        let mut source: Box<dyn EntrySource> = match &self.log {
            Some(dir) => Box::new(DirectorySource::open(dir)?),
            None => {
                let config = Config::load_as_user(globals.config.as_deref())?;
                let socket = self.socket.as_deref().unwrap_or(&config.socket);
                let client = Client::connect(socket).map_err(without_daemon)?;
                Box::new(SocketSource::start(client, follow(&self.args))?)
            }
        };
        let mut out = io::BufWriter::new(io::stdout().lock());
        let result = verb(&self.args, &mut *source, &mut out);
        match io::Write::flush(&mut out) {
            // Whoever reads has seen enough (`| head`).
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            other => other?,
        }
        result.or_else(|error| if is_broken_pipe(&error) { Ok(ExitCode::SUCCESS) } else { Err(error) })
    }
}

/// What to do where the daemon does not answer: its log is a source as well.
fn without_daemon(error: ClientError) -> anyhow::Error {
    let hint = match &error {
        ClientError::Connect { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            "ask to become a member of the socket's group (`treeline doctor` names it), or read a log directory: `--log DIR`"
        }
        error if error.is_unavailable() => {
            "start the daemon (`systemctl start treeline`), or read a log directory without it: `--log DIR`"
        }
        _ => {
            "`treeline status` and `treeline doctor` show the daemon's state; `--log DIR` reads a log directory"
        }
    };
    anyhow::Error::new(error).context(Hinted::new("the daemon does not help", hint))
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}

/// Entries of a log directory, the unsigned tail included.
struct DirectorySource(Cursor<Box<LogReader>>);

impl DirectorySource {
    fn open(dir: &Path) -> Result<Self> {
        anyhow::ensure!(dir.is_dir(), "there is no log at `{}`", dir.display());
        Ok(Self(LogReader::open(dir).into_entries(0, Extent::WithUnsigned)))
    }
}

impl EntrySource for DirectorySource {
    fn next_entry(&mut self, entry: &mut Vec<u8>) -> io::Result<Option<u64>> {
        let next = self.0.next_entry().map_err(io::Error::other)?;
        Ok(next.map(|(index, bytes)| {
            entry.clear();
            entry.extend_from_slice(bytes);
            index
        }))
    }

    fn wait(&mut self) -> io::Result<bool> {
        std::thread::sleep(FOLLOW_INTERVAL);
        Ok(true)
    }
}

/// Entries of the daemon, read by a thread of its own: the protocol pushes, the verbs pull.
struct SocketSource {
    entries: Receiver<Delivered>,
    follow: bool,
    /// What came while it was waited for.
    waited: Option<Delivered>,
}

type Delivered = Result<(u64, Vec<u8>), ClientError>;

impl SocketSource {
    fn start(mut client: Client, follow: bool) -> io::Result<Self> {
        let (sender, entries) = bounded(AHEAD_MAX);
        std::thread::Builder::new().name("entries".to_owned()).spawn(move || {
            let request = EntriesRequest { from: 0, max: None, session: None, follow };
            let result =
                client.entries(request, |index, bytes| sender.send(Ok((index, bytes.to_vec()))).is_ok());
            if let Err(error) = result {
                // The verb has ended when nobody receives any more.
                let _ = sender.send(Err(error));
            }
        })?;
        Ok(Self { entries, follow, waited: None })
    }
}

impl EntrySource for SocketSource {
    fn next_entry(&mut self, entry: &mut Vec<u8>) -> io::Result<Option<u64>> {
        let next = match self.waited.take() {
            Some(waited) => Some(waited),
            // A follower shows what it has before it waits for more.
            None if self.follow => self.entries.try_recv().ok(),
            // Without a sender the daemon has sent everything.
            None => self.entries.recv().ok(),
        };
        let next = next.transpose().map_err(io::Error::other)?;
        Ok(next.map(|(index, bytes)| {
            *entry = bytes;
            index
        }))
    }

    fn wait(&mut self) -> io::Result<bool> {
        if self.follow {
            self.waited = self.entries.recv().ok();
        }
        Ok(self.waited.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follower_gets_what_there_is_before_it_waits() {
        let (sender, entries) = bounded(AHEAD_MAX);
        let mut source = SocketSource { entries, follow: true, waited: None };
        let next = |source: &mut SocketSource| source.next_entry(&mut Vec::new()).expect("no error");
        sender.send(Ok((1, vec![]))).expect("room");
        assert_eq!((next(&mut source), next(&mut source)), (Some(1), None));
        sender.send(Ok((2, vec![]))).expect("room");
        assert!(source.wait().expect("no error"));
        assert_eq!((next(&mut source), next(&mut source)), (Some(2), None));
        drop(sender);
        assert!(!source.wait().expect("no error"), "the daemon has ended");
    }

    #[test]
    fn others_wait_for_the_end() {
        let (sender, entries) = bounded(AHEAD_MAX);
        let mut source = SocketSource { entries, follow: false, waited: None };
        let late = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            sender.send(Ok((1, vec![7]))).expect("room");
        });
        let mut entry = Vec::new();
        assert_eq!(source.next_entry(&mut entry).expect("no error"), Some(1));
        assert_eq!(entry, [7]);
        assert_eq!(source.next_entry(&mut entry).expect("no error"), None);
        assert!(!source.wait().expect("no error"));
        late.join().expect("it ends");
    }
}
