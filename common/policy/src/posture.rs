//! The state of a machine.

use serde::{Deserialize, Serialize};

/// Something that a machine has or has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trait {
    /// The disk with the developer's files is encrypted.
    DiskEncryption,
    /// What was booted is signed, and was verified.
    SecureBoot,
    /// Another product that protects the machine runs.
    EndpointProtection,
}

impl Trait {
    /// Each with the word for it.
    pub const WORDS: [(&'static str, Self); 3] = [
        ("disk_encryption", Self::DiskEncryption),
        ("secure_boot", Self::SecureBoot),
        ("endpoint_protection", Self::EndpointProtection),
    ];

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        Self::WORDS[self as usize].0
    }
}

/// What is known of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Posture {
    /// By the order of [`Trait::WORDS`]; what is not known is none.
    traits: [Option<bool>; Trait::WORDS.len()],
}

impl Posture {
    /// Whether the machine has it, if that is known.
    #[must_use]
    pub fn has(&self, one: Trait) -> Option<bool> {
        self.traits[one as usize]
    }

    /// Notes that it has it or has not.
    pub fn set(&mut self, one: Trait, has: bool) {
        self.traits[one as usize] = Some(has);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_unknown() {
        for (index, (word, one)) in Trait::WORDS.into_iter().enumerate() {
            assert_eq!((one as usize, one.name()), (index, word));
        }
        let mut posture = Posture::default();
        posture.set(Trait::SecureBoot, false);
        let known = Trait::WORDS.map(|(_, one)| posture.has(one));
        assert_eq!(known, [None, Some(false), None]);
    }
}
