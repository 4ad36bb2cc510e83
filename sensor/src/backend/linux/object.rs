//! The kernel programs inside this binary.

/// This binary was built without kernel programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this build of treeline has no kernel programs in it; `cargo xtask build` makes one that has")]
pub(super) struct NoKernelPrograms;

/// Bytes at an address that an ELF header may have: the loader reads 64-bit fields in place.
#[repr(C, align(8))]
struct Aligned<B: ?Sized>(B);

#[cfg(treeline_bpf_object)]
static OBJECT: Option<&Aligned<[u8]>> = Some(&Aligned(*include_bytes!(env!("TREELINE_BPF_OBJECT_PATH"))));
#[cfg(not(treeline_bpf_object))]
static OBJECT: Option<&Aligned<[u8]>> = None;

/// The object file that this binary was built with, aligned to 8 bytes; none in a build without the BPF toolchain.
pub(super) fn embedded() -> Option<&'static [u8]> {
    OBJECT.map(|object| &object.0)
}

/// The same for those who cannot go on without it.
///
/// # Errors
/// `NoKernelPrograms` when `embedded` has none.
pub(super) fn required() -> Result<&'static [u8], NoKernelPrograms> {
    embedded().ok_or(NoKernelPrograms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_embedded_is_aligned_and_bpf() {
        // 247 is EM_BPF, in the ELF header's `e_machine` at offset 18.
        let Ok(object) = required() else {
            assert_eq!(embedded(), None);
            return;
        };
        assert_eq!(object.as_ptr().align_offset(8), 0);
        assert_eq!(object.get(..4), Some(&b"\x7fELF"[..]));
        assert_eq!(object.get(18..20), Some(&247_u16.to_le_bytes()[..]));
    }
}
