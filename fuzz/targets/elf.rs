//! The engine for `treeline_fuzz_targets::elf`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: treeline_fuzz_targets::leave_seeds("elf"), |bytes: &[u8]| {
    treeline_fuzz_targets::elf::run(bytes);
});
