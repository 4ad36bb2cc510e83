//! The engine for `treeline_fuzz_targets::config`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: treeline_fuzz_targets::leave_seeds("config"), |bytes: &[u8]| {
    treeline_fuzz_targets::config::run(bytes);
});
