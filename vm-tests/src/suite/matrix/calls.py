"""System calls that Python has no function for. The program of the matrix follows in the same file."""

import ctypes, mmap, os, struct

LIBC = ctypes.CDLL(None, use_errno=True)


def called(result):
    """The result of a call of the C library; its errno as an exception."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


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

    def reserve(self):
        """A table of registered files with one place, which is empty."""
        called(LIBC.syscall(427, self.fd, 2, struct.pack("<i", -1), 1))

    def run(self, opcode, fd, offset, address, length, flags, kind=0, place=0):
        """One request: the result, or its errno as an exception."""
        self.entries[0:64] = struct.pack(
            "<BBHiQQIIQHHiQQ", opcode, kind, 0, fd, offset, address, length, flags, 7, 0, 0, place, 0, 0
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

    def path(self, text):
        self.kept = getattr(self, "kept", []) + [ctypes.create_string_buffer(text)]
        return ctypes.addressof(self.kept[-1])


