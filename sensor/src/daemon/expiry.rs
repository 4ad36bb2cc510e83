//! Ends rules when their time has come.

use std::{
    io,
    sync::mpsc::{self, RecvTimeoutError, SyncSender},
    thread::{self, JoinHandle},
    time::Duration,
};

/// How often the clock is looked at: it can be set, so nobody knows how long to wait.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// A thread that looks at the clock until this is dropped.
#[derive(Debug)]
pub(super) struct Expiry {
    alive: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Expiry {
    /// Starts the thread. `look` is called twice a second.
    ///
    /// # Errors
    /// There can be no more threads.
    pub(super) fn start(look: impl Fn() + Send + 'static) -> io::Result<Self> {
        let (alive, ended) = mpsc::sync_channel(0);
        let thread = thread::Builder::new().name("expiry".to_owned()).spawn(move || {
            while ended.recv_timeout(LOOK_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                look();
            }
        })?;
        Ok(Self { alive: Some(alive), thread: Some(thread) })
    }
}

impl Drop for Expiry {
    fn drop(&mut self) {
        drop(self.alive.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that ends rules has panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use super::*;

    #[test]
    fn it_looks_until_it_is_dropped() {
        let (looked, looks) = mpsc::sync_channel(1);
        let count = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&count);
        let expiry = Expiry::start(move || {
            counted.fetch_add(1, Ordering::SeqCst);
            // It has been heard already.
            let _ = looked.try_send(());
        })
        .expect("a thread");
        looks.recv().expect("it looks");
        drop(expiry);
        let at_the_end = count.load(Ordering::SeqCst);
        thread::sleep(2 * LOOK_INTERVAL);
        assert_eq!(count.load(Ordering::SeqCst), at_the_end);
    }
}
