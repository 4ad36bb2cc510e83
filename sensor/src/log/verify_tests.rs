//! Each way of damaging a log is found and named.

use super::key::SoftwareKey;
use super::model::ModelStorage;
use super::model_tests::{entry, key, log_of, open};
use super::report::{Finding, Remark, Report};
use super::verify::{Options, verify_on};

fn verify(storage: &ModelStorage) -> Report {
    verify_on(storage, key().public(), &Options::default()).expect("readable")
}

fn verify_against(storage: &ModelStorage, known: &[u8]) -> Report {
    let known_checkpoint = Some(String::from_utf8(known.to_vec()).expect("text"));
    verify_on(storage, key().public(), &Options { known_checkpoint }).expect("readable")
}

/// A log of 600 entries: two full bundles and one of 88.
fn log() -> ModelStorage {
    log_of(600)
}

fn checkpoint(storage: &ModelStorage) -> Vec<u8> {
    storage.bytes("checkpoint").expect("there")
}

/// Damages a copy of the log and expects exactly these findings.
fn check(damage: impl FnOnce(&ModelStorage), expect: &[Finding]) {
    let storage = log();
    damage(&storage);
    assert_eq!(verify(&storage).findings, expect);
}

fn edit(storage: &ModelStorage, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = storage.bytes(path).expect("there");
    change(&mut bytes);
    storage.put(path, &bytes);
}

/// The bytes of a bundle without one of its entries.
fn without(bytes: &[u8], position: usize) -> Vec<u8> {
    let mut left = Vec::new();
    for (i, entry) in treeline_tlog::Bundle::new(bytes).enumerate() {
        if i != position {
            treeline_tlog::bundle::push_entry(&mut left, entry.expect("whole")).expect("short");
        }
    }
    left
}

const FULL: &str = "tile/entries/001";
const PARTIAL: &str = "tile/entries/002.p/88";

#[test]
fn a_whole_log_is_whole() {
    let report = verify(&log());
    assert!(report.whole);
    assert_eq!((report.signed_size, report.entries_checked, report.remarks.len()), (600, 600, 0));
    let known = checkpoint(&log_of(300));
    let report = verify_against(&log(), &known);
    assert!(report.whole && report.compared_with_known_checkpoint, "{:?}", report.findings);
    assert!(verify(&log_of(0)).whole);
}

#[test]
fn a_flipped_byte_is_named_by_its_entry() {
    // Entry 256 is the first of the bundle: a length of two bytes, then `entry 256`.
    let path = FULL.to_owned();
    check(|log| edit(log, FULL, |b| b[3] ^= 1), &[Finding::EntryChanged { index: 256, path }]);
    let path = PARTIAL.to_owned();
    check(|log| edit(log, PARTIAL, |b| b[3] ^= 1), &[Finding::EntryChanged { index: 512, path }]);
}

#[test]
fn every_flipped_byte_of_a_bundle_is_found() {
    let storage = log();
    let bytes = storage.bytes(PARTIAL).expect("there");
    for place in (0..bytes.len()).step_by(37) {
        let mut damaged = bytes.clone();
        damaged[place] ^= 0x10;
        storage.put(PARTIAL, &damaged);
        let report = verify(&storage);
        let named = report.findings.iter().any(|f| {
            matches!(f, Finding::EntryChanged { path, .. } | Finding::EntryRemoved { path, .. } | Finding::BundleDamaged { path, .. } if path == PARTIAL)
        });
        assert!(named, "byte {place}: {:?}", report.findings);
    }
}

#[test]
fn a_removed_or_added_entry_is_named() {
    let removed = |index, path: &str| [Finding::EntryRemoved { index, path: path.to_owned() }];
    check(|log| edit(log, FULL, |b| *b = without(b, 44)), &removed(300, FULL));
    check(|log| edit(log, FULL, |b| *b = without(b, 255)), &removed(511, FULL));
    check(|log| edit(log, PARTIAL, |b| *b = without(b, 0)), &removed(512, PARTIAL));
    let added = |index, path: &str| [Finding::EntryAdded { index, path: path.to_owned() }];
    check(|log| edit(log, FULL, |b| drop(b.splice(0..0, [0, 1, 7]))), &added(256, FULL));
    check(|log| edit(log, PARTIAL, |b| b.extend([0, 1, 7])), &added(600, PARTIAL));
}

#[test]
fn a_cut_bundle_is_named() {
    let storage = log();
    edit(&storage, FULL, |b| b.truncate(b.len() - 1));
    let findings = verify(&storage).findings;
    assert!(findings.contains(&Finding::EntryRemoved { index: 511, path: FULL.to_owned() }), "{findings:?}");
    assert!(findings.iter().any(|f| matches!(f, Finding::BundleDamaged { .. })), "{findings:?}");
}

#[test]
fn a_truncated_log_is_named() {
    let cut = |log: &ModelStorage| {
        log.take(PARTIAL);
        log.take(FULL);
    };
    check(cut, &[Finding::Truncated { first_missing: 256, size: 600 }]);
    check(|log| drop(log.take(FULL)), &[Finding::FileMissing { path: FULL.to_owned() }]);
}

#[test]
fn damaged_tiles_are_named_and_not_the_entries() {
    let changed = |path: &str, position| [Finding::TileChanged { path: path.to_owned(), position }];
    check(|log| edit(log, "tile/0/001", |b| b[33] ^= 1), &changed("tile/0/001", 1));
    check(|log| edit(log, "tile/0/002.p/88", |b| b[33] ^= 1), &changed("tile/0/002.p/88", 1));
    check(|log| edit(log, "tile/1/000.p/2", |b| b[33] ^= 1), &changed("tile/1/000.p/2", 1));
    check(|log| drop(log.take("tile/0/001")), &[Finding::FileMissing { path: "tile/0/001".to_owned() }]);
    let length = Finding::TileLength { path: "tile/0/001".to_owned(), found: 8191, expected: 8192 };
    check(|log| edit(log, "tile/0/001", |b| b.truncate(8191)), &[length]);
    check(|log| log.put("tile/0/003", b"x"), &[Finding::FileUnexpected { path: "tile/0/003".to_owned() }]);
    check(|log| log.put("tile/0/1", b"x"), &[Finding::FileUnexpected { path: "tile/0/1".to_owned() }]);
    check(
        |log| log.put("tile/0/002.p/87", b"x"),
        &[Finding::FileUnexpected { path: "tile/0/002.p/87".to_owned() }],
    );
}

#[test]
fn an_entry_changed_together_with_its_tile_is_named_by_its_bundle() {
    let storage = log();
    edit(&storage, FULL, |b| b[3] ^= 1);
    let bytes = storage.bytes(FULL).expect("there");
    let first = treeline_tlog::Bundle::new(&bytes).next().expect("one").expect("whole").to_vec();
    edit(&storage, "tile/0/001", |b| b[..32].copy_from_slice(&treeline_tlog::leaf_hash(&first)));
    assert_eq!(verify(&storage).findings, [Finding::EntriesRewritten { first: 256, count: 256 }]);
}

#[test]
fn a_forged_checkpoint_is_named() {
    let storage = log();
    let other = SoftwareKey::from_seed("model.invalid/log", &[8; 32]);
    let report = verify_on(&storage, other.public(), &Options::default()).expect("readable");
    assert!(matches!(report.findings[..], [Finding::CheckpointForged { .. }]), "{:?}", report.findings);
    // The size in the text is changed, the signature stays.
    edit(&storage, "checkpoint", |b| {
        *b = String::from_utf8(b.clone()).expect("text").replacen("\n600\n", "\n599\n", 1).into_bytes();
    });
    assert!(matches!(verify(&storage).findings[0], Finding::CheckpointForged { .. }));
    storage.take("checkpoint");
    assert_eq!(verify(&storage).findings, [Finding::CheckpointMissing]);
}

#[test]
fn a_rolled_back_log_is_named_by_the_known_checkpoint() {
    let known = checkpoint(&log());
    let old = log_of(300);
    assert!(verify(&old).whole, "nothing in the log itself tells");
    assert_eq!(verify_against(&old, &known).findings, [Finding::RolledBack { known_size: 600, size: 300 }]);
}

#[test]
fn a_log_rewritten_and_signed_again_is_named_by_the_known_checkpoint() {
    let known = checkpoint(&log_of(300));
    let rewritten = ModelStorage::default();
    let (mut writer, _) = open(&rewritten).expect("opens");
    for index in 0..400 {
        writer.append(&if index == 17 { b"something else".to_vec() } else { entry(index) }).expect("appends");
    }
    writer.checkpoint_now().expect("signs");
    assert!(verify(&rewritten).whole, "nothing in the log itself tells");
    assert_eq!(verify_against(&rewritten, &known).findings, [Finding::Rewritten { known_size: 300 }]);
    let other = SoftwareKey::from_seed("model.invalid/log", &[8; 32]);
    let forged = treeline_tlog::note::sign("model.invalid/log\n0\nAAAA\n", &other).expect("signs");
    let findings = verify_against(&rewritten, forged.as_bytes()).findings;
    assert!(matches!(findings[..], [Finding::KnownCheckpointForged { .. }]), "{findings:?}");
}

#[test]
fn unsigned_entries_and_moved_files_are_remarks() {
    let storage = log();
    let (mut writer, _) = open(&storage).expect("opens");
    for index in 600..630 {
        writer.append(&entry(index)).expect("appends");
    }
    writer.flush().expect("writes");
    drop(writer);
    storage.put("damaged/journal-behind-entry-3", b"x");
    let report = verify(&storage);
    assert!(report.whole, "{:?}", report.findings);
    let moved = Remark::MovedAside { path: "damaged/journal-behind-entry-3".to_owned() };
    assert_eq!(report.remarks, [Remark::UnsignedEntries { count: 30 }, moved]);
}

#[test]
fn a_damaged_unsigned_end_is_moved_aside_and_named() {
    let storage = log();
    let segment = storage.paths().into_iter().find(|p| p.starts_with("journal/")).expect("one");
    edit(&storage, &segment, |b| b.extend(b"torn by a crash"));
    let (writer, recovery) = open(&storage).expect("opens");
    assert_eq!(writer.size(), 600);
    assert_eq!(recovery.moved_aside, ["damaged/journal-behind-entry-600"]);
    assert_eq!(storage.bytes("damaged/journal-behind-entry-600").expect("there"), b"torn by a crash");
}

#[test]
fn damage_to_signed_entries_refuses_the_log_and_changes_nothing() {
    let damage = |damage: &dyn Fn(&ModelStorage), expect: &str| {
        let storage = log();
        let segment = storage.paths().into_iter().find(|p| p.starts_with("journal/")).expect("one");
        // Only the journal's entries are damaged in the tiles too: what is right in one place is enough.
        storage.take(&segment);
        damage(&storage);
        let before: Vec<_> = storage.paths().into_iter().map(|p| (storage.bytes(&p), p)).collect();
        let error = open(&storage).expect_err("damaged").to_string();
        assert!(error.contains(expect), "{error}");
        let after: Vec<_> = storage.paths().into_iter().map(|p| (storage.bytes(&p), p)).collect();
        assert!(before == after, "something was changed");
    };
    damage(&|log| edit(log, PARTIAL, |b| b[3] ^= 1), "not those that the checkpoint has signed");
    damage(&|log| drop(log.take(PARTIAL)), "signed 600 entries and only 512 are there");
    damage(&|log| edit(log, "tile/0/000", |b| b[3] ^= 1), "not those that the checkpoint has signed");
    damage(&|log| drop(log.take("checkpoint")), "somebody removed it");
    damage(&|log| edit(log, "checkpoint", |b| b[30] ^= 1), "not signed by this log's key");
}

#[test]
fn signed_entries_that_the_journal_has_lost_come_from_the_bundles() {
    let storage = log();
    let segment = storage.paths().into_iter().find(|p| p.starts_with("journal/")).expect("one");
    edit(&storage, &segment, |b| b.truncate(b.len() / 2));
    let (mut writer, recovery) = open(&storage).expect("opens");
    assert!(recovery.entries_from_bundles > 0, "{recovery:?}");
    assert_eq!((writer.size(), writer.append(b"next").expect("appends")), (600, 600));
    writer.checkpoint_now().expect("signs");
    assert!(verify(&storage).whole);
}

mod arbitrary {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Any bytes in place of any file: a finding or none, an error or none, and never a panic.
        #[test]
        fn no_bytes_in_any_file_panic(
            which: prop::sample::Index,
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            keep: bool,
            place: prop::sample::Index,
        ) {
            static LOG: std::sync::OnceLock<ModelStorage> = std::sync::OnceLock::new();
            let storage = LOG.get_or_init(|| log_of(300)).copy();
            let paths = storage.paths();
            let path = which.get(&paths).clone();
            let mut content = storage.bytes(&path).expect("there");
            let place = place.index(content.len() + 1);
            if keep {
                content.truncate(place);
                content.extend_from_slice(&bytes);
            } else {
                content = bytes;
            }
            storage.put(&path, &content);
            let _ = verify(&storage);
            let reader = crate::log::LogReader::on(Box::new(storage.clone()));
            let _ = reader.prove(7);
            let mut entries = reader.entries(0, crate::log::Extent::WithUnsigned);
            while let Ok(Some(_)) = entries.next_entry() {}
            let _ = open(&storage);
        }
    }
}
