//! One sensor per state directory.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

/// Why the state directory is not ours.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another sensor has it.
    #[error("another sensor{} uses the state directory `{}`", pid_words(*pid), dir.display())]
    Taken {
        /// Its process, when it said so.
        pid: Option<u32>,
        /// Which directory.
        dir: PathBuf,
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

/// Holds the state directory until it is dropped or the process ends, however that happens.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

impl StateLock {
    /// Takes the directory, which is created if need be.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn take(dir: &Path) -> Result<Self, LockError> {
        let io = |attempt, path: &Path| {
            let path = path.to_owned();
            move |source| LockError::Io { attempt, path, source }
        };
        fs::create_dir_all(dir).map_err(io("create the state directory", dir))?;
        let path = dir.join("lock");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&path).map_err(io("open", &path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                // A pid has at most ten digits.
                drop((&mut file).take(16).read_to_string(&mut text));
                return Err(LockError::Taken { pid: text.trim().parse().ok(), dir: dir.to_owned() });
            }
            Err(error) => return Err(io("lock", &path)(error.into())),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_is_first() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let first = StateLock::take(dir.path()).expect("nobody has it");
        let error = StateLock::take(dir.path()).expect_err("the first has it").to_string();
        assert!(error.starts_with(&format!("another sensor (pid {}) uses", std::process::id())), "{error}");
        drop(first);
        StateLock::take(dir.path()).expect("nobody has it");
    }
}
