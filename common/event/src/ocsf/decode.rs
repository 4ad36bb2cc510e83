//! From the bytes of an entry to what it says.

use std::{borrow::Cow, sync::Arc};

use serde::Deserialize;
use thiserror::Error;

use super::{Ancestry, Cut, Entry, EntryBody, Link, Origin, VERSION};
use crate::{Action, Notice, Process, RuleHit, SessionId, Timestamp, Verdict};

/// Why bytes are not an entry.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// They are not a JSON object of the right shape.
    #[error("cannot read the entry as JSON of Treeline's shape")]
    Json(#[source] serde_json::Error),
    /// They were written by another version of the format.
    #[error("the entry has format version {0}, and this Treeline reads version {VERSION}: use a newer one")]
    Version(u32),
    /// Attributes that belong together do not.
    #[error("the entry contradicts itself: {0}")]
    Contradiction(&'static str),
}

/// Reads an entry. Unknown attributes are passed over: a newer sensor may add some within a version.
///
/// # Errors
/// Says what is wrong with the bytes; nothing of them was used.
pub fn decode(bytes: &[u8]) -> Result<Entry, DecodeError> {
    // Once in the usual case: of what cannot be read, another version may be the reason.
    let wire: Wire<'_> = serde_json::from_slice(bytes).map_err(|error| match version(bytes) {
        Some(version) if version != VERSION => DecodeError::Version(version),
        _ => DecodeError::Json(error),
    })?;
    if wire.unmapped.treeline.v != VERSION {
        return Err(DecodeError::Version(wire.unmapped.treeline.v));
    }
    let Wire { time, metadata, device, unmapped: Unmapped { treeline } } = wire;
    let uid = format!("{}:{}:{}", device.uid, treeline.epoch, metadata.sequence);
    if uid != metadata.uid {
        return Err(DecodeError::Contradiction("`metadata.uid` is not device, epoch and index"));
    }
    let (epoch, generation, session, cut) =
        (treeline.epoch, treeline.generation, treeline.session, treeline.cut);
    let time = Timestamp { boot_ns: treeline.boot_ns, wall_ms: time };
    let kind = treeline.kind.clone();
    let body = body(treeline)?;
    if body.kind() != kind {
        return Err(DecodeError::Contradiction("`kind` is not that of the action or notice"));
    }
    let origin = Origin {
        device: device.uid.into_owned(),
        epoch,
        boot_id: device.boot_uid.into_owned(),
        hostname: device.hostname.into_owned(),
        os_name: device.os.name.into_owned(),
        os_version: device.os.version.into_owned(),
        kernel: device.os.kernel_release.into_owned(),
        version: metadata.product.version.into_owned(),
    };
    Ok(Entry { origin, index: metadata.sequence, generation, time, session, body, cut })
}

/// The version of something that has one.
fn version(bytes: &[u8]) -> Option<u32> {
    serde_json::from_slice::<Probe>(bytes).ok().map(|probe| probe.unmapped.treeline.v)
}

fn body(extension: Extension<'_>) -> Result<EntryBody, DecodeError> {
    let Extension { verdict, rule, process, ancestry, links, action, notice, .. } = extension;
    match (action, notice) {
        (None, Some(notice)) => Ok(EntryBody::Notice(notice)),
        (Some(action), None) => {
            let (Some(process), Some(verdict)) = (process, verdict) else {
                return Err(DecodeError::Contradiction("an action without `process` or `verdict`"));
            };
            let ancestry = match (ancestry, links) {
                (Some(full), None) => Ancestry::Full(full),
                (None, Some(links)) => Ancestry::Links(links),
                _ => return Err(DecodeError::Contradiction("not exactly one of `ancestry` and `links`")),
            };
            Ok(EntryBody::Act { process, ancestry, action, verdict, rule: rule.map(Arc::new) })
        }
        _ => Err(DecodeError::Contradiction("not exactly one of `action` and `notice`")),
    }
}

#[derive(Deserialize)]
struct Probe {
    unmapped: ProbeUnmapped,
}

#[derive(Deserialize)]
struct ProbeUnmapped {
    treeline: ProbeExtension,
}

#[derive(Deserialize)]
struct ProbeExtension {
    v: u32,
}

#[derive(Deserialize)]
struct Wire<'a> {
    time: u64,
    #[serde(borrow)]
    metadata: Metadata<'a>,
    #[serde(borrow)]
    device: Device<'a>,
    #[serde(borrow)]
    unmapped: Unmapped<'a>,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow)]
    uid: Cow<'a, str>,
    sequence: u64,
    #[serde(borrow)]
    product: Product<'a>,
}

#[derive(Deserialize)]
struct Product<'a> {
    #[serde(borrow)]
    version: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Device<'a> {
    #[serde(borrow)]
    uid: Cow<'a, str>,
    #[serde(borrow)]
    hostname: Cow<'a, str>,
    #[serde(borrow)]
    boot_uid: Cow<'a, str>,
    #[serde(borrow)]
    os: Os<'a>,
}

#[derive(Deserialize)]
struct Os<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    version: Cow<'a, str>,
    #[serde(borrow)]
    kernel_release: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Unmapped<'a> {
    #[serde(borrow)]
    treeline: Extension<'a>,
}

#[derive(Deserialize)]
struct Extension<'a> {
    v: u32,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    epoch: u64,
    boot_ns: u64,
    generation: u64,
    session: Option<SessionId>,
    verdict: Option<Verdict>,
    rule: Option<RuleHit>,
    process: Option<Arc<Process>>,
    ancestry: Option<Vec<Arc<Process>>>,
    links: Option<Vec<Link>>,
    action: Option<Action>,
    notice: Option<Notice>,
    cut: Option<Cut>,
}
