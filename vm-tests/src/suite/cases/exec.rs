//! Running what must not run.

use super::InFallback::Unseen;
use super::{Case, denied, works};
use crate::act::tool;
use crate::suite::stage::FORBIDDEN;

pub(super) const CASES: &[Case] = &[
    denied("exec-directly", "program", || tool(&[FORBIDDEN])),
    denied("exec-through-symlink", "program", || tool(&["/home/dev/work/innocent"])),
    denied("exec-by-shell", "program", || tool(&["/usr/bin/bash", "-c", "/usr/local/bin/forbidden"])),
    denied("exec-through-proc-self-root", "program", || tool(&["/proc/self/root/usr/local/bin/forbidden"])),
    denied("exec-by-the-dynamic-loader", "program", || tool(&["/lib64/ld-linux-x86-64.so.2", FORBIDDEN]))
        .in_fallback(Unseen),
    denied("exec-by-mapping", "program", || map("mmap(None, 4096, 5, 2, fd, 0)")).in_fallback(Unseen),
    denied("exec-by-mapping-made-executable", "program", || {
        map("mprotect(libc.mmap(None, 4096, 1, 2, fd, 0), 4096, 5)")
    })
    .in_fallback(Unseen),
    works("map-without-execution", || map("mmap(None, 4096, 1, 2, fd, 0)")),
];

/// Maps the forbidden program by a call of the C library.
fn map(call: &str) -> std::io::Result<()> {
    let program = format!(
        "
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
fd = os.open(sys.argv[1], os.O_RDONLY)
if libc.{call} in (-1, 2**64 - 1):
    sys.exit(os.strerror(ctypes.get_errno()))
"
    );
    tool(&["/usr/bin/python3", "-I", "-S", "-c", &program, FORBIDDEN])
}
