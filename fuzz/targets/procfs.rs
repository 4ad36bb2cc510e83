//! The engine for `treeline_fuzz_targets::procfs`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: treeline_fuzz_targets::leave_seeds("procfs"), |bytes: &[u8]| {
    treeline_fuzz_targets::procfs::run(bytes);
});
