//! The table of targets.

use std::{fs, path::PathBuf};

use crate::{config, control, elf, event, glob, learn, policy, procfs, record, shell, tlog};

/// The environment variable that names the folder for a target's seeds.
pub const SEEDS_VARIABLE: &str = "TREELINE_FUZZ_SEEDS";

/// A reader of foreign bytes under test.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Name of its program, `fuzz/targets/NAME.rs`.
    pub name: &'static str,
    /// Reads the bytes and checks what it made of them; answers whether it accepted them.
    pub run: fn(&[u8]) -> bool,
    /// Small inputs that it accepts. They are made and not stored: the layout of a record changes with the build.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every target.
pub const TARGETS: [Target; 11] = [
    Target { name: "config", run: config::run, seeds: config::seeds },
    Target { name: "control", run: control::run, seeds: control::seeds },
    Target { name: "elf", run: elf::run, seeds: elf::seeds },
    Target { name: "event", run: event::run, seeds: event::seeds },
    Target { name: "glob", run: glob::run, seeds: glob::seeds },
    Target { name: "learn", run: learn::run, seeds: learn::seeds },
    Target { name: "policy", run: policy::run, seeds: policy::seeds },
    Target { name: "procfs", run: procfs::run, seeds: procfs::seeds },
    Target { name: "record", run: record::run, seeds: record::seeds },
    Target { name: "shell", run: shell::run, seeds: shell::seeds },
    Target { name: "tlog", run: tlog::run, seeds: tlog::seeds },
];

/// Writes a target's seeds into the folder that [`SEEDS_VARIABLE`] names, if it names one. The engine calls this before it
/// reads its corpus, so that the seeds are of the same build as the code that they are for.
///
/// # Panics
/// If there is no such target, or the folder cannot be written: a run without seeds would prove little.
pub fn leave_seeds(name: &str) {
    let Some(folder) = std::env::var_os(SEEDS_VARIABLE).map(PathBuf::from) else { return };
    let target = TARGETS.iter().find(|target| target.name == name).expect("every program is in the table");
    for (number, seed) in (target.seeds)().iter().enumerate() {
        let path = folder.join(format!("seed-{number:03}"));
        fs::write(&path, seed).unwrap_or_else(|error| panic!("cannot write `{}`: {error}", path.display()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cut and changed in so many places, each seed is run again: a little of what the engine does, on every machine.
    const PLACES: usize = 16;

    #[test]
    fn every_seed_is_accepted_and_survived_in_part() {
        for Target { name, run, seeds } in TARGETS {
            let seeds = seeds();
            assert!(!seeds.is_empty(), "{name} has no seeds");
            for (number, seed) in seeds.iter().enumerate() {
                assert!(run(seed), "{name} refuses its seed {number}");
                for place in (0..seed.len()).step_by(seed.len() / PLACES + 1) {
                    run(&seed[..place]);
                    let mut changed = seed.clone();
                    changed[place] ^= 0x81;
                    run(&changed);
                }
            }
            run(b"");
        }
    }

    #[test]
    fn every_target_has_a_program_and_every_program_a_target() {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/targets");
        let entries = fs::read_dir(&folder).expect("fuzz/targets is in the checkout");
        let mut programs: Vec<String> = entries
            .map(|entry| entry.expect("readable").path())
            .map(|path| path.file_stem().expect("a file").to_string_lossy().into_owned())
            .collect();
        programs.sort();
        assert_eq!(programs, TARGETS.map(|target| target.name));
    }
}
