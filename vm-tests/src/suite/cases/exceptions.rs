//! The excepted executable, started so that the exception does not apply, or only its name.

use super::InFallback::Recorded;
use super::{Case, denied, works};
use crate::act::tool;
use crate::suite::stage::{KEY, NOT_BY_TRUSTED, ONLY_BY_TRUSTED, TRUSTED};

pub(super) const CASES: &[Case] = &[
    denied("exception-with-preloaded-library", "keys", || read_with("LD_PRELOAD=/nonexistent")),
    denied("exception-with-configured-library", "keys", || read_with("OPENSSL_CONF=/nonexistent")),
    denied("exec-by-others-than-the-exception", "only-by-trusted", || tool(&[ONLY_BY_TRUSTED])),
    works("exec-by-the-exception", || tool(&[ONLY_BY_TRUSTED])).by(TRUSTED),
    denied("exec-by-whom-it-is-denied-to", "not-by-trusted", || tool(&[NOT_BY_TRUSTED])).by(TRUSTED),
    works("exec-by-others-than-whom-it-is-denied-to", || tool(&[NOT_BY_TRUSTED])),
    denied("exception-by-another-name-for-the-executable", "keys", forged).in_fallback(Recorded),
];

/// Has the excepted executable read the key with one more variable in its environment.
fn read_with(variable: &str) -> std::io::Result<()> {
    let command = format!("{variable} exec /usr/local/bin/trusted act read /home/dev/.ssh/id_ed25519");
    tool(&["/usr/bin/bash", "-c", &command])
}

/// Has the kernel name the excepted executable as that of another process, which then reads the key. The kernel does so
/// when nothing of the real one is mapped any more; that is the dynamic loader here, of which little has to be copied.
fn forged() -> std::io::Result<()> {
    const FORGERY: &str = "
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = libc.mremap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mremap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.memcpy.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
trusted = os.open(sys.argv[1], os.O_RDONLY)
loader = os.readlink('/proc/self/exe')
for line in open('/proc/self/maps').read().splitlines():
    if not line.endswith(loader):
        continue
    begin, end = (int(at, 16) for at in line.split()[0].split('-'))
    protection = sum(bit for bit, letter in ((1, 'r'), (2, 'w'), (4, 'x')) if letter in line.split()[1])
    copy = libc.mmap(None, end - begin, 3, 0x22, -1, 0)
    libc.memcpy(copy, begin, end - begin)
    libc.mprotect(copy, end - begin, protection)
    if libc.mremap(copy, end - begin, end - begin, 3, begin) != begin:
        sys.exit('mremap: errno %d' % ctypes.get_errno())
if libc.prctl(35, 13, trusted, 0, 0):
    sys.exit('prctl: %s' % os.strerror(ctypes.get_errno()))
if os.readlink('/proc/self/exe') != sys.argv[1]:
    sys.exit('it is still ' + os.readlink('/proc/self/exe'))
open(sys.argv[2]).read()
";
    let python = ["/lib64/ld-linux-x86-64.so.2", "/usr/bin/python3", "-I", "-S", "-c", FORGERY, TRUSTED, KEY];
    tool(&python)
}
