//! The engine for `treeline_fuzz_targets::glob`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: treeline_fuzz_targets::leave_seeds("glob"), |bytes: &[u8]| {
    treeline_fuzz_targets::glob::run(bytes);
});
