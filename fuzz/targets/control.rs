//! The engine for `treeline_fuzz_targets::control`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: treeline_fuzz_targets::leave_seeds("control"), |bytes: &[u8]| {
    treeline_fuzz_targets::control::run(bytes);
});
