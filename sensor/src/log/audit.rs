//! Verification of what surrounds the entries: files that do not belong, and what is only remarked.

use std::io;

use treeline_tlog::tile::{LEVEL_MAX, TileKind, parse_path, width_at};
use treeline_tlog::{Tile, bundle_path, tile_path};

use super::error::ReadError;
use super::journal::{self, SegmentReader};
use super::recovery::DAMAGED_DIR;
use super::report::{FINDINGS_MAX, Finding, Remark, Report};
use super::storage::Source;

/// The longest path below `tile/`: eight groups of three digits, a level, a width.
const DEPTH_MAX: usize = 12;

/// What was read in place of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Neither the file nor one that begins with it.
    Nothing,
    /// The file itself.
    Exactly,
    /// One that begins with it.
    Wider,
}

/// Reads a partial tile or bundle, or one that begins with it: the writer replaces them at each checkpoint.
///
/// A file that is too long is cut behind the bound, which its readers notice.
pub(super) fn read_at_least(
    source: &dyn Source,
    path: &str,
    len_max: usize,
    into: &mut Vec<u8>,
) -> Result<Found, ReadError> {
    let mut candidates = vec![path.to_owned()];
    if let Some((full, width)) = path.split_once(".p/") {
        candidates.push(full.to_owned());
        let width: u16 = width.parse().unwrap_or(0);
        let dir = format!("{full}.p");
        let names = source.list(&dir).map_err(|source| ReadError::Io { path: dir.clone(), source })?;
        let wider = names.iter().filter(|name| name.parse().is_ok_and(|there: u16| there > width));
        candidates.extend(wider.map(|name| format!("{dir}/{name}")));
        // The writer may have filled the tile since the full one was looked for.
        candidates.push(full.to_owned());
    }
    for candidate in candidates {
        match source.read_at(&candidate, 0, len_max + 1, into) {
            Ok(()) => return Ok(if candidate == path { Found::Exactly } else { Found::Wider }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(ReadError::Io { path: candidate, source }),
        }
    }
    into.clear();
    Ok(Found::Nothing)
}

/// Looks through `tile/`, the journal and what recoveries moved aside.
pub(super) fn files(source: &dyn Source, signed_size: u64, report: &mut Report) -> Result<(), ReadError> {
    let mut paths = Vec::new();
    walk(source, "tile", 0, &mut paths)?;
    // After the walk: whatever a writer at work has just made, its journal has by now.
    let end = journal_end(source, signed_size)?;
    for path in paths {
        if report.findings.len() > FINDINGS_MAX {
            break;
        }
        if !belongs(source, &path, signed_size, end)? {
            report.findings.push(Finding::FileUnexpected { path });
        }
    }
    if end > signed_size {
        report.remarks.push(Remark::UnsignedEntries { count: end - signed_size });
    }
    let moved = source.list(DAMAGED_DIR);
    for name in moved.map_err(|source| ReadError::Io { path: DAMAGED_DIR.to_owned(), source })? {
        report.remarks.push(Remark::MovedAside { path: format!("{DAMAGED_DIR}/{name}") });
    }
    Ok(())
}

fn walk(source: &dyn Source, dir: &str, depth: usize, paths: &mut Vec<String>) -> Result<(), ReadError> {
    for name in source.list(dir).map_err(|source| ReadError::Io { path: dir.to_owned(), source })? {
        let path = format!("{dir}/{name}");
        let is_dir = depth < DEPTH_MAX && (depth == 0 || name.starts_with('x') || name.ends_with(".p"));
        if is_dir && parse_path(&path).is_none() {
            match walk(source, &path, depth + 1, paths) {
                Ok(()) => {}
                // It has the name of a directory and is a file.
                Err(ReadError::Io { source, .. }) if source.kind() == io::ErrorKind::NotADirectory => {
                    paths.push(path);
                }
                Err(e) => return Err(e),
            }
        } else {
            paths.push(path);
        }
    }
    Ok(())
}

/// Whether a file belongs to a log of `end` entries, of which `signed_size` are signed.
fn belongs(source: &dyn Source, path: &str, signed_size: u64, end: u64) -> Result<bool, ReadError> {
    let (width, level, index, whole) = match parse_path(path) {
        Some(TileKind::Hashes(tile)) if tile.level <= LEVEL_MAX => {
            let width = width_at(signed_size.max(end), tile.level, tile.index);
            (tile.width, tile.level, tile.index, tile_path(Tile { width: width.max(1), ..tile }))
        }
        Some(TileKind::Entries { index, width }) => {
            (width, 0, index, bundle_path(index, width_at(signed_size.max(end), 0, index).max(1)))
        }
        _ => return Ok(false),
    };
    if width > width_at(signed_size.max(end), level, index) {
        return Ok(false);
    }
    if width == 256 || width == width_at(signed_size, level, index) {
        // The signed ones have been read with the entries.
        return Ok(true);
    }
    // A partial tile of an earlier checkpoint: the later one has to begin with it.
    let (mut earlier, mut later) = (Vec::new(), Vec::new());
    let len_max = treeline_tlog::bundle::BUNDLE_LEN_MAX;
    match source.read_at(path, 0, len_max, &mut earlier) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(source) => return Err(ReadError::Io { path: path.to_owned(), source }),
    }
    let found = read_at_least(source, &whole, len_max, &mut later)?;
    Ok(found == Found::Nothing || later.starts_with(&earlier))
}

/// Entries that the journal goes up to.
fn journal_end(source: &dyn Source, signed_size: u64) -> Result<u64, ReadError> {
    let failed = |source| ReadError::Io { path: journal::DIR.to_owned(), source };
    let mut end = signed_size;
    for first in journal::segments(source).map_err(failed)? {
        let mut reader = match SegmentReader::open(source, first) {
            Ok(Some(reader)) => reader,
            Ok(None) => continue,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(failed(e)),
        };
        loop {
            match reader.next(source) {
                Ok(Some(_)) => {}
                Ok(None) => break,
                // The writer ended the segment; the next one has its entries.
                Err(e) if e.kind() == io::ErrorKind::NotFound => break,
                Err(e) => return Err(failed(e)),
            }
        }
        end = end.max(reader.index());
    }
    Ok(end)
}
