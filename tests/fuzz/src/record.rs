//! Records of the kernel programs. They are ours, and still nothing in them is trusted: what they carry is the subject's.

use treeline::{backend::Seen, enrich::markers::MARKERS, foreign::ring_record};
use treeline_abi::{
    Header, Kind,
    record::{Flags, Link, Tampering},
};
use zerocopy::{FromZeros, IntoBytes};

/// An accepted record has a session, and no more words than it has bytes.
pub fn run(bytes: &[u8]) -> bool {
    let Ok(observation) = ring_record(bytes) else { return false };
    assert_ne!(observation.session.0, 0);
    if let Seen::Exec(exec) = observation.seen {
        let words = exec.argv.iter().map(|word| word.as_bytes().len()).sum::<usize>();
        assert!(words + exec.argv.len() <= bytes.len());
        assert!(exec.env.len() <= MARKERS.len());
    }
    true
}

/// A record of every kind, resolved and as named.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let exec: [&[u8]; 6] = [
        b"\x01\0\x80\0/usr/bin/node",
        b"./tool",
        b"\x01\0\x80\0/home/u",
        b"node\0--version\0",
        b"CLAUDECODE=1\0",
        b"/usr/bin/node",
    ];
    let resolved: [&[u8]; 4] =
        [b"\x01\0\x80\0/home/u/a", b"\x01\0\x80\0/home/u", b"\x01\0\x80\0/home/u/b", b"\x01\0\x80\0/home/u"];
    let named: [&[u8]; 4] = [b"a", b"\x01\0\x80\0/home/u", b"/b", b""];
    let of_kind = |kind: Kind| match kind {
        Kind::Exec => vec![record(kind, &exec, |header| header.flags = Flags::LOADER_ENV)],
        Kind::Connect => {
            [2, 10, 1, 17 | 3 << 16].map(|family| record(kind, &[], |header| header.detail = family)).to_vec()
        }
        Kind::Tamper => {
            let of = |what: Tampering| record(kind, &[], |header| header.detail = what as u32);
            Tampering::ALL.map(of).to_vec()
        }
        Kind::Adopt => {
            let of = |link: Link| record(kind, &resolved, |header| header.detail = link as u32);
            Link::ALL.map(of).to_vec()
        }
        _ => vec![
            record(kind, &resolved, |header| header.flags = Flags::SYMLINK),
            record(kind, &named, |header| header.flags = Flags::AS_NAMED | Flags::RESULT_UNKNOWN),
        ],
    };
    let abstract_name = record(Kind::Connect, &[b"@x\0y"], |header| {
        header.detail = 1;
        header.flags = Flags::AS_NAMED;
    });
    Kind::ALL.into_iter().flat_map(of_kind).chain([abstract_name]).collect()
}

fn record(kind: Kind, parts: &[&[u8]], change: impl FnOnce(&mut Header)) -> Vec<u8> {
    let mut header = Header::new_zeroed();
    header.kind = kind as u16;
    header.session = 7;
    header.pid = 42;
    for (len, part) in header.parts.iter_mut().zip(parts) {
        *len = part.len() as u32;
    }
    change(&mut header);
    [header.as_bytes(), &parts.concat()].concat()
}
