//! What a log is made of: checkpoints, proofs, keys, bundles and names of tiles, all of which may come from somebody else.

use treeline_tlog::{
    Bundle, Checkpoint, Hash, Note, OfflineProof, Tile, TileKind, Verifier, VerifierKey, bundle::push_entry,
    bundle_path, tile::parse_path, tile_path, verify_consistency, verify_inclusion,
};

/// What is accepted is written as it was read, and proofs of any shape are judged.
pub fn run(bytes: &[u8]) -> bool {
    let text = std::str::from_utf8(bytes).ok();
    let texts = [
        text.is_some_and(checkpoint),
        text.is_some_and(key),
        text.is_some_and(proof),
        text.is_some_and(path),
    ];
    let is_other = [note(bytes), bundle(bytes), hashes(bytes)];
    texts.contains(&true) || is_other.contains(&true)
}

/// A key that has signed everything.
struct Anyone<'a> {
    name: &'a str,
    id: u32,
}

impl Verifier for Anyone<'_> {
    fn name(&self) -> &str {
        self.name
    }

    fn id(&self) -> u32 {
        self.id
    }

    fn verifies(&self, _: &[u8], _: &[u8]) -> bool {
        true
    }
}

fn checkpoint(text: &str) -> bool {
    let Ok(checkpoint) = text.parse::<Checkpoint>() else { return false };
    assert_eq!(checkpoint.to_string(), text);
    let _ = (checkpoint.epoch(), checkpoint.time_ms());
    true
}

fn key(text: &str) -> bool {
    let Ok(key) = text.parse::<VerifierKey>() else { return false };
    assert_eq!(key.to_string().parse(), Ok(key));
    true
}

fn note(bytes: &[u8]) -> bool {
    let Ok(note) = Note::parse(bytes) else { return false };
    let [first, ..] = note.signatures() else { panic!("a note without a signature was accepted") };
    let text = note.verify(&Anyone { name: first.name, id: first.id });
    assert_eq!(text, Ok(note.unverified_text()));
    checkpoint(note.unverified_text());
    true
}

fn proof(text: &str) -> bool {
    let Ok(proof) = OfflineProof::parse(text) else { return false };
    assert_eq!(OfflineProof::parse(&proof.to_string()).as_ref(), Ok(&proof));
    if let Ok(note) = Note::parse(proof.checkpoint.as_bytes()) {
        let first = &note.signatures()[0];
        let _ = proof.verify(b"entry", &Anyone { name: first.name, id: first.id });
    }
    true
}

fn path(text: &str) -> bool {
    let Some(kind) = parse_path(text) else { return false };
    let written = match kind {
        TileKind::Hashes(tile) => tile_path(Tile { ..tile }),
        TileKind::Entries { index, width } => bundle_path(index, width),
    };
    assert_eq!(written, text);
    true
}

fn bundle(bytes: &[u8]) -> bool {
    let Ok(entries) = Bundle::new(bytes).collect::<Result<Vec<_>, _>>() else { return false };
    assert_eq!(Bundle::check(bytes, entries.len()), Ok(()));
    let mut written = Vec::new();
    for entry in entries {
        push_entry(&mut written, entry).expect("its length was read from 16 bits");
    }
    assert_eq!(written, bytes);
    true
}

/// Two sizes (or an index and a size), two roots (or a leaf and a root), then the hashes of a proof, of any shape: between
/// trees that differ, a proof without hashes proves nothing.
fn hashes(bytes: &[u8]) -> bool {
    let Some((sizes, rest)) = bytes.split_first_chunk::<16>() else { return false };
    let (chunks, _) = rest.as_chunks::<32>();
    let [old_root, new_root, proof @ ..] = chunks else { return false };
    let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|index| sizes[at + index]));
    let (old, new): (u64, u64) = (number(0), number(8));
    let leaf: &Hash = old_root;
    let is_included = verify_inclusion(old, new, leaf, proof, new_root).is_ok();
    let is_consistent = verify_consistency(old, new, old_root, new_root, proof).is_ok();
    assert!(!(is_included && new > 1 && proof.is_empty()), "a leaf was taken for the root of {new} entries");
    assert!(
        !(is_consistent && 0 < old && old < new && proof.is_empty()),
        "{old} entries were taken for {new}"
    );
    is_included || is_consistent
}

/// One of each.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let root = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=";
    let checkpoint = format!("a.example/log\n20852163\n{root}\nboot 1f2e\ntime 17\nepoch 3\n");
    let signed = format!("{checkpoint}\n\u{2014} a.example/log x08go/ZJkuBS9UG/\n");
    let proof = format!("c2sp.org/tlog-proof@v1\nextra AAAA\nindex 5\n{root}\n{root}\n\n{signed}");
    let key = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    let mut seeds: Vec<Vec<u8>> =
        [&*checkpoint, &signed, &proof, key, "tile/0/x001/234.p/7", "tile/entries/x001/x002/003"]
            .map(Vec::from)
            .into();
    seeds.push(b"\0\x03abc\0\0\0\x01x".to_vec());
    // A tree of two equal leaves, as it was and is.
    seeds.push([&2_u64.to_le_bytes()[..], &2_u64.to_le_bytes(), &[7; 64]].concat());
    seeds
}
