//! The engine for `treeline_fuzz_targets::tlog`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: treeline_fuzz_targets::leave_seeds("tlog"), |bytes: &[u8]| {
    treeline_fuzz_targets::tlog::run(bytes);
});
