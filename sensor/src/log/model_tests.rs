//! The writer against a model, over a storage that fails at every one of its calls in turn.
//!
//! The model is a list of entries: those that `append` has accepted. Whatever fails, the log holds a prefix of it that
//! covers every checkpoint that was ever visible, byte for byte and once each.

use super::clock::Clock;
use super::error::{LogError, OpenError};
use super::key::SoftwareKey;
use super::model::{Fault, ModelStorage};
use super::reader::{Extent, LogReader};
use super::recovery::Recovery;
use super::verify::{Options, verify_on};
use super::writer::{Limits, LogWriter};

/// Small, so that few entries bring every kind of call.
const LIMITS: Limits =
    Limits { buffer_len_max: 200, unsigned_max: 40, segment_entries: 256, segment_len: 1 << 20 };

pub(super) struct FixedClock;

impl Clock for FixedClock {
    fn wall_ms(&self) -> u64 {
        1_700_000_000_000
    }

    fn boot(&self) -> &str {
        "01234567"
    }
}

pub(super) fn key() -> SoftwareKey {
    SoftwareKey::from_seed("model.invalid/log", &[7; 32])
}

pub(super) fn entry(index: usize) -> Vec<u8> {
    format!("entry {index} {}", "x".repeat(index % 23)).into_bytes()
}

pub(super) fn open(storage: &ModelStorage) -> Result<(LogWriter, Recovery), OpenError> {
    LogWriter::open_on(Box::new(storage.clone()), Box::new(key()), Box::new(FixedClock), LIMITS)
}

pub(super) fn entries(storage: &ModelStorage, extent: Extent) -> Vec<Vec<u8>> {
    let reader = LogReader::on(Box::new(storage.clone()));
    let mut cursor = reader.entries(0, extent);
    let mut entries = Vec::new();
    while let Some((index, entry)) = cursor.next_entry().expect("readable") {
        assert_eq!(index, entries.len() as u64);
        entries.push(entry.to_vec());
    }
    entries
}

/// A log of so many entries, all of them signed.
pub(super) fn log_of(count: usize) -> ModelStorage {
    let storage = ModelStorage::default();
    let (mut writer, recovery) = open(&storage).expect("opens");
    assert!(recovery.is_clean());
    for index in 0..count {
        assert_eq!(writer.append(&entry(index)).expect("appends"), index as u64);
    }
    assert_eq!(writer.checkpoint_now().expect("signs"), count as u64);
    storage
}

fn assert_whole(storage: &ModelStorage, context: &str) {
    let report = verify_on(storage, key().public(), &Options::default()).expect("readable");
    assert!(report.whole, "{context}: {:?}", report.findings);
}

/// Appends up to `until` entries, with checkpoints at some of them. What was accepted is in `accepted`, whatever fails.
fn drive(
    writer: &mut LogWriter,
    accepted: &mut Vec<Vec<u8>>,
    until: usize,
    signed: &mut u64,
) -> Result<(), LogError> {
    while accepted.len() < until {
        let next = entry(accepted.len());
        writer.append(&next)?;
        accepted.push(next);
        *signed = writer.signed_size().max(*signed);
        if accepted.len().is_multiple_of(7) {
            *signed = writer.checkpoint_now()?;
        }
    }
    *signed = writer.checkpoint_now()?;
    Ok(())
}

/// After a crash: everything that was signed is there, nothing twice, and the log goes on.
fn check_recovered(storage: &ModelStorage, accepted: &[Vec<u8>], signed: u64, context: &str) {
    let visible = LogReader::on(Box::new(storage.clone())).signed_size().expect("readable");
    assert!(visible >= signed, "{context}: signed {signed}, and only {visible} after the crash");
    let (mut writer, recovery) = open(storage).unwrap_or_else(|e| panic!("{context}: {e:?}"));
    let size = usize::try_from(writer.size()).expect("small");
    assert!(writer.size() >= visible && size <= accepted.len(), "{context}: {recovery:?}");
    if visible > 0 {
        assert_whole(storage, context);
    }
    assert!(entries(storage, Extent::WithUnsigned) == accepted[..size], "{context}: {recovery:?}");
    let mut expected = accepted[..size].to_vec();
    for index in 0..30 {
        expected.push(format!("after the crash {index}").into_bytes());
        writer.append(expected.last().expect("just pushed")).expect("appends");
    }
    writer.checkpoint_now().expect("signs");
    assert!(entries(storage, Extent::Signed) == expected, "{context}");
    assert_whole(storage, context);
    drop(writer);
    assert!(open(storage).expect("opens").1.is_clean(), "{context}: a clean log needs no recovery");
}

/// Fails the n-th call, for every n, in a run from the log of `from` entries to `until`.
fn every_call_fails(from: usize, until: usize, fault: Fault) {
    let base = if from == 0 { ModelStorage::default() } else { log_of(from) };
    let mut n = 0;
    loop {
        n += 1;
        let context = format!("{fault:?} at call {n}");
        let storage = base.copy();
        let mut accepted: Vec<Vec<u8>> = (0..from).map(entry).collect();
        let mut signed = from as u64;
        storage.fail_at(n, fault);
        let mut writer = open(&storage).map(|(writer, _)| writer);
        if fault == Fault::Die {
            if let Ok(writer) = &mut writer {
                let result = drive(writer, &mut accepted, until, &mut signed);
                assert!(result.is_ok() || storage.has_failed(), "{context}: {result:?}");
            }
            drop(writer);
            if !storage.has_failed() {
                break;
            }
            check_recovered(&storage.after_kill(), &accepted, signed, &format!("{context}, killed"));
            for seed in 0..2 {
                let context = format!("{context}, power lost, seed {seed}");
                check_recovered(
                    &storage.after_power_loss(seed * 1000 + n as u64),
                    &accepted,
                    signed,
                    &context,
                );
            }
            continue;
        }
        // One failure, after which everything works again. What comes of it depends on what the caller is told.
        for _ in 0..2 {
            let Ok(writer_now) = &mut writer else {
                writer = open(&storage).map(|(writer, _)| writer);
                continue;
            };
            match drive(writer_now, &mut accepted, until, &mut signed) {
                Ok(()) => break,
                Err(e) if e.needs_reopening() => {
                    let (reopened, _) = open(&storage).expect("opens");
                    // What was accepted and never flushed died with the writer; it was never signed.
                    let size = usize::try_from(reopened.size()).expect("small");
                    assert!(reopened.size() >= signed, "{context}");
                    accepted.truncate(size);
                    writer = Ok(reopened);
                }
                Err(_) => {}
            }
        }
        assert_eq!(accepted.len(), until, "{context}");
        assert!(entries(&storage, Extent::Signed) == accepted, "{context}");
        assert_whole(&storage, &context);
        drop(writer);
        if !storage.has_failed() {
            break;
        }
        check_recovered(&storage.after_power_loss(n as u64), &accepted, until as u64, &context);
    }
    assert!(n > 20, "the run made only {n} calls");
}

#[test]
fn a_refused_call_loses_nothing() {
    every_call_fails(0, 10, Fault::Refuse);
    every_call_fails(250, 264, Fault::Refuse);
}

#[test]
fn a_cut_write_loses_nothing() {
    every_call_fails(0, 10, Fault::Cut);
    every_call_fails(250, 264, Fault::Cut);
}

#[test]
fn a_crash_at_the_first_start_loses_nothing_signed() {
    every_call_fails(0, 20, Fault::Die);
}

#[test]
fn a_crash_in_a_grown_log_loses_nothing_signed() {
    every_call_fails(250, 264, Fault::Die);
}

#[test]
fn a_full_disk_is_said_and_appending_goes_on_when_there_is_room() {
    let storage = log_of(10);
    let (mut writer, _) = open(&storage).expect("opens");
    let before = storage.bytes("journal/00000000000000000000").expect("there");
    storage.fail_at(1, Fault::Cut);
    writer.append(b"taken while the disk was full").expect("fits the buffer");
    let error = writer.checkpoint_now().expect_err("no room");
    assert!(error.to_string().starts_with("the disk is full: cannot write to `journal/"), "{error}");
    assert_eq!(storage.bytes("journal/00000000000000000000"), Some(before), "no half entry remains");
    assert_eq!(writer.checkpoint_now().expect("there is room again"), 11);
    assert_eq!(entries(&storage, Extent::Signed)[10], b"taken while the disk was full");
}

#[test]
fn a_failed_sync_is_not_tried_again() {
    let storage = log_of(10);
    let (mut writer, _) = open(&storage).expect("opens");
    writer.append(b"entry").expect("appends");
    writer.flush().expect("writes");
    storage.fail_at(1, Fault::Refuse);
    assert!(writer.checkpoint_now().expect_err("the sync failed").needs_reopening());
    assert!(writer.append(b"another").expect_err("refused").needs_reopening());
    assert!(writer.checkpoint_now().expect_err("refused").needs_reopening());
    assert_eq!(open(&storage).expect("opens").0.size(), 11);
}

#[test]
fn an_entry_too_long_is_refused_with_the_bound() {
    let storage = ModelStorage::default();
    let (mut writer, _) = open(&storage).expect("opens");
    let error = writer.append(&vec![b'x'; 65_536]).expect_err("too long");
    assert_eq!(
        error.to_string(),
        "an entry of 65536 bytes is too long for the log; the bound is 65535 bytes"
    );
    assert_eq!(writer.append(&vec![b'x'; 65_535]).expect("fits"), 0);
    writer.checkpoint_now().expect("signs");
    assert_whole(&storage, "the longest entry");
}
