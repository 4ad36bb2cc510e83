//! Public keys as one line of text: `<name>+<key id>+<base64 of type and key>`, `c2sp.org/signed-note`.

use std::fmt;
use std::str::FromStr;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::note::valid_key_name;

/// The first bytes of every P-256 public key as DER `SubjectPublicKeyInfo`; the 65 bytes of the point follow.
const P256_SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// How a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Type `0x01`: Ed25519 over the text; the key is 32 bytes.
    Ed25519,
    /// Type `0x02`: ECDSA with P-256 and SHA-256, DER signatures; the key is its uncompressed point of 65 bytes.
    EcdsaP256,
}

/// Why a text is not a public key.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum VerifierKeyError {
    /// Not three fields between `+`.
    #[error("a public key looks like `name+hash+base64`")]
    Shape,
    /// The name may not stand in a note.
    #[error("the key's name is empty or has a space or a `+` in it")]
    Name,
    /// Neither type 1 nor type 2, or of the wrong length.
    #[error("the key is neither Ed25519 (type 1) nor ECDSA P-256 (type 2)")]
    Unsupported,
    /// The id in the text is not the one of the key: a typing error, or parts of two keys.
    #[error("the key's hash should be {expected:08x} and is {found:08x}: some part of the text is wrong")]
    WrongId {
        /// Computed from name and key.
        expected: u32,
        /// Written in the text.
        found: u32,
    },
}

/// A named public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    id: u32,
    algorithm: Algorithm,
    public_key: Vec<u8>,
}

impl VerifierKey {
    /// Names a public key: 32 bytes for Ed25519, the uncompressed point for P-256.
    ///
    /// # Errors
    /// [`VerifierKeyError::Name`] or [`VerifierKeyError::Unsupported`].
    pub fn new(name: &str, algorithm: Algorithm, public_key: &[u8]) -> Result<Self, VerifierKeyError> {
        if !valid_key_name(name) {
            return Err(VerifierKeyError::Name);
        }
        let fits = match algorithm {
            Algorithm::Ed25519 => public_key.len() == 32,
            Algorithm::EcdsaP256 => public_key.len() == 65 && public_key[0] == 4,
        };
        if !fits {
            return Err(VerifierKeyError::Unsupported);
        }
        let id = match algorithm {
            Algorithm::Ed25519 => {
                first_u32(Sha256::new().chain_update(name).chain_update(b"\n\x01"), public_key)
            }
            // This type's id covers the key alone, not the name.
            Algorithm::EcdsaP256 => first_u32(Sha256::new().chain_update(P256_SPKI_PREFIX), public_key),
        };
        Ok(Self { name: name.to_owned(), id, algorithm, public_key: public_key.to_vec() })
    }

    /// The name that signatures of this key carry.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The id that signatures of this key carry.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// How it signs.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// 32 bytes for Ed25519, the uncompressed point of 65 bytes for P-256.
    #[must_use]
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }
}

fn first_u32(sha: Sha256, end: &[u8]) -> u32 {
    let hash = sha.chain_update(end).finalize();
    u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, prefix): (u8, &[u8]) = match self.algorithm {
            Algorithm::Ed25519 => (1, &[]),
            Algorithm::EcdsaP256 => (2, &P256_SPKI_PREFIX),
        };
        let key = [&[kind], prefix, &self.public_key].concat();
        write!(f, "{}+{:08x}+{}", self.name, self.id, BASE64_STANDARD.encode(key))
    }
}

impl FromStr for VerifierKey {
    type Err = VerifierKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut fields = text.trim_end_matches('\n').splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (fields.next(), fields.next(), fields.next()) else {
            return Err(VerifierKeyError::Shape);
        };
        if id.len() != 8 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(VerifierKeyError::Shape);
        }
        let found = u32::from_str_radix(id, 16).map_err(|_| VerifierKeyError::Shape)?;
        let key = BASE64_STANDARD.decode(key).map_err(|_| VerifierKeyError::Shape)?;
        let this = match key.split_first() {
            Some((1, key)) => Self::new(name, Algorithm::Ed25519, key)?,
            Some((2, spki)) => {
                let point = spki.strip_prefix(&P256_SPKI_PREFIX).ok_or(VerifierKeyError::Unsupported)?;
                Self::new(name, Algorithm::EcdsaP256, point)?
            }
            _ => return Err(VerifierKeyError::Unsupported),
        };
        if this.id == found { Ok(this) } else { Err(VerifierKeyError::WrongId { expected: this.id, found }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The key that the documentation of Go's `golang.org/x/mod/sumdb/note` and the specification use.
    const GO_EXAMPLE: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

    #[test]
    fn a_published_key_is_read_and_written() {
        let key: VerifierKey = GO_EXAMPLE.parse().expect("a key");
        assert_eq!(
            (key.name(), key.id(), key.algorithm()),
            ("PeterNeumann", 0xc74f_20a3, Algorithm::Ed25519)
        );
        assert_eq!(key.to_string(), GO_EXAMPLE);
    }

    #[test]
    fn p256_keys_are_read_and_written() {
        let point = [&[4_u8][..], &[9; 64]].concat();
        let key = VerifierKey::new("a.example/tpm", Algorithm::EcdsaP256, &point).expect("a point");
        assert_eq!(key.to_string().parse(), Ok(key));
    }

    #[test]
    fn broken_keys_are_refused_with_the_reason() {
        let check = |text: &str, expect| assert_eq!(text.parse::<VerifierKey>(), Err(expect), "{text}");
        check("", VerifierKeyError::Shape);
        check("a+b", VerifierKeyError::Shape);
        check(&GO_EXAMPLE.replace("c74f20a3", "+74f20a3"), VerifierKeyError::Shape);
        check(
            &GO_EXAMPLE.replace("c74f20a3", "c74f20a4"),
            VerifierKeyError::WrongId { expected: 0xc74f_20a3, found: 0xc74f_20a4 },
        );
        check("Peter Neumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", VerifierKeyError::Name);
        check("a+c74f20a3+Aw==", VerifierKeyError::Unsupported);
        check("a+c74f20a3+AQAA", VerifierKeyError::Unsupported);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,80}", tail in "[a-z]{1,4}\\+[0-9a-f]{8}\\+[A-Za-z0-9+/=]{0,60}") {
            let _ = text.parse::<VerifierKey>();
            let _ = tail.parse::<VerifierKey>();
        }
    }
}
