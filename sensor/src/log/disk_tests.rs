//! The log on a real file system.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::model_tests::entry;
use super::{
    CHECKPOINT_INTERVAL, Extent, HEARTBEAT_INTERVAL, LogReader, LogWriter, OpenError, Options, SoftwareKey,
    SystemClock, verify,
};

fn open(dir: &Path) -> Result<LogWriter, OpenError> {
    let key = SoftwareKey::load_or_generate(dir).expect("a key");
    LogWriter::open(dir, Box::new(key), Box::new(SystemClock::new())).map(|(writer, _)| writer)
}

#[test]
fn a_second_writer_is_refused_and_the_lock_goes_with_the_first() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = open(dir.path()).expect("opens");
    let error = open(dir.path()).expect_err("locked");
    assert!(
        matches!(&error, OpenError::Locked { pid: Some(pid), .. } if *pid == std::process::id()),
        "{error}"
    );
    drop(first);
    open(dir.path()).expect("opens again");
}

#[test]
fn readers_see_what_is_signed_beside_the_writer_and_follow_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let key = SoftwareKey::load_or_generate(dir.path()).expect("a key");
    let mut writer = open(dir.path()).expect("opens");
    let reader = LogReader::open(dir.path());
    let mut signed = reader.entries(0, Extent::Signed);
    let mut all = reader.entries(0, Extent::WithUnsigned);
    for round in 0..12 {
        for index in round * 50..round * 50 + 50 {
            writer.append(&entry(index)).expect("appends");
        }
        writer.flush().expect("writes");
        for index in round * 50..round * 50 + 50 {
            assert_eq!(all.next_entry().expect("readable"), Some((index as u64, &entry(index)[..])));
        }
        assert_eq!(all.next_entry().expect("readable"), None);
        assert_eq!(signed.next_entry().expect("readable"), None);
        writer.checkpoint_now().expect("signs");
        for index in round * 50..round * 50 + 50 {
            assert_eq!(signed.next_entry().expect("readable"), Some((index as u64, &entry(index)[..])));
        }
        let report = verify(dir.path(), key.public(), &Options::default()).expect("readable");
        assert!(report.whole, "{:?}", report.findings);
    }
    let proof = reader.prove(571).expect("signed");
    assert_eq!(proof.verify(&entry(571), &key).map(|checkpoint| checkpoint.size), Ok(600));
    assert!(proof.verify(&entry(570), &key).is_err());
}

#[test]
fn nobody_else_can_read_the_log() {
    let parent = tempfile::tempdir().expect("a directory");
    let dir = parent.path().join("log");
    let mut writer = open(&dir).expect("opens");
    writer.append(b"entry").expect("appends");
    writer.checkpoint_now().expect("signs");
    for (path, mode) in
        [("", 0o700), ("checkpoint", 0o600), ("journal", 0o700), ("tile/entries/000.p/1", 0o600)]
    {
        assert_eq!(dir.join(path).metadata().expect("there").mode() & 0o777, mode, "{path}");
    }
}

#[test]
fn checkpoints_come_when_entries_wait_and_as_heartbeats() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut writer = open(dir.path()).expect("opens");
    let start = Instant::now();
    let mut due = |after: Duration, append: bool, expect: Option<u64>| {
        if append {
            writer.append(b"entry").expect("appends");
        }
        assert_eq!(writer.checkpoint_if_due(start + after).expect("works"), expect, "after {after:?}");
    };
    let tick = Duration::from_millis(1);
    due(Duration::ZERO, false, Some(0));
    due(tick, true, None);
    due(CHECKPOINT_INTERVAL - tick, true, None);
    due(CHECKPOINT_INTERVAL, false, Some(2));
    due(CHECKPOINT_INTERVAL + HEARTBEAT_INTERVAL - tick, false, None);
    due(CHECKPOINT_INTERVAL + HEARTBEAT_INTERVAL, false, Some(2));
    let epoch = LogReader::open(dir.path()).checkpoint().expect("readable").epoch();
    assert_eq!(epoch, Some(3), "checkpoints are counted without gaps");
}

#[test]
fn a_measurement_measures() {
    let dir = tempfile::tempdir().expect("a directory");
    let rates =
        super::bench::measure(&dir.path().join("log"), 3000, &mut super::bench::Bytes(100)).expect("works");
    assert!(rates.append_per_s > 0.0 && rates.verify_per_s > 0.0);
    let error = super::bench::measure(&dir.path().join("log"), 3000, &mut super::bench::Bytes(100))
        .expect_err("it is not empty");
    assert!(error.to_string().contains("is not empty"), "{error}");
}
