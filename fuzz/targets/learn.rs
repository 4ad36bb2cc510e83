//! The engine for `treeline_fuzz_targets::learn`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: treeline_fuzz_targets::leave_seeds("learn"), |bytes: &[u8]| {
    treeline_fuzz_targets::learn::run(bytes);
});
