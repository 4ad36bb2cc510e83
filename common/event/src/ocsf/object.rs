//! OCSF objects, borrowed from the model and written without copies.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::{Destination, Digest, FileRef, Image, PathBytes, Process, ProcessKey, SessionId, Timestamp};

/// Written by its `Display`.
pub(super) struct Text<T>(pub(super) T);

impl<T: fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

#[derive(Serialize)]
pub(super) struct User<'a> {
    uid: Text<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
}

#[derive(Serialize)]
struct Fingerprint {
    algorithm_id: u32,
    algorithm: &'static str,
    value: Text<Digest>,
}

#[derive(Serialize)]
pub(super) struct File<'a> {
    name: PathBytes,
    #[serde(skip_serializing_if = "is_empty")]
    path: &'a PathBytes,
    type_id: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    modified_time: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hashes: Option<[Fingerprint; 1]>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    is_deleted: bool,
}

fn is_empty(path: &&PathBytes) -> bool {
    path.is_empty()
}

const EXECUTABLE: u32 = 8;
const NANOS_PER_MILLI: u64 = 1_000_000;

impl<'a> File<'a> {
    fn image(image: &'a Image) -> Self {
        let sha256 = matches!(image.digest, Digest::Sha256(_));
        Self {
            name: image.path.file_name(),
            path: &image.path,
            type_id: EXECUTABLE,
            size: Some(image.file.size),
            modified_time: Some(image.file.mtime_ns / NANOS_PER_MILLI),
            hashes: sha256.then_some([Fingerprint {
                algorithm_id: 3,
                algorithm: "SHA-256",
                value: Text(image.digest),
            }]),
            is_deleted: image.unlinked,
        }
    }

    pub(super) fn reference(file: &'a FileRef) -> Self {
        Self {
            name: file.path.file_name(),
            path: &file.path,
            type_id: file.mode.map_or(0, type_id),
            size: file.id.map(|id| id.size),
            modified_time: file.id.map(|id| id.mtime_ns / NANOS_PER_MILLI),
            hashes: None,
            is_deleted: file.unlinked,
        }
    }
}

/// OCSF's file types by the type bits of `st_mode`.
fn type_id(mode: u32) -> u32 {
    match mode & 0o170_000 {
        0o100_000 => 1,
        0o040_000 => 2,
        0o020_000 => 3,
        0o060_000 => 4,
        0o140_000 => 5,
        0o010_000 => 6,
        0o120_000 => 7,
        _ => 0,
    }
}

/// Arguments joined as a shell would need them quoted; for reading, the model has the vector.
pub(super) struct CommandLine<'a>(pub(super) &'a [PathBytes]);

impl fmt::Display for CommandLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-+=.,/:@%".contains(byte) || *byte >= 0x80;
        for (at, argument) in self.0.iter().enumerate() {
            let space = if at == 0 { "" } else { " " };
            if !argument.is_empty() && argument.as_bytes().iter().all(plain) {
                write!(f, "{space}{argument}")?;
            } else {
                let quoted = argument.to_string().replace('\'', "'\\''");
                write!(f, "{space}'{quoted}'")?;
            }
        }
        Ok(())
    }
}

#[derive(Serialize)]
pub(super) struct ProcessObject<'a> {
    pid: u32,
    uid: Text<ProcessKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<PathBytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cmd_line: Option<Text<CommandLine<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<File<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<User<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_time: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_process: Option<Box<ProcessObject<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ancestry: Option<Vec<ProcessEntity<'a>>>,
}

#[derive(Serialize)]
struct ProcessEntity<'a> {
    pid: u32,
    uid: Text<ProcessKey>,
    #[serde(skip_serializing_if = "is_empty")]
    path: &'a PathBytes,
    created_time: u64,
}

impl<'a> ProcessObject<'a> {
    pub(super) fn known(process: &'a Process, time: Timestamp) -> Self {
        Self {
            name: Some(process.program.image.path.file_name()),
            file: Some(File::image(&process.program.image)),
            user: Some(User { uid: Text(process.uid), name: process.user.as_deref() }),
            created_time: Some(created_ms(process, time)),
            ..Self::key_only(process.key)
        }
    }

    pub(super) fn key_only(key: ProcessKey) -> Self {
        Self {
            pid: key.pid,
            uid: Text(key),
            name: None,
            cmd_line: None,
            file: None,
            user: None,
            created_time: None,
            parent_process: None,
            ancestry: None,
        }
    }

    /// What would have run, had it not been refused.
    pub(super) fn refused(process: &'a Process, file: &'a FileRef) -> Self {
        Self { file: Some(File::reference(file)), ..Self::key_only(process.key) }
    }

    pub(super) fn with_arguments(mut self, process: &'a Process) -> Self {
        self.cmd_line = Some(Text(CommandLine(&process.program.argv)));
        self
    }

    pub(super) fn with_ancestry(mut self, ancestry: &'a [std::sync::Arc<Process>], time: Timestamp) -> Self {
        self.parent_process = ancestry.first().map(|parent| Box::new(Self::known(parent, time)));
        let entity = |process: &'a std::sync::Arc<Process>| ProcessEntity {
            pid: process.key.pid,
            uid: Text(process.key),
            path: &process.program.image.path,
            created_time: created_ms(process, time),
        };
        self.ancestry = Some(ancestry.iter().map(entity).collect());
        self
    }
}

/// Wall clock of a process's creation, by the distance between the two clocks at the event.
fn created_ms(process: &Process, time: Timestamp) -> u64 {
    let age_ns = time.boot_ns.saturating_sub(process.started_ns);
    time.wall_ms.saturating_sub(age_ns / NANOS_PER_MILLI)
}

#[derive(Serialize)]
struct Session {
    uid: Text<SessionId>,
}

#[derive(Serialize)]
pub(super) struct Actor<'a> {
    process: ProcessObject<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<Session>,
}

impl<'a> Actor<'a> {
    pub(super) fn new(process: ProcessObject<'a>, session: Option<SessionId>) -> Self {
        Self { process, session: session.map(|id| Session { uid: Text(id) }) }
    }
}

#[derive(Serialize, Default)]
pub(super) struct Endpoint {
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<Text<std::net::IpAddr>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<Text<String>>,
}

impl From<&Destination> for Endpoint {
    fn from(to: &Destination) -> Self {
        let address = |ip, port| Self { ip: Some(Text(ip)), port: Some(port), name: None };
        let named = |name| Self { name: Some(Text(name)), ..Self::default() };
        match to {
            Destination::V4(ip, port) => address((*ip).into(), *port),
            Destination::V6(ip, port) => address((*ip).into(), *port),
            Destination::Unix(path) => named(format!("unix:{path}")),
            Destination::Abstract(name) => named(format!("unix:@{name}")),
            Destination::Socket(kind) => named(format!("socket:{kind}")),
        }
    }
}
