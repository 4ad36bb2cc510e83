//! The object's programs as the kernel takes them, for those that aya cannot load: calls linked, references to maps
//! replaced by the descriptors of the maps that aya has made.

use std::{
    collections::{HashMap, HashSet},
    ffi::CString,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use aya::{Ebpf, maps::Map};
use aya_obj::{Function, Object};

use super::{bpf, load};

/// The object, relocated.
pub(super) struct Relocated {
    object: Object,
    types: OwnedFd,
}

/// Which program, and as what it is loaded.
pub(super) struct As<'a> {
    /// Name in the object.
    pub(super) program: &'a str,
    /// `BPF_PROG_TYPE_...`
    pub(super) kind: u32,
    /// `enum bpf_attach_type`.
    pub(super) attach_kind: u32,
    /// The kernel's type id of the function that it is attached to.
    pub(super) target: u32,
}

impl Relocated {
    /// Relocates the object for the maps of `ebpf`, which was loaded from it with the same `globals`.
    ///
    /// # Errors
    /// The words of aya, or of the kernel about the object's types.
    pub(super) fn of(object: &[u8], globals: &[(&str, &[u8])], ebpf: &Ebpf) -> Result<Self, String> {
        let mut object = Object::parse(object).map_err(|error| load::chain(&error))?;
        // Which references are to a map's value depends on whether the map has content.
        let globals: HashMap<_, _> = globals.iter().map(|(name, bytes)| (*name, (*bytes, true))).collect();
        object.patch_map_data(globals).map_err(|error| load::chain(&error))?;
        let types = load_types(&mut object)?;
        let maps = std::mem::take(&mut object.maps);
        let descriptors: HashMap<_, _> =
            ebpf.maps().map(|(name, map)| (name, descriptor(map).as_raw_fd())).collect();
        let text: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
        let known = maps
            .iter()
            .filter_map(|(name, map)| Some((name.as_str(), *descriptors.get(name.as_str())?, map)));
        object.relocate_maps(known, &text).map_err(|error| load::chain(&error))?;
        object.relocate_calls(&text).map_err(|error| load::chain(&error))?;
        object.sanitize_functions(aya::features());
        Ok(Self { object, types })
    }

    /// Loads one program.
    ///
    /// # Errors
    /// The kernel's words, and the end of the verifier's log.
    pub(super) fn load(&self, wanted: &As<'_>) -> Result<OwnedFd, String> {
        let (license, function) = self
            .program(wanted.program)
            .ok_or_else(|| format!("the object has no program `{}`", wanted.program))?;
        bpf::load(&bpf::Program {
            name: wanted.program,
            kind: wanted.kind,
            attach_kind: wanted.attach_kind,
            target: wanted.target,
            instructions: &function.instructions,
            license,
            types: self.types.as_fd(),
            functions: bpf::Records {
                bytes: function.func_info.func_info_bytes(),
                record_len: function.func_info_rec_size as u32,
                count: function.func_info.len() as u32,
            },
            lines: bpf::Records {
                bytes: function.line_info.line_info_bytes(),
                record_len: function.line_info_rec_size as u32,
                count: function.line_info.len() as u32,
            },
        })
        .map_err(|refused| load::with_log(&refused.error, &refused.log))
    }

    fn program(&self, name: &str) -> Option<(&CString, &Function)> {
        let program = self.object.programs.get(name)?;
        Some((&program.license, self.object.functions.get(&program.function_key())?))
    }
}

/// The verifier follows a callback only when it knows the type of its function, so the types are not optional.
fn load_types(object: &mut Object) -> Result<OwnedFd, String> {
    let features = aya::features().btf().ok_or("this kernel takes no types of programs (BTF)")?;
    let types = object
        .fixup_and_sanitize_btf(features)
        .map_err(|error| load::chain(&error))?
        .ok_or("the object has no types (BTF)")?;
    bpf::load_types(&types.to_bytes()).map_err(|error| format!("the object's types are refused: {error}"))
}

fn descriptor(map: &Map) -> BorrowedFd<'_> {
    let (Map::Array(data)
    | Map::ArrayOfMaps(data)
    | Map::BloomFilter(data)
    | Map::CgroupArray(data)
    | Map::CgroupStorage(data)
    | Map::CgrpStorage(data)
    | Map::CpuMap(data)
    | Map::DevMap(data)
    | Map::DevMapHash(data)
    | Map::HashMap(data)
    | Map::HashOfMaps(data)
    | Map::InodeStorage(data)
    | Map::LpmTrie(data)
    | Map::LruHashMap(data)
    | Map::PerCpuArray(data)
    | Map::PerCpuCgroupStorage(data)
    | Map::PerCpuHashMap(data)
    | Map::PerCpuLruHashMap(data)
    | Map::PerfEventArray(data)
    | Map::ProgramArray(data)
    | Map::Queue(data)
    | Map::ReusePortSockArray(data)
    | Map::RingBuf(data)
    | Map::SkStorage(data)
    | Map::SockHash(data)
    | Map::SockMap(data)
    | Map::Stack(data)
    | Map::StackTraceMap(data)
    | Map::Unsupported(data)
    | Map::XskMap(data)) = map;
    data.fd().as_fd()
}
