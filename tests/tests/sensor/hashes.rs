//! Hashes are those of the files that ran, or there is none.

use std::{collections::BTreeMap, process::Command};

use treeline_event::{Action, Ancestry, Digest, Entry, EntryBody, FileId, Image, Notice};
use treeline_tests::sensor::{Scene, actions, is_permitted};

const NONE: &str = "  - id: keys\n    kind: file\n    paths: [\"@/.ssh/**\"]\n    reason: Keys.\n";

/// What the log says of every image, by identity: hashes that were pending are completed by later entries.
fn images(entries: &[Entry]) -> BTreeMap<FileId, Image> {
    let mut images: BTreeMap<FileId, Image> = BTreeMap::new();
    let mut add = |image: &Image| {
        let known = images.entry(image.file).or_insert_with(|| image.clone());
        if known.digest == Digest::Pending {
            *known = image.clone();
        }
    };
    for entry in entries {
        match &entry.body {
            EntryBody::Notice(Notice::ImageHashed { image }) => add(image),
            EntryBody::Act { process, ancestry, .. } => {
                add(&process.program.image);
                if let Ancestry::Full(steps) = ancestry {
                    steps.iter().for_each(|step| add(&step.program.image));
                }
            }
            EntryBody::Notice(_) => {}
        }
    }
    images
}

#[test]
fn every_executable_of_an_ancestry_has_the_hash_that_sha256sum_computes() {
    if !is_permitted("every_executable_of_an_ancestry_has_the_hash_that_sha256sum_computes") {
        return;
    }
    let scene = Scene::new();
    let ran = scene.standalone(&scene.policy(NONE), "sh -c 'cat .ssh/id; true'; sleep 1.5");
    let images = images(&ran.entries);
    let denial = ran.entries.iter().find_map(|entry| match &entry.body {
        EntryBody::Act {
            process,
            ancestry: Ancestry::Full(steps),
            action: Action::Open { .. },
            verdict,
            ..
        } => (*verdict == treeline_event::Verdict::Deny).then(|| (process.clone(), steps.clone())),
        _ => None,
    });
    let (subject, steps) = denial.expect("the denial carries its ancestry");
    assert_eq!(steps.last().map(|step| step.key.pid), Some(1), "back to pid 1");
    let mut compared = 0;
    for process in std::iter::once(&subject).chain(&steps) {
        let image = &images[&process.program.image.file];
        let path = image.path.to_string();
        let Digest::Sha256(digest) = image.digest else {
            // A kernel that hides pid 1's executable from others leaves nothing to hash.
            assert!(process.key.pid == 1 || image.unlinked, "{path}: {}", image.digest);
            continue;
        };
        if image.unlinked || !std::path::Path::new(&path).is_file() {
            continue;
        }
        let sum = Command::new("sha256sum").arg(&path).output().expect("sha256sum runs");
        let sum = String::from_utf8_lossy(&sum.stdout);
        assert_eq!(sum.split(' ').next(), Some(hex(&digest).as_str()), "{path}");
        compared += 1;
    }
    assert!(compared >= 3, "cat, sh, bash and what started them: {compared}");
}

#[test]
fn build_ids_are_those_of_readelf() {
    if !is_permitted("build_ids_are_those_of_readelf") {
        return;
    }
    let Ok(notes) = Command::new("readelf").args(["-n", "/bin/bash"]).output() else {
        eprintln!("skipped: build_ids_are_those_of_readelf: readelf is not installed");
        return;
    };
    let notes = String::from_utf8_lossy(&notes.stdout).into_owned();
    let expect =
        notes.lines().find_map(|line| line.trim().strip_prefix("Build ID: ")).expect("bash has a build id");
    let scene = Scene::new();
    let ran = scene.standalone(&scene.policy(NONE), "bash -c true; sleep 1");
    let bash = std::fs::canonicalize("/bin/bash").expect("a shell").display().to_string();
    let found = images(&ran.entries).into_values().find(|image| image.path.to_string() == bash);
    assert_eq!(found.and_then(|image| image.build_id).as_deref(), Some(expect));
}

#[test]
fn a_program_that_is_replaced_never_gets_the_hash_of_another() {
    if !is_permitted("a_program_that_is_replaced_never_gets_the_hash_of_another") {
        return;
    }
    let scene = Scene::new();
    // Each run of the loop executes a file and replaces it at once: its hash is right, or it has none.
    let script = "for i in $(seq 30); do cp /bin/true p.new; echo $i >> p.new; mv p.new p; ./p; sha256sum p >> sums; \
                  cp /bin/false q; mv q p; done; sleep 1";
    let ran = scene.standalone(&scene.policy(NONE), script);
    let sums = std::fs::read_to_string(scene.path("home/sums")).expect("the sums");
    let right: Vec<&str> = sums.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(right.len(), 30);
    let path = scene.path("home/p").display().to_string();
    let execs = actions(&ran.entries).filter(|(process, action)| {
        **action == Action::Exec && process.program.image.path.to_string() == path
    });
    let files: Vec<FileId> = execs.map(|(process, _)| process.program.image.file).collect();
    assert_eq!(files.len(), 30, "{}", ran.stderr());
    let images = images(&ran.entries);
    for (number, file) in files.iter().enumerate() {
        match images[file].digest {
            Digest::Sha256(digest) => assert_eq!(hex(&digest), right[number], "run {number}"),
            Digest::Changed | Digest::Gone => {}
            other => panic!("run {number}: {other}"),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
