//! What was done, by whom and how often.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use treeline_event::{PathBytes, SessionId};

use super::{Kind, few::Few};
use crate::{eval::destinations, policy::FileOperation, replay::Who, request::Object};

/// Sessions that are told apart by what was done in them.
const SESSIONS_MAX: usize = 32;
/// Programs that are told apart by what they did.
const PROGRAMS_MAX: usize = 8;

/// The executable of who acts; none where it is not surely known.
pub(super) type Program = Option<Arc<[u8]>>;

/// What a rule that allows can be about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Thing {
    File(Vec<u8>, u32),
    Exec(Vec<u8>),
    Address(IpAddr, u16),
    Unix(Vec<u8>),
    Abstract(Vec<u8>),
    /// A socket that does not say where it leads. No rule allows it.
    Nowhere,
}

impl Thing {
    /// What an object is, taken for what is connected to; nothing for objects that no default is about.
    pub(super) fn of(object: &Object) -> Vec<Self> {
        vec![match object {
            Object::File { path, operation } => Self::File(path.clone(), 1 << *operation as u32),
            Object::Exec { path, .. } => Self::Exec(path.clone()),
            Object::Connect { address, port } => {
                return destinations(*address).map(|address| Self::Address(address, *port)).collect();
            }
            Object::ConnectUnix { path } => Self::Unix(path.clone()),
            Object::ConnectAbstract { name } => Self::Abstract(name.clone()),
            Object::RawSocket => Self::Nowhere,
            Object::Trace | Object::Tool(_) | Object::Mcp(_) | Object::Posture(_) => return Vec::new(),
        }]
    }

    /// As the object of a request.
    pub(super) fn object(&self) -> Object {
        match self {
            Self::File(path, operations) => {
                let mut words = FileOperation::WORDS.into_iter().map(|(_, operation)| operation);
                let operation =
                    words.find(|one| 1 << *one as u32 == *operations).unwrap_or(FileOperation::Write);
                Object::File { path: path.clone(), operation }
            }
            Self::Exec(path) => Object::Exec { path: path.clone(), sha256: None },
            Self::Address(address, port) => Object::Connect { address: *address, port: *port },
            Self::Unix(path) => Object::ConnectUnix { path: path.clone() },
            Self::Abstract(name) => Object::ConnectAbstract { name: name.clone() },
            Self::Nowhere => Object::RawSocket,
        }
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::File(_, operations) if *operations == READ => Kind::Read,
            Self::File(..) => Kind::Write,
            Self::Exec(_) => Kind::Exec,
            Self::Address(..) | Self::Nowhere => Kind::Connect,
            Self::Unix(_) | Self::Abstract(_) => Kind::Unix,
        }
    }

    /// The path, where it is one.
    pub(super) fn path(&self) -> Option<&[u8]> {
        match self {
            Self::File(path, _) | Self::Exec(path) | Self::Unix(path) => Some(path),
            Self::Address(..) | Self::Abstract(_) | Self::Nowhere => None,
        }
    }

    /// The operations that a rule about files has to have.
    pub(super) fn operations(&self) -> u32 {
        if let Self::File(_, operations) = self { *operations } else { 0 }
    }

    /// In words, for people.
    pub(super) fn text(&self) -> String {
        match self {
            Self::File(path, _) | Self::Exec(path) | Self::Unix(path) => {
                PathBytes::from(path.as_slice()).to_string()
            }
            Self::Address(IpAddr::V6(address), port) => format!("[{address}]:{port}"),
            Self::Address(address, port) => format!("{address}:{port}"),
            Self::Abstract(name) => format!("@{}", PathBytes::from(name.as_slice())),
            Self::Nowhere => "a socket that does not say where it leads".to_owned(),
        }
    }
}

/// The bit of reading.
pub(super) const READ: u32 = 1 << FileOperation::Read as u32;

/// One thing that was done by one program.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Act {
    pub(super) thing: Thing,
    pub(super) by: Program,
}

/// Who acts, as far as a rule that allows can ask for it.
pub(super) fn program(who: &Who) -> Program {
    let path = who.sure_executable().map(PathBytes::as_bytes);
    path.filter(|path| path.first() == Some(&b'/')).map(Into::into)
}

/// How often, in which sessions, and by whom.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub(super) times: u64,
    pub(super) sessions: Few<SessionId, SESSIONS_MAX>,
    pub(super) programs: Few<Arc<[u8]>, PROGRAMS_MAX>,
    /// Also by somebody who is not surely known.
    pub(super) by_unknown: bool,
    pub(super) operations: u32,
    /// One of the things; the first in their order.
    pub(super) example: Option<Thing>,
    /// How many different things.
    pub(super) things: usize,
}

impl Facts {
    /// What is known of one act.
    pub(super) fn of(act: &Act, Known { times, sessions, .. }: &Known) -> Self {
        let mut programs = Few::default();
        act.by.iter().for_each(|by| programs.add(Arc::clone(by)));
        Self {
            times: *times,
            sessions: sessions.clone(),
            programs,
            by_unknown: act.by.is_none(),
            operations: act.thing.operations(),
            example: Some(act.thing.clone()),
            things: 1,
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.times = self.times.saturating_add(other.times);
        self.sessions.merge(&other.sessions);
        self.programs.merge(&other.programs);
        self.by_unknown |= other.by_unknown;
        self.operations |= other.operations;
        self.things += other.things;
        self.example = match (self.example.take(), &other.example) {
            (Some(one), Some(other)) => Some(one.min(other.clone())),
            (one, other) => one.or(other.clone()),
        };
    }

    /// The one program that did it.
    pub(super) fn sole_program(&self) -> Option<&Arc<[u8]>> {
        self.programs.one().filter(|_| !self.by_unknown)
    }
}

/// Sessions, as many as are told apart.
pub(super) type Sessions = Few<SessionId, SESSIONS_MAX>;

/// What is known of an act.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) times: u64,
    pub(super) sessions: Sessions,
    /// The rule that keeps others from it, by its place: who did it has an exception.
    pub(super) kept_from_others: Option<usize>,
}

/// Everything that was done.
pub(super) type Acts = BTreeMap<Act, Known>;
