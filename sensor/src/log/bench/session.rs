//! Entries as a machine with an agent records them: a shell that starts programs, which open, rename and connect.

use std::sync::Arc;

use treeline_event::{
    Action, Body, Destination, Digest, Event, FileId, FileRef, Image, Meta, Notice, OpenFlags, Origin,
    Outcome, Process, ProcessKey, Program, SessionAttributes, SessionId, Subject, Timestamp, Verdict, encode,
};

use super::Entries;

/// Entries of one process, from its fork to its exit; the session's root forks the next.
const PER_PROCESS: u64 = 64;
/// Files that are used: what a large checkout with its dependencies has.
const FILES: u64 = 50_000;
/// Programs that are started.
const PROGRAMS: u64 = 40;
/// Steps of each ancestry: the agent, what started it, back to the first process of the machine.
const STEPS: u32 = 8;

/// Entries of one session after another, each of a million at most.
#[derive(Clone, Copy, Debug)]
pub struct Recorded;

const PER_SESSION: u64 = 1_000_000;
const ROOT: u32 = 100;

impl Entries for Recorded {
    fn make(&mut self, index: u64, entry: &mut Vec<u8>) {
        entry.clear();
        let session = SessionId(index / PER_SESSION + 1);
        let time = Timestamp { boot_ns: index * 1000, wall_ms: 1_795_417_000_000 + index };
        let event = Event { time, session: Some(session), body: body(index, session) };
        let text = |text: &str| text.to_owned();
        let origin = Origin {
            device: text("9f1c0f5e"),
            epoch: 1,
            boot_id: text("d1b2"),
            hostname: text("host"),
            os_name: text("Debian GNU/Linux"),
            os_version: text("13"),
            kernel: text("6.18"),
            version: text("0.1.0"),
        };
        encode(&event, &Meta { origin: &origin, index, generation: 1 }, entry);
    }
}

fn body(index: u64, session: SessionId) -> Body {
    if index.is_multiple_of(PER_SESSION) {
        let (origin, command) = ("run".to_owned(), vec!["agent".to_owned()]);
        return Body::Notice(Notice::SessionStarted {
            session,
            root: key(ROOT),
            uid: 1000,
            origin,
            command,
            attributes: SessionAttributes::default(),
        });
    }
    let pid = (index / PER_PROCESS % 1_000_000) as u32 + 1000;
    let program = index / PER_PROCESS % PROGRAMS;
    let (pid, path, action) = match index % PER_PROCESS {
        0 => (ROOT, "/usr/bin/bash".to_owned(), act(index, 0)),
        1 => (pid, "/usr/bin/bash".to_owned(), Action::Fork { creator: key(ROOT) }),
        2 => (pid, format!("/usr/bin/tool-{program}"), Action::Exec),
        63 => (pid, format!("/usr/bin/tool-{program}"), Action::Exit { code: Some(0), signal: None }),
        step => (pid, format!("/usr/bin/tool-{program}"), act(index, step)),
    };
    let ancestry = (0..STEPS).map(|step| process(ROOT - step, "/usr/bin/bash")).collect();
    let subject = Subject { process: process(pid, &path), ancestry };
    Body::Act { subject, action, verdict: Verdict::Allow, rule: None }
}

fn act(index: u64, step: u64) -> Action {
    // A multiplier without a factor in common with the number of files reaches all of them, in no order.
    let number = index.wrapping_mul(2_654_435_761) % FILES;
    let file = |extra: &str| FileRef {
        path: format!("/home/dev/work/project/module-{}/src/file-{number}{extra}", number % 97)
            .as_str()
            .into(),
        id: Some(FileId { major: 8, minor: 1, inode: number, size: 4096, mtime_ns: 5, ctime_ns: 6 }),
        mode: Some(0o100_644),
        ..FileRef::default()
    };
    let outcome = Outcome::Ok;
    match step {
        60 => Action::Rename { from: file(".tmp"), to: file(""), outcome },
        61 => Action::Connect { to: Destination::V4([160, 79, 104, 10].into(), 443), outcome },
        62 => Action::Delete { file: file(".tmp"), outcome },
        _ => Action::Open {
            file: file(""),
            flags: OpenFlags(step.is_multiple_of(8).into()),
            outcome,
            count: 1,
        },
    }
}

fn key(pid: u32) -> ProcessKey {
    ProcessKey { pid, start_ticks: u64::from(pid) * 10 }
}

fn process(pid: u32, path: &str) -> Arc<Process> {
    let inode = path.bytes().map(u64::from).sum();
    let file = FileId { major: 8, minor: 1, inode, size: 43_888, mtime_ns: 1, ctime_ns: 2 };
    let digest = Digest::Sha256([pid as u8; 32]);
    let image = Image { path: path.into(), file, digest, seen_by_kernel: true, ..Image::default() };
    let argv = vec![path.into(), "--option".into(), "argument".into()];
    let cwd = "/home/dev/work/project".into();
    let program = Program { image, argv, cwd, ..Program::default() };
    Arc::new(Process {
        key: key(pid),
        parent: Some(key(ROOT)),
        uid: 1000,
        euid: 1000,
        gid: 1000,
        user: Some("dev".to_owned()),
        tty: Some("pts/0".to_owned()),
        program: Arc::new(program),
        started_ns: 1_000_000,
    })
}

#[cfg(test)]
mod tests {
    use treeline_event::decode;

    use super::*;

    #[test]
    fn every_entry_can_be_read() {
        let mut entry = Vec::new();
        for index in 0..3 * PER_PROCESS {
            Recorded.make(index, &mut entry);
            assert_eq!(decode(&entry).expect("an entry").index, index);
            assert!((500..20_000).contains(&entry.len()), "{}", entry.len());
        }
    }
}
