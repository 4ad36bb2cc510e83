//! What kernel programs log while somebody develops them (feature `kernel-log`).

use aya::Ebpf;

/// Reads the messages of one loaded object; of an object that has none, nothing.
pub(super) struct Messages {
    #[cfg_attr(
        not(feature = "kernel-log"),
        expect(dead_code, reason = "without the feature there is no reader")
    )]
    flush: Option<Box<dyn FnMut() + Send>>,
}

impl Messages {
    /// To be made before a program is loaded: programs hold the map that it takes out of the object.
    #[cfg(feature = "kernel-log")]
    pub(super) fn of(ebpf: &mut Ebpf) -> Self {
        match aya_log::EbpfLogger::init(ebpf) {
            Ok(mut logger) => Self { flush: Some(Box::new(move || logger.flush())) },
            Err(error) => {
                tracing::warn!(%error, "the kernel programs were built without `debug`; they say nothing");
                Self { flush: None }
            }
        }
    }

    /// As with the feature, of an object without messages.
    #[cfg(not(feature = "kernel-log"))]
    pub(super) fn of(_: &mut Ebpf) -> Self {
        Self { flush: None }
    }

    /// Hands over what was logged, target `treeline`, level `debug`.
    pub(super) fn flush(&mut self) {
        #[cfg(feature = "kernel-log")]
        if let Some(flush) = &mut self.flush {
            flush();
        }
    }
}
