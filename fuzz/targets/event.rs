//! The engine for `treeline_fuzz_targets::event`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: treeline_fuzz_targets::leave_seeds("event"), |bytes: &[u8]| {
    treeline_fuzz_targets::event::run(bytes);
});
