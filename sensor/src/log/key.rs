//! The key that signs checkpoints. Today: an Ed25519 key in a file, labelled `software`.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_ASN1, ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use ring::{digest, hmac};
use thiserror::Error;
use treeline_tlog::{
    Algorithm, SignError, Signer, Verifier, VerifierKey, VerifierKeyError, note::valid_key_name,
};

/// The private key, PKCS#8, below the log directory.
const PRIVATE_KEY: &str = "key/ed25519.p8";

/// The public key as one line, below the log directory.
pub const PUBLIC_KEY: &str = "vkey";

/// The longest key file: a PKCS#8 Ed25519 key has 83 bytes.
const KEY_LEN_MAX: u64 = 4096;

/// What a log signs with.
pub trait LogKey: Signer + Verifier + Send {}

impl<K: Signer + Verifier + Send> LogKey for K {}

/// Why there is no key to sign with.
#[derive(Debug, Error)]
pub enum KeyError {
    /// A file could not be read or made.
    #[error("cannot {what} `{}`", path.display())]
    Io {
        /// What was attempted.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the file system says.
        #[source]
        source: io::Error,
    },
    /// Others may read or replace the private key.
    #[error(
        "the private key `{}` has mode {mode:04o}, so others may have read it; it has to be 0600: `chmod 600 {}`, or make a new one (for a log: begin a new log) if that machine has other users",
        path.display(), path.display()
    )]
    LooseMode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The private key is somebody else's.
    #[error("the private key `{}` belongs to user {owner}, not to {expected}: `chown {expected} {}`", path.display(), path.display())]
    WrongOwner {
        /// The file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Who is running.
        expected: u32,
    },
    /// The file is not a key.
    #[error("`{}` is not an Ed25519 key in PKCS#8 ({reason}); put the key back, or, if it is a log's, move the log directory away to begin a new log", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The library's word for it.
        reason: String,
    },
    /// The public key file is not one.
    #[error("`{}` is not a public key", path.display())]
    PublicKey {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: VerifierKeyError,
    },
    /// The two files are not a pair.
    #[error("`{}` is not the public key of the private key; put the right one back, or remove it, if it is a log's, to have it written again", path.display())]
    NotAPair {
        /// The file with the public key.
        path: PathBuf,
    },
    /// The name may not stand in a note.
    #[error("a key's name is of ASCII, has no space and no `+` in it, and is not empty, unlike `{}`", name.escape_default())]
    Name {
        /// The name.
        name: String,
    },
    /// The system has no random bytes.
    #[error("the system gave no random bytes for a new key")]
    Random,
}

/// An Ed25519 key in a file: anybody who can read the file can sign. The label says so.
pub struct SoftwareKey {
    pair: Ed25519KeyPair,
    public: VerifierKey,
}

impl std::fmt::Debug for SoftwareKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SoftwareKey({})", self.public)
    }
}

impl SoftwareKey {
    /// How far the key can be trusted to be on this machine only.
    pub const ASSURANCE: &'static str = "software";

    /// The key of a log directory; a new one at the first start.
    ///
    /// # Errors
    /// [`KeyError`]. An existing key is never replaced.
    pub fn load_or_generate(log_dir: &Path) -> Result<Self, KeyError> {
        let path = log_dir.join(PRIVATE_KEY);
        let pair = match fs::symlink_metadata(&path) {
            Ok(_) => load(&path)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => generate(&path)?,
            Err(source) => return Err(KeyError::Io { what: "read", path, source }),
        };
        let public_path = log_dir.join(PUBLIC_KEY);
        let public = match fs::read_to_string(&public_path) {
            Ok(text) => {
                text.parse().map_err(|source| KeyError::PublicKey { path: public_path.clone(), source })?
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let public = VerifierKey::new(&origin()?, Algorithm::Ed25519, pair.public_key().as_ref())
                    .expect("our names and ring's keys are well-formed");
                write_public(&public_path, &public).map_err(|source| KeyError::Io {
                    what: "write",
                    path: public_path.clone(),
                    source,
                })?;
                public
            }
            Err(source) => return Err(KeyError::Io { what: "read", path: public_path, source }),
        };
        if public.public_key() != pair.public_key().as_ref() {
            return Err(KeyError::NotAPair { path: public_path });
        }
        Ok(Self { pair, public })
    }

    /// Makes a key of this name: the private one at `path`, which nothing may have yet, and the public one beside it.
    ///
    /// # Errors
    /// [`KeyError::Io`], [`KeyError::Random`], [`KeyError::Name`].
    pub fn create(path: &Path, name: &str) -> Result<Self, KeyError> {
        // People compare names by sight.
        if !valid_key_name(name) || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(KeyError::Name { name: name.to_owned() });
        }
        let path = &std::path::absolute(path).map_err(|source| KeyError::Io {
            what: "write",
            path: path.to_owned(),
            source,
        })?;
        let public_path = public_beside(path);
        let taken = |source| KeyError::Io { what: "write", path: public_path.clone(), source };
        if fs::symlink_metadata(&public_path).is_ok() {
            return Err(taken(io::ErrorKind::AlreadyExists.into()));
        }
        let pair = generate(path)?;
        let public = VerifierKey::new(name, Algorithm::Ed25519, pair.public_key().as_ref())
            .expect("the name was looked at, and ring's keys are well-formed");
        write_public(&public_path, &public).map_err(|error| {
            // It is of no use without the other one.
            let _ = fs::remove_file(path);
            taken(error)
        })?;
        Ok(Self { pair, public })
    }

    /// Reads a key that [`Self::create`] made.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let pair = load(path)?;
        let public_path = public_beside(path);
        let failed = |source| KeyError::Io { what: "read", path: public_path.clone(), source };
        let public: VerifierKey = fs::read_to_string(&public_path)
            .map_err(failed)?
            .parse()
            .map_err(|source| KeyError::PublicKey { path: public_path.clone(), source })?;
        if public.public_key() != pair.public_key().as_ref() {
            return Err(KeyError::NotAPair { path: public_path });
        }
        Ok(Self { pair, public })
    }

    /// A key that lives in memory only, for tests and measurements.
    ///
    /// # Errors
    /// [`KeyError::Random`].
    ///
    /// # Panics
    /// If the name may not stand in a note.
    pub fn ephemeral(name: &str) -> Result<Self, KeyError> {
        let mut seed = [0; 32];
        SystemRandom::new().fill(&mut seed).map_err(|_| KeyError::Random)?;
        Ok(Self::from_seed(name, &seed))
    }

    /// The key of a seed; the same seed gives the same key.
    pub(super) fn from_seed(name: &str, seed: &[u8; 32]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).expect("a seed has 32 bytes");
        let public =
            VerifierKey::new(name, Algorithm::Ed25519, pair.public_key().as_ref()).expect("a good name");
        Self { pair, public }
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> &VerifierKey {
        &self.public
    }
}

impl Signer for SoftwareKey {
    fn name(&self) -> &str {
        self.public.name()
    }

    fn id(&self) -> u32 {
        self.public.id()
    }

    fn sign(&self, text: &[u8]) -> Result<Vec<u8>, SignError> {
        Ok(self.pair.sign(text).as_ref().to_vec())
    }
}

impl Verifier for SoftwareKey {
    fn name(&self) -> &str {
        self.public.name()
    }

    fn id(&self) -> u32 {
        self.public.id()
    }

    fn verifies(&self, text: &[u8], signature: &[u8]) -> bool {
        PublicKey(self.public.clone()).verifies(text, signature)
    }
}

/// A public key that judges signatures.
#[derive(Clone, Debug)]
pub struct PublicKey(pub VerifierKey);

impl Verifier for PublicKey {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn id(&self) -> u32 {
        self.0.id()
    }

    fn verifies(&self, text: &[u8], signature: &[u8]) -> bool {
        let key = self.0.public_key();
        match self.0.algorithm() {
            Algorithm::Ed25519 => UnparsedPublicKey::new(&ED25519, key).verify(text, signature).is_ok(),
            Algorithm::EcdsaP256 => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key).verify(text, signature).is_ok()
            }
        }
    }
}

/// Where the public key of a private one is.
fn public_beside(path: &Path) -> PathBuf {
    path.with_added_extension("pub")
}

fn load(path: &Path) -> Result<Ed25519KeyPair, KeyError> {
    let failed = |source| KeyError::Io { what: "read", path: path.to_owned(), source };
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
        .map_err(failed)?;
    // The opened file is judged, not whatever has the name by then.
    let metadata = file.metadata().map_err(failed)?;
    let expected = rustix::process::geteuid().as_raw();
    if metadata.uid() != expected {
        return Err(KeyError::WrongOwner { path: path.to_owned(), owner: metadata.uid(), expected });
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(KeyError::LooseMode { path: path.to_owned(), mode: metadata.mode() & 0o7777 });
    }
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, KEY_LEN_MAX), &mut bytes).map_err(failed)?;
    Ed25519KeyPair::from_pkcs8(&bytes)
        .map_err(|e| KeyError::Unreadable { path: path.to_owned(), reason: e.to_string() })
}

fn generate(path: &Path) -> Result<Ed25519KeyPair, KeyError> {
    let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| KeyError::Random)?;
    let dir = path.parent().expect("the key has a directory of its own");
    let write = || {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        // A key that was not written whole must not stay: the name comes last, and never over an existing key.
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.write_all(document.as_ref())?;
        file.as_file().sync_all()?;
        file.persist_noclobber(path)?;
        fs::File::open(dir)?.sync_all()
    };
    write().map_err(|source| KeyError::Io { what: "write the new key", path: path.to_owned(), source })?;
    load(path)
}

fn write_public(path: &Path, key: &VerifierKey) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?;
    writeln!(file, "{key}")?;
    file.sync_all()
}

/// The log's name: not the machine's id, which is confidential, but a UUID derived from it for this purpose.
fn origin() -> Result<String, KeyError> {
    /// Chosen at random once; another purpose has another one.
    const PURPOSE: &[u8; 16] = b"\x5e\x1c\x8a\x3d\x90\x77\x4b\xf2\xa6\x0d\x41\xce\x2b\x98\xe3\x64";
    let mut bytes = [0_u8; 16];
    match fs::read_to_string("/etc/machine-id") {
        Ok(id) if id.trim().len() == 32 => {
            let key = hmac::Key::new(hmac::HMAC_SHA256, id.trim().as_bytes());
            bytes.copy_from_slice(&hmac::sign(&key, PURPOSE).as_ref()[..16]);
        }
        // Containers have none. The name is kept beside the key, so it stays what it is.
        _ => SystemRandom::new().fill(&mut bytes).map_err(|_| KeyError::Random)?,
    }
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex::encode(bytes);
    let uuid = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
    // The epoch counts the keys of a log: a new key or an enrolment begins the next.
    Ok(format!("treeline.local/log/{uuid}/1"))
}

/// A short text that tells a key from others when people compare: the first bytes of its SHA-256.
#[must_use]
pub fn fingerprint(key: &VerifierKey) -> String {
    hex::encode(&digest::digest(&digest::SHA256, key.public_key()).as_ref()[..16])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_key_is_made_once_and_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let key = SoftwareKey::load_or_generate(dir.path()).expect("a new key");
        let again = SoftwareKey::load_or_generate(dir.path()).expect("the same key");
        assert_eq!(key.public(), again.public());
        assert!(key.public().name().starts_with("treeline.local/log/"));
        let path = dir.path().join(PRIVATE_KEY);
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o7777, 0o600);
        assert_eq!(fs::metadata(path.parent().expect("one")).expect("there").mode() & 0o7777, 0o700);
        assert!(again.verifies(b"text", &key.sign(b"text").expect("signs")));
        assert!(!again.verifies(b"texT", &key.sign(b"text").expect("signs")));
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_with_the_command_that_mends_it() {
        let dir = tempfile::tempdir().expect("a directory");
        SoftwareKey::load_or_generate(dir.path()).expect("a new key");
        let path = dir.path().join(PRIVATE_KEY);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("ours");
        let error = SoftwareKey::load_or_generate(dir.path()).expect_err("loose").to_string();
        assert!(
            error.contains("0640") && error.contains(&format!("chmod 600 {}", path.display())),
            "{error}"
        );
    }

    #[test]
    fn keys_that_do_not_fit_are_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        SoftwareKey::load_or_generate(dir.path()).expect("a new key");
        let other = SoftwareKey::ephemeral("a.example/log").expect("a key");
        fs::write(dir.path().join(PUBLIC_KEY), format!("{}\n", other.public())).expect("ours");
        assert!(matches!(SoftwareKey::load_or_generate(dir.path()), Err(KeyError::NotAPair { .. })));
        fs::write(dir.path().join(PUBLIC_KEY), "nonsense").expect("ours");
        assert!(matches!(SoftwareKey::load_or_generate(dir.path()), Err(KeyError::PublicKey { .. })));
        fs::write(dir.path().join(PRIVATE_KEY), "nonsense").expect("ours");
        assert!(matches!(SoftwareKey::load_or_generate(dir.path()), Err(KeyError::Unreadable { .. })));
    }
}
