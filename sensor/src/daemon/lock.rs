//! One sensor per state directory, and one per socket; a log has a lock of its own (`log/disk.rs`).
//!
//! Sessions cannot read the files that are locked (`itself.rs`): whoever can read one can lock it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

/// Why something is not ours.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another sensor has it.
    #[error("another sensor{} uses the {what} `{}`", pid_words(*pid), path.display())]
    Taken {
        /// Its process, when it said so.
        pid: Option<u32>,
        /// What it uses: `state directory` or `socket`.
        what: &'static str,
        /// Which.
        path: PathBuf,
    },
    /// A file operation failed.
    #[error("cannot {attempt} `{}`", path.display())]
    Io {
        /// What was attempted.
        attempt: &'static str,
        /// On what.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

fn pid_words(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (pid {pid})"))
}

/// Holds a state directory or a socket's path until it is dropped or the process ends, however that happens.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes a state directory, which is created if need be.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn of_state_dir(dir: &Path) -> Result<Self, LockError> {
        fs::create_dir_all(dir).map_err(io("create the state directory", dir))?;
        Self::take(&of_dir(dir), "state directory", dir)
    }

    /// Takes the path of a socket, whose directory is there. The lock is a file beside it, which stays: whoever removed
    /// it could remove the one that somebody else has just locked.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn of_socket(path: &Path) -> Result<Self, LockError> {
        Self::take(&of_socket(path), "socket", path)
    }

    fn take(file: &Path, what: &'static str, object: &Path) -> Result<Self, LockError> {
        let path = file;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(path).map_err(io("open", path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                // A pid has at most ten digits.
                drop((&mut file).take(16).read_to_string(&mut text));
                let pid = text.trim().parse().ok();
                return Err(LockError::Taken { pid, what, path: object.to_owned() });
            }
            Err(error) => return Err(io("lock", path)(error.into())),
        }
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        // The pid is for messages only: a full disk must not keep the sensor from starting.
        if let Err(error) = written {
            tracing::warn!(path = %path.display(), "cannot write the pid: {error}");
        }
        Ok(Self { _file: file })
    }
}

/// The file that is locked for a state directory.
#[must_use]
pub fn of_dir(dir: &Path) -> PathBuf {
    dir.join("lock")
}

/// The file that is locked for a socket.
#[must_use]
pub fn of_socket(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

fn io(attempt: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LockError {
    let path = path.to_owned();
    move |source| LockError::Io { attempt, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_is_first() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let check = |take: &dyn Fn() -> Result<Lock, LockError>, what: &str| {
            let first = take().expect("nobody has it");
            let error = take().expect_err("the first has it").to_string();
            let expected = format!("another sensor (pid {}) uses the {what} `", std::process::id());
            assert!(error.starts_with(&expected), "{error}");
            drop(first);
            take().expect("nobody has it");
        };
        check(&|| Lock::of_state_dir(dir.path()), "state directory");
        check(&|| Lock::of_socket(&dir.path().join("socket")), "socket");
    }
}
