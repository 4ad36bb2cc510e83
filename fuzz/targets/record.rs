//! The engine for `treeline_fuzz_targets::record`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: treeline_fuzz_targets::leave_seeds("record"), |bytes: &[u8]| {
    treeline_fuzz_targets::record::run(bytes);
});
