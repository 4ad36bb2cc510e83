//! The engine for `treeline_fuzz_targets::shell`.
#![no_main]

use treeline_fuzz_targets::{leave_seeds, shell};

fn start() {
    leave_seeds("shell");
    shell::catch_panics_of_the_parser();
}

libfuzzer_sys::fuzz_target!(init: start(), |bytes: &[u8]| {
    shell::run(bytes);
});
