//! The hash of one path component, computed the same way in the kernel and by the policy compiler.

/// Longest name of a path component (`NAME_MAX`, Linux), in bytes.
pub const NAME_LEN_MAX: usize = 255;

/// Odd multiplier of the mixing step (from the golden ratio, as in `hash_64` of the kernel).
const MULTIPLIER: u64 = 0x61c8_8646_80b5_83eb;

/// One mixing step over eight bytes of the name (little-endian, the last one zero-padded).
#[inline(always)]
#[must_use]
pub const fn mix(hash: u64, word: u64) -> u64 {
    let mixed = (hash ^ word).wrapping_mul(MULTIPLIER);
    mixed ^ (mixed >> 29)
}

/// Hash of a path component with the seed of this boot of the sensor.
///
/// The seed is secret to the agent and the kernel, so that names that collide cannot be built on purpose. A
/// collision can only make a rule match more (equal names always hash equal), never less.
#[must_use]
pub fn hash(seed: u64, name: &[u8]) -> u64 {
    let mut state = mix(seed, name.len() as u64);
    for chunk in name.chunks(8) {
        let mut word = [0u8; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        state = mix(state, u64::from_le_bytes(word));
    }
    mix(state, 0)
}
