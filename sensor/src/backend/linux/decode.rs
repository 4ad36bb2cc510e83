//! From a ring record to an observation. A record is foreign bytes: nothing in it is trusted to be in bounds.

use std::net::{Ipv4Addr, Ipv6Addr};

use treeline_abi::{
    Header, Kind,
    paths::FileKey,
    record::{DEVICE_PREFIX_LEN, Flags, PARTS},
};
use treeline_event::{
    Action, AdoptedBy, Destination, FileId, FileRef, OpenFlags, Outcome, PathBytes, ProcessKey, SessionId,
    SocketKind, Tampering, Verdict,
};
use zerocopy::FromBytes;

use super::mounts::MountTable;
use crate::{
    backend::{ExecSeen, FileSeen, Observation, Seen},
    enrich::markers,
};

/// `CLOCK_BOOTTIME` of a record; 0 for one that is too short.
pub(super) fn time_of(record: &[u8]) -> u64 {
    Header::read_from_prefix(record).map_or(0, |(header, _)| header.time_ns)
}

/// Decodes records with the mount table of the moment.
#[derive(Default)]
pub(crate) struct Decoder {
    pub(super) mounts: MountTable,
}

/// A record whose parts are known to be in bounds.
struct Parts<'r> {
    header: Header,
    parts: [&'r [u8]; PARTS],
}

impl Decoder {
    /// Decodes one record.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn decode(&self, record: &[u8]) -> Result<Observation, String> {
        let record = split(record)?;
        let header = &record.header;
        let kind = Kind::from_number(header.kind).ok_or_else(|| format!("unknown kind {}", header.kind))?;
        if header.session == 0 {
            return Err(format!("{kind:?} record without a session"));
        }
        let verdict = match header.verdict {
            0 => Verdict::Allow,
            1 => Verdict::Audit,
            2 => Verdict::Deny,
            other => return Err(format!("{kind:?} record with verdict {other}")),
        };
        Ok(Observation {
            time_ns: header.time_ns,
            session: SessionId(header.session),
            subject: ProcessKey::from_nanos(header.pid, header.start_ns),
            subject_start_ns: header.start_ns,
            tid: header.tid,
            verdict,
            rule: header.rule.checked_sub(1),
            approved: verdict == Verdict::Audit && header.flags & Flags::APPROVED != 0,
            generation: header.generation,
            seen: self.seen(kind, &record)?,
        })
    }

    fn seen(&self, kind: Kind, record: &Parts<'_>) -> Result<Seen, String> {
        let header = &record.header;
        let outcome = outcome(header);
        let action = match kind {
            Kind::Fork => {
                let child = ProcessKey::from_nanos(header.peer_pid, header.peer_start_ns);
                return Ok(Seen::Fork { child, child_start_ns: header.peer_start_ns });
            }
            Kind::Exec => return Ok(Seen::Exec(Box::new(self.exec(record)?))),
            Kind::Exit => return Ok(Seen::Exit { wait_status: header.detail }),
            Kind::Open => Action::Open {
                file: self.object(record)?,
                flags: OpenFlags(header.detail),
                outcome,
                count: 1,
            },
            Kind::Create => Action::Create {
                file: self.object(record)?,
                target: (header.flags & Flags::SYMLINK != 0).then(|| record.parts[2].into()),
                outcome,
            },
            Kind::Delete => Action::Delete { file: self.object(record)?, outcome },
            Kind::Modify => Action::Modify { file: self.object(record)?, outcome },
            Kind::Mount => {
                let source = record.parts[2].into();
                Action::Mount { at: self.object(record)?, source, outcome }
            }
            Kind::Receive => {
                Action::Receive { file: self.object(record)?, flags: OpenFlags(header.detail), outcome }
            }
            Kind::Rename => Action::Rename { from: self.object(record)?, to: self.second(record)?, outcome },
            Kind::Link => Action::Link { from: self.object(record)?, to: self.second(record)?, outcome },
            Kind::Connect => Action::Connect { to: self.destination(record)?, outcome },
            Kind::Map => Action::Map { file: self.object(record)?, outcome },
            Kind::Tamper => tamper(header)?,
            Kind::Trace => Action::Trace {
                target: ProcessKey::from_nanos(header.peer_pid, header.peer_start_ns),
                mode: header.detail,
                outcome,
            },
            Kind::Adopt => self.adopted(record)?,
            Kind::ExecDenied => Action::ExecDenied { file: self.object(record)? },
        };
        Ok(Seen::Act(Box::new(action)))
    }

    fn adopted(&self, record: &Parts<'_>) -> Result<Action, String> {
        use treeline_abi::record::Link as By;
        let header = &record.header;
        let by = ProcessKey::from_nanos(header.peer_pid, header.peer_start_ns);
        let (link, client, file) = match By::from_number(header.detail) {
            Some(By::Connection) => {
                let (ip, port) = (Ipv6Addr::from(header.address), header.port as u16);
                let client = match ip.to_ipv4_mapped() {
                    Some(ip) => Destination::V4(ip, port),
                    None => Destination::V6(ip, port),
                };
                (AdoptedBy::Connection, Some(client), None)
            }
            Some(By::Job) => (AdoptedBy::Job, None, Some(self.object(record)?)),
            Some(By::Trace) => (AdoptedBy::Trace, None, None),
            None => return Err(format!("adoption of kind {}", header.detail)),
        };
        Ok(Action::Adopt { link, by, client, file })
    }

    fn exec(&self, record: &Parts<'_>) -> Result<ExecSeen, String> {
        let header = &record.header;
        let image = FileSeen {
            path: self.resolved(record.parts[0])?,
            id: file_id(&header.file, header.mtime_ns),
            unlinked: header.flags & Flags::UNLINKED != 0,
        };
        Ok(ExecSeen {
            image,
            script: None,
            interpreter_name: record.parts[5].into(),
            name_given: record.parts[1].into(),
            cwd: self.resolved(record.parts[2])?,
            argv: arguments(record.parts[3]),
            argv_cut: header.flags & Flags::CUT_ARGV != 0,
            env: markers::parse(record.parts[4]),
            loader_env: header.flags & Flags::LOADER_ENV != 0,
            uid: header.uid,
            euid: header.euid,
            gid: header.gid,
            tty: header.tty,
        })
    }

    /// The first (or only) object of a record.
    fn object(&self, record: &Parts<'_>) -> Result<FileRef, String> {
        let header = &record.header;
        let reached = header.file.inode != 0;
        Ok(FileRef {
            path: self.path(record, 0)?,
            id: reached.then(|| file_id(&header.file, header.mtime_ns)),
            mode: reached.then_some(header.mode),
            as_named: header.flags & Flags::AS_NAMED != 0,
            unresolved: header.flags & (Flags::UNRESOLVED | Flags::CUT_0) != 0,
            unlinked: header.flags & Flags::UNLINKED != 0,
            content_unknown: header.flags & Flags::CONTENT_UNKNOWN != 0,
        })
    }

    /// The second name of a rename or link.
    fn second(&self, record: &Parts<'_>) -> Result<FileRef, String> {
        let flags = record.header.flags;
        Ok(FileRef {
            path: self.path(record, 2)?,
            as_named: flags & Flags::AS_NAMED != 0,
            ..FileRef::default()
        })
    }

    fn path(&self, record: &Parts<'_>, part: usize) -> Result<PathBytes, String> {
        if record.header.flags & Flags::AS_NAMED == 0 {
            return self.resolved(record.parts[part]);
        }
        let name = record.parts[part];
        let base = record.parts[part + 1];
        if name.first() == Some(&b'/') || base.is_empty() {
            return Ok(name.into());
        }
        let mut path = self.resolved(base)?.as_bytes().to_vec();
        if !name.is_empty() {
            if path.last() != Some(&b'/') {
                path.push(b'/');
            }
            path.extend_from_slice(name);
        }
        Ok(path.into())
    }

    /// A path that the kernel resolved: device, then the path below that filesystem's root.
    fn resolved(&self, part: &[u8]) -> Result<PathBytes, String> {
        let Some((device, inner)) = part.split_first_chunk::<DEVICE_PREFIX_LEN>() else {
            return Err(format!("resolved path of {} bytes", part.len()));
        };
        if let Some(name) = inner.strip_prefix(b"/memfd:") {
            return Ok([b"memfd:", name].concat().into());
        }
        Ok(self.mounts.canonical(u32::from_le_bytes(*device), inner))
    }

    fn destination(&self, record: &Parts<'_>) -> Result<Destination, String> {
        let header = &record.header;
        let port = header.port as u16;
        let (family, kind) = (header.detail as u16, (header.detail >> 16) as u16);
        if kind != 0 {
            return Ok(Destination::Socket(SocketKind { family, kind, protocol: port }));
        }
        let [a, b, c, d, ..] = header.address;
        match header.detail as i32 {
            libc::AF_INET => Ok(Destination::V4(Ipv4Addr::new(a, b, c, d), port)),
            libc::AF_INET6 => Ok(Destination::V6(Ipv6Addr::from(header.address), port)),
            libc::AF_UNIX => match record.parts[0].split_first() {
                Some((b'@', name)) if header.flags & Flags::AS_NAMED != 0 => {
                    Ok(Destination::Abstract(name.into()))
                }
                None => Ok(Destination::Unix(PathBytes::default())),
                _ => Ok(Destination::Unix(self.path(record, 0)?)),
            },
            other => Err(format!("connect with address family {other}")),
        }
    }
}

fn split(record: &[u8]) -> Result<Parts<'_>, String> {
    let (header, mut rest) = Header::read_from_prefix(record)
        .map_err(|_| format!("record of {} bytes, shorter than its head", record.len()))?;
    let mut parts = [&[][..]; PARTS];
    for (part, len) in parts.iter_mut().zip(header.parts) {
        (*part, rest) = rest
            .split_at_checked(len as usize)
            .ok_or_else(|| format!("part of {len} bytes beyond the record"))?;
    }
    Ok(Parts { header, parts })
}

fn tamper(header: &Header) -> Result<Action, String> {
    use treeline_abi::record::Tampering as Tried;
    let what = match Tried::from_number(header.detail) {
        Some(Tried::Signal) => Tampering::Signal,
        Some(Tried::Trace) => Tampering::Trace,
        Some(Tried::Limit) => Tampering::Limit,
        Some(Tried::Schedule) => Tampering::Schedule,
        Some(Tried::Memory) => Tampering::Memory,
        Some(Tried::ProcFile) => Tampering::ProcFile,
        Some(Tried::Map) => Tampering::Map,
        Some(Tried::Program) => Tampering::Program,
        Some(Tried::Link) => Tampering::Link,
        Some(Tried::Unmount) => Tampering::Unmount,
        Some(Tried::Cgroup) => Tampering::Cgroup,
        Some(Tried::Load) => Tampering::Load,
        Some(Tried::Kernel) => Tampering::Kernel,
        Some(Tried::SysRq) => Tampering::SysRq,
        Some(Tried::Fanotify) => Tampering::Fanotify,
        Some(Tried::Freeze) => Tampering::Freeze,
        Some(Tried::Setting) => Tampering::Setting,
        None => return Err(format!("tampering of kind {}", header.detail)),
    };
    let target =
        (header.peer_pid != 0).then(|| ProcessKey::from_nanos(header.peer_pid, header.peer_start_ns));
    Ok(Action::Tamper { what, target, number: header.port })
}

fn outcome(header: &Header) -> Outcome {
    if header.flags & Flags::RESULT_UNKNOWN != 0 {
        return Outcome::Unknown;
    }
    match header.result {
        0 => Outcome::Ok,
        error => Outcome::Errno(error.saturating_abs()),
    }
}

/// An identity in the event's terms.
pub(super) fn file_id(key: &FileKey, mtime_ns: u64) -> FileId {
    FileId {
        major: key.device >> 20,
        minor: key.device & 0xf_ffff,
        inode: key.inode,
        size: key.size,
        mtime_ns,
        ctime_ns: key.ctime_ns,
    }
}

fn arguments(block: &[u8]) -> Vec<PathBytes> {
    let block = block.strip_suffix(b"\0").unwrap_or(block);
    if block.is_empty() {
        return Vec::new();
    }
    block.split(|byte| *byte == 0).map(PathBytes::from).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::{FromZeros, IntoBytes};

    use super::*;

    fn record(kind: Kind, parts: &[&[u8]], change: impl FnOnce(&mut Header)) -> Vec<u8> {
        let mut header = Header::new_zeroed();
        header.kind = kind as u16;
        header.session = 7;
        for (len, part) in header.parts.iter_mut().zip(parts) {
            *len = part.len() as u32;
        }
        change(&mut header);
        [header.as_bytes(), &parts.concat()].concat()
    }

    fn action(record: &[u8]) -> Action {
        match Decoder::default().decode(record).expect("well-formed").seen {
            Seen::Act(action) => *action,
            other => panic!("not an action: {other:?}"),
        }
    }

    #[test]
    fn paths_as_named_are_made_absolute() {
        let check = |name: &[u8], base: &[u8], expect: &str| {
            let record = record(Kind::Delete, &[name, base], |header| header.flags = Flags::AS_NAMED);
            let Action::Delete { file, .. } = action(&record) else { panic!("a delete") };
            assert_eq!(file.path.to_string(), expect);
            assert!(file.as_named);
        };
        check(b"/etc/x", b"", "/etc/x");
        check(b"x", b"\x01\0\0\0/home/u", "[0:1]/home/u/x");
        check(b"x", b"\x01\0\0\0/", "[0:1]/x");
        check(b"", b"\x01\0\0\0/home", "[0:1]/home");
    }

    #[test]
    fn memfds_have_no_directory() {
        let record = record(Kind::Open, &[b"\x01\0\0\0/memfd:x"], |_| ());
        let Action::Open { file, .. } = action(&record) else { panic!("an open") };
        assert_eq!(file.path.to_string(), "memfd:x");
    }

    #[test]
    fn sockets_that_were_asked_for() {
        let record = record(Kind::Connect, &[], |header| {
            header.detail = 17 | 3 << 16;
            header.port = 0x0300;
        });
        let Action::Connect { to: Destination::Socket(kind), .. } = action(&record) else {
            panic!("a socket")
        };
        assert_eq!(kind.to_string(), "packet/raw/768");
    }

    #[test]
    fn the_client_of_an_adoption_is_of_either_family() {
        let check = |address: [u8; 16], expect: Destination| {
            let record = record(Kind::Adopt, &[], |header| {
                header.detail = treeline_abi::record::Link::Connection as u32;
                (header.address, header.port) = (address, 7);
            });
            let Action::Adopt { client, link: AdoptedBy::Connection, .. } = action(&record) else {
                panic!("an adoption")
            };
            assert_eq!(client, Some(expect));
        };
        check(Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets(), Destination::V4(Ipv4Addr::LOCALHOST, 7));
        check(Ipv6Addr::LOCALHOST.octets(), Destination::V6(Ipv6Addr::LOCALHOST, 7));
    }

    #[test]
    fn malformed_records_are_refused() {
        let check = |record: &[u8], words: &str| {
            let error = Decoder::default().decode(record).expect_err("malformed");
            assert!(error.contains(words), "{error}");
        };
        check(b"", "shorter");
        check(&record(Kind::Exit, &[], |header| header.kind = 99), "unknown kind 99");
        check(&record(Kind::Exit, &[], |header| header.session = 0), "without a session");
        check(&record(Kind::Exit, &[], |header| header.verdict = 9), "verdict 9");
        check(&record(Kind::Open, &[], |header| header.parts[0] = 5), "beyond the record");
        check(&record(Kind::Open, &[b"abc"], |_| ()), "resolved path of 3 bytes");
        check(&record(Kind::Connect, &[], |header| header.detail = 77), "family 77");
        check(&record(Kind::Tamper, &[], |header| header.detail = 77), "kind 77");
        check(&record(Kind::Adopt, &[], |header| header.detail = 77), "kind 77");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = Decoder::default().decode(&bytes);
        }

        #[test]
        fn arbitrary_heads_never_panic(kind in 0u16..20, flags: u32, detail: u32, lens: [u8; PARTS], data: Vec<u8>) {
            let mut bytes = record(Kind::Exit, &[], |header| {
                header.kind = kind;
                header.flags = flags;
                header.detail = detail;
                header.parts = lens.map(u32::from);
            });
            bytes.extend(data);
            let _ = Decoder::default().decode(&bytes);
        }
    }
}
