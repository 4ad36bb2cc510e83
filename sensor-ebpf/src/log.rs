//! Messages of the kernel programs while somebody develops them: `cargo xtask build --debug-log`. What is shipped has
//! neither the map nor the texts.

/// A message at level `debug`, as `aya_log_ebpf::debug`; nothing without the feature `debug`.
macro_rules! note {
    ($context:expr, $($argument:tt)+) => {
        #[cfg(feature = "debug")]
        aya_log_ebpf::debug!($context, $($argument)+);
    };
}

pub(crate) use note;
