//! The engine for `treeline_fuzz_targets::policy`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: treeline_fuzz_targets::leave_seeds("policy"), |bytes: &[u8]| {
    treeline_fuzz_targets::policy::run(bytes);
});
