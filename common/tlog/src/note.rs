//! Signed notes: a text, an empty line, signatures, one a line, `c2sp.org/signed-note`.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use thiserror::Error;

/// The longest note in bytes. A checkpoint of ours has some 300; a post-quantum cosignature has 5 000.
pub const NOTE_LEN_MAX: usize = 256 * 1024;

/// The most signatures in a note. The specification asks verifiers to accept at least 16.
pub const SIGNATURES_MAX: usize = 64;

const SIGNATURE_PREFIX: &str = "\u{2014} ";

/// Makes signatures with one key. The mathematics belongs to the caller.
pub trait Signer {
    /// The key's name.
    fn name(&self) -> &str;
    /// The key's id.
    fn id(&self) -> u32;
    /// Signs the text of a note.
    ///
    /// # Errors
    /// The key's own words if it cannot sign now.
    fn sign(&self, text: &[u8]) -> Result<Vec<u8>, SignError>;
}

/// Judges signatures of one key. The mathematics belongs to the caller.
pub trait Verifier {
    /// The key's name.
    fn name(&self) -> &str;
    /// The key's id.
    fn id(&self) -> u32;
    /// Whether this is the key's signature of the text.
    fn verifies(&self, text: &[u8], signature: &[u8]) -> bool;
}

/// A key that could not sign.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the key `{name}` cannot sign: {reason}")]
pub struct SignError {
    /// The key's name.
    pub name: String,
    /// Why, in the words of the key's owner.
    pub reason: String,
}

/// Why bytes are not a note that can be trusted.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NoteError {
    /// Not UTF-8, control characters, too long, or not in the form of a note.
    #[error("not a signed note: {0}")]
    Malformed(&'static str),
    /// The key's signature is there and does not fit the text.
    #[error("the signature of `{0}` does not fit the text")]
    WrongSignature(String),
    /// There is no signature of this key.
    #[error("there is no signature of the key `{name}` with id {id:08x}")]
    NotSigned {
        /// The name of the key asked for.
        name: String,
        /// The id of the key asked for.
        id: u32,
    },
    /// The name of the signing key may not stand in a note.
    #[error("the key's name `{0}` is empty or has a space or a `+` in it")]
    KeyName(String),
    /// The key could not sign.
    #[error(transparent)]
    Sign(#[from] SignError),
}

/// A note in its parts. Nothing in it is to be trusted before [`Note::verify`] agrees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note<'a> {
    text: &'a str,
    signatures: Vec<Signature<'a>>,
}

/// One signature line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature<'a> {
    /// Name of the key.
    pub name: &'a str,
    /// Id of the key.
    pub id: u32,
    /// What the key made.
    pub bytes: Vec<u8>,
}

/// Whether a key may have this name: not empty, no Unicode space, no `+`.
#[must_use]
pub fn valid_key_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+')
}

/// Signs a text that ends in a newline; the whole note is returned.
///
/// # Errors
/// [`NoteError::Malformed`] for a text that no note can have, [`NoteError::Sign`] if the key cannot sign.
pub fn sign(text: &str, signer: &dyn Signer) -> Result<String, NoteError> {
    check_characters(text)?;
    if !text.ends_with('\n') {
        return Err(NoteError::Malformed("the text does not end in a newline"));
    }
    if !valid_key_name(signer.name()) {
        return Err(NoteError::KeyName(signer.name().to_owned()));
    }
    let mut bytes = signer.id().to_be_bytes().to_vec();
    bytes.extend_from_slice(&signer.sign(text.as_bytes())?);
    Ok(format!("{text}\n{SIGNATURE_PREFIX}{} {}\n", signer.name(), BASE64_STANDARD.encode(bytes)))
}

fn check_characters(text: &str) -> Result<(), NoteError> {
    match text.bytes().any(|b| b < 0x20 && b != b'\n') {
        true => Err(NoteError::Malformed("it has control characters")),
        false => Ok(()),
    }
}

impl<'a> Note<'a> {
    /// Takes a note apart.
    ///
    /// # Errors
    /// [`NoteError::Malformed`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, NoteError> {
        if bytes.len() > NOTE_LEN_MAX {
            return Err(NoteError::Malformed("it is longer than 256 KiB"));
        }
        let note = str::from_utf8(bytes).map_err(|_| NoteError::Malformed("it is not UTF-8"))?;
        check_characters(note)?;
        let split = note.rfind("\n\n").ok_or(NoteError::Malformed("no empty line before the signatures"))?;
        let (text, lines) = (&note[..=split], &note[split + 2..]);
        let lines =
            lines.strip_suffix('\n').ok_or(NoteError::Malformed("no newline after the last signature"))?;
        if lines.split('\n').count() > SIGNATURES_MAX {
            return Err(NoteError::Malformed("it has more than 64 signatures"));
        }
        let signatures = lines
            .split('\n')
            .map(|line| parse_signature(line).ok_or(NoteError::Malformed("a line is no signature")))
            .collect::<Result<_, _>>()?;
        Ok(Self { text, signatures })
    }

    /// The text, whoever signed it.
    #[must_use]
    pub fn unverified_text(&self) -> &'a str {
        self.text
    }

    /// The signatures, of known and unknown keys.
    #[must_use]
    pub fn signatures(&self) -> &[Signature<'a>] {
        &self.signatures
    }

    /// The text, if this key signed it.
    ///
    /// # Errors
    /// [`NoteError::WrongSignature`] if one of the key's signatures is wrong, [`NoteError::NotSigned`] if it has none.
    pub fn verify(&self, verifier: &dyn Verifier) -> Result<&'a str, NoteError> {
        let mut of_this_key =
            self.signatures.iter().filter(|s| s.name == verifier.name() && s.id == verifier.id()).peekable();
        if of_this_key.peek().is_none() {
            return Err(NoteError::NotSigned { name: verifier.name().to_owned(), id: verifier.id() });
        }
        match of_this_key.all(|s| verifier.verifies(self.text.as_bytes(), &s.bytes)) {
            true => Ok(self.text),
            false => Err(NoteError::WrongSignature(verifier.name().to_owned())),
        }
    }
}

fn parse_signature(line: &str) -> Option<Signature<'_>> {
    let (name, signature) = line.strip_prefix(SIGNATURE_PREFIX)?.split_once(' ')?;
    let decoded = BASE64_STANDARD.decode(signature).ok()?;
    let (id, bytes) = decoded.split_first_chunk::<4>()?;
    (valid_key_name(name) && !bytes.is_empty()).then(|| Signature {
        name,
        id: u32::from_be_bytes(*id),
        bytes: bytes.to_vec(),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::vkey::{Algorithm, VerifierKey};
    use proptest::prelude::*;
    use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

    /// A key of this name that is the same in every run.
    pub(crate) struct TestKey(pub(crate) VerifierKey, Ed25519KeyPair);

    impl TestKey {
        pub(crate) fn new(name: &str, seed: u8) -> Self {
            let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("32 bytes");
            let key =
                VerifierKey::new(name, Algorithm::Ed25519, pair.public_key().as_ref()).expect("a good name");
            Self(key, pair)
        }
    }

    impl Signer for TestKey {
        fn name(&self) -> &str {
            self.0.name()
        }
        fn id(&self) -> u32 {
            self.0.id()
        }
        fn sign(&self, text: &[u8]) -> Result<Vec<u8>, SignError> {
            Ok(self.1.sign(text).as_ref().to_vec())
        }
    }

    impl Verifier for TestKey {
        fn name(&self) -> &str {
            self.0.name()
        }
        fn id(&self) -> u32 {
            self.0.id()
        }
        fn verifies(&self, text: &[u8], signature: &[u8]) -> bool {
            UnparsedPublicKey::new(&ED25519, self.0.public_key()).verify(text, signature).is_ok()
        }
    }

    /// The signed note of the documentation of Go's `golang.org/x/mod/sumdb/note`.
    #[test]
    fn a_published_note_is_verified() {
        let key: VerifierKey =
            "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW".parse().expect("a key");
        let pair = Ed25519KeyPair::from_seed_unchecked(&[0; 32]).expect("32 bytes");
        let verifier = TestKey(key, pair);
        let note = "If you think cryptography is the answer to your problem,\n\
            then you don't know what your problem is.\n\n\
            \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
        assert!(Note::parse(note.as_bytes()).expect("a note").verify(&verifier).is_ok());
        let changed = note.replace("answer", "Answer");
        let changed = Note::parse(changed.as_bytes()).expect("a note");
        assert_eq!(changed.verify(&verifier), Err(NoteError::WrongSignature("PeterNeumann".to_owned())));
    }

    #[test]
    fn what_was_signed_verifies_and_nothing_else() {
        let key = TestKey::new("a.example/log", 1);
        let note = sign("one\n\ntwo\n", &key).expect("signs");
        let parsed = Note::parse(note.as_bytes()).expect("a note");
        assert_eq!(parsed.verify(&key), Ok("one\n\ntwo\n"));
        let other = TestKey::new("a.example/log", 2);
        assert_eq!(
            parsed.verify(&other),
            Err(NoteError::NotSigned { name: "a.example/log".to_owned(), id: other.0.id() })
        );
        let changed = note.replace("two", "tow");
        assert_eq!(
            Note::parse(changed.as_bytes()).expect("a note").verify(&key),
            Err(NoteError::WrongSignature("a.example/log".to_owned()))
        );
    }

    #[test]
    fn malformed_notes_are_refused() {
        for note in [
            "",
            "text\n",
            "text\n\n",
            "text\n\nsignature\n",
            "text\n\n\u{2014} a AAAA\n",
            "text\n\n\u{2014} a AAAAAA==",
            "te\txt\n\n\u{2014} a AAAAAAA=\n",
            "text\n\n\u{2014} a+b AAAAAAA=\n",
        ] {
            assert!(matches!(Note::parse(note.as_bytes()), Err(NoteError::Malformed(_))), "{note:?}");
        }
        let key = TestKey::new("a", 1);
        assert!(sign("no newline", &key).is_err());
        let many = format!("text\n\n{}", "\u{2014} a AAAAAAA=\n".repeat(65));
        assert!(Note::parse(many.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "(\\PC|\n|\u{2014} )*") {
            let _ = Note::parse(&bytes);
            let _ = Note::parse(text.as_bytes());
        }
    }
}
