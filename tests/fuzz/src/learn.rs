//! What agents did, as paths and names of their choice: a line for each act, its first byte being which and by whom.

use std::sync::Arc;

use treeline_event::{
    Action, Ancestry, Destination, Entry, EntryBody, FileRef, Image, OpenFlags, Origin, Outcome, PathBytes,
    Process, ProcessKey, Program, SessionId, Timestamp, Verdict,
};
use treeline_policy::{
    Home, Host, Policy,
    glob::split,
    learn::{Kind, Learner, NotLearned, Options},
    parse,
    replay::Replay,
    source::Source,
    syntax::format,
};

const PROTECTED: &str = "version: 1\nname: p\nrules:\n  - {id: keys, kind: file, paths: [~/.ssh/**, /etc/shadow], reason: r, \
                         except: [{executable: /usr/bin/ssh}]}\n  - {id: x11, kind: connect, unix: ['@x*'], reason: r}\n";
const PROGRAMS: [&str; 3] = ["/usr/bin/ssh", "/usr/bin/git", "/home/u/x"];
/// Acts of one input: each is compiled for, so more say little more.
const ACTS_MAX: usize = 64;
/// Names of a path that is surely not too deep to be judged.
const NAMES_MAX: usize = 60;

/// What is learned is a policy in canonical form that refuses nothing of what was done but what it says, and whatever was done
/// it allows nothing that is protected.
pub fn run(bytes: &[u8]) -> bool {
    let entries: Vec<Entry> =
        bytes.split(|byte| *byte == b'\n').take(ACTS_MAX).enumerate().filter_map(entry).collect();
    let (Ok(protected), host) = (parse("p", PROTECTED), host()) else { return false };
    let kinds = Kind::ALL.into_iter().collect();
    let options = Options { name: "learned".into(), enforces: true, kinds, siblings: 3 };
    let mut learner = Learner::new(&options, &protected, &host);
    entries.iter().for_each(|entry| learner.take(entry));
    let learned = match learner.finish(&[], &|path| path.starts_with(b"/usr/")) {
        Ok(learned) => learned,
        Err(NotLearned::Invalid(why)) => panic!("{why}"),
        Err(NotLearned::Nothing | NotLearned::TooMuch | NotLearned::NoRoom(_)) => return false,
    };
    let source = Source::new("learned", &learned.text);
    assert_eq!(format(&source).ok().as_ref(), Some(&learned.text), "canonical");
    let Ok(policy) = parse("learned", &learned.text) else { panic!("valid: {}", learned.text) };
    if learned.left.is_empty() {
        assert_eq!(denied(&policy, &host, &entries), 0, "{}", learned.text);
    }
    for line in [&b"r1/home/u/.ssh/id"[..], b"w2/etc/shadow", b"a1x11"] {
        let entries: Vec<Entry> = entry((0, line)).into_iter().collect();
        assert_eq!(denied(&policy, &host, &entries), 1, "{}", learned.text);
    }
    true
}

fn host() -> Host {
    Host { homes: vec![Home { uid: 0, path: b"/root".to_vec() }, Home { uid: 1, path: b"/home/u".to_vec() }] }
}

fn denied(policy: &Policy, host: &Host, entries: &[Entry]) -> u64 {
    let mut replay = Replay::new(policy, host);
    entries.iter().for_each(|entry| replay.take(entry));
    replay.finish().would_deny.entries
}

fn entry((index, line): (usize, &[u8])) -> Option<Entry> {
    let (&[what, by], object) = line.split_first_chunk::<2>()?;
    let by = usize::from(by) % PROGRAMS.len();
    let image = Image { path: PROGRAMS[by].into(), seen_by_kernel: true, ..Image::default() };
    let program = Arc::new(Program { image, ..Program::default() });
    let key = ProcessKey { pid: by as u32 + 1, start_ticks: 1 };
    let process = Arc::new(Process { key, program, ..Process::default() });
    let (action, verdict) = (action(what, object)?, Verdict::Allow);
    Some(Entry {
        origin: Origin::default().into(),
        index: index as u64,
        generation: 1,
        time: Timestamp { boot_ns: 0, wall_ms: 1 },
        session: Some(SessionId(1)),
        body: EntryBody::Act { process, ancestry: Ancestry::Links([].into()), action, verdict, rule: None },
        cut: None,
    })
}

fn action(what: u8, object: &[u8]) -> Option<Action> {
    let outcome = Outcome::Ok;
    let path = || PathBytes::from(object);
    let file = || FileRef { path: path(), mode: Some(0o100_644), ..FileRef::default() };
    let to = |to| Action::Connect { to, outcome };
    // What is no path is counted as unresolved, and told apart from what is left out.
    let is_path = object.first() == Some(&b'/') && split(object).count() < NAMES_MAX;
    if !is_path && !matches!(what, b'a' | b'4') {
        return None;
    }
    Some(match what {
        b'r' => Action::Open { file: file(), flags: OpenFlags(0), outcome, count: 1 },
        b'w' => Action::Open { file: file(), flags: OpenFlags(1), outcome, count: 1 },
        b'c' => Action::Create { file: file(), target: None, outcome },
        b'm' => Action::Rename { from: file(), to: file(), outcome },
        b'x' => Action::ExecDenied { file: file() },
        b'u' => to(Destination::Unix(path())),
        b'a' => to(Destination::Abstract(path())),
        b'4' => to(Destination::V4(<[u8; 4]>::try_from(object.get(..4)?).ok()?.into(), object.len() as u16)),
        _ => return None,
    })
}

/// Of each kind one, and directories with many entries.
pub fn seeds() -> Vec<Vec<u8>> {
    let seeds: [&[u8]; 4] = [
        b"r1/usr/lib/a\nw1/home/u/work/x-1234.tmp\nc2/tmp/tmp.aB3dE9fG1h\nx1/usr/bin/make",
        b"u1/run/user/1000/bus\na1bus-12345\n4\x31\x0a\x00\x00\x01",
        b"r1/srv/a/1\nr1/srv/b/2\nr1/srv/c/3\nr1/srv/d\nm1/srv/e",
        b"r0/home/u/.ssh/id\nr1/home/u/.a/x\nr1/home/u/.b/x\nr1/home/u/.c/x\nr1/home/u/.d/\xff\xfe",
    ];
    seeds.map(<[u8]>::to_vec).to_vec()
}
