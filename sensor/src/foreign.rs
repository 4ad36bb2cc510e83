//! The readers of bytes that others wrote, as functions of those bytes.
//!
//! Each belongs to the module that uses it and is no interface of the sensor. They are gathered here for the fuzz targets
//! alone, which stand outside of this crate.

use std::os::unix::fs::FileExt;

use treeline_event::PathBytes;

use crate::{
    backend::{
        Observation,
        linux::{decode, mounts},
    },
    enrich::{
        hash,
        procfs::{self, Ids, Stat},
    },
};

/// A record of the kernel programs, as it is read while nothing is mounted.
///
/// # Errors
/// What is wrong with it.
pub fn ring_record(record: &[u8]) -> Result<Observation, String> {
    decode::Decoder::default().decode(record)
}

/// Where `path` lies by a mountinfo of /proc: the device, the path below that filesystem's root, and what this place is
/// called again. None when it is nowhere.
///
/// # Errors
/// The line that is malformed.
pub fn mountinfo(text: &[u8], path: &[u8]) -> Result<Option<(u32, Vec<u8>, PathBytes)>, String> {
    let table = mounts::MountTable::parse(text)?;
    Ok(table.locate(path).map(|(device, inner)| {
        let canonical = table.canonical(device, &inner);
        (device, inner, canonical)
    }))
}

/// /proc/PID/stat.
#[must_use]
pub fn stat(bytes: &[u8]) -> Option<Stat> {
    procfs::parse_stat(bytes)
}

/// The ids in /proc/PID/status.
#[must_use]
pub fn ids(bytes: &[u8]) -> Option<Ids> {
    procfs::parse_ids(bytes)
}

/// /proc/PID/cmdline, and whether it was cut.
#[must_use]
pub fn argv(bytes: &[u8]) -> (Vec<PathBytes>, bool) {
    procfs::parse_argv(bytes)
}

/// The GNU build-id of an executable.
pub fn build_id(file: &impl FileExt) -> Option<String> {
    hash::build_id(file)
}
