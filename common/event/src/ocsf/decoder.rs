//! Reading many entries, one after the other.
//!
//! An entry says in full who acted, and the next one, by the same process, says it again: of a log of a million opens nine
//! tenths are texts that were there before. These are compared with what was read last, which is some ten times as fast as
//! reading them.
//!
//! Invariant: the answer is that of [`decode`], of which this is a faster way for what [`encode`](super::encode) writes.
//! Whatever is written otherwise, and whatever is wrong, is left to `decode`.

use std::sync::Arc;

use serde::de::IgnoredAny;

use super::{
    DecodeError, Entry, Link, Origin,
    cursor::Cursor,
    decode::{Device, Extension, Metadata, Product, Unmapped, Wire, decode},
    known::Known,
};
use crate::Process;

/// Reads entries. Memory is bounded, whatever they are: it is below 1 MiB for a usual log.
#[derive(Debug)]
pub struct Decoder {
    origin: Option<Arc<Origin>>,
    processes: Known<Arc<Process>>,
    links: Known<Arc<[Link]>>,
    devices: Known<Arc<Device<'static>>>,
    products: Known<Arc<Product<'static>>>,
    /// Attributes that are for others: that they are JSON is all that is asked.
    passed: Known<()>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            origin: None,
            processes: Known::new(),
            links: Known::new(),
            devices: Known::new(),
            products: Known::new(),
            passed: Known::new(),
        }
    }
}

impl Decoder {
    /// Reads an entry, as [`decode`] does.
    ///
    /// # Errors
    /// Those of [`decode`].
    pub fn decode(&mut self, bytes: &[u8]) -> Result<Entry, DecodeError> {
        let Some(wire) = self.wire(bytes) else { return decode(bytes) };
        let last = &mut self.origin;
        wire.entry(|device, epoch, version| match last {
            Some(origin) if device.is(epoch, version, origin) => Arc::clone(origin),
            _ => Arc::clone(last.insert(Arc::new(device.origin(epoch, version)))),
        })
    }

    fn wire<'a>(&mut self, bytes: &'a [u8]) -> Option<Wire<'a>> {
        let (mut time, mut metadata, mut device, mut unmapped) = (None, None, None, None);
        let mut cursor = Cursor::new(bytes);
        cursor.object(|cursor, name| match name {
            b"time" => once(&mut time, cursor.value()),
            b"metadata" => once(&mut metadata, self.metadata(cursor)),
            b"device" => once(&mut device, self.device(cursor)),
            b"unmapped" => once(&mut unmapped, self.unmapped(cursor)),
            _ => self.pass(cursor),
        })?;
        let is_all = cursor.rest().is_empty();
        is_all.then_some(Wire { time: time?, metadata: metadata?, device: device?, unmapped: unmapped? })
    }

    fn metadata<'a>(&mut self, cursor: &mut Cursor<'a>) -> Option<Metadata<'a>> {
        let (mut uid, mut sequence, mut product) = (None, None, None);
        cursor.object(|cursor, name| match name {
            b"uid" => once(&mut uid, cursor.value::<&str>()),
            b"sequence" => once(&mut sequence, cursor.value()),
            b"product" => once(&mut product, self.product(cursor)),
            _ => self.pass(cursor),
        })?;
        Some(Metadata { uid: uid?.into(), sequence: sequence?, product: product? })
    }

    fn product(&mut self, cursor: &mut Cursor<'_>) -> Option<Arc<Product<'static>>> {
        known(&mut self.products, cursor, |cursor| Some(Arc::new(cursor.value::<Product<'_>>()?.owned())))
    }

    fn device(&mut self, cursor: &mut Cursor<'_>) -> Option<Arc<Device<'static>>> {
        known(&mut self.devices, cursor, |cursor| Some(Arc::new(cursor.value::<Device<'_>>()?.owned())))
    }

    fn unmapped<'a>(&mut self, cursor: &mut Cursor<'a>) -> Option<Unmapped<'a>> {
        let mut treeline = None;
        cursor.object(|cursor, name| match name {
            b"treeline" => once(&mut treeline, self.extension(cursor)),
            _ => self.pass(cursor),
        })?;
        Some(Unmapped { treeline: treeline? })
    }

    fn extension<'a>(&mut self, cursor: &mut Cursor<'a>) -> Option<Extension<'a>> {
        let (mut v, mut kind, mut epoch, mut boot_ns, mut generation) = (None, None, None, None, None);
        let (mut session, mut verdict, mut rule, mut process) = (None, None, None, None);
        let (mut ancestry, mut links, mut action, mut notice, mut cut) = (None, None, None, None, None);
        cursor.object(|cursor, name| match name {
            b"v" => once(&mut v, cursor.value()),
            b"kind" => once(&mut kind, cursor.value::<&str>()),
            b"epoch" => once(&mut epoch, cursor.value()),
            b"boot_ns" => once(&mut boot_ns, cursor.value()),
            b"generation" => once(&mut generation, cursor.value()),
            b"session" => once(&mut session, cursor.value()),
            b"verdict" => once(&mut verdict, cursor.value()),
            b"rule" => once(&mut rule, cursor.value()),
            b"process" => once(&mut process, self.process(cursor)),
            b"ancestry" => once(&mut ancestry, self.ancestry(cursor)),
            b"links" => once(&mut links, known(&mut self.links, cursor, Cursor::value)),
            b"action" => once(&mut action, cursor.value()),
            b"notice" => once(&mut notice, cursor.value()),
            b"cut" => once(&mut cut, cursor.value()),
            _ => self.pass(cursor),
        })?;
        let (v, kind, epoch, boot_ns, generation) = (v?, kind?.into(), epoch?, boot_ns?, generation?);
        Some(Extension {
            v,
            kind,
            epoch,
            boot_ns,
            generation,
            session,
            verdict,
            rule,
            process,
            ancestry,
            links,
            action,
            notice,
            cut,
        })
    }

    fn process(&mut self, cursor: &mut Cursor<'_>) -> Option<Arc<Process>> {
        known(&mut self.processes, cursor, Cursor::value)
    }

    /// A chain of processes, most of which have acted themselves.
    fn ancestry(&mut self, cursor: &mut Cursor<'_>) -> Option<Vec<Arc<Process>>> {
        let mut steps = Vec::new();
        cursor.array(|cursor| {
            steps.push(self.process(cursor)?);
            Some(())
        })?;
        Some(steps)
    }

    fn pass(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        known(&mut self.passed, cursor, |cursor| cursor.value::<IgnoredAny>().map(drop))
    }
}

/// Takes the value of a field. A second one of the same name is an error, as is one that cannot be read.
fn once<T>(field: &mut Option<T>, value: Option<T>) -> Option<()> {
    if field.is_some() {
        return None;
    }
    *field = value;
    field.is_some().then_some(())
}

/// The next value, from what is known or else by `read`.
fn known<'a, T: Clone>(
    known: &mut Known<T>,
    cursor: &mut Cursor<'a>,
    read: impl FnOnce(&mut Cursor<'a>) -> Option<T>,
) -> Option<T> {
    let mut ahead = *cursor;
    let (value, len) = known.get(cursor.rest(), || {
        let value = read(&mut ahead)?;
        Some((value, cursor.rest().len() - ahead.rest().len()))
    })?;
    cursor.skip(len);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Action, Body, EntryBody, Event, FileRef, Meta, Notice, ProcessKey, SessionId, Subject, Timestamp,
        Verdict, encode, ocsf::Ancestry,
    };

    fn stored(body: Body, index: u64) -> Vec<u8> {
        let (time, session) = (Timestamp::default(), Some(SessionId(1)));
        let mut bytes = Vec::new();
        let meta = Meta { origin: &Origin::default(), index, generation: 1 };
        encode(&Event { time, session, body }, &meta, &mut bytes);
        bytes
    }

    fn act(action: Action) -> Body {
        let process =
            |pid| Arc::new(Process { key: ProcessKey { pid, start_ticks: 1 }, ..Process::default() });
        let subject = Subject { process: process(2), ancestry: vec![process(1)] };
        Body::Act { subject, action, verdict: Verdict::Allow, rule: None }
    }

    #[test]
    fn what_is_said_again_is_read_once() {
        let deleted = || act(Action::Delete { file: FileRef::default(), outcome: crate::Outcome::Ok });
        let bodies = [deleted(), act(Action::Exec), deleted(), act(Action::Exec)];
        let mut decoder = Decoder::default();
        let mut parts = bodies.into_iter().zip(0..).map(|(body, index)| {
            let entry = decoder.decode(&stored(body, index)).expect("an entry");
            let EntryBody::Act { process, ancestry, .. } = entry.body else { panic!("an act") };
            (entry.origin, process, ancestry)
        });
        let mut next = || parts.next().expect("four");
        let (one, exec, other, again) = (next(), next(), next(), next());
        for (origin, process, _) in [&exec, &other, &again] {
            assert!(Arc::ptr_eq(origin, &one.0) && Arc::ptr_eq(process, &one.1));
        }
        let (Ancestry::Links(links), Ancestry::Links(same)) = (one.2, other.2) else { panic!("links") };
        assert!(Arc::ptr_eq(&links, &same));
        let (Ancestry::Full(steps), Ancestry::Full(same)) = (exec.2, again.2) else { panic!("in full") };
        assert!(Arc::ptr_eq(&steps[0], &same[0]));
    }

    #[test]
    fn what_the_encoder_writes_needs_no_second_reading() {
        let notice = Body::Notice(Notice::SessionEnded { session: SessionId(1) });
        for body in [act(Action::Exec), act(Action::Exit { code: None, signal: None }), notice] {
            let bytes = stored(body, 1);
            assert!(Decoder::default().wire(&bytes).is_some(), "{}", String::from_utf8_lossy(&bytes));
        }
    }
}
