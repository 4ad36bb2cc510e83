//! From the bytes of an entry to what it says.

use std::{
    borrow::Cow,
    fmt::{self, Write as _},
    sync::Arc,
};

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
    wire.entry(|device, epoch, version| Arc::new(device.origin(epoch, version)))
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

/// What is read of an entry, in its own shape.
#[derive(Deserialize)]
pub(super) struct Wire<'a> {
    pub(super) time: u64,
    #[serde(borrow)]
    pub(super) metadata: Metadata<'a>,
    #[serde(borrow)]
    pub(super) device: Arc<Device<'a>>,
    #[serde(borrow)]
    pub(super) unmapped: Unmapped<'a>,
}

impl Wire<'_> {
    /// What it says, if that is of this version and of one mind. `origin` gives what is the same for many entries.
    pub(super) fn entry(
        self,
        origin: impl FnOnce(&Device<'_>, u64, &str) -> Arc<Origin>,
    ) -> Result<Entry, DecodeError> {
        let Self { time, metadata, device, unmapped: Unmapped { treeline } } = self;
        let Extension { v, epoch, boot_ns, generation, session, cut, .. } = treeline;
        if v != VERSION {
            return Err(DecodeError::Version(v));
        }
        if !is_written(&metadata.uid, format_args!("{}:{epoch}:{}", device.uid, metadata.sequence)) {
            return Err(DecodeError::Contradiction("`metadata.uid` is not device, epoch and index"));
        }
        let kind = treeline.kind.clone();
        let body = body(treeline)?;
        if body.kind() != kind {
            return Err(DecodeError::Contradiction("`kind` is not that of the action or notice"));
        }
        let origin = origin(&device, epoch, &metadata.product.version);
        let time = Timestamp { boot_ns, wall_ms: time };
        Ok(Entry { origin, index: metadata.sequence, generation, time, session, body, cut })
    }
}

/// Whether a text is what is written with these arguments.
fn is_written(text: &str, arguments: fmt::Arguments<'_>) -> bool {
    struct Rest<'a>(&'a str);

    impl fmt::Write for Rest<'_> {
        fn write_str(&mut self, part: &str) -> fmt::Result {
            self.0 = self.0.strip_prefix(part).ok_or(fmt::Error)?;
            Ok(())
        }
    }
    let mut rest = Rest(text);
    rest.write_fmt(arguments).is_ok() && rest.0.is_empty()
}

#[derive(Deserialize)]
pub(super) struct Metadata<'a> {
    #[serde(borrow)]
    pub(super) uid: Cow<'a, str>,
    pub(super) sequence: u64,
    #[serde(borrow)]
    pub(super) product: Arc<Product<'a>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Product<'a> {
    #[serde(borrow)]
    version: Cow<'a, str>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Device<'a> {
    #[serde(borrow)]
    uid: Cow<'a, str>,
    #[serde(borrow)]
    hostname: Cow<'a, str>,
    #[serde(borrow)]
    boot_uid: Cow<'a, str>,
    #[serde(borrow)]
    os: Os<'a>,
}

#[derive(Debug, Deserialize)]
struct Os<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    version: Cow<'a, str>,
    #[serde(borrow)]
    kernel_release: Cow<'a, str>,
}

impl Product<'_> {
    /// The same without the text that it was read from.
    pub(super) fn owned(self) -> Product<'static> {
        Product { version: self.version.into_owned().into() }
    }
}

impl Device<'_> {
    /// The same without the text that it was read from.
    pub(super) fn owned(self) -> Device<'static> {
        let Self { uid, hostname, boot_uid, os: Os { name, version, kernel_release } } = self;
        let owned = |text: Cow<'_, str>| text.into_owned().into();
        Device {
            uid: owned(uid),
            hostname: owned(hostname),
            boot_uid: owned(boot_uid),
            os: Os { name: owned(name), version: owned(version), kernel_release: owned(kernel_release) },
        }
    }

    /// As the origin of an entry, with what other attributes say of it.
    pub(super) fn origin(&self, epoch: u64, version: &str) -> Origin {
        let Self { uid, hostname, boot_uid, os } = self;
        let text = |text: &str| text.to_owned();
        Origin {
            device: text(uid),
            epoch,
            boot_id: text(boot_uid),
            hostname: text(hostname),
            os_name: text(&os.name),
            os_version: text(&os.version),
            kernel: text(&os.kernel_release),
            version: text(version),
        }
    }

    /// Whether that origin would be this one.
    pub(super) fn is(&self, epoch: u64, version: &str, origin: &Origin) -> bool {
        let Self { uid, hostname, boot_uid, os } = self;
        let Origin { device, epoch: of, boot_id, hostname: host, os_name, os_version, kernel, version: by } =
            origin;
        epoch == *of
            && (&**uid, &**hostname, &**boot_uid) == (&**device, &**host, &**boot_id)
            && (&*os.name, &*os.version, &*os.kernel_release) == (&**os_name, &**os_version, &**kernel)
            && version == by
    }
}

#[derive(Deserialize)]
pub(super) struct Unmapped<'a> {
    #[serde(borrow)]
    pub(super) treeline: Extension<'a>,
}

#[derive(Deserialize)]
pub(super) struct Extension<'a> {
    pub(super) v: u32,
    #[serde(borrow)]
    pub(super) kind: Cow<'a, str>,
    pub(super) epoch: u64,
    pub(super) boot_ns: u64,
    pub(super) generation: u64,
    pub(super) session: Option<SessionId>,
    pub(super) verdict: Option<Verdict>,
    pub(super) rule: Option<RuleHit>,
    pub(super) process: Option<Arc<Process>>,
    pub(super) ancestry: Option<Vec<Arc<Process>>>,
    pub(super) links: Option<Arc<[Link]>>,
    pub(super) action: Option<Action>,
    pub(super) notice: Option<Notice>,
    pub(super) cut: Option<Cut>,
}
