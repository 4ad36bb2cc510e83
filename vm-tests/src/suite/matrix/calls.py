"""System calls that Python has no function for. The rest of the program of the matrix follows in the same file."""

import ctypes, fcntl, mmap, os, struct

LIBC = ctypes.CDLL(None, use_errno=True)
NEWNS, NEWUSER, BIND, REC, PRIVATE = 0x20000, 0x10000000, 4096, 16384, 1 << 18
# Of renameat2(2).
EXCHANGE = 2
# Of chattr(1): FS_NODUMP_FL, which keeps nobody from removing the file afterwards, and FS_CASEFOLD_FL.
NODUMP, CASEFOLD = 0x40, 0x40000000
# Of io_uring: the descriptor is a place in the ring's table (IOSQE_FIXED_FILE).
FIXED = 1


def called(result):
    """The result of a call of the C library; its errno as an exception."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def mount(source, at, kind=None, flags=0, data=None):
    called(LIBC.mount(source, at, kind, ctypes.c_ulong(flags), data))


def own_mounts(flags=NEWNS):
    uid, gid = os.getuid(), os.getgid()
    called(LIBC.unshare(flags))
    if flags & NEWUSER:
        for path, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            with open(f"/proc/self/{path}", "w") as file:
                file.write(text)
    mount(b"none", b"/", None, REC | PRIVATE)


def ended_with(program, words):
    """The status of a program that is executed in a process of its own."""
    child = os.fork()
    if child == 0:
        status = 255
        try:
            os.execve(program, words, {})
        except OSError as error:
            status = 128 + error.errno
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def renameat2(source, to, flags=0):
    called(LIBC.syscall(316, -100, source, -100, to, flags))


def flags_of(descriptor):
    """FS_IOC_GETFLAGS"""
    return struct.unpack("Q", fcntl.ioctl(descriptor, 0x80086601, bytes(8)))[0]


def add_flag(descriptor, flag):
    """FS_IOC_SETFLAGS"""
    fcntl.ioctl(descriptor, 0x40086602, struct.pack("Q", flags_of(descriptor) | flag))


def aio(command, descriptor, buffer):
    """io_submit(2) and its completion. Command 0 reads into the buffer, 1 writes what is in it."""
    context = ctypes.c_ulong()
    called(LIBC.syscall(206, 1, ctypes.byref(context)))
    fields = (0, 0, 0, command, 0, descriptor, ctypes.addressof(buffer), len(buffer), 0, 0, 0, 0)
    block = ctypes.create_string_buffer(struct.pack("<QIIHhIQQqQII", *fields))
    called(LIBC.syscall(209, context, 1, ctypes.byref(ctypes.c_void_p(ctypes.addressof(block)))))
    event = ctypes.create_string_buffer(32)
    called(LIBC.syscall(208, context, 1, 1, event, None))
    result = struct.unpack_from("<q", event, 16)[0]
    if result < 0:
        raise OSError(-result, os.strerror(-result))


class Ring:
    """io_uring by hand: one request, one completion."""

    def __init__(self, polled):
        parameters = bytearray(120)
        if polled:
            struct.pack_into("<II", parameters, 8, 2, 0)
            struct.pack_into("<I", parameters, 16, 1000)
        block = (ctypes.c_ubyte * 120).from_buffer(parameters)
        self.polled = polled
        self.fd = called(LIBC.syscall(425, 4, block))
        self.sq, self.cq = struct.unpack_from("<10I", parameters, 40), struct.unpack_from("<10I", parameters, 80)
        self.rings = mmap.mmap(self.fd, 4096, mmap.MAP_SHARED, offset=0)
        self.completions = mmap.mmap(self.fd, 4096, mmap.MAP_SHARED, offset=0x8000000)
        self.entries = mmap.mmap(self.fd, 4096, mmap.MAP_SHARED, offset=0x10000000)

    def register(self, descriptor=-1):
        """A table of registered files with one place, which is empty unless a descriptor is given."""
        called(LIBC.syscall(427, self.fd, 2, struct.pack("<i", descriptor), 1))

    def run(self, opcode, fd, offset, address, length, flags, kind=0, place=0, third=0):
        """One request: the result, or its errno as an exception."""
        self.entries[0:64] = struct.pack(
            "<BBHiQQIIQHHiQQ", opcode, kind, 0, fd, offset, address, length, flags, 7, 0, 0, place, third, 0
        )
        head, tail, array_at = self.sq[0], self.sq[1], self.sq[6]
        mask = struct.unpack_from("<I", self.rings, self.sq[2])[0]
        now = struct.unpack_from("<I", self.rings, tail)[0]
        struct.pack_into("<I", self.rings, array_at + 4 * (now & mask), 0)
        seen = struct.unpack_from("<I", self.completions, self.cq[0])[0]
        struct.pack_into("<I", self.rings, tail, now + 1)
        # Enter, wait for one completion; with a polling thread in the kernel, wake it up.
        called(LIBC.syscall(426, self.fd, 0 if self.polled else 1, 1, 1 | (2 if self.polled else 0), None, 0))
        ring_mask = struct.unpack_from("<I", self.completions, self.cq[2])[0]
        _, result, _ = struct.unpack_from("<QiI", self.completions, self.cq[5] + 16 * (seen & ring_mask))
        struct.pack_into("<I", self.completions, self.cq[0], seen + 1)
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        return result

    def keep(self, content):
        """The address of something that a request refers to."""
        self.kept = getattr(self, "kept", []) + [ctypes.create_string_buffer(content)]
        return ctypes.addressof(self.kept[-1])


