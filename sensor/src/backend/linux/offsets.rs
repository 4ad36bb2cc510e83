//! Offsets of kernel structure members, by name, from the running kernel's BTF.

use btf_rs::{Btf, BtfType, Type};
use treeline_abi::Offsets;
use zerocopy::IntoBytes;

/// Where the kernel publishes its types (Linux 5.4, `CONFIG_DEBUG_INFO_BTF`).
pub(super) const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";

/// Why offsets could not be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum OffsetsError {
    /// There is no BTF, or it cannot be read.
    #[error(
        "cannot read the kernel's type information at {path}: the kernel must be built with \
         CONFIG_DEBUG_INFO_BTF=y (distribution kernels since 2020 are)"
    )]
    Read {
        /// Where it was looked for.
        path: String,
        /// The cause.
        #[source]
        source: btf_rs::Error,
    },
    /// Members that this version of Treeline needs are missing.
    #[error("this kernel's type information lacks {members}; please report its release (`uname -r`)")]
    Missing {
        /// `struct:member`, joined by commas.
        members: String,
    },
}

/// The running kernel's types.
pub(super) struct Kernel(Btf);

/// A function of the running kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Function {
    /// Its number among the kernel's types.
    pub(super) id: u32,
    /// How many parameters it takes.
    pub(super) parameters: usize,
}

impl Kernel {
    /// Reads them.
    ///
    /// # Errors
    /// [`OffsetsError::Read`].
    pub(super) fn read(path: &str) -> Result<Self, OffsetsError> {
        // Of a file, the parser reads a buffer anew for each of some hundred thousand types.
        let read = std::fs::read(path).map_err(btf_rs::Error::from);
        read.and_then(|bytes| Btf::from_bytes(&bytes))
            .map(Self)
            .map_err(|source| OffsetsError::Read { path: path.to_owned(), source })
    }

    /// Whether there is a function of this name.
    pub(super) fn has_function(&self, name: &str) -> bool {
        self.parameters(name).is_some()
    }

    /// How many parameters the function takes, when there is one.
    pub(super) fn parameters(&self, name: &str) -> Option<usize> {
        self.function(name).map(|function| function.parameters)
    }

    /// The function of this name.
    pub(super) fn function(&self, name: &str) -> Option<Function> {
        self.0.resolve_ids_by_name(name).ok()?.into_iter().find_map(|id| {
            let Type::Func(function) = self.0.resolve_type_by_id(id).ok()? else { return None };
            match self.0.resolve_chained_type(&function).ok()? {
                Type::FuncProto(prototype) => Some(Function { id, parameters: prototype.parameters.len() }),
                _ => None,
            }
        })
    }

    /// Resolves every member of [`Offsets`].
    ///
    /// # Errors
    /// [`OffsetsError::Missing`] names what is missing.
    pub(super) fn offsets(&self) -> Result<Offsets, OffsetsError> {
        resolve_in(&self.0)
    }
}

fn resolve_in(btf: &Btf) -> Result<Offsets, OffsetsError> {
    let mut values = Vec::with_capacity(Offsets::SOURCES.len());
    let mut missing = Vec::new();
    for (_, need, alternatives) in Offsets::SOURCES {
        let found = alternatives.split('|').find_map(|source| {
            let (structure, members) = source.split_once(':')?;
            offset_bits(btf, structure, members).filter(|bits| bits % 8 == 0).map(|bits| bits / 8)
        });
        match found {
            Some(offset) => values.push(offset),
            None if *need == "optional" => values.push(Offsets::ABSENT),
            None => {
                missing.push(*alternatives);
                values.push(Offsets::ABSENT);
            }
        }
    }
    if !missing.is_empty() {
        return Err(OffsetsError::Missing { members: missing.join(", ") });
    }
    let mut offsets = Offsets::UNSET;
    for (field, value) in offsets.as_mut_bytes().chunks_exact_mut(4).zip(values) {
        field.copy_from_slice(&value.to_ne_bytes());
    }
    Ok(offsets)
}

/// The offset of `a.b.c` within a structure, in bits.
fn offset_bits(btf: &Btf, structure: &str, members: &str) -> Option<u32> {
    let mut current = btf.resolve_types_by_name(structure).ok()?.into_iter().find(
        |found| matches!(found, Type::Struct(found) | Type::Union(found) if !found.members.is_empty()),
    )?;
    let mut bits = 0;
    for name in members.split('.') {
        let (Type::Struct(outer) | Type::Union(outer)) = &current else { return None };
        let (offset, inner) = member(btf, outer, name)?;
        bits += offset;
        current = inner;
    }
    Some(bits)
}

/// A member by name, looked for in anonymous structures and unions, too.
fn member(btf: &Btf, outer: &btf_rs::Struct, name: &str) -> Option<(u32, Type)> {
    for member_of in &outer.members {
        let member_name = btf.resolve_name(member_of).unwrap_or_default();
        if member_name == name {
            return Some((member_of.bit_offset(), plain(btf, member_of)?));
        }
        if member_name.is_empty()
            && let Some(Type::Struct(inner) | Type::Union(inner)) = plain(btf, member_of)
            && let Some((offset, found)) = member(btf, &inner, name)
        {
            return Some((member_of.bit_offset() + offset, found));
        }
    }
    None
}

/// The type behind a member, without typedefs and qualifiers.
fn plain<T: BtfType>(btf: &Btf, of: &T) -> Option<Type> {
    let mut current = btf.resolve_chained_type(of).ok()?;
    loop {
        current = match &current {
            Type::Typedef(next) => btf.resolve_chained_type(next).ok()?,
            Type::Const(next) => btf.resolve_chained_type(next).ok()?,
            Type::Volatile(next) => btf.resolve_chained_type(next).ok()?,
            Type::TypeTag(next) => btf.resolve_chained_type(next).ok()?,
            _ => return Some(current),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_btf_is_named() {
        let error = Kernel::read("/nonexistent/vmlinux").err().expect("there is no such file");
        assert!(error.to_string().contains("CONFIG_DEBUG_INFO_BTF"), "{error}");
    }

    #[test]
    fn the_running_kernel_has_every_required_member() {
        let kernel = Kernel::read(BTF_PATH).expect("the test machine's kernel has BTF");
        let offsets = kernel.offsets().expect("every required member is there");
        assert_eq!(kernel.parameters("bpf_lsm_file_open"), Some(1));
        assert!(!kernel.has_function("no_such_function"));
        assert!(offsets.task_tgid > 0 && offsets.task_tgid == offsets.task_pid + 4);
        assert_eq!(offsets.sock_family, 16);
    }
}
