//! What well-known programs write, against the programs: whatever a command changes was found, where it is said that all was.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use proptest::{prelude::*, test_runner::FileFailurePersistence};
use treeline_policy::tool::{Features, Place};
use treeline_shell::{Context, features};

/// Each program that is known to write, with operands to begin with that it takes.
const PROGRAMS: [&str; 24] = [
    "chmod 600",
    "chmod",
    "cp",
    "dd of=n if=a",
    "dd of=d/x",
    "find",
    "find -name x -delete",
    "find d -delete",
    "install",
    "ln",
    "ls",
    "mkdir",
    "mv",
    "rm",
    "rmdir",
    "sed s/1/2/",
    "sed",
    "sort",
    "tee",
    "touch",
    "truncate -s 1",
    "uniq",
    "unlink",
    "xxd",
];
const LONG: [&str; 8] = [
    "--",
    "--recursive",
    "--archive",
    "--in-place",
    "--force",
    "--target-directory=d",
    "--lines=1",
    "--help",
];
/// Files that are there, and names that are not.
const OPERANDS: [&str; 10] = ["a", "b", "d", "d/x", "d/e", "d/e/y", "n", "d/n", "./a", "d/../b"];

/// A directory with a few files.
fn work() -> tempfile::TempDir {
    let work = tempfile::tempdir().expect("a directory");
    fs::create_dir_all(work.path().join("d/e")).expect("a directory");
    for (name, text) in [("a", "1\n"), ("b", "2\n1\n"), ("d/x", "1\n1\n"), ("d/e/y", "00: 31\n")] {
        fs::write(work.path().join(name), text).expect("a file");
    }
    work
}

/// What is in a directory: of each path what it is, and what can be changed of it.
fn contents(directory: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut left = vec![directory.to_owned()];
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(&next).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(of) = path.symlink_metadata() else { continue };
            let content = match (of.is_dir(), of.is_file()) {
                (true, _) => {
                    left.push(path.clone());
                    "a directory".to_owned()
                }
                (_, true) => format!("{:?} {:?}", fs::read(&path).ok(), of.modified().ok()),
                _ => format!("{:?}", fs::read_link(&path).ok()),
            };
            found.insert(path, format!("{:o} {content}", of.permissions().mode()));
        }
    }
    found
}

fn run(command: &str, work: &Path) {
    let _ = Command::new("timeout")
        .args(["5", "sh", "-c", command])
        .current_dir(work)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("timeout is installed");
}

/// Whether a path is among what is written. The parents that `mkdir -p` makes are not named.
fn is_found(found: &Features, path: &Path, is_made: bool) -> bool {
    found.writes.iter().any(|place| match place {
        Place::At(at) => Path::new(at) == path || is_made && path.is_dir() && Path::new(at).starts_with(path),
        Place::Below(directory) => path.starts_with(directory) && Path::new(directory) != path,
        Place::Unknown => true,
    })
}

/// What a command has changed and was not found; none if it is not said that all was.
fn missed(command: &str) -> Option<Vec<PathBuf>> {
    let work = work();
    let own = work.path().canonicalize().expect("its own path");
    let cwd = own.to_str().map(str::to_owned);
    let found = features(command, &Context { cwd: cwd.clone(), home: cwd, repository: None });
    if !found.opaque.is_empty() || found.commands.iter().any(|command| !command.is_complete) {
        return None;
    }
    let before = contents(&own);
    run(command, &own);
    let after = contents(&own);
    let changed = before.iter().chain(&after).map(|(path, _)| path);
    let changed = changed.filter(|path| before.get(*path) != after.get(*path));
    let missed = changed.filter(|path| !is_found(&found, path, !before.contains_key(*path)));
    Some(missed.cloned().collect())
}

#[test]
fn what_is_written_was_found() {
    let check = |command: &str| assert_eq!(missed(command), Some(Vec::new()), "{command}");
    for command in [
        "cp a n",
        "cp -r d n",
        "cp -rt d a b",
        "mv a d",
        "mv -t d a b",
        "mv d n",
        "rm -r d",
        "ln a d",
        "ln -s d/x",
        "install -d n d/n",
        "install -m 600 a d",
        "install -D a n/m",
        "chmod -R 700 d",
        "chmod 600 a",
        "tee a n",
        "sort -uo a b",
        "sort b -oa",
        "uniq b n",
        "xxd a n",
        "xxd -r d/e/y n",
        "sed -ni p a d/x",
        "find d -delete",
        "find . -name 'x' -delete",
        "dd if=a of=n",
        "touch -r a n",
        "truncate -cs 1 a",
        "mkdir -p n/m",
        "unlink a",
        "rmdir d/e; mv a b && cp b n > m",
    ] {
        check(command);
    }
}

/// The programs are there, and do something.
#[test]
fn something_is_written() {
    for command in ["cp a n", "mv a d", "rm -r d", "sed -i s/1/2/ a", "chmod 600 a", "tee a", "sort -o a b"] {
        let work = work();
        let before = contents(work.path());
        run(command, work.path());
        assert_ne!(contents(work.path()), before, "{command}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(256),
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_is_written_by_anything_was_found(
        program in prop::sample::select(PROGRAMS.to_vec()),
        words in prop::collection::vec(
            prop_oneof![
                2 => "-[a-zA-Z]{1,2}(d|n|d/n|a)?",
                1 => prop::sample::select(LONG.to_vec()).prop_map(str::to_owned),
                4 => prop::sample::select(OPERANDS.to_vec()).prop_map(str::to_owned),
            ],
            0..5,
        ),
    ) {
        let command = format!("{program} {}", words.join(" "));
        prop_assert!(missed(&command).is_none_or(|missed| missed.is_empty()), "{}: {:?}", command, missed(&command));
    }
}
